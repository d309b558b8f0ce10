//! The models served: by name, loaded at first use, unloaded when idle and the memory is needed.
//!
//! [`memory`] estimates what a model takes, [`reserve`] decides which idle models are unloaded for it, [`load`] loads
//! one, with its [`draft`] model if it has one. A request gets the model that it named or an error, never another one.

mod adapters;
mod draft;
mod embedders;
mod expiry;
mod load;
mod memory;
mod promoted;
mod reserve;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use zhenjin_engine::{EngineObserver, EngineStats, Speculation};
use zhenjin_model::KvCacheDtype;
use zhenjin_tensor::{ComputeOptions, ThreadTeam};

use crate::answer::repetition::RepetitionDetection;
use crate::assistant::{Assistant, LoadedModel};
use crate::embedder::Embedder;
use crate::error::AssistantError;
use adapters::{Adapters, Meant};
use embedders::Embedders;
use expiry::Expiry;
use promoted::Parted;

pub use adapters::AdapterSpec;
pub use draft::DraftSpec;
pub use promoted::{AdapterChanges, PromotedWeights};

/// A model to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The name under which requests ask for it.
    pub name: String,
    /// A GGUF file or a Hugging Face folder.
    pub path: PathBuf,
}

/// Makes the observer of the model with the given name, at each load.
pub type ObserverOfModel = Arc<dyn Fn(&str) -> Arc<dyn EngineObserver> + Send + Sync>;

/// How models are served.
#[derive(Clone)]
pub struct ServeOptions {
    /// The most bytes of weights, workspaces, keys and values, over all loaded models.
    pub memory_bytes: u64,
    /// Which instructions the kernels use, and the threads that compute, for all models together.
    pub compute: ComputeOptions,
    /// How keys and values are kept.
    pub kv_cache_dtype: KvCacheDtype,
    /// The most tokens of one conversation; `None`: the model's own.
    pub context: Option<usize>,
    /// The most requests of one model that run at once.
    pub max_batch: usize,
    /// The most requests of one model that wait beyond these.
    pub queue_limit: usize,
    /// How the next tokens of answers are guessed, so that one step can check several.
    pub speculation: Speculation,
    /// Models that guess the next tokens of served ones, at most one for each.
    pub drafts: Vec<DraftSpec>,
    /// When an answer counts as a loop and is ended, where a request says nothing.
    pub repetition_detection: RepetitionDetection,
    /// Told what each model's engine does.
    pub observer: Option<ObserverOfModel>,
}

/// A served model.
#[derive(Clone, Debug, PartialEq)]
pub struct ServedModelInfo {
    /// Its name.
    pub name: String,
    /// Where its files are.
    pub path: PathBuf,
    /// For a model with an adapter: the name of the model alone. `path` and `memory_bytes` are then the adapter's.
    pub base: Option<String>,
    /// What was promoted to answer under its name, if its own weights do not.
    pub promoted: Option<String>,
    /// Whether it is in memory.
    pub state: ModelState,
    /// Requests, or other holders, that use it now.
    pub users: usize,
    /// Bytes that it takes in memory, if it is loaded.
    pub memory_bytes: Option<u64>,
    /// The most tokens of one conversation, if it is loaded.
    pub context_length: Option<usize>,
    /// What its engine counted, if it is loaded.
    pub stats: Option<EngineStats>,
    /// When it will be unloaded if nobody uses it until then; `None`: it stays until its memory is needed.
    pub expires_at: Option<SystemTime>,
}

/// Whether a model is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// On disk only; loaded at the next use.
    Idle,
    /// Being loaded.
    Loading,
    /// Ready.
    Loaded,
}

/// How a load ended; `None` while it goes on.
type Outcome = Option<Result<Arc<Assistant>, AssistantError>>;

enum Slot {
    Idle,
    Loading(watch::Receiver<Outcome>),
    Loaded { assistant: Arc<Assistant>, last_use: u64, expiry: Option<Expiry> },
}

impl Slot {
    /// The memory that its model takes until the last answer of it ends.
    fn departing(&self) -> Option<Departed> {
        match self {
            Slot::Loaded { assistant, .. } => Some(Departed {
                model: Arc::downgrade(&assistant.model),
                bytes: assistant.info().memory_bytes,
            }),
            _ => None,
        }
    }
}

struct Entry {
    /// The name, and the files whose weights answer.
    spec: ModelSpec,
    /// The files with which it was added.
    own_path: PathBuf,
    /// The promotion that answers; `None`: the model's own weights.
    promoted: Option<String>,
    /// The model that this one is without what is promoted (`MODEL+base`), for as long as whole weights answer in its place.
    alone_of: Option<String>,
    /// Adapters of other weights than those that answer.
    parted: Vec<Parted>,
    slot: Slot,
}

/// A model that is no longer served but still used by running answers; its memory counts.
struct Departed {
    model: std::sync::Weak<LoadedModel>,
    bytes: u64,
}

struct State {
    entries: Vec<Entry>,
    adapters: Adapters,
    embedders: Embedders,
    departed: Vec<Departed>,
    /// Bytes granted to models that are being loaded.
    reserved: u64,
    uses: u64,
    is_closed: bool,
}

/// What the loading threads share with the callers that ask for models.
struct Shared {
    options: ServeOptions,
    /// The threads that compute, the same for all models: two models at once are no reason for twice as many.
    team: Arc<ThreadTeam>,
    state: Mutex<State>,
    /// How often the state was locked.
    #[cfg(test)]
    locks: std::sync::atomic::AtomicUsize,
}

impl Shared {
    /// Ignores poisoning: every change to the list is a single assignment, so that a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The models served, by name.
pub struct ServedModels {
    shared: Arc<Shared>,
}

impl ServedModels {
    /// Serves `specs`; nothing is loaded yet.
    ///
    /// # Errors
    /// [`AssistantError::NameTaken`] if two have the same name, [`AssistantError::Internal`] if the system refuses the
    /// threads that compute.
    pub fn new(specs: Vec<ModelSpec>, options: ServeOptions) -> Result<ServedModels, AssistantError> {
        let state = State {
            entries: Vec::new(),
            adapters: Adapters::default(),
            embedders: Embedders::default(),
            departed: Vec::new(),
            reserved: 0,
            uses: 0,
            is_closed: false,
        };
        let team =
            options.compute.start_team().map_err(|error| AssistantError::Internal(error.to_string()))?;
        let shared = Shared {
            options,
            team: Arc::new(team),
            state: Mutex::new(state),
            #[cfg(test)]
            locks: std::sync::atomic::AtomicUsize::new(0),
        };
        let models = ServedModels { shared: Arc::new(shared) };
        for spec in specs {
            models.add(spec)?;
        }
        Ok(models)
    }

    /// How models are served.
    pub fn options(&self) -> &ServeOptions {
        &self.shared.options
    }

    /// The threads that compute for all models, for whoever else computes in this process.
    pub fn team(&self) -> &Arc<ThreadTeam> {
        &self.shared.team
    }

    /// All models that write, in the order in which they were added, each followed by itself with its adapters; see
    /// [`ServedModels::embedders`] for the others.
    pub fn list(&self) -> Vec<ServedModelInfo> {
        let state = self.shared.lock();
        let with_adapters = |entry: &Entry| {
            let info = entry.info();
            let adapters = state.adapters.of_model(&info);
            std::iter::once(info.clone()).chain(state.without_promoted(info)).chain(adapters)
        };
        state.entries.iter().flat_map(with_adapters).collect()
    }

    /// The models that write, in the order in which they were added, with the files that they were added with, whatever is promoted.
    pub fn own_files(&self) -> Vec<ModelSpec> {
        let state = self.shared.lock();
        let own = |entry: &Entry| ModelSpec { name: entry.spec.name.clone(), path: entry.own_path.clone() };
        state.entries.iter().filter(|entry| entry.alone_of.is_none()).map(own).collect()
    }

    /// Whether requests can name `name`: a model that writes, one with an adapter, or an embedder.
    pub fn serves(&self, name: &str) -> bool {
        self.shared.lock().names().iter().any(|known| known == name)
    }

    /// The model `name`, or the model with an adapter of that name, loaded if it is not. The model is not unloaded while the returned value, or an
    /// answer of it, is held. Requests that come while it is being loaded wait for the same load, which goes
    /// on even if all of them are cancelled.
    ///
    /// # Errors [`AssistantError::UnknownModel`], [`AssistantError::OutOfMemory`],
    /// [`AssistantError::MemoryInUse`], [`AssistantError::Load`]; [`AssistantError::Invalid`] for an embedder, which writes nothing.
    pub async fn get(&self, name: &str) -> Result<Arc<Assistant>, AssistantError> {
        let (Meant { model, adapter }, found) = {
            // Under one lock: a promotion in between would add the adapter of the weights before to those after.
            let mut state = self.shared.lock();
            let meant = state.meant(name);
            let found = self.shared.find_or_load_in(&mut state, &meant.model)?;
            (meant, found)
        };
        let assistant = found.loaded(&model).await?;
        Ok(match adapter {
            Some((adapter, lease)) => Arc::new(assistant.with_adapter(name, adapter, lease)),
            None if model == name => assistant,
            None => Arc::new(assistant.named(name)),
        })
    }

    /// The model `name` if it is loaded; does not count as a use.
    pub fn loaded(&self, name: &str) -> Option<Arc<Assistant>> {
        self.shared.lock().entries.iter().find(|entry| entry.spec.name == name).and_then(|entry| match &entry
            .slot
        {
            Slot::Loaded { assistant, .. } => Some(Arc::new(assistant.leased())),
            _ => None,
        })
    }

    /// Serves one more model, which writes or is an embedder. The same model under the same name once more changes nothing.
    ///
    /// # Errors
    /// [`AssistantError::NameTaken`] if another file is served under the name.
    pub fn add(&self, spec: ModelSpec) -> Result<(), AssistantError> {
        let embeds = Embedder::is_at(&spec.path);
        let mut state = self.shared.lock();
        match state.embedders.find(&spec.name) {
            Some(known) if *known == spec => return Ok(()),
            Some(known) => {
                return Err(AssistantError::NameTaken { name: spec.name, path: known.path.clone() });
            }
            None => {}
        }
        match state.entries.iter().find(|entry| entry.spec.name == spec.name) {
            Some(entry) if entry.own_path == spec.path => Ok(()),
            Some(entry) => Err(AssistantError::NameTaken { name: spec.name, path: entry.spec.path.clone() }),
            None if embeds => {
                state.embedders.add(spec);
                Ok(())
            }
            None => {
                let own_path = spec.path.clone();
                state.entries.push(Entry::new(spec, own_path));
                Ok(())
            }
        }
    }

    /// Requests, or other holders, that use the model `name` now: with what is promoted or with an adapter, or without (`MODEL+base`), which may
    /// be in memory beside it.
    pub fn users_of(&self, name: &str) -> usize {
        let of_encoders = self.embedders().into_iter().filter(|model| model.name == name);
        let of_encoders: usize = of_encoders.map(|model| model.users).sum();
        let state = self.shared.lock();
        let entries = state.entries.iter().filter(|entry| entry.is_of(name));
        of_encoders + entries.map(|entry| entry.info().users).sum::<usize>()
    }

    /// No longer serves the model `name`, its adapters and its `MODEL+base`; running answers go on. True if it was served.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.shared.lock();
        if state.embedders.remove(name) {
            tracing::info!(model = name, "no longer served");
            return true;
        }
        let mut removed = Vec::new();
        while let Some(index) = state.entries.iter().position(|entry| entry.is_of(name)) {
            removed.push(state.take_off(index));
        }
        drop(state);
        if removed.is_empty() {
            return false;
        }
        tracing::info!(model = name, "no longer served");
        // Dropped outside the lock: this may be the last holder, and an engine's thread takes a moment to
        // end.
        drop(removed);
        true
    }

    /// Takes the model `name`, or the model of an adapter of that name, out of memory unless it is in use; the next request loads
    /// it again. True if it was taken out.
    pub fn unload(&self, name: &str) -> bool {
        let name = &*self.model_of(name);
        // Dropped outside the lock: an engine's thread takes a moment to end.
        let Some(unloaded) = self.shared.lock().take_idle(Some(name)) else { return false };
        tracing::info!(model = name, "unloaded: a request asked for it");
        drop(unloaded);
        true
    }

    /// Loads nothing more, and ends all engines, each after `grace` at most; answers that still run
    /// then fail with [`crate::Failure::ShutDown`].
    pub async fn shutdown(&self, grace: Duration) {
        let assistants: Vec<Arc<Assistant>> = {
            let mut state = self.shared.lock();
            state.is_closed = true;
            let loaded = state.entries.iter().filter_map(|entry| match &entry.slot {
                Slot::Loaded { assistant, .. } => Some(Arc::clone(assistant)),
                _ => None,
            });
            loaded.collect()
        };
        let ends: Vec<_> = assistants
            .into_iter()
            .map(|assistant| tokio::task::spawn_blocking(move || assistant.model.engine.shutdown(grace)))
            .collect();
        for end in ends {
            if let Err(error) = end.await {
                tracing::error!("an engine did not end cleanly: {error}");
            }
        }
    }
}

impl std::fmt::Debug for ServedModels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServedModels").field("models", &self.list()).finish_non_exhaustive()
    }
}

enum Found {
    Loaded(Arc<Assistant>),
    Loading(watch::Receiver<Outcome>),
}

impl Found {
    /// The model, which `name` is the name of, once it is loaded.
    async fn loaded(self, name: &str) -> Result<Arc<Assistant>, AssistantError> {
        let mut loading = match self {
            Found::Loaded(assistant) => return Ok(assistant),
            Found::Loading(receiver) => receiver,
        };
        let outcome = loading.wait_for(Option::is_some).await;
        match outcome.ok().and_then(|outcome| outcome.clone()) {
            Some(outcome) => outcome.map(|assistant| Arc::new(assistant.leased())),
            None => Err(AssistantError::Internal(format!(
                "the load of the model `{name}` ended without a result"
            ))),
        }
    }
}

impl State {
    /// Takes a model off the list, with its adapters. The memory that it takes counts until its last answer ends.
    fn take_off(&mut self, index: usize) -> Entry {
        let entry = self.entries.remove(index);
        self.adapters.remove(|adapter| adapter.model == entry.spec.name);
        self.adapters.promote(&entry.spec.name, None);
        self.departed.extend(entry.slot.departing());
        entry
    }
}

impl Shared {
    /// The model `name`, or the load of it, which begins if it is neither in memory nor being loaded.
    fn find_or_load_in(self: &Arc<Self>, state: &mut State, name: &str) -> Result<Found, AssistantError> {
        if state.is_closed {
            return Err(AssistantError::ShuttingDown);
        }
        state.uses += 1;
        let use_number = state.uses;
        state.check_writes(name)?;
        let Some(entry) = state.entries.iter_mut().find(|entry| entry.spec.name == name) else {
            return Err(AssistantError::UnknownModel { name: name.to_owned(), known: state.names() });
        };
        match &mut entry.slot {
            Slot::Loaded { assistant, last_use, expiry } => {
                *last_use = use_number;
                *expiry = None;
                Ok(Found::Loaded(Arc::new(assistant.leased())))
            }
            Slot::Loading(receiver) => {
                tracing::info!(model = name, "a request waits: the model is being loaded");
                Ok(Found::Loading(receiver.clone()))
            }
            slot @ Slot::Idle => {
                tracing::info!(model = name, "a request waits: the model is loaded at its first use");
                let (sender, receiver) = watch::channel(None);
                let (shared, spec) = (Arc::clone(self), entry.spec.clone());
                // A thread of its own, not a task of the first caller: the caller may disconnect.
                let started = std::thread::Builder::new()
                    .name("model-loading".to_owned())
                    .spawn(move || shared.load_and_tell(&spec, &sender));
                started.map_err(|error| {
                    AssistantError::Internal(format!("no thread to load the model: {error}"))
                })?;
                *slot = Slot::Loading(receiver.clone());
                Ok(Found::Loading(receiver))
            }
        }
    }

    fn load_and_tell(self: Arc<Self>, spec: &ModelSpec, sender: &watch::Sender<Outcome>) {
        let mut granted = 0;
        let load = std::panic::AssertUnwindSafe(|| {
            load::load(spec, &self.options, &self.team, |estimate| {
                let plan = self.reserve(&spec.name, estimate)?;
                granted = plan.bytes;
                Ok(plan)
            })
        });
        let outcome = std::panic::catch_unwind(load).unwrap_or_else(|_| {
            let reason = "the program met a fault of its own while loading it (see the log)".to_owned();
            Err(AssistantError::Load { name: spec.name.clone(), reason })
        });
        if let Err(error) = &outcome {
            tracing::error!(model = %spec.name, "not loaded: {error}");
        }
        let outcome = outcome.map(Arc::new);
        let mut state = self.lock();
        state.reserved -= granted;
        state.uses += 1;
        let last_use = state.uses;
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.spec == *spec && matches!(entry.slot, Slot::Loading(_)));
        match (&outcome, entry) {
            (Ok(assistant), Some(entry)) => {
                entry.slot = Slot::Loaded { assistant: Arc::clone(assistant), last_use, expiry: None }
            }
            (Err(_), Some(entry)) => entry.slot = Slot::Idle,
            // No longer served; callers that waited for it still get it.
            (Ok(assistant), None) => {
                let departed = Departed { model: Arc::downgrade(&assistant.model), bytes: granted };
                state.departed.push(departed);
            }
            (Err(_), None) => {}
        }
        drop(state);
        sender.send_replace(Some(outcome));
    }
}

impl Entry {
    fn new(spec: ModelSpec, own_path: PathBuf) -> Entry {
        Entry { spec, own_path, promoted: None, alone_of: None, parted: Vec::new(), slot: Slot::Idle }
    }

    /// Whether it is the model `name`, or that model without what is promoted.
    fn is_of(&self, name: &str) -> bool {
        self.spec.name == name || self.alone_of.as_deref() == Some(name)
    }

    fn info(&self) -> ServedModelInfo {
        let mut info = ServedModelInfo {
            name: self.spec.name.clone(),
            path: self.spec.path.clone(),
            base: None,
            promoted: self.promoted.clone(),
            state: ModelState::Idle,
            users: 0,
            memory_bytes: None,
            context_length: None,
            stats: None,
            expires_at: None,
        };
        match &self.slot {
            Slot::Idle => {}
            Slot::Loading(_) => info.state = ModelState::Loading,
            Slot::Loaded { assistant, expiry, .. } => {
                info.state = ModelState::Loaded;
                info.expires_at = expiry.as_ref().map(|expiry| expiry.at);
                info.users = assistant.users();
                info.memory_bytes = Some(assistant.info().memory_bytes);
                info.context_length = Some(assistant.info().context_length);
                info.stats = Some(assistant.stats());
            }
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn nothing_served() -> ServedModels {
        let options = ServeOptions {
            memory_bytes: 1 << 30,
            compute: ComputeOptions { threads: 1, ..ComputeOptions::detect() },
            kv_cache_dtype: KvCacheDtype::default(),
            context: None,
            max_batch: 1,
            queue_limit: 1,
            speculation: Speculation::default(),
            drafts: Vec::new(),
            repetition_detection: RepetitionDetection::default(),
            observer: None,
        };
        ServedModels::new(Vec::new(), options).unwrap()
    }

    /// Regression: a promotion between the two looks loaded the new weights and added the adapter of the ones before.
    #[test]
    fn what_a_name_means_and_its_weights_are_looked_up_under_one_lock() {
        let models = nothing_served();
        let before = models.shared.locks.load(Ordering::Relaxed);
        let got = std::pin::pin!(models.get("absent")).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(got, Poll::Ready(Err(AssistantError::UnknownModel { .. }))), "{got:?}");
        assert_eq!(models.shared.locks.load(Ordering::Relaxed) - before, 1);
    }
}
