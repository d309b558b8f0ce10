//! The trash over HTTP: deleted conversations are listed, restored (beside the conversations) and erased.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_store::{ConversationId, Store};

use super::conversations::Page;
use super::extract::{ApiPath, ApiQuery};
use super::models::ModelMenu;
use super::wire::DeletedConversationJson;
use crate::blocking::detached;
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;

/// What was erased.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Erased {
    /// How many conversations.
    erased: u64,
}

/// Deleted conversations that can be restored, the latest deleted first.
#[utoipa::path(get, path = "/api/trash", operation_id = "list_trash", tag = "chat", params(Page), responses(
    (status = 200, description = "One page of the list.", body = Vec<DeletedConversationJson>),
    (status = 400, description = "A parameter is wrong.", body = ErrorBody),
    (status = 404, description = "`before` names no deleted conversation.", body = ErrorBody)))]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Vec<DeletedConversationJson>>, ApiError> {
    let before: Option<ConversationId> = page.before()?;
    let listed = store.deleted_conversations(&caller.owner, page.limit()?, before.as_ref()).await?;
    Ok(Json(listed.into_iter().map(DeletedConversationJson::from).collect()))
}

/// Erases all deleted conversations. This cannot be undone.
#[utoipa::path(delete, path = "/api/trash", operation_id = "empty_trash", tag = "chat", responses(
    (status = 200, description = "They are erased.", body = Erased)))]
pub(crate) async fn empty(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
) -> Result<Json<Erased>, ApiError> {
    // A page that is closed meanwhile leaves nothing half erased.
    let erased = detached(async move {
        let erased = store.empty_trash(&caller.owner).await?;
        menu.forget_withdrawn(&store).await?;
        Ok(erased)
    });
    Ok(Json(Erased { erased: erased.await? }))
}

/// Erases one deleted conversation. This cannot be undone.
#[utoipa::path(delete, path = "/api/trash/{id}", operation_id = "erase_conversation", tag = "chat", params(("id" = String, Path)), responses(
    (status = 204, description = "It is erased."),
    (status = 404, description = "There is none in the trash.", body = ErrorBody)))]
pub(crate) async fn erase(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let id: ConversationId = id.parse()?;
    let erased = detached(async move {
        store.erase_conversation(&caller.owner, &id).await?;
        menu.forget_withdrawn(&store).await
    });
    erased.await?;
    Ok(StatusCode::NO_CONTENT)
}
