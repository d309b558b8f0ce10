//! The bodies of Ollama's requests.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use serde_json::Value;

use crate::body::json_body;
use crate::errors::ApiError;

/// The body as JSON, whatever its declared type, as people send it with `curl -d`, which declares a form.
///
/// A page in a browser cannot use this: with everything that it may send across origins without asking first, a browser sends
/// `Origin` or `Sec-Fetch-Site`, and then the type must be JSON's.
pub(super) async fn read(mut request: Request) -> Result<Value, ApiError> {
    let headers = request.headers_mut();
    if !headers.contains_key(header::ORIGIN) && !headers.contains_key("sec-fetch-site") {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    json_body(request).await
}
