//! The web chat's own API under `/api`.

use utoipa_axum::router::OpenApiRouter;

use crate::app::AppState;
use crate::errors::ApiError;
use crate::security::Credential;

/// The routes under `/api`, written with their full paths.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}

/// Whether whoever shows this credential may use `/v1` and `/api`.
pub(crate) async fn is_known(_state: &AppState, _credential: &Credential) -> Result<bool, ApiError> {
    Ok(false)
}
