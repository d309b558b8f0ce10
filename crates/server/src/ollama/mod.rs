//! Ollama's API under `/api`: the same models, requests and answers as under `/v1`, in the words of Ollama's clients.

mod body;
mod chat;
mod durations;
mod embed;
mod fields;
mod generate;
mod load;
mod messages;
mod models;
mod names;
mod options;
mod pull;
mod refused;
mod request;
mod show;
mod wire;
mod writer;

use std::sync::Arc;

use axum::extract::FromRef;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::{AssistantError, OutputFormat, ServedModels};

use crate::chat::ModelMenu;
use crate::errors::ApiError;
use crate::openai::fault;
use crate::openai::fields::{Field, body_schema};
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

/// The version of Ollama's API that is spoken here, by which its clients decide what they may ask for.
const SPOKEN_VERSION: &str = "0.13.0";

/// The routes under `/api` that are Ollama's.
pub(crate) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<ServedModels>: FromRef<S>,
    Arc<ModelMenu>: FromRef<S>,
    StreamLimit: FromRef<S>,
    Shutdown: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(chat::chat))
        .routes(routes!(generate::generate))
        .routes(routes!(models::tags))
        .routes(routes!(models::ps))
        .routes(routes!(models::delete))
        .routes(routes!(models::version))
        .routes(routes!(show::show))
        .routes(routes!(pull::pull))
        .routes(routes!(embed::embed))
        .routes(routes!(embed::embeddings))
        .routes(routes!(refused::create))
        .routes(routes!(refused::copy))
        .routes(routes!(refused::push))
        .routes(routes!(refused::find_blob, refused::send_blob))
}

/// Whether a path is one of these routes. The web page's own API, beside them under `/api`, keeps its shape of errors.
pub(crate) fn is_route(path: &str) -> bool {
    let Some(name) = path.strip_prefix("/api/") else { return false };
    const NAMES: [&str; 13] = [
        "chat",
        "generate",
        "tags",
        "ps",
        "delete",
        "version",
        "show",
        "pull",
        "embed",
        "embeddings",
        "create",
        "copy",
        "push",
    ];
    NAMES.contains(&name) || name.starts_with("blobs/")
}

/// An error as Ollama's clients read it, alone or as the last line of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OllamaError)]
pub(crate) struct ErrorLine {
    /// What was wrong, where, and what to do.
    error: String,
}

impl ErrorLine {
    pub(crate) fn of(error: &ApiError) -> ErrorLine {
        ErrorLine { error: error.message().to_owned() }
    }
}

/// The request bodies by their names in the OpenAPI document.
pub(crate) fn request_schemas() -> [(&'static str, serde_json::Value); 7] {
    [
        ("OllamaChatRequest", body_schema(fields::CHAT)),
        ("OllamaGenerateRequest", body_schema(fields::GENERATE)),
        ("OllamaEmbedRequest", body_schema(fields::EMBED)),
        ("OllamaEmbeddingsRequest", body_schema(fields::EMBEDDINGS)),
        ("OllamaShowRequest", body_schema(fields::SHOW)),
        ("OllamaPullRequest", body_schema(fields::PULL)),
        ("OllamaDeleteRequest", body_schema(fields::DELETE)),
    ]
}

/// The routes' fields, for the documentation.
pub(crate) fn field_tables() -> [(&'static str, &'static [&'static [Field]]); 8] {
    [
        ("POST /api/chat", fields::CHAT),
        ("POST /api/generate", fields::GENERATE),
        ("`options` of /api/chat and /api/generate", options::TABLE),
        ("POST /api/embed", fields::EMBED),
        ("POST /api/embeddings", fields::EMBEDDINGS),
        ("POST /api/show", fields::SHOW),
        ("POST /api/pull", fields::PULL),
        ("DELETE /api/delete", fields::DELETE),
    ]
}

/// Why the assistant refused a request, with Ollama's names of the fields.
fn refusal(error: AssistantError, _format: &OutputFormat) -> ApiError {
    let renamed = |field| match field {
        "response_format" => "format",
        "max_tokens" => "options.num_predict",
        "stop" => "options.stop",
        "seed" => "options.seed",
        "reasoning_effort" => "think",
        other => other,
    };
    match error {
        AssistantError::Invalid { field, reason } => {
            fault(AssistantError::Invalid { field: renamed(field), reason })
        }
        other => fault(other),
    }
}
