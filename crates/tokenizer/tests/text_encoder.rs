//! Tokenizers of encoders: the ids of the `tokenizers` library, whatever the file says about cutting and filling up; and broken files.

use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};
use zhenjin_tokenizer::{
    BertSettings, GgufVocabulary, LimitedEncoding, Specials, TextEncoder, Tokenizer, TokenizerClass,
    TokenizerError,
};

use crate::support::byte_level_vocabulary;

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

/// A small BERT vocabulary with a normaliser of its own.
fn bert(normaliser: &Value) -> Value {
    let mut json = cases()[0]["tokenizer"].clone();
    json["model"]["vocab"] = json!({
        "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "able": 4, "Able": 5, "é": 6, "e": 7, "中": 8, "中文": 9,
    });
    json["added_tokens"] = json!([]);
    let token = |name: &str, id: u32| json!({ "id": name, "ids": [id], "tokens": [name] });
    json["post_processor"]["special_tokens"] =
        json!({ "[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3) });
    json["normalizer"] = normaliser.clone();
    json
}

fn ids_with(json: &Value, class: TokenizerClass, text: &str) -> Vec<u32> {
    let bytes = json.to_string();
    TextEncoder::from_tokenizer_json_with(bytes.as_bytes(), class).unwrap().encode(text).unwrap()
}

/// Regressions: what `tokenizer_config.json` says of capitals and accents was not read, and where it says nothing, the file's normaliser
/// decided. The ids are those of `AutoTokenizer` of transformers 5.24 with folders that say so.
#[test]
fn a_bert_tokenizer_has_the_normaliser_of_its_class() {
    let cased = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": false, "strip_accents": false, "lowercase": false,
    });
    let text = "Able é 中文";
    let none = BertSettings::default();
    for normaliser in [cased.clone(), json!({ "type": "Lowercase" }), Value::Null] {
        let json = bert(&normaliser);
        let ids = |settings: BertSettings| ids_with(&json, TokenizerClass::Bert(settings), text);
        assert_eq!(ids(none), [2, 4, 7, 8, 1, 3], "{normaliser}");
        assert_eq!(ids(BertSettings { lowercase: false, ..none }), [2, 5, 6, 8, 1, 3], "{normaliser}");
        let plain = BertSettings { lowercase: false, handle_chinese_chars: false, ..none };
        assert_eq!(ids(plain), [2, 5, 6, 9, 3], "{normaliser}");
        let accents = BertSettings { strip_accents: Some(false), handle_chinese_chars: false, ..none };
        assert_eq!(ids(accents), [2, 4, 6, 9, 3], "{normaliser}");
        let stripped = BertSettings { strip_accents: Some(true), ..plain };
        assert_eq!(ids(stripped), [2, 5, 7, 9, 3], "{normaliser}");
    }
    // Classes that take the file as it is.
    let ids = |normaliser: &Value| ids_with(&bert(normaliser), TokenizerClass::AsWritten, text);
    assert_eq!(ids(&cased), [2, 5, 6, 9, 3]);
    assert_eq!(ids(&json!({ "type": "Lowercase" })), [2, 4, 6, 9, 3]);
    // No such class has a vocabulary of another kind.
    for case in cases().iter().skip(1) {
        let bytes = case["tokenizer"].to_string();
        let class = TokenizerClass::Bert(none);
        let encoder = TextEncoder::from_tokenizer_json_with(bytes.as_bytes(), class).unwrap();
        let text = "the cat Sat";
        assert_eq!(encoder.encode(text).unwrap(), read(&case["tokenizer"]).unwrap().encode(text).unwrap());
    }
}

/// Regression: `add_prefix_space` of a `tokenizer_config.json` was not read; `RobertaTokenizer` puts it before what `tokenizer.json` says.
#[test]
fn a_roberta_tokenizer_puts_a_space_before_a_text_where_its_class_does() {
    let cases = cases();
    let file = cases.iter().find(|case| case["name"] == "Roberta").unwrap();
    let with = |prefix: bool| {
        let mut json = file["tokenizer"].clone();
        json["pre_tokenizer"]["add_prefix_space"] = json!(prefix);
        json
    };
    let (without_space, with_space) = (
        ids_with(&with(false), TokenizerClass::AsWritten, "the cat"),
        ids_with(&with(true), TokenizerClass::AsWritten, "the cat"),
    );
    assert_ne!(without_space, with_space);
    for prefix in [false, true] {
        let json = with(prefix);
        let ids = |add_prefix_space| ids_with(&json, TokenizerClass::Roberta { add_prefix_space }, "the cat");
        assert_eq!((&ids(false), &ids(true)), (&without_space, &with_space), "{prefix}");
        let mut normalised = json.clone();
        normalised["normalizer"] = json!({ "type": "Lowercase" });
        let class = TokenizerClass::Roberta { add_prefix_space: prefix };
        let [one, other] = [&normalised, &json].map(|json| ids_with(json, class, "THE cat"));
        assert_eq!(one, other, "the class has no normaliser");
    }
}

/// Regression: folders with this class were read as tokenizer.json is written: their own normaliser and template, and each of two spaces a token.
/// The ids are those of transformers, by `reference/make_tokenizer_classes.py`.
#[test]
fn an_xlm_roberta_tokenizer_has_the_parts_of_its_class() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/tokenizer_classes.json")).unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let bytes = case["tokenizer"].to_string();
        let add_prefix_space = case["settings"]["add_prefix_space"].as_bool().unwrap_or(true);
        let class = TokenizerClass::XlmRoberta { add_prefix_space };
        let encoder = TextEncoder::from_tokenizer_json_with(bytes.as_bytes(), class).unwrap();
        let as_written = read(&case["tokenizer"]).unwrap();
        let mut others = 0;
        for pair in case["encoded"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(pair[1].clone()).unwrap();
            let text = pair[0].as_str().unwrap();
            assert_eq!(encoder.encode(text).unwrap(), ids, "{}: {text:?}", case["name"]);
            others += usize::from(as_written.encode(text).unwrap() != ids);
        }
        assert!(others > 1, "{}: what the class makes is not seen", case["name"]);
    }
    // No such class has a vocabulary of another kind.
    for case in self::cases().iter().filter(|case| case["name"] != "XLMRoberta") {
        let ids = |class| ids_with(&case["tokenizer"], class, "the  cat\tSat");
        let class = TokenizerClass::XlmRoberta { add_prefix_space: true };
        assert_eq!(ids(class), ids(TokenizerClass::AsWritten), "{}", case["name"]);
    }
}

/// Regression: a text of 8 MiB took gigabytes and half a minute before it was refused for its length, whoever waited for it.
#[test]
fn a_long_text_is_refused_before_it_is_encoded() {
    let going = AtomicBool::new(false);
    for case in cases() {
        let encoder = read(&case["tokenizer"]).unwrap();
        let long = "the cat sat on a mat, and read. ".repeat(16 << 10);
        let at_most = |text: &str, most: usize| encoder.encode_at_most(text, most, &going).unwrap();
        assert_eq!(at_most(&long, 512), LimitedEncoding::BeyondLimit, "{}", case["name"]);
        // Of a short text the caller counts the tokens.
        let short = "the cat sat";
        assert_eq!(at_most(short, 1), LimitedEncoding::Ids(encoder.encode(short).unwrap()));
        let over = AtomicBool::new(true);
        assert_eq!(encoder.encode_at_most(&long, 512, &over).unwrap(), LimitedEncoding::Cancelled);
    }
    // A long text with few tokens is not refused.
    let encoder = read(&cases()[0]["tokenizer"]).unwrap();
    let blank = format!("the {} cat {}", "\u{3000}".repeat(100 << 10), "x".repeat(100 << 10));
    let expected = encoder.encode(&blank).unwrap();
    assert!(expected.len() < 8);
    assert_eq!(encoder.encode_at_most(&blank, 8, &going).unwrap(), LimitedEncoding::Ids(expected));
}

/// Regression: a word without end has few tokens, so that a text of one was encoded whole, whatever it took: 8 MiB of base64.
#[test]
fn a_long_text_of_few_tokens_is_refused_before_it_is_encoded() {
    let encoder = read(&cases()[0]["tokenizer"]).unwrap();
    let going = AtomicBool::new(false);
    let word = "x".repeat((2 << 20) + 1);
    let error = encoder.encode_at_most(&word, 512, &going).unwrap_err().to_string();
    assert!(error.contains("it has 2097153 bytes") && error.contains("at most 2097152"), "{error}");
    // What certainly has more tokens is said to have them.
    let long = "the cat sat on a mat ".repeat(200 << 10);
    assert_eq!(encoder.encode_at_most(&long, 512, &going).unwrap(), LimitedEncoding::BeyondLimit);
}

/// A decoder's tokenizer knows no post-processor: what stands around a text is said by its file.
#[test]
fn a_decoders_tokenizer_puts_the_ends_of_a_sequence_around_a_text() {
    let plain = byte_level_vocabulary("qwen2");
    let (eos, bos) = (plain.eos.unwrap(), 0);
    let with_bos = GgufVocabulary { bos: Some(bos), add_bos: Some(true), ..plain.clone() };
    let text = "the cat <|im_end|>";
    let going = AtomicBool::new(false);
    for (vocabulary, first) in [(plain.clone(), None), (with_bos, Some(bos))] {
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        let inside = tokenizer.encode(text, Specials::Parse).unwrap();
        assert_eq!(inside.last(), Some(&eos));
        for last in [None, Some(eos)] {
            let encoder = TextEncoder::of_decoder(tokenizer.clone(), last.is_some()).unwrap();
            let expected: Vec<u32> = first.into_iter().chain(inside.clone()).chain(last).collect();
            assert_eq!(encoder.encode(text).unwrap(), expected);
            assert_eq!(encoder.encode_at_most(text, 1, &going).unwrap(), LimitedEncoding::Ids(expected));
            assert_eq!(encoder.vocabulary_size(), tokenizer.vocabulary_size());
            let long = "the cat sat on a mat ".repeat(16 << 10);
            assert_eq!(encoder.encode_at_most(&long, 512, &going).unwrap(), LimitedEncoding::BeyondLimit);
        }
    }
    let endless = GgufVocabulary { eos: None, ..plain };
    let error =
        TextEncoder::of_decoder(Tokenizer::from_gguf(endless).unwrap(), true).unwrap_err().to_string();
    assert!(error.contains("no token is named"), "{error}");
}
