//! Numbers and the operations on them: element types and quantised blocks, packed weight matrices, the
//! matrix product, attention, norms, and the thread team that runs them.
//!
//! Every output element is one fixed sequence of operations that depends on the weights' shapes alone,
//! never on the number of rows computed together, the number of threads or the layout of the KV cache.
//!
//! This crate does not know: model files, architectures, text, tokens, HTTP, the environment or the terminal.

mod attention;
mod compute;
pub mod dequantise;
mod direct;
mod documents;
mod dtype;
mod error;
mod executor;
mod gradients;
#[cfg(test)]
#[path = "../tests/guarded/mod.rs"]
mod guarded;
mod kv;
mod lanes;
pub mod linear;
mod matrix;
mod ops;
mod parameter;
pub mod quantise;
mod recording;
mod reference_encoding;
mod reference_executor;
mod reference_gradients;
mod rotation;
mod rounding;
mod simd;
mod team;
mod zeroed;

pub use attention::AttentionShape;
pub use compute::ComputeOptions;
pub use dequantise::dequantise;
pub use direct::{Activations, DirectExecutor, RowScore, ScoreTarget, WorkspaceLimits};
pub use documents::DocumentRows;
pub use dtype::Dtype;
pub use error::TensorError;
pub use executor::{
    EncoderExecutor, Executor, Expert, ExpertChoice, GateActivation, LowRankAddition, OutputChange,
    Projection,
};
pub use gradients::{GradientBuffer, Gradients, NORM_ELEMENTS, ParameterShape, ParameterSource};
pub use kv::{KvCache, KvDtype, KvShape, PAGE_TOKENS, PageId, SequenceRows};
pub use linear::{Product, QuantisedRows, linear};
pub use matrix::{Matrix, MatrixMemory};
pub use ops::blocks::{LOGIT_BLOCK, greatest_of_blocks, logit_weights, weights_of_blocks};
pub use ops::rope::{RotaryFrequencies, RotaryLayout};
pub use ops::softmax::{LogSumExp, log_softmax, log_sum_exp, softmax};
pub use ops::top::TopLogit;
pub use parameter::{ParameterId, Vector};
pub use quantise::quantise;
pub use recording::{
    LogitLoss, NonFinite, Pass, Recorded, RecordingExecutor, RouterStatistics, ScoreGradient, TokenScore,
    WantedGradient, row_values,
};
pub use reference_executor::{ReferenceExecutor, ReferenceTensor};
pub use reference_gradients::{ReferenceParameter, ReferenceTape, TapedTensor};
pub use simd::SimdLevel;
pub use team::{DisjointMut, TeamOptions, ThreadTeam, share};
pub use zeroed::Zeroed;
