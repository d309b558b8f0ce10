//! Ids against the references (llama.cpp, Hugging Face's tokenizers) on 1.1 MB of text, and the way back.

use crate::support::generated_text::{KINDS, generated_text};
use crate::support::*;
use serde_json::Value;
use zhenjin_tokenizer::{ControlText, Specials, Tokenizer, TokenizerConfig};

const GOLDEN: &str = include_str!("data/tokenizer_golden.json");
const BYTES_PER_KIND: usize = 220_000;

fn assert_golden(name: &str, tokenizer: &Tokenizer, golden: &Value) {
    for kind in KINDS {
        let text = generated_text(kind, BYTES_PER_KIND);
        let golden = &golden[*kind];
        assert_eq!(golden["text_sha256"], digest_of(text.as_bytes()), "{kind}: the two generators differ");
        let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
        let first: Vec<u64> =
            golden["first_ids"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        let ours: Vec<u64> = ids.iter().take(first.len()).map(|&id| id.into()).collect();
        assert_eq!(ours, first, "{name}, {kind}");
        assert_eq!(golden["ids"], ids.len(), "{name}, {kind}");
        assert_eq!(golden["ids_sha256"], digest_of_ids(&ids), "{name}, {kind}");
        let decoded = tokenizer.decode(&ids, ControlText::Show).unwrap();
        // Qwen's tokenizer composes characters (NFC), so its text comes back composed.
        let expected = if name.starts_with("qwen2") { text.replace("e\u{301}", "é") } else { text };
        if name.starts_with("qwen2") && *kind == "broken" {
            assert_eq!(tokenizer.encode(&decoded, Specials::AsText).unwrap(), ids, "{name}, {kind}");
        } else {
            assert_eq!(decoded, expected, "{name}, {kind}");
        }
    }
}

#[test]
fn ids_equal_the_references_and_text_comes_back() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    for (name, tokenizer) in all_tokenizers() {
        let key = name.split(' ').next().unwrap();
        assert_golden(&name, &tokenizer, &golden[key]);
    }
}

#[test]
fn bytes_that_are_not_utf8_come_back_byte_for_byte() {
    for (name, tokenizer) in all_tokenizers() {
        let ids_of_bytes: Vec<u32> = (0..=255u8)
            .map(|byte| {
                let id = (0..tokenizer.vocabulary_size() as u32)
                    .find(|&id| !tokenizer.is_special(id) && tokenizer.token_bytes(id) == Some(&[byte]));
                id.unwrap_or_else(|| panic!("{name} has no token for the byte {byte}"))
            })
            .collect();
        let bytes: Vec<u8> = (0..=255).rev().chain([0xE4, 0xB8, 0xF0, 0x9F]).collect();
        let ids: Vec<u32> = bytes.iter().map(|&byte| ids_of_bytes[byte as usize]).collect();
        assert_eq!(tokenizer.decode_bytes(&ids, ControlText::Show).unwrap(), bytes, "{name}");
        let mut expected = String::from_utf8_lossy(&bytes).into_owned();
        if expected.starts_with(' ') {
            expected.remove(0);
        }
        assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), expected, "{name}");
    }
}

#[test]
fn long_words_and_long_white_space_take_no_long_time() {
    let texts = ["a", " ", "\n", "中", "ab"].map(|text| text.repeat(50_000));
    for (name, tokenizer) in all_tokenizers().into_iter().filter(|(name, _)| name.contains("GGUF")) {
        for text in &texts {
            let ids = tokenizer.encode(text, Specials::AsText).unwrap();
            assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), *text, "{name}");
        }
        let error = tokenizer.encode(&" ".repeat(300_000), Specials::AsText).unwrap_err();
        assert!(error.to_string().contains("white space"), "{name}: {error}");
    }
}

#[test]
fn the_empty_text_has_no_ids() {
    for (name, tokenizer) in all_tokenizers() {
        assert!(tokenizer.encode("", Specials::Parse).unwrap().is_empty(), "{name}");
        assert_eq!(tokenizer.decode(&[], ControlText::Show).unwrap(), "", "{name}");
        let beyond = tokenizer.vocabulary_size() as u32;
        assert!(
            tokenizer.decode(&[beyond], ControlText::Show).unwrap_err().to_string().contains("outside"),
            "{name}"
        );
    }
}

#[test]
fn special_ids_are_known_from_either_kind_of_file() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    let text = |id: u32| String::from_utf8(tokenizer.token_bytes(id).unwrap().to_vec()).unwrap();
    let ends: Vec<String> = tokenizer.end_of_turn().iter().map(|&id| text(id)).collect();
    assert_eq!(ends, ["<|im_end|>", "<|endoftext|>", "<|eot_id|>"]);
    assert!(!tokenizer.adds_bos());
    let sentence_piece = from_json(&sentence_piece_json());
    assert_eq!((sentence_piece.bos(), sentence_piece.adds_bos()), (Some(1), true));
    assert_eq!(sentence_piece.with_end_of_turn([2, 2]).unwrap().end_of_turn(), [2]);
}

/// `AutoTokenizer` of transformers 5.24 leaves `add_bos_token` aside where a folder has a `tokenizer.json`, whatever class it names.
#[test]
fn the_template_of_a_file_puts_its_first_token_before_texts_also_where_the_configuration_says_no() {
    let bytes = sentence_piece_json().to_string().into_bytes();
    for add_bos_token in [None, Some(false), Some(true)] {
        let bos_token = Some("<s>".to_owned());
        let config = TokenizerConfig { bos_token, add_bos_token, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::from_tokenizer_json(&bytes, Some(&config)).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(1), true), "{add_bos_token:?}");
    }
}
