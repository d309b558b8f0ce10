//! From a conversation to what a model is asked. Nothing is cut: what does not fit is an error of the assistant's.

use zhenjin_assistant::{ChatRequest, Message, Role, Transcript};
use zhenjin_store as store;

use super::fields::generation_options;
use crate::errors::ApiError;

/// The request for an answer to `branch`, oldest message first, followed by `question` if there is one.
pub(crate) fn chat_request(
    system_prompt: &str,
    settings: &serde_json::Value,
    branch: &[store::Message],
    question: Option<&str>,
) -> Result<ChatRequest, ApiError> {
    let system = (!system_prompt.trim().is_empty()).then(|| Message::new(Role::System, system_prompt));
    let said = branch.iter().map(said);
    let asked = question.map(|question| Message::new(Role::User, question));
    let messages = system.into_iter().chain(said).chain(asked).collect();
    let mut options = generation_options(settings)?;
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
