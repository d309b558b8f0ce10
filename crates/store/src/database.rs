//! Opening the file: lock, checks before anything is written, migrations, connections.
//!
//! Two write connections share one turn. `durable` syncs each commit to the disk (`synchronous = FULL`): questions,
//! endings, keys. `streaming` leaves the sync to the next durable commit or checkpoint (`NORMAL`): pieces of an answer
//! several times a second. Both survive `kill -9`, since the system holds what was written; only a power cut can take
//! the last pieces of an answer that was being written, never the file's consistency.
//!
//! What reads much (searches, exports) has connections of its own, so that it never holds up the others' short questions. Whatever erases
//! must also leave the write-ahead log, which keeps what it was told until it is emptied.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    ConnectOptions, Connection, Execute, Executor, Sqlite, SqliteConnection, SqlitePool, Transaction,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::lock::ProcessLock;
use crate::{StoreError, migrations};

/// "ZHJN", as the first migration writes it into the file's header.
const APPLICATION_ID: i64 = 0x5A48_4A4E;

/// How long a write waits for another process's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long opening waits for a short-lived process (a key being made) to let go of the owner's lock.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// Simultaneous reading connections.
const READERS: u32 = 4;

/// How long a statement waits for a connection.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);

/// Simultaneous connections for what reads much.
const SCANNERS: u32 = 2;

/// How long what reads much waits for one of its connections.
const SCAN_PATIENCE: Duration = Duration::from_secs(5);

/// After how many of SQLite's instructions a scan looks whether anybody still waits for it.
const SCAN_INSTRUCTIONS: i32 = 1_000;

/// How long an attempt to empty the write-ahead log waits for those who read from it. Nobody can write meanwhile.
const LOG_PATIENCE: Duration = Duration::from_millis(100);

/// Attempts to empty the log, and the pause between two of them, in which others write.
const LOG_ATTEMPTS: u32 = 4;
const LOG_PAUSE: Duration = Duration::from_millis(50);

/// An open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
}

struct Database {
    path: PathBuf,
    readers: SqlitePool,
    scanners: SqlitePool,
    durable: SqlitePool,
    streaming: SqlitePool,
    /// Empties the write-ahead log.
    emptier: SqlitePool,
    write_turn: Mutex<()>,
    /// Whether the write-ahead log may hold what was erased. Set before the commit that erases, by whoever has the turn to write, and
    /// cleared when the log is empty: so it stays set if a caller goes away between the two.
    log_holds_erased: AtomicBool,
    /// Held while the use of a key is noted; when that failed last, in milliseconds since 1970.
    use_notes: Mutex<Option<i64>>,
    _owner: Option<ProcessLock>,
}

/// A connection for statements that read much. When it is dropped, as when the caller goes away, the statement that runs on it ends.
pub(crate) struct Scan {
    // Dropped before the connection, which is given back when its statement has ended.
    _given_up: SetOnDrop,
    pub(crate) connection: PoolConnection<Sqlite>,
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A write transaction, with the turn to write. Dropped without `commit`, it changes nothing.
pub(crate) struct Write<'a> {
    pub(crate) transaction: Transaction<'static, Sqlite>,
    path: &'a Path,
    doing: &'static str,
    _turn: MutexGuard<'a, ()>,
}

impl Write<'_> {
    /// Carries out one statement, and says how many rows it changed.
    async fn execute<'q>(&mut self, statement: impl Execute<'q, Sqlite> + 'q) -> Result<u64, StoreError> {
        let done = (&mut *self.transaction).execute(statement).await;
        let done = done.map_err(|source| StoreError::from_sqlx(self.path, self.doing, source))?;
        Ok(done.rows_affected())
    }

    /// Makes the changes lasting.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let Write { transaction, path, doing, _turn } = self;
        transaction.commit().await.map_err(|source| StoreError::from_sqlx(path, doing, source))
    }
}

impl Store {
    /// Opens the database at `path` as its owner, making it (and its folder) when missing. Answers that a previous owner
    /// left unfinished become interrupted, conversations deleted more than 30 days ago are erased, and the write-ahead log is emptied.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process owns it; [`StoreError::Corrupt`], [`StoreError::ForeignDatabase`] and
    /// [`StoreError::NewerDatabase`] leave the file as it was.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        prepare_file(path)?;
        let owner = patiently_take(path).await?;
        let store = Store::connect(path, Some(owner), true).await?;
        let interrupted = store.interrupt_unfinished().await?;
        let purged = store.purge_expired().await?;
        // A process that was killed may have left in it what was erased.
        store.empty_log().await;
        tracing::info!(path = %path.display(), interrupted, purged, "store opened");
        Ok(store)
    }

    /// Opens the database at `path` beside a possible owner, for short administration such as making a key. Unfinished
    /// answers are left alone, since the owner may be writing them.
    ///
    /// # Errors
    /// As [`Store::open`]; [`StoreError::InUse`] only when the owner runs a different schema.
    pub async fn open_beside_owner(path: &Path) -> Result<Store, StoreError> {
        prepare_file(path)?;
        match ProcessLock::take(path) {
            Ok(_owner_while_migrating) => Store::connect(path, None, true).await,
            Err(StoreError::InUse { path, process }) => match Store::connect(&path, None, false).await? {
                store if store.schema_version().await? == migrations::NEWEST => Ok(store),
                _ => Err(StoreError::InUse { path, process }),
            },
            Err(error) => Err(error),
        }
    }

    async fn connect(path: &Path, owner: Option<ProcessLock>, migrate: bool) -> Result<Store, StoreError> {
        check_before_use(path).await?;
        let writing =
            |synchronous| connection(path).journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
        let reading = || connection(path).pragma("query_only", "ON");
        let scanners = pool(SCANNERS).acquire_timeout(SCAN_PATIENCE).after_release(|connection, _| {
            Box::pin(async move {
                connection.lock_handle().await?.remove_progress_handler();
                Ok(true)
            })
        });
        let database = Database {
            path: path.to_path_buf(),
            durable: pool(1).connect_lazy_with(writing(SqliteSynchronous::Full)),
            streaming: pool(1).connect_lazy_with(writing(SqliteSynchronous::Normal)),
            emptier: pool(1).connect_lazy_with(writing(SqliteSynchronous::Full).busy_timeout(LOG_PATIENCE)),
            readers: pool(READERS).connect_lazy_with(reading()),
            scanners: scanners.connect_lazy_with(reading()),
            write_turn: Mutex::new(()),
            log_holds_erased: AtomicBool::new(false),
            use_notes: Mutex::new(None),
            _owner: owner,
        };
        let store = Store { database: Arc::new(database) };
        if migrate {
            let migrated = migrations::migrator().run(&store.database.durable).await;
            migrated.map_err(|source| StoreError::from_migration(path, source))?;
            store.fold_older_texts().await?;
        }
        Ok(store)
    }

    /// Waits for running statements, folds the write-ahead log into the file and lets go of the owner's lock when the
    /// last clone is dropped. Calls after it fail.
    pub async fn close(&self) {
        self.database.readers.close().await;
        self.database.scanners.close().await;
        self.database.emptier.close().await;
        self.database.streaming.close().await;
        self.database.durable.close().await;
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.database.path
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.database.readers
    }

    /// Connections for what reads much.
    pub(crate) fn scanners(&self) -> &SqlitePool {
        &self.database.scanners
    }

    /// One of them, whose statement ends when it is dropped.
    pub(crate) async fn scan(&self, doing: &'static str) -> Result<Scan, StoreError> {
        let mut connection = self.scanners().acquire().await.map_err(self.failed(doing))?;
        let given_up = SetOnDrop(Arc::default());
        let is_given_up = Arc::clone(&given_up.0);
        let mut handle = connection.lock_handle().await.map_err(self.failed(doing))?;
        handle.set_progress_handler(SCAN_INSTRUCTIONS, move || !is_given_up.load(Ordering::Relaxed));
        drop(handle);
        Ok(Scan { _given_up: given_up, connection })
    }

    /// Held while the use of a key is noted; when that failed last, in milliseconds since 1970.
    pub(crate) fn use_notes(&self) -> &Mutex<Option<i64>> {
        &self.database.use_notes
    }

    /// An error of the library, sorted, with what was being done.
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        move |source| StoreError::from_sqlx(&self.database.path, doing, source)
    }

    /// Begins a transaction whose commit reaches the disk before it returns.
    pub(crate) async fn write_durably(&self, doing: &'static str) -> Result<Write<'_>, StoreError> {
        let turn = self.database.write_turn.lock().await;
        // IMMEDIATE: a transaction that begins by reading could not become a writer once another process has written.
        let begun = self.database.durable.begin_with("BEGIN IMMEDIATE").await;
        let transaction = begun.map_err(self.failed(doing))?;
        Ok(Write { transaction, path: &self.database.path, doing, _turn: turn })
    }

    /// Carries out one statement, durably, and says how many rows it changed.
    pub(crate) async fn execute_durably<'q>(
        &self,
        doing: &'static str,
        statement: impl Execute<'q, Sqlite> + 'q,
    ) -> Result<u64, StoreError> {
        let mut write = self.write_durably(doing).await?;
        let changed = write.execute(statement).await?;
        write.commit().await?;
        Ok(changed)
    }

    /// Carries out one statement, whose change survives the process, and the machine once a durable commit follows; says how many
    /// rows it changed. It is a transaction by itself: to begin and to commit one would wake the connection's thread twice more.
    pub(crate) async fn execute_streaming<'q>(
        &self,
        doing: &'static str,
        statement: impl Execute<'q, Sqlite> + 'q,
    ) -> Result<u64, StoreError> {
        let _turn = self.database.write_turn.lock().await;
        let done = self.database.streaming.execute(statement).await.map_err(self.failed(doing))?;
        Ok(done.rows_affected())
    }

    /// Carries out one statement that erases, durably, and leaves nothing of what it erased in the write-ahead log; says how many rows it
    /// changed.
    pub(crate) async fn erase_durably<'q>(
        &self,
        doing: &'static str,
        statement: impl Execute<'q, Sqlite> + 'q,
    ) -> Result<u64, StoreError> {
        let mut write = self.write_durably(doing).await?;
        let changed = write.execute(statement).await?;
        match changed {
            0 => write.commit().await?,
            _ => self.commit_erasure(write).await?,
        }
        Ok(changed)
    }

    /// Makes changes lasting that erase or replace what somebody wrote, and leaves nothing of it in the write-ahead log.
    pub(crate) async fn commit_erasure(&self, write: Write<'_>) -> Result<(), StoreError> {
        // Before the commit: whoever waits for it may go away while it runs.
        self.database.log_holds_erased.store(true, Ordering::SeqCst);
        write.commit().await?;
        self.empty_log().await;
        Ok(())
    }

    /// Folds the write-ahead log into the file and empties it: it holds what was erased as well. What was erased stays so if that fails,
    /// as while somebody reads from the log; then [`Store::let_go_of_erased`] tries again.
    pub(crate) async fn empty_log(&self) {
        self.database.log_holds_erased.store(true, Ordering::SeqCst);
        if !self.let_go_of_erased().await {
            tracing::warn!("the write-ahead log keeps what was erased until the next attempt to empty it");
        }
    }

    /// Empties the write-ahead log if it may hold what was erased. Says whether nothing of that is left in it; if not, because somebody reads
    /// from it or the disk refuses, the owner of the database is to try again soon.
    pub async fn let_go_of_erased(&self) -> bool {
        for attempt in 0..LOG_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(LOG_PAUSE).await;
            }
            match self.try_to_empty_log().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the write-ahead log could not be emptied");
                    return false;
                }
            }
        }
        false
    }

    async fn try_to_empty_log(&self) -> Result<bool, sqlx::Error> {
        let _turn = self.database.write_turn.lock().await;
        if !self.database.log_holds_erased.load(Ordering::SeqCst) {
            return Ok(true);
        }
        let is_busy: i64 =
            sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.database.emptier).await?;
        if is_busy == 0 {
            self.database.log_holds_erased.store(false, Ordering::SeqCst);
        }
        Ok(is_busy == 0)
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        let doing = "reading the schema's version";
        let mut connection = self.readers().acquire().await.map_err(self.failed(doing))?;
        schema_version(&mut connection).await.map_err(self.failed(doing))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("path", &self.database.path).finish_non_exhaustive()
    }
}

/// Options that every pool shares.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECTION_PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Options that every connection shares.
fn connection(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Erased conversations leave no readable pages behind.
        .pragma("secure_delete", "ON")
        // A file from elsewhere cannot run functions through its schema, and damaged pages are noticed when read.
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .disable_statement_logging()
}

/// Makes the folder and an empty file that only its owner can read. SQLite gives its side files the same mode.
fn prepare_file(path: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Files {
            path: folder.to_path_buf(),
            doing: "making the folder",
            source,
        })?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => {
            Err(StoreError::Files { path: path.to_path_buf(), doing: "making the database", source })
        }
    }
}

async fn patiently_take(path: &Path) -> Result<ProcessLock, StoreError> {
    let began = Instant::now();
    loop {
        match ProcessLock::take(path) {
            Err(StoreError::InUse { .. }) if began.elapsed() < OWNER_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}

/// Refuses a file that is damaged, another program's, or newer, before anything is written to it.
async fn check_before_use(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::from_sqlx(path, "checking the database", source);
    let mut connection = connection(path).connect().await.map_err(failed)?;
    let checked = check_connection(path, &mut connection).await;
    connection.close().await.map_err(failed)?;
    checked
}

async fn check_connection(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let failed = |source| StoreError::from_sqlx(path, "checking the database", source);
    let findings: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(5)").fetch_all(&mut *connection).await.map_err(failed)?;
    if findings != ["ok"] {
        return Err(StoreError::Corrupt { path: path.to_path_buf(), detail: findings.join("; ") });
    }
    let application_id: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    // A process killed between making the file and the first migration leaves at most the migrations' own table.
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
    let unused = tables == 0 && application_id == 0;
    if application_id != APPLICATION_ID && !unused {
        return Err(StoreError::ForeignDatabase { path: path.to_path_buf(), application_id });
    }
    let found = schema_version(connection).await.map_err(failed)?;
    if found > migrations::NEWEST {
        return Err(StoreError::NewerDatabase { path: path.to_path_buf(), found, known: migrations::NEWEST });
    }
    Ok(())
}

/// The newest migration in the file; 0 when there is none.
async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let recorded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await?;
    if recorded == 0 {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a search went on to its end though nobody waited for it any more, and requests with keys waited for its connection.
    #[tokio::test]
    async fn what_reads_much_ends_with_its_caller_and_holds_up_no_short_question() {
        const ENDLESS: &str =
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("zhenjin.db")).await.expect("a new store");
        for _ in 0..=SCANNERS {
            let mut scan = store.scan("counting").await.expect("a connection that was given back");
            let counted = sqlx::query_scalar::<_, i64>(ENDLESS).fetch_one(&mut *scan.connection);
            let counted = tokio::time::timeout(Duration::from_millis(20), counted).await;
            assert!(counted.is_err(), "it has no end: {counted:?}");
        }
        let mut held = Vec::new();
        for _ in 0..SCANNERS {
            held.push(store.scan("holding").await.expect("a connection"));
        }
        assert!(!store.has_api_key().await.expect("an answer"));
    }
}
