//! Requests' bodies: read whole, within a size and a time, decoded, and parsed as JSON with errors that say where.
//! What a request may be large is decided here and nowhere else, and what all of them may be together.

use std::convert::Infallible;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::blocking::{Gates, blocking};
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
/// Longer bodies are parsed and taken apart beside the threads that serve requests, in turn.
const LONG: usize = 64 << 10;
/// The most values in a body of the web chat's own API: none of its fields holds many.
const FEW_VALUES: usize = 10_000;

/// The memory that the bodies of all requests may take together, in bytes, and of it a share for each owner: whoever announces bodies and
/// does not send them shuts out nobody else. What is parsed counts too: very many small values take many times the memory of their text.
#[derive(Clone)]
pub(crate) struct BodyMemory {
    supply: Arc<Supply>,
    gates: Gates,
}

impl BodyMemory {
    /// Enough for some of the largest bodies, which are taken apart in the turns of `gates`.
    pub(crate) fn new(options: &ServerOptions, gates: Gates) -> BodyMemory {
        let bytes = options.body_limit.saturating_mul(LARGEST_BODIES);
        let supply = Supply::new(Shares::three_quarters(bytes, options.needs_key()));
        BodyMemory { supply, gates }
    }

    fn nothing(&self, owner: &Owner) -> HeldMemory {
        HeldMemory(self.supply.nothing(owner))
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

/// What is needed to take a request's body apart.
#[derive(Clone)]
struct Reading {
    /// Whoever reads the body and whoever waits for the answer hold it together: work goes on for a while when its request has gone.
    held: Arc<Mutex<HeldMemory>>,
    gates: Gates,
    owner: Owner,
}

impl Reading {
    fn of(request: &Request) -> Result<Reading, ApiError> {
        let reading = request.extensions().get::<Reading>().cloned();
        reading.ok_or_else(|| ApiError::internal("this route does not read bodies"))
    }

    /// Makes sure that so many bytes are held, or all that the owner may have: what is within the other limits can be read alone.
    fn hold(&self, bytes: usize) -> Result<(), ApiError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let most = held.0.most();
        held.hold(bytes.min(most))
    }

    /// Gives back what is held beyond so many bytes.
    fn shrink(&self, bytes: usize) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).0.shrink_to(bytes);
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
    // Who needs no key has none here.
    let owner = Caller::of(request.extensions()).map_or(Owner::Local, |caller| caller.owner);
    // Held until the request is answered: what is made of a body is there when its bytes are gone.
    let mut held = memory.nothing(&owner);
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
    let held = Arc::new(Mutex::new(held));
    parts.extensions.insert(Reading { held: Arc::clone(&held), gates: memory.gates, owner });
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

/// A JSON body of few values as a `T`; whatever is wrong with it is a 400 (or 415) in OpenAI's shape that names place and field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parsed(request, FEW_VALUES, |value, _| json::typed(value)).await.map(ApiJson)
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
        parsed(Request::from_parts(parts, Body::from(bytes)), FEW_VALUES, |value, _| Ok(value))
            .await
            .map(OptionalJson)
    }
}

/// What `read` makes of the value that the body spells, once its content type says JSON.
///
/// A long body is parsed, read and its value dropped beside the threads that serve requests: hundreds of thousands of values take longer than
/// a stream may wait.
///
/// # Errors
/// 415 for another type, 400 for what is no JSON, 429 where there is no memory left for it, and those of `read`.
pub(crate) async fn json_read<T: Send + 'static>(
    request: Request,
    read: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    /// What is made of a body takes at most so many times the memory of its text.
    const MADE: usize = 4;
    let reading = Reading::of(&request)?;
    let make = move |value: Value, length: usize| {
        let made = read(&value)?;
        drop(value);
        reading.shrink(length.saturating_mul(MADE));
        Ok(made)
    };
    parsed(request, json::MAX_VALUES, make).await
}

/// What `make` makes of the value and of the number of bytes that spell it.
async fn parsed<T: Send + 'static>(
    request: Request,
    most_values: usize,
    make: impl FnOnce(Value, usize) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    expect_json(request.headers())?;
    let reading = Reading::of(&request)?;
    let bytes = all_bytes(request).await?;
    let length = bytes.len();
    let (gates, owner) = (reading.gates.clone(), reading.owner.clone());
    let work = move || {
        let hold = |values: usize| reading.hold(length.saturating_add(values));
        make(json::value_within(&bytes, most_values, &hold)?, length)
    };
    if length <= LONG { work() } else { gates.read(&owner, work).await }
}

/// Refuses what is not declared as JSON in UTF-8.
///
/// A page of another origin can send `text/plain` without asking first, so only JSON's own type is taken.
fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |message: String| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(ApiError::new(status, "invalid_request_error", message).with_code("unsupported_media_type"))
    };
    let Some(value) = headers.get(header::CONTENT_TYPE).filter(|value| !value.is_empty()) else {
        return refused("the header `Content-Type` is missing: it must be application/json".to_owned());
    };
    let content_type = String::from_utf8_lossy(value.as_bytes());
    let mut parts = content_type.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        return refused(format!("the header `Content-Type` must be application/json, not `{content_type}`"));
    }
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        let charset = value.trim().trim_matches('"');
        // ASCII is UTF-8 too.
        let is_utf8 =
            ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return refused(format!(
                "the header `Content-Type` says that the characters are `{charset}`, and JSON is read as UTF-8: send it so, with \
                 charset=utf-8 or none"
            ));
        }
    }
    Ok(())
}

async fn all_bytes(request: Request) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("the request's body could not be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn memory(body_limit: usize) -> BodyMemory {
        BodyMemory::new(&ServerOptions { body_limit, ..ServerOptions::default() }, Gates::new(false))
    }

    fn reading(memory: &BodyMemory) -> Reading {
        let held = Arc::new(Mutex::new(memory.nothing(&Owner::Local)));
        Reading { held, gates: memory.gates.clone(), owner: Owner::Local }
    }

    fn request(reading: &Reading, body: String) -> Request {
        let builder = axum::http::Request::builder().header(header::CONTENT_TYPE, "application/json");
        builder.extension(reading.clone()).body(Body::from(body)).expect("valid")
    }

    fn small_objects(count: usize) -> String {
        format!("[{}]", vec!["{}"; count].join(","))
    }

    /// Regression: fields of long bodies were read, and their values dropped, on the threads that serve requests; streams waited for seconds.
    #[tokio::test]
    async fn long_bodies_are_read_beside_the_threads_that_serve_requests() {
        let memory = memory(8 << 20);
        for (count, is_long) in [(3, false), (LONG, true)] {
            let read = |value: &Value| {
                assert!(value.is_array());
                Ok(thread::current().id())
            };
            let place =
                json_read(request(&reading(&memory), small_objects(count)), read).await.expect("JSON");
            assert_eq!(place != thread::current().id(), is_long, "{count}");
        }
    }

    /// Regression: only the bytes of bodies were counted, and 40 of very many small values took gigabytes.
    #[tokio::test]
    async fn what_is_parsed_counts() {
        let memory = memory(64 << 10);
        let many = || small_objects(20_000);
        assert!(many().len() <= 64 << 10);
        let ask = async |reading: &Reading, body: String| json_read(request(reading, body), |_| Ok(())).await;
        let first = reading(&memory);
        ask(&first, many()).await.expect("alone it can always be read");
        let refused = ask(&reading(&memory), many()).await.expect_err("all is taken");
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        ask(&reading(&memory), small_objects(100)).await.expect("a few values are not counted");
        drop(first);
        ask(&reading(&memory), many()).await.expect("the other has been answered");
    }

    #[tokio::test]
    async fn bodies_of_the_chats_own_api_hold_few_values() {
        let reading = reading(&memory(8 << 20));
        let read = |count| ApiJson::<Value>::from_request(request(&reading, small_objects(count)), &());
        assert!(read(FEW_VALUES - 1).await.is_ok());
        let refused = read(FEW_VALUES).await.expect_err("too many");
        assert!(refused.message().contains("more than 10000 values"), "{refused}");
    }

    /// Regression: a type that is missing was called ``, and other characters than UTF-8's were taken for them.
    #[test]
    fn the_type_is_json_in_utf_8() {
        let of = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            }
            expect_json(&headers).map_err(|error| (error.status().as_u16(), error.message().to_owned()))
        };
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/problem+json;charset=\"utf-8\"",
            "application/json; boundary=x; charset=utf8",
            "application/json; charset=us-ascii",
        ] {
            assert_eq!(of(Some(good)), Ok(()), "{good}");
        }
        for (bad, words) in [
            (None, "is missing"),
            (Some(""), "is missing"),
            (Some("text/plain"), "not `text/plain`"),
            (Some("application/json; charset=latin1"), "`latin1`"),
            (Some("application/json; charset=utf-16"), "`utf-16`"),
        ] {
            let (status, message) = of(bad).expect_err("refused");
            assert_eq!(status, 415, "{bad:?}");
            assert!(message.contains(words), "{bad:?}: {message}");
        }
    }
}
