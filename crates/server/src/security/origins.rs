//! Which pages' origins may call this server.
//!
//! A request that a browser makes for a page of another site carries that site as `Origin`. It is refused unless the operator allowed
//! the site; then the browser's questions are answered.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use url::Url;

use crate::errors::ApiError;
use crate::options::ServerOptions;

/// What browsers send as the origin of a sandboxed frame or a file.
const NULL: &str = "null";

/// What some programs made of web pages send as the origin of a file.
const FILE: &str = "file://";

/// How long a browser may remember what it was allowed.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The origin as browsers write it: scheme, host and perhaps port, in lower case, the scheme's own port left out; or `null`. `None`
/// for text that is no origin. Any scheme may be one: programs made of web pages have schemes of their own.
pub(crate) fn normalised_origin(text: &str) -> Option<String> {
    if text == NULL || text == FILE {
        return Some(text.to_owned());
    }
    let url = Url::parse(text).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|host| !host.is_empty() && !host.contains('*'))?;
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
}

/// Middleware that refuses requests made by other sites' pages.
pub(crate) async fn check_origin(
    State(options): State<Arc<ServerOptions>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(next.run(request).await);
    };
    let text = origin.to_str().unwrap_or("");
    if is_same_origin(text, request.headers()) || options.cors_origins.iter().any(|allowed| allowed == text) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::forbidden(format!(
        "pages of the origin `{text}` may not call this server; if they are yours, add it to the server's CORS origins"
    ))
    .with_code("origin_not_allowed"))
}

/// What answers the questions of browsers for pages of these origins: they may send every header that they ask for, since
/// [`check_origin`] lets no other page in, and credentials are keys that the page itself holds, never cookies.
pub(crate) fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .allow_private_network(true)
        .max_age(REMEMBERED)
}

/// Schemes are not compared: behind a proxy the browser says https while the server hears http.
fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_every_scheme_are_written_as_browsers_write_them() {
        for (given, written) in [
            ("https://example.org", "https://example.org"),
            ("https://Example.ORG:443/", "https://example.org"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://例子.测试", "https://xn--fsqu00a.xn--0zwm56d"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("app://.", "app://."),
            ("tauri://localhost", "tauri://localhost"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("null", "null"),
            ("file://", "file://"),
        ] {
            assert_eq!(normalised_origin(given).as_deref(), Some(written), "{given}");
        }
        for given in [
            "",
            "*",
            "example.org",
            "https://",
            "https://*",
            "https://*.example.org",
            "https://example.org/path",
            "https://example.org?q",
            "https://example.org#f",
            "https://user@example.org",
            "NULL",
            "data:text/html,x",
            "app:",
        ] {
            assert_eq!(normalised_origin(given), None, "{given}");
        }
    }
}
