//! Adapters over HTTP: what is served, loading or replacing one, unloading it. Requests name folders inside the server's
//! adapter folder, never paths: what a request may open is what the operator put there, or named when the server started.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_assistant::{AdapterSpec, AssistantError, ServedModelInfo};
use zhenjin_promotions::Origin;

use super::menu::{ModelMenu, find_installed};
use crate::blocking::blocking;
use crate::body::ApiJson;
use crate::chat::extract::ApiPath;
use crate::chat::fields::{self, AdapterBody, FOLDER_CHARACTERS};
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fault;
use crate::openai::fields::check;
use crate::shutdown::Shutdown;

/// The file without which a folder holds no adapter.
const SETTINGS_FILE: &str = "adapter_config.json";
/// And the folder of a whole model.
const MODEL_FILE: &str = "config.json";

/// The adapters of this server.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Adapters)]
pub(crate) struct AdaptersJson {
    /// Those that requests can name, by model.
    served: Vec<AdapterJson>,
    /// Folders in the server's adapter folder that hold an adapter, served or not.
    folders: Vec<String>,
}

/// A served adapter.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Adapter)]
pub(crate) struct AdapterJson {
    /// The name in requests, `MODEL+ADAPTER`.
    name: String,
    /// The model that it belongs to.
    model: String,
    /// Its folder in the server's adapter folder; null for one from elsewhere that was named when the server started.
    #[schema(required)]
    folder: Option<String>,
    /// Answers that use it now, in its present version.
    users: usize,
    /// The method that trained it, where the files around it say so.
    #[schema(required)]
    method: Option<String>,
    /// What it learned from, where the files around it say so.
    #[schema(required)]
    data: Option<String>,
}

/// Lists the adapters that are served, and the folders from which others can be loaded.
#[utoipa::path(get, path = "/api/adapters", operation_id = "list_adapters", tag = "models",
    responses((status = 200, description = "The adapters.", body = AdaptersJson)))]
pub(crate) async fn list(State(menu): State<Arc<ModelMenu>>) -> Result<Json<AdaptersJson>, ApiError> {
    blocking(move || {
        let folders = folders(&menu.library.adapters)?;
        Ok(Json(AdaptersJson { served: served(&menu), folders }))
    })
    .await
}

/// Loads an adapter from its files as they are now, in the place of one that is served under the name already. Answers that are
/// under way end with the version that they began with.
#[utoipa::path(put, path = "/api/adapters/{name}", operation_id = "load_adapter", tag = "models",
    params(("name" = String, Path, description = "`MODEL+ADAPTER`, as requests will name it.")), request_body = AdapterBody, responses(
    (status = 200, description = "It is served.", body = AdapterJson),
    (status = 400, description = "A name is wrong, or the adapter does not fit the model or the memory.", body = ErrorBody),
    (status = 404, description = "There is no such model or folder.", body = ErrorBody),
    (status = 409, description = "A model has that name.", body = ErrorBody)))]
pub(crate) async fn load(
    State(menu): State<Arc<ModelMenu>>,
    State(shutdown): State<Shutdown>,
    ApiPath(name): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<AdapterJson>, ApiError> {
    if shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let folder = check(fields::ADAPTER, &body)?.text("folder").map(str::to_owned);
    // One after the other: what is being read does not count towards the memory limit yet. The turn lasts until the files are
    // read, even if the caller leaves.
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        load_from(&menu, &name, folder.as_deref())
    })
    .await
    .map(Json)
}

/// Unloads an adapter; its files stay. Answers that are under way end with it.
#[utoipa::path(delete, path = "/api/adapters/{name}", operation_id = "unload_adapter", tag = "models",
    params(("name" = String, Path, description = "`MODEL+ADAPTER`.")), responses(
    (status = 204, description = "It is no longer served."),
    (status = 404, description = "No such adapter is served.", body = ErrorBody)))]
pub(crate) async fn unload(
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    if menu.served.unload_adapter(&name) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let known = menu.served.list().into_iter().filter(|served| served.base.is_some());
    let known: Vec<String> = known.map(|adapter| adapter.name).collect();
    let message = format!("no adapter `{name}` is served; served: {}", names(&known));
    Err(ApiError::not_found(message).with_param("name").with_code("adapter_not_found"))
}

fn load_from(menu: &ModelMenu, name: &str, folder: Option<&str>) -> Result<AdapterJson, ApiError> {
    let Some((model, adapter)) = name.rsplit_once('+') else {
        let message = format!("`{name}` must be MODEL+ADAPTER: the model's name, `+`, the adapter's own");
        return Err(ApiError::invalid("name", message));
    };
    let known = menu.served.list();
    let present = known.iter().find(|served| served.name == name && served.base.is_some());
    let path = match (folder, present) {
        (Some(folder), _) => find_folder(&menu.library.adapters, folder)?,
        (None, Some(present)) => present.path.clone(),
        (None, None) => find_folder(&menu.library.adapters, adapter)?,
    };
    // As with requests, a model that is on this machine need not be served yet.
    if !known.iter().any(|served| served.name == model)
        && let Some(installed) = find_installed(&menu.library.models, model)?
    {
        menu.serve(&installed)?;
    }
    let spec = AdapterSpec { model: model.to_owned(), name: adapter.to_owned(), path };
    menu.served.load_adapter(spec).map_err(refusal)?;
    let loaded = served(menu).into_iter().find(|served| served.name == name);
    loaded.ok_or_else(|| ApiError::conflict(format!("`{name}` was unloaded again while it was being loaded")))
}

/// Here the caller chose the files: that they cannot be loaded is no fault of the server's.
pub(super) fn refusal(error: AssistantError) -> ApiError {
    let message = error.to_string();
    match error {
        AssistantError::Load { .. } => ApiError::invalid("folder", message).with_code("adapter_not_loadable"),
        AssistantError::Invalid { .. } => ApiError::invalid("name", message),
        error => fault(error),
    }
}

fn served(menu: &ModelMenu) -> Vec<AdapterJson> {
    let describe = |info: ServedModelInfo| {
        let model = info.base?;
        let folder = info.path.strip_prefix(&menu.library.adapters).ok().and_then(Path::to_str);
        let folder = folder.filter(|name| is_folder_name(name)).map(str::to_owned);
        let Origin { method, data, .. } = Origin::around(&info.path);
        Some(AdapterJson { name: info.name, model, folder, users: info.users, method, data })
    };
    menu.served.list().into_iter().filter_map(describe).collect()
}

/// The path of a folder in the adapter folder. A name is one part of a path, of few kinds of characters: no separators, no
/// drives, no parent folders, nothing hidden.
pub(super) fn find_folder(root: &Path, name: &str) -> Result<PathBuf, ApiError> {
    let path = folder_path(root, name)?;
    if path.join(SETTINGS_FILE).is_file() {
        return Ok(path);
    }
    let message = format!(
        "there is no adapter in the folder `{name}` of this server's adapter folder; there are: {}",
        names(&folders(root)?)
    );
    Err(ApiError::not_found(message).with_param("folder").with_code("adapter_not_found"))
}

/// The same for what is promoted: an adapter, or the weights of a whole model.
pub(super) fn find_weights(root: &Path, name: &str) -> Result<PathBuf, ApiError> {
    let path = folder_path(root, name)?;
    if path.join(MODEL_FILE).is_file() { Ok(path) } else { find_folder(root, name) }
}

fn folder_path(root: &Path, name: &str) -> Result<PathBuf, ApiError> {
    if !is_folder_name(name) {
        let message = format!(
            "`{name}` is not the name of a folder in this server's adapter folder: it takes 1 to {FOLDER_CHARACTERS} letters, \
             digits, `-`, `_` and `.`, and does not begin with `.`; paths are refused"
        );
        return Err(ApiError::invalid("folder", message));
    }
    Ok(root.join(name))
}

fn is_folder_name(name: &str) -> bool {
    let allowed = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
    (1..=FOLDER_CHARACTERS).contains(&name.chars().count())
        && !name.starts_with('.')
        && name.chars().all(allowed)
}

/// The folders in the adapter folder that hold an adapter, sorted.
fn folders(root: &Path) -> Result<Vec<String>, ApiError> {
    let failed = |error: std::io::Error| {
        tracing::error!(folder = %root.display(), %error, "the adapter folder cannot be read");
        ApiError::internal("the adapter folder cannot be read; the server's log says more")
    };
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str().filter(|name| is_folder_name(name))
            && entry.path().join(SETTINGS_FILE).is_file()
        {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn names(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}
