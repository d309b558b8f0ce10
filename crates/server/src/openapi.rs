//! The description of every route, made from the routes themselves, and a page that shows it.

use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Info, License, OpenApi, SecurityRequirement};

use crate::{anthropic, ollama, openai};

const SCHEME: &str = "key";

const INTRODUCTION: &str = "OpenAI's and Anthropic's APIs under `/v1`, Ollama's and the web chat's own under `/api`, and what operators need. \
    Every error but those of Anthropic's and Ollama's routes is `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`. A key is needed unless the server listens on this \
    machine alone.";

/// The page at `/docs` loads its script, its style and the description from this server, and nothing else from anywhere.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The document of the API whose routes describe themselves as `described`.
pub(crate) fn document(mut described: OpenApi) -> Value {
    let mut info = Info::new("Zhenjin", env!("CARGO_PKG_VERSION"));
    info.description = Some(INTRODUCTION.to_owned());
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    described.info = info;
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key.")).build();
    let components = described.components.get_or_insert_with(Components::new);
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
    // A key is only needed where the server asks for one.
    described.security =
        Some(vec![SecurityRequirement::new(SCHEME, Vec::<String>::new()), SecurityRequirement::default()]);
    let mut document = json!(described);
    let schemas = openai::request_schemas()
        .into_iter()
        .chain(anthropic::request_schemas())
        .chain(ollama::request_schemas());
    for (name, schema) in schemas {
        document["components"]["schemas"][name] = schema;
    }
    document
}

/// The document as a file and as a page.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(document: Value) -> Router<S> {
    let document = Arc::new(document);
    Router::new()
        .route("/openapi.json", get(move || async move { Json(document.as_ref()).into_response() }))
        .route("/docs", get(|| page_file("text/html; charset=utf-8", include_str!("docs/page.html"))))
        .route(
            "/docs/page.js",
            get(|| page_file("text/javascript; charset=utf-8", include_str!("docs/page.js"))),
        )
        .route("/docs/page.css", get(|| page_file("text/css; charset=utf-8", include_str!("docs/page.css"))))
}

async fn page_file(media_type: &'static str, content: &'static str) -> Response {
    let mut response =
        ([(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache")], content).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    response
}
