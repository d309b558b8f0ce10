//! `zhenjin feedback` beside a server that has the store open: counts, data for training, erasure.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use zhenjin_store::{
    AnswerEnd, MessageId, NewApiKey, NewConversation, NewFeedback, Owner, Question, Rating, Status, Store,
};

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
    command.env("ZHENJIN_HOME", home).env_remove("ZHENJIN_LOG").stdin(Stdio::null()).args(arguments);
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// What `data check` says of a file.
fn checked(home: &Path, file: &str) -> Value {
    let (code, report, said) = run(home, &["data", "check", file, "--json"]);
    assert_eq!(code, Some(0), "{said}");
    serde_json::from_str(&report).expect("JSON")
}

struct Chats<'a> {
    store: &'a Store,
    owner: Owner,
}

impl Chats<'_> {
    /// A chat with a question and these answers to it; their ids.
    async fn answers(&self, asked: &str, answers: &[&str]) -> Vec<MessageId> {
        let new = NewConversation {
            model: "tiny".to_owned(),
            system_prompt: "Be brief.".to_owned(),
            ..NewConversation::default()
        };
        let chat = self.store.create_conversation(&self.owner, new).await.expect("a chat").id;
        let question = |parent: Option<MessageId>, content: &str| Question {
            conversation_id: chat.clone(),
            parent_id: parent,
            content: content.to_owned(),
            model: "tiny".to_owned(),
            title_if_untitled: content.to_owned(),
        };
        let (_, greeting) = self.store.ask(&self.owner, question(None, "Hello")).await.expect("a question");
        self.end(&greeting.id, "Hello, too.").await;
        let asked = question(Some(greeting.id), asked);
        let (asked, first) = self.store.ask(&self.owner, asked).await.expect("a question");
        let mut ids = vec![first.id];
        for _ in 1..answers.len() {
            let another = self.store.answer_again(&self.owner, &asked.id, "tiny".to_owned()).await;
            ids.push(another.expect("an answer").id);
        }
        for (id, text) in ids.iter().zip(answers) {
            self.end(id, text).await;
        }
        ids
    }

    async fn end(&self, id: &MessageId, text: &str) {
        let end = AnswerEnd {
            text: text.to_owned(),
            finish_reason: Some("stop".to_owned()),
            ..AnswerEnd::new(Status::Complete)
        };
        self.store.end_answer(&self.owner, id, end).await.expect("an answer");
    }

    async fn rate(&self, answer: &MessageId, rating: Rating, correction: Option<&str>) {
        let correction = correction.map(str::to_owned);
        let said = NewFeedback { rating: Some(rating), correction, ..NewFeedback::default() };
        self.store.set_feedback(&self.owner, answer, said).await.expect("kept");
    }
}

/// Anna says much and allows learning from it; Ben says one thing and allows nothing. Returns Anna's owner.
async fn two_people(store: &Store) -> Owner {
    store.create_api_key(NewApiKey::named("operator")).await.expect("a key");
    let anna = store.create_api_key(NewApiKey::named("anna")).await.expect("a key").0.owner;
    let ben = store.create_api_key(NewApiKey::named("ben")).await.expect("a key").0.owner;
    let chats = Chats { store, owner: anna.clone() };
    store.set_training_consent(&anna, true).await.expect("kept");
    let rated = chats.answers("Two and two?", &["Four.", "<think>\nhm\n</think>\n\nFive."]).await;
    chats.rate(&rated[0], Rating::Up, None).await;
    chats.rate(&rated[1], Rating::Down, None).await;
    let corrected = chats.answers("天空为什么是蓝色的？", &["不知道。"]).await;
    chats.rate(&corrected[0], Rating::Down, Some("因为空气散射蓝光更多。")).await;
    let chosen = chats.answers("Name a metal.", &["Gold.", "Wood."]).await;
    store.choose(&anna, &chosen[0], &chosen[1..]).await.expect("kept");
    let disputed = chats.answers("Name a colour.", &["Red.", "Blue."]).await;
    store.choose(&anna, &disputed[0], &disputed[1..]).await.expect("kept");
    chats.rate(&disputed[0], Rating::Down, None).await;
    chats.rate(&disputed[1], Rating::Up, None).await;
    let thoughtful = chats.answers("Hm?", &["<think>\nI think\n</think>\n\n"]).await;
    chats.rate(&thoughtful[0], Rating::Down, None).await;
    let chats = Chats { store, owner: ben };
    let theirs = chats.answers("A secret of Ben's", &["Hush."]).await;
    chats.rate(&theirs[0], Rating::Up, None).await;
    anna
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_counted_exported_and_erased_beside_a_running_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let store = Store::open(&home.join("zhenjin.sqlite")).await.expect("a store");
    let anna = two_people(&store).await;

    let (code, counted, said) = run(home, &["feedback", "stats", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let counted: Value = serde_json::from_str(&counted).expect("JSON");
    assert_eq!((&counted["with_consent"], &counted["without_consent"]), (&json!(8), &json!(1)));
    assert_eq!((&counted["all"]["choices"], &counted["all"]["corrections"]), (&json!(2), &json!(1)));
    // Regression: people had an id and no name, unlike in the server's answer.
    let names: Vec<&Value> =
        counted["owners"].as_array().into_iter().flatten().map(|owner| &owner["name"]).collect();
    assert!(
        names.len() == 2 && names.contains(&&json!("anna")) && names.contains(&&json!("ben")),
        "{names:?}"
    );
    let (_, shown, _) = run(home, &["feedback", "stats"]);
    assert!(shown.contains("anna\tallowed") && shown.contains("ben\tnot allowed"), "{shown}");

    let file = home.join("examples.jsonl");
    let file = file.to_str().expect("a path");
    for (kind, name, examples, left_out) in [
        ("preference", "pairs", 3, "left out, the same person judged the same both ways: 2"),
        ("kto", "thumbs", 6, "left out, the same person judged the same both ways: 4"),
        ("sft", "conversations", 2, "left out, the same person judged the same both ways: 1"),
    ] {
        let (code, out, said) = run(home, &["feedback", "export", "--as", kind, "--output", file]);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
        assert!(
            said.contains("left out, whoever judged does not allow that models learn from it: 1")
                && said.contains(left_out),
            "{kind}: {said}"
        );
        let report = checked(home, file);
        assert_eq!(report["kinds"].as_object().map(|kinds| kinds.len()), Some(1), "{report}");
        let (found, count) =
            report["kinds"].as_object().and_then(|kinds| kinds.iter().next()).expect("a kind");
        assert_eq!((found.as_str(), count), (name, &json!(examples)), "{said}");
        assert_eq!(report["unread_fields"], json!({}));
        assert_eq!(report["bad"], json!({}), "{report}");
        assert_eq!(report["duplicates"]["count"], 0);
        let (_, printed, _) = run(home, &["feedback", "export", "--as", kind]);
        assert_eq!(printed, std::fs::read_to_string(file).expect("the file"));
        assert!(!printed.contains("secret"), "{printed}");
    }
    let (_, wanted, _) = run(home, &["feedback", "export", "--as", "sft", "--owner", "anna"]);
    let line = wanted.lines().find(|line| line.contains("Two and two?")).expect("the liked answer");
    let first: Value = serde_json::from_str(line).expect("JSON");
    let expected = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Hello" },
        { "role": "assistant", "content": "Hello, too.", "weight": 0 },
        { "role": "user", "content": "Two and two?" },
        { "role": "assistant", "content": "Four." },
    ]);
    assert_eq!(first["messages"], expected);
    let (_, rated, said) = run(home, &["feedback", "export", "--as", "kto"]);
    assert!(rated.contains(r#""reasoning_content":"hm""#), "{rated}");
    assert!(said.contains("an answer without words"), "{said}");

    let (code, _, said) = run(home, &["feedback", "export", "--as", "kto", "--owner", "ben"]);
    assert!(code == Some(1) && said.contains("has not allowed"), "{said}");
    let (code, _, said) = run(home, &["feedback", "erase", "--owner", "nobody"]);
    assert!(code == Some(1) && said.contains("--owner: no key has the name or id `nobody`"), "{said}");
    let (code, _, said) = run(home, &["feedback", "export", "--as", "kto", "--without-consent"]);
    assert_eq!(code, Some(2), "there is no such option: {said}");

    let rows = store.training_feedback().await.expect("read");
    store.note_training("tiny-1", &[rows[0].id.clone()]).await.expect("noted");
    let (code, _, said) = run(home, &["feedback", "erase", "--owner", "anna"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("erased: 8") && said.contains("tiny-1"), "{said}");
    let left = store.training_feedback().await.expect("read");
    assert!(left.len() == 1 && left[0].owner != anna, "Ben's is still there");
}
