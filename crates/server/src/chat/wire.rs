//! The JSON that `/api` answers with.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_store::{
    Conversation, DeletedConversation, Feedback, KEEP_DELETED, Message, Role, SearchHit, Status,
};

use super::feedback::{ChoiceJson, FeedbackJson};
use super::fields::{AllSettings, all_settings};

/// A conversation without its messages.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub(crate) struct ConversationJson {
    /// Its id.
    id: String,
    /// Null until the first question or a rename gives it one.
    #[schema(required)]
    title: Option<String>,
    /// The model that answers.
    model: String,
    /// Text before the conversation; null for none.
    #[schema(required)]
    system_prompt: Option<String>,
    /// Sampling settings; null is the model's default.
    #[schema(value_type = AllSettings)]
    settings: Value,
    /// The last message of the branch that was last shown.
    #[schema(required)]
    current_leaf: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_at: i64,
    /// When a message was last added or finished.
    updated_at: i64,
}

impl From<Conversation> for ConversationJson {
    fn from(conversation: Conversation) -> Self {
        let unless_empty = |text: String| (!text.is_empty()).then_some(text);
        ConversationJson {
            id: conversation.id.to_string(),
            title: unless_empty(conversation.title),
            model: conversation.model,
            system_prompt: unless_empty(conversation.system_prompt),
            settings: all_settings(&conversation.settings),
            current_leaf: conversation.current_leaf.map(|leaf| leaf.to_string()),
            created_at: conversation.created_at.milliseconds(),
            updated_at: conversation.updated_at.milliseconds(),
        }
    }
}

/// A conversation in the trash.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = DeletedConversation)]
pub(crate) struct DeletedConversationJson {
    #[serde(flatten)]
    conversation: ConversationJson,
    /// Milliseconds since 1970 (UTC).
    deleted_at: i64,
    /// When it will be erased.
    erased_at: i64,
}

impl From<DeletedConversation> for DeletedConversationJson {
    fn from(deleted: DeletedConversation) -> Self {
        let deleted_at = deleted.deleted_at.milliseconds();
        let kept = i64::try_from(KEEP_DELETED.as_millis()).unwrap_or(i64::MAX);
        DeletedConversationJson {
            conversation: deleted.conversation.into(),
            deleted_at,
            erased_at: deleted_at.saturating_add(kept),
        }
    }
}

/// A conversation with all its branches.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ConversationWithMessages)]
pub(crate) struct ConversationWithMessagesJson {
    #[serde(flatten)]
    pub(crate) conversation: ConversationJson,
    /// The whole tree, oldest first.
    pub(crate) messages: Vec<MessageJson>,
    /// Which answers were chosen over others, in the order of the chosen ones.
    pub(crate) choices: Vec<ChoiceJson>,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageRole {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl From<Role> for MessageRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => MessageRole::User,
            Role::Assistant => MessageRole::Assistant,
        }
    }
}

/// What became of a message: `stopped` by the person, `interrupted` by the server's end. Questions are always `complete`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MessageStatus {
    /// Text may still come.
    Generating,
    /// It ended by itself.
    Complete,
    /// The person stopped it.
    Stopped,
    /// The server ended before it did.
    Interrupted,
    /// An error ended it.
    Failed,
}

impl From<Status> for MessageStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Generating => MessageStatus::Generating,
            Status::Complete => MessageStatus::Complete,
            Status::Stopped => MessageStatus::Stopped,
            Status::Interrupted => MessageStatus::Interrupted,
            Status::Failed => MessageStatus::Failed,
        }
    }
}

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageJson {
    /// Its id.
    id: String,
    /// Where it belongs.
    conversation_id: String,
    /// What it follows; null for a first question.
    #[schema(required)]
    parent_id: Option<String>,
    /// Who wrote it.
    role: MessageRole,
    /// Its text; of an answer that is being written, the text so far.
    content: String,
    /// What became of it.
    status: MessageStatus,
    /// Why it failed.
    #[schema(required)]
    error: Option<String>,
    /// The model that wrote it; null for questions.
    #[schema(required)]
    model: Option<String>,
    /// Milliseconds since 1970 (UTC).
    created_at: i64,
    /// `stop` or `length`, when the model came to an end.
    #[schema(required)]
    finish_reason: Option<String>,
    /// Tokens of the prompt.
    #[schema(required)]
    prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    #[schema(required)]
    completion_tokens: Option<u32>,
    /// Prompt tokens that had not to be computed.
    #[schema(required)]
    cached_tokens: Option<u32>,
    /// From the request to its first token.
    #[schema(required)]
    time_to_first_token_ms: Option<f64>,
    /// After the first token.
    #[schema(required)]
    tokens_per_second: Option<f64>,
    /// The most tokens that prompt and answer could have had together.
    #[schema(required)]
    context_length: Option<u32>,
    /// What the caller said of it; null for nothing, and for questions.
    #[schema(required)]
    feedback: Option<FeedbackJson>,
}

impl MessageJson {
    /// Its text.
    pub(crate) fn content(&self) -> &str {
        &self.content
    }

    /// The message, with what was said of it.
    pub(crate) fn judged(message: Message, feedback: Option<Feedback>) -> MessageJson {
        MessageJson { feedback: feedback.map(FeedbackJson::from), ..message.into() }
    }
}

/// A message of which nothing was said.
impl From<Message> for MessageJson {
    fn from(message: Message) -> Self {
        MessageJson {
            id: message.id.to_string(),
            conversation_id: message.conversation_id.to_string(),
            parent_id: message.parent_id.map(|parent| parent.to_string()),
            role: message.role.into(),
            content: message.content,
            status: message.status.into(),
            error: message.error,
            model: message.model,
            created_at: message.created_at.milliseconds(),
            finish_reason: message.finish_reason,
            prompt_tokens: message.prompt_tokens,
            completion_tokens: message.completion_tokens,
            cached_tokens: message.cached_tokens,
            time_to_first_token_ms: message.time_to_first_token_ms,
            tokens_per_second: message.tokens_per_second,
            context_length: message.context_length,
            feedback: None,
        }
    }
}

/// A question and the place of its answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Exchange {
    /// The question.
    pub(crate) user: MessageJson,
    /// The answer, which is being written.
    pub(crate) answer: MessageJson,
}

/// A new conversation with its first question and the place of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct FirstExchange {
    /// The conversation.
    pub(crate) conversation: ConversationJson,
    /// The question.
    pub(crate) user: MessageJson,
    /// The answer, which is being written.
    pub(crate) answer: MessageJson,
}

/// Another answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Regenerated {
    /// The answer, which is being written.
    pub(crate) answer: MessageJson,
}

/// More of an answer's text.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Delta {
    /// Unicode code points of the answer before `text`.
    pub(crate) offset: usize,
    /// The text that follows them.
    pub(crate) text: String,
}

/// One event of an answer's stream.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub(crate) enum AnswerEvent {
    /// More of the text.
    Delta(Delta),
    /// The whole message, after which nothing follows.
    Done(Box<MessageJson>),
}

/// How full the model's context is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ContextUse {
    /// Tokens that the conversation takes as a prompt.
    pub(crate) prompt_tokens: usize,
    /// The most tokens that prompt and answer may have together.
    pub(crate) context_length: usize,
}

/// A place that a search found.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SearchHit)]
pub(crate) struct SearchHitJson {
    /// The conversation.
    conversation_id: String,
    /// The message; for a title, the end of the branch that was last shown, null if there are no messages.
    #[schema(required)]
    message_id: Option<String>,
    /// The conversation's title.
    #[schema(required)]
    title: Option<String>,
    /// The place, with some text around it.
    snippet: String,
    /// Where the query's terms stand in `snippet`: [start, end) in Unicode code points.
    ranges: Vec<(usize, usize)>,
    /// When the message was begun; milliseconds since 1970 (UTC).
    created_at: i64,
}

impl From<SearchHit> for SearchHitJson {
    fn from(hit: SearchHit) -> Self {
        SearchHitJson {
            conversation_id: hit.conversation_id.to_string(),
            message_id: hit.message_id.map(|id| id.to_string()),
            title: (!hit.title.is_empty()).then_some(hit.title),
            snippet: hit.snippet.text,
            ranges: hit.snippet.matches.into_iter().map(|range| (range.start, range.end)).collect(),
            created_at: hit.created_at.milliseconds(),
        }
    }
}
