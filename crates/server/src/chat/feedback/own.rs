//! What a caller may do with all of their feedback: allow learning from it, take it along, erase it, see what learned from it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_store::{ConversationId, Store};

use super::wire::{ConsentJson, ErasedFeedbackJson, FeedbackExportJson, FeedbackRecordJson};
use crate::body::ApiJson;
use crate::chat::extract::ApiPath;
use crate::chat::fields::{self, ConsentBody};
use crate::chat::models::ModelMenu;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::security::Caller;

/// Improvements of models that learned from a chat.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LearnedFrom {
    /// Their ids.
    improvements: Vec<String>,
}

/// Whether models may learn from the caller's feedback. They may not until the caller says so.
#[utoipa::path(get, path = "/api/feedback/consent", operation_id = "get_consent", tag = "feedback", responses(
    (status = 200, description = "What the caller has said.", body = ConsentJson)))]
pub(crate) async fn consent(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Json<ConsentJson>, ApiError> {
    Ok(Json(store.training_consent(&caller.owner).await?.into()))
}

/// Says whether models may learn from the caller's feedback, from now on.
#[utoipa::path(put, path = "/api/feedback/consent", operation_id = "set_consent", tag = "feedback", request_body = ConsentBody, responses(
    (status = 200, description = "It is kept.", body = ConsentJson),
    (status = 400, description = "A field is wrong.", body = ErrorBody)))]
pub(crate) async fn set_consent(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<ConsentJson>, ApiError> {
    let allowed = check(fields::CONSENT, &body)?.boolean("allowed").unwrap_or(false);
    let said = store.set_training_consent(&caller.owner, allowed).await?;
    if !allowed {
        menu.forget_withdrawn(&store).await?;
    }
    Ok(Json(said.into()))
}

/// All of the caller's feedback with everything that is kept about it, to take along.
#[utoipa::path(get, path = "/api/feedback", operation_id = "export_feedback", tag = "feedback", responses(
    (status = 200, description = "The feedback, the oldest first.", body = FeedbackExportJson)))]
pub(crate) async fn export(
    State(store): State<Store>,
    caller: Caller,
) -> Result<Json<FeedbackExportJson>, ApiError> {
    let rows = store.export_feedback(&caller.owner).await?;
    Ok(Json(FeedbackExportJson {
        consent: store.training_consent(&caller.owner).await?.into(),
        rows: rows.into_iter().map(FeedbackRecordJson::from).collect(),
    }))
}

/// Erases all of the caller's feedback, choices too, and that of chats in the trash. The chats stay. This cannot be undone.
#[utoipa::path(delete, path = "/api/feedback", operation_id = "erase_feedback", tag = "feedback", responses(
    (status = 200, description = "It is erased.", body = ErasedFeedbackJson)))]
pub(crate) async fn erase(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
) -> Result<Json<ErasedFeedbackJson>, ApiError> {
    let mut erased = store.erase_feedback(&caller.owner).await?;
    // Of what had not ended yet nothing is left.
    let given_up = menu.forget_withdrawn(&store).await?;
    erased.trained.retain(|improvement| !given_up.contains(improvement));
    Ok(Json(erased.into()))
}

/// The improvements of models that learned from feedback in this chat. They do not forget it when the chat is deleted or erased.
#[utoipa::path(get, path = "/api/conversations/{id}/trained", operation_id = "learned_from", tag = "feedback", params(("id" = String, Path)), responses(
    (status = 200, description = "Their ids.", body = LearnedFrom),
    (status = 404, description = "There is no such conversation, and none was learned from.", body = ErrorBody)))]
pub(crate) async fn learned_from(
    State(store): State<Store>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<LearnedFrom>, ApiError> {
    let id: ConversationId = id.parse()?;
    let improvements = store.improvements_of_conversation(&caller.owner, &id).await?;
    Ok(Json(LearnedFrom { improvements }))
}
