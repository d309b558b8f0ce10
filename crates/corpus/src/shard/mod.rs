//! Token shards: files of many documents' tokens.
//!
//! A shard is (all numbers little-endian):
//!
//! | bytes | contents |
//! |---|---|
//! | 8 | `ZJTOKENS` |
//! | 4, 4 | version (1), bytes of a token (2 or 4) |
//! | 8, 8, 8 | documents D, tokens T, bytes M of the metadata |
//! | 4, 20 | vocabulary size, zeros |
//! | 32 · D | for each document: where its tokens end, where its text ends in bytes and in characters (each counted from the shard's beginning), and a 64-bit hash of its contents |
//! | width · T | the tokens |
//! | M | the metadata, JSON |
//! | 32 | SHA-256 of everything before it |

mod format;
mod set;
mod writer;

pub use format::{DocumentTokens, Shard, ShardMetadata, TokenWidth, parse_shard};
pub(crate) use set::read_origin;
pub use set::{MANIFEST_FILE, ShardSet, ShardSetDescription, check_manifest};
pub use writer::ShardWriter;
