//! Tokenizers of encoders: the ids of the `tokenizers` library, whatever the file says about cutting and filling up; and broken files.

use serde_json::{Value, json};
use zhenjin_tokenizer::{TextEncoder, TokenizerError};

/// Made by `reference/make_encoders.py`.
fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("data/encoders.json")).unwrap()
}

fn read(tokenizer: &Value) -> Result<TextEncoder, TokenizerError> {
    TextEncoder::from_tokenizer_json(tokenizer.to_string().as_bytes())
}

#[test]
fn ids_are_those_of_the_library() {
    for case in cases() {
        let encoder = read(&case["tokenizer"]).unwrap();
        let encoded = case["encoded"].as_array().unwrap();
        assert!(encoded.len() >= 40);
        let mut longest = 0;
        for pair in encoded {
            let ids: Vec<u32> = serde_json::from_value(pair[1].clone()).unwrap();
            let text = pair[0].as_str().unwrap();
            assert_eq!(encoder.encode(text).unwrap(), ids, "{}: {text:?}", case["name"]);
            assert!(ids.len() >= 2 && ids.iter().all(|id| (*id as usize) < encoder.vocabulary_size()));
            longest = longest.max(ids.len());
        }
        // The file cuts at 8 and fills up to 16.
        assert!(longest > 16, "{longest}");
    }
}

#[test]
fn broken_files_are_refused_and_break_nothing() {
    let good = &cases()[0]["tokenizer"];
    for (place, value, words) in [
        ("/model/type", json!("WordLevel"), "the tokenizer model `WordLevel` is not supported"),
        ("/model/vocab", json!({}), ""),
        ("/model/vocab", json!([1]), "the vocabulary is broken"),
        ("/normalizer/type", json!("Evil"), "the normaliser `Evil` is not supported"),
        ("/pre_tokenizer/type", json!("Evil"), "the pre-tokeniser `Evil` is not supported"),
        ("/post_processor/type", json!("Evil"), "the post-processor `Evil` is not supported"),
        ("/post_processor/special_tokens", json!({}), ""),
        ("/added_tokens", json!("x"), "the vocabulary is broken"),
        ("/model/unk_token", json!("[NONE]"), ""),
    ] {
        let mut broken = good.clone();
        *broken.pointer_mut(place).unwrap() = value;
        // What the library takes may still be of no use for a text, which is then said.
        let error = match read(&broken) {
            Ok(encoder) => {
                encoder.encode("zebra 7").map(|_| String::new()).unwrap_or_else(|error| error.to_string())
            }
            Err(error) => error.to_string(),
        };
        assert!(error.contains(words), "{place}: {error}");
    }
    for bytes in ["", "{", "[]", "null", "{}", r#"{"model": {"type": "WordPiece"}}"#] {
        assert!(TextEncoder::from_tokenizer_json(bytes.as_bytes()).is_err(), "{bytes}");
    }
    let mut dropout = cases()[2]["tokenizer"].clone();
    dropout["model"]["dropout"] = json!(0.1);
    assert!(read(&dropout).unwrap_err().to_string().contains("ids must not be random"));
    assert!(TextEncoder::from_tokenizer_json(&vec![b' '; (64 << 20) + 1]).is_err());
}

#[test]
fn cut_files_are_refused() {
    let text = cases()[0]["tokenizer"].to_string();
    for length in (0..text.len()).step_by(97) {
        assert!(TextEncoder::from_tokenizer_json(&text.as_bytes()[..length]).is_err(), "{length}");
    }
}
