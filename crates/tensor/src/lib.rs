//! Numbers and the operations on them: element types and quantised blocks, packed weight matrices, the
//! matrix product, attention, norms, and the thread team that runs them.
//!
//! Every output element is one fixed sequence of operations that depends on the weights' shapes alone,
//! never on the number of rows computed together, the number of threads or the layout of the KV cache.
//!
//! This crate does not know: model files, architectures, text, tokens, HTTP, the environment or the terminal.

pub mod dequantise;
mod dtype;
mod error;
pub mod linear;
mod matrix;
mod simd;
mod team;

pub use dequantise::dequantise;
pub use dtype::Dtype;
pub use error::TensorError;
pub use linear::{Product, QuantisedRows, linear};
pub use matrix::Matrix;
pub use simd::SimdLevel;
pub use team::{DisjointMut, TeamOptions, ThreadTeam, share};
