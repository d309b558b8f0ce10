//! `zhenjin data check` and `zhenjin data show` as people run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::tiny_model;
use serde_json::{Value, json};
use zhenjin_model::write::FloatType;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with a tiny model.
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.path("model"), FloatType::F32);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, records: &[Value]) -> PathBuf {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        std::fs::write(self.path(name), lines.join("\n")).expect("a file");
        self.path(name)
    }

    fn run(&self, command: &str, file: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG").env_remove("NO_COLOR");
        program.stdin(Stdio::null()).args(["data", command]).arg(file).args(arguments);
        let Output { status, stdout, stderr } = program.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    fn model(&self) -> String {
        self.path("model").to_str().expect("a path").to_owned()
    }
}

fn talk(question: &str, answer: &str) -> Value {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], "id": 1})
}

#[test]
fn a_check_counts_what_a_file_holds() {
    let place = Place::new();
    let long = "a long question about the weather in the mountains and what to take along. ".repeat(3);
    let records = [
        talk("hello", "hell"),
        talk("hello", "hell"),
        talk(&long, "a coat"),
        talk(&long.to_uppercase(), "a coat"),
        talk("天气如何？", "晴。"),
        talk("x", ""),
    ];
    let file = place.write("talk.jsonl", &records);
    let test = place.write("test.jsonl", &[talk("天气如何？", "雨。"), talk("hello", "hell")]);
    let test = test.to_str().expect("a path");
    let model = place.model();
    let arguments = ["--model", &model, "--context", "100", "--against", test, "--json"];
    let (code, stdout, stderr) = place.run("check", &file, &arguments);
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["kinds"], json!({"conversations": 5}));
    assert_eq!(report["roles"], json!({"assistant": 5, "user": 5}));
    assert_eq!(report["duplicates"]["count"], 1);
    assert_eq!(report["near_duplicates"]["count"], 1);
    assert_eq!(report["bad"]["empty_answer"]["count"], 1);
    assert_eq!(report["bad"]["empty_answer"]["first"]["line"], 6);
    assert_eq!(report["leaks"]["examples"]["count"], 2);
    assert_eq!(report["leaks"]["questions"]["count"], 3);
    // Of the good records.
    assert_eq!(report["unread_fields"], json!({"id": 5}));
    // <|im_start|> hell o <|im_end|> <|im_start|> hell <|im_end|>
    assert_eq!(report["tokens"]["lengths"]["least"], 7);
    assert_eq!(report["tokens"]["learnt"]["least"], 2);
    assert_eq!(report["tokens"]["too_long"], 2);
    let (code, stdout, _) = place.run("check", &file, &["--model", &model]);
    assert_eq!(code, Some(0));
    for expected in
        ["5 conversations", "empty answer: 1", "talk.jsonl:6", "the same as an earlier example: 1"]
    {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
}

#[test]
fn wrong_files_are_errors_that_name_the_line() {
    let place = Place::new();
    let unknown = place.write("unknown.jsonl", &[json!({"mesages": []})]);
    let broken = place.write("broken.jsonl", &[talk("a", " "), talk("b", ""), json!(5)]);
    for (file, expected) in [
        (unknown, "did you mean `messages`"),
        (broken, "by kind: 1 no record, 2 empty answer"),
        (place.path("missing.jsonl"), "cannot read"),
        (place.path("model"), "it is a folder"),
    ] {
        let (code, stdout, stderr) = place.run("check", &file, &[]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(expected), "{stderr}");
    }
}

/// One record of another format once hid the whole file, and bad records of the files beside it were not told.
#[test]
fn a_check_counts_records_of_other_formats_and_bad_ones_of_the_other_files() {
    let place = Place::new();
    let pair = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let records = [pair, talk("a", "b"), json!({"mesages": []}), talk("c", "d")];
    let mixed = place.write("mixed.jsonl", &records);
    let test = place.write("test.jsonl", &[talk("a", "b"), talk("x", "")]);
    let against = ["--against", test.to_str().expect("a path")];
    let (code, stdout, stderr) = place.run("check", &mixed, &[&against[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["kinds"], json!({"conversations": 2}));
    for (kind, line) in [("other_format", 1), ("unrecognised", 3)] {
        let bad = &report["bad"][kind];
        assert_eq!((&bad["count"], &bad["first"]["line"]), (&json!(1), &json!(line)), "{report}");
    }
    assert_eq!(report["leaks"]["against"], 1);
    assert_eq!(report["leaks"]["examples"]["count"], 1);
    assert_eq!(report["leaks"]["bad"]["empty_answer"]["first"]["line"], 2);
    let (_, stdout, _) = place.run("check", &mixed, &against);
    for expected in [
        "4 records, the good ones each a conversation (messages)",
        "of another format: 1",
        "did you mean `messages`",
        "bad records of the other files, with which nothing is compared: 1",
        "test.jsonl:2",
    ] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    // Scores have no effect, and that is said.
    let scored = json!({"prompt": "a", "chosen": "b", "rejected": "c", "chosen_score": 90});
    let scored = place.write("scored.jsonl", &[scored]);
    let (_, stdout, _) = place.run("check", &scored, &[]);
    assert!(stdout.contains("fields without effect:\n  chosen_score: 1"), "{stdout}");
}

/// Names of fields and reasons that have them steered the terminal.
#[test]
fn what_files_hold_does_not_steer_the_terminal() {
    let place = Place::new();
    let mut field = talk("a", "b");
    field["\u{1b}[2J\u{202e}field"] = json!(1);
    let bad = json!({"\u{1b}[2J\u{9b}messages": []});
    let file = place.write("steering.jsonl", &[field, talk("c", "d"), bad]);
    let (code, stdout, stderr) = place.run("check", &file, &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("\u{FFFD}[2J\u{FFFD}field: 1"), "{stdout}");
    let steers = |text: &str| text.contains(['\u{1b}', '\u{202e}', '\u{9b}']);
    assert!(!steers(&stdout) && !steers(&stderr), "{stdout:?} {stderr:?}");
    let (file, out) = (file.to_str().expect("a path"), place.path("out"));
    let out = out.to_str().expect("a path");
    let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    program.env("ZHENJIN_HOME", place.folder.path()).env_remove("ZHENJIN_LOG").stdin(Stdio::null());
    program.args(["sft", &place.model(), "--data", file, "--bad", "drop", "--out", out, "--steps", "1"]);
    program.args(["--held-out-share", "0", "--threads", "1", "--plain"]);
    let Output { status, stderr, .. } = program.output().expect("the program starts");
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("the field `\u{FFFD}[2J\u{FFFD}field` of 1 records"), "{stderr}");
    assert!(!steers(&stderr), "{stderr:?}");
}

/// One long system message made all questions nearly the same, another one made the same question another, and a field that stands twice was
/// read as its last value.
#[test]
fn a_check_compares_questions_alone_and_names_what_stands_twice() {
    let place = Place::new();
    let long = "You are a careful and friendly assistant, and you never invent anything. ".repeat(4);
    let under = |system: &str, question: &str| {
        let system = json!({"role": "system", "content": system});
        json!({"messages": [system, {"role": "user", "content": question}, {"role": "assistant", "content": "b"}]})
    };
    let records = [under(&long, "Who wrote Faust?"), under(&long, "How tall is Everest?")];
    let file = place.write("talk.jsonl", &records);
    let test =
        place.write("test.jsonl", &[under(&long, "Why is the sky blue?"), talk("Who wrote Faust?", "c")]);
    let against = ["--against", test.to_str().expect("a path")];
    let (code, stdout, stderr) = place.run("check", &file, &against);
    assert_eq!(code, Some(0), "{stderr}");
    for expected in ["there with the same question: 1 ", "there with nearly the same question: 0\n"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
    let twice = place.path("twice.jsonl");
    let text =
        format!("{}\n{{\"prompt\": \"a\", \"completion\": \"b\", \"prompt\": \"c\"}}\n", talk("a", "b"));
    std::fs::write(&twice, text).expect("a file");
    let (_, stdout, _) = place.run("check", &twice, &[]);
    for expected in ["twice.jsonl:2", "the field `prompt` stands twice in one object"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
}

#[test]
fn the_tokens_of_an_example_are_shown_with_marks() {
    let place = Place::new();
    let file = place.write("talk.jsonl", &[talk("hello\n", "hell 好")]);
    let model = place.model();
    let (code, stdout, stderr) = place.run("show", &file, &["--model", &model]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.ends_with("‹<|im_start|>›|hell|o|↵\n|‹<|im_end|>›|‹<|im_start|>›⟦hell| |好₃|‹<|im_end|>›⟧\n"),
        "{stdout}"
    );
    assert!(!stdout.contains('\u{1b}'), "no colours in a pipe: {stdout:?}");
    let (_, stdout, _) = place.run("show", &file, &["--model", &model, "--json"]);
    let shown: Value = serde_json::from_str(&stdout).expect("JSON");
    let tokens = shown["parts"][0]["tokens"].as_array().expect("tokens");
    assert_eq!(
        (tokens.len(), &tokens[1]),
        (12, &json!({"id": 258, "text": "hell", "learnt": false, "control": false}))
    );
    let (code, _, stderr) = place.run("show", &file, &["--model", &model, "--index", "1"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("there is no example 1; it has 1 good ones"), "{stderr}");
}

/// Regression: to show a conversation of very many turns, every answer was encoded with all that was said before it.
#[test]
fn a_long_conversation_is_shown_up_to_the_models_context() {
    let place = Place::new();
    let turn = |number: usize| {
        let said = |role: &str, what: &str| json!({"role": role, "content": format!("{what} {number}")});
        [said("user", "a question"), said("assistant", "an answer")]
    };
    let messages: Vec<Value> = (0..2_000).flat_map(turn).collect();
    let file = place.write("long.jsonl", &[json!({ "messages": messages })]);
    let model = place.model();
    let (code, stdout, stderr) = place.run("show", &file, &["--model", &model]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("more answers are not encoded"), "{}", stdout.len());
    let (_, stdout, _) = place.run("show", &file, &["--model", &model, "--json"]);
    let shown: Value = serde_json::from_str(&stdout).expect("JSON");
    let tokens = shown["parts"][0]["tokens"].as_array().expect("tokens").len();
    // The test's model has a context of 512 tokens.
    assert!((512..512 + 200).contains(&tokens), "{tokens}");
    assert!(shown["answers_not_shown"].as_u64().is_some_and(|count| count > 1_500));
    assert_eq!(shown["parts"][0]["tokens_not_shown"], 0);
}

/// Regression: the line was there only where answers were left unread, and so for none of these.
#[test]
fn examples_longer_than_the_models_context_are_counted_whatever_is_long_in_them() {
    let place = Place::new();
    let model = place.model();
    let long = "word ".repeat(600);
    let pair = json!({"prompt": long, "chosen": "a", "rejected": "b"});
    for (name, record) in [
        ("question.jsonl", talk(&long, "short")),
        ("answer.jsonl", talk("short", &long)),
        ("pair.jsonl", pair),
        ("prompt.jsonl", json!({"prompt": long, "answer": "4"})),
    ] {
        let (code, stdout, stderr) = place.run("check", &place.write(name, &[record]), &["--model", &model]);
        assert_eq!(code, Some(0), "{stderr}");
        let line = "examples that are longer than the model's context of 512 tokens: 1\n";
        assert!(stdout.contains(line), "{name}: {stdout}");
    }
    let short = place.write("short.jsonl", &[talk("short", "short")]);
    let (_, stdout, _) = place.run("check", &short, &["--model", &model]);
    assert!(!stdout.contains("longer than the model's context"), "{stdout}");
}

/// Regression: of a file without records, lengths "0 to 0, median 0" were told.
#[test]
fn of_a_file_without_records_no_lengths_are_told() {
    let place = Place::new();
    let file = place.path("blank.jsonl");
    std::fs::write(&file, "\n \n\n").expect("a file");
    let model = place.model();
    let with_model = ["--model", &model];
    for arguments in [&with_model[..0], &with_model[..]] {
        let (_, stdout, stderr) = place.run("check", &file, arguments);
        assert!((stdout.clone() + &stderr).contains("no records"), "{stdout}{stderr}");
        assert!(!stdout.contains("median") && !stdout.contains("messages:"), "{stdout}");
    }
}
