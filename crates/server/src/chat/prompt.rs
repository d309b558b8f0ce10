//! From a conversation to what a model is asked. Nothing is cut: what does not fit is an error of the assistant's.

use zhenjin_assistant::{ChatRequest, Message, Role, Transcript};
use zhenjin_store::{self as store, Conversation};

use super::fields::generation_options;
use crate::errors::ApiError;

/// The request for an answer to `branch`, oldest message first, followed by `question` if there is one.
pub(crate) fn chat_request(
    conversation: &Conversation,
    branch: &[store::Message],
    question: Option<&str>,
) -> Result<ChatRequest, ApiError> {
    let system = (!conversation.system_prompt.trim().is_empty())
        .then(|| Message::new(Role::System, conversation.system_prompt.as_str()));
    let said = branch.iter().map(said);
    let asked = question.map(|question| Message::new(Role::User, question));
    let messages = system.into_iter().chain(said).chain(asked).collect();
    let mut options = generation_options(&conversation.settings)?;
    // Kept with the answer, so that it can be learnt from.
    options.logprobs = Some(0);
    Ok(ChatRequest { options, ..ChatRequest::new(messages) })
}

/// A kept message. An answer's thought goes its own way, for templates do different things with it.
fn said(message: &store::Message) -> Message {
    match message.role {
        store::Role::User => Message::new(Role::User, message.content.as_str()),
        store::Role::Assistant => {
            let (thought, answer) = Transcript::split(&message.content);
            Message { thought, ..Message::new(Role::Assistant, answer) }
        }
    }
}
