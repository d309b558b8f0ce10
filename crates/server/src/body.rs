//! Requests' bodies: read whole, within a size and a time, decoded, and parsed as JSON with errors that say where.
//! What a request may be large is decided here and nowhere else.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::blocking::blocking;
use crate::errors::ApiError;
use crate::json;
use crate::options::ServerOptions;
use crate::security::{Access, access_of};

/// The largest body, in bytes, of a request that needs no key: strangers may send it, and it is at most a login.
const OPEN_LIMIT: usize = 16 << 10;

/// The largest body of this request, in bytes, as sent and again decoded.
fn limit(options: &ServerOptions, request: &Request) -> usize {
    match access_of(request) {
        Access::Open => OPEN_LIMIT.min(options.body_limit),
        Access::User | Access::Operator => options.body_limit,
    }
}

/// How a body is encoded for the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
        let values = headers.get_all(header::CONTENT_ENCODING).iter();
        let names = values.flat_map(|value| value.to_str().unwrap_or("?").split(','));
        let names: Vec<String> = names
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "identity")
            .collect();
        match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Encoding::Identity),
            ["gzip" | "x-gzip"] => Ok(Encoding::Gzip),
            _ => Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request_error",
                format!("the header `Content-Encoding` must be gzip or absent, not `{}`", names.join(", ")),
            )
            .with_code("unsupported_content_encoding")
            .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))),
        }
    }
}

/// Middleware that reads the whole body before a handler runs, so that no handler has to guard size and time itself.
pub(crate) async fn collect(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let limit = limit(&options, &request);
    let encoding = Encoding::of(request.headers())?;
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large(limit));
    }
    let (mut parts, body) = request.into_parts();
    let read = Limited::new(body, limit).collect();
    let bytes = match tokio::time::timeout(options.read_timeout, read).await {
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request_error",
                format!("the request's body did not arrive within {} s", options.read_timeout.as_secs()),
            )
            .with_code("request_timeout"));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
        Ok(Err(error)) => {
            return Err(ApiError::bad_request(format!("the request's body could not be read: {error}")));
        }
        Ok(Ok(body)) => body.to_bytes(),
    };
    let bytes = match encoding {
        Encoding::Identity => bytes,
        Encoding::Gzip => {
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            blocking(move || gunzip(&bytes, limit)).await?
        }
    };
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}

/// What `bytes` are the gzip of, if that is at most `limit` bytes.
fn gunzip(bytes: &[u8], limit: usize) -> Result<Bytes, ApiError> {
    let mut decoded = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut decoded).map_err(|error| {
        ApiError::bad_request(format!("the request's body is declared as gzip, and is none: {error}"))
            .with_code("invalid_gzip")
    })?;
    if decoded.len() > limit { Err(too_large(limit)) } else { Ok(decoded.into()) }
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

/// A JSON body as [`ApiJson`] takes it; no body at all is `null`.
#[derive(Clone, Debug)]
pub(crate) struct OptionalJson(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for OptionalJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = all_bytes(Request::new(body)).await?;
        if bytes.is_empty() {
            return Ok(OptionalJson(Value::Null));
        }
        let bytes = json_bytes(Request::from_parts(parts, Body::from(bytes))).await?;
        json::typed(&bytes).map(OptionalJson)
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
    all_bytes(request).await
}

async fn all_bytes(request: Request) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("the request's body could not be read: {error}")))
}
