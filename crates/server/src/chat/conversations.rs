//! Conversations over HTTP: listing, making, reading, changing, deleting and its undo.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use zhenjin_store::{ConversationChange, ConversationId, Message, MessageId, NewConversation, Store};

use super::answers::RunningAnswers;
use super::extract::{ApiPath, ApiQuery};
use super::feedback::ChoiceJson;
use super::fields::{self, ConversationChangeBody, NewConversationBody};
use super::models::ModelMenu;
use super::title::clean;
use super::wire::{ConversationJson, ConversationWithMessagesJson, MessageJson};
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::{CheckedFields, check};
use crate::security::Caller;

/// Conversations in one page of the list, when the request does not say.
const PAGE: u32 = 50;
/// The most that it may ask for.
const LARGEST_PAGE: u32 = 200;

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many; 50 by default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Those that follow the conversation of this id.
    before: Option<String>,
}

impl Page {
    pub(super) fn limit(&self) -> Result<u32, ApiError> {
        let limit = self.limit.unwrap_or(PAGE);
        if (1..=LARGEST_PAGE).contains(&limit) {
            return Ok(limit);
        }
        Err(ApiError::invalid("limit", format!("`limit` must be from 1 to {LARGEST_PAGE}, not {limit}")))
    }

    pub(super) fn before(&self) -> Result<Option<ConversationId>, ApiError> {
        Ok(self.before.as_deref().map(str::parse).transpose()?)
    }
}

/// Conversations that are not deleted, the most recently used first.
#[utoipa::path(get, path = "/api/conversations", operation_id = "list_conversations", tag = "chat", params(Page), responses(
    (status = 200, description = "One page of the list.", body = Vec<ConversationJson>),
    (status = 400, description = "A parameter is wrong.", body = ErrorBody),
    (status = 404, description = "`before` names no conversation.", body = ErrorBody)))]
pub(crate) async fn list(
    State(store): State<Store>,
    caller: Caller,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Vec<ConversationJson>>, ApiError> {
    let before: Option<ConversationId> = page.before()?;
    let listed = store.conversations(&caller.owner, page.limit()?, before.as_ref()).await?;
    Ok(Json(listed.into_iter().map(ConversationJson::from).collect()))
}

/// Makes a conversation without messages.
#[utoipa::path(post, path = "/api/conversations", operation_id = "create_conversation", tag = "chat", request_body = NewConversationBody, responses(
    (status = 201, description = "The conversation.", body = ConversationJson),
    (status = 400, description = "A field is wrong.", body = ErrorBody)))]
pub(crate) async fn create(
    State(store): State<Store>,
    caller: Caller,
    State(menu): State<Arc<ModelMenu>>,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<ConversationJson>), ApiError> {
    let fields = check(fields::NEW_CONVERSATION, &body)?;
    let new = read_new(&fields, &menu)?;
    let made = store.create_conversation(&caller.owner, new).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// A conversation with all its branches.
#[utoipa::path(get, path = "/api/conversations/{id}", operation_id = "get_conversation", tag = "chat", params(("id" = String, Path)), responses(
    (status = 200, description = "The conversation.", body = ConversationWithMessagesJson),
    (status = 404, description = "There is none, or it is deleted.", body = ErrorBody)))]
pub(crate) async fn retrieve(
    State(store): State<Store>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<ConversationWithMessagesJson>, ApiError> {
    let id: ConversationId = id.parse()?;
    let conversation = store.conversation(&caller.owner, &id).await?.into();
    let messages = store.messages(&caller.owner, &id).await?;
    let said = store.feedback_in(&caller.owner, &id).await?;
    let mut said: BTreeMap<_, _> =
        said.into_iter().map(|feedback| (feedback.message_id.clone(), feedback)).collect();
    let judged = |message: Message| {
        let feedback = said.remove(&message.id);
        MessageJson::judged(message, feedback)
    };
    let messages = messages.into_iter().map(judged).collect();
    let choices = store.choices_in(&caller.owner, &id).await?;
    let choices = choices.into_iter().map(ChoiceJson::from).collect();
    Ok(Json(ConversationWithMessagesJson { conversation, messages, choices }))
}

/// Changes the fields that the body has; the others stay.
#[utoipa::path(patch, path = "/api/conversations/{id}", operation_id = "change_conversation", tag = "chat", params(("id" = String, Path)),
    request_body = ConversationChangeBody, responses(
    (status = 200, description = "The conversation as it is now.", body = ConversationJson),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such conversation, or `current_leaf` is no message of it.", body = ErrorBody)))]
pub(crate) async fn change(
    State(store): State<Store>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<ConversationJson>, ApiError> {
    let id: ConversationId = id.parse()?;
    let fields = check(fields::CONVERSATION_CHANGE, &body)?;
    let leaf: Option<MessageId> = fields.text("current_leaf").map(str::parse).transpose()?;
    let emptied = |name, empty| fields::is_null(&body, name).then_some(empty);
    let change = ConversationChange {
        title: read_title(&fields)?,
        model: read_model(&fields)?,
        system_prompt: fields
            .text("system_prompt")
            .map(str::to_owned)
            .or_else(|| fields::is_null(&body, "system_prompt").then(String::new)),
        settings: read_settings(&fields)?.or_else(|| emptied("settings", json!({}))),
        current_leaf: leaf,
    };
    Ok(Json(store.update_conversation(&caller.owner, &id, change).await?.into()))
}

/// Deletes a conversation; an answer that is being written in it stops. It can be restored for 30 days.
#[utoipa::path(delete, path = "/api/conversations/{id}", operation_id = "delete_conversation", tag = "chat", params(("id" = String, Path)), responses(
    (status = 204, description = "It is deleted."),
    (status = 404, description = "There is none.", body = ErrorBody)))]
pub(crate) async fn delete(
    State(store): State<Store>,
    caller: Caller,
    State(answers): State<Arc<RunningAnswers>>,
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let id: ConversationId = id.parse()?;
    answers.stop_conversation(&caller.owner, &id).await;
    store.delete_conversation(&caller.owner, &id).await?;
    menu.forget_withdrawn(&store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Undoes the deletion of a conversation.
#[utoipa::path(post, path = "/api/conversations/{id}/restore", operation_id = "restore_conversation", tag = "chat", params(("id" = String, Path)), responses(
    (status = 200, description = "The conversation.", body = ConversationJson),
    (status = 404, description = "There is none, or it was deleted too long ago.", body = ErrorBody)))]
pub(crate) async fn restore(
    State(store): State<Store>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<ConversationJson>, ApiError> {
    Ok(Json(store.restore_conversation(&caller.owner, &id.parse()?).await?.into()))
}

/// A conversation as these fields describe it, without title.
pub(super) fn read_new(fields: &CheckedFields<'_>, menu: &ModelMenu) -> Result<NewConversation, ApiError> {
    let model = match read_model(fields)? {
        Some(model) => model,
        None => menu.default_model().ok_or_else(|| {
            ApiError::invalid("model", "this server has no model yet: get one in the model menu, or name one")
        })?,
    };
    Ok(NewConversation {
        title: String::new(),
        model,
        system_prompt: fields.text("system_prompt").unwrap_or_default().to_owned(),
        settings: read_settings(fields)?.unwrap_or_else(|| json!({})),
    })
}

fn read_title(fields: &CheckedFields<'_>) -> Result<Option<String>, ApiError> {
    let Some(title) = fields.get("title").map(|_| fields::full_text(fields, "title")).transpose()? else {
        return Ok(None);
    };
    match clean(title) {
        title if title.is_empty() => Err(ApiError::invalid("title", "`title` must not be empty")),
        title => Ok(Some(title)),
    }
}

pub(super) fn read_model(fields: &CheckedFields<'_>) -> Result<Option<String>, ApiError> {
    fields.get("model").map(|_| fields::full_text(fields, "model").map(str::to_owned)).transpose()
}

fn read_settings(fields: &CheckedFields<'_>) -> Result<Option<Value>, ApiError> {
    fields.get("settings").map(|node| fields::read_settings(&node)).transpose()
}
