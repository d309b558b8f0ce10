//! The trash, and conversations that begin with messages.

use std::path::Path;

use crate::common::{exchange, fresh_store, new_conversation, question};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use zhenjin_store::{AnswerEnd, NewConversation, NewFeedback, Owner, Role, Status, Store, StoreError};

async fn trash(store: &Store, owner: &Owner) -> Vec<String> {
    let deleted = store.deleted_conversations(owner, 50, None).await.unwrap();
    deleted.into_iter().map(|deleted| deleted.conversation.title).collect()
}

#[tokio::test]
async fn deleted_conversations_are_listed_restored_and_erased() {
    let (_folder, store) = fresh_store().await;
    let mut ids = Vec::new();
    for title in ["one", "two", "three", "four"] {
        let id = new_conversation(&store).await.id;
        exchange(&store, &id, None, title, "an answer").await;
        ids.push(id);
    }
    assert!(trash(&store, &Owner::Local).await.is_empty());
    for id in &ids[..3] {
        store.delete_conversation(&Owner::Local, id).await.unwrap();
    }
    let mut listed = trash(&store, &Owner::Local).await;
    listed.sort();
    assert_eq!(listed, ["one", "three", "two"]);

    // In pages, each once.
    let first = store.deleted_conversations(&Owner::Local, 2, None).await.unwrap();
    let rest = store.deleted_conversations(&Owner::Local, 2, Some(&first[1].conversation.id)).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    assert!(first[0].deleted_at >= first[1].deleted_at && first[1].deleted_at >= rest[0].deleted_at);

    store.restore_conversation(&Owner::Local, &ids[0]).await.unwrap();
    assert_eq!(store.messages(&Owner::Local, &ids[0]).await.unwrap().len(), 2);
    store.erase_conversation(&Owner::Local, &ids[1]).await.unwrap();
    assert_eq!(trash(&store, &Owner::Local).await, ["three"]);
    for id in [&ids[1], &ids[0], &ids[3]] {
        let refused = store.erase_conversation(&Owner::Local, id).await;
        assert!(matches!(refused, Err(StoreError::NotFound { .. })), "only what is in the trash is erased");
    }
    assert_eq!(store.empty_trash(&Owner::Local).await.unwrap(), 1);
    assert!(trash(&store, &Owner::Local).await.is_empty());
    assert_eq!(store.conversations(&Owner::Local, 50, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_trash_of_others_is_not_there() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    store.delete_conversation(&Owner::Local, &id).await.unwrap();
    let other = Owner::Key("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap());
    assert!(trash(&store, &other).await.is_empty());
    assert_eq!(store.empty_trash(&other).await.unwrap(), 0);
    assert!(store.erase_conversation(&other, &id).await.is_err());
    assert!(store.deleted_conversations(&other, 10, Some(&id)).await.is_err());
    assert_eq!(trash(&store, &Owner::Local).await.len(), 1);
}

#[tokio::test]
async fn a_conversation_begins_with_its_first_question() {
    let (_folder, store) = fresh_store().await;
    let new = NewConversation { model: "tiny".to_owned(), ..NewConversation::default() };
    let (made, asked, answer) =
        store.begin_conversation(&Owner::Local, new, "Why?".to_owned(), "Why?").await.unwrap();
    assert_eq!((made.title.as_str(), made.current_leaf.as_ref()), ("Why?", Some(&answer.id)));
    assert_eq!((asked.content.as_str(), asked.role, asked.parent_id.as_ref()), ("Why?", Role::User, None));
    assert_eq!((answer.status, answer.parent_id.as_ref()), (Status::Generating, Some(&asked.id)));
    assert_eq!(answer.model.as_deref(), Some("tiny"));
    assert_eq!(store.messages(&Owner::Local, &made.id).await.unwrap(), [asked, answer]);
}

#[tokio::test]
async fn a_conversation_continues_with_the_last_turns_of_another() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (first, one) = exchange(&store, &id, None, "first", "one").await;
    let (second, two) = store.ask(&Owner::Local, question(&id, Some(&one.id), "second")).await.unwrap();
    let cut = AnswerEnd {
        text: "two".to_owned(),
        finish_reason: Some("length".to_owned()),
        ..AnswerEnd::new(Status::Complete)
    };
    let two = store.end_answer(&Owner::Local, &two.id, cut).await.unwrap();
    let (_, three) = exchange(&store, &id, Some(&two.id), "third", "three").await;
    let new = || NewConversation {
        title: "first, continued".to_owned(),
        model: "tiny".to_owned(),
        system_prompt: "A summary.".to_owned(),
        ..NewConversation::default()
    };
    let made = store.continue_conversation(&Owner::Local, new(), &second.id, &three.id).await.unwrap();
    let copies = store.messages(&Owner::Local, &made.id).await.unwrap();
    assert_eq!(copies[1].finish_reason.as_deref(), Some("length"), "why it ended is known of the copy too");
    let texts: Vec<&str> = copies.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(texts, ["second", "two", "third", "three"]);
    assert!(copies.iter().all(|message| message.status == Status::Complete));
    assert_eq!(copies[0].parent_id, None);
    for pair in copies.windows(2) {
        assert_eq!(pair[1].parent_id.as_ref(), Some(&pair[0].id));
    }
    assert_eq!(made.current_leaf.as_ref(), copies.last().map(|last| &last.id));
    assert_eq!((made.title.as_str(), made.system_prompt.as_str()), ("first, continued", "A summary."));
    assert_eq!(store.messages(&Owner::Local, &id).await.unwrap().len(), 6, "the other one stays as it is");

    // Not from an answer, not from elsewhere, not to a question or an answer that is being written.
    let (asked, growing) = store.ask(&Owner::Local, question(&id, Some(&three.id), "fourth")).await.unwrap();
    for (from, to) in
        [(&one.id, &three.id), (&asked.id, &three.id), (&first.id, &asked.id), (&first.id, &growing.id)]
    {
        let refused = store.continue_conversation(&Owner::Local, new(), from, to).await;
        assert!(matches!(refused, Err(StoreError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(store.conversations(&Owner::Local, 50, None).await.unwrap().len(), 2);
}

const SECRET: &str = "SECRET-龘靐齉爩鱻";

/// The files in the folder that hold the secret.
fn files_with_the_secret(folder: &Path) -> Vec<String> {
    files_with(folder, SECRET)
}

fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read(&path).unwrap();
        if file.windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A connection of another program.
async fn connection(path: &Path) -> SqliteConnection {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql("SELECT count(*) FROM messages").execute(&mut connection).await.unwrap();
    connection
}

/// Somebody who reads: what comes after what they see stays in the write-ahead log until they end.
async fn reader(path: &Path) -> SqliteConnection {
    let mut connection = connection(path).await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM messages").execute(&mut connection).await.unwrap();
    connection
}

async fn erase_a_secret(store: &Store) {
    let id = new_conversation(store).await.id;
    exchange(store, &id, None, SECRET, SECRET).await;
    store.delete_conversation(&Owner::Local, &id).await.unwrap();
    assert_eq!(store.empty_trash(&Owner::Local).await.unwrap(), 1);
}

/// Regression: what was erased while somebody read stayed in the write-ahead log until the next erasure.
#[tokio::test]
async fn what_was_erased_leaves_the_log_when_nobody_reads_any_more() {
    let (folder, store) = fresh_store().await;
    let reader = reader(store.path()).await;
    erase_a_secret(&store).await;
    assert!(!store.let_go_of_erased().await, "somebody reads");
    assert!(!files_with_the_secret(folder.path()).is_empty());
    reader.close().await.unwrap();
    assert!(store.let_go_of_erased().await);
    assert_eq!(files_with_the_secret(folder.path()), [""; 0]);
    assert!(store.let_go_of_erased().await, "nothing is left to do");
}

/// Regression: a process that was killed before its log was emptied left in it what was erased, for as long as the next one ran.
#[tokio::test]
async fn opening_empties_the_log_of_a_process_that_was_killed() {
    let (folder, store) = fresh_store().await;
    let reader = reader(store.path()).await;
    erase_a_secret(&store).await;
    let left = tempfile::tempdir().unwrap();
    for name in ["zhenjin.db", "zhenjin.db-wal"] {
        std::fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    reader.close().await.unwrap();
    // SQLite itself empties the log when the last connection ends, so there is another one.
    let path = left.path().join("zhenjin.db");
    let other = connection(&path).await;
    assert!(!files_with_the_secret(left.path()).is_empty());
    let opened = Store::open(&path).await.unwrap();
    assert_eq!(files_with_the_secret(left.path()), [""; 0]);
    opened.close().await;
    other.close().await.unwrap();
}

/// Regression: a comment or a correction that another one took the place of stayed in the write-ahead log.
#[tokio::test]
async fn words_that_others_take_the_place_of_are_in_no_file() {
    let (folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (_, answer) = exchange(&store, &id, None, "Why?", "So.").await;
    for (comment, correction) in [
        (Some(SECRET), None),
        (Some("too short"), None),
        (None, Some(SECRET)),
        (None, Some("Because of the air.")),
    ] {
        let owned = |words: Option<&str>| words.map(str::to_owned);
        let said =
            NewFeedback { comment: owned(comment), correction: owned(correction), ..NewFeedback::default() };
        store.set_feedback(&Owner::Local, &answer.id, said).await.unwrap();
        let is_said = comment == Some(SECRET) || correction == Some(SECRET);
        assert_eq!(files_with_the_secret(folder.path()).is_empty(), !is_said, "{comment:?} {correction:?}");
    }
}

/// What is kept of texts and titles for searches is erased with them.
#[tokio::test]
async fn texts_as_searches_look_through_them_are_erased() {
    let (folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let written = "GEHEIMNISSE\u{301} 龘靐";
    exchange(&store, &id, None, written, written).await;
    let all = [written, "GEHEIMNISS\u{C9} 龘靐", "geheimniss\u{E9} 龘靐"];
    for text in all {
        assert!(!files_with(folder.path(), text).is_empty(), "{text}");
    }
    store.delete_conversation(&Owner::Local, &id).await.unwrap();
    assert_eq!(store.empty_trash(&Owner::Local).await.unwrap(), 1);
    for text in all {
        assert_eq!(files_with(folder.path(), text), [""; 0], "{text}");
    }
}
