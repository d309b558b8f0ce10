//! Writing models: the files that others open, and that [`crate::ModelFile`] opens again.
//!
//! A file is written tensor by tensor, so that no second copy of the weights is in memory, and becomes visible whole or not
//! at all. Weights come from memory or from another file ([`WeightRows`]). Tokenizers are not known here.

mod config_json;
mod new_file;
mod rows;
mod safetensors;

pub use config_json::config_json;
pub use new_file::{NewFile, WrittenFile};
pub use rows::{FileRows, WeightRows};
pub use safetensors::{NewTensor, write_safetensors, write_safetensors_as, write_tensors};
