//! Writing models: the files that others open, and that [`crate::ModelFile`] opens again.
//!
//! A file is written tensor by tensor, so that no second copy of the weights is in memory, and becomes visible whole or not
//! at all. Weights come from memory or from another file ([`WeightRows`]). Tokenizers are not known here.

mod config_json;
mod gguf;
mod gguf_settings;
mod hashed_file;
mod hugging_face;
mod metadata;
mod quantisation;
mod rows;
mod safetensors;

pub use config_json::{config_json, reward_config_json};
pub use gguf::{Fallback, WrittenGguf, write_gguf};
pub use hashed_file::{HashedFile, WrittenFile};
pub use hugging_face::{FolderFile, write_hugging_face};
pub use metadata::MetadataValue;
pub use quantisation::{FloatType, Quantisation};
pub use rows::{FileRows, WeightRows};
pub use safetensors::{
    NewTensor, write_reward_safetensors, write_safetensors, write_safetensors_as, write_tensors,
};
