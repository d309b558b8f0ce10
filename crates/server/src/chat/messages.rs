//! Asking, regenerating and stopping over HTTP.
//!
//! A question is first submitted to its model and only then saved: what the model cannot take (too long, queue full) is
//! refused whole, and the page still has its text. All of it runs in its own task, so that a page closed while the
//! model is being loaded finds its question answered later.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zhenjin_assistant::{Assistant, ChatRequest, TextGeneration};
use zhenjin_store::{Conversation, ConversationId, Message, MessageId, Question, Role, Store, turns};

use super::answers::{Provenance, RunningAnswers};
use super::conversations::{read_model, read_new};
use super::extract::ApiPath;
use super::fields::{self, ContextBody, QuestionBody, RegenerationBody};
use super::models::ModelMenu;
use super::prompt::chat_request;
use super::title::title_of;
use super::wire::{ContextUse, Exchange, MessageJson, Regenerated};
use crate::blocking::detached;
use crate::body::{ApiJson, OptionalJson};
use crate::errors::{ApiError, ErrorBody};
use crate::json;
use crate::openai::fault;
use crate::openai::fields::{CheckedFields, check};
use crate::security::Caller;
use crate::stream_limit::StreamLimit;

/// Asks: saves the question and begins its answer, which goes on whoever listens. The same `parent_id` as an earlier
/// question's makes a branch beside it.
#[utoipa::path(post, path = "/api/conversations/{id}/messages", operation_id = "ask", tag = "chat", params(("id" = String, Path)),
    request_body = QuestionBody, responses(
    (status = 201, description = "The question, and the answer that is being written.", body = Exchange),
    (status = 400, description = "A field is wrong, or the conversation does not fit into the model's context.", body = ErrorBody),
    (status = 404, description = "There is no such conversation or model.", body = ErrorBody),
    (status = 429, description = "The model's queue is full, or too many answers are waited for.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn ask(
    State(store): State<Store>,
    State(answers): State<Arc<RunningAnswers>>,
    State(streams): State<StreamLimit>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<Exchange>), ApiError> {
    let id: ConversationId = id.parse()?;
    let fields = check(fields::QUESTION, &body)?;
    let content = fields::full_text(&fields, "content")?.to_owned();
    let parent: Option<MessageId> = fields.text("parent_id").map(str::parse).transpose()?;
    let exchange = detached(async move {
        let conversation = store.conversation(&caller.owner, &id).await?;
        let branch = branch(&store, &caller, &conversation, parent.as_ref()).await?;
        let request = request_for(&conversation, &branch, Some(&content))?;
        let (generation, provenance) =
            submit(&answers, &streams, &menu, &conversation.model, request, &caller).await?;
        let question = Question {
            conversation_id: id,
            parent_id: parent,
            title_if_untitled: title_of(&content),
            content,
            model: conversation.model,
        };
        let add = store.ask(&caller.owner, question);
        let asked = answers.begin(&caller.owner, generation, provenance, add, |(_, answer)| answer).await?;
        Ok(Exchange { user: asked.0.into(), answer: asked.1.into() })
    });
    Ok((StatusCode::CREATED, Json(exchange.await?)))
}

/// Answers again: another answer beside this one, which stays. Another model can be asked this once.
#[utoipa::path(post, path = "/api/messages/{id}/regenerate", operation_id = "regenerate_answer", tag = "chat", params(("id" = String, Path)),
    request_body = Option<RegenerationBody>, responses(
    (status = 201, description = "The answer that is being written.", body = Regenerated),
    (status = 400, description = "A field is wrong, the message is no answer, or the conversation does not fit into the model's context.", body = ErrorBody),
    (status = 404, description = "There is no such message or model.", body = ErrorBody),
    (status = 429, description = "The model's queue is full, or too many answers are waited for.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn regenerate(
    State(store): State<Store>,
    State(answers): State<Arc<RunningAnswers>>,
    State(streams): State<StreamLimit>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    OptionalJson(body): OptionalJson,
) -> Result<(StatusCode, Json<Regenerated>), ApiError> {
    let id: MessageId = id.parse()?;
    let body = if body.is_null() { json!({}) } else { body };
    let model = read_model(&check(fields::REGENERATION, &body)?)?;
    let regenerated = detached(async move {
        let answer = store.message(&caller.owner, &id).await?;
        let Some(question) = answer.parent_id.filter(|_| answer.role == Role::Assistant) else {
            return Err(ApiError::bad_request(
                "only an answer can be regenerated; this message is a question",
            ));
        };
        store.expect_another_answer(&caller.owner, &question).await?;
        let conversation = store.conversation(&caller.owner, &answer.conversation_id).await?;
        let branch = store.branch(&caller.owner, &question).await?;
        let request = request_for(&conversation, &branch, None)?;
        let model = model.unwrap_or(conversation.model);
        let (generation, provenance) = submit(&answers, &streams, &menu, &model, request, &caller).await?;
        let add = store.answer_again(&caller.owner, &question, model);
        let answer = answers.begin(&caller.owner, generation, provenance, add, |answer| answer).await?;
        Ok(Regenerated { answer: answer.into() })
    });
    Ok((StatusCode::CREATED, Json(regenerated.await?)))
}

/// Stops an answer. One that has ended stays as it is.
#[utoipa::path(post, path = "/api/messages/{id}/stop", operation_id = "stop_answer", tag = "chat", params(("id" = String, Path)), responses(
    (status = 200, description = "The answer as it ended.", body = MessageJson),
    (status = 404, description = "There is no such message.", body = ErrorBody)))]
pub(crate) async fn stop(
    State(store): State<Store>,
    State(answers): State<Arc<RunningAnswers>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<MessageJson>, ApiError> {
    let stopped = answers.stop(&caller.owner, &id.parse()?).await?;
    let feedback = store.feedback(&caller.owner, &stopped.id).await?;
    Ok(Json(MessageJson::judged(stopped, feedback)))
}

/// How much of the model's context a question would take, with the conversation before it.
#[utoipa::path(post, path = "/api/context", operation_id = "measure_context", tag = "chat", request_body = ContextBody, responses(
    (status = 200, description = "Tokens taken, and tokens that there are.", body = ContextUse),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such conversation or model.", body = ErrorBody),
    (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
    (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(crate) async fn context(
    State(store): State<Store>,
    State(streams): State<StreamLimit>,
    State(menu): State<Arc<ModelMenu>>,
    caller: Caller,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<ContextUse>, ApiError> {
    let fields = check(fields::CONTEXT, &body)?;
    let id: Option<ConversationId> = fields.text("conversation_id").map(str::parse).transpose()?;
    let question = fields.text("content").filter(|content| !content.is_empty());
    let (model, system_prompt, settings, said) = match id {
        Some(id) => {
            let conversation = store.conversation(&caller.owner, &id).await?;
            let said = counted(&store, &caller, &conversation, &fields).await?;
            (conversation.model, conversation.system_prompt, conversation.settings, said)
        }
        None => {
            expect_no_branch(&fields)?;
            let new = read_new(&fields, &menu)?;
            (new.model, new.system_prompt, new.settings, Vec::new())
        }
    };
    let model = read_model(&fields)?.unwrap_or(model);
    let system_prompt = fields.text("system_prompt").map_or(system_prompt, str::to_owned);
    let permit = streams.permit(&caller.owner)?;
    let assistant = menu.assistant(&model, &caller).await?;
    let context_length = assistant.info().context_length;
    if said.is_empty() && question.is_none() && system_prompt.trim().is_empty() {
        return Ok(Json(ContextUse { prompt_tokens: 0, context_length }));
    }
    let request = chat_request(&system_prompt, &settings, &said, question)?;
    let size = size_of(&request);
    let count = move || assistant.count_prompt(&request).map_err(fault);
    let prompt_tokens = permit.compute(size, count).await?;
    Ok(Json(ContextUse { prompt_tokens, context_length }))
}

/// Refuses fields that name messages where no conversation is named that they could be in.
fn expect_no_branch(fields: &CheckedFields<'_>) -> Result<(), ApiError> {
    match ["parent_id", "from_id"].into_iter().find(|name| fields.get(name).is_some()) {
        Some(name) => {
            let message =
                format!("`{name}` names a message of a conversation: send its `conversation_id` too");
            Err(ApiError::invalid(name, message))
        }
        None => Ok(()),
    }
}

/// The messages of the branch that are to be counted.
async fn counted(
    store: &Store,
    caller: &Caller,
    conversation: &Conversation,
    fields: &CheckedFields<'_>,
) -> Result<Vec<Message>, ApiError> {
    let parent: Option<MessageId> = fields.text("parent_id").map(str::parse).transpose()?;
    let from: Option<MessageId> = fields.text("from_id").map(str::parse).transpose()?;
    let branch = branch(store, caller, conversation, parent.as_ref()).await?;
    match from {
        Some(from) => Ok(turns(&branch, &from)?.to_vec()),
        None => Ok(branch),
    }
}

/// The messages up to and with `parent`, which must be an answer of the conversation.
async fn branch(
    store: &Store,
    caller: &Caller,
    conversation: &Conversation,
    parent: Option<&MessageId>,
) -> Result<Vec<Message>, ApiError> {
    let Some(parent) = parent else { return Ok(Vec::new()) };
    let branch = store.branch(&caller.owner, parent).await?;
    match branch.last() {
        Some(last) if last.conversation_id == conversation.id && last.role == Role::Assistant => Ok(branch),
        _ => Err(ApiError::invalid("parent_id", "`parent_id` must be an answer of this conversation")),
    }
}

fn request_for(
    conversation: &Conversation,
    branch: &[Message],
    question: Option<&str>,
) -> Result<ChatRequest, ApiError> {
    chat_request(&conversation.system_prompt, &conversation.settings, branch, question)
}

/// Loads the model if need be and gives it the request. Until then the question counts as one of those answers that `streams` limits:
/// what waits for a model is in no queue of the model's yet.
pub(super) async fn submit(
    answers: &RunningAnswers,
    streams: &StreamLimit,
    menu: &ModelMenu,
    model: &str,
    mut request: ChatRequest,
    caller: &Caller,
) -> Result<(TextGeneration, Provenance), ApiError> {
    if answers.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let permit = streams.permit(&caller.owner)?;
    let assistant = menu.assistant(model, caller).await?;
    let mut provenance = Provenance {
        model: model.to_owned(),
        fingerprint: assistant.info().fingerprint.clone(),
        system_prompt: system_prompt(&request),
        template: assistant.template_source().map(hash),
        settings: effective_settings(&request, &assistant),
        context_length: assistant.info().context_length,
        asked: std::time::Instant::now(),
    };
    request.options.cache_salt = caller.cache_salt();
    // A chat's longest answer is a most.
    request.options.ends_with_context = true;
    let size = size_of(&request);
    let asked = request.options.max_tokens;
    let generation = permit.compute(size, move || assistant.chat(&request).map_err(fault)).await?;
    // Only now it is known how long the prompt is.
    let room = provenance.context_length.saturating_sub(generation.prompt().len());
    provenance.settings["max_tokens"] = json!(asked.map_or(room, |asked| asked.min(room)));
    Ok((generation, provenance))
}

/// Bytes of what is said in the conversation.
fn size_of(request: &ChatRequest) -> usize {
    let size = |message: &zhenjin_assistant::Message| {
        message.content.len() + message.thought.as_ref().map_or(0, String::len)
    };
    request.messages.iter().map(size).sum()
}

/// What the model reads before the conversation.
fn system_prompt(request: &ChatRequest) -> String {
    let first = request.messages.first().filter(|first| first.role == zhenjin_assistant::Role::System);
    first.map_or_else(String::new, |first| first.content.clone())
}

/// SHA-256 in hexadecimal.
fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings in force: the conversation's, and the model's defaults for those that it leaves open. The most tokens are not among them:
/// they depend on how long the prompt is.
fn effective_settings(request: &ChatRequest, assistant: &Assistant) -> Value {
    let sampling = request.options.sampling.resolve(assistant.default_sampling());
    json!({
        "temperature": json::number(sampling.temperature),
        "top_p": json::number(sampling.top_p),
        "top_k": sampling.top_k,
        "min_p": json::number(sampling.min_p),
        "repetition_penalty": json::number(sampling.repetition_penalty),
        "presence_penalty": json::number(sampling.presence_penalty),
        "frequency_penalty": json::number(sampling.frequency_penalty),
    })
}
