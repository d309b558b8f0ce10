//! Small sets of shards for tests.

use std::path::Path;
use std::sync::Arc;

use zhenjin_corpus::{DocumentTokens, ShardMetadata, ShardSet, ShardSetDescription, ShardWriter};

pub(crate) const VOCABULARY: u32 = 100;
pub(crate) const END_OF_TEXT: u32 = 99;

/// Every token but the last two stands for as many bytes as its id says.
pub(crate) fn description() -> ShardSetDescription {
    let token_bytes = (0..VOCABULARY).map(|id| if id < 98 { id } else { 0 }).collect();
    ShardSetDescription { tokenizer_hash: "0".repeat(64), end_of_text: END_OF_TEXT, token_bytes }
}

/// A hash of a document as the program makes one: equal for equal tokens, evenly spread.
pub(crate) fn content_hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0x1234_5678_9ABC_DEF1, |hash: u64, &token| {
        (hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    })
}

/// Writes documents into shards of at most `shard_documents` and opens them.
pub(crate) fn shard_set(folder: &Path, documents: &[Vec<u32>], shard_documents: usize) -> Arc<ShardSet> {
    let mut files = Vec::new();
    for (number, documents) in documents.chunks(shard_documents).enumerate() {
        let mut writer = ShardWriter::new(VOCABULARY);
        for tokens in documents {
            let bytes = tokens.iter().map(|&token| u64::from(token)).sum();
            let content_hash = content_hash(tokens);
            writer
                .push(&DocumentTokens { tokens, bytes, characters: bytes / 3, content_hash })
                .expect("a document");
        }
        let file = format!("shard-{number:05}.tokens");
        writer.write(&folder.join(&file), &ShardMetadata::default()).expect("a shard");
        files.push(file);
    }
    ShardSet::finish(folder, description(), &files, serde_json::Value::Null).expect("a list");
    Arc::new(ShardSet::open(folder).expect("a set"))
}

/// Documents of given lengths, with tokens that tell them apart.
pub(crate) fn documents(lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut next = 0u32;
    lengths
        .iter()
        .map(|&length| {
            (0..length)
                .map(|_| {
                    next = (next * 7 + 3) % 98;
                    next
                })
                .collect()
        })
        .collect()
}
