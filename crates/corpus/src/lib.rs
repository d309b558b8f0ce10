//! Text files to token shards, and token shards to sequences of packed documents for training.
//!
//! * [`discover`] finds the files of an input, [`sample`] reads text for training a tokenizer, and [`tokenize`] turns all of it
//!   into shards.
//! * [`ShardWriter`] writes documents of tokens into files that are mapped into memory later; [`ShardSet`] opens a folder of them.
//! * [`Loader`] packs documents into sequences of one length. Which sequence has which index depends on the data, the seed and
//!   the epoch alone, so that any number of processes can share the work, and a position is one number.
//! * [`excerpt`] takes so many bytes of a text; [`arithmetic`] and [`story`] make data that needs no files.
//!
//! This crate does not know models, gradients or optimisers.

mod errors;
mod excerpt;
mod files;
mod generate;
mod loader;
mod measure;
mod pipeline;
mod random;
mod sample;
mod shard;
mod source;
mod tokenize;

pub use errors::CorpusError;
pub use excerpt::{Excerpt, ExcerptOptions, excerpt};
pub use generate::{ArithmeticOptions, ArithmeticProblem, arithmetic, story};
pub use loader::{Loader, LoaderOptions, PackedSequence, is_for_validation};
pub use measure::{ScriptCounts, TokenizerFit, measure};
pub use sample::{SampleOptions, TextSample, sample};
pub use shard::{
    DocumentTokens, MANIFEST_FILE, Shard, ShardMetadata, ShardSet, ShardSetDescription, ShardWriter,
    TokenWidth, check_manifest, parse_shard,
};
pub use source::{
    Discovered, Document, DocumentFormat, Input, InputFile, InputKind, InputOptions, Piece, Split, discover,
    open_unpacked,
};
pub use tokenize::{BrokenRecord, Counts, Summary, TokenizeEvent, TokenizeOptions, TokenizerFiles, tokenize};
