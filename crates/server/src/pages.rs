//! The web chat's built pages, embedded into the program.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};
use tower_http::compression::CompressionLayer;

use crate::errors::ApiError;

#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../../web/dist"]
struct Dist;

/// What a page may load and do: only what this server sends; no script or style in the page itself, no plug-ins, no framing.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page at `/`, which is its only address: which chat it shows stands in the fragment. Below it every file of the built web
/// interface; what is none of them is answered by `otherwise`.
pub(crate) fn router<S, H, T>(otherwise: H) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    H: Handler<T, S> + Sync,
    T: 'static,
{
    Router::new()
        .route("/", get(page))
        .fallback(otherwise)
        .layer(from_fn(file))
        .layer(CompressionLayer::new())
}

async fn page(headers: HeaderMap) -> Response {
    match Dist::get("index.html") {
        Some(file) => send("index.html", file, &headers),
        None => ApiError::not_found("this program was built without its web interface").into_response(),
    }
}

/// Answers with the file that has the request's path, if there is one.
async fn file(request: Request, next: Next) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    match Dist::get(path) {
        Some(file) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            send(path, file, request.headers())
        }
        _ => next.run(request).await,
    }
}

fn send(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let digest: String = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{digest}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // Vite puts a digest into the names below assets/, so those files never change.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = if known
        .is_some_and(|known| known.split(',').any(|each| each.trim().trim_start_matches("W/") == tag))
    {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, media_type(path))], file.data).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
