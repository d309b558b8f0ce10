//! Models that are to leave memory a while after their last use. A use before that keeps them: what is said with the later use
//! counts then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::{ServedModels, Shared, Slot};

/// When a loaded model is to be unloaded. Dropped with its slot, or at the next use, and then it does not happen.
pub(super) struct Expiry {
    pub(super) at: SystemTime,
    number: u64,
    task: AbortHandle,
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ServedModels {
    /// Takes the model `name`, or the model of an adapter of that name, out of memory after `time`, unless it is used again or
    /// another time is named until then. A model that is in use when its time is over stays. Outside a tokio runtime
    /// there is no clock, and the model stays.
    pub fn unload_after(&self, name: &str, time: Duration) {
        let name = self.model_of(name);
        // A time that no clock can show is longer than the program runs.
        let Some(at) = SystemTime::now().checked_add(time) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.shared.lock();
        state.uses += 1;
        let number = state.uses;
        let Some(entry) = state.entries.iter_mut().find(|entry| entry.spec.name == name) else { return };
        if let Slot::Loaded { expiry, .. } = &mut entry.slot {
            let shared = Arc::clone(&self.shared);
            let task = runtime.spawn(async move {
                tokio::time::sleep(time).await;
                shared.expire(&name, number);
            });
            *expiry = Some(Expiry { at, number, task: task.abort_handle() });
        }
    }

    /// The model that is computed with under the name: an adapter's names its model as well.
    pub(super) fn model_of(&self, name: &str) -> String {
        self.shared.lock().meant(name).model
    }
}

impl Shared {
    /// Unloads the model if its time is still the one with this number.
    fn expire(&self, name: &str, number: u64) {
        let mut state = self.lock();
        let is_due = state.entries.iter_mut().any(|entry| match &mut entry.slot {
            Slot::Loaded { expiry, .. } if entry.spec.name == name => {
                expiry.take_if(|expiry| expiry.number == number).is_some()
            }
            _ => false,
        });
        let unloaded = if is_due { state.take_idle(Some(name)) } else { None };
        drop(state);
        if let Some(unloaded) = unloaded {
            tracing::info!(model = name, "unloaded: its time in memory is over");
            // The engine's thread takes a moment to end.
            tokio::task::spawn_blocking(move || drop(unloaded));
        }
    }
}
