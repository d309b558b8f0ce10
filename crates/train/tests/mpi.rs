//! Ranks that are processes: the same bits for every number of ranks, and no job that hangs on a lost rank. Needs `mpirun`.

#![cfg(feature = "mpi")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const LEN: usize = 1_000_003;

/// The example `ranks`, which is built with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|folder| folder.parent()).unwrap().join("examples/ranks")
}

fn job(ranks: usize, arguments: &[&str]) -> Output {
    Command::new("mpirun")
        .args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()])
        .arg(program())
        .args(arguments)
        .output()
        .expect("mpirun; Debian's package openmpi-bin has it")
}

/// Hash and bytes sent of each rank.
fn results(ranks: usize, arguments: &[&str]) -> Vec<(String, u64)> {
    let output = job(ranks, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    lines.sort();
    assert_eq!(lines.len(), ranks);
    lines.iter().map(|line| (line[1].to_owned(), line[2].parse().unwrap())).collect()
}

fn sums(ranks: usize) -> Vec<(String, u64)> {
    results(ranks, &["sum", &LEN.to_string(), "8"])
}

#[test]
fn training_on_one_two_and_four_processes_ends_with_the_same_bytes() {
    let folders = [1, 2, 4].map(|ranks| (ranks, tempfile::tempdir().unwrap()));
    let ends = folders.map(|(ranks, folder)| {
        let path = folder.path().to_str().unwrap().to_owned();
        // Stopped after 5 steps, and gone on with half as many ranks.
        results(ranks, &["train", &path, "5"]);
        let ends = results(ranks.div_ceil(2), &["train", &path, "99"]);
        ends[0].0.clone()
    });
    let folder = tempfile::tempdir().unwrap();
    let straight = results(1, &["train", folder.path().to_str().unwrap(), "99"]);
    for end in ends {
        assert_eq!(end, straight[0].0);
    }
}

#[test]
fn one_two_four_and_eight_ranks_have_the_same_bits_and_send_the_least() {
    let alone = sums(1);
    assert_eq!(alone[0].1, 0);
    for ranks in [2, 4, 8] {
        let together = sums(ranks);
        for (hash, _) in &together {
            assert_eq!(*hash, alone[0].0, "{ranks} ranks");
        }
        let sent: u64 = together.iter().map(|(_, sent)| sent).sum();
        assert_eq!(sent, 4 * 2 * (ranks as u64 - 1) * LEN as u64, "{ranks} ranks");
    }
}

#[test]
fn a_lost_rank_ends_the_job_with_a_reason() {
    for (end, reason) in [
        ("panic", "as the test wants it"),
        ("vanish", "finalize"),
        ("silent", "for a message of rank 1"),
        ("stopped", "no sign of life from rank 1"),
        ("error", "as the test wants it"),
    ] {
        let begun = Instant::now();
        let output = job(2, &["sum", &LEN.to_string(), "8", end]);
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{end}: {said}");
        assert!(said.contains(reason), "{end}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{end} took {:?}", begun.elapsed());
    }
}

/// Signs of life come although the rank sends nothing for longer than a process may give none.
#[test]
fn a_slow_rank_is_waited_for() {
    let output = job(2, &["sum", &LEN.to_string(), "8", "slow"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
