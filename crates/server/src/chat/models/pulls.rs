//! Downloads under way, each a task of its own. Does not know sources: `hub` pulls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use zhenjin_hub::{PullError, PullEvent, PullObserver};

use super::ModelMenu;
use crate::errors::ApiError;

/// The most downloads at once.
const AT_ONCE: usize = 3;

/// When to come again once there are so many.
const COME_AGAIN: Duration = Duration::from_secs(30);

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Pull)]
pub(crate) struct PullJson {
    /// `running`, `done`, `failed` or `cancelled`.
    state: &'static str,
    /// Where it comes from.
    source: Option<String>,
    /// Bytes that are here.
    done_bytes: u64,
    /// Bytes of the whole model.
    total_bytes: Option<u64>,
    /// Why it failed; while it runs, why it waits or what failed before.
    error: Option<String>,
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

/// The downloads since the server began, by model; the latest of each.
#[derive(Default)]
pub(super) struct Pulls {
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
        self.pull.state == "running"
    }
}

impl Pulls {
    pub(super) fn get(&self, name: &str) -> Option<PullJson> {
        self.lock().get(name).map(|known| known.pull.clone())
    }

    pub(super) fn events(&self) -> Vec<PullEventJson> {
        let known = self.lock();
        known
            .iter()
            .map(|(name, known)| PullEventJson { name: name.clone(), pull: known.pull.clone() })
            .collect()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Asks a download to stop; false if none runs.
    pub(super) fn cancel(&self, name: &str) -> bool {
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

    fn update(&self, name: &str, change: impl FnOnce(&mut PullJson)) {
        if let Some(known) = self.lock().get_mut(name) {
            change(&mut known.pull);
        }
        self.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a download unless it runs already. When it is done, the model is served.
pub(super) fn begin(menu: Arc<ModelMenu>, name: &str) -> Result<(), ApiError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let mut known = menu.pulls.lock();
    if known.get(name).is_some_and(Known::is_running) {
        return Ok(());
    }
    if known.values().filter(|known| known.is_running()).count() >= AT_ONCE {
        let message = format!("{AT_ONCE} models are being downloaded already; wait for one, or cancel one");
        return Err(ApiError::too_many_requests(message, COME_AGAIN));
    }
    let size = menu.catalogue().get(name).map(zhenjin_hub::CatalogueEntry::bytes);
    let pull = PullJson { state: "running", source: None, done_bytes: 0, total_bytes: size, error: None };
    known.insert(name.to_owned(), Known { pull, cancel: Arc::clone(&cancel) });
    drop(known);
    menu.pulls.changes.send_replace(());
    let observer = Observer { menu, name: name.to_owned(), cancel };
    tokio::task::spawn_blocking(move || run(&observer));
    Ok(())
}

fn run(observer: &Observer) {
    let Observer { menu, name, .. } = observer;
    let pulled = zhenjin_hub::pull(&menu.library.models, name, observer, &menu.library.pull);
    let (state, error) = match pulled {
        Ok(model) => match menu.serve(&model) {
            Ok(()) => ("done", None),
            Err(error) => ("failed", Some(error.message().to_owned())),
        },
        Err(PullError::Cancelled) => ("cancelled", None),
        Err(error) => ("failed", Some(error.to_string())),
    };
    tracing::info!(model = name, state, error, "a download ended");
    menu.pulls.update(name, |pull| {
        pull.state = state;
        pull.error = error;
    });
}

/// Takes down how far a download is.
struct Observer {
    menu: Arc<ModelMenu>,
    name: String,
    cancel: Arc<AtomicBool>,
}

impl PullObserver for Observer {
    fn on_event(&self, event: PullEvent<'_>) {
        self.menu.pulls.update(&self.name, |pull| match event {
            PullEvent::SourceTried { source } => pull.source = Some(source.to_owned()),
            PullEvent::SourceFailed { source, reason } => pull.error = Some(format!("{source}: {reason}")),
            PullEvent::Waiting { reason, .. } => pull.error = Some(reason.to_owned()),
            PullEvent::FileStarted { .. } | PullEvent::FileVerified { .. } => pull.error = None,
            PullEvent::Progress { done_bytes, total_bytes } => {
                pull.done_bytes = done_bytes;
                pull.total_bytes = total_bytes.or(pull.total_bytes);
                pull.error = None;
            }
        });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}
