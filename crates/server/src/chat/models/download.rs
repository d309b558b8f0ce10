//! One download, as a task of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zhenjin_hub::{CatalogueEntry, PullError, PullEvent, PullObserver};

use super::menu::ModelMenu;
use super::pulls::PullState;
use crate::errors::ApiError;

/// Begins a download unless it runs already; true if it did not. When it is done, the model is served.
pub(super) fn begin(menu: Arc<ModelMenu>, name: &str) -> Result<bool, ApiError> {
    let bytes = menu.catalogue().get(name).map(CatalogueEntry::bytes);
    let Some(cancel) = menu.pulls.begin(name, bytes)? else { return Ok(false) };
    let observer = Observer { menu, name: name.to_owned(), cancel };
    tokio::task::spawn_blocking(move || run(&observer));
    Ok(true)
}

fn run(observer: &Observer) {
    let Observer { menu, name, .. } = observer;
    let pulled = zhenjin_hub::pull(&menu.library.models, name, observer, &menu.library.pull);
    let (state, error) = match pulled {
        Ok(model) => match menu.serve(&model) {
            Ok(()) => (PullState::Done, None),
            Err(error) => (PullState::Failed, Some(error.message().to_owned())),
        },
        Err(PullError::Cancelled) => (PullState::Cancelled, None),
        Err(error) => (PullState::Failed, Some(error.to_string())),
    };
    tracing::info!(model = name, ?state, error, "a download ended");
    menu.pulls.update(name, |pull| {
        pull.state = state;
        pull.error = error;
    });
}

/// Records how far a download is.
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
