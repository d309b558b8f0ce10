//! `zhenjin embed` as people and scripts run it: texts from everywhere, the same vectors, and what is refused.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tiny_encoder::{ENCODER_WIDTH, write_tiny_encoder};
use crate::tiny_model::write_tiny_model;
use serde_json::Value;
use zhenjin_model::write::FloatType;

/// Exit code, lines of standard output, standard error.
fn embed(folder: &Path, arguments: &[&str], input: Option<&str>) -> (Option<i32>, Vec<Value>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_zhenjin"))
        .env("ZHENJIN_HOME", folder)
        .env_remove("ZHENJIN_LOG")
        .arg("embed")
        .arg(folder.join("encoder"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // The program may end before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(input.unwrap_or("").as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (output.status.code(), lines, String::from_utf8(output.stderr).expect("UTF-8"))
}

fn vectors(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["embedding"]).collect()
}

#[test]
fn texts_come_from_arguments_lines_and_json_and_give_the_same_vectors() {
    let folder = tempfile::tempdir().expect("a folder");
    write_tiny_encoder(&folder.path().join("encoder"));
    let (code, given, stderr) = embed(folder.path(), &["the cat sat", "dogs"], None);
    assert_eq!((code, given.len(), stderr.as_str()), (Some(0), 2, ""));
    assert_eq!(given[0]["embedding"].as_array().map(Vec::len), Some(ENCODER_WIDTH));
    assert_eq!((&given[0]["tokens"], &given[1]["index"]), (&Value::from(5), &Value::from(1)));
    let file = folder.path().join("texts");
    std::fs::write(&file, "{\"text\": \"the cat sat\", \"id\": 1}\n\"dogs\"\n").expect("a file");
    let jsonl = ["--jsonl", file.to_str().expect("a path")];
    for (arguments, input) in [
        (&[][..], "the cat sat\ndogs"),
        (&["--lines", "-"], "the cat sat\r\ndogs\n"),
        (&jsonl, ""),
        (&["--jsonl", "-", "--field", "body"], "{\"body\": \"the cat sat\"}\n{\"body\": \"dogs\"}\n"),
        (&["--lines", "-", "--threads", "2", "--prompt", "THE "], "cat sat\ndogs\n"),
        (&["--prompt-name", "query"], "cat sat\ndogs\n"),
    ] {
        let (code, lines, stderr) = embed(folder.path(), arguments, Some(input));
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        assert_eq!(vectors(&lines)[0], vectors(&given)[0], "{arguments:?}");
        assert_eq!(
            vectors(&lines)[1] == vectors(&given)[1],
            !arguments.iter().any(|argument| argument.starts_with("--prompt")),
            "{arguments:?}"
        );
    }
    // More texts than are embedded together, with their numbers.
    let many = "the cat sat\n".repeat(600);
    let (_, lines, _) = embed(folder.path(), &[], Some(&many));
    assert_eq!((lines.len(), &lines[599]["index"]), (600, &Value::from(599)));
    assert!(vectors(&lines).iter().all(|vector| *vector == vectors(&given)[0]));
    let (_, short, _) = embed(folder.path(), &["--dimensions", "3", "dogs"], None);
    assert_eq!(short[0]["embedding"].as_array().map(Vec::len), Some(3));
}

/// Regressions: an empty line was no JSON and ended the work, and of the texts before a line that cannot be read the last ones were not written.
#[test]
fn empty_lines_of_json_are_no_texts_and_what_was_read_before_an_error_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    write_tiny_encoder(&folder.path().join("encoder"));
    let (_, expected, _) = embed(folder.path(), &["the cat sat", "dogs"], None);
    let jsonl = ["--jsonl", "-"];
    let input = "\n\"the cat sat\"\n\n \t\r\n{\"text\": \"dogs\"}\n\n";
    let (code, lines, stderr) = embed(folder.path(), &jsonl, Some(input));
    assert_eq!((code, lines.len(), stderr.as_str()), (Some(0), 2, ""));
    assert_eq!(vectors(&lines), vectors(&expected));
    assert_eq!((&lines[0]["index"], &lines[1]["index"]), (&Value::from(0), &Value::from(1)));
    let broken = format!("{input}{{\"text\": 5}}\n\"a\"\n");
    let (code, lines, stderr) = embed(folder.path(), &jsonl, Some(&broken));
    assert_eq!((code, lines.len()), (Some(1), 2), "{stderr}");
    assert_eq!(vectors(&lines), vectors(&expected));
    assert!(stderr.contains("line 7: it is neither a string nor an object"), "{stderr}");
    // In a file of plain lines an empty one is a text.
    let (code, lines, _) = embed(folder.path(), &["--lines", "-"], Some("dogs\n\n"));
    assert_eq!((code, lines.len()), (Some(0), 2));
}

#[test]
fn inspect_says_how_vectors_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let encoder = folder.path().join("encoder");
    write_tiny_encoder(&encoder);
    let run = |option: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        command.env("ZHENJIN_HOME", folder.path()).arg("inspect").arg(&encoder).args(option);
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let said: Value = serde_json::from_str(&run(Some("--json"))).expect("JSON");
    assert_eq!((&said["architecture"], &said["max_tokens"]), (&Value::from("bert"), &Value::from(12)));
    assert_eq!((&said["pooling"][0], &said["normalises"]), (&Value::from("mean"), &Value::from(true)));
    assert_eq!((&said["dimensions"], &said["parameters"]), (&Value::from(32), &Value::from(8528)));
    assert!(run(None).contains("32 values by mean, of unit length"), "{}", run(None));
    assert!(run(None).contains("Prompt query: “the ” before a text"), "{}", run(None));
    assert!(run(Some("--tensors")).contains("embeddings.word_embeddings.weight"));
}

/// Options of models that write were once ignored.
#[test]
fn inspect_refuses_options_that_have_no_effect_on_an_encoder() {
    let folder = tempfile::tempdir().expect("a folder");
    let encoder = folder.path().join("encoder");
    write_tiny_encoder(&encoder);
    let run = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        command.env("ZHENJIN_HOME", folder.path()).arg("inspect").arg(&encoder).args(options);
        let output = command.output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for options in
        [["--context", "64"], ["--memory", "1GiB"], ["--max-batch", "32"], ["--kv-cache-dtype", "int8"]]
    {
        let (code, stderr) = run(&options);
        assert_eq!(code, Some(1), "{options:?}: {stderr}");
        assert!(stderr.contains(&format!("{}: without effect", options[0])), "{options:?}: {stderr}");
    }
    let (_, stderr) = run(&["--max-batch", "4", "--context", "64"]);
    assert!(stderr.contains("--context, --max-batch: without effect"), "{stderr}");
    assert_eq!(run(&["--threads", "1", "--tensors"]).0, Some(0));
}

#[test]
fn what_cannot_be_embedded_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let encoder = folder.path().join("encoder");
    write_tiny_encoder(&encoder);
    let long = format!("{}{}\n", "dogs\n".repeat(300), "cat ".repeat(20));
    for (arguments, input, words) in [
        (&["--lines", "-"][..], long.as_str(), "text 300 has 22 tokens, but the model reads 12 at most"),
        (&["--jsonl", "-"], "\"a\"\n{\"body\": \"b\"}\n", "line 2: it is neither a string nor an object"),
        (&["--jsonl", "-"], "a\n", "line 1"),
        (&["--lines", "/nowhere"], "", "/nowhere"),
        (&["--dimensions", "33", "a"], "", "--dimensions: 33 dimensions were asked for"),
        (
            &["--prompt-name", "passage", "a"],
            "",
            "--prompt-name passage: the model has no prompt of that name; it has query",
        ),
    ] {
        let (code, _, stderr) = embed(folder.path(), arguments, Some(input));
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
    assert_eq!(embed(folder.path(), &["--pooling", "median", "a"], None).0, Some(2));
    // Without sentence-transformers' files, how to pool has to be said.
    let (_, before, _) = embed(folder.path(), &["the cat sat"], None);
    std::fs::remove_file(encoder.join("modules.json")).expect("a file");
    let (code, _, stderr) = embed(folder.path(), &["the cat sat"], None);
    assert!(code == Some(1) && stderr.contains("--pooling MODE"), "{stderr}");
    let (_, said, _) = embed(folder.path(), &["--pooling", "mean", "--normalise", "the cat sat"], None);
    assert_eq!(vectors(&said), vectors(&before));
    // What is no encoder says what it is.
    std::fs::write(encoder.join("config.json"), r#"{"model_type": "gpt2"}"#).expect("a file");
    let (code, _, stderr) = embed(folder.path(), &["a"], None);
    assert!(code == Some(1) && stderr.contains("`gpt2` is not supported"), "{stderr}");
}

#[test]
fn a_fetched_encoder_is_listed_as_one_and_named_by_its_name() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("models/all-minilm--l6");
    write_tiny_encoder(&folder);
    let manifest = r#"{ "name": "all-minilm:l6", "source": "here", "open": ".", "files": [] }"#;
    std::fs::write(folder.join("model.json"), manifest).expect("a file");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        let output =
            command.env("ZHENJIN_HOME", home.path()).args(arguments).output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (_, listed, _) = run(&["models", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(
        (&listed["here"][0]["name"], &listed["here"][0]["embeds"]),
        (&"all-minilm:l6".into(), &true.into())
    );
    assert!(run(&["models"]).1.contains("(an embedding model: `zhenjin embed`)"));
    assert!(run(&["inspect", "all-minilm:l6"]).1.starts_with("all-minilm:l6 · an embedding model"));
    assert!(run(&["embed", "all-minilm:l6", "the cat"]).1.contains("embedding"));
    for (arguments, words) in [
        (&["chat", "all-minilm:l6", "--prompt", "a"][..], "is an embedding model"),
        (&["bench", "all-minilm:l6"], "is an encoder"),
    ] {
        let (code, _, stderr) = run(arguments);
        assert!(code == Some(1) && stderr.contains(words), "{arguments:?}: {code:?} {stderr}");
    }
    assert_eq!(run(&["rm", "all-minilm:l6"]).0, Some(0));
    assert!(!folder.exists());
}

/// Regressions: how a decoder's hidden states become one vector could not be said for a file that does not say it, and with it nothing told that
/// the file leaves the last token open.
#[test]
fn a_decoder_that_says_no_pooling_embeds_with_the_one_that_is_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model");
    write_tiny_model(&model, FloatType::F32);
    let encoder = folder.path().join("encoder");
    std::fs::create_dir(&encoder).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env("ZHENJIN_HOME", folder.path()).arg("export").arg(&model).args(["--to", "gguf"]);
    let output = command.arg(encoder.join("model.gguf")).output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, _, stderr) = embed(folder.path(), &["hello"], None);
    assert!(code == Some(1) && stderr.contains("--pooling MODE"), "{stderr}");
    let (code, lines, stderr) = embed(folder.path(), &["--pooling", "lasttoken", "hello"], None);
    assert_eq!((code, lines.len()), (Some(0), 1), "{stderr}");
    assert!(stderr.contains("add_eos_token"), "{stderr}");
    let (code, _, stderr) = embed(folder.path(), &["--pooling", "mean", "hello"], None);
    assert!(code == Some(0) && !stderr.contains("add_eos_token"), "{stderr}");
}
