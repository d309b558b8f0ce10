//! The scripts of `runs/` at toy size: from nothing to a served answer, to tables of results, and a second time where they were.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs a script, which must succeed; what it printed.
fn script(name: &str, out: &Path, arguments: &[&str]) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../runs").join(name);
    let mut command = Command::new("bash");
    command.arg(path).args(arguments).arg("--out").arg(out);
    command.env("ZHENJIN", env!("CARGO_BIN_EXE_zhenjin")).env("ZHENJIN_HOME", out.join("home"));
    command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
    let output = command.output().expect("bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {stdout}{stderr}");
    format!("{stdout}{stderr}")
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()))
}

fn newest(run: &Path) -> PathBuf {
    let checkpoints = std::fs::read_dir(run.join("checkpoints")).expect("a folder").flatten();
    checkpoints.map(|entry| entry.path()).max().expect("a checkpoint")
}

/// Runs the program, which must fail; what it said.
fn refused(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env_remove("ZHENJIN_LOG").args(arguments).stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn tiny_goes_from_nothing_to_a_report_and_a_served_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let arguments = ["--minutes", "0.03", "--stories", "3000"];
    script("tiny.sh", &out, &arguments);
    let report = std::fs::read_to_string(out.join("run/report.html")).expect("a report");
    assert!(report.contains("<svg") && report.contains("CC0-1.0"));
    let answer = json(&out.join("answer.json"));
    assert_eq!(answer["object"], "text_completion", "{answer}");
    assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
    // Once more: everything is there, and stays as it is.
    let before = newest(&out.join("run"));
    let weights = std::fs::read(before.join("model.safetensors")).expect("weights");
    script("tiny.sh", &out, &arguments);
    assert_eq!(newest(&out.join("run")), before);
    assert!(std::fs::read(before.join("model.safetensors")).expect("weights") == weights);
}

#[test]
fn reason_compares_two_models_that_had_the_same_tokens_on_problems_that_neither_has_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let arguments = ["--minutes", "0.06", "--depth", "1", "--problems", "40"];
    let text = script("reason.sh", &out, &arguments);
    assert!(text.contains("| all | 40 |") && text.contains("worked steps | answers only |"), "{text}");
    assert!(text.contains("None of the questions is among the"), "{text}");
    let results = json(&out.join("results.json"));
    let models = results["models"].as_array().expect("models");
    assert_eq!(models.len(), 2);
    for model in models {
        assert_eq!(model["all"]["problems"], 40, "{model}");
        let kinds: u64 = model["kinds"]
            .as_array()
            .expect("kinds")
            .iter()
            .map(|kind| kind["result"]["problems"].as_u64().expect("a number"))
            .sum();
        assert_eq!(kinds, 40, "{model}");
    }
    let settings = |name: &str| std::fs::read_to_string(out.join(name).join("run.toml")).expect("settings");
    assert_eq!(settings("steps"), settings("answers"));
    // A test that was trained on says nothing, and is refused.
    let model = newest(&out.join("answers"));
    let [model, test] =
        [&model, &out.join("test.jsonl")].map(|path| path.to_str().expect("UTF-8").to_owned());
    let text = refused(&["evaluate", "arithmetic", &model, "--data", &test, "--training", &test]);
    assert!(text.contains("line 1: ") && text.contains("was trained on and is in the test too"), "{text}");
    let before = std::fs::read(out.join("results.json")).expect("results");
    script("reason.sh", &out, &arguments);
    assert!(std::fs::read(out.join("results.json")).expect("results") == before);
}

/// Sentences of words that a counter chooses.
fn sentences(words: &[&str], count: u64) -> String {
    let mut state = 7u64;
    let mut text = String::new();
    for number in 0..count {
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        write!(text, " {number}\n\n").expect("a string");
    }
    text
}

#[test]
fn bilingual_compares_bits_per_byte_of_equal_bytes_and_equal_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let chinese = sentences(&["明月", "春風", "青山", "白雲", "流水", "落花", "，"], 2000);
    let english = sentences(&["the moon ", "a river ", "old wine ", "runs ", "over ", "white "], 800);
    std::fs::write(path("chinese.txt"), &chinese).expect("a file");
    std::fs::write(path("english.txt"), &english).expect("a file");
    let out = folder.path().join("out");
    let (chinese, english) = (path("chinese.txt"), path("english.txt"));
    let arguments = [&chinese, &english, "--minutes", "0.15", "--depth", "1", "--vocabulary", "400"];
    let text = script("bilingual.sh", &out, &arguments);
    assert!(text.contains("| chinese |") && text.contains("| english |"), "{text}");
    let [first, second] =
        ["chinese", "english"].map(|name| json(&out.join(format!("{name}.json")))["bytes"].as_f64());
    let ratio = first.expect("bytes") / second.expect("bytes");
    assert!((0.99..1.01).contains(&ratio), "{ratio}");
    let results = json(&out.join("results.json"));
    for name in ["chinese-chinese", "both-both-chinese", "both-twice-both-english", "english-english"] {
        let bits = results[format!("bits-{name}")]["bits_per_byte"].as_f64();
        assert!(bits.is_some_and(|bits| (0.01..9.0).contains(&bits)), "{name}: {results}");
    }
    // The same documents are held out, whatever tokenizer cut them.
    let documents = |name: &str| results[format!("bits-{name}")]["held_out_documents"].clone();
    assert_eq!(documents("chinese-chinese"), documents("both-both-chinese"));
    let settings = |name: &str| std::fs::read_to_string(out.join(name).join("run.toml")).expect("settings");
    assert_eq!(settings("both"), settings("chinese"));
    assert_eq!(settings("both"), settings("english"));
    // A document with more windows than the engine takes requests at once was refused.
    std::fs::write(path("long.txt"), sentences(&["明月", "春風"], 600).replace("\n\n", "\n"))
        .expect("a file");
    let [model, tokenizer] = [newest(&out.join("chinese")), out.join("tokenizer-chinese")];
    for arguments in [
        [Path::new("tokenize"), Path::new(&path("long.txt")), Path::new("--tokenizer"), &tokenizer].to_vec(),
        [Path::new("evaluate"), Path::new("text"), &model, Path::new("--validation-share=0.999")].to_vec(),
    ] {
        let option = if arguments[0] == Path::new("tokenize") { "--out" } else { "--data" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        command.args(arguments).arg(option).arg(path("long")).stdin(Stdio::null());
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Shards of another tokenizer are nothing that a model could be measured on.
    let model = newest(&out.join("chinese"));
    let [model, shards] =
        [&model, &out.join("shards-both-chinese")].map(|path| path.to_str().expect("UTF-8").to_owned());
    let text = refused(&["evaluate", "text", &model, "--data", &shards]);
    assert!(text.contains("made by another tokenizer"), "{text}");
}
