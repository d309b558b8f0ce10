//! Asking, regenerating and stopping over HTTP. Does not know how an answer is written.
//!
//! A question is first submitted to its model and only then saved: what the model cannot take (too long, queue full) is
//! refused whole, and the page still has its text. All of it runs in a task of its own, so that a page closed while the
//! model is being loaded finds its question answered later.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use zhenjin_assistant::{Assistant, ChatRequest, TextGeneration};
use zhenjin_store::{self as store, Conversation, ConversationId, MessageId, Question};

use super::answers::Provenance;
use super::extract::ApiPath;
use super::fields::{self, ContextBody, QuestionBody};
use super::prompt::chat_request;
use super::title::title_of;
use super::wire::{ContextUse, Exchange, MessageJson, Regenerated};
use crate::app::AppState;
use crate::body::ApiJson;
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fault;
use crate::openai::fields::check;

/// Asks: saves the question and begins its answer, which goes on whoever listens. The same `parent_id` as an earlier
/// question's makes a branch beside it.
#[utoipa::path(post, path = "/api/conversations/{id}/messages", operation_id = "ask", tag = "chat", params(("id" = String, Path)),
    request_body = QuestionBody, responses(
    (status = 201, description = "The question, and the answer that is being written.", body = Exchange),
    (status = 400, description = "A field is wrong, or the conversation does not fit into the model's context.", body = ErrorBody),
    (status = 404, description = "There is no such conversation or model.", body = ErrorBody),
    (status = 429, description = "The model's queue is full.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn ask(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<Exchange>), ApiError> {
    let id: ConversationId = id.parse()?;
    let fields = check(fields::QUESTION, &body)?;
    let content = fields::full_text(&fields, "content")?.to_owned();
    let parent: Option<MessageId> = fields.text("parent_id").map(str::parse).transpose()?;
    let exchange = on_its_own(async move {
        let conversation = state.store.conversation(&id).await?;
        let branch = branch(&state, &conversation, parent.as_ref()).await?;
        let request = chat_request(&conversation, &branch, Some(&content))?;
        let (generation, provenance) = submit(&state, &conversation.model, &request).await?;
        let question = Question {
            conversation_id: id,
            parent_id: parent,
            title_if_untitled: title_of(&content),
            content,
            model: conversation.model,
        };
        let add = state.store.ask(question);
        let asked = state.chat.answers.begin(generation, provenance, add, |(_, answer)| answer).await?;
        Ok(Exchange { user: asked.0.into(), answer: asked.1.into() })
    });
    Ok((StatusCode::CREATED, Json(exchange.await?)))
}

/// Answers again: another answer beside this one, which stays.
#[utoipa::path(post, path = "/api/messages/{id}/regenerate", operation_id = "regenerate_answer", tag = "chat", params(("id" = String, Path)), responses(
    (status = 201, description = "The answer that is being written.", body = Regenerated),
    (status = 400, description = "The message is no answer, or the conversation does not fit into the model's context.", body = ErrorBody),
    (status = 404, description = "There is no such message or model.", body = ErrorBody),
    (status = 429, description = "The model's queue is full.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn regenerate(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
) -> Result<(StatusCode, Json<Regenerated>), ApiError> {
    let id: MessageId = id.parse()?;
    let regenerated = on_its_own(async move {
        let answer = state.store.message(&id).await?;
        let Some(question) = answer.parent_id.filter(|_| answer.role == store::Role::Assistant) else {
            return Err(ApiError::bad_request(
                "only an answer can be regenerated; this message is a question",
            ));
        };
        let conversation = state.store.conversation(&answer.conversation_id).await?;
        let branch = state.store.branch(&question).await?;
        let request = chat_request(&conversation, &branch, None)?;
        let (generation, provenance) = submit(&state, &conversation.model, &request).await?;
        let add = state.store.answer_again(&question, conversation.model);
        let answer = state.chat.answers.begin(generation, provenance, add, |answer| answer).await?;
        Ok(Regenerated { answer: answer.into() })
    });
    Ok((StatusCode::CREATED, Json(regenerated.await?)))
}

/// Stops an answer. One that has ended stays as it is.
#[utoipa::path(post, path = "/api/messages/{id}/stop", operation_id = "stop_answer", tag = "chat", params(("id" = String, Path)), responses(
    (status = 200, description = "The answer as it ended.", body = MessageJson),
    (status = 404, description = "There is no such message.", body = ErrorBody)))]
pub(crate) async fn stop(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<MessageJson>, ApiError> {
    Ok(Json(state.chat.answers.stop(&id.parse()?).await?.into()))
}

/// How much of the model's context a question would take, with the conversation before it.
#[utoipa::path(post, path = "/api/context", operation_id = "measure_context", tag = "chat", request_body = ContextBody, responses(
    (status = 200, description = "Tokens taken, and tokens that there are.", body = ContextUse),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such conversation or model.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn context(
    State(state): State<AppState>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<ContextUse>, ApiError> {
    let fields = check(fields::CONTEXT, &body)?;
    let id: ConversationId = fields::full_text(&fields, "conversation_id")?.parse()?;
    let parent: Option<MessageId> = fields.text("parent_id").map(str::parse).transpose()?;
    let question = fields.text("content").filter(|content| !content.is_empty());
    let conversation = state.store.conversation(&id).await?;
    let branch = branch(&state, &conversation, parent.as_ref()).await?;
    let assistant = state.chat.menu.assistant(&conversation.model).await?;
    let context_length = assistant.info().context_length;
    if branch.is_empty() && question.is_none() && conversation.system_prompt.trim().is_empty() {
        return Ok(Json(ContextUse { prompt_tokens: 0, context_length }));
    }
    let request = chat_request(&conversation, &branch, question)?;
    let prompt_tokens = blocking(move || assistant.count_prompt(&request).map_err(fault)).await?;
    Ok(Json(ContextUse { prompt_tokens, context_length }))
}

/// The messages up to and with `parent`, which must be an answer of the conversation.
async fn branch(
    state: &AppState,
    conversation: &Conversation,
    parent: Option<&MessageId>,
) -> Result<Vec<store::Message>, ApiError> {
    let Some(parent) = parent else { return Ok(Vec::new()) };
    let branch = state.store.branch(parent).await?;
    match branch.last() {
        Some(last) if last.conversation_id == conversation.id && last.role == store::Role::Assistant => {
            Ok(branch)
        }
        _ => Err(ApiError::invalid("parent_id", "`parent_id` must be an answer of this conversation")),
    }
}

/// Loads the model if need be and gives it the request.
async fn submit(
    state: &AppState,
    model: &str,
    request: &ChatRequest,
) -> Result<(TextGeneration, Provenance), ApiError> {
    if state.shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let assistant = state.chat.menu.assistant(model).await?;
    let provenance = Provenance {
        model: model.to_owned(),
        settings: effective_settings(request, &assistant),
        context_length: assistant.info().context_length,
        asked: std::time::Instant::now(),
    };
    let request = request.clone();
    let generation = blocking(move || assistant.chat(&request).map_err(fault)).await?;
    Ok((generation, provenance))
}

/// The settings in force: the conversation's, and the model's defaults for those that it leaves open.
fn effective_settings(request: &ChatRequest, assistant: &Assistant) -> Value {
    let sampling = request.options.sampling.resolve(assistant.default_sampling());
    json!({
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "max_tokens": request.options.max_tokens,
    })
}

/// Runs what computes for a while (rendering, tokenising) beside the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken(&error)))
}

/// Runs `work` to its end even if the request that waits for it goes away.
async fn on_its_own<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(broken(&error)))
}

fn broken(error: &tokio::task::JoinError) -> ApiError {
    tracing::error!(%error, "a task broke");
    ApiError::internal("the server broke while it worked on this; its log says more")
}
