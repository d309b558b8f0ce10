//! Many answers are written at the same time: each keeps its own text and order, whatever transaction its pieces went through.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{fresh_store, new_conversation, question};
use zhenjin_store::{AnswerEnd, MessageId, Owner, Status, Store, StoreError};

/// Answers that are written together.
const ANSWERS: usize = 48;

/// Tells the re-run test binary to be the writer, and where.
const DATABASE: &str = "ZHENJIN_STORE_PIECES_DATABASE";

async fn answers(store: &Store) -> Vec<MessageId> {
    let mut answers = Vec::new();
    for number in 0..ANSWERS {
        let conversation = new_conversation(store).await.id;
        let asked = question(&conversation, None, &format!("question {number}"));
        answers.push(store.ask(&Owner::Local, asked).await.unwrap().1.id);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pieces_of_many_answers_keep_their_order_and_their_errors() {
    let (_folder, store) = fresh_store().await;
    let answers = answers(&store).await;
    let ended = AnswerEnd { text: "over".to_owned(), ..AnswerEnd::new(Status::Complete) };
    store.end_answer(&Owner::Local, &answers[0], ended).await.unwrap();
    let tasks: Vec<_> = answers
        .iter()
        .cloned()
        .map(|answer| {
            let store = store.clone();
            tokio::spawn(async move {
                for piece in 0..30 {
                    store.append_to_answer(&Owner::Local, &answer, &format!("{piece} ")).await?;
                }
                Ok::<(), StoreError>(())
            })
        })
        .collect();
    let expected: String = (0..30).map(|piece| format!("{piece} ")).collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let result = task.await.unwrap();
        let message = store.message(&Owner::Local, &answers[number]).await.unwrap();
        if number == 0 {
            assert!(
                matches!(result, Err(StoreError::NotGenerating { status: Status::Complete, .. })),
                "{result:?}"
            );
            assert_eq!(message.content, "over");
        } else {
            result.unwrap();
            assert_eq!(message.content, expected);
        }
    }
    let stranger = Owner::Key("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    let refused = store.append_to_answer(&stranger, &answers[1], "x").await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_waiting_does_not_take_others_pieces_along() {
    let (_folder, store) = fresh_store().await;
    let answers = answers(&store).await;
    for round in 0..20 {
        let first = store.append_to_answer(&Owner::Local, &answers[0], "a");
        let waiting = store.append_to_answer(&Owner::Local, &answers[1], "b");
        tokio::select! {
            biased;
            _ = first => {}
            () = tokio::task::yield_now() => {}
        }
        tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.expect("written").unwrap();
        assert_eq!(store.message(&Owner::Local, &answers[1]).await.unwrap().content.len(), round + 1);
    }
}

/// The writer: adds pieces to all answers for ever, and says each acknowledged one on its standard output. Run as an ordinary test it does
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_of_pieces() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = Store::open(Path::new(&path)).await.unwrap();
    for answer in answers(&store).await {
        let store = store.clone();
        tokio::spawn(async move {
            for piece in 0_u64.. {
                store.append_to_answer(&Owner::Local, &answer, &format!("{piece} ")).await.unwrap();
                let mut output = std::io::stdout().lock();
                writeln!(output, "\npiece {answer} {piece}").unwrap();
                output.flush().unwrap();
            }
        });
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn pieces_written_together_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zhenjin.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_of_pieces", "--nocapture"])
        .env(DATABASE, &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = 0;
    // What is in the pipe when the process is killed was acknowledged as well.
    for line in output.lines().map_while(Result::ok) {
        let Some((answer, piece)) = line.strip_prefix("piece ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        if let Ok(piece) = piece.parse() {
            last.insert(answer.to_owned(), piece);
        }
        lines += 1;
        if lines == 40 * ANSWERS {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert_eq!(last.len(), ANSWERS);
    let store = Store::open(&path).await.unwrap();
    for (answer, last) in last {
        let message = store.message(&Owner::Local, &answer.parse().unwrap()).await.unwrap();
        let acknowledged: String = (0..=last).map(|piece| format!("{piece} ")).collect();
        let rest = message.content.strip_prefix(&acknowledged).expect("what was acknowledged is there");
        assert!(rest.is_empty() || rest == format!("{} ", last + 1), "{rest:?}");
        assert_eq!(message.status, Status::Interrupted);
    }
}
