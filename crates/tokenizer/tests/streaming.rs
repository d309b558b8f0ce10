//! Streaming detokenisation never emits half a character and never loses one.

use std::sync::LazyLock;

use crate::support::*;
use proptest::prelude::*;
use zhenjin_tokenizer::{ControlText, Specials, StreamDecoder, Tokenizer};

fn stream(tokenizer: &Tokenizer, ids: &[u32], control: ControlText) -> Vec<String> {
    let mut decoder = StreamDecoder::new(tokenizer, control);
    let mut pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
    pieces.push(decoder.finish());
    pieces
}

fn tokenizers() -> &'static [Tokenizer; 2] {
    static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
        [
            Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap(),
            Tokenizer::from_gguf(sentence_piece_vocabulary()).unwrap(),
        ]
    });
    &TOKENIZERS
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_tokens_decodes_as_the_whole(choices in proptest::collection::vec(any::<u32>(), 0..80)) {
        for tokenizer in tokenizers() {
            // Half of the draws are single bytes, which make the most broken text.
            let ids: Vec<u32> = choices
                .iter()
                .map(|&choice| if choice % 2 == 0 { choice / 2 % 300 } else { choice / 2 % tokenizer.vocabulary_size() as u32 })
                .collect();
            for control in [ControlText::Show, ControlText::Hide] {
                let whole = tokenizer.decode_bytes(&ids, control).unwrap();
                prop_assert_eq!(stream(tokenizer, &ids, control).concat(), String::from_utf8_lossy(&whole));
            }
        }
    }

    #[test]
    fn any_text_is_emitted_in_whole_characters(text in "\\PC{0,60}|[中文字符😀👨‍👩‍👧é\u{301} a\n]{0,60}") {
        for tokenizer in tokenizers() {
            let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
            let pieces = stream(tokenizer, &ids, ControlText::Show);
            prop_assert_eq!(pieces.last().map(String::as_str), Some(""));
            let whole = tokenizer.decode_bytes(&ids, ControlText::Show).unwrap();
            prop_assert_eq!(pieces.concat().into_bytes(), whole);
        }
    }
}

#[test]
fn a_character_is_held_back_until_it_is_whole() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("gpt-2")).unwrap();
    let byte = |byte: u8| {
        (0..tokenizer.vocabulary_size() as u32)
            .find(|&id| tokenizer.token_bytes(id) == Some(&[byte]))
            .unwrap()
    };
    let mut decoder = StreamDecoder::new(&tokenizer, ControlText::Hide);
    let pieces: Vec<String> = "中".bytes().map(|part| decoder.push(byte(part)).unwrap()).collect();
    assert_eq!(pieces, ["", "", "中"]);
    assert_eq!(decoder.push(byte(0xE4)).unwrap(), "");
    assert_eq!(decoder.pending_bytes(), 1);
    assert_eq!(decoder.push(byte(b'a')).unwrap(), "\u{FFFD}a");
    assert_eq!(decoder.push(byte(0xF0)).unwrap(), "");
    assert!(decoder.push(u32::MAX).is_err());
    assert_eq!(decoder.finish(), "\u{FFFD}");
}

#[test]
fn control_tokens_leave_no_text_unless_shown() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("gpt-2")).unwrap();
    let ids = tokenizer.encode("a<|im_end|>b", Specials::Parse).unwrap();
    assert_eq!(stream(&tokenizer, &ids, ControlText::Hide).concat(), "ab");
    assert_eq!(stream(&tokenizer, &ids, ControlText::Show).concat(), "a<|im_end|>b");
}
