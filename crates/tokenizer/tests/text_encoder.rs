//! Tokenizers of encoders: the ids of the `tokenizers` library, whatever the file says about cutting and filling up; and broken files.

use serde_json::{Value, json};
use zhenjin_tokenizer::{BertSettings, TextEncoder, TokenizerError};

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

/// Regression: a small file could ask for any amount of time and memory, as each of its parts was looked at by itself.
#[test]
fn files_that_would_take_all_memory_are_refused() {
    let good = &cases()[0]["tokenizer"];
    assert_eq!(good["model"]["type"], "WordPiece");
    let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaa" });
    let steps = json!({ "type": "Sequence", "normalizers": vec![replace; 15] });
    let ids = vec![1; 100_000];
    let token = json!({ "id": "[CLS]", "ids": ids, "tokens": vec!["[CLS]"; ids.len()] });
    let template = json!({
        "type": "TemplateProcessing", "pair": [], "special_tokens": { "[CLS]": token },
        "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
    });
    for (part, value, words) in [
        ("/normalizer", steps, "can lengthen a text"),
        ("/post_processor", template, "stands for 100000 tokens"),
        ("/model/max_input_chars_per_word", json!(1_000_000_000), "max_input_chars_per_word"),
        ("/model/continuing_subword_prefix", json!("#".repeat(1000)), "the mark of a word's pieces"),
    ] {
        let mut hostile = good.clone();
        *hostile.pointer_mut(part).unwrap() = value;
        let error = read(&hostile).unwrap_err().to_string();
        assert!(error.contains(words), "{part}: {error}");
    }
}

/// Regression: what `tokenizer_config.json` says of capitals and accents was not read; transformers puts it before `tokenizer.json`.
#[test]
fn settings_of_bert_go_before_those_of_the_file() {
    let mut json = cases()[0]["tokenizer"].clone();
    json["model"]["vocab"] =
        json!({ "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "able": 4, "Able": 5, "é": 6, "e": 7 });
    json["added_tokens"] = json!([]);
    let token = |name: &str, id: u32| json!({ "id": name, "ids": [id], "tokens": [name] });
    json["post_processor"]["special_tokens"] =
        json!({ "[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3) });
    let ids = |settings: BertSettings| {
        let bytes = json.to_string();
        TextEncoder::from_tokenizer_json_with(bytes.as_bytes(), settings).unwrap().encode("Able é").unwrap()
    };
    let none = BertSettings::default();
    assert_eq!(ids(none), [2, 4, 7, 3]);
    assert_eq!(ids(BertSettings { lowercase: Some(true), ..none }), [2, 4, 7, 3]);
    assert_eq!(ids(BertSettings { lowercase: Some(false), ..none }), [2, 5, 6, 3]);
    assert_eq!(ids(BertSettings { strip_accents: Some(false), ..none }), [2, 4, 6, 3]);
    assert_eq!(ids(BertSettings { lowercase: Some(false), strip_accents: Some(true), ..none }), [2, 5, 7, 3]);
    // Other normalisers have no such settings.
    json["normalizer"] = json!({ "type": "Lowercase" });
    let bytes = json.to_string();
    let settings = BertSettings { lowercase: Some(false), ..none };
    let encoder = TextEncoder::from_tokenizer_json_with(bytes.as_bytes(), settings).unwrap();
    assert_eq!(encoder.encode("Able").unwrap(), [2, 4, 3]);
}
