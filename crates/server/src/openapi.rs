//! The description of every route, made from the routes themselves. Does not know any route by name.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::{Info, License, OpenApi};

use crate::app::{AppState, described_routes};

/// The whole API as an OpenAPI document.
pub fn document() -> OpenApi {
    let (_, mut described) = described_routes().split_for_parts();
    let mut info = Info::new("Zhenjin", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("OpenAI's API under /v1, the web chat's own under /api, and operations.".to_owned());
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    described.info = info;
    described
}

/// The description as a file.
pub(crate) fn router() -> Router<AppState> {
    Router::new().route("/openapi.json", get(|| async { Json(document()) }))
}
