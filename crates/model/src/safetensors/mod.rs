//! The safetensors format: the header of a file, and the index of a model that is split into several.
//!
//! The headers are walked field by field instead of being read into a tree, so that memory stays bounded by the number of
//! tensors, and names that occur twice are seen. Format: <https://huggingface.co/docs/safetensors>.

mod header;
mod index;

pub use header::{ElementType, Header, MAX_HEADER_BYTES, MAX_RANK, MAX_TENSORS, TensorRecord, parse_header};
pub use index::{MAX_SHARDS, ShardIndex, parse_index};
