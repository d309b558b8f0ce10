//! Text files to token shards, and token shards to sequences of packed documents for training.
//!
//! * [`ShardWriter`] writes documents of tokens into files that are mapped into memory later; [`ShardSet`] opens a folder of them.
//! * [`Loader`] packs documents into sequences of one length. Which sequence has which index depends on the data, the seed and
//!   the epoch alone, so that any number of processes can share the work, and a position is one number.
//!
//! This crate does not know models, gradients or optimisers.

mod errors;
mod files;
mod loader;
mod mapping;
mod shard;

pub use errors::CorpusError;
pub use loader::{Loader, LoaderOptions, PackedSequence, is_for_validation};
pub use shard::{
    DocumentTokens, MANIFEST_FILE, Shard, ShardMetadata, ShardSet, ShardSetDescription, ShardWriter,
    TokenWidth, parse_shard,
};
