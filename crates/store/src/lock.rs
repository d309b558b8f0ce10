//! The process's lock: one process at a time answers for a database, because at its start it declares every answer that
//! was left unfinished to be interrupted. The system drops the lock when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// Held for as long as the process serves the database.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Takes the lock beside `database`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process (or another store in this one) holds it.
    pub(crate) fn take(database: &Path) -> Result<ProcessLock, StoreError> {
        let path = lock_path(database);
        let failed = |doing| {
            let path = path.clone();
            move |source| StoreError::Files { path, doing, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("opening the lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let known = file.read_to_string(&mut process).is_ok() && !process.trim().is_empty();
                let process = if known { process.trim().to_owned() } else { "unknown".to_owned() };
                return Err(StoreError::InUse { path: database.to_path_buf(), process });
            }
            Err(TryLockError::Error(source)) => return Err(failed("locking")(source)),
        }
        file.set_len(0).map_err(failed("writing the lock"))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("writing the lock"))?;
        Ok(ProcessLock { _file: file })
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
