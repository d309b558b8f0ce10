//! The process is killed with SIGKILL while it writes; what it had acknowledged is there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::common::{exchange, new_conversation, question};
use zhenjin_store::{
    ConversationId, MessageId, NewApiKey, NewFeedback, Owner, Rating, Status, Store, StoreError,
};

/// Tells the re-run test binary to be the writer, and where.
const DATABASE: &str = "ZHENJIN_STORE_TEST_DATABASE";

/// The writer: asks, then adds pieces for ever, and says each acknowledged step on its standard output. Run as an ordinary
/// test it does nothing.
#[tokio::test]
async fn writer_process() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let store = Store::open(Path::new(&path)).await.unwrap();
    let say = |line: String| {
        let mut output = std::io::stdout().lock();
        writeln!(output, "\n{line}").unwrap();
        output.flush().unwrap();
    };
    let id = new_conversation(&store).await.id;
    let (_, answer) = store.ask(&Owner::Local, question(&id, None, "question")).await.unwrap();
    say(format!("asked {id} {}", answer.id));
    let (_, first) = exchange(&store, &id, None, "another", "One.").await;
    for number in 0..JUDGED {
        let liked = NewFeedback {
            rating: Some(Rating::Up),
            comment: Some(format!("{number}")),
            ..NewFeedback::default()
        };
        store.set_feedback(&Owner::Local, &first.id, liked).await.unwrap();
    }
    store.set_training_consent(&Owner::Local, true).await.unwrap();
    say(format!("judged {}", first.id));
    for number in 0_u64.. {
        store.append_to_answer(&Owner::Local, &answer.id, &format!("{number} ")).await.unwrap();
        say(format!("piece {number}"));
    }
}

/// How often the writer changes its mind about an answer.
const JUDGED: usize = 3;

fn start_writer(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::writer_process", "--nocapture"])
        .env(DATABASE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn next_line(output: &mut BufReader<ChildStdout>, start: &str) -> Option<String> {
    output.lines().map_while(Result::ok).find_map(|line| line.strip_prefix(start).map(str::to_owned))
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zhenjin.db");
    let mut answers: Vec<(ConversationId, MessageId, u64)> = Vec::new();
    for pieces in [3_u64, 40, 150] {
        let (mut child, mut output) = start_writer(&path);
        let asked = next_line(&mut output, "asked ").expect("the writer begins");
        let (conversation, answer) = asked.split_once(' ').unwrap();
        let mut last: u64 = 0;
        while last < pieces {
            last = next_line(&mut output, "piece ").expect("the writer goes on").parse().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines that were already in the pipe were acknowledged too.
        while let Some(piece) = next_line(&mut output, "piece ") {
            last = piece.parse().unwrap_or(last);
        }
        answers.push((conversation.parse().unwrap(), answer.parse().unwrap(), last));
    }
    let store = Store::open(&path).await.unwrap();
    for (conversation, answer, last) in answers {
        let messages = store.messages(&Owner::Local, &conversation).await.unwrap();
        assert_eq!(messages.len(), 4);
        assert_eq!((messages[1].id.clone(), messages[1].status), (answer, Status::Interrupted));
        let acknowledged: String = (0..=last).map(|number| format!("{number} ")).collect();
        let unacknowledged = format!("{} ", last + 1);
        let rest = messages[1].content.strip_prefix(&acknowledged).expect("what was acknowledged is there");
        assert!(rest.is_empty() || rest == unacknowledged, "{rest:?}");
    }
    assert!(!store.search(&Owner::Local, "question", 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_key_maker_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zhenjin.db");
    let (mut child, mut output) = start_writer(&path);
    let asked = next_line(&mut output, "asked ").expect("the writer begins");
    let answer: MessageId = asked.split_once(' ').unwrap().1.parse().unwrap();

    let refused = Store::open(&path).await;
    let Err(StoreError::InUse { process, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*process, child.id().to_string());
    let beside = Store::open_beside_owner(&path).await.unwrap();
    beside.create_api_key(NewApiKey::named("beside")).await.unwrap();
    assert_eq!(
        beside.message(&Owner::Local, &answer).await.unwrap().status,
        Status::Generating,
        "the owner is still writing"
    );

    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&path).await.unwrap();
    assert_eq!(store.message(&Owner::Local, &answer).await.unwrap().status, Status::Interrupted);
    assert!(store.has_api_key().await.unwrap());
}

#[tokio::test]
async fn feedback_and_consent_survive_kill_9_right_after_they_were_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zhenjin.db");
    let (mut child, mut output) = start_writer(&path);
    let answer: MessageId = next_line(&mut output, "judged ").expect("the writer judges").parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Store::open(&path).await.unwrap();
    let kept = store.feedback(&Owner::Local, &answer).await.unwrap().expect("what was acknowledged is there");
    assert_eq!((kept.said.rating, kept.said.comment), (Some(Rating::Up), Some((JUDGED - 1).to_string())));
    assert!(store.training_consent(&Owner::Local).await.unwrap().allowed);
}
