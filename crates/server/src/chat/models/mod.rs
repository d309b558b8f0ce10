//! The model menu: what there is, what is here, downloads and removals. Does not know sources or file formats.

mod events;
mod list;
mod needs;
mod pulls;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use zhenjin_assistant::{Assistant, AssistantError, ModelSpec, ServedModels};
use zhenjin_hub::{Catalogue, LocalModel, ModelReference, ModelStore, PullOptions, StoreError};

use super::extract::ApiPath;
use super::stream::HEARTBEAT;
use crate::app::AppState;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fault;

use list::ModelJson;
use needs::Needs;
use pulls::{PullEventJson, Pulls};

/// Where models come from and where they lie.
#[derive(Debug, Clone)]
pub struct Library {
    /// The models on this machine.
    pub models: ModelStore,
    /// How to get others.
    pub pull: PullOptions,
    /// Bytes of memory that the machine has.
    pub memory_total: u64,
}

/// What the model menu's requests share.
pub(crate) struct ModelMenu {
    library: Library,
    served: Arc<ServedModels>,
    pulls: Pulls,
    needs: Needs,
}

impl ModelMenu {
    pub(crate) fn new(library: Library, served: Arc<ServedModels>) -> ModelMenu {
        ModelMenu { library, served, pulls: Pulls::default(), needs: Needs::default() }
    }

    pub(crate) fn memory_total(&self) -> u64 {
        self.library.memory_total
    }

    /// Ends all downloads; what they have so far is kept for the next try.
    pub(crate) fn cancel_pulls(&self) {
        self.pulls.cancel_all();
    }

    /// The model of that name, loaded. One that is on this machine but was not served so far is served from now on.
    pub(crate) async fn assistant(&self, name: &str) -> Result<Arc<Assistant>, ApiError> {
        match self.served.get(name).await {
            Err(AssistantError::UnknownModel { name, known }) => {
                let (models, wanted) = (self.library.models.clone(), name.clone());
                let Some(installed) = on_disk(move || find_installed(&models, &wanted)).await? else {
                    return Err(fault(AssistantError::UnknownModel { name, known }));
                };
                tracing::info!(model = name, "a model that is on this machine is served from now on");
                self.serve(&installed)?;
                self.served.get(&name).await.map_err(fault)
            }
            other => other.map_err(fault),
        }
    }

    fn catalogue(&self) -> &Catalogue {
        self.library.pull.catalogue.as_ref().unwrap_or(Catalogue::embedded())
    }

    fn serve(&self, model: &LocalModel) -> Result<(), ApiError> {
        self.served.add(ModelSpec { name: model.name.clone(), path: model.path.clone() }).map_err(fault)
    }
}

/// Every model that is in the catalogue, on this machine, or served.
#[utoipa::path(get, path = "/api/models", operation_id = "list_models", tag = "models",
    responses((status = 200, description = "The models, those of the catalogue first.", body = Vec<ModelJson>)))]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<ModelJson>>, ApiError> {
    let menu = Arc::clone(&state.chat.menu);
    on_disk(move || list::list(&menu)).await.map(Json)
}

/// Begins to download a model; one that is being downloaded already goes on.
#[utoipa::path(post, path = "/api/models/{name}/pull", operation_id = "pull_model", tag = "models", params(("name" = String, Path)), responses(
    (status = 202, description = "It is under way; `/api/models/events` tells how far it is."),
    (status = 404, description = "There is no such model to download.", body = ErrorBody),
    (status = 409, description = "It is here already.", body = ErrorBody),
    (status = 429, description = "Too many downloads are under way.", body = ErrorBody)))]
pub(crate) async fn pull(
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    if state.shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let menu = Arc::clone(&state.chat.menu);
    on_disk(move || {
        let reference = ModelReference::parse(&name).map_err(menu_fault)?;
        if find_installed(&menu.library.models, &name)?.is_some() {
            return Err(ApiError::conflict(format!("the model `{name}` is on this machine already")));
        }
        if matches!(&reference, ModelReference::Catalogue(known) if menu.catalogue().get(known).is_none()) {
            return Err(unknown(&name));
        }
        pulls::begin(menu, &name)
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Stops a download. What it has so far is kept: the next one goes on from there.
#[utoipa::path(delete, path = "/api/models/{name}/pull", operation_id = "cancel_pull", tag = "models", params(("name" = String, Path)), responses(
    (status = 204, description = "It stops."),
    (status = 404, description = "No such download is under way.", body = ErrorBody)))]
pub(crate) async fn cancel_pull(
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    if state.chat.menu.pulls.cancel(&name) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found(format!("no download of `{name}` is under way")))
    }
}

/// Removes a model's files from this machine.
#[utoipa::path(delete, path = "/api/models/{name}", operation_id = "remove_model", tag = "models", params(("name" = String, Path)), responses(
    (status = 204, description = "They are gone."),
    (status = 400, description = "The model lies outside the model folder, where nothing is deleted.", body = ErrorBody),
    (status = 404, description = "The model is not on this machine.", body = ErrorBody),
    (status = 409, description = "It is in use, or being downloaded.", body = ErrorBody)))]
pub(crate) async fn remove(
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let menu = Arc::clone(&state.chat.menu);
    on_disk(move || {
        let served = menu.served.list().into_iter().find(|model| model.name == name);
        let installed = find_installed(&menu.library.models, &name)?;
        if let Some(served) = &served {
            if installed.is_none() {
                return Err(outside(&name, &served.path));
            }
            if served.users > 0 {
                return Err(in_use(&name, served.users));
            }
            menu.served.remove(&name);
        }
        // Unfinished downloads and damaged models are removed as well.
        if let Err(error) = menu.library.models.remove(&name) {
            // What is still there is still served.
            if let Some(installed) = installed.filter(|_| served.is_some())
                && let Err(error) = menu.serve(&installed)
            {
                tracing::warn!(model = name, %error, "a model that could not be removed is not served either");
            }
            return Err(menu_fault(error));
        }
        menu.pulls.forget(&name);
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far downloads are: events `pull`, first of all that are known, then of each that changes.
#[utoipa::path(get, path = "/api/models/events", operation_id = "follow_pulls", tag = "models", responses(
    (status = 200, description = "Events `pull` with a PullEvent as data.", content_type = "text/event-stream", body = PullEventJson),
    (status = 429, description = "Too many streams are open.", body = ErrorBody)))]
pub(crate) async fn follow(
    State(state): State<AppState>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = state.stream_permit()?;
    let events = events::events(Arc::clone(&state.chat.menu), state.shutdown.clone(), permit);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

/// The model of that name in the store, not at a path.
fn find_installed(models: &ModelStore, name: &str) -> Result<Option<LocalModel>, ApiError> {
    Ok(models.list().map_err(menu_fault)?.into_iter().find(|model| model.name == name))
}

/// Runs work that touches the disk beside the threads that serve requests.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a task of the model menu broke");
        Err(ApiError::internal("the server broke while it worked on this; its log says more"))
    })
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no model `{name}`; /api/models lists those that there are"))
        .with_param("name")
        .with_code("model_not_found")
}

fn in_use(name: &str, users: usize) -> ApiError {
    ApiError::conflict(format!(
        "`{name}` is in use by {users} answers; stop them or wait for them, then remove it"
    ))
    .with_code("model_in_use")
}

fn outside(name: &str, path: &Path) -> ApiError {
    ApiError::invalid(
        "name",
        format!(
            "`{name}` is served from {}, outside the model folder: nothing is deleted there",
            path.display()
        ),
    )
}

/// The model store's errors in HTTP's words.
fn menu_fault(error: StoreError) -> ApiError {
    let message = error.to_string();
    match error {
        StoreError::NotInstalled { .. } | StoreError::Unknown { .. } => {
            ApiError::not_found(message).with_param("name").with_code("model_not_found")
        }
        StoreError::BadName { .. } => ApiError::invalid("name", message),
        StoreError::Busy { .. } => ApiError::conflict(message),
        StoreError::Manifest { .. } | StoreError::Io { .. } => {
            ApiError::internal(message).with_code("store_failed")
        }
    }
}
