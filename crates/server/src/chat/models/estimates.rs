//! Estimates of the memory that models take, remembered by file, since an estimate means reading the file's whole header.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use zhenjin_assistant::{MemoryEstimate, ServeOptions};

/// The estimate for a file, if it could be read, and the file's size and time of change at that time.
type Remembered = (Option<(u64, SystemTime)>, Option<MemoryEstimate>);

/// Estimates by the model's path.
#[derive(Default)]
pub(super) struct Estimates {
    known: Mutex<BTreeMap<PathBuf, Remembered>>,
}

impl Estimates {
    /// The memory that serving the model at `path` takes; `None` when its files cannot be read.
    pub(super) fn of_file(&self, path: &Path, options: &ServeOptions) -> Option<MemoryEstimate> {
        let file = path.metadata().ok();
        let version = file.and_then(|file| Some((file.len(), file.modified().ok()?)));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some((seen, estimate)) = known
            && seen == version
        {
            return estimate;
        }
        let estimate = options.memory_estimate_at(path).inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "the memory that a model takes is not known");
        });
        let estimate = estimate.ok();
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), (version, estimate));
        estimate
    }
}

/// About the least memory of a model that has not been fetched, of which only the size of its files is known: weights stay about
/// as large as their file; workspace and KV cache come on top.
pub(super) fn least_by_file_size(file_bytes: u64) -> u64 {
    file_bytes.saturating_add(file_bytes / 5).saturating_add(64 << 20)
}
