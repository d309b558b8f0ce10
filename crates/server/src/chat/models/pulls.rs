//! What is known of the downloads since the server began.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::errors::ApiError;

/// The most downloads at once.
const AT_ONCE: usize = 3;

/// `Retry-After` once there are so many.
const COME_AGAIN: Duration = Duration::from_secs(30);

/// What became of a download.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PullState {
    /// It is under way.
    Running,
    /// The model is here.
    Done,
    /// An error ended it.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Pull)]
pub(crate) struct PullJson {
    /// What became of it.
    pub(crate) state: PullState,
    /// Where it comes from.
    #[schema(required)]
    pub(crate) source: Option<String>,
    /// Bytes that are here.
    pub(crate) done_bytes: u64,
    /// Bytes of the whole model.
    #[schema(required)]
    pub(crate) total_bytes: Option<u64>,
    /// Why it failed; while it runs, why it waits or what failed before.
    #[schema(required)]
    pub(crate) error: Option<String>,
}

/// How far the download of one model is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PullEvent)]
pub(crate) struct PullEventJson {
    /// The model.
    name: String,
    #[serde(flatten)]
    pull: PullJson,
}

impl PullEventJson {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// One event of the model menu's stream.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub(crate) enum ModelEvent {
    /// How far a download is.
    Pull(PullEventJson),
}

/// The downloads since the server began, by model; the latest of each.
#[derive(Default)]
pub(crate) struct Pulls {
    known: Mutex<BTreeMap<String, Known>>,
    /// Told whenever anything changes.
    changes: watch::Sender<()>,
}

struct Known {
    pull: PullJson,
    cancel: Arc<AtomicBool>,
}

impl Known {
    fn is_running(&self) -> bool {
        self.pull.state == PullState::Running
    }
}

impl Pulls {
    pub(crate) fn get(&self, name: &str) -> Option<PullJson> {
        self.lock().get(name).map(|known| known.pull.clone())
    }

    pub(super) fn events(&self) -> Vec<PullEventJson> {
        let known = self.lock();
        known
            .iter()
            .map(|(name, known)| PullEventJson { name: name.clone(), pull: known.pull.clone() })
            .collect()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Asks a download to stop; false if none runs.
    pub(crate) fn cancel(&self, name: &str) -> bool {
        let known = self.lock();
        let running = known.get(name).filter(|known| known.is_running());
        running.inspect(|running| running.cancel.store(true, Ordering::Relaxed)).is_some()
    }

    pub(super) fn cancel_all(&self) {
        for known in self.lock().values() {
            known.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Drops what is known of an ended download, as when its model is removed.
    pub(super) fn forget(&self, name: &str) {
        let mut known = self.lock();
        if known.get(name).is_some_and(|known| !known.is_running()) {
            known.remove(name);
        }
    }

    /// Records that a download of `total_bytes` begins. Returns the flag that asks it to stop; `None` when it runs already.
    pub(super) fn begin(
        &self,
        name: &str,
        total_bytes: Option<u64>,
    ) -> Result<Option<Arc<AtomicBool>>, ApiError> {
        let mut known = self.lock();
        if known.get(name).is_some_and(Known::is_running) {
            return Ok(None);
        }
        if known.values().filter(|known| known.is_running()).count() >= AT_ONCE {
            let message =
                format!("{AT_ONCE} models are being downloaded already; wait for one, or cancel one");
            return Err(ApiError::too_many_requests(message, COME_AGAIN));
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let pull =
            PullJson { state: PullState::Running, source: None, done_bytes: 0, total_bytes, error: None };
        known.insert(name.to_owned(), Known { pull, cancel: Arc::clone(&cancel) });
        drop(known);
        self.changes.send_replace(());
        Ok(Some(cancel))
    }

    /// Records how a download goes on.
    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut PullJson)) {
        if let Some(known) = self.lock().get_mut(name) {
            change(&mut known.pull);
        }
        self.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
