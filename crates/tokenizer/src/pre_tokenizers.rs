//! The pre-tokenisers that GGUF files name (`tokenizer.ggml.pre`), as parts of the `tokenizers` library.
//! The expressions are those of the models' own `tokenizer.json`. This file does not know vocabularies.

use serde_json::{Value, json};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::TokenizerError;

/// The values of `tokenizer.ggml.pre` that can be rebuilt.
pub const KNOWN_PRE_TOKENIZERS: &[&str] = &[
    "default",
    "gpt-2",
    "smollm",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "smaug-bpe",
    "qwen2",
    "deepseek-r1-qwen",
    "stablelm2",
];

/// Up to three digits together, as Llama 3 was trained.
pub(crate) const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Every digit alone, as Qwen2, Qwen2.5 and Qwen3 were trained.
pub(crate) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a name stands for.
pub(crate) struct PreTokenisation {
    pub(crate) pre_tokeniser: PreTokenizerWrapper,
    pub(crate) normaliser: Option<NormalizerWrapper>,
    /// Whole words that are tokens skip the merges.
    pub(crate) ignore_merges: bool,
    /// Whether plain text begins with the beginning-of-sequence token when the file does not say.
    pub(crate) adds_bos: bool,
}

/// Looks a name up.
///
/// # Errors
/// [`TokenizerError::Unsupported`] names an unknown pre-tokeniser: guessing would split words differently from training.
pub(crate) fn by_name(name: &str) -> Result<PreTokenisation, TokenizerError> {
    match name {
        "default" => Ok(PreTokenisation {
            pre_tokeniser: default_words()?,
            normaliser: None,
            ignore_merges: false,
            adds_bos: false,
        }),
        "gpt-2" => Ok(PreTokenisation {
            pre_tokeniser: ByteLevel::new(false, true, true).into(),
            normaliser: None,
            ignore_merges: false,
            adds_bos: false,
        }),
        "smollm" => Ok(PreTokenisation {
            pre_tokeniser: Sequence::new(vec![
                Digits::new(true).into(),
                ByteLevel::new(false, true, true).into(),
            ])
            .into(),
            normaliser: None,
            ignore_merges: false,
            adds_bos: false,
        }),
        "llama-bpe" | "llama-v3" | "llama3" => Ok(PreTokenisation {
            pre_tokeniser: split_then_bytes(LLAMA3_WORDS)?,
            normaliser: None,
            ignore_merges: true,
            adds_bos: true,
        }),
        // SmolLM3's files: its own tokenizer takes whole words before merges too.
        "smaug-bpe" => Ok(PreTokenisation {
            pre_tokeniser: split_then_bytes(LLAMA3_WORDS)?,
            normaliser: None,
            ignore_merges: true,
            adds_bos: false,
        }),
        "qwen2" | "deepseek-r1-qwen" => Ok(PreTokenisation {
            pre_tokeniser: split_then_bytes(QWEN2_WORDS)?,
            normaliser: Some(NormalizerWrapper::NFC(NFC)),
            ignore_merges: false,
            adds_bos: name == "deepseek-r1-qwen",
        }),
        // The same words as Qwen's, without a normal form.
        "stablelm2" => Ok(PreTokenisation {
            pre_tokeniser: split_then_bytes(QWEN2_WORDS)?,
            normaliser: None,
            ignore_merges: false,
            adds_bos: false,
        }),
        other => Err(TokenizerError::Unsupported {
            part: "pre-tokeniser (tokenizer.ggml.pre)",
            name: other.to_owned(),
            supported: KNOWN_PRE_TOKENIZERS.join(", "),
        }),
    }
}

/// llama.cpp's rule for files that name no pre-tokeniser: four expressions, each of which splits what those before left.
fn default_words() -> Result<PreTokenizerWrapper, TokenizerError> {
    const WORDS: [&str; 4] = [
        r"[\p{P}\$\+<=>\^~\|]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"\p{N}+",
        r"[0-9][0-9][0-9]",
    ];
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for words in WORDS {
        steps.push(split(words)?.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    Ok(Sequence::new(steps).into())
}

fn split(words: &str) -> Result<Split, TokenizerError> {
    Split::new(SplitPattern::Regex(words.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| TokenizerError::Part { part: "pre-tokeniser", reason: error.to_string() })
}

fn split_then_bytes(words: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    Ok(Sequence::new(vec![split(words)?.into(), ByteLevel::new(false, true, false).into()]).into())
}

/// The name under which these parts of a `tokenizer.json` are known.
///
/// # Errors
/// [`TokenizerError::Unsupported`] when no name stands for them: another program would split words differently.
pub(crate) fn name_of(
    pre_tokeniser: Option<&PreTokenizerWrapper>,
    normaliser: Option<&NormalizerWrapper>,
    ignore_merges: bool,
) -> Result<&'static str, TokenizerError> {
    let wanted = description(pre_tokeniser, normaliser, ignore_merges);
    for name in NAMES_TO_WRITE {
        let known = by_name(name)?;
        let known = description(Some(&known.pre_tokeniser), known.normaliser.as_ref(), known.ignore_merges);
        if known == wanted {
            return Ok(name);
        }
    }
    Err(TokenizerError::Unsupported {
        part: "pre-tokeniser and normaliser together, in a GGUF file,",
        name: in_short(&wanted),
        supported: NAMES_TO_WRITE.join(", "),
    })
}

/// The most characters of a description in an error message; expressions alone have hundreds.
const MAX_DESCRIPTION: usize = 80;

/// The kinds of the parts, with their expressions, cut where that is long.
fn in_short(description: &Value) -> String {
    let mut parts = Vec::new();
    add_kinds(&description["normalizer"], &mut parts);
    if description["ignore_merges"] == true {
        parts.push("ignore_merges".to_owned());
    }
    add_kinds(&description["pre_tokenizer"], &mut parts);
    let text = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    match text.char_indices().nth(MAX_DESCRIPTION) {
        None => text,
        Some(_) => text.chars().take(MAX_DESCRIPTION - 1).chain(['…']).collect(),
    }
}

fn add_kinds(part: &Value, parts: &mut Vec<String>) {
    for list in ["normalizers", "pretokenizers"] {
        if let Some(steps) = part[list].as_array() {
            steps.iter().for_each(|step| add_kinds(step, parts));
            return;
        }
    }
    let Some(kind) = part["type"].as_str() else { return };
    let pattern = &part["pattern"];
    parts.push(match pattern["Regex"].as_str().or(pattern["String"].as_str()) {
        Some(pattern) => format!("{kind} {pattern}"),
        None => kind.to_owned(),
    });
}

/// One name for each way of splitting.
const NAMES_TO_WRITE: [&str; 5] = ["gpt-2", "smollm", "llama-bpe", "qwen2", "stablelm2"];

/// What splits a text, without what only moves offsets.
fn description(
    pre_tokeniser: Option<&PreTokenizerWrapper>,
    normaliser: Option<&NormalizerWrapper>,
    ignore_merges: bool,
) -> Value {
    let mut pre_tokeniser = json!(pre_tokeniser);
    forget_offsets(&mut pre_tokeniser);
    json!({ "pre_tokenizer": pre_tokeniser, "normalizer": normaliser, "ignore_merges": ignore_merges })
}

fn forget_offsets(step: &mut Value) {
    if let Some(step) = step.as_object_mut() {
        step.remove("trim_offsets");
    }
    let steps = step.get_mut("pretokenizers").and_then(Value::as_array_mut);
    steps.into_iter().flatten().for_each(forget_offsets);
}
