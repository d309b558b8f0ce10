//! What every request shares, and how routes and middleware are put together. Does not know what a route does.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, OriginalUri};
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa_axum::router::OpenApiRouter;
use zhenjin_assistant::ServedModels;
use zhenjin_store::Store;

use crate::errors::ApiError;
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::shutdown::Shutdown;
use crate::{body, chat, observe, openai, openapi, operations, pages, security};

/// The other rooms that the server talks to.
pub struct Rooms {
    /// Conversations and API keys.
    pub store: Store,
    /// The models that answer.
    pub models: Arc<ServedModels>,
    /// Where models come from and where they lie.
    pub library: chat::Library,
    /// What is counted; [`Metrics::observer_of_model`] is for these models' engines.
    pub metrics: Metrics,
}

/// What every request shares. Cheap to clone.
#[derive(Clone)]
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
    /// Answers that are being written for the web chat.
    pub(crate) chat: chat::Chat,
    streams: Arc<Semaphore>,
}

impl AppState {
    /// The state of a server that has not served anything yet.
    pub fn new(options: ServerOptions, rooms: Rooms) -> Self {
        let shutdown = Shutdown::default();
        AppState {
            chat: chat::Chat::new(
                rooms.store.clone(),
                rooms.library,
                Arc::clone(&rooms.models),
                shutdown.clone(),
            ),
            streams: Arc::new(Semaphore::new(options.stream_limit)),
            options: Arc::new(options),
            shutdown,
            metrics: rooms.metrics,
            store: rooms.store,
            models: rooms.models,
        }
    }

    /// The model that answers where nobody named one: the operator's choice while it is served, else the first one served.
    pub fn default_model(&self) -> Option<String> {
        let served: Vec<String> = self.models.list().into_iter().map(|model| model.name).collect();
        let chosen = self.options.default_model.clone().filter(|chosen| served.contains(chosen));
        chosen.or_else(|| served.into_iter().next())
    }

    /// The right to generate or stream, held until the answer ends: 503 when the server stops, 429 when too many run.
    pub fn stream_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            ApiError::too_many_requests(
                format!(
                    "{} answers are being streamed already, which is this server's limit",
                    self.options.stream_limit
                ),
                Duration::from_secs(1),
            )
        })
    }
}

/// Every route with its description for `/openapi.json`.
pub(crate) fn described_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(openai::router()).merge(chat::router()).merge(operations::router())
}

/// The whole application: routes, pages, and the middleware around them.
pub fn router(state: AppState) -> Router {
    let (routes, _) = described_routes().split_for_parts();
    let routes = routes
        .layer(from_fn_with_state(state.clone(), body::collect))
        .layer(from_fn_with_state(state.clone(), security::authenticate));
    Router::new()
        .merge(routes)
        .merge(openapi::router())
        .merge(pages::router())
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), security::check_origin))
        .layer(from_fn_with_state(state.clone(), security::check_host))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .layer(from_fn(security::add_headers))
        .with_state(state)
}

async fn no_such_route(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    ApiError::not_found(format!("there is no route `{method} {}`; /docs lists all of them", uri.path()))
        .with_code("unknown_url")
        .into_response()
}

/// A route exists, but not for this method. The pages' own route takes every path, so what matches it alone is no route.
async fn wrong_method(method: Method, matched: MatchedPath, OriginalUri(uri): OriginalUri) -> Response {
    if matched.as_str() == pages::ANY_PATH {
        return no_such_route(method, OriginalUri(uri)).await;
    }
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        format!("`{}` does not take {method}; the header `Allow` says what it takes", uri.path()),
    )
    .with_code("method_not_allowed")
    .into_response()
}
