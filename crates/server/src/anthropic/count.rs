//! `POST /v1/messages/count_tokens`.

use axum::Json;
use axum::extract::Request;

use super::request::{Asked, read_conversation};
use super::wire::{AnthropicError, AnthropicTokenCount};
use super::{fields, refusal};
use crate::answering::Answering;
use crate::body::json_read;
use crate::errors::ApiError;

/// Says how many tokens a conversation takes, template and tools included.
#[utoipa::path(post, path = "/v1/messages/count_tokens", operation_id = "countMessageTokens", tag = "anthropic",
    request_body(content = ref("#/components/schemas/CountTokensRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "How many.", body = AnthropicTokenCount),
        (status = 400, description = "The request is wrong; the message names the field.", body = AnthropicError),
        (status = 404, description = "No model of this name is served.", body = AnthropicError),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = AnthropicError),
        (status = 503, description = "The model cannot be had now.", body = AnthropicError)))]
pub(super) async fn count(
    answering: Answering,
    request: Request,
) -> Result<Json<AnthropicTokenCount>, ApiError> {
    let Asked { model, request, .. } =
        json_read(request, |body| read_conversation(fields::COUNT, body)).await?;
    let input_tokens = answering.open(&model).await?.count_prompt(request, refusal).await?;
    Ok(Json(AnthropicTokenCount { input_tokens }))
}
