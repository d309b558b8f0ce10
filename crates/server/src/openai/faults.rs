//! The assistant's errors as HTTP answers.

use std::time::Duration;

use axum::http::StatusCode;
use zhenjin_assistant::{AssistantError, Failure, OutputFormat};

use crate::errors::ApiError;

/// `Retry-After` when other models' answers hold the memory.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

/// Why the assistant refused a request, with the request's own field names: `prompt` is the field of its prompt. The assistant
/// has one field for all formats, and requests have three.
pub(crate) fn refusal(error: AssistantError, prompt: &str, format: &OutputFormat) -> ApiError {
    match (error, format) {
        (AssistantError::Invalid { field: "response_format", reason }, OutputFormat::Regex(_)) => {
            fault(AssistantError::Invalid { field: "regex", reason })
        }
        (AssistantError::Invalid { field: "response_format", reason }, OutputFormat::Lark(_)) => {
            fault(AssistantError::Invalid { field: "grammar", reason })
        }
        // Whichever is the larger part of what does not fit.
        (error @ AssistantError::ContextExceeded { prompt: tokens, max_tokens, .. }, _)
            if tokens >= max_tokens =>
        {
            fault(error).with_param(prompt)
        }
        (error, _) => fault(error),
    }
}

/// Why the assistant refused a request.
pub(crate) fn fault(error: AssistantError) -> ApiError {
    let message = error.to_string();
    match error {
        AssistantError::QueueFull { retry_after, .. } => ApiError::too_many_requests(message, retry_after),
        AssistantError::ContextExceeded { .. } => {
            ApiError::bad_request(message).with_param("max_tokens").with_code("context_length_exceeded")
        }
        AssistantError::TooManyMessages { .. } => {
            ApiError::bad_request(message).with_param("messages").with_code("context_length_exceeded")
        }
        AssistantError::Invalid { field, reason } => ApiError::invalid(field, format!("`{field}`: {reason}")),
        AssistantError::UnknownModel { .. } => {
            ApiError::not_found(message).with_param("model").with_code("model_not_found")
        }
        AssistantError::NameTaken { .. } => ApiError::conflict(message),
        AssistantError::OutOfMemory { .. } => ApiError::unavailable(message).with_code("model_too_large"),
        AssistantError::MemoryInUse { .. } => {
            ApiError::unavailable(message).with_code("memory_in_use").with_retry_after(MEMORY_WAIT)
        }
        AssistantError::Load { .. } => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
                .with_code("model_not_loadable")
        }
        AssistantError::ShuttingDown => ApiError::shutting_down(),
        AssistantError::Internal(_) => ApiError::internal(message),
    }
}

/// Why an answer ended before it was complete.
pub(crate) fn failure(failure: Failure) -> ApiError {
    match failure {
        Failure::ShutDown => ApiError::shutting_down(),
        Failure::Broken(reason) => ApiError::internal(format!("the answer could not be completed: {reason}")),
        Failure::NotValid(reason) => {
            let message = format!("{reason}; ask again, or simplify the schema there");
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", message)
                .with_code("json_validate_failed")
        }
    }
}
