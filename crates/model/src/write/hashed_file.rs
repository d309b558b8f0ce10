//! A file that becomes visible whole or not at all, with its length and SHA-256.

use std::path::Path;

use sha2::{Digest, Sha256};
use zhenjin_files::NewFile;

use crate::errors::ModelError;

/// A file being written under a temporary name in its folder. Dropped before [`HashedFile::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct HashedFile {
    file: NewFile,
    hash: Sha256,
    bytes: u64,
}

/// A file that has been written and is safe on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenFile {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its contents.
    pub sha256: [u8; 32],
}

impl HashedFile {
    /// Begins the file that will replace `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<HashedFile, ModelError> {
        Ok(HashedFile { file: NewFile::create(path)?, hash: Sha256::new(), bytes: 0 })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`ModelError::Io`], when the disk is full for example.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.file.append(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its name, for good.
    ///
    /// # Errors
    /// [`ModelError::Io`]; a file that had the name before is then still there.
    pub fn finish(self) -> Result<WrittenFile, ModelError> {
        self.file.finish()?;
        Ok(WrittenFile { bytes: self.bytes, sha256: self.hash.finalize().into() })
    }
}
