//! Any bytes as a shard of tokens: refused in words, or every document can be read; and any bytes as a folder's list of shards.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The same with a checksum that fits, so that the checks behind it are reached.
    if let Some(length) = bytes.len().checked_sub(32) {
        let mut mended = bytes.to_vec();
        let digest = Sha256::digest(&bytes[..length]);
        mended[length..].copy_from_slice(&digest);
        read(&mended);
    }
    let _ = zhenjin_corpus::check_manifest(bytes);
});

fn read(bytes: &[u8]) {
    let Ok(shard) = zhenjin_corpus::parse_shard(bytes) else { return };
    let is_whole = shard.verify().is_ok();
    let mut tokens = Vec::new();
    for document in 0..shard.documents() {
        tokens.clear();
        let read = shard.read_tokens(document, 0..shard.document_tokens(document), &mut tokens);
        assert!(read.is_ok() || !is_whole);
        if read.is_ok() {
            assert!(tokens.len() as u64 == shard.document_tokens(document));
            assert!(tokens.iter().all(|&token| token < shard.vocabulary_size()));
        }
        let _ = (shard.document_text(document), shard.content_hash(document));
    }
}
