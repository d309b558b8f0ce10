//! Around every request: an id, a line in the log, a count, and panics turned into answers. Logs methods, routes,
//! statuses and times; never what users write, nor their addresses' query strings.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::errors::ApiError;
use crate::metrics::Metrics;

/// The header that carries a request's id in both directions.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// A name that nothing else has: 32 hexadecimal digits from the operating system's randomness.
pub(crate) fn fresh_id() -> String {
    // It names lines of the log and answers, and keeps no secret: a system without randomness still serves.
    let bits = zhenjin_store::random_bytes().map_or(0, u128::from_be_bytes);
    format!("{bits:032x}")
}

/// The request's id, for the log's lines about its generation.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or("unnamed").to_owned()
}

/// Middleware: names, times, logs and counts a request, and turns a panic into an answer.
pub(crate) async fn observe(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let id = request.headers().get(REQUEST_ID).filter(|value| is_plain(value)).cloned();
    let id =
        id.or_else(|| HeaderValue::from_str(&fresh_id()).ok()).unwrap_or(HeaderValue::from_static("unnamed"));
    request.headers_mut().insert(REQUEST_ID, id.clone());

    let span = tracing::info_span!("request", id = id.to_str().unwrap_or("unnamed"), method, route);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked; the log's lines before this one say where"));
        ApiError::internal("something went wrong inside the server; its log says what").into_response()
    });
    response.headers_mut().insert(REQUEST_ID, id);

    let status = response.status().as_u16();
    metrics.http_request(method, &route, status, start.elapsed());
    span.in_scope(|| tracing::info!(status, milliseconds = start.elapsed().as_millis() as u64, "answered"));
    response
}

/// Callers may invent methods, and every new label costs memory for ever.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Whether a caller's own id may stand in a log: short, and without anything that could end a line.
fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 128
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}
