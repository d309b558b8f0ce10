//! `zhenjin pretrain` on text: tokenizer and shards are made in the run's folder, once.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shards::TINY;

fn pretrain(data: &Path, out: &Path, options: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env_remove("ZHENJIN_LOG").stdin(Stdio::null());
    command
        .args(["pretrain", "--sample-tokens", "4", "--data"])
        .arg(data)
        .arg("--out")
        .arg(out)
        .args(options);
    let output = command.output().expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn tiny() -> Vec<&'static str> {
    let mut options = vec!["--depth", "1"];
    TINY.iter().chain(&["schedule.steps=4"]).for_each(|setting| options.extend(["--set", setting]));
    options
}

/// Numbered lines of JSON, all different.
fn poems(count: usize) -> String {
    (0..count)
        .map(|number| {
            format!("{{\"title\": \"春夜{number}\", \"lines\": [\"明月{number}\", \"流水 the moon\"]}}\n")
        })
        .collect()
}

#[test]
fn a_folder_of_text_is_enough_and_is_tokenised_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, out] = ["poems", "out"].map(|name| folder.path().join(name));
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("a.jsonl"), poems(300)).expect("a file");
    std::fs::write(data.join("chat_template.jinja"), "not a text").expect("a file");
    // The field `text` is what is looked for without a format, and what there is, is said.
    let (code, text) = pretrain(&data, &out, &tiny());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("`text` is missing (there are lines, title)"), "{text}");
    let format = ["--format", "<|title|>{title}<|lines|>{lines}"];
    let (code, text) = pretrain(&data, &out, &[&tiny()[..], &format].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("training a tokenizer") && text.contains("300 documents"), "{text}");
    let tokenizer = std::fs::read_to_string(out.join("tokenizer.json")).expect("a tokenizer");
    assert!(tokenizer.contains("<|title|>") && tokenizer.contains("<|lines|>"));
    // A second start, and one that goes on, find them.
    let resume = ["--resume", "auto"];
    let (code, text) = pretrain(&data, &out, &[&format[..], &resume].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("training a tokenizer") && text.contains("as they were made before"), "{text}");
    // A run goes on with the data that it began with, or not at all.
    std::fs::write(data.join("a.jsonl"), poems(301)).expect("a file");
    let (code, text) = pretrain(&data, &out, &[&format[..], &resume].concat());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not those that the run began with"), "{text}");
    std::fs::write(data.join("a.jsonl"), poems(300)).expect("a file");
    let (code, text) = pretrain(&data, &out, &[&format[..], &resume].concat());
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn data_of_a_run_that_did_not_begin_is_made_again_when_the_text_has_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, out] = ["text.txt", "out"].map(|name| folder.path().join(name));
    std::fs::write(&data, "明月 the moon\n".repeat(50)).expect("a file");
    // Too little for one batch: nothing begins, but the data is there.
    let (code, text) = pretrain(&data, &out, &[&tiny()[..], &["--set", "batch.micro_batches=4096"]].concat());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("one step takes"), "{text}");
    let longer: String = (0..400).map(|number| format!("{number}: 明月 the moon, 流水 a river\n")).collect();
    std::fs::write(&data, longer).expect("a file");
    let (code, text) = pretrain(&data, &out, &[&tiny()[..], &["--split", "line"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("training a tokenizer") && text.contains("400 documents"), "{text}");
}

/// Regression: a path that is not UTF-8 was refused after all work on the text was done.
#[cfg(unix)]
#[test]
fn a_path_of_data_may_be_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    let (data, out) = (path(b"d\xE9"), path(b"out"));
    let (code, text) = pretrain(&data, &path(b"o\xFF"), &tiny());
    assert!(code == Some(1) && text.contains("the name must be UTF-8"), "{text}");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::write(data.join("a.jsonl"), poems(300)).expect("a file");
    let format = ["--format", "<|title|>{title}<|lines|>{lines}"];
    let (code, text) = pretrain(&data, &out, &[&tiny()[..], &format].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(out.join("run.toml").is_file() && out.join("data/shards").is_dir());
}

/// Regression: the pointer was read as JSON, and its first character was to blame.
#[test]
fn a_git_lfs_pointer_in_place_of_the_tokenizer_says_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, tokenizer] = ["a.txt", "tokenizer.json"].map(|name| folder.path().join(name));
    std::fs::write(&data, "a b c").expect("a file");
    std::fs::write(&tokenizer, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        .expect("a file");
    let tokenizer = tokenizer.to_str().expect("a name in UTF-8");
    let (code, text) = pretrain(&data, &folder.path().join("out"), &["--tokenizer", tokenizer]);
    assert!(code == Some(1) && text.contains("Git LFS pointer") && text.contains("12345 bytes"), "{text}");
}

#[test]
fn what_is_neither_text_nor_shards_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let out = path("out");
    let refused = |data: &Path, options: &[&str], reason: &str| {
        let (code, text) = pretrain(data, &out, &[&tiny()[..], options].concat());
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(reason), "{reason} in {text}");
        assert!(!out.join("run.toml").exists() && !out.join("checkpoints").exists(), "{text}");
    };
    refused(&path("missing"), &[], "there is no such file or folder");
    std::fs::create_dir(path("empty")).expect("a folder");
    refused(&path("empty"), &[], "no file in it ends in .txt");
    std::fs::write(path("empty.txt"), "").expect("a file");
    refused(&path("empty.txt"), &[], "there is not one document");
    std::fs::write(path("binary.txt"), [0xFFu8, 0xFE, 0, 1].repeat(1000)).expect("a file");
    refused(&path("binary.txt"), &[], "it is not UTF-8 text (line 1, byte 1)");
    std::fs::create_dir(path("unfinished")).expect("a folder");
    std::fs::write(path("unfinished/inputs.json"), "{}").expect("a file");
    refused(&path("unfinished"), &[], "token shards that were not finished");
    std::fs::write(path("few.txt"), "a b c").expect("a file");
    refused(&path("few.txt"), &["--set", "data.validation_share=0"], "fewer than one sequence");
    let (code, text) = pretrain(folder.path(), &folder.path().join("inside"), &tiny());
    assert!(code == Some(1) && text.contains("lies inside its data"), "{text}");
    // A setting that does not exist is refused before the text is read.
    let (code, text) = pretrain(&path("missing"), &out, &["--set", "optimiser.learning_rat=1"]);
    assert!(code == Some(2) && text.contains("did you mean `optimiser.learning_rate`?"), "{text}");
    // Shards have no format any more.
    let shards = path("out/data/shards");
    refused(&shards, &["--format", "{text}"], "these are token shards already, and --format says");
}
