//! OpenAI's API under `/v1`: requests are checked field by field and handed to `assistant`, and what comes back is written
//! in OpenAI's format.

mod chat;
mod completions;
pub(crate) mod embeddings;
mod faults;
pub(crate) mod field_tables;
pub(crate) mod fields;
mod foreign_fields;
pub(crate) mod logprobs;
mod models;
pub(crate) mod reference;
pub(crate) mod request;
mod response;
mod responses;
mod stream;
mod text_offsets;
mod tokens;

use std::sync::Arc;

use axum::extract::FromRef;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::ServedModels;

use crate::errors::ApiError;
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

pub(crate) use faults::{failure, fault};
pub(crate) use responses::RecentItems;

/// The routes under `/v1`, and those that other servers have beside them.
pub(crate) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<ServedModels>: FromRef<S>,
    StreamLimit: FromRef<S>,
    Shutdown: FromRef<S>,
    Arc<RecentItems>: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(models::list))
        .routes(routes!(models::retrieve))
        .routes(routes!(chat::create))
        .routes(routes!(completions::create))
        .routes(routes!(responses::create))
        .routes(routes!(embeddings::create))
        .routes(routes!(tokens::tokenize))
        .routes(routes!(tokens::detokenize))
}

/// The request bodies by their names in the OpenAPI document.
pub(crate) fn request_schemas() -> [(&'static str, serde_json::Value); 6] {
    [
        ("ChatCompletionRequest", fields::body_schema(field_tables::CHAT)),
        ("CompletionRequest", fields::body_schema(field_tables::COMPLETION)),
        ("ResponsesRequest", fields::body_schema(responses::TABLE)),
        ("EmbeddingRequest", fields::body_schema(embeddings::EMBEDDINGS)),
        ("TokenizeRequest", fields::body_schema(tokens::TOKENIZE)),
        ("DetokenizeRequest", fields::body_schema(tokens::DETOKENIZE)),
    ]
}

/// The HTTP status with which a body of `POST /v1/chat/completions` is refused before any model is asked; `None` when it
/// is well formed. For fuzzing.
pub fn check_chat_request(body: &[u8]) -> Option<u16> {
    refusal(crate::json::value(body).and_then(|value| request::chat::read(&value)))
}

/// As [`check_chat_request`], for `POST /v1/completions`.
pub fn check_completion_request(body: &[u8]) -> Option<u16> {
    refusal(crate::json::value(body).and_then(|value| request::completion::read(&value)))
}

fn refusal<T>(outcome: Result<T, ApiError>) -> Option<u16> {
    outcome.err().map(|error| error.status().as_u16())
}
