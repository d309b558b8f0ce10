//! What the model menu's requests share: the models on this machine, those that are served, and the downloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zhenjin_assistant::{
    Assistant, AssistantError, Embedder, ModelSpec, ServeOptions, ServedModelInfo, ServedModels,
};
use zhenjin_hub::{Catalogue, LocalModel, ModelStore, ModelStoreError, PullOptions};
use zhenjin_promotions::{Improvements, Promotions};

use super::description::{Description, Descriptions};
use super::estimates::Estimates;
use super::program::{ImproveCommand, RunningImprovement};
use super::pulls::Pulls;
use crate::blocking::blocking;
use crate::errors::ApiError;
use crate::openai::fault;
use crate::security::Caller;

/// Where models come from and where they lie.
#[derive(Debug, Clone)]
pub struct Library {
    /// The models on this machine.
    pub models: ModelStore,
    /// A folder of adapters, each in a folder of its own, that requests may load. It need not exist.
    pub adapters: PathBuf,
    /// What was promoted to answer under models' names.
    pub promotions: Promotions,
    /// The records of improvements.
    pub improvements: Improvements,
    /// How one is made; `None`: not by requests.
    pub improve: Option<ImproveCommand>,
    /// How to get others.
    pub pull: PullOptions,
    /// Bytes of memory that the machine has.
    pub memory_total: u64,
}

/// A model that requests can name.
pub(crate) struct KnownModel {
    pub(crate) name: String,
    /// Where its files are; of one with an adapter, the adapter's.
    pub(crate) path: PathBuf,
    /// Its place in the model store, if it lies there.
    pub(crate) files: Option<LocalModel>,
    /// How it is served; `None` if it is not yet.
    pub(crate) served: Option<ServedModelInfo>,
    /// Whether it is an embedding model, which makes embeddings and writes nothing.
    pub(crate) embeds: bool,
}

/// What the model menu's requests share.
pub(crate) struct ModelMenu {
    pub(super) library: Library,
    pub(super) served: Arc<ServedModels>,
    pub(crate) pulls: Pulls,
    pub(super) estimates: Estimates,
    descriptions: Descriptions,
    /// Held by the request that loads an adapter.
    pub(super) adapter_turn: Arc<tokio::sync::Mutex<()>>,
    /// The program that makes an improvement.
    pub(crate) improvement: Arc<RunningImprovement>,
    /// The model for new conversations that the operator chose.
    chosen: Option<String>,
}

impl ModelMenu {
    pub(crate) fn new(library: Library, served: Arc<ServedModels>, chosen: Option<String>) -> ModelMenu {
        ModelMenu {
            library,
            served,
            pulls: Pulls::default(),
            estimates: Estimates::default(),
            descriptions: Descriptions::default(),
            adapter_turn: Arc::default(),
            improvement: Arc::default(),
            chosen,
        }
    }

    /// The model that answers where nobody named one: the operator's choice while it is served, else the first one served.
    pub(crate) fn default_model(&self) -> Option<String> {
        let served: Vec<String> = self.served.list().into_iter().map(|model| model.name).collect();
        let chosen = self.chosen.clone().filter(|chosen| served.contains(chosen));
        chosen.or_else(|| served.into_iter().next())
    }

    /// Refuses a model that is not served.
    pub(super) fn expect_served(&self, model: &str) -> Result<(), ApiError> {
        let known: Vec<String> = self.served.list().into_iter().map(|served| served.name).collect();
        if known.iter().any(|name| name == model) {
            return Ok(());
        }
        Err(fault(AssistantError::UnknownModel { name: model.to_owned(), known }))
    }

    /// How models are served.
    pub(crate) fn serving(&self) -> &ServeOptions {
        self.served.options()
    }

    /// Bytes of memory that the machine has.
    pub(crate) fn memory_total(&self) -> u64 {
        self.library.memory_total
    }

    /// Ends all downloads; what they have so far is kept for the next try.
    pub(crate) fn cancel_pulls(&self) {
        self.pulls.cancel_all();
    }

    /// The model of that name, loaded. One that is on this machine but was not served so far is served from now on, if an
    /// operator asks for it.
    pub(crate) async fn assistant(&self, name: &str, caller: &Caller) -> Result<Arc<Assistant>, ApiError> {
        self.serve_installed(name, caller).await?;
        self.served.get(name).await.map_err(fault)
    }

    /// As [`ModelMenu::assistant`], for an embedding model.
    pub(crate) async fn embedder(&self, name: &str, caller: &Caller) -> Result<Arc<Embedder>, ApiError> {
        self.serve_installed(name, caller).await?;
        self.served.embedder(name).await.map_err(fault)
    }

    async fn serve_installed(&self, name: &str, caller: &Caller) -> Result<(), ApiError> {
        if self.served.serves(name) || !caller.is_operator() {
            return Ok(());
        }
        let (models, wanted) = (self.library.models.clone(), name.to_owned());
        if let Some(installed) = blocking(move || find_installed(&models, &wanted)).await? {
            tracing::info!(model = name, "a model that is on this machine is served from now on");
            self.serve(&installed)?;
        }
        Ok(())
    }

    /// The models that requests can name: those served that write, each followed by itself with its adapters, then the embedding models,
    /// then those that are on this machine and would be served if they were named.
    pub(crate) fn known_models(&self) -> Result<Vec<KnownModel>, ApiError> {
        let mut installed = self.library.models.list().map_err(menu_fault)?;
        let mut known = Vec::new();
        for (embeds, served) in [(false, self.served.list()), (true, self.served.embedders())] {
            for served in served {
                let here = installed.iter().position(|model| model.name == served.name);
                let files = here.map(|index| installed.remove(index));
                let (name, path) = (served.name.clone(), served.path.clone());
                known.push(KnownModel { name, path, files, served: Some(served), embeds });
            }
        }
        known.extend(installed.into_iter().map(|model| {
            let (name, path) = (model.name.clone(), model.path.clone());
            let embeds = Embedder::is_at(&path);
            KnownModel { name, path, files: Some(model), served: None, embeds }
        }));
        Ok(known)
    }

    /// What the model's files at `path` say about it; `None` when they cannot be read.
    pub(crate) fn description(&self, path: &Path) -> Option<Arc<Description>> {
        self.descriptions.of_file(path)
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.library.pull.catalogue.as_ref().unwrap_or(Catalogue::embedded())
    }

    pub(super) fn serve(&self, model: &LocalModel) -> Result<(), ApiError> {
        self.served.add(ModelSpec { name: model.name.clone(), path: model.path.clone() }).map_err(fault)?;
        // Nothing is ever promoted for an embedding model.
        if Embedder::is_at(&model.path) { Ok(()) } else { self.apply_promotion(&model.name).map(|_| ()) }
    }
}

/// The model of that name in the store, not at a path.
pub(super) fn find_installed(models: &ModelStore, name: &str) -> Result<Option<LocalModel>, ApiError> {
    Ok(models.list().map_err(menu_fault)?.into_iter().find(|model| model.name == name))
}

/// Those models that write. Embedding models are not offered for conversations.
pub(super) fn writers_among(mut models: Vec<LocalModel>) -> Vec<LocalModel> {
    models.retain(|model| !Embedder::is_at(&model.path));
    models
}

/// The model store's errors as HTTP answers.
pub(super) fn menu_fault(error: ModelStoreError) -> ApiError {
    let message = error.to_string();
    match error {
        ModelStoreError::NotInstalled { .. } | ModelStoreError::Unknown { .. } => {
            ApiError::not_found(message).with_param("name").with_code("model_not_found")
        }
        ModelStoreError::BadName { .. } => ApiError::invalid("name", message),
        ModelStoreError::Busy { .. } => ApiError::conflict(message),
        ModelStoreError::Manifest { .. } | ModelStoreError::Io { .. } => {
            ApiError::internal(message).with_code("store_failed")
        }
    }
}
