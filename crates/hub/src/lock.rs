//! One program at a time may change a model's folder. The operating system releases the lock when a program dies.
//! This file does not know what is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::ModelStoreError;

/// Held while a folder is changed.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks the file at `path`, which is made when it is missing and stays there.
    ///
    /// # Errors
    /// [`ModelStoreError::Busy`] when another program or thread holds the lock.
    pub(crate) fn try_acquire(path: &Path, name: &str) -> Result<FolderLock, ModelStoreError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(ModelStoreError::io("open the lock", path))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(ModelStoreError::Busy { name: name.to_owned() }),
            Err(TryLockError::Error(error)) => Err(ModelStoreError::io("lock", path)(error)),
        }
    }
}
