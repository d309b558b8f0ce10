//! What people say of answers, over HTTP: of one answer, and of several beside each other.

pub(super) mod own;
pub(super) mod statistics;
mod wire;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use zhenjin_assistant::Transcript;
use zhenjin_store::{Message, MessageId, NewFeedback, Rating, Store};

pub(super) use wire::{ChoiceJson, FeedbackJson};

use super::extract::ApiPath;
use super::fields::{self, ChoiceBody, FeedbackBody};
use super::models::ModelMenu;
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::{CheckedFields, check};
use crate::security::Caller;

/// Says what the caller thinks of an answer, in the place of what was said before: whether it is liked, why, and how it should have
/// been.
#[utoipa::path(put, path = "/api/messages/{id}/feedback", operation_id = "say_feedback", tag = "feedback", params(("id" = String, Path)),
    request_body = FeedbackBody, responses(
    (status = 200, description = "It is kept.", body = FeedbackJson),
    (status = 400, description = "A field is wrong, nothing is said, or the message is a question.", body = ErrorBody),
    (status = 404, description = "There is no such message.", body = ErrorBody),
    (status = 409, description = "The answer is still being written.", body = ErrorBody)))]
pub(crate) async fn say(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<FeedbackJson>, ApiError> {
    let id: MessageId = id.parse()?;
    let said = read_feedback(&check(fields::FEEDBACK, &body)?)?;
    if let Some(correction) = &said.correction {
        // The store compares whole texts; a person sees the answer without its thought.
        let (_, answer) = Transcript::split(&store.message(&caller.owner, &id).await?.content);
        if answer.trim() == correction.trim() {
            let message = "`correction` is the answer itself; change it, or rate the answer up";
            return Err(ApiError::invalid("correction", message));
        }
    }
    let before = store.feedback(&caller.owner, &id).await?;
    let kept = store.set_feedback(&caller.owner, &id, said).await?;
    // A judgement of another name is another one: that before it may no longer be learned from.
    if before.is_some_and(|before| before.id != kept.id) {
        menu.forget_withdrawn(&store).await?;
    }
    Ok(Json(kept.into()))
}

/// Forgets what the caller said of an answer.
#[utoipa::path(delete, path = "/api/messages/{id}/feedback", operation_id = "forget_feedback", tag = "feedback", params(("id" = String, Path)), responses(
    (status = 204, description = "Nothing is said of it any more."),
    (status = 404, description = "There is no such message.", body = ErrorBody)))]
pub(crate) async fn forget(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    store.remove_feedback(&caller.owner, &id.parse()?).await?;
    menu.forget_withdrawn(&store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Chooses this answer over others to the same question. A pair that was judged before is judged anew.
#[utoipa::path(put, path = "/api/messages/{id}/choice", operation_id = "choose_answer", tag = "feedback", params(("id" = String, Path)),
    request_body = ChoiceBody, responses(
    (status = 200, description = "All that this answer is chosen over.", body = ChoiceJson),
    (status = 400, description = "A field is wrong, or these are no different answers to one question.", body = ErrorBody),
    (status = 404, description = "There is no such message.", body = ErrorBody),
    (status = 409, description = "One of the answers is still being written.", body = ErrorBody)))]
pub(crate) async fn choose(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<ChoiceJson>, ApiError> {
    let id: MessageId = id.parse()?;
    let rejected = texts(&check(fields::CHOICE, &body)?, "rejected", fields::REJECTED_ANSWERS)?;
    let rejected: Vec<MessageId> = rejected.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let answer = store.message(&caller.owner, &id).await?;
    expect_other_words(&store, &caller, &answer, &rejected).await?;
    let before = store.choices_in(&caller.owner, &answer.conversation_id).await?;
    let is_turned =
        before.iter().any(|choice| choice.rejected.contains(&id) && rejected.contains(&choice.chosen));
    let kept = store.choose(&caller.owner, &id, &rejected).await?;
    if is_turned {
        // The pair was judged the other way round, which may no longer be learned from.
        menu.forget_withdrawn(&store).await?;
    }
    Ok(Json(kept.into()))
}

/// Refuses answers that read like the chosen one. The store compares whole texts; a person sees an answer without its thought.
async fn expect_other_words(
    store: &Store,
    caller: &Caller,
    chosen: &Message,
    rejected: &[MessageId],
) -> Result<(), ApiError> {
    let (_, words) = Transcript::split(&chosen.content);
    for id in rejected {
        if *id == chosen.id {
            continue;
        }
        let other = store.message(&caller.owner, id).await?;
        if Transcript::split(&other.content).1.trim() == words.trim() && other.parent_id == chosen.parent_id {
            let message = format!(
                "`rejected` names answer {id}, which reads the same as {}: there is nothing to choose between",
                chosen.id
            );
            return Err(ApiError::invalid("rejected", message));
        }
    }
    Ok(())
}

/// Forgets the choices in which this answer was chosen.
#[utoipa::path(delete, path = "/api/messages/{id}/choice", operation_id = "forget_choice", tag = "feedback", params(("id" = String, Path)), responses(
    (status = 204, description = "It is chosen over no other any more."),
    (status = 404, description = "There is no such message.", body = ErrorBody)))]
pub(crate) async fn forget_choice(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    store.remove_choice(&caller.owner, &id.parse()?).await?;
    menu.forget_withdrawn(&store).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn read_feedback(fields: &CheckedFields<'_>) -> Result<NewFeedback, ApiError> {
    Ok(NewFeedback {
        rating: match fields.text("rating") {
            None => None,
            Some("up") => Some(Rating::Up),
            Some(_) => Some(Rating::Down),
        },
        // More reasons than there are words cannot be right: the store says which word is wrong or comes twice.
        reasons: texts(fields, "reasons", usize::MAX)?,
        comment: fields.text("comment").map(str::to_owned),
        correction: fields.text("correction").map(str::to_owned),
    })
}

/// The texts of a list with at most so many; none when it is absent.
fn texts(fields: &CheckedFields<'_>, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
    let Some(list) = fields.get(name) else { return Ok(Vec::new()) };
    let items = list.list()?;
    if items.len() > most {
        return Err(list.error(format!("must have at most {most} entries, not {}", items.len())));
    }
    items.map(|item| item.text().map(str::to_owned)).collect()
}
