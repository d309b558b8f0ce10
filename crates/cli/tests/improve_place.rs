//! A home folder with a tiny model and what people said of its answers, and the program run in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(crate) use crate::align::{run, succeed};
use crate::tiny_model;
use serde_json::Value;
use zhenjin_model::write::FloatType;
use zhenjin_store::{
    AnswerEnd, MessageId, NewApiKey, NewConversation, NewFeedback, Owner, Question, Rating, Status, Store,
};

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().expect("a folder") };
        tiny_model::write_tiny_model(&place.folder.path().join("model"), FloatType::F32);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn model(&self) -> String {
        self.path("model").to_str().expect("a path").to_owned()
    }

    /// People's choices between two answers to questions of their own: the one that ends with a question mark is the better one.
    pub(crate) fn choose(&self, owner: &Owner, consents: bool, numbers: std::ops::Range<usize>) {
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
    pub(crate) fn rate(&self, owner: &Owner, texts: impl Iterator<Item = [String; 2]>) {
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

    /// Thumbs on answers to one question: so many up, and then so many down.
    pub(crate) fn rate_one_question(&self, owner: &Owner, number: usize, up: usize, down: usize) {
        self.with_store(async |store| {
            store.set_training_consent(owner, true).await.expect("consent");
            let texts = [0, 1].map(|answer| format!("{answer}, you see?"));
            let mut ids: Vec<MessageId> = self.answers(store, owner, number, texts).await.into();
            let first = store.message(owner, &ids[0]).await.expect("an answer");
            let question = first.parent_id.expect("a question");
            for answer in 2..up + down {
                let text = match answer < up {
                    true => format!("{answer}, you see?"),
                    false => format!("it is {answer}."),
                };
                let id = store.answer_again(owner, &question, self.model()).await.expect("an answer").id;
                let end = AnswerEnd {
                    text,
                    finish_reason: Some("stop".to_owned()),
                    ..AnswerEnd::new(Status::Complete)
                };
                store.end_answer(owner, &id, end).await.expect("an end");
                ids.push(id);
            }
            for (place, id) in ids.iter().enumerate() {
                let rating = if place < up { Rating::Up } else { Rating::Down };
                let said = NewFeedback { rating: Some(rating), ..NewFeedback::default() };
                store.set_feedback(owner, id, said).await.expect("kept");
            }
        });
    }

    /// The choices in the chat of the oldest judgement once more, so that they are the newest.
    pub(crate) fn choose_again(&self, owner: &Owner) {
        self.with_store(async |store| {
            let judged = store.training_feedback().await.expect("read");
            let oldest = judged.first().expect("a judgement");
            for choice in store.choices_in(owner, &oldest.conversation).await.expect("read") {
                store.choose(owner, &choice.chosen, &choice.rejected).await.expect("a choice");
            }
        });
    }

    /// Somebody with a key, who is not the operator.
    pub(crate) fn person(&self, name: &str) -> Owner {
        let mut owner = None;
        self.with_store(async |store| {
            if !store.has_api_key().await.expect("read") {
                store.create_api_key(NewApiKey::named("operator")).await.expect("a key");
            }
            owner = Some(store.create_api_key(NewApiKey::named(name)).await.expect("a key").0.owner);
        });
        owner.expect("an owner")
    }

    pub(crate) fn with_store(&self, work: impl AsyncFnOnce(&Store)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Store::open(&self.path("zhenjin.sqlite")).await.expect("a store");
            work(&store).await;
            store.close().await;
        });
    }

    /// A question in a chat of its own with two answers.
    pub(crate) async fn answers(
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

    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_zhenjin"));
        program.env("ZHENJIN_HOME", self.folder.path()).env_remove("ZHENJIN_LOG");
        program.stdin(Stdio::null()).args(arguments);
        program
    }

    pub(crate) fn improve(&self, more: &[&str]) -> Command {
        let mut program = self.program(&["improve", "--threads", "1"]);
        program.args(more);
        program
    }

    /// An improvement that is killed as soon as its examples are there.
    pub(crate) fn begin_and_kill(&self, id: &str) {
        let mut child = self.improve(&["--id", id, "--passes", "6"]).spawn().expect("the program starts");
        let last_copy = self.path("improvements").join(id).join("anchor.txt");
        while child.try_wait().expect("a status").is_none() && !last_copy.exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().expect("killed");
        child.wait().expect("its end");
        assert_eq!(self.record(id)["state"], "running", "it was killed before its end");
        assert!(self.path("improvements").join(id).join("train.jsonl").is_file());
    }

    pub(crate) fn record(&self, id: &str) -> Value {
        let shown = self.program(&["improve", "--show", id, "--json"]);
        serde_json::from_str(&succeed(shown)).expect("JSON")
    }

    pub(crate) fn records(&self) -> Value {
        serde_json::from_str(&succeed(self.program(&["improve", "--list", "--json"]))).expect("JSON")
    }
}

pub(crate) fn refuse(program: Command) -> String {
    let (code, text) = run(program);
    assert_ne!(code, Some(0), "{text}");
    text
}
