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
use crate::errors::ApiError;

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

/// Does work that takes the processor for a while (rendering, tokenising, compiling a format) where other requests do not wait for it.
async fn beside_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "preparing a request failed");
            Err(ApiError::internal("something went wrong inside the server; its log says what"))
        }
    }
}

/// The request's identity, for the log's lines about its generation.
fn request_id(headers: &HeaderMap) -> String {
    headers.get("x-request-id").and_then(|value| value.to_str().ok()).unwrap_or("unnamed").to_owned()
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
