//! Conversations that begin with messages, over HTTP: a first question, which is refused whole or saved whole, and the last turns
//! of a conversation that does not fit into its model's context any more.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use zhenjin_store::{ConversationId, MessageId, NewConversation, Store};

use super::answers::RunningAnswers;
use super::conversations::read_new;
use super::extract::ApiPath;
use super::fields::{self, ContinuationBody, FirstQuestionBody};
use super::messages::submit;
use super::models::ModelMenu;
use super::prompt::chat_request;
use super::title::title_of;
use super::wire::{ConversationJson, FirstExchange};
use crate::blocking::detached;
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::security::Caller;
use crate::stream_limit::StreamLimit;

/// Asks the first question of a new conversation. When the model cannot take it, nothing is made.
#[utoipa::path(post, path = "/api/questions", operation_id = "ask_first", tag = "chat", request_body = FirstQuestionBody, responses(
    (status = 201, description = "The conversation, the question, and the answer that is being written.", body = FirstExchange),
    (status = 400, description = "A field is wrong, or the question does not fit into the model's context.", body = ErrorBody),
    (status = 404, description = "There is no such model.", body = ErrorBody),
    (status = 429, description = "The model's queue is full, or too many answers are waited for.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn ask_first(
    State(store): State<Store>,
    State(answers): State<Arc<RunningAnswers>>,
    State(streams): State<StreamLimit>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<FirstExchange>), ApiError> {
    let fields = check(fields::FIRST_QUESTION, &body)?;
    let content = fields::full_text(&fields, "content")?.to_owned();
    let new = read_new(&fields, &menu)?;
    let exchange = detached(async move {
        let request = chat_request(&new.system_prompt, &new.settings, &[], Some(&content))?;
        let (generation, provenance) =
            submit(&answers, &streams, &menu, &new.model, request, &caller).await?;
        let title = title_of(&content);
        let add = store.begin_conversation(&caller.owner, new, content, &title);
        let asked =
            answers.begin(&caller.owner, generation, provenance, add, |(_, _, answer)| answer).await?;
        Ok(FirstExchange { conversation: asked.0.into(), user: asked.1.into(), answer: asked.2.into() })
    });
    Ok((StatusCode::CREATED, Json(exchange.await?)))
}

/// Makes a conversation that begins with the last turns of this one, which stays as it is: with the same model, system prompt and
/// settings.
#[utoipa::path(post, path = "/api/conversations/{id}/continue", operation_id = "continue_conversation", tag = "chat", params(("id" = String, Path)),
    request_body = ContinuationBody, responses(
    (status = 201, description = "The new conversation.", body = ConversationJson),
    (status = 400, description = "A field is wrong, or names no turns of one branch.", body = ErrorBody),
    (status = 404, description = "There is no such conversation or message.", body = ErrorBody)))]
pub(crate) async fn continue_conversation(
    State(store): State<Store>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<ConversationJson>), ApiError> {
    let id: ConversationId = id.parse()?;
    let fields = check(fields::CONTINUATION, &body)?;
    let from: MessageId = fields::full_text(&fields, "from_id")?.parse()?;
    let to: MessageId = fields::full_text(&fields, "parent_id")?.parse()?;
    let old = store.conversation(&caller.owner, &id).await?;
    if store.message(&caller.owner, &to).await?.conversation_id != id {
        return Err(ApiError::invalid("parent_id", "`parent_id` must be an answer of this conversation"));
    }
    let new = NewConversation {
        title: old.title,
        model: old.model,
        system_prompt: old.system_prompt,
        settings: old.settings,
    };
    let made = store.continue_conversation(&caller.owner, new, &from, &to).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}
