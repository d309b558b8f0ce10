//! What every request shares. Handlers do not take all of it: each takes the parts that it needs, as `State<Store>`.

use std::sync::Arc;

use axum::extract::FromRef;
use zhenjin_assistant::ServedModels;
use zhenjin_store::Store;

use crate::body::BodyMemory;
use crate::chat::{Library, ModelMenu, RunningAnswers};
use crate::metrics::Metrics;
use crate::openai::RecentItems;
use crate::options::ServerOptions;
use crate::security::{LoginThrottle, normalised_origin};
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

/// What the server works with, made by the caller.
pub struct Services {
    /// Conversations and API keys.
    pub store: Store,
    /// The models that answer.
    pub models: Arc<ServedModels>,
    /// Where models come from and where they lie.
    pub library: Library,
    /// What is counted; [`Metrics::observer_of_model`] is for these models' engines.
    pub metrics: Metrics,
}

/// What every request shares. Cheap to clone; every field's type is a part that a handler can take by itself.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// What the operator chose.
    pub options: Arc<ServerOptions>,
    /// How requests learn that the server stops.
    pub shutdown: Shutdown,
    /// What is counted.
    pub metrics: Metrics,
    /// Conversations and API keys.
    pub store: Store,
    /// The models that answer.
    pub models: Arc<ServedModels>,
    /// The right to generate or stream.
    pub streams: StreamLimit,
    /// The memory that requests' bodies may take.
    pub(crate) bodies: BodyMemory,
    /// Items of recent answers.
    pub(crate) recent: Arc<RecentItems>,
    /// Failed logins.
    pub(crate) logins: Arc<LoginThrottle>,
    /// Answers that are being written for the web chat.
    pub(crate) answers: Arc<RunningAnswers>,
    /// The models on this machine and those available for download.
    pub(crate) menu: Arc<ModelMenu>,
}

impl AppState {
    /// The state of a server that has not served anything yet.
    pub fn new(mut options: ServerOptions, services: Services) -> Self {
        options.cors_origins =
            options.cors_origins.iter().filter_map(|origin| normalised_origin(origin)).collect();
        let Services { store, models, library, metrics } = services;
        let shutdown = Shutdown::default();
        let streams = StreamLimit::new(&options, shutdown.clone());
        AppState {
            bodies: BodyMemory::new(&options, streams.gates().clone()),
            streams,
            answers: RunningAnswers::new(store.clone(), shutdown.clone()),
            menu: Arc::new(ModelMenu::new(library, Arc::clone(&models), options.default_model.clone())),
            recent: Arc::default(),
            options: Arc::new(options),
            logins: Arc::default(),
            shutdown,
            metrics,
            store,
            models,
        }
    }
}
