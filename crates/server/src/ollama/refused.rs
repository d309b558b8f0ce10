//! What Ollama can do and this server cannot: said by name, instead of a route that is not there.

use axum::http::StatusCode;

use super::ErrorLine;
use crate::errors::ApiError;

fn not_implemented(message: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message).with_code("unsupported_endpoint")
}

/// Says that models are not made by requests.
#[utoipa::path(post, path = "/api/create", operation_id = "ollama_create", tag = "ollama",
    responses((status = 400, description = "Models are not made by requests.", body = ErrorLine)))]
pub(super) async fn create() -> ApiError {
    not_implemented(
        "models are not made by requests here: send the system message and the options with each request",
    )
}

/// Says that models are not copied.
#[utoipa::path(post, path = "/api/copy", operation_id = "ollama_copy", tag = "ollama",
    responses((status = 400, description = "Models are not copied.", body = ErrorLine)))]
pub(super) async fn copy() -> ApiError {
    not_implemented("models have one name each here: they are not copied")
}

/// Says that models are not uploaded.
#[utoipa::path(post, path = "/api/push", operation_id = "ollama_push", tag = "ollama",
    responses((status = 400, description = "Models are not uploaded.", body = ErrorLine)))]
pub(super) async fn push() -> ApiError {
    not_implemented("this server uploads nothing")
}

/// Says that there are no blobs.
#[utoipa::path(head, path = "/api/blobs/{digest}", operation_id = "ollama_find_blob", tag = "ollama",
    params(("digest" = String, Path, description = "Not looked at.")),
    responses((status = 400, description = "Models are not made of blobs.")))]
pub(super) async fn find_blob() -> ApiError {
    not_implemented("models are not made of blobs here: put model files where the server finds them")
}

/// Says that there are no blobs.
#[utoipa::path(post, path = "/api/blobs/{digest}", operation_id = "ollama_send_blob", tag = "ollama",
    params(("digest" = String, Path, description = "Not looked at.")),
    responses((status = 400, description = "Models are not made of blobs.", body = ErrorLine)))]
pub(super) async fn send_blob() -> ApiError {
    not_implemented("models are not made of blobs here: put model files where the server finds them")
}
