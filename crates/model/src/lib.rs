//! A language model: its files (GGUF, safetensors), its configuration, its weights, and one forward pass for all families.
//!
//! This crate does not know text, tokenizers, chat templates, sampling, scheduling or HTTP; it turns token ids into logits.
//! It never reads the environment or the terminal.

pub mod config;
mod errors;
pub mod families;
mod file;
pub mod gguf;
mod json;
pub mod names;
pub mod safetensors;
mod tensor_source;

pub use config::ModelConfig;
pub use errors::{FormatError, ModelError};
pub use file::{FileFormat, FileTensor, HuggingFaceFiles, Mapping, ModelFile};
pub use tensor_source::{LayerWeightName, TensorSource, TensorView, WeightName};
