//! What the page needs to know before anything else.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_store::{KeyRole, Store};

use super::models::ModelMenu;
use crate::errors::ApiError;
use crate::options::ServerOptions;
use crate::security::{identify, needs_key};

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
    /// What whoever sends this request may do; null for somebody who has shown no key to a server that needs one.
    #[schema(required)]
    role: Option<CallerRole>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CallerRole {
    /// Everything that a user may, and administer models and adapters.
    Operator,
    /// Use models, and have conversations.
    User,
}

/// What the page needs to know before anything else. Needs no key.
#[utoipa::path(get, path = "/api/status", operation_id = "get_status", tag = "chat",
    responses((status = 200, description = "The server and its machine.", body = ServerStatus)))]
pub(crate) async fn status(
    State(menu): State<Arc<ModelMenu>>,
    State(options): State<Arc<ServerOptions>>,
    State(store): State<Store>,
    parts: Parts,
) -> Result<Json<ServerStatus>, ApiError> {
    let caller = identify(&options, &store, &parts).await?;
    let serving = menu.serving();
    Ok(Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION"),
        default_model: menu.default_model(),
        memory_total: menu.memory_total(),
        memory_limit: serving.memory_bytes,
        simd: serving.compute.simd.to_string(),
        threads: serving.compute.threads,
        needs_key: needs_key(&options, &parts),
        role: caller.map(|caller| match caller.role() {
            KeyRole::Operator => CallerRole::Operator,
            KeyRole::User => CallerRole::User,
        }),
    }))
}
