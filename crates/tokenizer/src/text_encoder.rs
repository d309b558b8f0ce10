//! Tokenizers of encoders: a whole text to ids with the special tokens around it ([CLS] … [SEP]), by the `tokenizers` library: WordPiece,
//! unigram and byte-pair vocabularies with their normalisers and post-processors. Ids are never turned back into text here.
//!
//! As in that library, a text that holds the name of a special token gets that token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

use crate::TokenizerError;
use crate::hugging_face::{
    MAX_TOKENIZER_JSON_BYTES, NORMALISERS, PRE_TOKENISERS, check_size, check_steps, json_error,
};
use crate::tokenizer::check_whitespace_runs;

const MODELS: [&str; 3] = ["WordPiece", "Unigram", "BPE"];
const POST_PROCESSORS: [&str; 5] =
    ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"];
const FILE: &str = "tokenizer.json";

/// Text → the token ids that an encoder reads. Cloning is cheap.
#[derive(Clone)]
pub struct TextEncoder {
    library: Arc<tokenizers::Tokenizer>,
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
        check_size(FILE, bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        check(&serde_json::from_slice(bytes).map_err(|error| json_error(FILE, error))?)?;
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
