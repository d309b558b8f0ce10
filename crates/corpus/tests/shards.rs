//! Shards come back as they were written, and a damaged one is an error, never a panic and never other tokens.

use crate::support::{VOCABULARY, content_hash, documents, shard_set};
use proptest::prelude::*;
use zhenjin_corpus::{
    CorpusError, DocumentTokens, MANIFEST_FILE, ShardMetadata, ShardSet, ShardWriter, parse_shard,
};

fn shard_bytes(documents: &[Vec<u32>], vocabulary: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shard");
    let mut writer = ShardWriter::new(vocabulary);
    for tokens in documents {
        let content_hash = content_hash(tokens);
        writer.push(&DocumentTokens { tokens, bytes: 7, characters: 3, content_hash }).expect("a document");
    }
    let metadata =
        ShardMetadata { source: "詩".to_owned(), licence: "MIT".to_owned(), ..ShardMetadata::default() };
    writer.write(&path, &metadata).expect("a shard");
    std::fs::read(path).expect("the shard")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn documents_come_back(
        tokens in prop::collection::vec(prop::collection::vec(0u32..100_000, 1..40), 0..20),
        wide in any::<bool>(),
    ) {
        let vocabulary = if wide { 100_000 } else { 65_536 };
        let tokens: Vec<Vec<u32>> =
            tokens.into_iter().map(|ids| ids.into_iter().map(|id| id % vocabulary).collect()).collect();
        let shard = parse_shard(shard_bytes(&tokens, vocabulary)).expect("a shard");
        shard.verify().expect("undamaged");
        prop_assert_eq!(shard.documents(), tokens.len());
        prop_assert_eq!(shard.text_bytes(), 7 * tokens.len() as u64);
        prop_assert_eq!(shard.text_characters(), 3 * tokens.len() as u64);
        prop_assert_eq!(&shard.metadata().source, "詩");
        for (number, ids) in tokens.iter().enumerate() {
            let mut read = Vec::new();
            shard.read_tokens(number, 0..ids.len() as u64, &mut read).expect("tokens");
            prop_assert_eq!(&read, ids);
            prop_assert_eq!(shard.document_text(number), (7, 3));
            prop_assert_eq!(shard.content_hash(number), content_hash(ids));
            read.clear();
            shard.read_tokens(number, 1..ids.len() as u64, &mut read).expect("tokens");
            prop_assert_eq!(&read, &ids[1..]);
            prop_assert!(shard.read_tokens(number, 0..ids.len() as u64 + 1, &mut read).is_err());
        }
        prop_assert!(shard.read_tokens(tokens.len(), 0..0, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_changed_byte_or_length_is_noticed(place in any::<prop::sample::Index>(), flip in 1u8..=255, cut in any::<bool>()) {
        let mut bytes = shard_bytes(&documents(&[5, 1, 9]), VOCABULARY);
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= flip }
        if let Ok(shard) = parse_shard(bytes) {
            prop_assert!(shard.verify().is_err());
            for document in 0..shard.documents() {
                let _ = shard.read_tokens(document, 0..shard.document_tokens(document), &mut Vec::new());
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_in_words(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic && bytes.len() > 16 {
            bytes[..16].copy_from_slice(b"ZJTOKENS\x01\0\0\0\x02\0\0\0");
        }
        prop_assert!(parse_shard(bytes).is_err());
    }
}

#[test]
fn a_document_without_tokens_or_with_unknown_ones_is_refused_and_leaves_the_shard_as_it_was() {
    let mut writer = ShardWriter::new(10);
    let push = |writer: &mut ShardWriter, tokens: &[u32]| {
        writer.push(&DocumentTokens { tokens, bytes: 1, characters: 1, content_hash: 0 })
    };
    push(&mut writer, &[9]).expect("a document");
    assert!(push(&mut writer, &[]).is_err());
    let error = push(&mut writer, &[1, 10]).expect_err("outside").to_string();
    assert!(error.contains("token 10") && error.contains("vocabulary of 10"), "{error}");
    assert_eq!((writer.documents(), writer.tokens()), (1, 1));
}

#[test]
fn a_set_names_the_file_that_is_damaged_missing_or_exchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = shard_set(folder.path(), &documents(&[3, 4, 5, 6]), 2);
    set.verify().expect("undamaged");
    assert_eq!((set.documents(), set.tokens(), set.document_tokens(2)), (4, 18, 5));
    let second = folder.path().join("shard-00001.tokens");
    let good = std::fs::read(&second).expect("a shard");

    // A changed token has the right shape: only reading it all finds it.
    let mut changed = good.clone();
    changed[64 + 2 * 32] ^= 1;
    std::fs::write(&second, &changed).expect("a write");
    let error = ShardSet::open(folder.path()).and_then(|set| set.verify()).expect_err("damaged").to_string();
    assert!(error.contains("shard-00001.tokens") && error.contains("checksum"), "{error}");

    std::fs::write(&second, &good[..good.len() - 1]).expect("a write");
    assert!(matches!(ShardSet::open(folder.path()), Err(CorpusError::Shard { .. })));
    std::fs::copy(folder.path().join("shard-00000.tokens"), &second).expect("a copy");
    let error = ShardSet::open(folder.path()).expect_err("exchanged").to_string();
    assert!(error.contains("not the file that the folder's list names"), "{error}");
    std::fs::remove_file(&second).expect("removed");
    assert!(matches!(ShardSet::open(folder.path()), Err(CorpusError::Io { .. })));

    std::fs::write(folder.path().join(MANIFEST_FILE), "{}").expect("a write");
    assert!(matches!(ShardSet::open(folder.path()), Err(CorpusError::Manifest { .. })));
}

#[test]
fn a_list_cannot_name_files_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    shard_set(folder.path(), &documents(&[3]), 1);
    let path = folder.path().join(MANIFEST_FILE);
    let list = std::fs::read_to_string(&path).expect("a list");
    std::fs::write(&path, list.replace("shard-00000", "../shard-00000")).expect("a write");
    let error = ShardSet::open(folder.path()).expect_err("elsewhere").to_string();
    assert!(error.contains("not a file in its folder"), "{error}");
}

#[test]
fn the_fingerprint_changes_with_the_data() {
    let fingerprint = |lengths: &[usize], shard_documents| {
        let folder = tempfile::tempdir().expect("a folder");
        shard_set(folder.path(), &documents(lengths), shard_documents).fingerprint()
    };
    assert_eq!(fingerprint(&[3, 4], 2), fingerprint(&[3, 4], 2));
    assert_ne!(fingerprint(&[3, 4], 2), fingerprint(&[4, 3], 2));
}

#[test]
fn a_tokenizer_or_a_model_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = shard_set(folder.path(), &documents(&[3]), 1);
    let error = set.check_fit(b"{}", 100).expect_err("another tokenizer").to_string();
    assert!(error.contains("another tokenizer"), "{error}");
}
