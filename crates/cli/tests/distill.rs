//! `zhenjin distill` as people run it: a teacher's distributions into a student, in one vocabulary or in two.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::align::{run, succeed};
use crate::tiny_model;
use serde_json::{Value, json};
use zhenjin_model::write::FloatType;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with a tiny model, some examples, and an adapter that learnt them: the teacher's.
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        let talk = |number: i32| {
            json!({"messages": [
                {"role": "user", "content": format!("say {number}")},
                {"role": "assistant", "content": format!("{number} it is")},
            ]})
        };
        let lines: Vec<String> = (0..20).map(|number| talk(number).to_string()).collect();
        std::fs::write(place.path("talks.jsonl"), lines.join("\n")).expect("a file");
        succeed(place.train("sft", "sft", &["--steps", "40", "--learning-rate", "0.01"]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG");
        program.stdin(Stdio::null()).args(arguments);
        program
    }

    fn train(&self, method: &str, out: &str, more: &[&str]) -> Command {
        let (model, data, out) = (self.text("model"), self.text("talks.jsonl"), self.text(out));
        let mut program =
            self.program(&[method, &model, "--data", &data, "--out", &out, "--threads", "1", "--plain"]);
        program.args(["--batch", "4", "--held-out-share", "0.2", "--set", "time=1700000000"]).args(more);
        program
    }

    /// Distils the model with the adapter into the model alone.
    fn distill(&self, out: &str, more: &[&str]) -> Command {
        let (teacher, adapter) = (self.text("model"), self.last("sft"));
        let mut program = self.train("distill", out, &["--teacher", &teacher, "--teacher-adapter", &adapter]);
        program.args(more);
        program
    }

    /// The same model with another token in its vocabulary.
    fn other(&self) -> String {
        let other = self.path("other");
        std::fs::create_dir(&other).expect("a folder");
        for entry in std::fs::read_dir(self.path("model")).expect("a folder").flatten() {
            std::fs::copy(entry.path(), other.join(entry.file_name())).expect("a copy");
        }
        let tokenizer = std::fs::read_to_string(other.join("tokenizer.json")).expect("a file");
        let changed = tokenizer.replace("<|endoftext|>", "<|endofbook|>");
        assert_ne!(changed, tokenizer);
        std::fs::write(other.join("tokenizer.json"), changed).expect("a file");
        self.text("other")
    }

    fn last(&self, out: &str) -> String {
        let entries = std::fs::read_dir(self.path(out).join("checkpoints")).expect("checkpoints");
        let last = entries.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint");
        last.to_str().expect("a path").to_owned()
    }

    /// What was measured on held-out examples, in order.
    fn held_out(&self, out: &str, name: &str) -> Vec<f64> {
        let log = std::fs::read_to_string(self.path(out).join("metrics.jsonl")).expect("a log");
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let held_out = events.filter(|event| event["event"] == "held_out");
        held_out.filter_map(|event| event["measures"][name].as_f64()).collect()
    }
}

#[test]
fn the_student_comes_near_to_its_teacher_with_every_option() {
    let place = Place::new();
    for (out, more) in [
        ("forward", vec![]),
        ("reverse", vec!["--divergence", "reverse-kl", "--temperature", "1.5"]),
        ("mixture", vec!["--divergence", "jensen-shannon", "--beta", "0.3", "--weight", "0.8"]),
        ("full", vec!["--full"]),
        ("own", vec!["--own-answers", "0.5", "--max-tokens", "6"]),
    ] {
        let more = [&["--steps", "12", "--learning-rate", "0.01"][..], &more].concat();
        let text = succeed(place.distill(out, &more));
        assert!(text.contains("finished after step 12"), "{text}");
        let divergence = place.held_out(out, "divergence");
        assert!(divergence[divergence.len() - 1] < 0.7 * divergence[0], "{out}: {divergence:?}");
    }
    let answer = succeed(place.program(&["report", &place.text("forward"), "--language", "zh"]));
    assert!(answer.contains("report.html"), "{answer}");
    let report = std::fs::read_to_string(place.path("forward").join("report.html")).expect("a report");
    assert!(report.contains("与教师模型的散度"));
}

#[test]
fn a_killed_distillation_goes_on_to_the_bits_of_an_undisturbed_one() {
    let place = Place::new();
    let more =
        ["--steps", "40", "--set", "intervals.checkpoint=2", "--own-answers", "0.5", "--max-tokens", "4"];
    succeed(place.distill("whole", &more));
    let mut program = place.distill("killed", &more);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let first = place.path("killed").join("checkpoints").join("step-00000002");
    let started = std::time::Instant::now();
    while !first.exists() && child.try_wait().expect("a process").is_none() {
        assert!(started.elapsed().as_secs() < 60, "no checkpoint appears");
        std::thread::yield_now();
    }
    child.kill().expect("a process");
    child.wait().expect("a process");
    let text = succeed(place.distill("killed", &[&more[..], &["--resume", "auto"]].concat()));
    assert!(text.contains("going on from"), "{text}");
    for name in ["adapter_model.safetensors", "optimiser.safetensors"] {
        let bytes = |out: &str| std::fs::read(PathBuf::from(place.last(out)).join(name)).expect("a file");
        assert!(bytes("whole") == bytes("killed"), "{name}");
    }
    // Another teacher is another run.
    let model = place.text("model");
    let other =
        place.train("distill", "killed", &[&["--teacher", &model, "--resume", "auto"], &more[..]].concat());
    let (code, text) = run(other);
    assert!(code == Some(1) && text.contains("other data or another model"), "{text}");
}

#[test]
fn vocabularies_must_agree_and_padding_does_not_count() {
    let place = Place::new();
    let (model, gguf) = (place.text("model"), place.text("padded.gguf"));
    // The file has a name for each row of the embedding, also for those that no token has.
    succeed(place.program(&["export", &model, "--to", "gguf", &gguf]));
    let text = succeed(place.train("distill", "padded", &["--steps", "1", "--teacher", &gguf]));
    assert!(text.contains("finished"), "{text}");
    let divergence = place.held_out("padded", "divergence");
    assert!(divergence[0] < 1e-6, "the same weights say the same: {divergence:?}");
    let (code, text) = run(place.train("distill", "x", &["--teacher", &place.other()]));
    assert!(code == Some(1) && text.contains("token 259 is `<|endoftext|>`"), "{text}");
    assert!(text.contains("`<|endofbook|>` in the teacher's"), "{text}");
    for (more, expected, code) in [
        (vec!["--beta", "0.5"], "distillation.beta", 2),
        (vec!["--temperature", "0"], "distillation.temperature", 2),
        (vec!["--max-tokens", "5"], "--own-answers", 1),
        (vec!["--own-answers", "0", "--max-tokens", "5"], "--own-answers above 0", 1),
        (
            vec!["--own-answers", "0", "--set", "rollout.max_tokens=5"],
            "`rollout.max_tokens` is of answers",
            2,
        ),
        (vec!["--answers", "2"], "--from text", 1),
        (vec!["--from", "text", "--beta", "0.5"], "--from logits", 1),
        (vec!["--from", "text", "--answers", "2"], "--reward", 1),
        (vec!["--own-answers", "1", "--max-tokens", "100000"], "leaves no room", 1),
        (vec!["--teacher-adapter", "/nonexistent"], "/nonexistent", 1),
        (vec!["--set", "policy.kl=1"], "policy.kl", 2),
    ] {
        let (found, text) = run(place.train("distill", "y", &[&["--teacher", &model][..], &more].concat()));
        assert_eq!(found, Some(code), "{more:?}: {text}");
        assert!(text.contains(expected) && !text.contains("panicked"), "{more:?}: {text}");
    }
}

/// A dry run once showed no plan, and a run's plan had no teacher in it.
#[test]
fn what_a_distillation_will_cost_is_shown_with_its_teacher() {
    let place = Place::new();
    for more in [vec!["--own-answers", "0.5", "--max-tokens", "6"], vec![]] {
        let text = succeed(place.distill("dry", &[&more[..], &["--dry-run"]].concat()));
        assert!(text.contains("method = \"distill\"") && text.contains("teacher "), "{text}");
        assert!(text.contains("measured with this model and these examples"), "{text}");
        assert_eq!(text.contains("for writing answers"), !more.is_empty(), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("memory ")).count(), 1, "{text}");
        assert!(!place.path("dry").exists());
    }
    let (code, text) = run(place.distill("small", &["--memory", "1M"]));
    assert!(code == Some(1) && text.contains("teacher "), "{text}");
}

#[test]
fn a_student_of_another_vocabulary_learns_what_the_teacher_writes() {
    let place = Place::new();
    let (student, talks, out) = (place.other(), place.text("talks.jsonl"), place.text("text"));
    let (teacher, adapter) = (place.text("model"), place.last("sft"));
    let arguments =
        ["distill", &student, "--data", &talks, "--out", &out, "--threads", "1", "--plain", "--from", "text"];
    let teaching =
        ["--teacher", &teacher, "--teacher-adapter", &adapter, "--max-tokens", "24", "--batch", "4"];
    let more = ["--steps", "20", "--learning-rate", "0.01", "--held-out-share", "0.2"];
    let all = [&arguments[..], &teaching, &more].concat();
    let text = succeed(place.program(&[&all[..], &["--dry-run"]].concat()));
    assert!(text.contains("method = \"sft\"") && !place.path("text").join("data").exists(), "{text}");
    assert!(text.contains("writes 1 answers of at most 24 tokens to each of 20 prompts"), "{text}");
    assert!(text.contains("measured with this model and these examples"), "{text}");
    let text = succeed(place.program(&all));
    assert!(text.contains("20 prompts, 20 answers") && text.contains("finished after step 20"), "{text}");
    let written =
        std::fs::read_to_string(place.path("text").join("data").join("teacher.jsonl")).expect("a file");
    let first: Value = serde_json::from_str(written.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["messages"][0]["content"], "say 0");
    assert_eq!(first["messages"][1]["role"], "assistant");
    let losses = place.held_out("text", "loss");
    assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{losses:?}");
    // The best of several answers; a killed run's answers are not written again.
    let out = place.text("best");
    let arguments =
        ["distill", &student, "--data", &talks, "--out", &out, "--threads", "1", "--plain", "--from", "text"];
    let best = ["--answers", "4", "--reward", "length:characters<=6", "--steps", "1"];
    let all = [&arguments[..], &teaching, &best].concat();
    succeed(place.program(&all));
    std::fs::remove_dir_all(place.path("best").join("checkpoints")).expect("a folder");
    let text = succeed(place.program(&[&all[..], &["--resume", "auto"]].concat()));
    assert!(text.contains("20 prompts are answered") && text.contains("finished"), "{text}");
}
