//! The program as a whole, run as people and scripts run it: exit codes, what goes to which stream, pipes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::real_model::real_model;
use crate::tiny_encoder;
use crate::tiny_model;
use serde_json::Value;

fn zhenjin(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env("ZHENJIN_HOME", home).env_remove("ZHENJIN_LOG").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn wrong_usage_is_exit_code_2_and_wrong_input_1_with_the_reason_on_standard_error() {
    let home = tempfile::tempdir().expect("a folder");
    let broken = home.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").expect("a file");
    let broken = broken.to_str().expect("a path");
    for (arguments, code, reason) in [
        (vec!["pul", "smollm2:135m"], 2, "pull"),
        (vec!["chat", "--temprature", "1"], 2, "--temperature"),
        (
            vec!["serve", "--speculation", "tree"],
            2,
            "`tree` is not a way to guess tokens; give `ngram` or `off`",
        ),
        (vec!["inspect", "smollm2:135m"], 1, "zhenjin pull smollm2:135m"),
        (vec!["chat", "no-such-model", "-p", "Hi"], 1, "no-such-model"),
        (vec!["inspect", broken], 1, "broken.gguf"),
        (vec!["chat", broken, "-p", "Hi"], 1, "broken.gguf"),
        (vec!["rm", "smollm2:135m"], 1, "smollm2:135m"),
        (vec!["serve", "--addr", "0.0.0.0:0"], 1, "zhenjin key new"),
        (vec!["key", "revoke", "nobody"], 1, "nobody"),
    ] {
        let (found, stdout, stderr) = run(zhenjin(home.path()).args(&arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_draft_model_needs_the_same_tokens_and_changes_no_answer() {
    let home = tempfile::tempdir().expect("a folder");
    let path = |name: &str| home.path().join(name).to_str().expect("a path").to_owned();
    let (model, encoder) = (path("model"), path("encoder"));
    tiny_model::write_tiny_model(Path::new(&model), zhenjin_model::write::FloatType::F32);
    tiny_encoder::write_tiny_encoder(Path::new(&encoder));
    let of_nobody = format!("nobody={model}");
    let refusals: [(&[&str], &str); 7] = [
        (
            &["chat", &model, "--draft", "poet", "-p", "Hi"],
            "has another tokenizer, so it would guess other tokens: token ",
        ),
        (&["serve", &model, "--draft", "poet"], "in the draft model's of "),
        (&["serve", &model, "--draft", &encoder], "is an embedding model, which writes no text"),
        (&["serve", &encoder, "--draft", &model], "no model that it could draft for"),
        (&["serve", &model, "--draft", &of_nobody], "the model `nobody` is not served here"),
        (&["serve", &model, "--draft", &model, "--draft", &model], "has two draft models"),
        (&["serve", &model, "--draft", &model, "--speculation", "off"], "leave one of them out"),
    ];
    for (arguments, reason) in refusals {
        let (code, stdout, stderr) = run(zhenjin(home.path()).args(arguments));
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?}: {stdout}");
    }
    let (code, _, stderr) = run(zhenjin(home.path()).args(["serve", &model, "--draft", "=x"]));
    assert_eq!(code, Some(2), "{stderr}");

    let ask = |more: &[&str]| -> Value {
        let arguments = ["chat", &model, "--json", "--seed", "7", "--max-tokens", "60", "-p", "hello"];
        let (code, stdout, stderr) = run(zhenjin(home.path()).args(arguments).args(more));
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).expect("one JSON object")
    };
    let (plain, drafted) = (ask(&[]), ask(&["--draft", &model]));
    assert!(plain["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{plain}");
    for field in ["answer", "completion_tokens", "finish_reason"] {
        assert_eq!(plain[field], drafted[field], "{field}");
    }
}

/// Regression: files and folders that are no model were listed as models until somebody asked one of them.
#[test]
fn serving_what_is_no_model_is_refused_at_the_start() {
    let home = tempfile::tempdir().expect("a folder");
    let path = |name: &str| home.path().join(name).to_str().expect("a path").to_owned();
    let (model, empty, script) = (path("model"), path("empty"), path("t1.py"));
    tiny_model::write_tiny_model(Path::new(&model), zhenjin_model::write::FloatType::F32);
    std::fs::create_dir(&empty).expect("a folder");
    std::fs::write(&script, "print('I am no model')\n").expect("a file");
    // Refused without a key, so that the program ends whatever it makes of the models.
    let serve = ["serve", "--addr", "0.0.0.0:0"];
    for (names, reasons) in [
        (vec![&empty], ["cannot be loaded", "the folder holds neither config.json nor a .gguf file"]),
        (vec![&script], ["cannot be loaded", "t1.py"]),
        (vec![&model, &script], ["cannot be loaded", "t1.py"]),
    ] {
        let (code, stdout, stderr) = run(zhenjin(home.path()).args(serve).args(&names));
        assert_eq!(code, Some(1), "{names:?}: {stderr}");
        assert!(reasons.iter().all(|reason| stderr.contains(reason)), "{names:?}: {stderr}");
        assert!(stdout.is_empty(), "{names:?}: {stdout}");
    }
    let (_, _, stderr) = run(zhenjin(home.path()).args(serve).arg(&model));
    assert!(stderr.contains("zhenjin key new") && !stderr.contains("cannot be loaded"), "{stderr}");
}

#[test]
fn the_poet_answers_at_its_first_use_without_a_network() {
    let home = tempfile::tempdir().expect("a folder");
    let ask = |title: &str| {
        let mut command = zhenjin(home.path());
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").args(["chat", "poet", "--seed", "1", "-p", title]);
        run(&mut command)
    };
    let (code, poem, notes) = ask("春夜");
    assert_eq!(code, Some(0), "{notes}");
    assert!(notes.contains("this program carries it"), "{notes}");
    let is_chinese = |text: &str| text.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count() >= 8;
    assert!(is_chinese(&poem), "{poem}");
    let (code, again, notes) = ask("春夜");
    assert_eq!((code, again), (Some(0), poem.clone()));
    assert!(!notes.contains("this program carries it"), "{notes}");
    let (_, other, _) = ask("詞 浣溪沙");
    assert!(is_chinese(&other) && other != poem, "{other}");
}

#[test]
fn a_pipe_is_answered_and_the_same_seed_gives_the_same_answer() {
    let home = tempfile::tempdir().expect("a folder");
    let ask = |threads: &str| -> Value {
        let mut child = zhenjin(home.path())
            .args([
                "chat",
                "--json",
                "--seed",
                "7",
                "--max-tokens",
                "12",
                "--threads",
                threads,
                "-p",
                "Repeat this:",
            ])
            .arg(real_model())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("a pipe").write_all("真金不怕火炼\n".as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    };
    let (first, second) = (ask("1"), ask("2"));
    assert_eq!(first["answer"], second["answer"]);
    assert_eq!(first["seed"], 7);
    assert!(first["completion_tokens"].as_u64().is_some_and(|tokens| (1..=12).contains(&tokens)), "{first}");
}

#[test]
fn inspect_perplexity_and_bench_print_json() {
    let home = tempfile::tempdir().expect("a folder");
    let text = home.path().join("text.txt");
    std::fs::write(&text, "True gold fears no fire, says the proverb. ".repeat(40)).expect("a file");
    let model = real_model();
    let (code, inspection, stderr) = run(zhenjin(home.path()).arg("inspect").arg(&model).arg("--json"));
    assert_eq!(code, Some(0), "{stderr}");
    let inspection: Value = serde_json::from_str(&inspection).expect("JSON");
    assert_eq!(inspection["architecture"], "llama");
    assert_eq!(inspection["tensors"].as_array().map(Vec::len), Some(272));
    let memory = &inspection["memory"];
    assert!(memory["least_bytes"].as_u64() < memory["planned"]["bytes"].as_u64(), "{memory}");

    let (code, line, stderr) = run(zhenjin(home.path())
        .arg("perplexity")
        .arg(&model)
        .arg(&text)
        .args(["--ctx", "128", "--chunks", "2", "--json"]));
    assert_eq!(code, Some(0), "{stderr}");
    let result: Value = serde_json::from_str(&line).expect("JSON");
    assert!(
        result["perplexity"].as_f64().is_some_and(|perplexity| (1.0..50.0).contains(&perplexity)),
        "{result}"
    );

    let options = ["--prefill", "32", "--decode", "4", "--answers", "4", "--prompt", "8", "--batch", "1,2"];
    let sampled = ["--temperature", "1"];
    let (code, lines, stderr) = run(zhenjin(home.path())
        .arg("bench")
        .arg(&model)
        .args(options)
        .args(sampled)
        .args(["--repeat", "2", "--json"]));
    assert_eq!(code, Some(0), "{stderr}");
    let tests: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = tests.iter().filter_map(|test| test["test"].as_str()).collect();
    assert_eq!(names, ["prefill", "decode", "decode", "answers", "answers"]);
    assert!(
        tests.iter().all(|test| test["tok_s"].as_array().is_some_and(|speeds| speeds.len() == 2)),
        "{lines}"
    );
    let options = ["--prefill", "0", "--decode", "2", "--batch", "1", "--no-limits", "--json"];
    let (code, line, stderr) = run(zhenjin(home.path()).arg("bench").arg(&model).args(options));
    assert_eq!(code, Some(0), "{stderr}");
    let test: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert!(
        test["load_s"].as_f64().is_some_and(|load| load > 0.0) && test["gop_s_limit"].is_null(),
        "{test}"
    );
}

#[test]
fn models_are_exported_and_quantised_and_the_cost_is_measured() {
    let home = tempfile::tempdir().expect("a folder");
    let path = |name: &str| home.path().join(name).to_str().expect("a path").to_owned();
    let (source, gguf, folder) = (path("source"), path("model.gguf"), path("folder"));
    let (quantised, text) = (path("q4.gguf"), path("text.txt"));
    tiny_model::write_tiny_model(Path::new(&source), zhenjin_model::write::FloatType::F32);
    std::fs::write(&text, "hello, it's the text of which nothing is known. ".repeat(20)).expect("a file");
    let ok = |arguments: &[&str]| {
        let (code, stdout, stderr) = run(zhenjin(home.path()).args(arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        stdout
    };
    let refused = |arguments: &[&str], code: i32, reason: &str| {
        let (found, _, stderr) = run(zhenjin(home.path()).args(arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    };
    assert!(ok(&["export", &source, "--to", "gguf", &gguf]).contains("parameters in F32"));
    assert!(ok(&["export", &gguf, "--to", "hf", "--dtype", "bf16", &folder]).contains("parameters in BF16"));
    assert!(ok(&["inspect", &folder]).contains("BF16"));
    let measured =
        ok(&["quantize", &gguf, &quantised, "--type", "q4_k_m", "--text", &text, "--ctx", "64", "--json"]);
    let measured: Value = serde_json::from_str(&measured).expect("JSON");
    let number = |pointer: &str| measured.pointer(pointer).and_then(Value::as_f64).expect("a number");
    assert!(number("/perplexity/before") > 1.0 && number("/perplexity/after") > 1.0, "{measured}");
    assert!(number("/bytes") < number("/source_bytes"), "{measured}");
    // Rows of 64 are no blocks of 256.
    assert_eq!(measured["fallbacks"].as_array().expect("a list").len(), 15, "{measured}");
    let said = ok(&["quantize", &source, &path("q8.gguf"), "--type", "q8_0"]);
    assert!(said.contains("perplexity was not measured"), "{said}");
    std::fs::create_dir_all(home.path().join("run/checkpoints")).expect("a folder");
    refused(&["export", &path("run"), "--to", "hf", &path("no")], 1, "no whole checkpoint yet");
    refused(&["export", &source, "--to", "gguf", &gguf], 1, "something of this name already");
    refused(&["export", &quantised, "--to", "hf", &path("no")], 1, "is quantised (");
    refused(&["quantize", &source, &path("no"), "--type", "q9"], 2, "q4_k_m");
    refused(&["quantize", &source, &path("no/where.gguf"), "--type", "q8_0"], 1, "cannot create");
    refused(&["quantize", &source, &path("no"), "--type", "q8_0", "--text", &path("missing")], 1, "missing");
    assert!(!home.path().join("no").exists());
}

#[test]
fn keys_are_shown_once_and_manual_pages_and_completions_are_written() {
    let home = tempfile::tempdir().expect("a folder");
    let (code, key, _) = run(zhenjin(home.path()).args(["key", "new", "laptop"]));
    assert_eq!(code, Some(0));
    let (_, list, _) = run(zhenjin(home.path()).args(["key", "list"]));
    assert!(list.contains("laptop") && !list.contains(key.trim()), "{list}");
    assert!(list.contains("\toperator\tlocal\tlaptop"), "{list}");
    let (code, _, _) = run(zhenjin(home.path()).args(["key", "new", "anna"]));
    assert_eq!(code, Some(0));
    let (code, _, said) =
        run(zhenjin(home.path()).args(["key", "new", "anna's phone", "--chats-of", "anna"]));
    assert!(code == Some(0) && said.contains("opens the chats of `anna`"), "{said}");
    let (code, _, said) = run(zhenjin(home.path()).args(["key", "new", "anna"]));
    assert!(code == Some(1) && said.contains("already"), "two keys of one name: {said}");
    assert_eq!(run(zhenjin(home.path()).args(["key", "role", "anna", "operator"])).0, Some(0));
    let (_, list, _) = run(zhenjin(home.path()).args(["key", "list"]));
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows[1][2..], ["operator", "own", "anna"]);
    assert_eq!(rows[2][2..], ["user", rows[1][0], "anna's phone"]);
    let (code, _, said) = run(zhenjin(home.path()).args(["key", "new", "x", "--chats-of", "nobody"]));
    assert!(code == Some(1) && said.contains("nobody"), "{said}");
    let pages = home.path().join("man");
    assert_eq!(run(zhenjin(home.path()).arg("man").arg(&pages)).0, Some(0));
    assert!(pages.join("zhenjin-serve.1").is_file());
    let (_, script, _) = run(zhenjin(home.path()).args(["completions", "bash"]));
    assert!(script.contains("zhenjin"));
}

#[cfg(unix)]
#[test]
fn bytes_that_are_not_utf8_end_nothing() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join(OsStr::from_bytes(b"caf\xE9 \"x\""));
    std::fs::create_dir(&folder).expect("a folder");
    let model = folder.join("poet.gguf");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/poet.gguf"), &model).expect("a model");
    // A path of such bytes, printed as it is written, without quotes or escapes.
    for json in [false, true] {
        let mut command = zhenjin(home.path());
        command.arg("inspect").arg(&model).args(json.then_some("--json"));
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, Some(0), "{stderr}");
        let name = if json { "caf\u{FFFD} \\\"x\\\"/poet.gguf" } else { "caf\u{FFFD} \"x\"/poet.gguf" };
        assert!(stdout.contains(name), "{stdout}");
    }
    // In an argument, and in a pipe.
    let mut command = zhenjin(home.path());
    command.arg("chat").arg(&model).args(["--max-tokens", "4", "--seed", "1", "-p"]);
    command.arg(OsStr::from_bytes(b"\xE6\x98\xA5\xE9")).env("HF_TOKEN", OsStr::from_bytes(b"\xFF"));
    let (code, _, notes) = run(&mut command);
    assert_eq!(code, Some(0), "{notes}");
    assert!(notes.contains("an argument is not UTF-8 throughout (first at byte 3)"), "{notes}");
    let mut command = zhenjin(home.path());
    command.arg("chat").arg(&model).args(["--max-tokens", "4", "--seed", "1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("the program starts");
    running.stdin.take().expect("a pipe").write_all(b"\xE6\x98\xA5\xFF\xE5\xA4\x9C").expect("a reader");
    let output = running.wait_with_output().expect("an end");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    assert!(notes.contains("standard input is not UTF-8 throughout (first at byte 3)"), "{notes}");
    // A text file that is measured.
    let text = folder.join("text.txt");
    std::fs::write(&text, [&"春眠不觉晓".repeat(40).into_bytes()[..], b"\xFF"].concat()).expect("a file");
    let mut command = zhenjin(home.path());
    command.arg("perplexity").arg(&model).arg(&text).args(["--ctx", "32", "--chunks", "1"]);
    let (code, stdout, notes) = run(&mut command);
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        stdout.starts_with("perplexity") && notes.contains("text.txt is not UTF-8 throughout"),
        "{stdout}{notes}"
    );
}

/// Regression: a server began with a model that could never be loaded, and told so only whoever asked it.
#[test]
fn a_model_that_never_fits_is_refused_when_it_is_to_be_served() {
    let home = tempfile::tempdir().expect("a folder");
    let model = home.path().join("model");
    tiny_model::write_tiny_model(&model, zhenjin_model::write::FloatType::F32);
    for memory in ["0", "1KiB"] {
        let mut command = zhenjin(home.path());
        command.arg("serve").arg(&model).args(["--memory", memory, "--addr", "127.0.0.1:0"]);
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("iB at least") && stderr.contains("but the limit is "), "{stderr}");
        assert!(stderr.contains("--memory SIZE") && stdout.is_empty(), "{stderr}{stdout}");
    }
}

#[test]
fn inspect_speaks_in_words() {
    let home = tempfile::tempdir().expect("a folder");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/poet.gguf");
    let (code, stdout, stderr) = run(zhenjin(home.path()).args(["inspect", model, "--tensors"]));
    assert_eq!(code, Some(0), "{stderr}");
    for form in ["Some(", "None", "RopeConfig", "{ ", "\\u{"] {
        assert!(!stdout.contains(form), "{form}: {stdout}");
    }
    assert!(stdout.contains("  rope: base ") && stdout.contains("end of turn: "), "{stdout}");
}
