//! How routes and middleware are put together.

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::addresses::{self, KnownPaths};
use crate::errors::ApiError;
use crate::state::AppState;
use crate::{
    anthropic, body, chat, dialect, observe, ollama, openai, openapi, operations, pages, security, shutdown,
    unread,
};

/// Every route with its description.
fn described_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(openai::router())
        .merge(anthropic::router())
        .merge(ollama::router())
        .merge(chat::router())
        .merge(operations::router())
}

/// The whole API as an OpenAPI document, as `/openapi.json` gives it.
pub fn openapi_document() -> Value {
    let (_, described) = described_routes().split_for_parts();
    openapi::document(described)
}

/// The whole application: routes, pages, and the middleware around them.
pub fn router(state: AppState) -> Router {
    let (routes, described) = described_routes().split_for_parts();
    let document = openapi::document(described);
    let paths = KnownPaths::of(&document);
    let otherwise = move |method: Method, uri: OriginalUri| no_such_route(method, uri, paths.clone());
    let routes = routes
        // `collect` has the one limit.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(state.clone(), body::collect))
        .layer(from_fn_with_state(state.clone(), security::authenticate));
    let application = Router::new()
        .merge(routes)
        .merge(openapi::router(document))
        .merge(pages::router(otherwise))
        .method_not_allowed_fallback(wrong_method);
    let application = match &state.options.cors_origins[..] {
        [] => application,
        origins => application.layer(security::cors(origins)),
    };
    let application = application
        .layer(from_fn(shutdown::refuse_late))
        .layer(from_fn_with_state(state.clone(), security::check_origin))
        .layer(from_fn_with_state(state.clone(), security::check_host))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .layer(from_fn(dialect::shape_errors))
        .layer(from_fn(security::add_headers))
        .layer(from_fn_with_state(state.clone(), unread::read_rest))
        .with_state(state);
    // Addresses are corrected before routes are looked for.
    Router::new().fallback_service(application).layer(map_request(addresses::correct))
}

async fn no_such_route(method: Method, OriginalUri(uri): OriginalUri, paths: KnownPaths) -> Response {
    let path = uri.path();
    let hint = match paths.nearest(path) {
        Some(near) => format!("did you mean `{near}`? /docs lists all routes"),
        None => "/docs lists all of them".to_owned(),
    };
    ApiError::not_found(format!("there is no route `{method} {path}`; {hint}"))
        .with_code("unknown_url")
        .into_response()
}

/// A route exists, but not for this method.
async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        format!("`{}` does not take {method}; the header `Allow` says what it takes", uri.path()),
    )
    .with_code("method_not_allowed")
    .into_response()
}
