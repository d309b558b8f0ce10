//! The small operations on rows of activations: each a kernel over lanes with a plain reference of the same bits.
//!
//! They work on slices and on one thread; the executor splits rows over the team. They do not know models or caches.

pub(crate) mod add;
pub(crate) mod blocks;
pub(crate) mod change_outputs;
mod exponential;
pub(crate) mod gated;
pub(crate) mod gelu;
mod gelu_tanh;
pub(crate) mod layer_norm;
pub(crate) mod low_rank;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod routing;
pub(crate) mod scale;
pub(crate) mod softmax;
#[cfg(test)]
mod tests;
pub(crate) mod top;

pub(crate) use exponential::{exponential, exponential_of_one};
