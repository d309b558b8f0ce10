//! The store's errors, by kind: what was wrong, where, and what to do.

use std::path::{Path, PathBuf};

use crate::{MessageId, Status};

/// SQLite's result codes that mean more than "the statement failed" (<https://www.sqlite.org/rescode.html>).
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// Every way in which the store fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file, its folder or its lock could not be made or opened.
    #[error("{path}: {doing} failed: {source}", path = path.display())]
    Files {
        /// File or folder concerned.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process serves this database.
    #[error("{path} is in use by another zhenjin (process {process}); stop it first, or give this one another data folder", path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// Process id as the owner wrote it, or "unknown".
        process: String,
    },
    /// The database was written by a later version of the program.
    #[error("{path} was written by a newer zhenjin (schema {found}; this program knows up to {known}); install that version or a later one. The file was not changed", path = path.display())]
    NewerDatabase {
        /// The database.
        path: PathBuf,
        /// Newest migration in the file.
        found: i64,
        /// Newest migration of this program.
        known: i64,
    },
    /// The file is an SQLite database of another program.
    #[error("{path} is a database of another program (application id {application_id}); give zhenjin another data folder. The file was not changed", path = path.display())]
    ForeignDatabase {
        /// The database.
        path: PathBuf,
        /// The id found in its header.
        application_id: i64,
    },
    /// The file is damaged, or no database at all.
    #[error("{path} is damaged: {detail}. Nothing was deleted or repaired: keep a copy of it (and of {path}-wal, if there is one), then `sqlite3 FILE .recover` gets out what can be read, or move it away to start empty", path = path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// SQLite's finding.
        detail: String,
    },
    /// A migration did not go through; the file stands at the migration before it.
    #[error("{path} could not be brought to this version's schema: {source}", path = path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// What failed.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// Another process held the database's write lock for too long, or too much was being read at once.
    #[error("{path} stayed busy while {doing}: another process locks it, or much is being read; try again", path = path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
    },
    /// The disk is full, read-only or failing.
    #[error("{path}: the disk refused while {doing}: {detail}", path = path.display())]
    Disk {
        /// The database.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// SQLite's words.
        detail: String,
    },
    /// Any other refusal of the database.
    #[error("{path}: {doing} failed: {source}", path = path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The library's error.
        source: Box<sqlx::Error>,
    },
    /// No row of that name.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// Kind of row.
        what: &'static str,
        /// The name asked for.
        id: String,
    },
    /// A message cannot stand where it was to be put.
    #[error("message {parent} cannot be the parent: {reason}")]
    InvalidParent {
        /// The parent asked for.
        parent: String,
        /// Why not.
        reason: &'static str,
    },
    /// Text or an ending came for an answer that has already ended.
    #[error("answer {id} is no longer being written: it is {status}")]
    NotGenerating {
        /// The answer.
        id: MessageId,
        /// Its state.
        status: Status,
    },
    /// An answer was judged before it ended.
    #[error("answer {id} is still being written; judge it when it has ended")]
    StillGenerating {
        /// The answer.
        id: MessageId,
    },
    /// A value that the store itself limits.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {source}")]
    Randomness {
        /// The system's answer.
        source: getrandom::Error,
    },
}

impl StoreError {
    pub(crate) fn not_found(what: &'static str, id: &str) -> StoreError {
        StoreError::NotFound { what, id: id.chars().take(64).collect() }
    }

    /// Sorts an error of the database library by what it means for the user.
    pub(crate) fn from_sqlx(path: &Path, doing: &'static str, source: sqlx::Error) -> StoreError {
        let path = path.to_path_buf();
        if matches!(source, sqlx::Error::PoolTimedOut) {
            return StoreError::Busy { path, doing };
        }
        let Some((primary, detail)) = sqlite_code(&source) else {
            return StoreError::Database { path, doing, source: Box::new(source) };
        };
        match primary {
            code::CORRUPT | code::NOTADB => StoreError::Corrupt { path, detail },
            code::BUSY => StoreError::Busy { path, doing },
            code::FULL | code::READONLY | code::IOERR | code::CANTOPEN => {
                StoreError::Disk { path, doing, detail }
            }
            _ => StoreError::Database { path, doing, source: Box::new(source) },
        }
    }

    pub(crate) fn from_migration(path: &Path, source: sqlx::migrate::MigrateError) -> StoreError {
        use sqlx::migrate::MigrateError;
        match source {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)
                if sqlite_code(&source).is_some() =>
            {
                match StoreError::from_sqlx(path, "bringing the schema up to date", source) {
                    StoreError::Database { path, source, .. } => {
                        StoreError::Migration { path, source: Box::new(MigrateError::Execute(*source)) }
                    }
                    sorted => sorted,
                }
            }
            source => StoreError::Migration { path: path.to_path_buf(), source: Box::new(source) },
        }
    }
}

/// SQLite's primary result code (the low byte of the extended one) and its message.
fn sqlite_code(error: &sqlx::Error) -> Option<(i32, String)> {
    let database = error.as_database_error()?;
    let extended: i32 = database.code()?.parse().ok()?;
    Some((extended & 0xff, database.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: whoever waited in vain for a connection that others read with was told that the database had failed.
    #[test]
    fn a_wait_in_vain_for_a_connection_is_a_busy_database() {
        let error = StoreError::from_sqlx(Path::new("x.db"), "searching", sqlx::Error::PoolTimedOut);
        assert!(matches!(error, StoreError::Busy { doing: "searching", .. }), "{error}");
    }
}
