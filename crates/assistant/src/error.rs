//! Why the assistant cannot answer. Knows no HTTP status; each variant says enough to choose one.

use std::path::PathBuf;
use std::time::Duration;

use zhenjin_conversation::ConversationError;
use zhenjin_engine::SubmitError;

use crate::byte_count::ByteCount;

/// Why a request was not accepted, or a model not loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AssistantError {
    /// Too many requests wait already.
    #[error("{0}", SubmitError::QueueFull { waiting: *.waiting, limit: *.limit, retry_after: *.retry_after })]
    QueueFull {
        /// Requests running or waiting.
        waiting: usize,
        /// The most that are taken.
        limit: usize,
        /// When a place should be free.
        retry_after: Duration,
    },
    /// Prompt and answer do not fit into the model's context. Nothing is ever cut.
    #[error("{0}", SubmitError::ContextExceeded { prompt: *.prompt, max_tokens: *.max_tokens, context: *.context })]
    ContextExceeded {
        /// Tokens in the prompt.
        prompt: usize,
        /// Tokens asked for (1 if the request left that open).
        max_tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A conversation of more messages than the context has tokens.
    #[error("{messages} messages do not fit the context of {context} tokens, as each takes one at least")]
    TooManyMessages {
        /// Messages of the conversation.
        messages: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A part of the request is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, by its name in the API.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// No model of this name is served.
    #[error("the model `{name}` is not served here; served: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names served.
        known: Vec<String>,
    },
    /// A model of this name is served already, from another file.
    #[error("a model named `{name}` is served already, from {}", path.display())]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other one is.
        path: PathBuf,
    },
    /// The model cannot be loaded within the memory limit, whatever else is unloaded.
    #[error(
        "the model `{name}` needs {} at least (weights, workspace, keys and values of one context), but the limit is \
         {}; allow models more memory, or serve this one with a shorter context", ByteCount(*.needed_bytes), ByteCount(*.limit_bytes)
    )]
    OutOfMemory {
        /// The model.
        name: String,
        /// What it needs at least.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The memory is taken by models that are in use.
    #[error(
        "the model `{name}` waits for memory that is in use by {}; try again when their answers are complete",
        users(in_use)
    )]
    MemoryInUse {
        /// The model.
        name: String,
        /// The models in use.
        in_use: Vec<String>,
    },
    /// The model's files cannot be opened or loaded.
    #[error("the model `{name}` cannot be loaded: {reason}")]
    Load {
        /// The model.
        name: String,
        /// What went wrong, with file and tensor where known.
        reason: String,
    },
    /// The model is being unloaded, or the program is ending.
    #[error("the model is shutting down")]
    ShuttingDown,
    /// Something broke that the request did not cause.
    #[error("{0}")]
    Internal(String),
}

impl AssistantError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> AssistantError {
        AssistantError::Invalid { field, reason: reason.into() }
    }
}

impl From<ConversationError> for AssistantError {
    fn from(error: ConversationError) -> Self {
        match error {
            ConversationError::Invalid { field, reason } => AssistantError::Invalid { field, reason },
            ConversationError::Template(reason) => AssistantError::Internal(reason),
        }
    }
}

impl From<SubmitError> for AssistantError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { waiting, limit, retry_after } => {
                AssistantError::QueueFull { waiting, limit, retry_after }
            }
            SubmitError::ContextExceeded { prompt, max_tokens, context } => {
                AssistantError::ContextExceeded { prompt, max_tokens, context }
            }
            // For the user both are the same limit: what this server can hold for one conversation.
            SubmitError::MemoryExceeded { prompt, max_tokens, capacity } => {
                AssistantError::ContextExceeded { prompt, max_tokens, context: capacity }
            }
            SubmitError::Invalid { field, reason } => AssistantError::Invalid { field, reason },
            SubmitError::ShuttingDown => AssistantError::ShuttingDown,
        }
    }
}

/// The models that use memory, for a message.
fn users(in_use: &[String]) -> String {
    match in_use {
        [] => "others".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: what a model needs was told in bytes.
    #[test]
    fn memory_is_told_in_units_that_people_read() {
        let error = AssistantError::OutOfMemory {
            name: "tiny".to_owned(),
            needed_bytes: 170_000_000,
            limit_bytes: 150 << 20,
        };
        let message = error.to_string();
        assert!(message.starts_with("the model `tiny` needs 162.1 MiB at least"), "{message}");
        assert!(message.contains("the limit is 150.0 MiB;"), "{message}");
    }
}
