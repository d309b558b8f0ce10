//! Requests' bodies: read whole, within a size and a time, and parsed as JSON with errors that say where.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::errors::ApiError;
use crate::json;
use crate::options::ServerOptions;

/// Middleware that reads the whole body before a handler runs, so that no handler has to guard size and time itself.
pub(crate) async fn collect(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let limit = options.body_limit;
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large(limit));
    }
    let (parts, body) = request.into_parts();
    let bytes = match tokio::time::timeout(options.read_timeout, to_bytes(body, limit)).await {
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request_error",
                format!("the request's body did not arrive within {} s", options.read_timeout.as_secs()),
            )
            .with_code("request_timeout"));
        }
        Ok(Err(error)) if is_length_limit(&error) => return Err(too_large(limit)),
        Ok(Err(error)) => {
            return Err(ApiError::bad_request(format!("the request's body could not be read: {error}")));
        }
        Ok(Ok(bytes)) => bytes,
    };
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if cause.to_string().contains("length limit exceeded") {
            return true;
        }
        source = cause.source();
    }
    false
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "invalid_request_error",
        format!("the request's body is larger than this server's limit of {limit} bytes"),
    )
    .with_code("request_too_large")
}

/// A JSON body as a `T`; whatever is wrong with it is a 400 (or 415) in OpenAI's shape that names place and field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = json_bytes(request).await?;
        json::typed(&bytes).map(ApiJson)
    }
}

/// The body's bytes, once its content type says JSON.
///
/// A page of another origin can send `text/plain` without asking first, so only JSON's own type is taken.
pub(crate) async fn json_bytes(request: Request) -> Result<Bytes, ApiError> {
    let content_type =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            format!("the header `Content-Type` must be application/json, not `{content_type}`"),
        )
        .with_code("unsupported_media_type"));
    }
    Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("the request's body could not be read: {error}")))
}
