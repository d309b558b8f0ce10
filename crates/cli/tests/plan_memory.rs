//! The memory that `zhenjin pretrain` plans for a run is the memory that the run takes.

#![cfg(target_os = "linux")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shards::make_shards;

/// Three steps of a run with some settings: what it planned and the most that was resident, in bytes.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
fn planned_and_taken(data: &Path, settings: &[&str]) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.arg("pretrain").arg("--data").arg(data).arg("--out").arg(folder.path().join("run"));
    command.args(["--depth", "2", "--threads", "2", "--plain"]);
    let few_steps = ["schedule.steps=3", "data.validation_share=0.1", "intervals.samples=3"];
    few_steps.iter().chain(settings).for_each(|setting| {
        command.args(["--set", setting]);
    });
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
    let mut status = 0;
    // SAFETY: every field is a number, for which 0 is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the child has not been waited for, and both places are ours.
    let ended = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert_eq!((ended, status), (child.id() as i32, 0), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("memory ")).expect("a line of the plan");
    let mut words = line.split_whitespace();
    let number: f64 = words.next().and_then(|word| word.parse().ok()).expect("a number");
    let unit = match words.next() {
        Some("MiB") => 1024.0 * 1024.0,
        Some("GiB") => 1024.0 * 1024.0 * 1024.0,
        unit => panic!("{unit:?} in {line}"),
    };
    (number * unit, usage.ru_maxrss as f64 * 1024.0)
}

#[test]
fn a_run_takes_the_memory_that_was_planned() {
    let data = tempfile::tempdir().expect("a folder");
    make_shards(data.path(), 4000);
    let whole_batch = ["model.vocabulary_size=8192", "batch.micro_batches=1", "batch.sequences=32"];
    let shapes: [&[&str]; 4] = [
        &["data.sequence_length=256", "optimiser.kind=adamw"],
        &["data.sequence_length=128", "batch.micro_batches=4"],
        &[
            "data.sequence_length=256",
            "model.experts=8",
            "model.active_experts=2",
            "model.expert_intermediate_size=128",
        ],
        &["data.sequence_length=1024", "batch.sequences=8", "optimiser.average_decay=0.99"],
    ];
    for shape in shapes {
        let settings: Vec<&str> = whole_batch.iter().chain(shape).copied().collect();
        let (planned, taken) = planned_and_taken(data.path(), &settings);
        let ratio = planned / taken;
        assert!((0.9..=1.1).contains(&ratio), "{shape:?}: {planned} planned, {taken} taken: {ratio}");
    }
}
