//! The model menu: what there is, what is here, downloads and removals.

pub(crate) mod adapters;
mod description;
mod download;
mod estimates;
mod events;
pub(crate) mod improvements;
mod list;
mod menu;
pub(crate) mod preview;
mod program;
pub(crate) mod promotions;
mod pulls;
mod withdrawn;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use zhenjin_hub::ModelReference;

use super::extract::ApiPath;
use super::stream::HEARTBEAT;
use crate::blocking::blocking;
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

use list::ModelJson;
use menu::{find_installed, menu_fault};
use pulls::ModelEvent;

pub(crate) use description::Description;
pub use menu::Library;
pub(crate) use menu::{KnownModel, ModelMenu};
pub use program::ImproveCommand;
pub use promotions::apply_promotions;
pub(crate) use pulls::{PullJson, PullState};

/// Every model that is in the catalogue, on this machine, or served.
#[utoipa::path(get, path = "/api/models", operation_id = "list_models", tag = "models",
    responses((status = 200, description = "The models, those of the catalogue first.", body = Vec<ModelJson>)))]
pub(crate) async fn list(State(menu): State<Arc<ModelMenu>>) -> Result<Json<Vec<ModelJson>>, ApiError> {
    blocking(move || list::list(&menu)).await.map(Json)
}

/// Begins to download a model; one that is being downloaded already goes on.
#[utoipa::path(post, path = "/api/models/{name}/pull", operation_id = "pull_model", tag = "models", params(("name" = String, Path)), responses(
    (status = 202, description = "It is under way; `/api/models/events` tells how far it is."),
    (status = 404, description = "There is no such model to download.", body = ErrorBody),
    (status = 409, description = "It is here already.", body = ErrorBody),
    (status = 429, description = "Too many downloads are under way.", body = ErrorBody)))]
pub(crate) async fn pull(
    State(menu): State<Arc<ModelMenu>>,
    State(shutdown): State<Shutdown>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    if shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    blocking(move || match begin_pull(menu, &name)? {
        Begun::IsHere => Err(ApiError::conflict(format!("the model `{name}` is on this machine already"))),
        Begun::Now | Begun::Before => Ok(StatusCode::ACCEPTED),
    })
    .await
}

/// How a download begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Begun {
    /// It does not: the model is on this machine already.
    IsHere,
    /// By this request.
    Now,
    /// By an earlier one; it is under way.
    Before,
}

/// Begins to download a model.
pub(crate) fn begin_pull(menu: Arc<ModelMenu>, name: &str) -> Result<Begun, ApiError> {
    let reference = ModelReference::parse(name).map_err(menu_fault)?;
    if find_installed(&menu.library.models, name)?.is_some() {
        return Ok(Begun::IsHere);
    }
    if matches!(&reference, ModelReference::Catalogue(known) if menu.catalogue().get(known).is_none()) {
        return Err(unknown(name));
    }
    download::begin(menu, name).map(|is_new| if is_new { Begun::Now } else { Begun::Before })
}

/// Stops a download. What it has so far is kept: the next one goes on from there.
#[utoipa::path(delete, path = "/api/models/{name}/pull", operation_id = "cancel_pull", tag = "models", params(("name" = String, Path)), responses(
    (status = 204, description = "It stops."),
    (status = 404, description = "No such download is under way.", body = ErrorBody)))]
pub(crate) async fn cancel_pull(
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    if menu.pulls.cancel(&name) {
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
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    blocking(move || remove_model(&menu, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a model's files from this machine, unless it is in use.
pub(crate) fn remove_model(menu: &ModelMenu, name: &str) -> Result<(), ApiError> {
    let mut served = menu.served.list().into_iter().chain(menu.served.embedders());
    let served = served.find(|model| model.name == name);
    let installed = find_installed(&menu.library.models, name)?;
    if let Some(served) = &served {
        if installed.is_none() {
            return Err(outside(name, &served.path));
        }
        let users = menu.served.users_of(name);
        if users > 0 {
            return Err(in_use(name, users));
        }
        menu.served.remove(name);
    }
    // Unfinished downloads and damaged models are removed as well.
    if let Err(error) = menu.library.models.remove(name) {
        // What is still there is still served.
        if let Some(installed) = installed.filter(|_| served.is_some())
            && let Err(error) = menu.serve(&installed)
        {
            tracing::warn!(model = name, %error, "a model that could not be removed is not served either");
        }
        return Err(menu_fault(error));
    }
    menu.pulls.forget(name);
    Ok(())
}

/// How far downloads are: events `pull`, first of all that are known, then of each that changes.
#[utoipa::path(get, path = "/api/models/events", operation_id = "follow_pulls", tag = "models", responses(
    (status = 200, description = "Events `pull` with a PullEvent as data.", content_type = "text/event-stream", body = ModelEvent),
    (status = 429, description = "Too many streams are open.", body = ErrorBody)))]
pub(crate) async fn follow(
    State(menu): State<Arc<ModelMenu>>,
    State(streams): State<StreamLimit>,
    State(shutdown): State<Shutdown>,
    caller: Caller,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = streams.follow(&caller.owner)?;
    let events = events::events(menu, shutdown, permit);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no model `{name}`; /api/models lists those that there are"))
        .with_param("name")
        .with_code("model_not_found")
}

fn in_use(name: &str, users: usize) -> ApiError {
    ApiError::conflict(format!(
        "`{name}` is in use by {users} requests; stop them or wait for them, then remove it"
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
    .with_code("outside_model_folder")
}
