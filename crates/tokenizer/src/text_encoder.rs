//! Tokenizers of encoders: a whole text to ids with the special tokens around it ([CLS] … [SEP]), by the `tokenizers` library: WordPiece,
//! unigram and byte-pair vocabularies with their normalisers and post-processors. Ids are never turned back into text here.
//!
//! As in that library, a text that holds the name of a special token gets that token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

use crate::TokenizerError;
use crate::growth::{check_growth, check_templates};
use crate::hugging_face::{
    MAX_TOKENIZER_JSON_BYTES, NORMALISERS, PRE_TOKENISERS, check_size, check_steps, json_error,
};
use crate::tokenizer::check_whitespace_runs;

const MODELS: [&str; 3] = ["WordPiece", "Unigram", "BPE"];
const POST_PROCESSORS: [&str; 5] =
    ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"];
/// Letters of a word that is looked up; the time that this takes grows with their square. Published files have 100.
const MAX_WORD_CHARACTERS: usize = 1000;
/// What stands before or behind the pieces of a word; it is copied for every piece that is tried.
const MAX_AFFIX_BYTES: usize = 16;
const FILE: &str = "tokenizer.json";

/// Text → the token ids that an encoder reads. Cloning is cheap.
#[derive(Clone)]
pub struct TextEncoder {
    library: Arc<tokenizers::Tokenizer>,
}

/// What a `tokenizer_config.json` says of a BERT tokenizer's letters. As in transformers, it goes before what `tokenizer.json` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BertSettings {
    /// `do_lower_case`
    pub lowercase: Option<bool>,
    /// `strip_accents`
    pub strip_accents: Option<bool>,
    /// `tokenize_chinese_chars`
    pub handle_chinese_chars: Option<bool>,
}

impl std::fmt::Debug for TextEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TextEncoder")
            .field("vocabulary_size", &self.vocabulary_size())
            .finish_non_exhaustive()
    }
}

impl TextEncoder {
    /// Builds it from the bytes of a `tokenizer.json`. What that says about cutting and filling up texts is left aside: texts are neither
    /// cut nor filled up.
    ///
    /// # Errors
    /// [`TokenizerError::Json`], [`TokenizerError::Unsupported`], [`TokenizerError::TooLarge`]; [`TokenizerError::Vocabulary`] for whatever
    /// else the library does not take.
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<TextEncoder, TokenizerError> {
        TextEncoder::from_tokenizer_json_with(bytes, BertSettings::default())
    }

    /// [`TextEncoder::from_tokenizer_json`], with `settings` in the place of those of its normaliser, if that is BERT's.
    ///
    /// # Errors
    /// As [`TextEncoder::from_tokenizer_json`].
    pub fn from_tokenizer_json_with(
        bytes: &[u8],
        settings: BertSettings,
    ) -> Result<TextEncoder, TokenizerError> {
        check_size(FILE, bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        let mut json: Value = serde_json::from_slice(bytes).map_err(|error| json_error(FILE, error))?;
        check(&json)?;
        let changed = settings.change(&mut json).then(|| json.to_string());
        drop(json);
        let bytes = changed.as_deref().map_or(bytes, str::as_bytes);
        // The library panics on some contradictions.
        let read = catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
        let broken = |reason: String| TokenizerError::Vocabulary(reason);
        let mut library = read
            .map_err(|_| broken("its parts contradict each other".to_owned()))?
            .map_err(|error| broken(error.to_string()))?;
        library.with_padding(None);
        library.with_truncation(None).map_err(|error| broken(error.to_string()))?;
        Ok(TextEncoder { library: Arc::new(library) })
    }

    /// The ids of a text, special tokens included.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        check_whitespace_runs(text)?;
        let encode = AssertUnwindSafe(|| self.library.encode_fast(text, true));
        let encoding = catch_unwind(encode)
            .map_err(|_| TokenizerError::Encode("the tokenizer's parts contradict each other".to_owned()))?
            .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.library.get_vocab_size(true)
    }
}

impl BertSettings {
    /// Whether they change what a `tokenizer.json` says.
    fn change(self, json: &mut Value) -> bool {
        let is_bert = |part: &Value| part["type"] == "BertNormalizer";
        let Some(normaliser) = json.get_mut("normalizer").filter(|part| is_bert(part)) else {
            return false;
        };
        let mut is_changed = false;
        for (name, said) in [
            ("lowercase", self.lowercase),
            ("strip_accents", self.strip_accents),
            ("handle_chinese_chars", self.handle_chinese_chars),
        ] {
            if let Some(said) = said
                && normaliser[name] != said
            {
                normaliser[name] = Value::Bool(said);
                is_changed = true;
            }
        }
        is_changed
    }
}

/// Refuses parts that are not known, and those that could blow a text up.
fn check(json: &Value) -> Result<(), TokenizerError> {
    let parts: [(&'static str, &str, Vec<&str>); 3] = [
        ("normaliser", "normalizer", [NORMALISERS, &["Precompiled"]].concat()),
        ("pre-tokeniser", "pre_tokenizer", PRE_TOKENISERS.to_vec()),
        ("post-processor", "post_processor", POST_PROCESSORS.to_vec()),
    ];
    for (part, key, supported) in parts {
        if !json[key].is_null() {
            check_steps(part, &json[key], &supported, &mut 0)?;
        }
    }
    // Nothing here turns tokens into text: the decoder is never run.
    check_growth(&[&json["normalizer"], &json["pre_tokenizer"]])?;
    check_templates(&json["post_processor"])?;
    let longest = json["model"]["max_input_chars_per_word"].as_u64().unwrap_or(0);
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    check_size("max_input_chars_per_word", longest, MAX_WORD_CHARACTERS)?;
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        let length = json["model"][key].as_str().map_or(0, str::len);
        check_size("the mark of a word's pieces", length, MAX_AFFIX_BYTES)?;
    }
    let kind = json["model"]["type"].as_str().unwrap_or("without a type");
    if !MODELS.contains(&kind) {
        return Err(TokenizerError::Unsupported {
            part: "tokenizer model",
            name: kind.to_owned(),
            supported: MODELS.join(", "),
        });
    }
    match json["model"]["dropout"].as_f64() {
        Some(dropout) if dropout != 0.0 => Err(TokenizerError::Unsupported {
            part: "dropout",
            name: dropout.to_string(),
            supported: "0, because ids must not be random".to_owned(),
        }),
        _ => Ok(()),
    }
}
