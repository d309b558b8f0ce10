//! Shards of made-up sentences, by a tokenizer that knows bytes only.

use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use zhenjin_corpus::{DocumentTokens, ShardMetadata, ShardSet, ShardSetDescription, ShardWriter};

const END_OF_TEXT: u32 = 256;
const WORDS: [&str; 12] = [
    "the ", "moon ", "river ", "over ", "bright ", "runs ", "a ", "white ", "cloud ", "sees ", "old ",
    "pine ",
];

/// Settings of a model that trains in a second.
pub(crate) const TINY: [&str; 9] = [
    "model.hidden_size=32",
    "model.intermediate_size=32",
    "model.heads=2",
    "model.kv_heads=1",
    "model.head_dim=16",
    "data.sequence_length=32",
    "data.validation_share=0.1",
    "batch.sequences=2",
    "batch.micro_batches=2",
];

/// A folder of `documents` short documents with their tokenizer.
pub(crate) fn make_shards(folder: &Path, documents: usize) -> PathBuf {
    std::fs::create_dir_all(folder).expect("a folder");
    let tokenizer = tokenizer().to_string();
    std::fs::write(folder.join("tokenizer.json"), &tokenizer).expect("a file");
    let mut writer = ShardWriter::new(END_OF_TEXT + 1);
    let mut state = 12_345u64;
    for _ in 0..documents {
        let mut text = String::new();
        for place in 0..9 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(WORDS[(place % 3 * 4 + (state >> 60) as usize % 4) % WORDS.len()]);
        }
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        let hash = Sha256::digest(text.as_bytes());
        let document = DocumentTokens {
            tokens: &tokens,
            bytes: text.len() as u64,
            characters: text.len() as u64,
            content_hash: hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        };
        writer.push(&document).expect("a document");
    }
    writer.write(&folder.join("shard-0.bin"), &ShardMetadata::default()).expect("a shard");
    let tokenizer_hash =
        Sha256::digest(tokenizer.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let token_bytes = (0..=END_OF_TEXT).map(|id| u32::from(id != END_OF_TEXT)).collect();
    let description = ShardSetDescription { tokenizer_hash, end_of_text: END_OF_TEXT, token_bytes };
    ShardSet::finish(folder, description, &["shard-0.bin".to_owned()], json!(null)).expect("a list");
    folder.to_owned()
}

/// A byte-level tokenizer without merges, in which the id of a byte is its number.
fn tokenizer() -> serde_json::Value {
    // The alphabet of byte-level BPE: printable characters stand for themselves, others for those from U+0100 on.
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    let mut vocabulary = serde_json::Map::new();
    for byte in 0..256u32 {
        let character = if printable(&byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        let character = char::from_u32(character).expect("a character");
        vocabulary.insert(character.to_string(), json!(byte));
    }
    vocabulary.insert("<|endoftext|>".to_owned(), json!(END_OF_TEXT));
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{ "id": END_OF_TEXT, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true }],
        "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [] }
    })
}
