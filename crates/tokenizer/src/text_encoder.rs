//! Tokenizers of models that make vectors: a whole text to ids with the special tokens around it ([CLS] … [SEP]), by the `tokenizers` library:
//! WordPiece, unigram and byte-pair vocabularies with their normalisers and post-processors; or by a decoder's [`Tokenizer`]. Ids are never turned
//! back into text here.
//!
//! As in that library, a text that holds the name of a special token gets that token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::growth::{check_growth, check_templates};
use crate::hugging_face::{
    MAX_TOKENIZER_JSON_BYTES, NORMALISERS, PRE_TOKENISERS, check_size, check_steps, json_error,
};
use crate::tokenizer::check_whitespace_runs;
use crate::{Specials, Tokenizer, TokenizerError};

const MODELS: [&str; 3] = ["WordPiece", "Unigram", "BPE"];
const POST_PROCESSORS: [&str; 5] =
    ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"];
/// Letters of a word that is looked up; the time that this takes grows with their square. Published files have 100.
const MAX_WORD_CHARACTERS: usize = 1000;
/// What stands before or behind the pieces of a word; it is copied for every piece that is tried.
const MAX_AFFIX_BYTES: usize = 16;
/// Texts beyond this length are counted in pieces first: the library takes some four hundred bytes of memory for each byte of a text.
const WHOLE_BYTES: usize = 256 << 10;
/// The most bytes of a text that is encoded: what is longer and has few tokens is a word without end.
const MOST_BYTES: usize = 2 << 20;
/// Bytes of a piece in which a long text is counted.
const PIECE_BYTES: usize = 64 << 10;
/// Tokens that a piece may have by itself beyond those that it has in the whole text: of a word that was cut in two.
const TOKENS_OF_CUTS: usize = 256;
const FILE: &str = "tokenizer.json";
/// The keys of its parts.
const NORMALISER: &str = "normalizer";
const PRE_TOKENISER: &str = "pre_tokenizer";
const POST_PROCESSOR: &str = "post_processor";

/// Text → the token ids that a model reads which makes vectors. Cloning is cheap.
#[derive(Clone)]
pub struct TextEncoder {
    parts: Parts,
}

#[derive(Clone)]
enum Parts {
    /// A `tokenizer.json`, which says itself what stands around a text.
    Library(Arc<tokenizers::Tokenizer>),
    /// The tokenizer of a decoder, and what stands before and behind a text.
    Decoder { tokenizer: Tokenizer, first: Option<u32>, last: Option<u32> },
}

/// What became of a text whose tokens are limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitedEncoding {
    /// The ids of all of it, special tokens included. They may still be more than the limit.
    Ids(Vec<u32>),
    /// It has more tokens than the limit; how many was not counted to the end.
    BeyondLimit,
    /// Nobody waits for the ids any more.
    Cancelled,
}

/// The class of transformers that a folder names for its tokenizer. Some classes take only the vocabulary and what stands around a text from
/// `tokenizer.json`, and make the rest themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenizerClass {
    /// A class that takes `tokenizer.json` as it is written.
    #[default]
    AsWritten,
    /// `BertTokenizer` and its other names: of a WordPiece vocabulary the normaliser and the pre-tokeniser are its own.
    Bert(BertSettings),
    /// `RobertaTokenizer` and its other names: byte pairs have no normaliser, and its own pre-tokeniser.
    Roberta {
        /// `add_prefix_space`, false where it is left out: a space is put before a text that has none.
        add_prefix_space: bool,
    },
    /// `XLMRobertaTokenizer`: a unigram vocabulary, of whose normaliser only the character map is the file's. What stands around a text is its own
    /// as well.
    XlmRoberta {
        /// `add_prefix_space`, true where it is left out: every word begins with a mark for the space before it, not only those behind a space.
        add_prefix_space: bool,
    },
}

/// What a `tokenizer_config.json` says of a BERT tokenizer's letters; the default is what the class does where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertSettings {
    /// `do_lower_case`
    pub lowercase: bool,
    /// `strip_accents`; `None`: together with capitals.
    pub strip_accents: Option<bool>,
    /// `tokenize_chinese_chars`
    pub handle_chinese_chars: bool,
}

impl Default for BertSettings {
    fn default() -> BertSettings {
        BertSettings { lowercase: true, strip_accents: None, handle_chinese_chars: true }
    }
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
        TextEncoder::from_tokenizer_json_with(bytes, TokenizerClass::AsWritten)
    }

    /// [`TextEncoder::from_tokenizer_json`], with what `class` makes itself in the place of what the file says.
    ///
    /// # Errors
    /// As [`TextEncoder::from_tokenizer_json`].
    pub fn from_tokenizer_json_with(
        bytes: &[u8],
        class: TokenizerClass,
    ) -> Result<TextEncoder, TokenizerError> {
        check_size(FILE, bytes.len(), MAX_TOKENIZER_JSON_BYTES)?;
        let mut json: Value = serde_json::from_slice(bytes).map_err(|error| json_error(FILE, error))?;
        check(&json)?;
        let changed = class.change(&mut json).then(|| json.to_string());
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
        Ok(TextEncoder { parts: Parts::Library(Arc::new(library)) })
    }

    /// The tokenizer of a decoder: before a text stands the beginning of the sequence where `tokenizer` says so, behind it the end of the sequence
    /// where `adds_eos` does.
    ///
    /// # Errors
    /// [`TokenizerError::Vocabulary`] where there is no token for the end.
    pub fn of_decoder(tokenizer: Tokenizer, adds_eos: bool) -> Result<TextEncoder, TokenizerError> {
        let first = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let last = tokenizer.eos().filter(|_| adds_eos);
        if adds_eos && last.is_none() {
            let problem = "texts are to end with the end of the sequence, for which no token is named";
            return Err(TokenizerError::Vocabulary(problem.to_owned()));
        }
        Ok(TextEncoder { parts: Parts::Decoder { tokenizer, first, last } })
    }

    /// The ids of a text, special tokens included.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the vocabulary cannot express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        check_whitespace_runs(text)?;
        self.ids(text, true)
    }

    /// The ids of a text of which `most` are of use, special tokens included. A long text, for which the library would take gigabytes, is first
    /// counted in pieces until it is certain that it has more; between them the work ends once `is_cancelled` is true.
    ///
    /// # Errors
    /// As [`TextEncoder::encode`]; [`TokenizerError::Encode`] too for a text of more than 2 MiB whose beginning has not more tokens.
    pub fn encode_at_most(
        &self,
        text: &str,
        most: usize,
        is_cancelled: &AtomicBool,
    ) -> Result<LimitedEncoding, TokenizerError> {
        check_whitespace_runs(text)?;
        if text.len() > WHOLE_BYTES {
            let (mut tokens, mut limit) = (0, most);
            for piece in pieces(&text[..text.floor_char_boundary(MOST_BYTES)], PIECE_BYTES) {
                if is_cancelled.load(Ordering::Relaxed) {
                    return Ok(LimitedEncoding::Cancelled);
                }
                tokens += self.ids(piece, false)?.len();
                limit = limit.saturating_add(TOKENS_OF_CUTS);
                if tokens > limit {
                    return Ok(LimitedEncoding::BeyondLimit);
                }
            }
        }
        if text.len() > MOST_BYTES {
            let bytes = text.len();
            let reason = format!(
                "it has {bytes} bytes, and at most {MOST_BYTES} (2 MiB) are read as one text; divide it"
            );
            return Err(TokenizerError::Encode(reason));
        }
        self.ids(text, true).map(LimitedEncoding::Ids)
    }

    /// The ids of a text, with those that stand around it or without.
    fn ids(&self, text: &str, with_special_tokens: bool) -> Result<Vec<u32>, TokenizerError> {
        match &self.parts {
            Parts::Library(library) => ids_by_library(library, text, with_special_tokens),
            Parts::Decoder { tokenizer, .. } if !with_special_tokens => {
                tokenizer.encode(text, Specials::Parse)
            }
            Parts::Decoder { tokenizer, first, last } => {
                let ids = tokenizer.encode(text, Specials::Parse)?;
                Ok(first.iter().copied().chain(ids).chain(*last).collect())
            }
        }
    }

    /// Number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        match &self.parts {
            Parts::Library(library) => library.get_vocab_size(true),
            Parts::Decoder { tokenizer, .. } => tokenizer.vocabulary_size(),
        }
    }
}

fn ids_by_library(
    library: &tokenizers::Tokenizer,
    text: &str,
    with_special_tokens: bool,
) -> Result<Vec<u32>, TokenizerError> {
    let encode = AssertUnwindSafe(|| library.encode_fast(text, with_special_tokens));
    let encoding = catch_unwind(encode)
        .map_err(|_| TokenizerError::Encode("the tokenizer's parts contradict each other".to_owned()))?
        .map_err(|error| TokenizerError::Encode(error.to_string()))?;
    Ok(encoding.get_ids().to_vec())
}

impl TokenizerClass {
    /// Puts the parts that the class makes itself into a `tokenizer.json` that was checked; false where nothing changes.
    fn change(self, json: &mut Value) -> bool {
        let kind = match self {
            TokenizerClass::AsWritten => return false,
            TokenizerClass::Bert(_) => "WordPiece",
            TokenizerClass::Roberta { .. } => "BPE",
            TokenizerClass::XlmRoberta { .. } => "Unigram",
        };
        // No class can have another kind of model.
        if json["model"]["type"] != kind {
            return false;
        }
        let mut is_changed = false;
        for (object, key, value) in self.parts(json) {
            if let Some(object) = json.pointer_mut(object)
                && object[key] != value
            {
                object[key] = value;
                is_changed = true;
            }
        }
        is_changed
    }

    /// The parts that the class makes itself of a file with its kind of model: the object that they belong to, their key in it, and what they are.
    fn parts(self, json: &Value) -> Vec<(&'static str, &'static str, Value)> {
        match self {
            TokenizerClass::AsWritten => Vec::new(),
            TokenizerClass::Bert(settings) => {
                let normaliser = json!({
                    "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": settings.handle_chinese_chars,
                    "strip_accents": settings.strip_accents, "lowercase": settings.lowercase,
                });
                vec![("", NORMALISER, normaliser), ("", PRE_TOKENISER, json!({ "type": "BertPreTokenizer" }))]
            }
            TokenizerClass::Roberta { add_prefix_space } => {
                let pre_tokeniser = json!({
                    "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true,
                });
                vec![("", NORMALISER, Value::Null), ("", PRE_TOKENISER, pre_tokeniser)]
            }
            TokenizerClass::XlmRoberta { add_prefix_space } => xlm_roberta_parts(json, add_prefix_space),
        }
    }
}

/// What `XLMRobertaTokenizer` makes of a file: the first character map of the normaliser alone, white space before the marks of words, the fourth
/// token for what is unknown, and `<s>` … `</s>` around a text, as far as the file has these tokens.
fn xlm_roberta_parts(json: &Value, add_prefix_space: bool) -> Vec<(&'static str, &'static str, Value)> {
    let scheme = if add_prefix_space { "always" } else { "never" };
    let pre_tokeniser = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "WhitespaceSplit" },
        { "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true },
    ] });
    let mut parts = vec![
        ("", NORMALISER, character_map(&json[NORMALISER])),
        ("", PRE_TOKENISER, pre_tokeniser),
        ("/model", "unk_id", json!(3)),
        ("/model", "byte_fallback", json!(false)),
    ];
    if let (Some(first), Some(last)) = (id_of(json, "<s>"), id_of(json, "</s>")) {
        let piece = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
        let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
        let token = |name: &str, id: u64| json!({ "id": name, "ids": [id], "tokens": [name] });
        let template = json!({
            "type": "TemplateProcessing",
            "single": [piece("<s>"), text("A"), piece("</s>")],
            "pair": [piece("<s>"), text("A"), piece("</s>"), piece("</s>"), text("B"), piece("</s>")],
            "special_tokens": { "<s>": token("<s>", first), "</s>": token("</s>", last) },
        });
        parts.push(("", POST_PROCESSOR, template));
    }
    parts
}

/// The first step of a normaliser that is a character map; `Null` if none is.
fn character_map(normaliser: &Value) -> Value {
    let steps = match normaliser["type"].as_str() {
        Some("Sequence") => normaliser["normalizers"].as_array().map(Vec::as_slice).unwrap_or_default(),
        _ => std::slice::from_ref(normaliser),
    };
    steps.iter().find(|step| step["type"] == "Precompiled").cloned().unwrap_or(Value::Null)
}

/// The id of a token in a unigram vocabulary, or else of an added token.
fn id_of(json: &Value, token: &str) -> Option<u64> {
    let vocabulary = json["model"]["vocab"].as_array()?;
    let place = vocabulary.iter().position(|piece| piece[0] == token);
    let added = || json["added_tokens"].as_array()?.iter().find(|added| added["content"] == token);
    place.map(|place| place as u64).or_else(|| added()?["id"].as_u64())
}

/// A text in pieces of at most `most` bytes, of which there are at least four, each cut behind white space where it has some.
fn pieces(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.floor_char_boundary(most);
        let behind_space = rest[..end].trim_end_matches(|character: char| !character.is_whitespace()).len();
        let cut = if end == rest.len() || behind_space == 0 { end } else { behind_space };
        let (piece, behind) = rest.split_at(cut);
        rest = behind;
        Some(piece)
    })
}

/// Refuses parts that are not known, and those that could blow a text up.
fn check(json: &Value) -> Result<(), TokenizerError> {
    let parts: [(&'static str, &str, Vec<&str>); 3] = [
        ("normaliser", NORMALISER, [NORMALISERS, &["Precompiled"]].concat()),
        ("pre-tokeniser", PRE_TOKENISER, PRE_TOKENISERS.to_vec()),
        ("post-processor", POST_PROCESSOR, POST_PROCESSORS.to_vec()),
    ];
    for (part, key, supported) in parts {
        if !json[key].is_null() {
            check_steps(part, &json[key], &supported, &mut 0)?;
        }
    }
    // Nothing here turns tokens into text: the decoder is never run.
    check_growth(&[&json[NORMALISER], &json[PRE_TOKENISER]])?;
    check_templates(&json[POST_PROCESSOR])?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_behind_white_space_and_are_the_text() {
        let cut = |text: &'static str| pieces(text, 8).collect::<Vec<&str>>();
        assert_eq!(cut("ab cd ef gh"), ["ab cd ", "ef gh"]);
        assert_eq!(cut("abcdefgh"), ["abcdefgh"]);
        assert_eq!(cut("abcdefghi j"), ["abcdefgh", "i j"]);
        assert_eq!(cut("a中\u{3000}中文文文"), ["a中\u{3000}", "中文", "文文"]);
        assert_eq!(cut(""), [""; 0]);
    }
}
