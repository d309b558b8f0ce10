//! `zhenjin tokenizer train` and `zhenjin tokenize` as people run them: results that do not depend on threads or on being
//! killed, and clear errors for bad input.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

fn zhenjin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env_remove("ZHENJIN_LOG").env_remove("ZHENJIN_HOME").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Poems made up from a few words, one JSON object a line.
fn poems(count: u64) -> String {
    let words = ["明月", "春風", "青山", "白雲", "流水", "落花", "the moon", "a river", "old wine", "1234"];
    let mut state = 7u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        words[(state >> 33) as usize % words.len()]
    };
    (0..count)
        .map(|number| {
            let lines: Vec<String> = (0..4).map(|_| [word(), word(), word()].concat() + "。").collect();
            json!({ "title": format!("{}{number}", word()), "lines": lines }).to_string() + "\n"
        })
        .collect()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with poems and a tokenizer for them.
    fn new(count: u64) -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(place.path("poems.jsonl"), poems(count)).expect("a file");
        let (code, stdout, stderr) = run(&mut place.train("tokenizer"));
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn train(&self, out: &str) -> Command {
        let mut command = zhenjin();
        command
            .args(["tokenizer", "train"])
            .arg(self.path("poems.jsonl"))
            .args(["--out".as_ref(), self.path(out).as_os_str()]);
        command.args([
            "--format",
            FORMAT,
            "--special",
            "<|title|>",
            "--special",
            "<|lines|>",
            "--vocabulary",
            "400",
        ]);
        command
    }

    fn tokenize(&self, inputs: &[&str], out: &str) -> Command {
        let mut command = zhenjin();
        command.arg("tokenize").args(inputs.iter().map(|name| self.path(name)));
        command.arg("--tokenizer").arg(self.path("tokenizer")).arg("--out").arg(self.path(out));
        command
    }

    fn tokenize_poems(&self, out: &str) -> Command {
        let mut command = self.tokenize(&["poems.jsonl"], out);
        command.args(["--format", FORMAT, "--shard-tokens", "2000", "--licence", "MIT"]);
        command
    }
}

const FORMAT: &str = "<|title|>{title}<|lines|>{lines}";

/// Every file of a folder but the lock.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let named = entries.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), path));
    named
        .filter(|(name, _)| name != ".lock")
        .map(|(name, path)| (name, std::fs::read(path).expect("a file")))
        .collect()
}

fn ok(command: &mut Command) -> Value {
    let (code, stdout, stderr) = run(command.arg("--json"));
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str(&stdout).expect("one JSON object")
}

fn refused(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.starts_with("zhenjin: ") || stderr.contains("\nzhenjin: "), "{stderr}");
    stderr
}

#[test]
fn the_tokenizer_does_not_depend_on_threads_and_reports_both_languages() {
    let place = Place::new(400);
    let train = |out: &str, threads: &str| {
        ok(place.train(out).env("RAYON_NUM_THREADS", threads).args(["--threads", threads]))
    };
    let report = train("one", "1");
    train("three", "3");
    assert!(contents(&place.path("one")) == contents(&place.path("three")));
    assert!(contents(&place.path("one")) == contents(&place.path("tokenizer")));
    for script in ["chinese", "english"] {
        assert!(report[script]["characters_per_token"].as_f64().is_some_and(|ratio| ratio > 0.5), "{report}");
    }
    assert!(report["round_trip_lines"].as_u64().is_some_and(|lines| lines > 0), "{report}");
    // A limit below the text takes a sample, and says so.
    let sampled = ok(place.train("sampled").args(["--max-text", "8KiB"]));
    assert!(sampled["share"].as_f64().is_some_and(|share| share < 0.9), "{sampled}");
    assert!(sampled["training_bytes"].as_u64().is_some_and(|bytes| bytes <= 8 << 10), "{sampled}");
}

#[test]
fn shards_do_not_depend_on_threads_or_compression_and_a_second_start_does_nothing() {
    let place = Place::new(600);
    let first = ok(place.tokenize_poems("first").args(["--threads", "1"]));
    assert_eq!((first["documents"].as_u64(), first["broken"].as_u64()), (Some(600), Some(0)));
    assert!(first["shards"].as_u64().is_some_and(|shards| shards > 5), "{first}");
    ok(place.tokenize_poems("second").args(["--threads", "3"]));
    let shards = contents(&place.path("first"));
    assert!(shards == contents(&place.path("second")));
    let again = ok(&mut place.tokenize_poems("first"));
    assert_eq!((again["unchanged"].as_bool(), again["documents"].as_u64()), (Some(true), Some(600)));
    // Changed text is not mixed with what is there.
    std::fs::write(place.path("poems.jsonl"), poems(601)).expect("a file");
    let error = refused(&mut place.tokenize_poems("first"));
    assert!(error.contains("already holds shards of other text") && error.contains("--replace"), "{error}");
    assert!(shards == contents_without_state(&place.path("first"), &shards));
    let replaced = ok(place.tokenize_poems("first").arg("--replace"));
    assert_eq!(replaced["documents"].as_u64(), Some(601));
}

/// The contents, with the remembered hashes of inputs as in `like`: looking at changed files may change them.
fn contents_without_state(folder: &Path, like: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let mut contents = contents(folder);
    contents.insert("inputs.json".to_owned(), like["inputs.json"].clone());
    contents
}

#[test]
fn killed_at_any_moment_the_same_command_goes_on_and_ends_with_the_same_bytes() {
    let place = Place::new(4_000);
    let started = std::time::Instant::now();
    ok(&mut place.tokenize_poems("whole"));
    let undisturbed = started.elapsed();
    let whole = contents(&place.path("whole"));
    for (round, share) in [0.15, 0.3, 0.45, 0.6, 0.75, 0.9].into_iter().enumerate() {
        let out = format!("killed-{round}");
        for _ in 0..2 {
            let mut child = place
                .tokenize_poems(&out)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program starts");
            std::thread::sleep(Duration::from_secs_f64(undisturbed.as_secs_f64() * share / 2.0));
            child.kill().expect("SIGKILL");
            child.wait().expect("it ends");
        }
        ok(&mut place.tokenize_poems(&out));
        assert!(contents(&place.path(&out)) == whole, "killed after {share} of the time");
    }
}

#[test]
fn a_run_that_stops_between_shards_keeps_them_and_a_damaged_one_is_made_again() {
    let place = Place::new(600);
    ok(&mut place.tokenize_poems("out"));
    let whole = contents(&place.path("out"));
    // As if it had been killed after the third shard, in the middle of writing the fourth.
    let out = place.path("out");
    for name in whole.keys().filter(|name| name.as_str() > "shard-00002.tokens" && name.starts_with("shard-"))
    {
        std::fs::remove_file(out.join(name)).expect("removed");
    }
    std::fs::remove_file(out.join("corpus.json")).expect("removed");
    std::fs::write(out.join(".writing-abc"), "half a shard").expect("a file");
    let resumed = ok(&mut place.tokenize_poems("out"));
    assert_eq!(resumed["kept_shards"].as_u64(), Some(3));
    assert!(contents(&out) == whole);
    // A bit that changed in an unfinished folder.
    std::fs::remove_file(out.join("corpus.json")).expect("removed");
    let mut damaged = whole["shard-00001.tokens"].clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    std::fs::write(out.join("shard-00001.tokens"), damaged).expect("a file");
    let (code, _, stderr) = run(&mut place.tokenize_poems("out"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("shard-00001.tokens") && stderr.contains("made again"), "{stderr}");
    assert!(contents(&out) == whole);
}

/// Another corpus was deleted without `--replace` where its first shard was damaged or missing.
#[test]
fn another_corpus_is_not_touched_also_where_it_is_damaged() {
    let place = Place::new(600);
    let out = place.path("out");
    ok(&mut place.tokenize_poems("out"));
    let whole = contents(&out);
    let first = out.join("shard-00000.tokens");
    std::fs::write(&first, "damaged").expect("a file");
    ok(&mut place.tokenize_poems("out"));
    assert!(contents(&out) == whole, "the same command mends its own shards");

    std::fs::write(place.path("other.jsonl"), poems(50)).expect("a file");
    let other = || {
        let mut command = place.tokenize(&["other.jsonl"], "out");
        command.args(["--format", FORMAT]);
        command
    };
    let is_refused = |holds: &str| {
        let before = contents(&out);
        let error = refused(&mut other());
        assert!(error.contains(holds) && error.contains("--replace"), "{holds} is not in:\n{error}");
        assert!(contents_without_state(&out, &before) == before, "{holds}");
    };
    std::fs::write(&first, "damaged").expect("a file");
    is_refused("already holds shards of other text, options or tokenizer, some damaged");
    std::fs::remove_file(&first).expect("removed");
    is_refused("already holds shards of other text, options or tokenizer, some damaged");
    std::fs::write(out.join("corpus.json"), "damaged").expect("a file");
    is_refused("already holds unfinished shards of other text, options or tokenizer");
    for name in whole.keys().filter(|name| name.starts_with("shard-")) {
        std::fs::write(out.join(name), "damaged").expect("a file");
    }
    is_refused("already holds a list of shards, corpus.json, that cannot be read");
    std::fs::remove_file(out.join("corpus.json")).expect("removed");
    is_refused("already holds damaged shards, of which nothing says what they were made from");
    let replaced = ok(other().arg("--replace"));
    assert_eq!(replaced["documents"].as_u64(), Some(50));
    let shards = contents(&out).keys().filter(|name| name.starts_with("shard-")).count();
    assert_eq!(replaced["shards"].as_u64(), Some(shards as u64));
}

/// The tokenizer of a model that was in the folder was overwritten unasked.
#[test]
fn the_tokenizer_of_a_model_is_not_replaced_unasked() {
    let place = Place::new(300);
    let model = place.path("model");
    std::fs::create_dir(&model).expect("a folder");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(model.join(name), "a model's").expect("a file");
        let error = refused(&mut place.tokenize_poems("model"));
        let holds = format!("already holds another {name}");
        assert!(error.contains(&holds) && error.contains("--replace"), "{error}");
        let tokenizer = contents(&model).into_iter().filter(|(name, _)| name.starts_with("tokenizer"));
        assert_eq!(tokenizer.collect::<Vec<_>>(), [(name.to_owned(), b"a model's".to_vec())]);
        std::fs::remove_file(model.join(name)).expect("removed");
    }
    std::fs::write(model.join("tokenizer.json"), "a model's").expect("a file");
    ok(place.tokenize_poems("model").arg("--replace"));
    assert!(contents(&model)["tokenizer.json"] == contents(&place.path("tokenizer"))["tokenizer.json"]);
}

/// `--strict` had no say in shards that an earlier run had finished without it.
#[test]
fn a_strict_run_accepts_no_shards_of_a_run_that_left_records_out() {
    let place = Place::new(600);
    let out = place.path("out");
    std::fs::write(place.path("poems.jsonl"), format!("not json\n{}", poems(600))).expect("a file");
    ok(&mut place.tokenize_poems("out"));
    let whole = contents(&out);
    let is_refused = || {
        let error = refused(place.tokenize_poems("out").arg("--strict"));
        assert!(error.contains("an earlier run left out 1 broken records"), "{error}");
        assert!(error.contains("poems.jsonl:1: it is not a JSON object"), "{error}");
    };
    is_refused();
    assert!(contents(&out) == whole);
    // As if the earlier run had been cut off.
    std::fs::remove_file(out.join("corpus.json")).expect("removed");
    std::fs::remove_file(out.join("shard-00003.tokens")).expect("removed");
    is_refused();
    ok(&mut place.tokenize_poems("out"));
    assert!(contents(&out) == whole);
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_is_lost() {
    let place = Place::new(600);
    ok(&mut place.tokenize_poems("whole"));
    // No file may have more than 4 KiB; the signal that goes with it is ignored, so that writing fails as on a full disk.
    let limited = |kibibytes: u32| {
        let command = place.tokenize_poems("out");
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {kibibytes}; exec \"$@\""), "bash"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell
    };
    let (code, _, stderr) = run(&mut limited(4));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cannot write") && stderr.contains("out/"), "{stderr}");
    assert!(contents(&place.path("out")).keys().all(|name| !name.starts_with(".writing-")));
    ok(&mut place.tokenize_poems("out"));
    assert!(contents(&place.path("out")) == contents(&place.path("whole")));
}

#[test]
fn broken_lines_are_reported_with_file_and_line_counted_and_stop_a_strict_run() {
    let place = Place::new(300);
    let mut file = std::fs::File::create(place.path("mixed.jsonl")).expect("a file");
    file.write_all(b"{\"title\": \"a\", \"lines\": [\"b\"]}\n{\"title\": \"c\"}\nnot json\n\n")
        .expect("a write");
    file.write_all(b"{\"title\": \"\xFF\", \"lines\": \"x\"}\n[1]\n{\"title\": \" \", \"lines\": []}\n")
        .expect("a write");
    file.write_all(&[b"{\"title\": \"", &[b'x'; 70_000][..], b"\"}\n"].concat()).expect("a write");
    file.write_all(b"{\"title\": \"last\", \"lines\": {\"a\": 1}}\n{\"title\": \"end\", \"lines\": \"one\"}")
        .expect("a write");
    let command = || {
        let mut command = place.tokenize(&["mixed.jsonl"], "mixed");
        command.args(["--format", FORMAT, "--max-document", "64KiB"]);
        command
    };
    let strict = refused(command().arg("--strict"));
    assert!(strict.contains("mixed.jsonl:2: the field `lines` is missing"), "{strict}");
    let (code, stdout, stderr) = run(command().arg("--json"));
    assert_eq!(code, Some(0), "{stderr}");
    let summary: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((summary["documents"].as_u64(), summary["broken"].as_u64()), (Some(2), Some(7)), "{summary}");
    for expected in [
        "mixed.jsonl:2: the field `lines` is missing",
        "mixed.jsonl:3: it is not a JSON object",
        "mixed.jsonl:5: it is not UTF-8 text (line 5, byte 12)",
        "mixed.jsonl:6: it is not a JSON object",
        "mixed.jsonl:7: it has no text",
        "mixed.jsonl:8: the line has 70013 bytes; the limit is 65536",
        "mixed.jsonl:9: the field `lines` holds an object",
    ] {
        assert!(stderr.contains(expected), "{expected} is not in:\n{stderr}");
        let reasons = summary["broken_records"].to_string().replace("\\\"", "\"");
        let reason = expected.rsplit_once(": ").map_or(expected, |(_, reason)| reason);
        assert!(reasons.contains(reason), "{reason} is not in {reasons}");
    }
}

#[test]
fn empty_and_binary_data_and_files_of_other_kinds_are_refused_in_words() {
    let place = Place::new(300);
    std::fs::write(place.path("empty.txt"), "").expect("a file");
    let error = refused(&mut place.tokenize(&["empty.txt"], "out"));
    assert!(
        error.contains("empty.txt:1: the file is empty") && error.contains("there is not one document"),
        "{error}"
    );
    let binary: Vec<u8> = (0..50_000u32).map(|number| (number * 37 % 251) as u8 | 0x80).collect();
    std::fs::write(place.path("binary.txt"), &binary).expect("a file");
    let error = refused(&mut place.tokenize(&["binary.txt"], "out"));
    assert!(error.contains("binary.txt:1: it is not UTF-8 text (line 1, byte 1)"), "{error}");
    std::fs::write(place.path("list.json"), "[]").expect("a file");
    assert!(refused(&mut place.tokenize(&["list.json"], "out")).contains("jq -c"));
    std::fs::write(place.path("no.parquet"), "PAR1 is not enough PAR1").expect("a file");
    assert!(refused(&mut place.tokenize(&["no.parquet"], "out")).contains("no.parquet"));
    assert!(refused(&mut place.tokenize(&["nowhere"], "out")).contains("nowhere"));
    std::fs::write(place.path("cut.jsonl.gz"), [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3])
        .expect("a file");
    let error = refused(&mut place.tokenize(&["cut.jsonl.gz"], "out"));
    assert!(error.contains("cannot be read beyond line 0"), "{error}");
    let error = refused(place.tokenize_poems("out").args(["--end-of-text", "<|none|>"]));
    assert!(error.contains("no control token `<|none|>`"), "{error}");
}

#[test]
fn text_is_split_by_file_paragraph_or_line_and_long_text_is_cut_without_loss() {
    let place = Place::new(300);
    let text = "First line.\nSecond line.\n\n\nA new paragraph.\r\nIts end.\n";
    std::fs::create_dir(place.path("book")).expect("a folder");
    std::fs::write(place.path("book/b.md"), text).expect("a file");
    std::fs::write(place.path("book/a.txt"), "春眠不覺曉").expect("a file");
    std::fs::write(place.path("book/picture.png"), [0x89, 0x50]).expect("a file");
    for (split, documents, characters) in [("file", 2, 59), ("paragraph", 3, 55), ("line", 5, 52)] {
        let (code, stdout, stderr) = run(place.tokenize(&["book"], split).args(["--split", split, "--json"]));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("1 files are of no known kind"), "{stderr}");
        let summary: Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!(summary["documents"].as_u64(), Some(documents), "{split}");
        assert_eq!(summary["text_characters"].as_u64(), Some(characters), "{split}");
    }
    // One line that is far longer than a document may be: all of it is there, in several documents.
    let long = "長".repeat(20_000);
    std::fs::write(place.path("long.txt"), &long).expect("a file");
    let summary = ok(place.tokenize(&["long.txt"], "long").args(["--max-document", "8KiB"]));
    assert_eq!(summary["text_characters"].as_u64(), Some(20_000));
    assert_eq!(
        summary["cut"].as_u64(),
        summary["documents"].as_u64().map(|documents| documents - 1),
        "{summary}"
    );
    let line = refused(place.tokenize(&["long.txt"], "long-line").args([
        "--split",
        "line",
        "--max-document",
        "8KiB",
    ]));
    assert!(line.contains("long.txt:1: the line has 60000 bytes"), "{line}");
}

#[test]
fn a_chat_template_travels_from_the_tokenizer_to_the_shards_also_when_nothing_else_changes() {
    let place = Place::new(300);
    ok(&mut place.tokenize_poems("out"));
    assert!(!place.path("out/chat_template.jinja").exists());
    for template in ["{{ messages[0].content }}", "{{ messages[-1].content }}"] {
        std::fs::write(place.path("tokenizer/chat_template.jinja"), template).expect("a file");
        let summary = ok(&mut place.tokenize_poems("out"));
        assert_eq!(summary["unchanged"].as_bool(), Some(true), "{summary}");
        assert_eq!(std::fs::read_to_string(place.path("out/chat_template.jinja")).expect("a file"), template);
    }
    // Shards of something else keep theirs.
    std::fs::write(place.path("tokenizer/chat_template.jinja"), "another").expect("a file");
    std::fs::write(place.path("poems.jsonl"), poems(301)).expect("a file");
    refused(&mut place.tokenize_poems("out"));
    let kept = std::fs::read_to_string(place.path("out/chat_template.jinja")).expect("a file");
    assert_eq!(kept, "{{ messages[-1].content }}");
}

#[test]
fn an_excerpt_has_so_many_bytes_of_different_documents_whatever_order_they_stand_in() {
    let place = Place::new(300);
    let excerpt = |input: &str, out: &str| {
        let mut command = zhenjin();
        command.args(["generate", "excerpt"]).arg(place.path(input)).args(["--format", "{title}\\n{lines}"]);
        command.args(["--bytes", "8KiB", "--out"]).arg(place.path(out));
        ok(&mut command)
    };
    let found = excerpt("poems.jsonl", "one.jsonl");
    let bytes = found["bytes"].as_u64().expect("a number");
    assert!((7_900..=8_192).contains(&bytes), "{found}");
    // Backwards and twice.
    let text = std::fs::read_to_string(place.path("poems.jsonl")).expect("a file");
    let lines: Vec<&str> = text.lines().chain(text.lines()).rev().collect();
    std::fs::write(place.path("backwards.jsonl"), lines.join("\n")).expect("a file");
    assert_eq!(excerpt("backwards.jsonl", "two.jsonl")["bytes"].as_u64(), Some(bytes));
    let written = |name: &str| std::fs::read_to_string(place.path(name)).expect("a file");
    assert_eq!(written("one.jsonl"), written("two.jsonl"));
    let texts: u64 = written("one.jsonl")
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["text"].as_str().expect("a text").len() as u64
        })
        .sum();
    assert_eq!(texts, bytes);
}
