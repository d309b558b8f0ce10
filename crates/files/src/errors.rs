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
    /// What lies there is the pointer that Git LFS leaves where it has not fetched a file.
    #[error("{}: {}", path.display(), self.problem())]
    LfsPointer {
        /// The path that was given.
        path: PathBuf,
        /// The size of the file that it stands for, where the pointer says it.
        bytes: Option<u64>,
    },
    /// The path names a folder, a pipe or a device.
    #[error("{}: it is not a regular file", path.display())]
    NotRegular {
        /// The path that was given.
        path: PathBuf,
    },
}

impl FileError {
    /// What is wrong, without the path, for errors that name it themselves.
    pub fn problem(&self) -> String {
        match self {
            FileError::Io { action, source, .. } => format!("cannot {action}: {source}"),
            FileError::NotRegular { .. } => "it is not a regular file".to_owned(),
            FileError::LfsPointer { bytes, .. } => format!(
                "it is a Git LFS pointer, not the file itself{}; run `git lfs pull` in its repository, or download the file",
                bytes.map(|bytes| format!(", which has {bytes} bytes")).unwrap_or_default()
            ),
        }
    }

    /// For `map_err`: the system's error with what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError::Io { path, action, source }
    }
}
