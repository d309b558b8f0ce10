//! Reserves memory for a model that is to be loaded: idle models are unloaded for it, the least recently used first, never
//! one in use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zhenjin_model::{MemoryEstimate, MemoryPlan};

use super::{Departed, Shared, Slot, State};
use crate::assistant::Assistant;
use crate::embedder::Embedder;
use crate::error::AssistantError;

/// How long a load waits for models in use to become idle.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Polling interval: nothing is signalled when the last holder of a model drops it.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A model that was taken out of memory, to be dropped outside the lock.
#[expect(dead_code, reason = "it is only dropped")]
pub(super) enum Unloaded {
    Model(Arc<Assistant>),
    Embedder(Arc<Embedder>),
}

impl State {
    /// Bytes that are not taken.
    pub(super) fn available(&mut self, limit: u64) -> u64 {
        self.departed.retain(|departed| departed.model.strong_count() > 0);
        let loaded = self.entries.iter().map(|entry| match &entry.slot {
            Slot::Loaded { assistant, .. } => assistant.info().memory_bytes,
            _ => 0,
        });
        let departed = self.departed.iter().map(|departed| departed.bytes);
        let models = loaded.chain(departed).sum::<u64>();
        limit.saturating_sub(models + self.adapters.bytes() + self.embedders.bytes() + self.reserved)
    }

    /// Takes the least recently used idle model out, with its name; with `name` only that one.
    pub(super) fn take_idle(&mut self, name: Option<&str>) -> Option<(String, Unloaded)> {
        let of_embedders = self.embedders.idle(name);
        let of_models = self.entries.iter().filter(|entry| name.is_none_or(|name| entry.spec.name == name));
        let of_models = of_models.filter_map(|entry| match &entry.slot {
            Slot::Loaded { assistant, last_use, .. } if assistant.users() == 0 => Some(*last_use),
            _ => None,
        });
        match (of_embedders, of_models.min()) {
            (Some((last_use, idle)), model) if model.is_none_or(|model| last_use < model) => {
                let embedder = self.embedders.unload(&idle)?;
                Some((idle, Unloaded::Embedder(embedder)))
            }
            _ => self.take_idle_model(name).map(|(name, model)| (name, Unloaded::Model(model))),
        }
    }

    fn take_idle_model(&mut self, name: Option<&str>) -> Option<(String, Arc<Assistant>)> {
        let named = self.entries.iter_mut().filter(|entry| name.is_none_or(|name| entry.spec.name == name));
        let idle = named.filter_map(|entry| match &entry.slot {
            Slot::Loaded { assistant, last_use, .. } if assistant.users() == 0 => Some((*last_use, entry)),
            _ => None,
        });
        let (_, entry) = idle.min_by_key(|(last_use, _)| *last_use)?;
        match std::mem::replace(&mut entry.slot, Slot::Idle) {
            Slot::Loaded { assistant, .. } => {
                // Should somebody still hold it who has no lease yet, its memory counts until they let go.
                let (model, bytes) = (Arc::downgrade(&assistant.model), assistant.info().memory_bytes);
                let name = entry.spec.name.clone();
                self.departed.push(Departed { model, bytes });
                Some((name, assistant))
            }
            _ => None,
        }
    }

    fn in_use(&self) -> Vec<String> {
        let holds_memory = self.entries.iter().filter(|entry| !matches!(entry.slot, Slot::Idle));
        holds_memory.map(|entry| entry.spec.name.clone()).chain(self.embedders.in_memory()).collect()
    }
}

impl Shared {
    /// Grants memory to the model `name`, unloading idle models for it and waiting for ones in use if need
    /// be. The bytes of the plan are reserved until the caller gives them back.
    ///
    /// # Errors
    /// [`AssistantError::OutOfMemory`] if the limit is too low for this model alone, [`AssistantError::MemoryInUse`] if others did not become idle in time.
    pub(super) fn reserve(&self, name: &str, estimate: MemoryEstimate) -> Result<MemoryPlan, AssistantError> {
        let limit = self.options.memory_bytes;
        if estimate.least() > limit {
            let name = name.to_owned();
            return Err(AssistantError::OutOfMemory {
                name,
                needed_bytes: estimate.least(),
                limit_bytes: limit,
            });
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut told = false;
        loop {
            let mut state = self.lock();
            if state.is_closed {
                return Err(AssistantError::ShuttingDown);
            }
            let available = state.available(limit);
            if available < estimate.full_context().min(limit)
                && let Some((idle, assistant)) = state.take_idle(None)
            {
                drop(state);
                tracing::info!(model = %idle, for_model = name, "unloaded: idle, and its memory is needed");
                drop(assistant);
                continue;
            }
            if let Some(plan) = estimate.plan(available) {
                state.reserved += plan.bytes;
                return Ok(plan);
            }
            let in_use: Vec<String> = state.in_use().into_iter().filter(|other| other != name).collect();
            drop(state);
            if Instant::now() > deadline {
                return Err(AssistantError::MemoryInUse { name: name.to_owned(), in_use });
            }
            if !told {
                tracing::warn!(model = name, in_use = ?in_use, needed = estimate.least(), available, "waits: its memory is in use");
                told = true;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
