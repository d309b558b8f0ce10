//! Why a pull failed. A source's failure leads to the next source; some failures would be the same everywhere and stop.

use std::io;
use std::path::{Path, PathBuf};

use zhenjin_files::FileError;

use crate::ModelStoreError;

/// A model that could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Every source failed.
    #[error("cannot pull {name}:{}", list(failures))]
    AllSourcesFailed {
        /// The model.
        name: String,
        /// Each source with its reason, in the order in which they were tried.
        failures: Vec<(String, String)>,
    },
    /// The observer asked to stop. What was downloaded so far is kept for the next pull.
    #[error("cancelled; the next pull goes on from here")]
    Cancelled,
    /// The disk is too full.
    #[error(
        "{} has {} free, but {} more are needed ({} bytes short)",
        folder.display(), megabytes(*available), megabytes(*needed), needed.saturating_sub(*available)
    )]
    NoSpace {
        /// Where the model would go.
        folder: PathBuf,
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that the disk has free.
        available: u64,
    },
    /// A setting that cannot be used.
    #[error("{setting}: {reason}")]
    BadOption {
        /// Which one.
        setting: &'static str,
        /// Why not.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] ModelStoreError),
}

/// Why a source could not deliver.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// Another source may do better.
    Failed(String),
    /// No source can do better.
    Stop(Box<PullError>),
}

impl SourceError {
    pub(crate) fn cancelled() -> SourceError {
        SourceError::Stop(Box::new(PullError::Cancelled))
    }

    /// The local disk refused.
    pub(crate) fn local(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
        let path = path.to_owned();
        move |error| SourceError::Stop(Box::new(ModelStoreError::Io { action, path, error }.into()))
    }
}

impl From<FileError> for SourceError {
    fn from(error: FileError) -> SourceError {
        SourceError::Stop(Box::new(ModelStoreError::from(error).into()))
    }
}

impl From<PullError> for SourceError {
    fn from(error: PullError) -> SourceError {
        SourceError::Stop(Box::new(error))
    }
}

fn list(failures: &[(String, String)]) -> String {
    failures.iter().map(|(source, reason)| format!("\n  {source}: {reason}")).collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
