//! `POST /api/generate`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use zhenjin_assistant::ServedModels;

use super::ErrorLine;
use super::load::answer;
use super::request::read_generate;
use super::wire::OllamaGenerateAnswer;
use super::writer::Shape;
use crate::answering::Answering;
use crate::chat::ModelMenu;
use crate::errors::ApiError;

/// Answers one question, or with `raw` continues a text.
#[utoipa::path(post, path = "/api/generate", operation_id = "ollama_generate", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaGenerateRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; unless `stream` is false, one object a line.",
            content((OllamaGenerateAnswer = "application/json"), (OllamaGenerateAnswer = "application/x-ndjson"))),
        (status = 400, description = "The request is wrong; the message names the field.", body = ErrorLine),
        (status = 403, description = "`keep_alive` is 0, and the key is a user's.", body = ErrorLine),
        (status = 404, description = "There is no model of this name.", body = ErrorLine),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorLine),
        (status = 503, description = "The model cannot be had now.", body = ErrorLine)))]
pub(super) async fn generate(
    answering: Answering,
    State(menu): State<Arc<ModelMenu>>,
    State(models): State<Arc<ServedModels>>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Instant::now();
    let read = super::body::read(request, read_generate).await?;
    answer(answering, menu, models, read, Shape::Generate, asked).await
}
