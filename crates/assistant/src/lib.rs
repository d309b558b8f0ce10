//! Text over the engine: conversations and completions in, text, tool calls and log-probabilities out; and
//! the set of models served.
//!
//! * [`Assistant`] is one loaded model: tokenizer, chat template, engine. It renders, tokenises, submits,
//!   detokenises as the tokens come, divides thought from answer, cuts at stop strings, recognises tool calls, and compiles output formats
//!   (JSON schemas, regular expressions, grammars).
//! * [`Embedder`] is one loaded encoder: texts in, vectors out.
//! * [`ServedModels`] loads models at first use and unloads idle ones within a memory limit.
//!
//! This crate does not know HTTP, OpenAI's field names beyond those in its error messages, accounts,
//! conversations' history, kernels, or how a step is scheduled. It never reads the environment or the
//! terminal.

mod answer;
mod assistant;
mod byte_count;
mod constraint;
mod embedder;
mod error;
mod event;
mod generation;
mod lease;
mod request;
mod served;
mod tools;

pub use answer::repetition::{MAX_COUNT, MAX_PATTERN, RepetitionDetection};
pub use answer::thoughts::Transcript;
pub use assistant::{Assistant, AssistantInfo, PreparedAnswers};
pub use byte_count::ByteCount;
pub use constraint::compiler::{CompiledFormat, FormatCompiler};
pub use constraint::matcher::GrammarConstraint;
pub use embedder::{EmbedError, EmbedInput, Embedder, EmbedderError};
pub use error::AssistantError;
pub use event::{Echo, Failure, FinishReason, StopCause, TextEvent, TokenCandidate, TokenInfo};
pub use generation::TextGeneration;
pub use request::{
    ChatRequest, CompletionPrompt, CompletionRequest, GenerationOptions, OutputFormat, SamplingSettings,
    ToolChoice,
};
pub use served::{
    AdapterChanges, AdapterSpec, DraftSpec, ModelSpec, ModelState, ObserverOfModel, PromotedWeights,
    ServeOptions, ServedModelInfo, ServedModels,
};
pub use zhenjin_conversation::{
    Message, REQUEST_VARIABLES, Role, ThinkingSupport, ThinkingWish, Tool, ToolCall, takes_tools, thinks,
};
pub use zhenjin_engine::{CacheSalt, EngineObserver, EngineStats, StepReport, Timings, Usage};
pub use zhenjin_model::embedder::EmbedderTextError;
pub use zhenjin_model::encoder::{EncoderPooling, PoolingMode};
pub use zhenjin_model::{MemoryEstimate, MemoryPlan};
pub use zhenjin_tokenizer::{ControlText, Specials};
