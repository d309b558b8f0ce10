//! What a caller may do with all of their feedback: allow learning from it, take it along, erase it, see what learned from it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_store::{ConversationId, FeedbackExport, Store};

use super::wire::{ConsentJson, ErasedFeedbackJson, FeedbackExportJson, FeedbackRecordJson};
use crate::blocking::detached;
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
    (status = 200, description = "The feedback, the oldest first.", body = FeedbackExportJson),
    (status = 503, description = "The database is busy; `Retry-After` says when to come again.", body = ErrorBody)))]
pub(crate) async fn export(State(store): State<Store>, caller: Caller) -> Result<Response, ApiError> {
    let consent = store.training_consent(&caller.owner).await?.into();
    let pieces = export_pieces(consent, store.export_feedback(&caller.owner).await?);
    let body = Body::from_stream(stream::iter(pieces));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The text of a [`FeedbackExportJson`], of which only one judgement is in memory at a time: each repeats the chat before its answer.
fn export_pieces(
    consent: ConsentJson,
    export: FeedbackExport,
) -> impl Iterator<Item = Result<String, serde_json::Error>> + Send {
    // The list is the last field: its judgements come before these two.
    const END: &str = "]}";
    let empty = serde_json::to_string(&FeedbackExportJson { consent, rows: Vec::new() });
    let begin = empty.map(|text| text.strip_suffix(END).unwrap_or(&text).to_owned());
    let records = export.enumerate().map(|(index, exported)| {
        let record = serde_json::to_string(&FeedbackRecordJson::from(exported));
        record.map(|record| if index == 0 { record } else { format!(",{record}") })
    });
    std::iter::once(begin).chain(records).chain(std::iter::once(Ok(END.to_owned())))
}

/// What erasing all of the caller's feedback would do: how much there is, and which improvements would not forget it.
#[utoipa::path(get, path = "/api/feedback/erasure", operation_id = "preview_erasure", tag = "feedback", responses(
    (status = 200, description = "What would be erased now.", body = ErasedFeedbackJson)))]
pub(crate) async fn erasure(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
) -> Result<Json<ErasedFeedbackJson>, ApiError> {
    let mut erasable = store.erasable_feedback(&caller.owner).await?;
    // What was interrupted is given up with what it learns from.
    let interrupted = menu.interrupted().await?;
    erasable.trained.retain(|improvement| !interrupted.contains(improvement));
    Ok(Json(erasable.into()))
}

/// Erases all of the caller's feedback, choices too, and that of chats in the trash. The chats stay. This cannot be undone.
#[utoipa::path(delete, path = "/api/feedback", operation_id = "erase_feedback", tag = "feedback", responses(
    (status = 200, description = "It is erased.", body = ErasedFeedbackJson)))]
pub(crate) async fn erase(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
) -> Result<Json<ErasedFeedbackJson>, ApiError> {
    // A page that is closed meanwhile leaves nothing half erased.
    let erased = detached(async move {
        let mut erased = store.erase_feedback(&caller.owner).await?;
        // Of what had not ended yet nothing is left.
        let given_up = menu.forget_withdrawn(&store).await?;
        erased.trained.retain(|improvement| !given_up.contains(improvement));
        Ok(erased)
    });
    Ok(Json(erased.await?.into()))
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
