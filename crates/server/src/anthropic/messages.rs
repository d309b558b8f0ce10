//! `POST /v1/messages`.

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};

use super::refusal;
use super::request::{Asked, read};
use super::wire::{AnthropicError, AnthropicEvent, AnthropicMessage};
use super::writer::Writer;
use crate::answering::{Answering, Heading, send_events};
use crate::body::json_read;
use crate::errors::ApiError;

/// Answers a conversation.
#[utoipa::path(post, path = "/v1/messages", operation_id = "createMessage", tag = "anthropic",
    request_body(content = ref("#/components/schemas/MessagesRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; with `stream`, events of `AnthropicEvent` under their types' names.",
            content((AnthropicMessage = "application/json"), (AnthropicEvent = "text/event-stream"))),
        (status = 400, description = "The request is wrong; the message names the field.", body = AnthropicError),
        (status = 404, description = "No model of this name is served.", body = AnthropicError),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = AnthropicError),
        (status = 503, description = "The model cannot be had now.", body = AnthropicError)))]
pub(super) async fn create(answering: Answering, request: Request) -> Result<Response, ApiError> {
    let Asked { model, request, stream } = json_read(request, read).await?;
    let ready = answering.open(&model).await?;
    let heading = Heading::new("msg", ready.assistant());
    let (generations, reaches_context) = ready.chat_within_context(request, refusal).await?;
    let writer = Writer::new(heading, reaches_context);
    if stream {
        return Ok(send_events(generations, writer));
    }
    let answer = generations.gather(1).await?.pop().unwrap_or_default();
    Ok(Json(writer.whole(answer)).into_response())
}
