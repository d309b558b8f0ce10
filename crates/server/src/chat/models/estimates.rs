//! How much memory models need, remembered by file, since telling it means reading the file's whole header.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use zhenjin_assistant::{ServeOptions, ServingForecast};

/// What is known of a file, and the file's age and size when it was learnt.
type Learnt = (Option<(u64, SystemTime)>, Option<ServingForecast>);

/// What has been learnt.
#[derive(Default)]
pub(super) struct Needs {
    known: Mutex<BTreeMap<PathBuf, Learnt>>,
}

impl Needs {
    /// What serving the model at `path` takes; `None` when its files cannot be read.
    pub(super) fn of_file(&self, path: &Path, options: &ServeOptions) -> Option<ServingForecast> {
        let file = path.metadata().ok();
        let version = file.and_then(|file| Some((file.len(), file.modified().ok()?)));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied();
        if let Some((seen, forecast)) = known
            && seen == version
        {
            return forecast;
        }
        let forecast = ServingForecast::of(path, options).inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "the memory that a model needs is not known");
        });
        let forecast = forecast.ok();
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), (version, forecast));
        forecast
    }
}

/// What a model with so many bytes of files will take at least: weights stay about as large as their file, and workspace, keys
/// and values come on top.
pub(super) fn estimate(file_bytes: u64) -> u64 {
    file_bytes.saturating_add(file_bytes / 5).saturating_add(64 << 20)
}
