//! The memory that `zhenjin pretrain` and the methods of alignment plan for a run is the memory that the run takes.

#![cfg(target_os = "linux")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::align::Place;
use crate::shards::make_shards;
use crate::tiny_model;
use serde_json::json;
use zhenjin_model::ModelConfig;
use zhenjin_model::config::RopeConfig;
use zhenjin_model::testing::tiny_config;
use zhenjin_model::write::FloatType;

/// Three steps of a run with some settings: what it planned and the most that was resident, in bytes.
fn planned_and_taken(data: &Path, settings: &[&str]) -> (f64, f64) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.arg("pretrain").arg("--data").arg(data).arg("--out").arg(folder.path().join("run"));
    command.args(["--depth", "2", "--threads", "2", "--plain"]);
    let few_steps = ["schedule.steps=3", "data.validation_share=0.1", "intervals.samples=3"];
    few_steps.iter().chain(settings).for_each(|setting| {
        command.args(["--set", setting]);
    });
    of_command(command)
}

/// What a run planned and the most that was resident, in bytes.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
fn of_command(mut command: Command) -> (f64, f64) {
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

/// Plans of alignment counted documents that share their beginning as if they did not, and foresaw up to 70 % more than was taken.
#[test]
fn a_run_of_alignment_takes_the_memory_that_was_planned() {
    let place = Place::new();
    let shape = ModelConfig {
        layers: 8,
        hidden_size: 256,
        intermediate_size: 704,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        context_length: 1024,
        ..tiny_config()
    };
    let shape = ModelConfig { rope: RopeConfig { rotary_dim: 64, ..shape.rope.clone() }, ..shape };
    tiny_model::write_model(&place.path("larger"), FloatType::F32, shape);
    let question =
        |number: usize| format!("{number} {}", "What do you know about it? ".repeat(1 + number % 6));
    let pair = |number: usize| {
        json!({
            "prompt": [{"role": "user", "content": question(number)}],
            "chosen": [{"role": "assistant", "content": "All there is to know. ".repeat(4 + number % 3)}],
            "rejected": [{"role": "assistant", "content": "Nothing, and I will not ask. ".repeat(2 + number % 5)}],
        })
    };
    place.write("long.jsonl", (0..64).map(pair));
    let reward = ["--reward", "length:characters>=1000", "--max-tokens", "64"];
    let runs: [(&str, &[&str]); 7] = [
        ("sft", &["--batch", "16"]),
        ("sft", &["--batch", "16", "--full"]),
        ("reward", &["--batch", "16"]),
        ("dpo", &["--batch", "16"]),
        ("kto", &["--batch", "16"]),
        ("grpo", &[&["--batch", "4"], &reward[..]].concat()),
        ("ppo", &[&["--batch", "16"], &reward[..]].concat()),
    ];
    for (place_of, (method, more)) in runs.into_iter().enumerate() {
        let (model, data) = (place.text("larger"), place.text("long.jsonl"));
        let out = place.text(&format!("run-{place_of}"));
        let mut command =
            place.program(&[method, &model, "--data", &data, "--out", &out, "--threads", "2", "--plain"]);
        command
            .args(["--steps", "2", "--set", "intervals.held_out=0", "--set", "intervals.samples=0"])
            .args(more);
        let (planned, taken) = of_command(command);
        let ratio = planned / taken;
        // The part of the program itself is that of a real vocabulary, which this model has not.
        assert!((0.9..=1.2).contains(&ratio), "{method} {more:?}: {planned} planned, {taken} taken: {ratio}");
    }
}
