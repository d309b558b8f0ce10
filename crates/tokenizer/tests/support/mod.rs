//! The tokenizers that the tests use, built from the small vocabularies in `data`.

pub(crate) mod generated_text;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zhenjin_tokenizer::{GgufVocabulary, Tokenizer, TokenizerConfig};

const BYTE_LEVEL: &str = include_str!("../data/byte_level_vocabulary.json");
const SENTENCE_PIECE: &str = include_str!("../data/sentence_piece_vocabulary.json");
const CONTROL: &[&str] = &["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"];
const USER_DEFINED: &[&str] = &["<think>", "</think>"];
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Pre-tokenisers of the byte-level vocabulary that have golden ids.
pub(crate) const PRE_TOKENIZERS: &[&str] = &["gpt-2", "smollm", "llama-bpe", "qwen2"];

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The byte-level vocabulary as a GGUF file would hold it.
pub(crate) fn byte_level_vocabulary(pre: &str) -> GgufVocabulary {
    let vocabulary: Value = serde_json::from_str(BYTE_LEVEL).unwrap();
    let mut tokens = texts(&vocabulary["tokens"]);
    let mut token_types = vec![1; tokens.len()];
    for (added, kind) in [(USER_DEFINED, 4), (CONTROL, 3)] {
        tokens.extend(added.iter().map(|token| (*token).to_owned()));
        token_types.extend(vec![kind; added.len()]);
    }
    let eos = tokens.iter().position(|token| token == "<|im_end|>").map(|id| id as u32);
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        tokens,
        token_types,
        merges: texts(&vocabulary["merges"]),
        eos,
        add_bos: Some(false),
        ..GgufVocabulary::default()
    }
}

/// The SentencePiece vocabulary as a GGUF file would hold it.
pub(crate) fn sentence_piece_vocabulary() -> GgufVocabulary {
    let vocabulary: Value = serde_json::from_str(SENTENCE_PIECE).unwrap();
    let mut tokens = texts(&vocabulary["tokens"]);
    let mut token_types = vec![2, 3, 3];
    token_types.extend([6; 256]);
    token_types.resize(tokens.len(), 1);
    tokens.extend(USER_DEFINED.iter().map(|token| (*token).to_owned()));
    token_types.extend(vec![4; USER_DEFINED.len()]);
    let scores = (0..tokens.len()).map(|id| -(id.saturating_sub(258) as f32)).collect();
    GgufVocabulary {
        model: "llama".to_owned(),
        tokens,
        token_types,
        scores,
        bos: Some(1),
        eos: Some(2),
        unknown: Some(0),
        ..GgufVocabulary::default()
    }
}

/// The byte-level vocabulary as a `tokenizer.json` would hold it.
pub(crate) fn byte_level_json(pre: &str) -> Value {
    let vocabulary: Value = serde_json::from_str(BYTE_LEVEL).unwrap();
    let tokens = texts(&vocabulary["tokens"]);
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added: Vec<Value> = USER_DEFINED
        .iter()
        .map(|token| (token, false))
        .chain(CONTROL.iter().map(|token| (token, true)))
        .enumerate()
        .map(|(index, (token, special))| {
            json!({ "id": tokens.len() + index, "content": token, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false })
        })
        .collect();
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex });
    let split = |words: String| json!({ "type": "Split", "pattern": { "Regex": words }, "behavior": "Isolated", "invert": false });
    let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "pretokenizers": steps });
    let pre_tokenizer = match pre {
        "gpt-2" => byte_level(true),
        "smollm" => sequence(vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)]),
        "llama-bpe" => sequence(vec![split(LLAMA3.to_owned()), byte_level(false)]),
        _ => sequence(vec![split(LLAMA3.replace("{1,3}", "")), byte_level(false)]),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": if pre == "qwen2" { json!({ "type": "NFC" }) } else { Value::Null },
        "pre_tokenizer": pre_tokenizer,
        "post_processor": byte_level(true),
        "decoder": byte_level(true),
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                   "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                   "ignore_merges": pre == "llama-bpe", "vocab": vocab, "merges": vocabulary["merges"] },
    })
}

/// The SentencePiece vocabulary as a `tokenizer.json` would hold it, in the form that Llama 2 and Mistral use.
pub(crate) fn sentence_piece_json() -> Value {
    let vocabulary: Value = serde_json::from_str(SENTENCE_PIECE).unwrap();
    let tokens = texts(&vocabulary["tokens"]);
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added: Vec<Value> = ["<unk>", "<s>", "</s>"]
        .iter()
        .enumerate()
        .map(|(id, token)| (id, *token, true))
        .chain(USER_DEFINED.iter().enumerate().map(|(index, token)| (tokens.len() + index, *token, false)))
        .map(|(id, token, special)| {
            json!({ "id": id, "content": token, "special": special, "normalized": false,
                    "single_word": false, "lstrip": false, "rstrip": false })
        })
        .collect();
    json!({
        "version": "1.0", "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" }, { "type": "Replace", "pattern": { "String": " " }, "content": "▁" } ] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [], "special_tokens": {} },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" },
            { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": { "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                   "merges": vocabulary["merges"] },
    })
}

pub(crate) fn from_json(json: &Value) -> Tokenizer {
    let config = TokenizerConfig::default();
    Tokenizer::from_tokenizer_json(json.to_string().as_bytes(), Some(&config)).unwrap()
}

/// All tokenizers of the tests with their names.
pub(crate) fn all_tokenizers() -> Vec<(String, Tokenizer)> {
    let mut all = vec![
        ("sentence-piece (GGUF)".to_owned(), Tokenizer::from_gguf(sentence_piece_vocabulary()).unwrap()),
        ("sentence-piece (JSON)".to_owned(), from_json(&sentence_piece_json())),
    ];
    for pre in PRE_TOKENIZERS {
        all.push((format!("{pre} (GGUF)"), Tokenizer::from_gguf(byte_level_vocabulary(pre)).unwrap()));
        all.push((format!("{pre} (JSON)"), from_json(&byte_level_json(pre))));
    }
    all
}

/// SHA-256 in hexadecimal of the ids as little-endian words.
pub(crate) fn digest_of_ids(ids: &[u32]) -> String {
    digest_of(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
