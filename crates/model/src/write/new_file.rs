//! A file that becomes visible whole or not at all: temporary file, fsync, rename, fsync of the folder.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::errors::ModelError;

/// Bytes that are collected before they are handed to the operating system.
const BUFFER: usize = 1 << 20;

/// A file being written under a temporary name in its folder. Dropped before [`NewFile::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
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

impl NewFile {
    /// Begins the file that will replace `path`.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder is missing or cannot be written to.
    pub fn create(path: &Path) -> Result<NewFile, ModelError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".").suffix(".partial");
        #[cfg(unix)]
        {
            // What the user's mask allows, as for every new file; a temporary file alone would be for its owner only.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder(path)).map_err(|source| failed(path, "create", source))?;
        let out = BufWriter::with_capacity(BUFFER, temporary);
        Ok(NewFile { path: path.to_owned(), out, hash: Sha256::new(), bytes: 0 })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`ModelError::Io`], when the disk is full for example.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.out.write_all(bytes).map_err(|source| failed(&self.path, "write", source))?;
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
        let failed = |action| {
            let path = &self.path;
            move |source| failed(path, action, source)
        };
        let temporary = self.out.into_inner().map_err(|error| failed("write")(error.into_error()))?;
        temporary.as_file().sync_all().map_err(failed("write to disk"))?;
        temporary.persist(&self.path).map_err(|error| failed("rename")(error.error))?;
        sync_folder(folder(&self.path)).map_err(failed("write the folder of"))?;
        Ok(WrittenFile { bytes: self.bytes, sha256: self.hash.finalize().into() })
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes renames in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn failed(path: &Path, action: &'static str, source: std::io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), action, source }
}
