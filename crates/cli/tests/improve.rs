//! `zhenjin improve`, `promote` and `rollback` as people run them: from judgements in the store to an adapter that answers.

#[path = "../../../tests/tiny_model.rs"]
mod tiny_model;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use zhenjin_model::write::FloatType;
use zhenjin_store::{AnswerEnd, NewConversation, Owner, Question, Status, Store};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.folder.path().join("model"), FloatType::F32);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self) -> String {
        self.path("model").to_str().expect("a path").to_owned()
    }

    /// People's choices between two answers to questions of their own: the one that ends with a question mark is the better one.
    fn choose(&self, owner: &Owner, consents: bool, numbers: std::ops::Range<usize>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Store::open(&self.path("zhenjin.sqlite")).await.expect("a store");
            store.set_training_consent(owner, consents).await.expect("consent");
            for number in numbers {
                let conversation = NewConversation {
                    title: String::new(),
                    model: self.model(),
                    system_prompt: String::new(),
                    settings: serde_json::json!({}),
                };
                let conversation = store.create_conversation(owner, conversation).await.expect("a chat");
                let question = Question {
                    conversation_id: conversation.id,
                    parent_id: None,
                    content: format!("say {number}"),
                    model: self.model(),
                    title_if_untitled: "say".to_owned(),
                };
                let (question, good) = store.ask(owner, question).await.expect("a question");
                let bad = store.answer_again(owner, &question.id, self.model()).await.expect("an answer");
                for (answer, text) in
                    [(&good, format!("{number}, you see?")), (&bad, format!("it is {number}."))]
                {
                    let end = AnswerEnd {
                        text,
                        finish_reason: Some("stop".to_owned()),
                        ..AnswerEnd::new(Status::Complete)
                    };
                    store.end_answer(owner, &answer.id, end).await.expect("an end");
                }
                store.choose(owner, &good.id, &[bad.id]).await.expect("a choice");
            }
            store.close().await;
        });
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG");
        program.stdin(Stdio::null()).args(arguments);
        program
    }

    fn improve(&self, more: &[&str]) -> Command {
        let mut program = self.program(&["improve", "--threads", "1"]);
        program.args(more);
        program
    }

    fn records(&self) -> Value {
        serde_json::from_str(&succeed(self.program(&["improve", "--list", "--json"]))).expect("JSON")
    }
}

fn run(mut program: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout) + &text(stderr))
}

fn succeed(program: Command) -> String {
    let (code, text) = run(program);
    assert_eq!(code, Some(0), "{text}");
    text
}

fn refuse(program: Command) -> String {
    let (code, text) = run(program);
    assert_ne!(code, Some(0), "{text}");
    text
}

#[test]
fn choices_become_an_adapter_that_is_measured_promoted_and_taken_back() {
    let place = Place::new();
    place.choose(&Owner::Local, true, 0..120);
    let text = succeed(place.improve(&["--auto"]));
    let records = place.records();
    let record = &records[0];
    let id = record["id"].as_str().expect("an id").to_owned();
    assert_eq!((&record["method"], &record["data"]["pairs"]), (&"dpo".into(), &120.into()));
    let gate = record["gate"].as_array().expect("criteria");
    let names: Vec<&str> = gate.iter().filter_map(|criterion| criterion["name"].as_str()).collect();
    assert_eq!(
        names,
        ["preference_accuracy", "liked_answers", "win_rate", "perplexity_en", "perplexity_zh", "speed"]
    );
    assert_eq!(gate[0]["passed"], true, "{text}");
    // What people wrote is in the store alone.
    let left: Vec<String> = std::fs::read_dir(place.path("improvements").join(&id))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|name| name.ends_with(".jsonl") || name == "judge"), "{left:?}");

    let text = refuse(place.improve(&[]));
    assert!(text.contains("nothing was judged since"), "{text}");
    let text = succeed(place.improve(&["--reproduce", &id]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

#[test]
fn nobody_learns_from_people_who_did_not_allow_it_and_too_few_judgements_say_so() {
    let place = Place::new();
    place.choose(&Owner::Local, false, 0..60);
    let text = refuse(place.improve(&[]));
    assert!(
        text.contains("too few judgements") && text.contains("60 (whoever judged does not allow"),
        "{text}"
    );
    assert_eq!(place.records(), Value::Array(Vec::new()));
    let text = refuse(place.improve(&["--reproduce", "none"]));
    assert!(text.contains("no improvement `none`"), "{text}");
}

#[test]
fn an_improvement_that_was_killed_goes_on_and_ends_with_the_same_bits() {
    let killed = Place::new();
    killed.choose(&Owner::Local, true, 0..100);
    let mut child = killed.improve(&["--id", "one", "--passes", "6"]).spawn().expect("the program starts");
    // Killed as soon as a checkpoint is there, if it is not faster than we look.
    let checkpoints = killed.path("improvements/one/run/checkpoints");
    while child.try_wait().expect("a status").is_none() {
        let has_one = std::fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.next().is_some());
        if has_one {
            child.kill().expect("killed");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.wait().expect("its end");
    if killed.records()[0]["state"] == "running" {
        let text = succeed(killed.improve(&[&killed.model()]));
        assert!(text.contains("going on with the improvement one"), "{text}");
    }
    let state = killed.records()[0]["state"].clone();
    assert!(["passed", "refused"].contains(&state.as_str().unwrap_or_default()), "{state}");
    // The undisturbed run.
    let text = succeed(killed.improve(&["--reproduce", "one"]));
    assert!(text.contains("the same adapter, bit for bit"), "{text}");
}

#[test]
fn weights_are_promoted_shown_and_taken_back() {
    let place = Place::new();
    let model = place.model();
    let adapter = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/golden/adapters/llama-every");
    let text = succeed(place.program(&["promote"]));
    assert!(text.contains("nothing was promoted"), "{text}");
    let text = refuse(place.program(&["promote", &model, "/nowhere"]));
    assert!(text.contains("/nowhere"), "{text}");
    // A folder that holds half of an adapter.
    let half = place.path("half");
    std::fs::create_dir(&half).expect("a folder");
    std::fs::copy(Path::new(adapter).join("adapter_config.json"), half.join("adapter_config.json"))
        .expect("a file");
    let text = refuse(place.program(&["promote", &model, half.to_str().expect("a path")]));
    assert!(text.contains("is no adapter to"), "{text}");
    assert!(succeed(place.program(&["promote", &model, adapter])).contains("answers as"));
    assert!(succeed(place.program(&["promote", &model, &model])).contains("answers as"));
    let text = succeed(place.program(&["promote"]));
    assert!(text.contains("before: the model itself") && text.contains("llama-every"), "{text}");
    assert!(succeed(place.program(&["rollback", &model])).contains("llama-every"));
    let text = succeed(place.program(&["rollback", &model]));
    assert!(text.contains("the model itself answers as"), "{text}");
    assert!(refuse(place.program(&["rollback", &model])).contains("nothing was ever promoted"));
}
