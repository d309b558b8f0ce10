//! The models served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zhenjin_engine::{EngineObserver, EngineStats};
use zhenjin_tensor::SimdLevel;

use crate::assistant::Assistant;
use crate::error::AssistantError;

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
    /// Threads that compute one model's steps.
    pub threads: usize,
    /// Which instructions the kernels use.
    pub simd: SimdLevel,
    /// The most tokens of one conversation; `None`: the model's own.
    pub context: Option<usize>,
    /// The most requests of one model that run at once.
    pub max_batch: usize,
    /// The most requests of one model that wait beyond these.
    pub queue_limit: usize,
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

/// The models served, by name.
#[derive(Debug)]
pub struct ServedModels {}

impl ServedModels {
    /// Serves `specs`; nothing is loaded yet.
    ///
    /// # Errors
    /// [`AssistantError::NameTaken`] if two have the same name.
    pub fn new(_specs: Vec<ModelSpec>, _options: ServeOptions) -> Result<ServedModels, AssistantError> {
        todo!()
    }

    /// All models, in the order in which they were added.
    pub fn list(&self) -> Vec<ServedModelInfo> {
        todo!()
    }

    /// The model `name`, loaded if it is not. The model is not unloaded while the returned value is held.
    ///
    /// # Errors
    /// [`AssistantError::UnknownModel`], [`AssistantError::OutOfMemory`], [`AssistantError::MemoryInUse`], [`AssistantError::Load`].
    pub async fn get(&self, _name: &str) -> Result<Arc<Assistant>, AssistantError> {
        todo!()
    }

    /// The model `name` if it is loaded; does not count as a use.
    pub fn loaded(&self, _name: &str) -> Option<Arc<Assistant>> {
        todo!()
    }

    /// Serves one more model.
    ///
    /// # Errors
    /// [`AssistantError::NameTaken`] if another file is served under the name.
    pub fn add(&self, _spec: ModelSpec) -> Result<(), AssistantError> {
        todo!()
    }

    /// No longer serves the model `name`; answers that are under way go on. True if it was served.
    pub fn remove(&self, _name: &str) -> bool {
        todo!()
    }

    /// Ends all engines, each after `grace` at most; answers that are still under way then fail with [`crate::Failure::ShutDown`].
    pub async fn shutdown(&self, _grace: Duration) {
        todo!()
    }
}
