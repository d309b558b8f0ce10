//! `zhenjin serve` is killed with SIGKILL while people judge answers over HTTP: everything that it answered with success is there afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tiny_model;
use zhenjin_model::write::FloatType;
use zhenjin_store::{AnswerEnd, MessageId, NewConversation, Owner, Question, Rating, Status, Store};

/// People who judge at the same time, each an answer of their own.
const PEOPLE: usize = 4;

/// Answers to judge, two to each question.
async fn answers(home: &Path) -> Vec<[MessageId; 2]> {
    let store = Store::open(&home.join("zhenjin.sqlite")).await.expect("a store");
    let mut ids = Vec::new();
    for number in 0..PEOPLE {
        let chat =
            store.create_conversation(&Owner::Local, NewConversation::default()).await.expect("a chat").id;
        let question = Question {
            conversation_id: chat,
            parent_id: None,
            content: format!("say {number}"),
            model: "model".to_owned(),
            title_if_untitled: "say".to_owned(),
        };
        let (question, one) = store.ask(&Owner::Local, question).await.expect("a question");
        let other = store.answer_again(&Owner::Local, &question.id, "model".to_owned()).await;
        let pair = [one.id, other.expect("an answer").id];
        for id in &pair {
            let end = AnswerEnd {
                text: format!("this is {id}"),
                finish_reason: Some("stop".to_owned()),
                ..AnswerEnd::new(Status::Complete)
            };
            store.end_answer(&Owner::Local, id, end).await.expect("an end");
        }
        ids.push(pair);
    }
    store.close().await;
    ids
}

/// A server on a port of its own, and its address.
fn serve(home: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_zhenjin"))
        .env("ZHENJIN_HOME", home)
        .args(["serve", "--addr", "127.0.0.1:0", "--threads", "1"])
        .arg(home.join("model"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let line = output.lines().map_while(Result::ok).find(|line| line.contains("listening on http://"));
    let line = line.expect("the server listens");
    let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
    (child, address)
}

/// The status of the answer to a PUT, if there is a whole one.
fn put(address: &str, path: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Judges until the server is gone, and says how far it was acknowledged: the number in the last comment, and whether the choice was.
fn judge(address: &str, [answer, other]: &[MessageId; 2], acknowledged: &AtomicU64) -> (Option<u64>, bool) {
    let (mut last, mut is_chosen) = (None, false);
    for number in 0.. {
        let rating = if u64::is_multiple_of(number, 2) { "up" } else { "down" };
        let body = format!(r#"{{"rating": "{rating}", "comment": "{number}"}}"#);
        match put(address, &format!("/api/messages/{answer}/feedback"), &body) {
            Some(200) => last = Some(number),
            Some(status) => panic!("status {status}"),
            None => break,
        }
        if number == 3 {
            let body = format!(r#"{{"rejected": ["{other}"]}}"#);
            match put(address, &format!("/api/messages/{answer}/choice"), &body) {
                Some(200 | 204) => is_chosen = true,
                Some(status) => panic!("status {status}"),
                None => break,
            }
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    (last, is_chosen)
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_that_the_server_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    tiny_model::write_tiny_model(&home.join("model"), FloatType::F32);
    let answers = answers(home).await;
    let (mut server, address) = serve(home);
    assert_eq!(put(&address, "/api/feedback/consent", r#"{"allowed": true}"#), Some(200));
    let acknowledged = AtomicU64::new(0);
    let judged: Vec<(Option<u64>, bool)> = std::thread::scope(|scope| {
        let people: Vec<_> =
            answers.iter().map(|pair| scope.spawn(|| judge(&address, pair, &acknowledged))).collect();
        // In the midst of everybody's judgements, the choices among them.
        while acknowledged.load(Ordering::SeqCst) < 20 * PEOPLE as u64 {
            assert!(!people.iter().any(|person| person.is_finished()), "somebody was refused");
            std::thread::yield_now();
        }
        server.kill().expect("a process");
        server.wait().expect("its end");
        people.into_iter().map(|person| person.join().expect("no refusal")).collect()
    });
    let store = Store::open(&home.join("zhenjin.sqlite")).await.expect("the database opens again");
    assert!(store.training_consent(&Owner::Local).await.expect("read").allowed);
    for (pair, (last, is_chosen)) in answers.iter().zip(judged) {
        let last = last.expect("somebody was acknowledged");
        let kept = store.feedback(&Owner::Local, &pair[0]).await.expect("read").expect("a judgement");
        let number: u64 = kept.said.comment.as_deref().and_then(|text| text.parse().ok()).expect("a number");
        // What was on its way when the server died may be there, or not; nothing between two judgements is.
        assert!(number == last || number == last + 1, "{number} is there, {last} was acknowledged");
        assert_eq!(kept.said.rating, Some(if number.is_multiple_of(2) { Rating::Up } else { Rating::Down }));
        assert!(is_chosen, "everybody got that far");
    }
    let feedback = store.training_feedback().await.expect("read");
    let choices =
        feedback.iter().filter(|row| matches!(row.judgement, zhenjin_store::Judgement::Choice { .. }));
    assert_eq!(choices.count(), PEOPLE);
}
