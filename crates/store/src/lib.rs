//! Conversations, messages, full-text search, feedback of answers, consent and API keys, kept in one SQLite file.
//!
//! Promises: a call about conversations reaches those of the owner that it names and no others; what a call acknowledged is there after `kill -9`; a conversation is a tree in which nothing is overwritten;
//! a file that is damaged, foreign or newer is refused by name and left as it was.
//!
//! No HTTP, models, templates or meaning of tokens here. The caller chooses where the file lies and what titles are; settings
//! are JSON that the store only keeps. It starts no tasks and reads neither environment nor terminal.

mod answers;
mod beginnings;
mod choices;
mod consent;
mod conversations;
mod database;
mod error;
mod feedback;
mod feedback_export;
mod feedback_rows;
mod feedback_statistics;
mod fold;
mod generations;
mod id;
mod keys;
mod lock;
mod messages;
mod migrations;
mod older_texts;
mod owner;
mod random;
mod search;
mod secret;
mod sessions;
mod snippet;
mod timestamp;
mod training;
mod trash;

pub use answers::AnswerEnd;
pub use beginnings::turns;
pub use choices::Choice;
pub use consent::Consent;
pub use conversations::{Conversation, ConversationChange, NewConversation};
pub use database::Store;
pub use error::StoreError;
pub use feedback::{ErasedFeedback, Feedback, NewFeedback, Rating, reasons};
pub use feedback_export::{ExportedFeedback, FeedbackExport, JudgedAnswer};
pub use feedback_rows::{FeedbackKind, FeedbackRow};
pub use feedback_statistics::{FeedbackCounts, FeedbackStatistics};
pub use generations::GenerationRecord;
pub use id::{ApiKeyId, ConversationId, FeedbackId, MessageId};
pub use keys::{ApiKey, KeyRole, NewApiKey};
pub use messages::{Message, Question, Role, Status};
pub use owner::Owner;
pub use random::random_bytes;
pub use search::SearchHit;
pub use secret::{ApiKeySecret, SessionSecret};
pub use snippet::Snippet;
pub use timestamp::Timestamp;
pub use training::{Judgement, TrainingFeedback};
pub use trash::{DeletedConversation, KEEP_DELETED};
