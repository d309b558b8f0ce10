//! Opening the file: lock, checks before anything is written, migrations, connections.
//!
//! Two write connections share one turn. `durable` syncs each commit to the disk (`synchronous = FULL`): questions,
//! endings, keys. `streaming` leaves the sync to the next durable commit or checkpoint (`NORMAL`): pieces of an answer
//! several times a second. Both survive `kill -9`, since the system holds what was written; only a power cut can take
//! the last pieces of an answer that was being written, never the file's consistency.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// An open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
}

struct Database {
    path: PathBuf,
    readers: SqlitePool,
    durable: SqlitePool,
    streaming: SqlitePool,
    write_turn: Mutex<()>,
    _owner: Option<ProcessLock>,
}

/// A write transaction, with the turn to write. Dropped without `commit`, it changes nothing.
pub(crate) struct Write<'a> {
    pub(crate) transaction: Transaction<'static, Sqlite>,
    path: &'a Path,
    doing: &'static str,
    _turn: MutexGuard<'a, ()>,
}

impl Write<'_> {
    /// Makes the changes lasting.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let Write { transaction, path, doing, _turn } = self;
        transaction.commit().await.map_err(|source| StoreError::from_sqlx(path, doing, source))
    }
}

impl Store {
    /// Opens the database at `path` as its owner, making it (and its folder) when missing. Answers that a previous owner
    /// left unfinished become interrupted, and conversations deleted more than 30 days ago are erased.
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
        let pool = |connections: u32, options: SqliteConnectOptions| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        let writing =
            |synchronous| connection(path).journal_mode(SqliteJournalMode::Wal).synchronous(synchronous);
        let database = Database {
            path: path.to_path_buf(),
            durable: pool(1, writing(SqliteSynchronous::Full)),
            streaming: pool(1, writing(SqliteSynchronous::Normal)),
            readers: pool(READERS, connection(path).pragma("query_only", "ON")),
            write_turn: Mutex::new(()),
            _owner: owner,
        };
        if migrate {
            let migrated = migrations::migrator().run(&database.durable).await;
            migrated.map_err(|source| StoreError::from_migration(path, source))?;
        }
        Ok(Store { database: Arc::new(database) })
    }

    /// Waits for running statements, folds the write-ahead log into the file and lets go of the owner's lock when the
    /// last clone is dropped. Calls after it fail.
    pub async fn close(&self) {
        self.database.readers.close().await;
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
        let done = (&mut *write.transaction).execute(statement).await.map_err(self.failed(doing))?;
        write.commit().await?;
        Ok(done.rows_affected())
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
        let rows = self.execute_durably(doing, statement).await?;
        if rows > 0 {
            self.empty_log().await;
        }
        Ok(rows)
    }

    /// Folds the write-ahead log into the file and empties it: it holds what was erased as well. What was erased stays so if that fails.
    pub(crate) async fn empty_log(&self) {
        let _turn = self.database.write_turn.lock().await;
        let emptied = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)");
        match emptied.fetch_one(&self.database.durable).await {
            Ok(0) => {}
            Ok(_) => tracing::warn!(
                "the write-ahead log is being read; it keeps what was erased until the next time"
            ),
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log keeps what was erased until the next time")
            }
        }
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
