//! `zhenjin improve`, `promote` and `rollback` as people run them: from judgements in the store to an adapter that answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::tiny_model;
use serde_json::Value;
use zhenjin_model::write::FloatType;
use zhenjin_store::{
    AnswerEnd, MessageId, NewApiKey, NewConversation, NewFeedback, Owner, Question, Rating, Status, Store,
};

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
        self.with_store(async |store| {
            store.set_training_consent(owner, consents).await.expect("consent");
            for number in numbers {
                let texts = [format!("{number}, you see?"), format!("it is {number}.")];
                let [good, bad] = self.answers(store, owner, number, texts).await;
                store.choose(owner, &good, &[bad]).await.expect("a choice");
            }
        });
    }

    /// As many thumbs as there are texts times two: of each question the first answer is liked and the second is not.
    fn rate(&self, owner: &Owner, texts: impl Iterator<Item = [String; 2]>) {
        self.with_store(async |store| {
            store.set_training_consent(owner, true).await.expect("consent");
            for (number, texts) in texts.enumerate() {
                let answers = self.answers(store, owner, number, texts).await;
                for (answer, rating) in answers.iter().zip([Rating::Up, Rating::Down]) {
                    let said = NewFeedback { rating: Some(rating), ..NewFeedback::default() };
                    store.set_feedback(owner, answer, said).await.expect("kept");
                }
            }
        });
    }

    /// Somebody with a key, who is not the operator.
    fn person(&self, name: &str) -> Owner {
        let mut owner = None;
        self.with_store(async |store| {
            if !store.has_api_key().await.expect("read") {
                store.create_api_key(NewApiKey::named("operator")).await.expect("a key");
            }
            owner = Some(store.create_api_key(NewApiKey::named(name)).await.expect("a key").0.owner);
        });
        owner.expect("an owner")
    }

    fn with_store(&self, work: impl AsyncFnOnce(&Store)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Store::open(&self.path("zhenjin.sqlite")).await.expect("a store");
            work(&store).await;
            store.close().await;
        });
    }

    /// A question in a chat of its own with two answers.
    async fn answers(
        &self,
        store: &Store,
        owner: &Owner,
        number: usize,
        texts: [String; 2],
    ) -> [MessageId; 2] {
        let conversation = NewConversation { model: self.model(), ..NewConversation::default() };
        let conversation = store.create_conversation(owner, conversation).await.expect("a chat");
        let question = Question {
            conversation_id: conversation.id,
            parent_id: None,
            content: format!("say {number}"),
            model: self.model(),
            title_if_untitled: "say".to_owned(),
        };
        let (question, one) = store.ask(owner, question).await.expect("a question");
        let other = store.answer_again(owner, &question.id, self.model()).await.expect("an answer");
        let ids = [one.id, other.id];
        for (id, text) in ids.iter().zip(texts) {
            let end = AnswerEnd {
                text,
                finish_reason: Some("stop".to_owned()),
                ..AnswerEnd::new(Status::Complete)
            };
            store.end_answer(owner, id, end).await.expect("an end");
        }
        ids
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

    fn record(&self, id: &str) -> Value {
        let shown = self.program(&["improve", "--show", id, "--json"]);
        serde_json::from_str(&succeed(shown)).expect("JSON")
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

/// The value of a criterion, and whether it passed.
fn criterion<'a>(record: &'a Value, name: &str) -> (&'a Value, &'a Value) {
    let gate = record["gate"].as_array().expect("criteria");
    let found = gate.iter().find(|criterion| criterion["name"] == name).expect("the criterion");
    (&found["value"], &found["passed"])
}

/// Thumbs up and down on the same words once made everybody's choices be learned as thumbs.
#[test]
fn a_thousand_thumbs_of_somebody_who_says_both_change_neither_the_adapter_nor_the_gate() {
    let place = Place::new();
    let model = place.model();
    place.choose(&Owner::Local, true, 0..120);
    succeed(place.improve(&[&model, "--id", "before"]));
    let troll = place.person("troll");
    place.rate(&troll, (0..500).map(|number| [number, number].map(|number| format!("it is {}", number % 7))));
    let text = succeed(place.improve(&[&model, "--id", "after", "--again"]));
    assert!(text.contains("left out: 500 (the same person judged the same both ways)"), "{text}");
    let [before, after] = ["before", "after"].map(|id| place.record(id));
    for key in ["train_sha256", "held_out_sha256", "adapter_sha256"] {
        assert_eq!(before["recipe"][key], after["recipe"][key], "{key}");
    }
    assert_eq!(after["method"], "dpo");
    for name in ["preference_accuracy", "liked_answers", "win_rate", "perplexity_en", "perplexity_zh"] {
        assert_eq!(criterion(&before, name), criterion(&after, name), "{name}");
    }
}

#[test]
fn a_thousand_thumbs_against_everybody_do_not_swing_the_gate() {
    let place = Place::new();
    let model = place.model();
    for name in ["anna", "ben", "chen", "dora", "emil"] {
        place.choose(&place.person(name), true, 0..50);
    }
    let troll = place.person("troll");
    let texts = |number: usize| [format!("it is {number}."), format!("{number}, you see?")];
    place.rate(&troll, (0..500).map(texts));
    let text = succeed(place.improve(&[&model, "--id", "one"]));
    assert!(text.contains("the newest 50 of"), "{text}");
    let record = place.record("one");
    assert_eq!(record["data"]["owners"], 6);
    let (value, passed) = criterion(&record, "preference_accuracy");
    assert_eq!(passed, true, "{value}: {text}");
}

/// Thumbs alone are learned by KTO, good answers alone by SFT; both pass through the same gate.
#[test]
fn thumbs_and_good_answers_become_adapters_that_are_measured() {
    for (method, texts) in [("kto", ["you see?", "it is."]), ("sft", ["you see?", ""])] {
        let place = Place::new();
        place.with_store(async |store| {
            store.set_training_consent(&Owner::Local, true).await.expect("consent");
            for number in 0..120 {
                let text = match texts[number % 2] {
                    "" => texts[0],
                    text => text,
                };
                let answers = [format!("{number}, {text}"), "never judged".to_owned()];
                let [answer, _] = place.answers(store, &Owner::Local, number, answers).await;
                let rating = if text == texts[0] { Rating::Up } else { Rating::Down };
                let said = NewFeedback { rating: Some(rating), ..NewFeedback::default() };
                store.set_feedback(&Owner::Local, &answer, said).await.expect("kept");
            }
        });
        let text = succeed(place.improve(&["--id", "one"]));
        let record = place.record("one");
        assert_eq!((&record["method"], &record["data"]["ratings"]), (&method.into(), &120.into()), "{text}");
        let (value, passed) = criterion(&record, "preference_accuracy");
        assert_eq!(passed, true, "{method}: {value}: {text}");
        assert!(criterion(&record, "win_rate").1.is_null(), "there are no pairs to judge by");
    }
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

/// What was trained on another model of the same shape was once accepted in silence.
#[test]
fn an_adapter_that_names_another_model_is_used_and_that_is_said() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters/llama-every");
    let adapter = |name: &str, base: &str| {
        let folder = place.path(name);
        std::fs::create_dir(&folder).expect("a folder");
        let file = "adapter_model.safetensors";
        std::fs::copy(golden.join(file), folder.join(file)).expect("a copy");
        let text = std::fs::read_to_string(golden.join("adapter_config.json")).expect("a file");
        let mut settings: Value = serde_json::from_str(&text).expect("JSON");
        settings["base_model_name_or_path"] = base.into();
        std::fs::write(folder.join("adapter_config.json"), settings.to_string()).expect("a file");
        folder.to_str().expect("a path").to_owned()
    };
    let model = place.model();
    for (name, base, is_other) in [("same", model.as_str(), false), ("other", "org/Another-1B", true)] {
        let adapter = adapter(name, base);
        let text = succeed(place.program(&["promote", &model, &adapter]));
        let says = text.contains("trained on `org/Another-1B`, which seems to be another model");
        assert_eq!(says, is_other, "{text}");
        let out = place.path(&format!("{name}-merged"));
        let out = out.to_str().expect("a path");
        let text = succeed(place.program(&["export", &model, "--adapter", &adapter, "--to", "hf", out]));
        assert_eq!(text.contains("seems to be another model"), is_other, "{text}");
    }
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
    let text = succeed(place.program(&["promote", &model, adapter]));
    assert!(text.contains("answers as") && !text.contains("another model"), "{text}");
    assert!(succeed(place.program(&["promote", &model, &model])).contains("answers as"));
    let text = succeed(place.program(&["promote"]));
    assert!(text.contains("before: the model itself") && text.contains("llama-every"), "{text}");
    assert!(succeed(place.program(&["rollback", &model])).contains("llama-every"));
    let text = succeed(place.program(&["rollback", &model]));
    assert!(text.contains("the model itself answers as"), "{text}");
    assert!(refuse(place.program(&["rollback", &model])).contains("nothing was ever promoted"));
}
