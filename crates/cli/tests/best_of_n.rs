//! `zhenjin best-of-n` as people run it: prompts and a reward to examples that `sft` and `dpo` learn.

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
    /// A folder with a tiny model, prompts, and an adapter with which answers end.
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        let talk = |number: i32| {
            json!({"messages": [
                {"role": "user", "content": format!("say {number}")},
                {"role": "assistant", "content": format!("{number} it is")},
            ]})
        };
        let prompt = |number: i32| json!({"prompt": format!("say {number}"), "answer": number.to_string()});
        place.write("talks.jsonl", (0..20).map(talk));
        place.write("prompts.jsonl", (0..20).map(prompt));
        succeed(place.train("sft", "talks.jsonl", "sft", &["--steps", "40", "--learning-rate", "0.01"]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn records(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn write(&self, name: &str, records: impl Iterator<Item = Value>) {
        let lines: Vec<String> = records.map(|record| record.to_string()).collect();
        std::fs::write(self.path(name), lines.join("\n")).expect("a file");
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG");
        program.stdin(Stdio::null()).args(arguments);
        program
    }

    fn train(&self, method: &str, data: &str, out: &str, more: &[&str]) -> Command {
        let (model, data, out) = (self.text("model"), self.text(data), self.text(out));
        let mut program =
            self.program(&[method, &model, "--data", &data, "--out", &out, "--threads", "1", "--plain"]);
        program.args(["--batch", "4"]).args(more);
        program
    }

    /// Answers the prompts with the adapter in at most 20 tokens, into the file `out`; answers that contain a 1 are worth more.
    fn best_of(&self, out: &str, more: &[&str]) -> Command {
        self.judged(out, &[&["--max-tokens", "20", "--reward", "regex:1"], more].concat())
    }

    /// The same with other limits and rewards.
    fn judged(&self, out: &str, more: &[&str]) -> Command {
        let checkpoints = std::fs::read_dir(self.path("sft").join("checkpoints")).expect("checkpoints");
        let adapter = checkpoints.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint");
        let (model, prompts, out) = (self.text("model"), self.text("prompts.jsonl"), self.text(out));
        let mut program = self.program(&["best-of-n", &model, "--data", &prompts, "--out", &out]);
        program.arg("--adapter").arg(adapter).args(more);
        program
    }
}

#[test]
fn the_best_answers_are_examples_and_the_best_and_the_worst_are_pairs() {
    let place = Place::new();
    let text = succeed(place.best_of("best.jsonl", &["--n", "4", "--threads", "1"]));
    assert!(text.contains("20 prompts, 80 answers") && text.contains("| 4 |"), "{text}");
    let answers = place.records("best.jsonl.answers.jsonl");
    assert_eq!(answers.len(), 21, "a line of settings, and one for each prompt");
    let reward = |candidate: &Value| -> Option<f64> {
        candidate["reward"].as_f64().filter(|_| candidate["unusable"].is_null())
    };
    for record in place.records("best.jsonl") {
        let messages = record["messages"].as_array().expect("messages");
        let prompt = messages[0]["content"].as_str().expect("a text");
        let number: usize = prompt.strip_prefix("say ").expect("a prompt").parse().expect("a number");
        let candidates = answers[number + 1]["answers"].as_array().expect("answers");
        let best = candidates.iter().filter_map(reward).fold(f64::NEG_INFINITY, f64::max);
        let chosen = candidates.iter().find(|candidate| candidate["text"] == messages[1]["content"]);
        assert_eq!(chosen.and_then(reward), Some(best), "{record}");
        assert_eq!(best, f64::from(u8::from(messages[1]["content"].as_str().expect("a text").contains('1'))));
    }
    succeed(place.train("sft", "best.jsonl", "again", &["--steps", "1"]));
    // Rejection sampling: other choices need no new answers, whatever the threads.
    let text =
        succeed(place.best_of("best.jsonl", &["--n", "4", "--least", "1", "--keep", "2", "--threads", "2"]));
    assert!(text.contains("20 prompts are answered"), "{text}");
    let rejected = place.records("best.jsonl");
    assert!(
        !rejected.is_empty()
            && rejected.iter().all(|record| {
                record["messages"][1]["content"].as_str().is_some_and(|text| text.contains('1'))
            })
    );
    // The first of more answers are those of fewer, with another number of threads as well.
    succeed(place.best_of("two.jsonl", &["--n", "2", "--threads", "2"]));
    for (two, four) in place.records("two.jsonl.answers.jsonl")[1..].iter().zip(&answers[1..]) {
        let four = &four["answers"].as_array().expect("answers")[..2];
        assert_eq!(two["answers"].as_array().expect("answers"), four);
    }
    let pairs = ["--n", "8", "--as", "preference", "--least-margin", "0.5", "--language", "zh"];
    let text = succeed(place.best_of("pairs.jsonl", &pairs));
    assert!(text.contains("20 个提示,160 个回答") && text.contains("对偏好"), "{text}");
    for record in place.records("pairs.jsonl") {
        assert_eq!((&record["chosen_score"], &record["rejected_score"]), (&json!(1.0), &json!(0.0)));
    }
    succeed(place.train("dpo", "pairs.jsonl", "dpo", &["--steps", "1"]));
    succeed(place.train("reward", "pairs.jsonl", "judge", &["--steps", "2"]));
    let checkpoints = std::fs::read_dir(place.path("judge").join("checkpoints")).expect("checkpoints");
    let judge = checkpoints.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint");
    let judge = judge.to_str().expect("a path");
    succeed(place.judged("judged.jsonl", &["--n", "2", "--max-tokens", "20", "--reward-model", judge]));
    for line in &place.records("judged.jsonl.answers.jsonl")[1..] {
        for answer in line["answers"].as_array().expect("answers") {
            assert!(
                answer["reward"].is_f64() && answer["reward"] == answer["parts"]["reward_model"],
                "{answer}"
            );
        }
    }
    let found = succeed(place.best_of("pairs.jsonl", &[&pairs[..], &["--json"]].concat()));
    let json = &found[found.find("{\n").expect("JSON")..=found.rfind("\n}").expect("JSON") + 1];
    let found: Value = serde_json::from_str(json).expect("JSON");
    let best_of = found["summary"]["best_of"].as_array().expect("a list");
    let means: Vec<f64> = best_of.iter().filter_map(|best| best["reward"]["mean"].as_f64()).collect();
    assert!(means.windows(2).all(|pair| pair[0] <= pair[1]), "{means:?}");
}

#[test]
fn a_command_that_was_cut_off_goes_on_to_the_same_files() {
    let place = Place::new();
    let more = ["--n", "3", "--threads", "1"];
    succeed(place.best_of("whole.jsonl", &more));
    let answers = place.read("whole.jsonl.answers.jsonl");
    // Ends within the line of the sixth prompt; then within the first line.
    let sixth = answers.match_indices('\n').nth(6).expect("lines").0;
    for bytes in [sixth - 9, 20, 0] {
        std::fs::write(place.path("cut.jsonl.answers.jsonl"), &answers[..bytes]).expect("a file");
        let time = place.records("whole.jsonl.answers.jsonl")[0]["time"].clone();
        succeed(place.best_of("cut.jsonl", &more));
        let text = place.read("cut.jsonl.answers.jsonl");
        let begun_at = place.records("cut.jsonl.answers.jsonl")[0]["time"].clone();
        let text = text.replacen(&format!("\"time\":{begun_at}"), &format!("\"time\":{time}"), 1);
        assert!(text == answers, "cut at byte {bytes}");
        assert_eq!(place.read("cut.jsonl"), place.read("whole.jsonl"));
    }
    let (code, text) = run(place.best_of("whole.jsonl", &["--n", "3", "--seed", "7"]));
    assert!(code == Some(1) && text.contains("seed is 7, there 0"), "{text}");
    assert_eq!(place.read("whole.jsonl.answers.jsonl"), answers);
}

/// A schema counted by its file's name, a reward model by its weights without its settings, and its base by name: with other contents the old
/// scores were used.
#[test]
fn answers_that_were_judged_by_something_else_are_not_used_again() {
    let place = Place::new();
    let limits = ["--n", "2", "--max-tokens", "4", "--keep-cut", "--threads", "1"];
    let schema = format!("json:{}", place.text("schema.json"));
    // Whether anything can be chosen does not matter here.
    let judged = |more: &[&str]| run(place.judged("judged.jsonl", &[&limits[..], more].concat()));
    let answered = |more: &[&str]| {
        let (_, text) = judged(more);
        assert_eq!(place.records("judged.jsonl.answers.jsonl").len(), 21, "{text}");
        let (_, text) = judged(more);
        assert!(text.contains("20 prompts are answered"), "{text}");
    };
    let refused = |more: &[&str], expected: &str| {
        let (code, text) = judged(more);
        assert!(code == Some(1) && text.contains(expected), "{text}");
    };
    let of_schema = ["--reward", &schema];
    std::fs::write(place.path("schema.json"), r#"{"type": "string"}"#).expect("a file");
    answered(&of_schema);
    std::fs::write(place.path("schema.json"), r#"{"type": "object"}"#).expect("a file");
    refused(&of_schema, "reward_schemas is ");
    std::fs::remove_file(place.path("judged.jsonl.answers.jsonl")).expect("a file");

    let pair = |number: i32| {
        json!({
            "prompt": [{"role": "user", "content": format!("say {number}")}],
            "chosen": [{"role": "assistant", "content": format!("{number}")}],
            "rejected": [{"role": "assistant", "content": "no"}],
        })
    };
    place.write("pairs.jsonl", (0..20).map(pair));
    succeed(place.train("reward", "pairs.jsonl", "judge", &["--steps", "1"]));
    let checkpoints = std::fs::read_dir(place.path("judge").join("checkpoints")).expect("checkpoints");
    let judge = checkpoints.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint");
    let base = place.text("base");
    tiny_model::write_tiny_model(&place.path("base"), FloatType::F32);
    let by_judge = ["--reward-model", judge.to_str().expect("a path"), "--reward-base", &base];
    answered(&by_judge);
    // The same name, other weights.
    std::fs::remove_dir_all(place.path("base")).expect("a folder");
    tiny_model::write_tiny_model(&place.path("base"), FloatType::F16);
    refused(&by_judge, "(reward_base is ");
    // The same weights, counted twice.
    let settings = judge.join("adapter_config.json");
    let text = std::fs::read_to_string(&settings).expect("a file");
    let mut changed: Value = serde_json::from_str(&text).expect("JSON");
    changed["lora_alpha"] = json!(2.0 * changed["lora_alpha"].as_f64().expect("a number"));
    std::fs::write(&settings, changed.to_string()).expect("a file");
    refused(&by_judge, "reward_model is ");
}

#[test]
fn what_cannot_be_chosen_is_counted_and_named() {
    let place = Place::new();
    let text = succeed(
        place.judged("a.jsonl", &["--n", "2", "--max-tokens", "2", "--keep-cut", "--reward", "regex:."]),
    );
    assert!(text.contains("20 prompts, 40 answers, 2.0 tokens"), "{text}");
    // The same answers without --keep-cut.
    assert!(!place.read("a.jsonl").is_empty());
    let (code, text) =
        run(place.judged("a.jsonl", &["--n", "2", "--max-tokens", "2", "--reward", "regex:."]));
    assert!(code == Some(1) && text.contains("20 prompts are answered"), "{text}");
    let (code, text) =
        run(place.judged("b.jsonl", &["--n", "2", "--max-tokens", "2", "--reward", "regex:."]));
    assert!(code == Some(1) && text.contains(" answers were cut at --max-tokens"), "{text}");
    // What is outside the means was not told beside them.
    assert!(text.contains("The means are over ") && text.contains(" of 40 answers: "), "{text}");
    assert!(text.contains("--keep-cut chooses") && !place.path("b.jsonl").exists(), "{text}");
    assert!(!place.read("a.jsonl").is_empty(), "what was chosen before stays");
    let (code, text) = run(place
        .judged("c.jsonl", &["--n", "2", "--max-tokens", "4", "--keep-cut", "--reward", "number:solution"]));
    assert!(code == Some(1) && text.contains("40 answers have no reward"), "{text}");
    assert!(text.contains("the first") && text.contains("`solution`"), "{text}");
    for (more, expected, code) in [
        (vec!["--n", "0"], "--n", 2),
        (vec!["--n", "2000"], "at most 1024", 1),
        (vec!["--temperature", "0"], "the same", 1),
        (vec!["--as", "preference", "--keep", "2"], "--keep", 1),
        (vec!["--least-margin", "1"], "--as preference", 1),
        (vec!["--reward-model", "/nonexistent"], "is no reward model", 1),
    ] {
        let (found, text) = run(place.best_of("d.jsonl", &more));
        assert_eq!(found, Some(code), "{more:?}: {text}");
        assert!(text.contains(expected) && !text.contains("panicked"), "{more:?}: {text}");
    }
    for (more, expected) in [
        (["--reward", "nubmer", "--n", "2"], "did you mean `number`"),
        (["--reward", "number", "--max-tokens", "100000"], "--max-tokens"),
        (["--n", "2", "--max-tokens", "4"], "--reward or --reward-model"),
    ] {
        let (found, text) = run(place.judged("d.jsonl", &more));
        assert!(found == Some(1) && text.contains(expected), "{more:?}: {text}");
    }
}

/// Regression: that the program of a reward was started again was told while models learnt from it, and not here.
#[test]
fn how_often_the_program_of_a_reward_was_started_again_is_told() {
    let place = Place::new();
    let program = "import json, sys\nfor line in sys.stdin:\n    score = json.dumps(dict(id=json.loads(line)['id'], score=1))\n    print(score + chr(10) + score, flush=True)\n";
    std::fs::write(place.path("twice.py"), program).expect("a file");
    let reward = format!("process:\"python3 -u {}\"", place.text("twice.py"));
    let (model, prompts) = (place.text("model"), place.text("prompts.jsonl"));
    let limits = ["--max-tokens", "4", "--reward", &reward];
    let best_of = place.judged("twice.jsonl", &[&limits[..], &["--n", "2", "--least", "0"]].concat());
    let mut evaluate = place.program(&["evaluate", "rewards", &model, "--data", &prompts]);
    evaluate.args(limits);
    for mut program in [best_of, evaluate] {
        let output = program.output().expect("the program");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("note: the program of a reward was started again"), "{told}");
    }
}
