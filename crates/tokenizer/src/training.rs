//! Making a new tokenizer from text: byte-level byte-pair encoding, trained by the `tokenizers` library.
//!
//! The pre-tokeniser is the one that GGUF files call `smollm`: every digit is a token of its own and no normaliser changes the
//! text, so that decoding gives back every byte. The control tokens of the ChatML format are always there, before all others.

use ahash::AHashSet;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

use crate::vocabulary::MAX_VOCABULARY_SIZE;
use crate::{TokenizerError, byte_level, byte_level_encoder};

/// The control tokens that every trained tokenizer has, in order of their ids: the end of a text, and the two of ChatML.
pub const CHAT_TOKENS: &[&str] = &["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// ChatML: each message between its two control tokens, with its role in the first line.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
    '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A pair of tokens must occur so often to become one.
const MIN_FREQUENCY: u64 = 2;

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerTraining {
    /// Tokens of the vocabulary, all control tokens and the 256 bytes among them.
    pub vocabulary_size: usize,
    /// More control tokens, after [`CHAT_TOKENS`].
    pub special_tokens: Vec<String>,
}

/// A tokenizer's two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedTokenizer {
    /// `tokenizer.json`, for [`crate::Tokenizer::from_tokenizer_json`].
    pub tokenizer_json: Vec<u8>,
    /// `tokenizer_config.json`, with a ChatML template.
    pub tokenizer_config_json: Vec<u8>,
    /// Tokens of the vocabulary: fewer than asked for when the text has too few pairs that occur twice.
    pub vocabulary_size: usize,
}

/// Trains a tokenizer on texts, in which control tokens have no meaning.
///
/// The result depends on the texts, not on their order or on threads.
///
/// # Errors
/// [`TokenizerError::Vocabulary`] when the vocabulary cannot be as large or as small, or a control token is empty or given
/// twice; [`TokenizerError::Part`] with the library's words.
pub fn train_byte_level<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    training: &TokenizerTraining,
) -> Result<TrainedTokenizer, TokenizerError> {
    let special_tokens = special_tokens(training)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(training.vocabulary_size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .special_tokens(special_tokens.iter().map(|token| AddedToken::from(token.as_str(), true)).collect())
        .initial_alphabet((0..=255).map(byte_level::char_of_byte).collect())
        .build();
    let failed = |error: tokenizers::Error| TokenizerError::Part {
        part: "training of the byte-pair encoder",
        reason: error.to_string(),
    };
    let bytes: Vec<char> = (0..=255).map(byte_level::char_of_byte).collect();
    trainer
        .feed(texts, |text| {
            let mut words = Vec::new();
            byte_level_encoder::for_each_trained_word(text, |word| {
                words.push(word.bytes().map(|byte| bytes[usize::from(byte)]).collect());
            });
            Ok(words)
        })
        .map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    let model = serde_json::to_value(&model).map_err(|error| failed(error.into()))?;
    let vocabulary_size = model["vocab"].as_object().map_or(0, serde_json::Map::len);
    Ok(TrainedTokenizer {
        tokenizer_json: pretty(&tokenizer_json(model, &special_tokens)),
        tokenizer_config_json: pretty(&tokenizer_config_json(&special_tokens)),
        vocabulary_size,
    })
}

fn special_tokens(training: &TokenizerTraining) -> Result<Vec<String>, TokenizerError> {
    let all: Vec<String> =
        CHAT_TOKENS.iter().map(|token| (*token).to_owned()).chain(training.special_tokens.clone()).collect();
    let mut seen = AHashSet::new();
    for token in &all {
        if token.trim().is_empty() {
            return Err(TokenizerError::Vocabulary("a control token needs a text".to_owned()));
        }
        if !seen.insert(token) {
            return Err(TokenizerError::Vocabulary(format!("the control token `{token}` is there twice")));
        }
        if token.chars().count() == 1 {
            return Err(TokenizerError::Vocabulary(format!(
                "the control token `{token}` is a single character, which ordinary text needs"
            )));
        }
    }
    let (least, size) = (all.len() + 256, training.vocabulary_size);
    if size < least || size > MAX_VOCABULARY_SIZE {
        return Err(TokenizerError::Vocabulary(format!(
            "a vocabulary of {size} is impossible: with 256 bytes and {} control tokens it has from {least} to \
             {MAX_VOCABULARY_SIZE} tokens",
            all.len()
        )));
    }
    Ok(all)
}

fn tokenizer_json(model: Value, special_tokens: &[String]) -> Value {
    let added: Vec<Value> = special_tokens
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let byte_level =
        || json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Digits", "individual_digits": true },
            byte_level(),
        ] },
        "post_processor": null,
        "decoder": byte_level(),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": in_order_of_ids(&model["vocab"]), "merges": model["merges"],
        },
    })
}

/// The library writes the vocabulary in an order that it does not promise.
fn in_order_of_ids(vocabulary: &Value) -> Value {
    let mut entries: Vec<(&String, &Value)> = vocabulary.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(_, id)| id.as_u64());
    Value::Object(entries.into_iter().map(|(token, id)| (token.clone(), id.clone())).collect())
}

fn tokenizer_config_json(special_tokens: &[String]) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": null,
        "eos_token": CHAT_TOKENS[0],
        "pad_token": CHAT_TOKENS[0],
        "unk_token": null,
        "add_bos_token": false,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "additional_special_tokens": &special_tokens[1..],
        "chat_template": CHAT_TEMPLATE,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
