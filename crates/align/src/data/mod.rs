//! Examples: what people write them in, and what methods train on.
//!
//! [`Dataset::read`] recognises and checks files, [`Dataset::for_kind`] makes of them what a method needs, and an [`Encoder`]
//! turns them into tokens with the code that serves.

mod check;
mod control_texts;
mod dataset;
mod dialogues;
mod encode_all;
mod encoded;
mod encoder;
mod errors;
mod example;
mod formats;
mod kept;
mod likeness;
mod parsed;
mod purpose;
mod records;
#[cfg(test)]
mod tests;

pub use check::{Alike, CheckOptions, FileReport, Leaks, Lengths, Report, TokenReport, check};
pub use dataset::{Dataset, ReadOptions, held_out_note, is_held_out};
pub use encode_all::{EncodeCounts, EncodeOptions, Encoded, HashTokens, Overlong};
pub use encoded::{Beginning, EncodedPair, EncodedTask, EncodedThumb};
pub use encoder::{Encoder, LearntAnswers, PromptSettings, WrittenFault};
pub use errors::{BadCount, BadKind, BadPolicy, BadRecord, BadRecords, DataError, Fault};
pub use example::{Body, Conversation, Example, Kind, Origin, Pair, ReadFile, Task, Thumb};
pub use kept::{ExamplesFolder, Keep, KeptError, KeptExamples, LEAST_KEPT_BYTES, Rest};
pub use records::MAX_FILE_BYTES;
