//! The bodies of Ollama's requests.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use serde_json::Value;

use crate::body::json_read;
use crate::errors::ApiError;

/// What `read` makes of the body as JSON, whatever its declared type, as people send it with `curl -d`, which declares a form.
///
/// A page in a browser cannot use this: with everything that it may send across origins without asking first, a browser sends
/// `Origin` or `Sec-Fetch-Site`, and then the type must be JSON's.
pub(super) async fn read<T: Send + 'static>(
    mut request: Request,
    read: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let headers = request.headers_mut();
    if !headers.contains_key(header::ORIGIN) && !headers.contains_key("sec-fetch-site") {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    json_read(request, read).await
}
