//! What can go wrong with the files of a run's metrics.

use std::path::{Path, PathBuf};

use zhenjin_files::FileError;

/// A file of metrics could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The system refused.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried: `writing`, `reading` …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Replace(#[from] FileError),
    /// Progress could not be written to where the caller wanted it.
    #[error("writing progress: {0}")]
    Progress(#[source] std::io::Error),
}

impl MetricsError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
