//! Whether the server lives and is ready. Does not know models.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppState;
use crate::errors::{ApiError, ErrorBody};

/// The routes for whoever operates the server.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
}

impl Health {
    const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health::OK)
}

/// Whether new requests are taken: 503 from the moment the server was told to stop.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, body = Health), (status = 503, body = ErrorBody)))]
async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    if state.shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    Ok(Json(Health::OK))
}
