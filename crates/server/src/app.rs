//! How routes and middleware are put together.

use axum::Router;
use axum::extract::{MatchedPath, OriginalUri};
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::errors::ApiError;
use crate::state::AppState;
use crate::{body, chat, observe, openai, openapi, operations, pages, security};

/// Every route with its description.
fn described_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(openai::router()).merge(chat::router()).merge(operations::router())
}

/// The whole API as an OpenAPI document, as `/openapi.json` gives it.
pub fn openapi_document() -> Value {
    let (_, described) = described_routes().split_for_parts();
    openapi::document(described)
}

/// The whole application: routes, pages, and the middleware around them.
pub fn router(state: AppState) -> Router {
    let (routes, described) = described_routes().split_for_parts();
    let routes = routes
        .layer(from_fn_with_state(state.clone(), body::collect))
        .layer(from_fn_with_state(state.clone(), security::authenticate));
    Router::new()
        .merge(routes)
        .merge(openapi::router(openapi::document(described)))
        .merge(pages::router())
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), security::check_origin))
        .layer(from_fn_with_state(state.clone(), security::check_host))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .layer(from_fn(security::add_headers))
        .with_state(state)
}

async fn no_such_route(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    ApiError::not_found(format!("there is no route `{method} {}`; /docs lists all of them", uri.path()))
        .with_code("unknown_url")
        .into_response()
}

/// A route exists, but not for this method. The pages' own route takes every path, so what matches it alone is no route.
async fn wrong_method(method: Method, matched: MatchedPath, OriginalUri(uri): OriginalUri) -> Response {
    if matched.as_str() == pages::ANY_PATH {
        return no_such_route(method, OriginalUri(uri)).await;
    }
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        format!("`{}` does not take {method}; the header `Allow` says what it takes", uri.path()),
    )
    .with_code("method_not_allowed")
    .into_response()
}
