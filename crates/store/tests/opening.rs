//! Opening files of every kind: new, old, newer, foreign, damaged, in use.

use std::path::{Path, PathBuf};

use crate::common::{exchange, fresh_store, new_conversation};
use sha2::{Digest, Sha256};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqlSafeStr};
use tempfile::TempDir;
use zhenjin_store::{KeyRole, NewApiKey, NewFeedback, Owner, Rating, Status, Store, StoreError};

async fn run_sql(path: &Path, sql: &'static str) {
    let mut connection =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn in_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zhenjin.db");
    (folder, path)
}

/// Opens, expects a refusal, and checks that the file's bytes are what they were.
async fn refused(path: &Path) -> StoreError {
    let before = std::fs::read(path).unwrap();
    let error = Store::open(path).await.expect_err("the file must be refused");
    assert_eq!(std::fs::read(path).unwrap(), before, "a refused file is left alone");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    error
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let (_folder, path) = in_folder();
    run_sql(&path, include_str!("data/version_1.sql")).await;
    let store = Store::open(&path).await.unwrap();
    let conversations = store.conversations(&Owner::Local, 10, None).await.unwrap();
    assert_eq!((conversations.len(), conversations[0].title.as_str()), (1, "火炼"));
    let messages = store.messages(&Owner::Local, &conversations[0].id).await.unwrap();
    let texts: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(texts, ["真金不怕什么？", "True gold fears no fire.", "Why?", "Because it"]);
    assert_eq!(messages[3].status, Status::Interrupted);
    for (query, count) in [("不怕什", 1), ("fears", 1), ("Because", 1), ("absent", 0)] {
        assert_eq!(store.search(&Owner::Local, query, 0, 10).await.unwrap().len(), count, "{query}");
    }
    store.create_api_key(NewApiKey::named("new table")).await.unwrap();
    exchange(&store, &conversations[0].id, Some(&messages[3].id), "And?", "So.").await;
    assert!(!store.training_consent(&Owner::Local).await.unwrap().allowed, "nobody has allowed anything");
    let liked = NewFeedback { rating: Some(Rating::Up), ..NewFeedback::default() };
    store.set_feedback(&Owner::Local, &messages[1].id, liked).await.unwrap();
    assert_eq!(store.training_feedback().await.unwrap().len(), 1);
    store.close().await;
    drop(store);
    assert_eq!(
        Store::open(&path).await.unwrap().messages(&Owner::Local, &conversations[0].id).await.unwrap().len(),
        6
    );
}

/// A chat and many messages beside what the first schema's file holds: written in decomposed letters, one of them by a process that went away.
const DECOMPOSED: &str = "
    INSERT INTO conversations (id, title, model, system_prompt, settings, created_at, updated_at)
        VALUES ('01J00000000000000000000002', 'МОСКВА Cafe\u{301}', 'tiny', '', '{}', 1, 1);
    INSERT INTO messages (number, id, conversation_id, parent_id, role, content, status, created_at)
        WITH RECURSIVE numbers (number) AS (SELECT 10 UNION ALL SELECT number + 1 FROM numbers WHERE number < 160)
        SELECT number, printf('01J100000000000000000%05d', number), '01J00000000000000000000002', NULL, 'user',
            'ngu\u{31B}\u{1A1}\u{300}i ' || number, 'complete', 1 FROM numbers;
    INSERT INTO messages (number, id, conversation_id, parent_id, role, content, status, created_at)
        VALUES (200, '01J10000000000000000000200', '01J00000000000000000000002', '01J10000000000000000000160',
            'assistant', 'le\u{301}te\u{301}', 'generating', 1);";

async fn count(store: &Store, query: &str) -> usize {
    store.search(&Owner::Local, query, 0, 1_000).await.unwrap().len()
}

/// Regression: what was written before searches knew it stayed as it was in the index.
#[tokio::test]
async fn texts_from_before_are_found_in_every_spelling() {
    let (_folder, path) = in_folder();
    run_sql(&path, include_str!("data/version_1.sql")).await;
    run_sql(&path, DECOMPOSED).await;
    let store = Store::open(&path).await.unwrap();
    let queries = [
        ("ng\u{1B0}\u{1EDD}i", 151),
        ("\"ngu\u{31B}o\u{300}\u{31B}i 159\"", 1),
        ("\u{1EDC}", 151),
        ("l\u{E9}t\u{E9}", 1),
        ("москва", 1),
        ("caf\u{E9}", 1),
        ("火炼", 1),
        ("fears", 1),
        ("不怕什", 1),
    ];
    for (query, expected) in queries {
        assert_eq!(count(&store, query).await, expected, "{query}");
    }
    store.close().await;
    drop(store);
    // A process that was killed on the way: the next one goes on behind the row to which it had come.
    run_sql(
        &path,
        "UPDATE messages SET composed = NULL WHERE number > 100;
         UPDATE conversations SET folded_title = '';
         INSERT INTO unfolded (texts, behind) VALUES ('messages', 100), ('titles', 1);",
    )
    .await;
    let store = Store::open(&path).await.unwrap();
    for (query, expected) in queries {
        let expected = if query == "火炼" { 0 } else { expected };
        assert_eq!(count(&store, query).await, expected, "{query}");
    }
    store.close().await;
    drop(store);
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM unfolded").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(left, 0, "nothing is gone through again");
}

/// The schema of before conversations had owners, with a conversation, a key and a revoked key.
async fn write_version_5(path: &Path, secret: &str) {
    let history = [
        (1, include_str!("../migrations/0001_conversations.sql")),
        (2, include_str!("../migrations/0002_search.sql")),
        (3, include_str!("../migrations/0003_generations.sql")),
        (4, include_str!("../migrations/0004_api_keys.sql")),
        (5, include_str!("../migrations/0005_generation_fingerprints.sql")),
    ];
    let migrations = history.map(|(version, sql)| {
        Migration::new(version, "".into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut connection =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    Migrator::with_migrations(migrations.into()).run(&mut connection).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO conversations (id, title, model, system_prompt, settings, created_at, updated_at)
         VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'from before', 'tiny', '', '{}', 1, 1)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    sqlx::query("INSERT INTO api_keys (id, name, hash, created_at) VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAW', 'laptop', ?, 1)")
        .bind(&digest[..])
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_was_there_before_owners_stays_with_those_who_had_it() {
    let (_folder, path) = in_folder();
    write_version_5(&path, "zj-from-before").await;
    let store = Store::open(&path).await.unwrap();
    let key = store.verify_api_key("zj-from-before").await.unwrap().expect("the key is still accepted");
    assert_eq!((key.role, &key.owner), (KeyRole::Operator, &Owner::Local));
    assert_eq!(store.conversations(&key.owner, 10, None).await.unwrap()[0].title, "from before");
    let (later, _) = store.create_api_key(NewApiKey::named("phone")).await.unwrap();
    assert_eq!((later.role, &later.owner), (KeyRole::User, &Owner::Key(later.id.clone())));
    assert!(store.conversations(&later.owner, 10, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_folder_is_made_and_only_its_owner_can_read_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep").join("er").join("数据 #1?.db");
    let store = Store::open(&path).await.unwrap();
    new_conversation(&store).await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let (folder, store) = fresh_store().await;
    new_conversation(&store).await;
    store.close().await;
    drop(store);
    let path = folder.path().join("zhenjin.db");
    run_sql(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9001, 'the future', TRUE, X'00', 1)",
    )
    .await;
    assert!(matches!(refused(&path).await, StoreError::NewerDatabase { found: 9001, .. }));
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let (_folder, path) = in_folder();
    run_sql(&path, "CREATE TABLE conversations (id INTEGER)").await;
    assert!(matches!(refused(&path).await, StoreError::ForeignDatabase { application_id: 0, .. }));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let (_folder, path) = in_folder();
    std::fs::write(&path, "Dear diary, this is not a database at all. ".repeat(100)).unwrap();
    assert!(matches!(refused(&path).await, StoreError::Corrupt { .. }));
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let mut parent = None;
    for _ in 0..50 {
        parent =
            Some(exchange(&store, &id, parent.as_ref(), &"金".repeat(500), &"火".repeat(500)).await.1.id);
    }
    store.close().await;
    drop(store);
    let path = folder.path().join("zhenjin.db");
    let whole = std::fs::read(&path).unwrap();

    let mut overwritten = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    overwritten[middle..middle + 3 * 4096].fill(0xA5);
    let truncated = whole[..whole.len() / 2].to_vec();
    let mut header = whole.clone();
    header[..16].fill(0);
    for (name, damaged) in [("overwritten", overwritten), ("truncated", truncated), ("header", header)] {
        std::fs::write(&path, damaged).unwrap();
        let error = refused(&path).await;
        assert!(matches!(error, StoreError::Corrupt { .. }), "{name}: {error}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(Store::open(&path).await.unwrap().messages(&Owner::Local, &id).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_file_left_before_the_first_migration_is_taken_up() {
    let (_folder, path) = in_folder();
    std::fs::write(&path, "").unwrap();
    new_conversation(&Store::open(&path).await.unwrap()).await;
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file_is_refused() {
    let (_folder, path) = in_folder();
    std::fs::create_dir(&path).unwrap();
    let error = Store::open(&path).await.expect_err("a folder is no database");
    assert!(error.to_string().contains("zhenjin.db"), "{error}");
}

#[tokio::test]
async fn the_owner_lets_go_when_it_is_closed_and_dropped() {
    let (folder, store) = fresh_store().await;
    let path = folder.path().join("zhenjin.db");
    assert!(matches!(Store::open(&path).await, Err(StoreError::InUse { .. })));
    store.close().await;
    drop(store);
    Store::open(&path).await.unwrap();
}

#[tokio::test]
async fn opening_waits_for_a_short_lived_holder() {
    let (folder, store) = fresh_store().await;
    let path = folder.path().join("zhenjin.db");
    let waiting = tokio::spawn(async move { Store::open(&path).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    store.close().await;
    drop(store);
    waiting.await.unwrap().expect("the lock became free in time");
}
