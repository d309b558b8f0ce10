//! `POST /api/chat`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use zhenjin_assistant::ServedModels;

use super::ErrorLine;
use super::load::answer;
use super::request::read_chat;
use super::wire::OllamaChatAnswer;
use super::writer::Shape;
use crate::answering::Answering;
use crate::chat::ModelMenu;
use crate::errors::ApiError;

/// Answers a conversation.
#[utoipa::path(post, path = "/api/chat", operation_id = "ollama_chat", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaChatRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; unless `stream` is false, one object a line.",
            content((OllamaChatAnswer = "application/json"), (OllamaChatAnswer = "application/x-ndjson"))),
        (status = 400, description = "The request is wrong; the message names the field.", body = ErrorLine),
        (status = 403, description = "`keep_alive` is 0, and the key is a user's.", body = ErrorLine),
        (status = 404, description = "There is no model of this name.", body = ErrorLine),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorLine),
        (status = 503, description = "The model cannot be had now.", body = ErrorLine)))]
pub(super) async fn chat(
    answering: Answering,
    State(menu): State<Arc<ModelMenu>>,
    State(models): State<Arc<ServedModels>>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Instant::now();
    let read = super::body::read(request, read_chat).await?;
    answer(answering, menu, models, read, Shape::Chat, asked).await
}
