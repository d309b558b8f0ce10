//! A training run goes behind other programs, and what it does to its terminal session ends with it, however it ends.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shards::make_shards;

/// The niceness of the session of the process `id`; none on systems that do not share time between sessions.
fn session_niceness(id: u32) -> Option<i32> {
    let state = std::fs::read_to_string(format!("/proc/{id}/autogroup")).ok()?;
    state.trim().rsplit_once(" nice ")?.1.parse().ok()
}

fn wait_for_niceness(id: u32, wanted: i32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while session_niceness(id) != Some(wanted) {
        assert!(Instant::now() < deadline, "the niceness is {:?}, not {wanted}", session_niceness(id));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A session of its own, as a terminal's: a shell that starts a run in the background, says its number and stays.
fn session_with_run(data: &Path, out: &Path) -> (Child, i32) {
    let script = r#""$0" pretrain --data "$1" --out "$2" --depth 1 --plain --set schedule.steps=1000000 > "$2.log" 2>&1 & echo $!; sleep 300"#;
    let mut session = Command::new("setsid")
        .args(["sh", "-c", script, env!("CARGO_BIN_EXE_zhenjin")])
        .args([data, out])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux is there");
    let mut line = String::new();
    BufReader::new(session.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    (session, line.trim().parse().expect("a number"))
}

fn send(process: i32, signal: i32) {
    // SAFETY: takes two numbers.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0, "signal {signal} to {process}");
}

#[test]
fn a_killed_run_leaves_its_session_at_the_niceness_of_before() {
    // Systems that do not share time between sessions have nothing to put back.
    if session_niceness(std::process::id()).is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = make_shards(&folder.path().join("data"), 400);
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let (mut session, run) = session_with_run(&data, &folder.path().join(format!("run-{signal}")));
        wait_for_niceness(session.id(), 10);
        send(run, signal);
        wait_for_niceness(session.id(), 0);
        send(-(session.id() as i32), libc::SIGKILL);
        session.wait().expect("it ends");
    }
}
