//! A run that the system ends in the middle of a save goes on from the checkpoint before it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::align::{Place, run, succeed};
use zhenjin_train::checkpoint::{Checkpoint, Checkpoints};

/// A policy and a critic, each with a checkpoint of every step.
const RUN: [&str; 18] = [
    "--steps",
    "4",
    "--max-tokens",
    "4",
    "--answers",
    "2",
    "--reward",
    "number",
    "--set",
    "intervals.checkpoint=1",
    "--set",
    "intervals.keep=9",
    "--set",
    "intervals.held_out=0",
    "--set",
    "intervals.samples=0",
    "--set",
    "time=1700000000",
];

fn newest(out: &Path) -> Checkpoint {
    let found = Checkpoints::new(&out.join("checkpoints"), 9).find().expect("a folder");
    assert!(found.passed_over.is_empty(), "{:?}", found.passed_over);
    found.newest.expect("a whole checkpoint")
}

fn checkpoint(out: &Path, step: u64) -> PathBuf {
    out.join("checkpoints").join(format!("step-{step:08}"))
}

/// The command in a process that the kernel ends in the write that reaches so many blocks of 512 bytes of any file (SIGXFSZ).
fn within(blocks: u64, command: &Command) -> Command {
    let mut outer = Command::new("sh");
    outer.args(["-c", "ulimit -c 0; ulimit -f $1; shift; exec \"$@\"", "sh", &blocks.to_string()]);
    outer.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

#[test]
fn ended_in_the_middle_of_a_save_a_run_with_a_critic_goes_on_from_the_checkpoint_before_it() {
    let place = Place::new();
    succeed(place.train("ppo", "problems.jsonl", "whole", &RUN));
    let whole = place.path("whole");
    let size = |name: &str| std::fs::metadata(checkpoint(&whole, 3).join(name)).expect("a file").len();
    // The first file that is written, and the only one that is longer.
    let policy = size("optimiser.safetensors");
    let behind_policy = policy.div_ceil(512);
    assert!(size("critic-optimiser.safetensors") > behind_policy * 512);
    for blocks in [policy / 512 / 8, policy / 512 / 2, policy / 512 - 1, behind_policy] {
        let name = format!("ended-{blocks}");
        let out = place.path(&name);
        let (from, to) = (checkpoint(&whole, 2), checkpoint(&out, 2));
        std::fs::create_dir_all(&to).expect("a folder");
        for file in std::fs::read_dir(from).expect("a folder").flatten() {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
        let again =
            || place.train("ppo", "problems.jsonl", &name, &[&RUN[..], &["--resume", "auto"]].concat());
        let (code, text) = run(within(blocks, &again()));
        assert_eq!(code, None, "ended by a signal, {blocks} blocks: {text}");
        let unfinished = out.join("checkpoints/.step-00000003.unfinished");
        assert!(unfinished.is_dir(), "{blocks} blocks: {text}");
        let has_policy = unfinished.join("adapter_model.safetensors").is_file();
        assert_eq!(has_policy, blocks == behind_policy, "{blocks} blocks");
        assert_eq!(newest(&out).state.step, 2, "{blocks} blocks");
        let text = succeed(again());
        assert!(text.contains("going on from"), "{text}");
        assert_eq!(newest(&out).state, newest(&whole).state, "{blocks} blocks");
    }
}
