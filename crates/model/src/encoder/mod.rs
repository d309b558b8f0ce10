//! Encoders: transformers that read a whole text at once and give a vector of it (BERT, XLM-RoBERTa, RoBERTa).
//!
//! They have a forward pass of their own beside [`crate::Transformer`], over the same executors and kernels: of a decoder's layer they share
//! the operations and nothing of their order (norms with offsets stand behind what they normalise, positions are learnt, the feed-forward
//! network has no gate, nothing is remembered and no token is predicted), so that every line of one would be a condition in the other.
//! [`crate::embedder`] runs them, and decoders that make vectors.

mod config;
mod dense;
pub(crate) mod file;
mod forward;
pub(crate) mod gguf;
mod pooling;
mod weights;

pub use config::EncoderConfig;
pub use dense::{Activation, Dense, DenseShape};
pub use file::EncoderFile;
pub use forward::Encoder;
pub(crate) use forward::attention_shape as encoder_attention_shape;
pub use pooling::{EncoderPooling, PoolingMode, normalise};
pub use weights::{EncoderLayer, EncoderWeights, Norm};
