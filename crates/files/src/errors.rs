//! What can go wrong with a file, said so that the user can act on it.

use std::path::{Path, PathBuf};

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done to it, as a verb: "open", "write", "map into memory".
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The path names a folder, a pipe or a device.
    #[error("{}: it is not a regular file", path.display())]
    NotRegular {
        /// The path that was given.
        path: PathBuf,
    },
}

impl FileError {
    /// For `map_err`: the system's error with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError::Io { path, action, source }
    }
}
