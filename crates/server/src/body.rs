//! Requests' bodies: read whole, within a size and a time, decoded, and parsed as JSON with errors that say where.
//! What a request may be large is decided here and nowhere else, and what all of them may be together.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zhenjin_store::Owner;

use crate::blocking::blocking;
use crate::errors::ApiError;
use crate::json;
use crate::options::ServerOptions;
use crate::security::{Access, Caller, access_of};
use crate::shares::{Portion, Shares, Shortage, Supply};

/// The largest body, in bytes, of a request that needs no key: strangers may send it, and it is at most a login.
const OPEN_LIMIT: usize = 16 << 10;

/// The largest body of this request, in bytes, as sent and again decoded.
fn limit(options: &ServerOptions, request: &Request) -> usize {
    match access_of(request) {
        Access::Open => OPEN_LIMIT.min(options.body_limit),
        Access::User | Access::Operator => options.body_limit,
    }
}

/// Bodies of up to so many bytes are not counted: as many as there are connections take little.
const UNCOUNTED: usize = 64 << 10;
/// As many of the largest bodies are held at once.
const LARGEST_BODIES: usize = 32;
/// Longer bodies are parsed beside the threads that serve requests.
const LONG: usize = 256 << 10;

/// The memory that the bodies of all requests may take together, in bytes, and of it a share for each owner: whoever announces bodies and
/// does not send them shuts out nobody else.
#[derive(Clone)]
pub(crate) struct BodyMemory(Arc<Supply>);

impl BodyMemory {
    /// Enough for some of the largest bodies.
    pub(crate) fn new(options: &ServerOptions) -> BodyMemory {
        let bytes = options.body_limit.saturating_mul(LARGEST_BODIES);
        BodyMemory(Supply::new(Shares::three_quarters(bytes, options.needs_key())))
    }
}

/// What one request holds of it, until it is answered.
struct HeldMemory(Portion);

impl HeldMemory {
    /// Makes sure that at least so many bytes are held.
    ///
    /// # Errors
    /// 429 when other requests hold too many, those of all or of this owner. Nothing waits for memory: two that hold some would wait for
    /// one another.
    fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes <= UNCOUNTED {
            return Ok(());
        }
        self.0.grow_to(bytes).map_err(|shortage| {
            let message = match shortage {
                Shortage::OfAll(_) => {
                    "other requests with large bodies take all the memory that this server has for them: try again"
                }
                Shortage::OfOwner(_) => {
                    "your other requests with large bodies take all the memory that one owner may have for them: \
                     wait for one of them"
                }
            };
            ApiError::too_many_requests(message, Duration::from_secs(1))
        })
    }
}

/// How many bytes a request's body has, decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BodySize(pub(crate) usize);

impl BodySize {
    /// Of a request whose body was read.
    pub(crate) fn of(parts: &Parts) -> BodySize {
        parts.extensions.get::<BodySize>().copied().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for BodySize {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<BodySize, Infallible> {
        Ok(BodySize::of(parts))
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
    State(memory): State<BodyMemory>,
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
    // Who needs no key has none here, and sends less than is counted.
    let owner = Caller::of(request.extensions()).map_or(Owner::Local, |caller| caller.owner);
    // Held until the request is answered: what is made of a body is there when its bytes are gone.
    let mut held = HeldMemory(memory.0.nothing(&owner));
    // What is announced is waited for, and refused before it is sent in vain.
    held.hold(announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0))?;
    let (mut parts, body) = request.into_parts();
    let reading = read(body, limit, &mut held);
    let bytes = tokio::time::timeout(options.read_timeout, reading).await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            format!("the request's body did not arrive within {} s", options.read_timeout.as_secs()),
        )
        .with_code("request_timeout")
    })??;
    let (bytes, held) = match encoding {
        Encoding::Identity => (bytes, held),
        Encoding::Gzip => {
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            blocking(move || Ok((gunzip(&bytes, limit, &mut held)?, held))).await?
        }
    };
    parts.extensions.insert(BodySize(bytes.len()));
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    drop(held);
    Ok(response)
}

/// The whole of a body of at most `limit` bytes.
async fn read(body: Body, limit: usize, held: &mut HeldMemory) -> Result<Bytes, ApiError> {
    let mut body = Limited::new(body, limit);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return too_large(limit);
            }
            ApiError::bad_request(format!("the request's body could not be read: {error}"))
        })?;
        // What is no data is a trailer.
        if let Ok(data) = frame.into_data() {
            held.hold(bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// What `bytes` are the gzip of, if that is at most `limit` bytes.
fn gunzip(bytes: &[u8], limit: usize, held: &mut HeldMemory) -> Result<Bytes, ApiError> {
    let mut decoder = MultiGzDecoder::new(bytes);
    let mut decoded = Vec::new();
    loop {
        let before = decoded.len();
        let piece = decoder.by_ref().take(UNCOUNTED as u64).read_to_end(&mut decoded);
        piece.map_err(|error| {
            ApiError::bad_request(format!("the request's body is declared as gzip, and is none: {error}"))
                .with_code("invalid_gzip")
        })?;
        if decoded.len() > limit {
            return Err(too_large(limit));
        }
        if decoded.len() == before {
            return Ok(decoded.into());
        }
        held.hold(bytes.len() + decoded.len())?;
    }
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
        json::typed(json_body(request).await?).map(ApiJson)
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
        json_body(Request::from_parts(parts, Body::from(bytes))).await.map(OptionalJson)
    }
}

/// The value that the body spells, once its content type says JSON.
///
/// A page of another origin can send `text/plain` without asking first, so only JSON's own type is taken.
pub(crate) async fn json_body(request: Request) -> Result<Value, ApiError> {
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
    let bytes = all_bytes(request).await?;
    if bytes.len() <= LONG {
        return json::value(&bytes);
    }
    blocking(move || json::value(&bytes)).await
}

async fn all_bytes(request: Request) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("the request's body could not be read: {error}")))
}
