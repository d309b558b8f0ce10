//! OpenAI's API under `/v1`. Does not know models, tokens or sampling: it takes requests apart, hands them to `assistant`, and
//! writes what comes back in OpenAI's words.

mod answer;
mod chat;
mod completions;
mod faults;
pub(crate) mod field_tables;
pub(crate) mod fields;
mod logprobs;
mod models;
pub(crate) mod reference;
pub(crate) mod request;
mod response;
mod stream;

use axum::http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppState;

pub(crate) use faults::fault;

/// The routes under `/v1`.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models::list))
        .routes(routes!(models::retrieve))
        .routes(routes!(chat::create))
        .routes(routes!(completions::create))
}

/// The request bodies by their names in the OpenAPI document.
pub(crate) fn request_schemas() -> [(&'static str, serde_json::Value); 2] {
    [
        ("ChatCompletionRequest", fields::body_schema(field_tables::CHAT)),
        ("CompletionRequest", fields::body_schema(field_tables::COMPLETION)),
    ]
}

/// The request's identity, for the log's lines about its generation.
fn request_id(headers: &HeaderMap) -> String {
    headers.get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or("unnamed").to_owned()
}
