//! `/v1/models`: what is served.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_assistant::{AssistantError, ModelState, ServedModelInfo, ServedModels};

use super::faults::fault;
use crate::anthropic;
use crate::errors::{ApiError, ErrorBody};

/// A served model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ServedModel {
    /// The name that requests use.
    id: String,
    /// `model`
    object: &'static str,
    /// When its file was written, in seconds since 1970.
    created: u64,
    /// `zhenjin`
    owned_by: &'static str,
    /// Whether it is in memory; if not, the next request loads it. Not part of OpenAI's API.
    loaded: bool,
    /// Tokens in its context, of an embedding model tokens of a text, if it is loaded. Not part of OpenAI's API.
    context_length: Option<usize>,
    /// Whether it is an embedding model: it answers `/v1/embeddings` and nothing else. Not part of OpenAI's API.
    embeds: bool,
}

/// All served models.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ServedModelList {
    /// `list`
    object: &'static str,
    data: Vec<ServedModel>,
}

/// All served models, in the caller's dialect.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AnyModelList {
    OpenAi(ServedModelList),
    Anthropic(anthropic::AnthropicModelList),
}

impl ServedModel {
    /// All, those that write first.
    fn all(models: &ServedModels) -> Vec<ServedModel> {
        let writers = models.list().into_iter().map(|info| ServedModel::of(info, false));
        writers.chain(models.embedders().into_iter().map(|info| ServedModel::of(info, true))).collect()
    }

    fn of(info: ServedModelInfo, embeds: bool) -> Self {
        let written = std::fs::metadata(&info.path).and_then(|metadata| metadata.modified()).ok();
        let created =
            written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_secs());
        ServedModel {
            id: info.name,
            object: "model",
            created,
            owned_by: "zhenjin",
            loaded: info.state == ModelState::Loaded,
            context_length: info.context_length,
            embeds,
        }
    }
}

/// Lists the models that requests can name, embedding models last; to requests with the header `anthropic-version`, in Anthropic's shape and without embedding models.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "openai",
    responses((status = 200, description = "All served models.", body = AnyModelList)))]
pub(super) async fn list(State(models): State<Arc<ServedModels>>, headers: HeaderMap) -> Json<AnyModelList> {
    if headers.contains_key(anthropic::VERSION_HEADER) {
        return Json(AnyModelList::Anthropic(anthropic::list_models(&models)));
    }
    Json(AnyModelList::OpenAi(ServedModelList { object: "list", data: ServedModel::all(&models) }))
}

/// Describes one model.
#[utoipa::path(get, path = "/v1/models/{*model}", operation_id = "retrieveModel", tag = "openai",
    params(("model" = String, Path, description = "The model's name.")),
    responses(
        (status = 200, description = "The model.", body = ServedModel),
        (status = 404, description = "No model of this name is served.", body = ErrorBody)))]
pub(super) async fn retrieve(
    State(models): State<Arc<ServedModels>>,
    Path(name): Path<String>,
) -> Result<Json<ServedModel>, ApiError> {
    let mut served = ServedModel::all(&models);
    match served.iter().position(|model| model.id == name) {
        Some(index) => Ok(Json(served.swap_remove(index))),
        None => {
            let known = served.into_iter().map(|model| model.id).collect();
            Err(fault(AssistantError::UnknownModel { name, known }))
        }
    }
}
