//! Answers written from a source that the test feeds, followed, stopped, cut off and resumed.

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use zhenjin_assistant::{Failure, FinishReason, StopCause, TextEvent, Timings, Usage};
use zhenjin_store::{Message, MessageId, NewConversation, Owner, Question, Status, Store};

use super::{AnswerSource, Followed, Provenance, RunningAnswers, Tokens};
use crate::shutdown::Shutdown;

/// A source that says what the test sends.
struct Fed {
    events: mpsc::Receiver<TextEvent>,
    sampled: Vec<u32>,
}

impl AnswerSource for Fed {
    async fn next(&mut self) -> Option<TextEvent> {
        let event = self.events.recv().await?;
        if matches!(event, TextEvent::Delta { .. }) {
            self.sampled.push(self.sampled.len() as u32);
        }
        Some(event)
    }

    fn tokens(&self) -> Tokens {
        Tokens {
            prompt: vec![9, 8, 7, 6, 5],
            sampled: self.sampled.clone(),
            seed: 7,
            logprobs: Some(vec![-0.5; self.sampled.len()]),
        }
    }
}

struct Desk {
    _folder: TempDir,
    store: Store,
    shutdown: Shutdown,
    answers: std::sync::Arc<RunningAnswers>,
}

impl Desk {
    async fn new() -> Desk {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("zhenjin.db")).await.expect("a store");
        let shutdown = Shutdown::default();
        let answers = RunningAnswers::new(store.clone(), shutdown.clone());
        Desk { _folder: folder, store, shutdown, answers }
    }

    /// A question whose answer comes from the sender returned.
    async fn ask(&self) -> (Message, mpsc::Sender<TextEvent>) {
        let new = NewConversation { model: "tiny".to_owned(), ..NewConversation::default() };
        let conversation = self.store.create_conversation(&Owner::Local, new).await.expect("a conversation");
        let question = Question {
            conversation_id: conversation.id,
            parent_id: None,
            content: "question".to_owned(),
            model: "tiny".to_owned(),
            title_if_untitled: "question".to_owned(),
        };
        let (sender, events) = mpsc::channel(1000);
        let provenance = Provenance {
            model: "tiny".to_owned(),
            fingerprint: "fp_tiny".to_owned(),
            template: Some("5e1f".to_owned()),
            system_prompt: "Be brief.".to_owned(),
            settings: serde_json::json!({ "temperature": 0 }),
            context_length: 2048,
            asked: std::time::Instant::now(),
        };
        let fed = Fed { events, sampled: Vec::new() };
        let begun = self.answers.begin(
            &Owner::Local,
            fed,
            provenance,
            self.store.ask(&Owner::Local, question),
            |asked| &asked.1,
        );
        (begun.await.expect("an answer").1, sender)
    }

    /// Follows from `offset` to the end: the text after it, and how the answer ended.
    async fn read(&self, id: &MessageId, offset: usize) -> (String, Message) {
        let mut text = String::new();
        let Some(mut follower) = self.answers.follow(&Owner::Local, id, offset) else {
            let message = self.answers.settled_message(&Owner::Local, id).await.expect("the answer");
            return (message.content.chars().skip(offset).collect(), message);
        };
        loop {
            match follower.next().await {
                Followed::Text { offset: place, text: more } => {
                    assert_eq!(place, offset + text.chars().count());
                    text.push_str(&more);
                }
                Followed::End(message) => return (text, message.as_ref().clone()),
            }
        }
    }
}

fn delta(text: &str) -> TextEvent {
    TextEvent::Delta { text: text.to_owned(), tokens: Vec::new() }
}

fn finished() -> TextEvent {
    TextEvent::Finished {
        reason: FinishReason::Stop(StopCause::EndOfTurn),
        usage: Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: 6 },
        timings: Timings {
            time_to_first_token: Some(Duration::from_millis(20)),
            decode: Duration::from_secs(1),
            ..Timings::default()
        },
    }
}

const PIECES: [&str; 6] = ["True ", "gold ", "真金", "👍", "🏽 ", "不怕火炼。"];

#[tokio::test]
async fn an_answer_is_written_and_measured() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    source.send(TextEvent::Started { prompt_tokens: 5, cached_tokens: 2, echo: None }).await.expect("sent");
    for piece in PIECES {
        source.send(delta(piece)).await.expect("sent");
    }
    source.send(finished()).await.expect("sent");
    let (text, message) = desk.read(&answer.id, 0).await;
    assert_eq!(
        (text.as_str(), message.content.as_str()),
        (PIECES.concat().as_str(), PIECES.concat().as_str())
    );
    assert_eq!((message.status, message.finish_reason.as_deref()), (Status::Complete, Some("stop")));
    assert_eq!(
        (message.prompt_tokens, message.cached_tokens, message.completion_tokens, message.context_length),
        (Some(5), Some(2), Some(6), Some(2048))
    );
    assert_eq!((message.time_to_first_token_ms, message.tokens_per_second), (Some(20.0), Some(5.0)));
    desk.answers.all_saved().await;
    assert_eq!(desk.store.message(&Owner::Local, &answer.id).await.expect("kept"), message);
    let generation = desk.store.generation(&Owner::Local, &answer.id).await.expect("read").expect("kept");
    assert_eq!((generation.seed, generation.prompt_tokens.len()), (Some(7), 5));
    assert_eq!(generation.sampled_tokens, [0, 1, 2, 3, 4, 5]);
    assert_eq!(generation.fingerprint.as_deref(), Some("fp_tiny"));
    assert_eq!(generation.logprobs, Some(vec![-0.5; 6]));
    assert_eq!(generation.template.as_deref(), Some("5e1f"));
    assert_eq!(generation.system_prompt.as_deref(), Some("Be brief."));
}

#[tokio::test]
async fn tabs_that_come_and_go_see_the_whole_text() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    let whole: String = (0..60).flat_map(|_| PIECES).collect();
    let feeding = tokio::spawn(async move {
        for piece in (0..60).flat_map(|_| PIECES) {
            source.send(delta(piece)).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        source.send(finished()).await.expect("sent");
    });
    let patient = desk.read(&answer.id, 0);
    let restless = async {
        let mut seen = String::new();
        loop {
            let offset = seen.chars().count();
            let Some(mut follower) = desk.answers.follow(&Owner::Local, &answer.id, offset) else { break };
            // Reloads after each piece of text.
            match follower.next().await {
                Followed::Text { offset: place, text } => {
                    assert_eq!(place, offset);
                    let stored = desk.store.message(&Owner::Local, &answer.id).await.expect("kept").content;
                    seen.push_str(&text);
                    assert!(stored.starts_with(&seen), "what is shown is in the store");
                }
                Followed::End(_) => break,
            }
        }
        let (rest, _) = desk.read(&answer.id, seen.chars().count()).await;
        seen + &rest
    };
    let ((patient, _), restless) = tokio::join!(patient, restless);
    feeding.await.expect("fed");
    assert_eq!((patient, restless), (whole.clone(), whole));
}

#[tokio::test]
async fn stopping_keeps_the_text_and_cancels_the_source() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    source.send(delta("half an")).await.expect("sent");
    let mut follower = desk.answers.follow(&Owner::Local, &answer.id, 0).expect("it runs");
    assert!(matches!(follower.next().await, Followed::Text { .. }));
    source.send(delta(" answer")).await.expect("sent");
    tokio::task::yield_now().await;
    let stopped = desk.answers.stop(&Owner::Local, &answer.id).await.expect("stopped");
    assert_eq!(stopped.status, Status::Stopped);
    assert!(stopped.content.starts_with("half an"), "{}", stopped.content);
    assert!(stopped.completion_tokens >= Some(1) && stopped.time_to_first_token_ms.is_some(), "{stopped:?}");
    source.closed().await;
    assert_eq!(desk.read(&answer.id, 0).await, (stopped.content.clone(), stopped.clone()));
    assert_eq!(desk.answers.stop(&Owner::Local, &answer.id).await.expect("again"), stopped);
}

#[tokio::test]
async fn the_servers_end_saves_and_marks_what_is_unfinished() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    source.send(delta("unfinished")).await.expect("sent");
    let reading = desk.read(&answer.id, 0);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        desk.shutdown.drain();
        desk.shutdown.end();
        desk.answers.all_saved().await;
    };
    let ((text, message), ()) = tokio::join!(reading, ending);
    assert_eq!((text.as_str(), message.status), ("unfinished", Status::Interrupted));
    assert_eq!(desk.store.message(&Owner::Local, &answer.id).await.expect("kept"), message);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let desk = Desk::new().await;
    let cases = [
        (Some(Failure::Broken("NaN in layer 3".to_owned())), Status::Failed, Some("NaN in layer 3")),
        (Some(Failure::ShutDown), Status::Interrupted, None),
        (None, Status::Failed, Some("the model ended without saying why")),
    ];
    for (failure, status, error) in cases {
        let (answer, source) = desk.ask().await;
        source.send(delta("text")).await.expect("sent");
        if let Some(failure) = failure {
            let failed = TextEvent::Failed { failure, usage: Usage::default(), timings: Timings::default() };
            source.send(failed).await.expect("sent");
        }
        drop(source);
        let (text, message) = desk.read(&answer.id, 0).await;
        assert_eq!((text.as_str(), message.status, message.error.as_deref()), ("text", status, error));
    }
}

#[tokio::test]
async fn deleting_a_conversation_stops_its_answers() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    let (other, _other_source) = desk.ask().await;
    desk.answers.stop_conversation(&Owner::Local, &answer.conversation_id).await;
    source.closed().await;
    assert_eq!(desk.store.message(&Owner::Local, &answer.id).await.expect("kept").status, Status::Stopped);
    assert_eq!(desk.store.message(&Owner::Local, &other.id).await.expect("kept").status, Status::Generating);
}

#[tokio::test]
async fn a_forgotten_answer_is_marked_when_somebody_looks() {
    let desk = Desk::new().await;
    let (answer, source) = desk.ask().await;
    source.send(finished()).await.expect("sent");
    desk.answers.all_saved().await;
    let again = desk.store.answer_again(
        &Owner::Local,
        answer.parent_id.as_ref().expect("a question"),
        "tiny".to_owned(),
    );
    let forgotten = again.await.expect("a row without a task");
    assert!(desk.answers.follow(&Owner::Local, &forgotten.id, 0).is_none());
    let settled = desk.answers.settled_message(&Owner::Local, &forgotten.id).await.expect("the answer");
    assert_eq!(settled.status, Status::Interrupted);
}
