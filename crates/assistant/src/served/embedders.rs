//! The models that make vectors of texts, served beside those that write: loaded at the first use, unloaded when idle and the memory is needed.

use std::sync::{Arc, Weak};
use std::time::Instant;

use zhenjin_model::LoadOptions;

use super::{ModelSpec, ModelState, ServedModelInfo, ServedModels, Shared, Slot, State};
use crate::embedder::{Embedder, within_limit};
use crate::error::AssistantError;

/// Those that are served, and those that are no longer served but still used, whose memory counts.
#[derive(Default)]
pub(super) struct Embedders {
    entries: Vec<EmbedderEntry>,
    departed: Vec<(Weak<Embedder>, u64)>,
}

struct EmbedderEntry {
    spec: ModelSpec,
    loaded: Option<Loaded>,
    /// Held by the request that loads it.
    loading: Loading,
}

struct Loaded {
    embedder: Arc<Embedder>,
    bytes: u64,
    last_use: u64,
}

impl Embedders {
    pub(super) fn find(&self, name: &str) -> Option<&ModelSpec> {
        self.entries.iter().map(|entry| &entry.spec).find(|spec| spec.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|entry| entry.spec.name.clone())
    }

    /// The names of those that hold memory now.
    pub(super) fn in_memory(&self) -> impl Iterator<Item = String> {
        let loaded = self.entries.iter().filter(|entry| entry.loaded.is_some());
        loaded.map(|entry| entry.spec.name.clone())
    }

    pub(super) fn add(&mut self, spec: ModelSpec) {
        self.entries.push(EmbedderEntry { spec, loaded: None, loading: Arc::default() });
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(index) = self.entries.iter().position(|entry| entry.spec.name == name) else {
            return false;
        };
        let loaded = self.entries.remove(index).loaded;
        self.departed.extend(loaded.map(|loaded| (Arc::downgrade(&loaded.embedder), loaded.bytes)));
        true
    }

    /// Bytes of all that are in memory.
    pub(super) fn bytes(&mut self) -> u64 {
        self.departed.retain(|(embedder, _)| embedder.strong_count() > 0);
        let loaded = self.entries.iter().filter_map(|entry| entry.loaded.as_ref()).map(|loaded| loaded.bytes);
        loaded.chain(self.departed.iter().map(|(_, bytes)| *bytes)).sum()
    }

    /// When the least recently used one that nobody uses was used last, with its name; with `name` only that one.
    pub(super) fn idle(&self, name: Option<&str>) -> Option<(u64, String)> {
        let named = self.entries.iter().filter(|entry| name.is_none_or(|name| entry.spec.name == name));
        // The list itself holds one reference; every other is a use.
        let idle = named.filter_map(|entry| {
            let loaded = entry.loaded.as_ref().filter(|loaded| Arc::strong_count(&loaded.embedder) == 1)?;
            Some((loaded.last_use, entry.spec.name.clone()))
        });
        idle.min()
    }

    /// Takes one out of memory once those who use it let go.
    pub(super) fn unload(&mut self, name: &str) -> Option<Arc<Embedder>> {
        let entry = self.entries.iter_mut().find(|entry| entry.spec.name == name)?;
        let loaded = entry.loaded.take()?;
        self.departed.push((Arc::downgrade(&loaded.embedder), loaded.bytes));
        Some(loaded.embedder)
    }

    fn entry(&mut self, spec: &ModelSpec) -> Option<&mut EmbedderEntry> {
        self.entries.iter_mut().find(|entry| entry.spec == *spec)
    }
}

impl ServedModels {
    /// The models that make vectors of texts, in the order in which they were added.
    pub fn embedders(&self) -> Vec<ServedModelInfo> {
        let state = self.shared.lock();
        let info = |entry: &EmbedderEntry| ServedModelInfo {
            name: entry.spec.name.clone(),
            path: entry.spec.path.clone(),
            base: None,
            promoted: None,
            state: if entry.loaded.is_some() { ModelState::Loaded } else { ModelState::Idle },
            users: entry.loaded.as_ref().map_or(0, |loaded| Arc::strong_count(&loaded.embedder) - 1),
            memory_bytes: entry.loaded.as_ref().map(|loaded| loaded.bytes),
            context_length: entry.loaded.as_ref().map(|loaded| loaded.embedder.max_tokens()),
            stats: None,
            expires_at: None,
        };
        state.embedders.entries.iter().map(info).collect()
    }

    /// The embedder `name`, loaded if it is not. It is not unloaded while the returned value is held.
    ///
    /// # Errors
    /// [`AssistantError::UnknownModel`]; [`AssistantError::Invalid`] for a model that writes; [`AssistantError::OutOfMemory`],
    /// [`AssistantError::MemoryInUse`], [`AssistantError::Load`] (for what is no model at all, too), [`AssistantError::ShuttingDown`].
    pub async fn embedder(&self, name: &str) -> Result<Arc<Embedder>, AssistantError> {
        let broken = |error| AssistantError::Internal(format!("loading the model `{name}` broke: {error}"));
        let other = self.shared.lock().unloaded_writer(name);
        if let Some(other) = other {
            // Files that are no model do not write either.
            tokio::task::spawn_blocking(move || other.check()).await.map_err(broken)??;
        }
        let (spec, loading) = match self.shared.loaded_embedder(name)? {
            Ok(embedder) => return Ok(embedder),
            Err(missing) => missing,
        };
        let asked = Instant::now();
        let mut turn = loading.lock_owned().await;
        // Whoever had the turn before has loaded it.
        if let Ok(embedder) = self.shared.loaded_embedder(name)? {
            return Ok(embedder);
        }
        // Or has waited as long as this request would, in vain.
        if let Some(NoMemory { since, in_use }) = turn.as_ref().filter(|failed| failed.since > asked) {
            tracing::debug!(model = name, ?since, "not waited for again");
            return Err(AssistantError::MemoryInUse { name: name.to_owned(), in_use: in_use.clone() });
        }
        let shared = Arc::clone(&self.shared);
        // It goes on, with the turn, even if the request is cancelled.
        let load = move || {
            let embedder = shared.load_embedder(&spec);
            if let Err(error) = &embedder {
                tracing::error!(model = %spec.name, "not loaded: {error}");
            }
            *turn = match &embedder {
                Err(AssistantError::MemoryInUse { in_use, .. }) => {
                    Some(NoMemory { since: Instant::now(), in_use: in_use.clone() })
                }
                _ => None,
            };
            drop(turn);
            embedder
        };
        tokio::task::spawn_blocking(load).await.map_err(broken)?
    }
}

type Missing = (ModelSpec, Loading);

/// The turn to load an embedder, and what became of the last try where memory was missing: those who waited for the turn share it, so that they do
/// not wait one after the other.
type Loading = Arc<tokio::sync::Mutex<Option<NoMemory>>>;

/// A try to load that waited for memory in vain.
#[derive(Debug)]
struct NoMemory {
    since: Instant,
    in_use: Vec<String>,
}

impl Shared {
    /// The embedder if it is in memory, else what loading it needs.
    fn loaded_embedder(&self, name: &str) -> Result<Result<Arc<Embedder>, Missing>, AssistantError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(AssistantError::ShuttingDown);
        }
        state.uses += 1;
        let use_number = state.uses;
        if let Some(entry) = state.embedders.entries.iter_mut().find(|entry| entry.spec.name == name) {
            return Ok(match &mut entry.loaded {
                Some(loaded) => {
                    loaded.last_use = use_number;
                    Ok(Arc::clone(&loaded.embedder))
                }
                None => Err((entry.spec.clone(), Arc::clone(&entry.loading))),
            });
        }
        let known = state.names();
        if known.iter().any(|known| known == name) {
            let reason = format!(
                "`{name}` writes text and makes no embeddings: its files do not say how its hidden states become one vector (modules.json of \
                 sentence-transformers in a folder, a pooling type in a GGUF file); name a model that does, as `/v1/models` lists them"
            );
            return Err(AssistantError::invalid("model", reason));
        }
        Err(AssistantError::UnknownModel { name: name.to_owned(), known })
    }

    fn load_embedder(&self, spec: &ModelSpec) -> Result<Arc<Embedder>, AssistantError> {
        let failed = |reason: String| AssistantError::Load { name: spec.name.clone(), reason };
        let begun = Instant::now();
        let opened = zhenjin_hub::open_embedder(&spec.path).map_err(|error| failed(error.to_string()))?;
        let estimate = Embedder::memory_estimate(&opened, self.team.threads())
            .map_err(|error| failed(error.to_string()))?;
        // No unloading frees what adapters take.
        let of_adapters = self.lock().adapters.bytes();
        let (needed, held) = within_limit(estimate, self.options.memory_bytes.saturating_sub(of_adapters));
        let plan = self.reserve(&spec.name, needed)?;
        let bytes = plan.bytes;
        // Where not even the least fits beside them, the plan decides.
        let context = if needed.page == 0 { held } else { plan.context };
        if context < opened.max_tokens {
            let models_own = opened.max_tokens;
            tracing::warn!(model = %spec.name, context, models_own, "the memory limit holds shorter texts than the model reads");
        }
        let options = LoadOptions { simd: self.options.compute.simd, team: Arc::clone(&self.team) };
        let outcome = Embedder::from_opened(opened, None, &options, context);
        let mut state = self.lock();
        state.reserved -= bytes;
        let embedder = Arc::new(outcome.map_err(|error| failed(error.to_string()))?);
        state.uses += 1;
        let last_use = state.uses;
        let loaded = Loaded { embedder: Arc::clone(&embedder), bytes, last_use };
        match state.embedders.entry(spec) {
            Some(entry) => entry.loaded = Some(loaded),
            // No longer served; the caller still gets it.
            None => state.embedders.departed.push((Arc::downgrade(&embedder), bytes)),
        }
        drop(state);
        for warning in embedder.warnings() {
            tracing::warn!(model = %spec.name, "{warning}");
        }
        tracing::info!(
            model = %spec.name,
            seconds = begun.elapsed().as_secs_f64(),
            memory_bytes = bytes,
            max_tokens = embedder.max_tokens(),
            dimensions = embedder.dimensions(),
            "embedder loaded"
        );
        Ok(embedder)
    }
}

impl State {
    /// The model `name`, unless it makes vectors, is one with an adapter or one in memory, which writes for certain; with the files whose weights
    /// answer.
    fn unloaded_writer(&self, name: &str) -> Option<ModelSpec> {
        let entry = self.entries.iter().find(|entry| entry.spec.name == name)?;
        (!matches!(entry.slot, Slot::Loaded { .. })).then(|| entry.spec.clone())
    }

    /// That the model `name` does not only embed.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`].
    pub(super) fn check_writes(&self, name: &str) -> Result<(), AssistantError> {
        if self.embedders.find(name).is_none() {
            return Ok(());
        }
        let reason = format!(
            "`{name}` is an embedding model: it makes embeddings (`/v1/embeddings`) and writes no text"
        );
        Err(AssistantError::invalid("model", reason))
    }
}
