//! Anthropic's API: `/v1/messages`, the same models, requests and answers as `/v1/chat/completions` in other words.

mod blocks;
mod count;
mod fields;
mod messages;
mod models;
mod request;
mod tools;
mod wire;
mod writer;

use std::sync::Arc;

use axum::extract::FromRef;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::{AssistantError, OutputFormat, ServedModels};

use crate::errors::ApiError;
use crate::openai::fault;
use crate::openai::fields::{Field, body_schema};
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

pub(crate) use models::{AnthropicModelList, list as list_models};
pub(crate) use wire::AnthropicError;

/// The header by which Anthropic's clients are known on routes that both APIs have.
pub(crate) const VERSION_HEADER: &str = "anthropic-version";

/// The routes under `/v1/messages`.
pub(crate) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<ServedModels>: FromRef<S>,
    StreamLimit: FromRef<S>,
    Shutdown: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(messages::create)).routes(routes!(count::count))
}

/// Whether a path is one of these routes.
pub(crate) fn is_route(path: &str) -> bool {
    path == "/v1/messages" || path.starts_with("/v1/messages/")
}

/// The request bodies by their names in the OpenAPI document.
pub(crate) fn request_schemas() -> [(&'static str, serde_json::Value); 2] {
    [("MessagesRequest", body_schema(fields::MESSAGES)), ("CountTokensRequest", body_schema(fields::COUNT))]
}

/// The routes' fields, for the documentation.
pub(crate) fn field_tables() -> [(&'static str, &'static [&'static [Field]]); 2] {
    [("POST /v1/messages", fields::MESSAGES), ("POST /v1/messages/count_tokens", fields::COUNT)]
}

/// Why the assistant refused a request, with Anthropic's names of the fields.
fn refusal(error: AssistantError, _format: &OutputFormat) -> ApiError {
    let renamed = |field| match field {
        "response_format" => "output_config.format",
        "stop" => "stop_sequences",
        "reasoning_effort" => "thinking",
        other => other,
    };
    match error {
        AssistantError::Invalid { field, reason } => {
            fault(AssistantError::Invalid { field: renamed(field), reason })
        }
        other => fault(other),
    }
}
