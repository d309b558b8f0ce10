//! Runs many requests on one model: continuous batching over a paged cache of keys and values, reuse of
//! common beginnings, sampling and constraints; scores of given tokens and pooled hidden states by the same steps.
//!
//! The answer to a request depends on its tokens, its settings and its seed only: not on what else runs, on
//! how its prompt is cut into chunks, on what the cache holds, on which tokens are guessed ahead, or on how
//! often it is interrupted.
//!
//! This crate knows token ids. It does not know text, tokenizers, templates, grammars, HTTP, or how a step of
//! the model is computed. It never reads the environment or the terminal.

mod draft_model;
mod engine;
mod generation;
mod inbox;
mod kv;
mod options;
mod panics;
mod request;
pub mod sampling;
mod scheduler;
mod speculation;
mod stats;
mod step_model;
mod weights;

pub use engine::{Engine, ReplaceError, StartError};
pub use generation::Generation;
pub use options::EngineOptions;
pub use request::{
    CacheSalt, EndReason, Event, PromptLogprobs, Request, StopCondition, SubmitError, Timings, TokenLogprob,
    TokenReport, Usage,
};
pub use sampling::Sampling;
pub use sampling::mask::{ConstraintError, TokenConstraint, TokenMask};
pub use speculation::{Speculation, UnknownSpeculation};
pub use stats::{EngineObserver, EngineStats, StepReport};
pub use step_model::{StepError, StepModel};
pub use zhenjin_model::{Pooling, PoolingRows};
