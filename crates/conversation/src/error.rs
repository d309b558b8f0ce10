//! Why a conversation has no prompt.

/// A part of a conversation that its template cannot write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// A part of it is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field, by its name in OpenAI's API.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The template itself is broken.
    #[error("{0}")]
    Template(String),
}

impl ConversationError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> ConversationError {
        ConversationError::Invalid { field, reason: reason.into() }
    }
}
