//! `zhenjin sft`, `reward`, `dpo`, `kto`, `ppo` and `grpo` as people run them: from files to checkpoints that the engine serves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::tiny_model;
use serde_json::{Value, json};
use zhenjin_model::write::FloatType;

pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with a tiny model and some examples.
    pub(crate) fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        let numbers = || 0..20;
        let talk = |number: i32| {
            json!({"messages": [
                {"role": "user", "content": format!("say {number}")},
                {"role": "assistant", "content": format!("{number} it is")},
            ]})
        };
        let pair = |number: i32| {
            json!({
                "prompt": [{"role": "user", "content": format!("say {number}")}],
                "chosen": [{"role": "assistant", "content": format!("{number}")}],
                "rejected": [{"role": "assistant", "content": "no"}],
            })
        };
        let thumb = |number: i32| {
            json!({
                "prompt": [{"role": "user", "content": format!("say {number}")}],
                "completion": [{"role": "assistant", "content": if number % 2 == 0 { "yes" } else { "no" }}],
                "label": number % 2 == 0,
            })
        };
        let problem =
            |number: i32| json!({"prompt": format!("{number}+1="), "answer": format!("{}", number + 1)});
        place.write("talks.jsonl", numbers().map(talk));
        place.write("pairs.jsonl", numbers().map(pair));
        place.write("thumbs.jsonl", numbers().map(thumb));
        place.write("problems.jsonl", numbers().map(problem));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }

    pub(crate) fn write(&self, name: &str, records: impl Iterator<Item = Value>) {
        let lines: Vec<String> = records.map(|record| record.to_string()).collect();
        std::fs::write(self.path(name), lines.join("\n")).expect("a file");
    }

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG");
        program.stdin(Stdio::null()).args(arguments);
        program
    }

    /// Trains `method` on `data` into the folder `out`.
    pub(crate) fn train(&self, method: &str, data: &str, out: &str, more: &[&str]) -> Command {
        let (model, data, out) = (self.text("model"), self.text(data), self.text(out));
        let mut program =
            self.program(&[method, &model, "--data", &data, "--out", &out, "--threads", "1", "--plain"]);
        if !more.contains(&"--held-out") {
            program.args(["--held-out-share", "0.2"]);
        }
        program.args(["--batch", "4"]).args(more);
        program
    }

    /// The only checkpoint's folder, or the last.
    pub(crate) fn last(&self, out: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path(out).join("checkpoints")).expect("checkpoints");
        entries.map(|entry| entry.expect("an entry").path()).max().expect("a checkpoint")
    }
}

pub(crate) fn run(mut program: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout) + &text(stderr))
}

pub(crate) fn succeed(program: Command) -> String {
    let (code, text) = run(program);
    assert_eq!(code, Some(0), "{text}");
    text
}

fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_method_trains_and_its_result_is_used() {
    let place = Place::new();
    for (method, data) in [("sft", "talks.jsonl"), ("dpo", "pairs.jsonl"), ("kto", "thumbs.jsonl")] {
        let text = succeed(place.train(method, data, method, &["--steps", "3"]));
        assert!(text.contains("step 3/3") && text.contains("held-out examples"), "{text}");
        let last = place.last(method);
        assert!(last.join("adapter_model.safetensors").is_file());
        let answer = succeed(place.program(&["report", &place.text(method), "--language", "zh"]));
        assert!(answer.contains("report.html"), "{answer}");
        let report = std::fs::read_to_string(place.path(method).join("report.html")).expect("a report");
        assert_eq!(report.contains("损失(奈特/词元)"), method == "sft", "the title of the loss of {method}");
    }
    let sft = place.last("sft");
    let more = ["--steps", "3", "--adapter", sft.to_str().expect("a path")];
    succeed(place.train("dpo", "pairs.jsonl", "after-sft", &more));
    succeed(place.train("reward", "pairs.jsonl", "reward", &["--steps", "3"]));
    let reward_model = place.last("reward");
    let reward_model = reward_model.to_str().expect("a path");
    let more = ["--steps", "2", "--max-tokens", "6", "--reward-model", reward_model];
    let text = succeed(place.train("ppo", "pairs.jsonl", "ppo", &more));
    assert!(text.contains("reward/reward_model") && text.contains("value_loss"), "{text}");
    let more =
        ["--steps", "2", "--max-tokens", "6", "--answers", "3", "--reward", "number+0.1*length:tokens<=4"];
    let text = succeed(place.train("grpo", "problems.jsonl", "grpo", &more));
    assert!(text.contains("uniform_groups") && text.contains("answer_tokens"), "{text}");
}

#[test]
fn what_was_trained_is_measured_on_pairs_and_by_wins() {
    let place = Place::new();
    succeed(place.train("dpo", "pairs.jsonl", "dpo", &["--steps", "6"]));
    succeed(place.train("reward", "pairs.jsonl", "reward", &["--steps", "6"]));
    let [policy, judge] = ["dpo", "reward"].map(|out| place.last(out).to_str().expect("a path").to_owned());
    let (model, pairs) = (place.text("model"), place.text("pairs.jsonl"));
    let evaluate = |what: &str, more: &[&str]| {
        let mut program = place.program(&["evaluate", what, &model, "--data", &pairs, "--threads", "1"]);
        program.args(more);
        program
    };
    let json = |what: &str, more: &[&str]| -> Value {
        let save = place.text(&format!("{what}.json"));
        let more = [more, &["--save", &save]].concat();
        succeed(evaluate(what, &more));
        serde_json::from_str(&std::fs::read_to_string(save).expect("a file")).expect("JSON")
    };
    let found = json("preferences", &["--adapter", &policy]);
    assert_eq!(found["pairs"], 20);
    let accuracy = |key: &str| found["accuracy"][key]["accuracy"]["mean"].as_f64().expect("a share");
    // The DPO run saw 16 of the 20.
    assert!(accuracy("implicit_reward") > 0.7, "{found}");
    let difference = &found["differences"][0];
    let of = difference["difference"]["accuracy"]["mean"].as_f64().expect("a difference");
    assert!((of - (accuracy("implicit_reward") - accuracy("base_log_probability"))).abs() < 1e-9, "{found}");
    let alone = json("preferences", &[]);
    assert_eq!(alone["accuracy"]["base_log_probability"], found["accuracy"]["base_log_probability"]);
    assert!(alone["accuracy"]["implicit_reward"].is_null());
    // Only what that training held out.
    let held_out = json("preferences", &["--held-out-share", "0.2", "--reward-model", &judge]);
    assert!(held_out["pairs"].as_u64().is_some_and(|pairs| (1..10).contains(&pairs)), "{held_out}");
    assert!(held_out["calibration"]["brier"].is_number());
    let text = succeed(evaluate("preferences", &["--adapter", &policy]));
    assert!(text.contains("| policy against base (implicit reward) | 20 |"), "{text}");
    let wins = ["--adapter", &policy, "--judge-model", &judge, "--max-tokens", "5", "--answers", "2"];
    let found = json("wins", &[&wins[..], &["--against", "base"]].concat());
    assert_eq!(found["wins"]["prompts"], 20);
    let count = |key: &str| found["wins"][key].as_u64().expect("a number");
    assert_eq!(count("wins") + count("ties") + count("losses"), 40);
    assert_eq!(json("wins", &[&wins[..], &["--against", "base"]].concat()), found);
    // A model against itself ties everywhere, as both sides sample alike.
    let found = json("wins", &[&wins[..], &["--against", &policy]].concat());
    assert_eq!(found["wins"]["ties"], 40);
    assert_eq!(found["wins"]["rate"]["lower"], 0.5);
    let (code, text) = run(evaluate("wins", &["--judge-model", &judge, "--against", "base"]));
    assert!(code == Some(1) && text.contains("both sides are"), "{text}");
    let (code, text) = run(evaluate("preferences", &["--reward-model", &policy]));
    assert!(code == Some(1) && text.contains("the task type SEQ_CLS"), "{text}");
    // Rewards of the 20 problems, by a field of theirs.
    let problems = place.text("problems.jsonl");
    let save = place.text("rewards.json");
    let rewards = ["evaluate", "rewards", &model, "--data", &problems, "--max-tokens", "4", "--threads", "1"];
    let more = ["--reward", "length:tokens<=4", "--adapter", &policy, "--against", "base", "--by", "answer"];
    let mut program = place.program(&rewards);
    program.args(more).args(["--save", &save]);
    let text = succeed(program);
    assert!(text.contains("| all | 20 | 1.000 (1.000–1.000) | 1.000 (1.000–1.000) | +0.000"), "{text}");
    let found: Value = serde_json::from_str(&std::fs::read_to_string(save).expect("a file")).expect("JSON");
    assert_eq!(found["rows"].as_array().map(Vec::len), Some(21));
    let mut program = place.program(&rewards);
    program.args(["--reward", "number", "--by", "digits"]);
    let (code, text) = run(program);
    // The fields that there are were not named.
    assert!(code == Some(1) && text.contains("--by digits: prompt 1"), "{text}");
    assert!(text.contains("beside the prompt its record has answer"), "{text}");
    let (code, text) = run(evaluate("preferences", &["--reward-model", &policy]));
    assert!(code == Some(1) && text.contains("the task type SEQ_CLS"), "{text}");
}

/// One answer without a reward ended the command, and nothing was measured; it was named by its place among all answers.
#[test]
fn prompts_whose_answers_have_no_reward_are_left_out_and_counted() {
    let place = Place::new();
    let problem = |number: i32| {
        let answer = if number == 2 { "none".to_owned() } else { (number + 1).to_string() };
        json!({"prompt": format!("{number}+1="), "answer": answer, "digits": if number < 3 { 1 } else { 2 }})
    };
    place.write("gaps.jsonl", (0..6).map(problem));
    place.write("none.jsonl", [2, 2].into_iter().map(problem));
    let measure = |data: &str, save: &str| {
        let (model, data, save) = (place.text("model"), place.text(data), place.text(save));
        let mut program = place.program(&["evaluate", "rewards", &model, "--data", &data, "--save", &save]);
        program.args(["--against", "base", "--reward", "number", "--by", "digits", "--answers", "2"]);
        program.args(["--max-tokens", "4", "--threads", "1", "--show", "9"]);
        program
    };
    let text = succeed(measure("gaps.jsonl", "gaps.json"));
    assert!(text.contains("no reward: 1 of 6; the first is prompt 3: "), "{text}");
    assert!(text.contains("`answer` holds no number") && text.matches("--- prompt").count() == 5, "{text}");
    let saved = std::fs::read_to_string(place.path("gaps.json")).expect("a file");
    let found: Value = serde_json::from_str(&saved).expect("JSON");
    assert_eq!(found["left_out"]["prompts"], 1);
    assert_eq!(found["left_out"]["first"]["prompt"], 3);
    let rows = found["rows"].as_array().expect("rows");
    let prompts: Vec<(&str, u64)> = rows
        .iter()
        .map(|row| (row["of"].as_str().expect("a name"), row["prompts"].as_u64().expect("a number")))
        .collect();
    assert_eq!(prompts, [("digits 1", 2), ("digits 2", 3), ("all", 5)]);
    let (code, text) = run(measure("none.jsonl", "none.json"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("each of the 2 prompts") && text.contains("prompt 1: "), "{text}");
    assert!(!place.path("none.json").exists());
}

/// The prompts were heads of all poems, so `runs/poet-rl.sh` trained on heads that it then called held out.
#[test]
fn prompts_for_poems_are_no_heads_of_those_that_are_held_out() {
    let place = Place::new();
    let poem = |number: i32| {
        let lines = [format!("line {number},"), "another".to_owned()];
        json!({"kind": "tang", "title": format!("title{number}"), "author": "poet", "lines": lines})
    };
    place.write("poems.jsonl", (0..1500).map(poem));
    let (poems, model, shards) = (place.text("poems.jsonl"), place.text("model"), place.text("shards"));
    let mut program = place.program(&["tokenize", &poems, "--format", "{title} {lines}", "--out", &shards]);
    program.args(["--identity", "{lines}", "--tokenizer", &model, "--licence", "MIT"]);
    succeed(program);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runs/poem_prompts.py");
    let mut python = Command::new("python3");
    python.arg(script).args(["6000", "0"]).env("PYTHONIOENCODING", "utf-8");
    python.stdin(std::fs::File::open(&poems).expect("a file"));
    let text = succeed(python);
    let prompt = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["prompt"].clone();
    let prompts: Vec<Value> = text.lines().map(prompt).collect();
    let set = zhenjin_corpus::ShardSet::open(&place.path("shards")).expect("shards");
    let held_out: Vec<u64> = (0..set.documents())
        .filter(|number| zhenjin_corpus::is_for_validation(set.content_hash(*number), 0.01))
        .collect();
    assert!(set.documents() == 1500 && !held_out.is_empty());
    for number in 0..1500 {
        let head = json!(format!("唐 title{number}\npoet"));
        assert_eq!(prompts.contains(&head), !held_out.contains(&number), "poem {number}");
    }
}

#[test]
fn full_training_leaves_a_model_that_is_served() {
    let place = Place::new();
    succeed(place.train("sft", "talks.jsonl", "full", &["--full", "--steps", "2"]));
    let last = place.last("full");
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        assert!(last.join(name).is_file(), "{name}");
    }
    let answer = succeed(place.program(&["inspect", last.to_str().expect("a path"), "--json"]));
    assert!(answer.contains("\"architecture\""), "{answer}");
    let chat =
        ["chat", last.to_str().expect("a path"), "-p", "say 3", "--max-tokens", "4", "--temperature", "0"];
    succeed(place.program(&chat));
}

/// What a model was trained with is what it is served with, down to the ends of lines.
#[test]
fn the_chat_template_travels_with_what_was_trained_byte_for_byte() {
    const NAME: &str = "chat_template.jinja";
    let place = Place::new();
    let template = format!("{{# 模板 \t \r\n\n  #}}{}", tiny_model::TEMPLATE);
    std::fs::write(place.path("model").join(NAME), &template).expect("a file");
    let [model, gguf, merged] = ["model", "model.gguf", "merged"].map(|name| place.text(name));
    succeed(place.program(&["export", &model, "--to", "gguf", &gguf]));
    let full = ["--full", "--steps", "1"];
    succeed(place.train("sft", "talks.jsonl", "full", &full));
    succeed(place.train("reward", "pairs.jsonl", "reward", &full));
    let (talks, out) = (place.text("talks.jsonl"), place.text("of-gguf"));
    let arguments = ["sft", &gguf, "--data", &talks, "--out", &out, "--threads", "1", "--plain"];
    succeed(place.program(&[&arguments[..], &full].concat()));
    for out in ["full", "reward", "of-gguf"] {
        let found = bytes(&place.last(out), NAME);
        assert_eq!(String::from_utf8_lossy(&found), template, "{out}");
    }
    // An adapter has none: it is served with its model's, and merged into weights that have it.
    succeed(place.train("sft", "talks.jsonl", "adapter", &["--steps", "1"]));
    let adapter = place.last("adapter");
    assert!(!adapter.join(NAME).exists());
    let adapter = adapter.to_str().expect("a path");
    succeed(place.program(&["export", &model, "--adapter", adapter, "--to", "hf", &merged]));
    assert_eq!(String::from_utf8_lossy(&bytes(&place.path("merged"), NAME)), template);
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_bits_of_an_undisturbed_one() {
    let place = Place::new();
    for (method, data, more) in [
        ("dpo", "pairs.jsonl", vec!["--steps", "40"]),
        (
            "grpo",
            "problems.jsonl",
            vec!["--steps", "12", "--max-tokens", "8", "--answers", "3", "--reward", "number"],
        ),
    ] {
        let more = [&more[..], &["--set", "intervals.checkpoint=2", "--set", "time=1700000000"]].concat();
        succeed(place.train(method, data, &format!("{method}-whole"), &more));
        let killed = format!("{method}-killed");
        let mut program = place.train(method, data, &killed, &more);
        let mut child: Child =
            program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
        let first = place.path(&killed).join("checkpoints").join("step-00000002");
        let started = std::time::Instant::now();
        while !first.exists() && child.try_wait().expect("a process").is_none() {
            assert!(started.elapsed().as_secs() < 60, "no checkpoint appears");
            std::thread::yield_now();
        }
        child.kill().expect("a process");
        child.wait().expect("a process");
        let text = succeed(place.train(method, data, &killed, &[&more[..], &["--resume", "auto"]].concat()));
        assert!(text.contains("going on from"), "{text}");
        for name in ["adapter_model.safetensors", "optimiser.safetensors"] {
            let whole = bytes(&place.last(&format!("{method}-whole")), name);
            assert!(bytes(&place.last(&killed), name) == whole, "{method}: {name}");
        }
    }
}

#[test]
fn thumbs_of_which_one_kind_is_rare_are_told_with_the_weights_that_even_them_out() {
    let place = Place::new();
    let thumb = |number: i32| json!({"prompt": format!("say {number}"), "completion": format!("{number}"), "label": number % 10 == 0});
    place.write("rare.jsonl", (0..40).map(thumb));
    let held_out = place.text("thumbs.jsonl");
    let all = ["--held-out", &held_out, "--steps", "1"];
    let text = succeed(place.train("kto", "rare.jsonl", "rare", &all));
    assert!(text.contains("4 answers are liked and 36 are not"), "{text}");
    assert!(text.contains("judged.liked_weight=5.000 --set judged.disliked_weight=0.556"), "{text}");
    let even = ["--set", "judged.liked_weight=5", "--set", "judged.disliked_weight=0.556"];
    let text = succeed(place.train("kto", "rare.jsonl", "even", &[&all[..], &even].concat()));
    assert!(!text.contains("outweighs"), "{text}");
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    let place = Place::new();
    std::fs::write(
        place.path("broken.jsonl"),
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": \"\"}]}\n",
    )
    .expect("a file");
    std::fs::write(place.path("empty.jsonl"), "").expect("a file");
    std::fs::write(place.path("lines.jsonl"), "\n \n\n").expect("a file");
    let lines = place.text("lines.jsonl");
    for (method, data, more, expected, code) in [
        // A file without records was once not named.
        ("sft", "empty.jsonl", vec![], "empty.jsonl holds no records", 1),
        ("dpo", "lines.jsonl", vec![], "lines.jsonl holds no records", 1),
        ("grpo", "lines.jsonl", vec!["--reward", "number"], "lines.jsonl holds no records", 1),
        ("sft", "talks.jsonl", vec!["--held-out", &lines], "lines.jsonl holds no records", 1),
        ("sft", "talks.jsonl", vec!["--anchor", &lines], "lines.jsonl: it has no text", 1),
        // Both were accepted and had no effect.
        ("sft", "talks.jsonl", vec!["--held-out", &lines, "--held-out-share", "0.1"], "--held-out-share", 2),
        ("dpo", "pairs.jsonl", vec!["--learn", "last"], "--learn last", 1),
        ("grpo", "problems.jsonl", vec!["--reward", "number", "--learn", "last"], "--learn last", 1),
        ("sft", "broken.jsonl", vec!["--bad", "drop"], "all 1 records are bad, such as", 1),
        // Where nothing was left, the error was once about the number of steps.
        ("sft", "talks.jsonl", vec!["--context", "4", "--overlong", "drop"], "are too long for 4 tokens", 1),
        (
            "sft",
            "talks.jsonl",
            vec!["--set", "tuning.projections=mlp"],
            "`tuning.projections` takes no such value",
            2,
        ),
        ("sft", "talks.jsonl", vec!["--set", "preference.beta=1"], "preference.beta", 2),
        ("sft", "talks.jsonl", vec!["--set", "optimiser.learning_rate=1e6"], "optimiser.learning_rate", 2),
        ("sft", "broken.jsonl", vec![], "broken.jsonl:1", 1),
        ("dpo", "talks.jsonl", vec![], "talks.jsonl", 1),
        ("grpo", "problems.jsonl", vec!["--reward", "nubmer"], "number", 1),
        ("grpo", "problems.jsonl", vec!["--reward", "number", "--max-tokens", "100000"], "tokens", 1),
        ("ppo", "pairs.jsonl", vec!["--reward-model", "/nonexistent"], "is no reward model", 1),
        ("sft", "talks.jsonl", vec!["--adapter", "/nonexistent"], "/nonexistent", 1),
    ] {
        let (found, text) = run(place.train(method, data, &format!("{method}-{code}-x"), &more));
        assert_eq!(found, Some(code), "{method} {more:?}: {text}");
        assert!(text.contains(expected), "{method} {more:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    // A run is never overwritten.
    succeed(place.train("sft", "talks.jsonl", "sft", &["--steps", "1"]));
    let (code, text) = run(place.train("sft", "talks.jsonl", "sft", &["--steps", "1"]));
    assert!(code == Some(1) && text.contains("--resume auto"), "{text}");
}

/// `transformers` pads a batch with the token of the tokenizer's files, and looks for the last token that is not the configuration's.
#[test]
fn a_whole_reward_model_names_one_token_for_padding_that_no_example_has() {
    let place = Place::new();
    // Ends turns, as that of many chat models.
    let settings = place.path("model").join("tokenizer_config.json");
    let mut own: Value = serde_json::from_slice(&std::fs::read(&settings).unwrap()).unwrap();
    own["pad_token"] = own["eos_token"].clone();
    std::fs::write(&settings, own.to_string()).unwrap();
    succeed(place.train("reward", "pairs.jsonl", "whole", &["--steps", "1", "--full"]));
    let last = place.last("whole");
    let json = |name: &str| -> Value { serde_json::from_slice(&bytes(&last, name)).unwrap() };
    let (config, tokenizer) = (json("config.json"), json("tokenizer.json"));
    let name = json("tokenizer_config.json")["pad_token"].as_str().expect("a token").to_owned();
    let added = tokenizer["added_tokens"].as_array().expect("control tokens");
    let padding = added.iter().find(|token| token["content"] == name.as_str()).expect("a control token");
    assert_eq!(padding["id"], config["pad_token_id"], "{name}");
    let shown = succeed(place.program(&[
        "data",
        "show",
        &place.text("pairs.jsonl"),
        "--model",
        &place.text("model"),
    ]));
    assert!(!shown.contains(&name), "{name} is in the examples: {shown}");
}

/// A kept step as a file, of the documents that are given as tokens.
fn kept_step(place: &Place, name: &str, step: u64, more: &Value) -> String {
    let mut kept = json!({
        "step": step,
        "fault": format!("step {step}: the loss is NaN"),
        "checkpoint": null,
        "documents": [{"example": 0, "tokens": [72, 69, 80, 80], "targets": [null, null, 80, 83]}],
    });
    let fields = kept.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    std::fs::write(place.path(name), kept.to_string()).expect("a file");
    place.text(name)
}

fn replay(place: &Place, method: &str, model: &str, out: &str, file: &str, more: &[&str]) -> Command {
    let (model, out) = (place.text(model), place.text(out));
    let mut program = place.program(&[method, &model, "--out", &out, "--threads", "1", "--replay", file]);
    program.args(more);
    program
}

/// A replay took the weights that the run begins with where none were named, whatever checkpoint its file names; it asked for the anchor's text,
/// which it does not read; and it took any model whose shapes fit.
#[test]
fn a_kept_step_is_computed_with_the_checkpoint_that_it_names() {
    let place = Place::new();
    std::fs::write(place.path("anchor.txt"), "hello there, all of you\n").expect("a file");
    let anchor = place.text("anchor.txt");
    succeed(place.train("sft", "talks.jsonl", "sft", &["--steps", "2", "--anchor", &anchor]));
    let checkpoint = json!({ "checkpoint": place.last("sft") });
    let file = kept_step(&place, "kept.json", 3, &checkpoint);
    let text = succeed(replay(&place, "sft", "model", "sft", &file, &[]));
    assert!(text.contains("now, with the weights after step 2, of "), "{text}");
    assert!(
        text.contains("the mean of −log-probability is ") && !text.contains("note: the step was"),
        "{text}"
    );
    // What was not computed again cannot be called finite.
    assert!(text.contains("it cannot be told where the number came from"), "{text}");
    // The folder was moved.
    let moved = kept_step(&place, "moved.json", 3, &json!({ "checkpoint": "elsewhere/step-00000002" }));
    let text = succeed(replay(&place, "sft", "model", "sft", &moved, &[]));
    assert!(text.contains("now, with the weights after step 2, of "), "{text}");
    let gone = kept_step(&place, "gone.json", 3, &json!({ "checkpoint": "elsewhere/step-00000077" }));
    let text = succeed(replay(&place, "sft", "model", "sft", &gone, &[]));
    assert!(
        text.contains("which is not there any more") && text.contains("that the run begins with"),
        "{text}"
    );
    assert!(text.contains("note: the step was made with the weights after step 2"), "{text}");
    let later = kept_step(&place, "later.json", 9, &checkpoint);
    let text = succeed(replay(&place, "sft", "model", "sft", &later, &[]));
    assert!(text.contains("with the weights after step 8, and these are those after step 2"), "{text}");
    tiny_model::write_tiny_model(&place.path("other"), FloatType::Bf16);
    let (code, text) = run(replay(&place, "sft", "other", "sft", &file, &[]));
    assert!(code == Some(1) && text.contains("the step was made with another model"), "{text}");
    let (code, text) = run(replay(&place, "dpo", "model", "sft", &file, &[]));
    assert!(code == Some(1) && text.contains("give --replay to `zhenjin sft`"), "{text}");
    let (code, text) = run(replay(&place, "sft", "model", "sft", &file, &["--dry-run"]));
    assert!(code == Some(1) && text.contains("give one of the two"), "{text}");
}

/// Numbers of critics and reward models were looked for in the scores of tokens, and called finite.
#[test]
fn a_kept_step_of_values_is_computed_by_values() {
    let place = Place::new();
    succeed(place.train("reward", "pairs.jsonl", "reward", &["--steps", "1"]));
    let checkpoint = json!({ "checkpoint": place.last("reward") });
    let file = kept_step(&place, "kept.json", 2, &checkpoint);
    let text = succeed(replay(&place, "reward", "model", "reward", &file, &[]));
    assert!(text.contains("the mean of the values is "), "{text}");
    let reward = ["--reward", "number", "--max-tokens", "4"];
    let more = [&reward[..], &["--steps", "1", "--answers", "2"]].concat();
    for (out, full) in [("ppo", &[][..]), ("ppo-full", &["--full"][..])] {
        succeed(place.train("ppo", "problems.jsonl", out, &[&more[..], full].concat()));
        let of_critic = json!({ "checkpoint": place.last(out), "model": "critic" });
        let file = kept_step(&place, "critic.json", 2, &of_critic);
        let text = succeed(replay(&place, "ppo", "model", out, &file, &reward));
        assert!(text.contains("the mean of the values is "), "{text}");
        let of_policy = json!({ "checkpoint": place.last(out), "model": "policy" });
        let file = kept_step(&place, "policy.json", 2, &of_policy);
        let text = succeed(replay(&place, "ppo", "model", out, &file, &reward));
        assert!(text.contains("the mean of −log-probability is "), "{text}");
    }
    let nowhere = kept_step(&place, "nowhere.json", 1, &json!({ "model": "critic" }));
    let (code, text) = run(replay(&place, "ppo", "model", "ppo", &nowhere, &reward));
    assert!(code == Some(1) && text.contains("it cannot be told where they come from"), "{text}");
    // As earlier versions wrote it.
    let old = json!({ "fault": "step 1: the norm of the critic's gradient is inf, in the examples [0]" });
    let old = kept_step(&place, "old.json", 1, &old);
    let (code, text) = run(replay(&place, "ppo", "model", "ppo", &old, &reward));
    assert!(code == Some(1) && text.contains("the critic"), "{text}");
}
