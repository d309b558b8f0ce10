//! What the page needs to know before anything else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::models::ModelMenu;
use crate::options::ServerOptions;

/// The server and its machine.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ServerStatus {
    /// The program's version.
    version: &'static str,
    /// The model for conversations that name none; null while there is no model.
    #[schema(required)]
    default_model: Option<String>,
    /// Bytes of memory that the machine has.
    memory_total: u64,
    /// Bytes that models may take.
    memory_limit: u64,
    /// The instructions that the kernels use.
    simd: String,
    /// Threads that compute one model's steps.
    threads: usize,
    /// Whether requests need an API key or a login.
    needs_key: bool,
}

/// What the page needs to know before anything else. Needs no key.
#[utoipa::path(get, path = "/api/status", operation_id = "get_status", tag = "chat",
    responses((status = 200, description = "The server and its machine.", body = ServerStatus)))]
pub(crate) async fn status(
    State(menu): State<Arc<ModelMenu>>,
    State(options): State<Arc<ServerOptions>>,
) -> Json<ServerStatus> {
    let serving = menu.serving();
    Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION"),
        default_model: menu.default_model(),
        memory_total: menu.memory_total(),
        memory_limit: serving.memory_bytes,
        simd: serving.compute.simd.to_string(),
        threads: serving.compute.threads,
        needs_key: options.needs_key(),
    })
}
