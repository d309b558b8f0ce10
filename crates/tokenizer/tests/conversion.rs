//! A tokenizer in one description and in the other: the same ids for every text.

use crate::support::{byte_level_json, sentence_piece_json};
use serde_json::{Value, json};
use zhenjin_tokenizer::{ControlText, GgufVocabulary, Specials, Tokenizer, TokenizerConfig, TokenizerError};

fn config() -> TokenizerConfig {
    TokenizerConfig { eos_token: Some("<|im_end|>".to_owned()), ..TokenizerConfig::default() }
}

fn convert(json: &Value) -> Result<GgufVocabulary, TokenizerError> {
    GgufVocabulary::from_tokenizer_json(json.to_string().as_bytes(), Some(&config()))
}

#[test]
fn both_descriptions_and_the_way_back_give_the_same_ids() {
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2", "stablelm2"] {
        let json = byte_level_json(pre);
        let first = Tokenizer::from_tokenizer_json(json.to_string().as_bytes(), Some(&config())).unwrap();
        let vocabulary = convert(&json).unwrap();
        assert_eq!(vocabulary.pre.as_deref(), Some(pre));
        assert_eq!(vocabulary.eos, first.eos());
        let (back, back_config) = vocabulary.to_tokenizer_json().unwrap();
        let back_config = TokenizerConfig::from_json(back_config.to_string().as_bytes()).unwrap();
        let third = Tokenizer::from_tokenizer_json(back.to_string().as_bytes(), Some(&back_config)).unwrap();
        let second = Tokenizer::from_gguf(vocabulary).unwrap();
        for text in [
            "hello world 1212 it's\n\n\nHELLO <|im_start|>user<think> e\u{301} 真金 \u{1F600}<|im_end|>",
            "  hello   ",
            "",
        ] {
            for specials in [Specials::Parse, Specials::AsText] {
                let ids = first.encode(text, specials).unwrap();
                for other in [&second, &third] {
                    assert_eq!(other.encode(text, specials).unwrap(), ids, "{pre}: {text:?}");
                }
            }
            let ids = first.encode(text, Specials::Parse).unwrap();
            let text_of = |tokenizer: &Tokenizer| tokenizer.decode(&ids, ControlText::Show).unwrap();
            assert_eq!((text_of(&second), text_of(&third)), (text_of(&first), text_of(&first)));
        }
        for other in [&second, &third] {
            assert_eq!((other.eos(), other.adds_bos()), (first.eos(), first.adds_bos()));
            assert_eq!(other.special_texts(), first.special_texts());
        }
    }
}

#[test]
fn a_vocabulary_is_padded_with_ids_that_no_text_has() {
    let vocabulary = convert(&byte_level_json("qwen2")).unwrap();
    let size = vocabulary.tokens.len() as u32;
    let padded = vocabulary.padded_to(size as usize + 40);
    assert_eq!(padded.token_types.len(), size as usize + 40);
    let tokenizer = Tokenizer::from_gguf(padded).unwrap();
    let ids = tokenizer.encode(&format!("[PAD{size}] [PAD{}]", size + 7), Specials::Parse).unwrap();
    assert!(ids.iter().all(|id| *id < size), "{ids:?}");
}

/// Regression: rows of padding, which a GGUF file lists as unused tokens, were part of the vocabulary: a model could write `[PAD778]`.
#[test]
fn unused_ids_at_the_end_are_not_part_of_the_vocabulary() {
    let vocabulary = convert(&byte_level_json("qwen2")).unwrap();
    let size = vocabulary.tokens.len();
    let padded = vocabulary.padded_to(size + 40);
    let size_of =
        |vocabulary: &GgufVocabulary| Tokenizer::from_gguf(vocabulary.clone()).unwrap().vocabulary_size();
    assert_eq!(size_of(&padded), size);
    assert_eq!(Tokenizer::from_gguf(padded.clone()).unwrap().token_bytes(size as u32), None);
    let (json, _) = padded.to_tokenizer_json().unwrap();
    assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), size);
    // What the file gives a meaning stays, and so does what comes before it.
    let named = GgufVocabulary { end_of_turn: Some(size as u32 + 7), ..padded.clone() };
    assert_eq!(size_of(&named), size + 8);
    let mut longer = padded;
    longer.tokens.push("<|tool|>".to_owned());
    longer.token_types.push(3);
    assert_eq!(size_of(&longer), size + 41);
}

/// In `tokenizer.json` as the library trains it, the first ids are those of the control tokens; the library numbers anew
/// what does not stand in the vocabulary.
#[test]
fn every_id_stands_in_the_written_vocabulary() {
    let (json, _) = convert(&byte_level_json("qwen2")).unwrap().to_tokenizer_json().unwrap();
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    for added in json["added_tokens"].as_array().unwrap() {
        assert_eq!(vocabulary[added["content"].as_str().unwrap()], added["id"]);
    }
    let mut ids: Vec<u64> = vocabulary.values().map(|id| id.as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..vocabulary.len() as u64));
}

#[test]
fn what_a_gguf_file_cannot_say_is_refused_by_name() {
    let change = |pointer: &str, value: Value| {
        let mut json = byte_level_json("qwen2");
        *json.pointer_mut(pointer).unwrap() = value;
        convert(&json).unwrap_err().to_string()
    };
    let other_words = change("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("[a-z]+"));
    assert!(other_words.contains("[a-z]+") && other_words.contains("stablelm2"), "{other_words}");
    assert!(change("/normalizer", json!({ "type": "Lowercase" })).contains("Lowercase"));
    assert!(change("/model/ignore_merges", json!(true)).contains("ignore_merges"));
    // Regression: the name was the whole document of the parts, with their expressions.
    let long = change("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("[a-z]+|".repeat(60)));
    let name = long.split('`').nth(1).unwrap();
    assert!(name.starts_with("NFC, Split [a-z]+|") && name.chars().count() == 80, "{long}");
    assert!(change("/added_tokens/2/lstrip", json!(true)).contains("<|endoftext|>"));
    // Its merges have one way to make each piece; scores have all.
    assert!(convert(&sentence_piece_json()).unwrap_err().to_string().contains("order of merges"));
    let word_piece = GgufVocabulary { model: "bert".to_owned(), ..GgufVocabulary::default() };
    assert!(word_piece.to_tokenizer_json().unwrap_err().to_string().contains("bert"));
}
