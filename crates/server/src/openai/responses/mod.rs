//! `POST /v1/responses`: the newer of OpenAI's two ways to ask. Nothing is stored: each request carries its whole conversation.

mod echo;
mod fields;
mod items;
mod recent;
mod request;
mod sealed;
mod tools;
mod wire;
mod writer;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use zhenjin_assistant::{AssistantError, OutputFormat};

use self::request::{Asked, read};
use self::wire::{ResponseEvent, ResponseObject};
use self::writer::Writer;
use super::faults::fault;
use crate::answering::{Answering, Heading, send_events};
use crate::body::json_read;
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;

pub(super) use self::fields::TABLE;
pub(crate) use self::recent::RecentItems;

/// Answers a conversation, given as items.
#[utoipa::path(post, path = "/v1/responses", operation_id = "createResponse", tag = "openai",
    request_body(content = ref("#/components/schemas/ResponsesRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; with `stream`, events of `ResponseEvent` under their types' names, then `[DONE]`.",
            content((ResponseObject = "application/json"), (ResponseEvent = "text/event-stream"))),
        (status = 400, description = "The request is wrong; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served, or a referenced item is not known.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn create(
    answering: Answering,
    caller: Caller,
    State(recent): State<Arc<RecentItems>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (known, owner) = (Arc::clone(&recent), caller.owner.clone());
    let Asked { model, request, echo, stream, remembers } =
        json_read(request, move |body| read(body, &known, &owner)).await?;
    let ready = answering.open(&model).await?;
    let heading = Heading::new("resp", ready.assistant());
    let echo = echo.with_sampling(&request.options.sampling.resolve(ready.assistant().default_sampling()));
    let memory = remembers.then_some((recent, caller.owner));
    let writer = Writer::new(heading, echo, memory);
    let generations = ready.chat(request, 1, refusal).await?;
    if stream {
        return Ok(send_events(generations, writer));
    }
    let answer = generations.gather(1).await?.pop().unwrap_or_default();
    Ok(Json(writer.whole(answer)).into_response())
}

/// Why the assistant refused a request, with this route's names of the fields.
fn refusal(error: AssistantError, _format: &OutputFormat) -> ApiError {
    let renamed = |field| match field {
        "response_format" => "text.format",
        "messages" => "input",
        "max_tokens" => "max_output_tokens",
        "reasoning_effort" => "reasoning.effort",
        other => other,
    };
    match error {
        AssistantError::Invalid { field, reason } => {
            fault(AssistantError::Invalid { field: renamed(field), reason })
        }
        AssistantError::ContextExceeded { prompt, max_tokens, .. } => {
            let param = if prompt >= max_tokens { "input" } else { "max_output_tokens" };
            fault(error).with_param(param)
        }
        AssistantError::TooManyMessages { .. } => fault(error).with_param("input"),
        other => fault(other),
    }
}
