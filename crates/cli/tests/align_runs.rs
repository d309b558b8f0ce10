//! The scripts of `runs/` that train a model further, at toy size on a tiny random model: they go through, and a second time where they were.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tiny_model;
use serde_json::Value;
use zhenjin_model::write::FloatType;

/// A folder with a model that knows nothing, in which scripts run.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a script on the model, which must succeed; what it printed.
    fn script(&self, name: &str, arguments: &[&str]) -> String {
        let model = self.path("model");
        self.script_alone(name, &[arguments, &["--model", model.to_str().expect("a path")]].concat())
    }

    /// The same for a script that makes its model.
    fn script_alone(&self, name: &str, arguments: &[&str]) -> String {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../runs").join(name);
        let mut command = Command::new("bash");
        command.arg(path).args(arguments).arg("--out").arg(self.path("out"));
        command.env("ZHENJIN", env!("CARGO_BIN_EXE_zhenjin")).env("ZHENJIN_HOME", self.path("home"));
        command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
        let output = command.output().expect("bash");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {stdout}{stderr}");
        format!("{stdout}{stderr}")
    }

    fn json(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.path("out").join(name)).expect("a file");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path("out").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn newest(&self, run: &str) -> PathBuf {
        newest(&self.path("out").join(run))
    }
}

fn newest(run: &Path) -> PathBuf {
    let checkpoints = std::fs::read_dir(run.join("checkpoints")).expect("a folder").flatten();
    checkpoints.map(|entry| entry.path()).max().expect("a checkpoint")
}

#[test]
fn json_measures_the_house_format_with_and_without_adapter_and_constraint() {
    let place = Place::new();
    let arguments = ["--steps", "2", "--notes", "4"];
    let text = place.script("json.sh", &arguments);
    assert!(text.contains("| with the adapter | constrained by the schema |"), "{text}");
    let results = place.json("results.json");
    let results = results.as_array().expect("results");
    assert_eq!(results.len(), 4);
    for result in results {
        assert_eq!(result["notes"], 4, "{result}");
        assert!(result["right"].as_u64() <= result["valid"].as_u64(), "{result}");
    }
    for language in ["en", "zh"] {
        let report = String::from_utf8(place.bytes(&format!("json.{language}.html"))).expect("UTF-8");
        assert!(report.contains("<svg"), "{language}");
    }
    let adapter = place.newest("run");
    let weights = std::fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter");
    place.script("json.sh", &arguments);
    assert_eq!(place.newest("run"), adapter);
    assert!(std::fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter") == weights);
}

#[test]
fn reason_measures_lengths_that_stood_in_no_solution() {
    let place = Place::new();
    let arguments = ["--pretraining", "3", "--sft", "2", "--rl", "1", "--problems", "3"];
    let text = place.script_alone("reason-rl.sh", &arguments);
    assert!(text.contains("| digits 6 | 3 |") && text.contains("| all | 15 |"), "{text}");
    let results = place.json("results.json");
    assert_eq!(results["rows"].as_array().map(Vec::len), Some(6), "{results}");
    // A question of the test stands in no training.
    let lines = |name: &str| String::from_utf8(place.bytes(name)).expect("UTF-8");
    let question = |line: &str| -> String {
        let record: Value = serde_json::from_str(line).expect("JSON");
        if let Some(question) = record["question"].as_str() {
            return question.to_owned();
        }
        let messages = if record["prompt"].is_null() { &record["messages"] } else { &record["prompt"] };
        messages[1]["content"].as_str().expect("a question").to_owned()
    };
    let training = [lines("worked.jsonl"), lines("solved.jsonl"), lines("asked.jsonl")].concat();
    let training: BTreeSet<String> = training.lines().map(question).collect();
    assert!(training.len() > 100, "{}", training.len());
    for name in ["test.jsonl", "watched.jsonl"] {
        assert!(lines(name).lines().map(question).all(|question| !training.contains(&question)), "{name}");
    }
    let before = place.bytes("results.json");
    place.script_alone("reason-rl.sh", &arguments);
    assert!(place.bytes("results.json") == before);
}

#[test]
fn align_hh_judges_by_what_learnt_from_the_other_half() {
    let place = Place::new();
    let dialogue = |number: u32, answer: &str| format!("\n\nHuman: say {number}\n\nAssistant: {answer}");
    let record = |number: u32| {
        let (chosen, rejected) = (dialogue(number, &format!("{number}")), dialogue(number, "no"));
        serde_json::json!({ "chosen": chosen, "rejected": rejected }).to_string()
    };
    let mut records: Vec<String> = (0..60).map(record).collect();
    // A dialogue in which nobody answers is left out, and counted.
    records
        .push(serde_json::json!({ "chosen": dialogue(99, ""), "rejected": dialogue(99, "no") }).to_string());
    let pairs = place.path("pairs.jsonl");
    std::fs::write(&pairs, records.join("\n")).expect("a file");
    let pairs = pairs.to_str().expect("a path");
    let arguments = [pairs, "--steps", "2", "--reward", "2", "--ppo", "1", "--tokens", "6"];
    let text = place.script("align-hh.sh", &arguments);
    assert!(text.contains("; 1 that are no dialogues left out") && text.contains("The first wins"), "{text}");
    let openings = |name: &str| -> Vec<String> {
        let text = String::from_utf8(place.bytes(name)).expect("UTF-8");
        let opening = |line: &str| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            record["chosen"]
                .as_str()
                .expect("a text")
                .split("Assistant")
                .next()
                .expect("a question")
                .to_owned()
        };
        text.lines().map(opening).collect()
    };
    let parts = ["half-a.jsonl", "half-b.jsonl", "held-out.jsonl"].map(openings);
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 60);
    let all: std::collections::BTreeSet<&String> = parts.iter().flatten().collect();
    assert!(all.len() == 60 && parts.iter().all(|part| part.len() > 5), "{parts:?}");
    let wins = place.json("wins-ppo.json");
    assert_eq!(wins["wins"]["prompts"].as_u64(), Some(parts[2].len() as u64), "{wins}");
    assert!(text.contains("| length-controlled: the mean of both |"), "{text}");
    assert!(wins["by_length"].get("length_controlled").is_some(), "{wins}");
    let accuracy = place.json("accuracy-reward.json");
    assert!(accuracy["accuracy"]["reward_model"]["accuracy"]["lower"].is_number(), "{accuracy}");
    assert!(place.json("accuracy-dpo.json")["differences"].is_array());
    place.script("align-hh.sh", &arguments);
    assert_eq!(place.json("wins-ppo.json"), wins);
}

#[test]
fn align_zh_measures_both_languages_on_questions_that_were_not_learnt() {
    let place = Place::new();
    let write = |name: &str, count: u32, question: &str, good: &str, bad: &str| {
        let record = |number: u32| {
            serde_json::json!({
                "conversations": [{ "from": "human", "value": format!("{question}{number}") }],
                "chosen": good,
                "rejected": bad,
            })
        };
        let records: Vec<Value> = (0..count).map(record).collect();
        std::fs::write(place.path(name), serde_json::to_string(&records).expect("JSON")).expect("a file");
        place.path(name).to_str().expect("a path").to_owned()
    };
    let first = write("zh-1.json", 12, "问", "好的", "不");
    let second = write("zh-2.json", 16, "问", "好的", "不");
    let english = write("en.json", 12, "question ", "yes, it is", "no");
    let chinese = format!("{first},{second}");
    let arguments = [chinese.as_str(), english.as_str(), "--steps", "2"];
    let text = place.script("align-zh.sh", &arguments);
    // Twelve questions stand in both Chinese files.
    assert!(text.contains("11 pairs to learn from, 5 held out, of 16; left out: 12 whose"), "{text}");
    assert!(text.contains("8 pairs to learn from, 4 held out, of 12; left out: 0 whose"), "{text}");
    for (name, pairs) in [("chinese", 5), ("english", 4)] {
        let found = place.json(&format!("accuracy-{name}.json"));
        assert_eq!(found["pairs"], pairs, "{found}");
        assert!(found["accuracy"]["implicit_reward"]["accuracy"]["lower"].is_number(), "{found}");
    }
}
