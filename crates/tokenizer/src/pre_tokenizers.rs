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

/// Up to three digits together, as Llama 3 was trained.
pub(crate) const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Every digit alone, as Qwen2, Qwen2.5 and Qwen3 were trained.
pub(crate) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Capitals begin a word, an ending behind an apostrophe belongs to it: GPT-4o, Llama 4, Phi-4-mini.
const GPT4O_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same without endings, every digit alone: Mistral's newer models.
const TEKKEN_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The values of `tokenizer.ggml.pre` that can be rebuilt.
pub const KNOWN_PRE_TOKENIZERS: &[&str] = &[
    "default",
    "gpt-2",
    "phi-2",
    "mellum",
    "trillion",
    "a.x-4.0",
    "olmo",
    "mpt",
    "smollm",
    "starcoder",
    "refact",
    "codeshell",
    "minerva-7b",
    "command-r",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "falcon3",
    "midm-2.0",
    "smaug-bpe",
    "dbrx",
    "chatglm-bpe",
    "glm4",
    "qwen2",
    "megrez",
    "deepseek-r1-qwen",
    "stablelm2",
    "gpt-4o",
    "llama4",
    "tekken",
    "deepseek-coder",
];

/// What a name stands for.
pub(crate) struct PreTokenisation {
    pub(crate) pre_tokeniser: PreTokenizerWrapper,
    pub(crate) normaliser: Option<NormalizerWrapper>,
    /// Whole words that are tokens skip the merges.
    pub(crate) ignore_merges: bool,
    /// Whether plain text begins with the beginning-of-sequence token when the file does not say.
    pub(crate) adds_bos: bool,
}

impl PreTokenisation {
    fn of(pre_tokeniser: PreTokenizerWrapper) -> Self {
        Self { pre_tokeniser, normaliser: None, ignore_merges: false, adds_bos: false }
    }

    fn with_nfc(self) -> Self {
        Self { normaliser: Some(NormalizerWrapper::NFC(NFC)), ..self }
    }

    fn ignoring_merges(self) -> Self {
        Self { ignore_merges: true, ..self }
    }

    fn adding_bos(self, adds_bos: bool) -> Self {
        Self { adds_bos, ..self }
    }
}

/// Looks a name up.
///
/// # Errors
/// [`TokenizerError::Unsupported`] names an unknown pre-tokeniser: guessing would split words differently from training.
pub(crate) fn by_name(name: &str) -> Result<PreTokenisation, TokenizerError> {
    let found = match name {
        "default" => PreTokenisation::of(default_words()?),
        "gpt-2" | "phi-2" | "mellum" | "trillion" | "a.x-4.0" => PreTokenisation::of(gpt2_words()),
        // GPT-NeoX's tokenizer has a normal form.
        "olmo" | "mpt" => PreTokenisation::of(gpt2_words()).with_nfc(),
        // `refact` stands in Granite's files.
        "smollm" | "starcoder" | "refact" | "codeshell" | "minerva-7b" => {
            PreTokenisation::of(digits_then_gpt2_words())
        }
        "command-r" => PreTokenisation::of(digits_then_gpt2_words()).with_nfc(),
        "llama-bpe" | "llama-v3" | "llama3" | "falcon3" | "midm-2.0" => {
            PreTokenisation::of(split_then_bytes(&[LLAMA3_WORDS])?).ignoring_merges().adding_bos(true)
        }
        // SmolLM3's files: its own tokenizer takes whole words before merges too.
        "smaug-bpe" => PreTokenisation::of(split_then_bytes(&[LLAMA3_WORDS])?).ignoring_merges(),
        // `dbrx` stands in files of OLMo 2 and Phi-4. `granite-docling` is left out: llama.cpp splits GPT-2's words for it, and the models' own
        // tokenizer others.
        "dbrx" | "chatglm-bpe" | "glm4" => PreTokenisation::of(split_then_bytes(&[LLAMA3_WORDS])?),
        "qwen2" | "megrez" | "deepseek-r1-qwen" => PreTokenisation::of(split_then_bytes(&[QWEN2_WORDS])?)
            .with_nfc()
            .adding_bos(name == "deepseek-r1-qwen"),
        // The same words as Qwen's, without a normal form.
        "stablelm2" => PreTokenisation::of(split_then_bytes(&[QWEN2_WORDS])?),
        "gpt-4o" | "llama4" => PreTokenisation::of(split_then_bytes(&[GPT4O_WORDS])?),
        "tekken" => {
            PreTokenisation::of(split_then_bytes(&[TEKKEN_WORDS])?).ignoring_merges().adding_bos(true)
        }
        "deepseek-coder" => PreTokenisation::of(split_then_bytes(&[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ])?),
        other => {
            return Err(TokenizerError::Unsupported {
                part: "pre-tokeniser (tokenizer.ggml.pre)",
                name: other.to_owned(),
                supported: KNOWN_PRE_TOKENIZERS.join(", "),
            });
        }
    };
    Ok(found)
}

/// GPT-2's words.
fn gpt2_words() -> PreTokenizerWrapper {
    ByteLevel::new(false, true, true).into()
}

/// Every digit alone, GPT-2's words between them.
fn digits_then_gpt2_words() -> PreTokenizerWrapper {
    Sequence::new(vec![Digits::new(true).into(), gpt2_words()]).into()
}

/// llama.cpp's rule for files that name no pre-tokeniser.
fn default_words() -> Result<PreTokenizerWrapper, TokenizerError> {
    split_then_bytes(&[
        r"[\p{P}\$\+<=>\^~\|]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
        r"\p{N}+",
        r"[0-9][0-9][0-9]",
    ])
}

/// Expressions, each of which splits what those before left, and then bytes.
fn split_then_bytes(expressions: &[&str]) -> Result<PreTokenizerWrapper, TokenizerError> {
    let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(expressions.len() + 1);
    for expression in expressions {
        let pattern = SplitPattern::Regex((*expression).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| TokenizerError::Part { part: "pre-tokeniser", reason: error.to_string() })?;
        steps.push(split.into());
    }
    steps.push(ByteLevel::new(false, true, false).into());
    Ok(Sequence::new(steps).into())
}

/// Whether an expression matches every character of every text: then nothing lies between its matches, and keeping them apart is the same as
/// taking away what lies between them, as tokenizers that came from tiktoken say it.
pub(crate) fn matches_everything(expression: &str) -> bool {
    [LLAMA3_WORDS, QWEN2_WORDS, GPT4O_WORDS, TEKKEN_WORDS].contains(&expression)
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
const NAMES_TO_WRITE: [&str; 11] = [
    "gpt-2",
    "olmo",
    "smollm",
    "command-r",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "stablelm2",
    "gpt-4o",
    "tekken",
    "deepseek-coder",
];

/// What splits a text, without what only moves offsets, and one way to say what can be said in two.
fn description(
    pre_tokeniser: Option<&PreTokenizerWrapper>,
    normaliser: Option<&NormalizerWrapper>,
    ignore_merges: bool,
) -> Value {
    let mut pre_tokeniser = json!(pre_tokeniser);
    simplify(&mut pre_tokeniser);
    json!({ "pre_tokenizer": pre_tokeniser, "normalizer": normaliser, "ignore_merges": ignore_merges })
}

fn simplify(step: &mut Value) {
    if let Some(step) = step.as_object_mut() {
        step.remove("trim_offsets");
        let is_split = step.get("type").is_some_and(|kind| kind == "Split");
        let expression = step.get("pattern").and_then(|pattern| pattern["Regex"].as_str());
        let takes_between = step.get("invert").is_some_and(|invert| *invert == true)
            && step.get("behavior").is_some_and(|behavior| behavior == "Removed");
        if is_split && takes_between && expression.is_some_and(matches_everything) {
            step.insert("behavior".to_owned(), json!("Isolated"));
            step.insert("invert".to_owned(), json!(false));
        }
    }
    let steps = step.get_mut("pretokenizers").and_then(Value::as_array_mut);
    steps.into_iter().flatten().for_each(simplify);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_and_every_written_name_stands_for_itself() {
        for name in KNOWN_PRE_TOKENIZERS {
            assert!(by_name(name).is_ok(), "{name}");
        }
        for name in NAMES_TO_WRITE {
            let known = by_name(name).unwrap();
            let found =
                name_of(Some(&known.pre_tokeniser), known.normaliser.as_ref(), known.ignore_merges).unwrap();
            assert_eq!(found, name);
        }
        // Regression: what `granite-docling` means was guessed, otherwise than llama.cpp does.
        for name in ["hunyuan", "granite-docling"] {
            let error = by_name(name).err().unwrap().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("dbrx"), "{error}");
        }
    }
}
