//! A language model: its files (GGUF, safetensors), its configuration, its weights, and one forward pass for all families; and encoders
//! ([`encoder`]), which with some language models give vectors of texts ([`embedder`]).
//!
//! This crate does not know text, tokenizers, chat templates, sampling, scheduling or HTTP; it turns token ids into logits,
//! log-probabilities of given tokens and hidden states.
//! It never reads the environment or the terminal.

mod adapter;
mod batch;
pub mod config;
pub mod embedder;
pub mod encoder;
mod errors;
pub mod families;
mod file;
mod fingerprint;
pub mod forward;
pub mod gguf;
mod initialise;
mod json;
mod key_centres;
mod kv_cache;
mod learner;
mod memory;
mod model;
pub mod names;
pub mod perplexity;
mod pooling;
mod random;
mod repeated_head;
pub mod rope;
mod runner;
pub mod safetensors;
mod score_head;
mod selection;
mod tensor_source;
pub mod testing;
mod weights;
pub mod write;

pub use adapter::{
    Adapter, AdapterMerge, AdapterValues, FreshAdapter, LowRank, LowRankValues, MergedRows, ServedAdapter,
    WrittenAdapter,
};
pub use batch::{BatchError, HiddenFor, LogitsFor, OutputRows, Scoring, SequenceChunk, StepOutputs};
pub use config::ModelConfig;
pub use errors::{FormatError, ModelError};
pub use file::{FileFormat, FileTensor, HuggingFaceFiles, ModelFile};
pub use fingerprint::Fingerprint;
pub use forward::{AdapterRows, Transformer};
pub use initialise::{Deviation, InitialisationRule, initialise};
pub use kv_cache::KvCacheDtype;
pub use learner::{
    FinishedLayer, Learned, Learner, LearnerOptions, NonFiniteOrigin, TargetLogits, TokenBatch,
    TokenBatchError,
};
pub use memory::{DraftMemory, MemoryEstimate, MemoryPlan, ServingLimits};
pub use model::Model;
pub use pooling::{Pool, Pooling, PoolingRows};
pub use repeated_head::head_repeats_embedding;
pub use runner::{Runner, RunnerOptions};
pub use score_head::{SCORE_TENSOR, ScoreHead, ScorePlace};
pub use tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};
pub use weights::{
    ExpandingLoader, Experts, FeedForward, LayerWeights, Linear, LoadOptions, PackingLoader, ParameterTable,
    ReferenceLoader, ReferenceTapeLoader, Weight, WeightLoader, Weights,
};
pub use zhenjin_tensor::{PAGE_TOKENS, PageId, RowScore};
