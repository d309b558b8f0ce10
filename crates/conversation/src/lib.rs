//! Conversations as a model's chat template takes them: messages, tools and thoughts, and the prompt that they make.
//!
//! Serving and training both come here, so that what a model learns is what it will be asked.
//!
//! * [`Message`], [`Tool`]: what a conversation is made of.
//! * [`ConversationStyle`]: how a model is told of tools, and how it thinks, found out from its template.
//! * [`ConversationStyle::written`]: a conversation in the template's terms; [`ConversationStyle::prompt`]: its tokens.
//!
//! This crate does not know models' weights, the engine, HTTP or files.

mod error;
mod markers;
mod message;
mod prompt;
mod thinking;
mod tool_format;
mod tools_as_text;

pub use error::ConversationError;
pub use markers::{AnswerMarkers, ThoughtMarkers};
pub use message::{Message, Role, ThinkingWish, Tool, ToolCall};
pub use prompt::{ConversationStyle, Prompt, PromptOptions, ToolStyle, WrittenConversation, takes_tools};
pub use thinking::{REQUEST_VARIABLES, ThinkingStyle, ThinkingSupport, thinks};
pub use tool_format::{CallBeginning, CallTexts, ToolFormat};
