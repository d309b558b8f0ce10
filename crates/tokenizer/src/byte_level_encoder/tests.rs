//! The encoder against the `tokenizers` library, whose ids are the reference.

use std::ops::Range;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;

use crate::{GgufVocabulary, Specials, Tokenizer};

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let vocabulary: Value =
        serde_json::from_str(include_str!("../../tests/data/byte_level_vocabulary.json")).unwrap();
    let texts = |key: &str| -> Vec<String> { serde_json::from_value(vocabulary[key].clone()).unwrap() };
    let of_pre = |pre: &str| {
        let mut tokens = texts("tokens");
        let mut token_types = vec![1; tokens.len()];
        tokens.extend(["<think>".to_owned(), "<|im_end|>".to_owned()]);
        token_types.extend([4, 3]);
        let (model, pre, merges) = ("gpt2".to_owned(), Some(pre.to_owned()), texts("merges"));
        let vocabulary =
            GgufVocabulary { model, pre, tokens, token_types, merges, ..GgufVocabulary::default() };
        Tokenizer::from_gguf(vocabulary).unwrap()
    };
    ["gpt-2", "smollm", "llama-bpe", "qwen2"].map(of_pre).into()
});

/// The library gives a token that holds part of a character the whole character.
fn whole_characters(text: &str, ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let start = |range: &Range<usize>| (0..=range.start).rev().find(|&start| text.is_char_boundary(start));
    let end = |range: &Range<usize>| (range.end..=text.len()).find(|&end| text.is_char_boundary(end));
    ranges.iter().map(|range| start(range).unwrap()..end(range).unwrap()).collect()
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        "[a-zA-Z]{1,8}",
        "[ \t\r\n\u{a0}\u{3000}]{1,5}",
        "[0-9\u{661}\u{b2}\u{2167}]{1,5}",
        "['\u{2019}][a-zA-Z\u{17f}]{0,3}",
        "[\u{4e00}-\u{4e40}，。！]{1,40}",
        "[!-/:-@\u{301}\u{1f600}\u{200d}\u{e9}\u{430}\u{1d400}\u{20000}]{1,4}",
        Just("<|im_end|>".to_owned()),
        Just("<think>".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..20)
}

proptest! {
    #[test]
    fn ids_and_places_are_the_librarys(pieces in pieces()) {
        let text = pieces.concat();
        for tokenizer in &*TOKENIZERS {
            let expected = tokenizer.encode_by_library(&text).unwrap();
            prop_assert_eq!(&tokenizer.encode(&text, Specials::Parse).unwrap(), &expected.ids, "{:?}", text);
            let encoded = tokenizer.encode_with_ranges(&text).unwrap();
            prop_assert_eq!(&encoded.ids, &expected.ids);
            prop_assert_eq!(
                whole_characters(&text, &encoded.ranges),
                whole_characters(&text, &expected.ranges),
                "{:?}", text
            );
        }
    }
}

/// Words with spaces before them, which end segments, and what might reach across one.
fn sentences() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        " [a-zA-Z]{1,4}",
        " [a-z]{1,3}[eao]\u{301}",
        "[ \t\r\n\u{a0}\u{3000}]{1,3}",
        "[0-9\u{661}\u{b2}]{1,3}",
        "['.,!<\u{338}\u{301}]{1,3}",
        "(\u{4e2d}\u{6587}|\u{ac00}\u{11a8}|\u{1100}\u{1161}|\u{212b})",
        "[\u{4e00}\u{9fff}\u{4e2d}]{0,2}[，。、；：？！]{1,2}[\u{4e2d}\u{301}a1 \n]{0,2}",
        "[\u{4e2d}a。1]\n{1,2}[\u{4e2d}a。1 \u{301}]",
        "[\u{4e2d}\u{6587}]{1,4}(\u{304b}\u{3099}|\u{f900}|\u{438}\u{306}|e\u{301}\u{323}|\u{1100}\u{1161}\u{11a8})[\u{4e2d}\n]{0,2}",
        Just("<|im_end|>".to_owned()),
        Just(" <think>".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..20)
}

proptest! {
    /// Regression: one character that NFC changes gave all of a text to the library, at four hundred bytes of memory for each of its own.
    #[test]
    fn segments_have_the_librarys_ids_of_the_whole_text(pieces in sentences(), most in 1..24_usize) {
        let text = pieces.concat();
        for tokenizer in &*TOKENIZERS {
            let expected = tokenizer.encode_by_library(&text).unwrap().ids;
            prop_assert_eq!(tokenizer.encode_in_segments(&text, most), Some(expected), "{:?}", text);
        }
    }
}

#[test]
fn the_supported_pre_tokenisers_need_no_library() {
    for tokenizer in &*TOKENIZERS {
        let encoder = tokenizer.byte_level_encoder().unwrap();
        assert!(encoder.ids("It's 2024: 你好，世界！\n", &[]).is_some());
    }
}

/// Regression: one such character gave all of a text without places to end a segment to the library, at two hundred bytes of memory for each
/// of its own.
#[test]
fn text_that_nfc_changes_needs_no_library() {
    let qwen = &TOKENIZERS[3];
    let encoder = qwen.byte_level_encoder().unwrap();
    let long = "中文".repeat(1000);
    let texts = [
        "e\u{301}".to_owned(),
        format!("{long}e\u{301}{long}\u{304b}\u{3099}"),
        "\u{1100}\u{1161}\u{11a8}".repeat(300),
    ];
    for text in &texts {
        let expected = qwen.encode_by_library(text).unwrap();
        assert_eq!(encoder.ids(text, &[]), Some(expected.ids.clone()));
        assert_eq!(qwen.encode(text, Specials::AsText).unwrap(), expected.ids);
        assert!(encoder.ids_and_ranges(text, &[]).is_none(), "only the library knows the places");
    }
    // Added tokens are not joined to anything.
    let text = "e<|im_end|>\u{301}e\u{301}";
    assert_eq!(qwen.encode(text, Specials::Parse).unwrap(), qwen.encode_by_library(text).unwrap().ids);
}

/// Regression: words that tokenizers from tiktoken take by what lies between them (Phi-4's, OLMo 2's) went through the library.
#[test]
fn words_that_are_said_in_the_other_way_need_no_library() {
    let golden: Value =
        serde_json::from_str(include_str!("../../tests/data/family_tokenizers.json")).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == "Phi-4").unwrap();
    let split = &case["tokenizer"]["pre_tokenizer"]["pretokenizers"][0];
    assert_eq!((split["behavior"].as_str(), split["invert"].as_bool()), (Some("Removed"), Some(true)));
    let tokenizer = Tokenizer::from_tokenizer_json(case["tokenizer"].to_string().as_bytes(), None).unwrap();
    assert!(tokenizer.byte_level_encoder().is_some());
    for text in golden["texts"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let expected = tokenizer.encode_by_library(text).unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), expected.ids, "{text:?}");
    }
}
