//! Opening a model: its file, its tokenizer, its chat template, and how its makers want it sampled.
//! This file does not know where the model came from, nor how weights are loaded.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zhenjin_files::{FileError, Mapping, check_no_lfs_pointer, read_at_most};
use zhenjin_model::embedder::EmbedderFile;
use zhenjin_model::encoder::EncoderFile;
use zhenjin_model::gguf::{Gguf, Value as GgufValue};
use zhenjin_model::{Fingerprint, FormatError, HuggingFaceFiles, ModelFile};
use zhenjin_tokenizer::{
    ChatTemplate, GgufVocabulary, MAX_TEMPLATE_BYTES, MAX_TOKENIZER_JSON_BYTES, Tokenizer, TokenizerConfig,
};

use crate::embedder::is_embedder;
use crate::{OpenError, store};

pub(crate) const MAX_GENERATION_CONFIG_BYTES: usize = 1 << 20;

/// A model with everything that text needs.
#[derive(Debug)]
pub struct OpenedModel {
    /// Headers and memory-mapped weights.
    pub file: ModelFile,
    /// Text ↔ token ids.
    pub tokenizer: Tokenizer,
    /// How conversations are written; base models have none.
    pub template: Option<ChatTemplate>,
    /// The makers' advice for sampling.
    pub generation_defaults: GenerationDefaults,
    /// What is doubtful about the files although they can be used, as sentences.
    pub warnings: Vec<String>,
}

impl OpenedModel {
    /// A digest of everything in the model's files on which its tokenizer and its template depend; weights are not among it.
    ///
    /// # Errors
    /// [`OpenError`] for a file that cannot be read.
    pub fn text_fingerprint(&self) -> Result<Fingerprint, OpenError> {
        const LABEL: &str = "texts of a model";
        if let Some(gguf) = self.file.gguf() {
            let kinds: Vec<String> = gguf.spelled().map(|(_, kind, _)| format!("{kind:?}")).collect();
            let parts = gguf.spelled().zip(&kinds);
            return Ok(Fingerprint::of_parts(
                LABEL,
                parts.flat_map(|((key, _, value), kind)| [key.as_bytes(), kind.as_bytes(), value]),
            ));
        }
        let mut parts = Vec::new();
        if let Some(files) = self.file.hugging_face() {
            let tool_use = tool_use_template(files)?.unwrap_or_default();
            parts.push(("tool_use.jinja".to_owned(), tool_use.into_bytes()));
            let optional =
                [&files.tokenizer, &files.tokenizer_config, &files.chat_template, &files.generation_config];
            for path in optional.into_iter().flatten().chain([&files.config]) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                parts.push((name, read(path, MAX_TOKENIZER_JSON_BYTES)?));
            }
        }
        let parts = parts.iter().flat_map(|(name, bytes)| [name.as_bytes(), &bytes[..]]);
        Ok(Fingerprint::of_parts(LABEL, parts))
    }
}

/// The makers' advice for sampling; what they do not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationDefaults {
    /// Sampling temperature; 0 means greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Number of candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Least probability relative to the best candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Factor against repetition; 1 means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

impl GenerationDefaults {
    /// Refuses values outside the ranges of sampling.
    ///
    /// # Errors
    /// The field and what it must be.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, value, range) in [
            ("temperature", self.temperature, Range::FromZero),
            ("top_p", self.top_p, Range::ZeroToOne),
            ("min_p", self.min_p, Range::ZeroToOne),
            ("repetition_penalty", self.repetition_penalty, Range::AboveZero),
        ] {
            if let Some(value) = value {
                range.check(f64::from(value)).map_err(|problem| format!("{name} {problem}"))?;
            }
        }
        Ok(())
    }

    /// These, and `others` where these say nothing.
    fn or(self, others: &GenerationDefaults) -> GenerationDefaults {
        GenerationDefaults {
            temperature: self.temperature.or(others.temperature),
            top_p: self.top_p.or(others.top_p),
            top_k: self.top_k.or(others.top_k),
            min_p: self.min_p.or(others.min_p),
            repetition_penalty: self.repetition_penalty.or(others.repetition_penalty),
        }
    }
}

/// The values that a field of advice may have: those that the engine's `Sampling` takes. An answer that follows other advice would be refused as if
/// whoever asks had made the mistake.
#[derive(Debug, Clone, Copy)]
enum Range {
    FromZero,
    ZeroToOne,
    AboveZero,
}

impl Range {
    /// The value as it is computed with.
    fn check(self, value: f64) -> Result<f32, String> {
        let rounded = value as f32;
        let (is_inside, range) = match self {
            Range::FromZero => (rounded >= 0.0, "a finite number of at least 0"),
            Range::ZeroToOne => ((0.0..=1.0).contains(&rounded), "a number from 0 to 1"),
            Range::AboveZero => (rounded > 0.0, "a finite number above 0"),
        };
        match is_inside && rounded.is_finite() {
            true => Ok(rounded),
            false => Err(format!("must be {range}, found {value:?}")),
        }
    }
}

/// How many candidates are kept, as makers write it: -1 keeps all, like 0.
fn candidates(top_k: i64) -> Result<u32, String> {
    match u32::try_from(top_k) {
        Ok(top_k) => Ok(top_k),
        Err(_) if top_k == -1 => Ok(0),
        Err(_) => Err(format!("must be a whole number from 0 to {}, or -1 for all, found {top_k}", u32::MAX)),
    }
}

/// Opens a GGUF file or a Hugging Face folder. What its makers' files leave open about sampling comes from the catalogue, for a
/// model that was pulled by its name there.
///
/// # Errors
/// [`OpenError`] names the file and what is wrong with it.
pub fn open(path: &Path) -> Result<OpenedModel, OpenError> {
    open_file(path, ModelFile::open(path)?)
}

/// Opens a model as [`open`], to write it anew. One that makes vectors of texts needs no head for that, and its tensors may have the names that those
/// of a model without a head have; a head that its files hold is left aside.
///
/// # Errors
/// As [`open`] and [`crate::open_embedder`].
pub fn open_to_export(path: &Path) -> Result<OpenedModel, OpenError> {
    // Encoders are refused where models that write are opened.
    if !is_embedder(path) || EncoderFile::is_at(path) {
        return open(path);
    }
    match EmbedderFile::open(path)? {
        EmbedderFile::Decoder(file) => open_file(path, *file),
        EmbedderFile::Encoder(_) => open(path),
    }
}

fn open_file(path: &Path, file: ModelFile) -> Result<OpenedModel, OpenError> {
    let mut opened = with_text_parts(path, file)?;
    if let Some(advice) = store::sampling_advice(path) {
        opened.generation_defaults = opened.generation_defaults.or(&advice);
    }
    Ok(opened)
}

fn with_text_parts(path: &Path, file: ModelFile) -> Result<OpenedModel, OpenError> {
    if let Some(files) = file.hugging_face() {
        let (tokenizer, template, generation_defaults) = open_folder(files)?;
        let warnings = Vec::new();
        return Ok(OpenedModel { file, tokenizer, template, generation_defaults, warnings });
    }
    let Some(gguf) = file.gguf() else {
        return Err(OpenError::Missing { folder: path.to_owned(), file: "tokenizer.json" });
    };
    let (tokenizer, template, generation_defaults) = open_gguf(path, gguf)?;
    let warnings = warning_of(gguf).into_iter().collect();
    Ok(OpenedModel { file, tokenizer, template, generation_defaults, warnings })
}

/// What a file leaves open about how texts are split into words before they become tokens.
pub(crate) fn warning_of(gguf: &Gguf<Mapping>) -> Option<String> {
    let byte_level = matches!(gguf.string("tokenizer.ggml.model"), Ok(Some("gpt2")));
    let reason = match gguf.string("tokenizer.ggml.pre") {
        Ok(None) => "has no tokenizer.ggml.pre",
        Ok(Some("default")) => "says `default` in tokenizer.ggml.pre",
        _ => return None,
    };
    byte_level.then(|| {
        format!(
            "the file {reason}: texts are split by llama.cpp's default rule, which may not be the one that the model was trained with; a newer conversion of the model is better"
        )
    })
}

/// The tokenizer of a Hugging Face folder, whatever its weights are; `None` where it has no `tokenizer.json`.
///
/// # Errors
/// [`OpenError`] names the file and what is wrong with it.
pub fn tokenizer_of_folder(folder: &Path) -> Result<Option<Tokenizer>, OpenError> {
    let files = HuggingFaceFiles::in_folder(folder);
    files.tokenizer.is_some().then(|| open_folder(&files).map(|(tokenizer, ..)| tokenizer)).transpose()
}

type TextParts = (Tokenizer, Option<ChatTemplate>, GenerationDefaults);

fn open_gguf(path: &Path, gguf: &Gguf<Mapping>) -> Result<TextParts, OpenError> {
    let metadata_error = |error| OpenError::Metadata { path: path.to_owned(), error };
    let vocabulary = read_vocabulary(gguf).map_err(metadata_error)?;
    let tokenizer = Tokenizer::from_gguf(vocabulary)
        .map_err(|error| OpenError::Tokenizer { path: path.to_owned(), error })?;
    let source = gguf.string("tokenizer.chat_template").map_err(metadata_error)?;
    let tool_use = gguf.string("tokenizer.chat_template.tool_use").map_err(metadata_error)?;
    let template = source
        .map(|source| compile(source, tool_use, &tokenizer))
        .transpose()
        .map_err(|error| OpenError::Template { path: path.to_owned(), error })?;
    let generation_defaults = sampling_of_gguf(gguf).map_err(metadata_error)?;
    Ok((tokenizer, template, generation_defaults))
}

pub(crate) fn read_vocabulary(gguf: &Gguf<Mapping>) -> Result<GgufVocabulary, FormatError> {
    let text = |key: &str| gguf.string(key).map(|value| value.map(str::to_owned));
    let texts = |key: &str| -> Result<Vec<String>, FormatError> {
        Ok(gguf.strings(key)?.map(|values| values.map(str::to_owned).collect()).unwrap_or_default())
    };
    let id = |key: &str| token_id(gguf, key);
    // One id, or a list of them.
    let ids = |key: &str| -> Result<Vec<u32>, FormatError> {
        match gguf.get(key) {
            Some(GgufValue::Array(_)) => {
                let values = gguf.integers(key)?.unwrap_or_default();
                values
                    .into_iter()
                    .map(|value| u32::try_from(value).map_err(|_| out_of_range(key, value)))
                    .collect()
            }
            _ => Ok(id(key)?.into_iter().collect()),
        }
    };
    let eos = ids("tokenizer.ggml.eos_token_id")?;
    let end_of_turn = ids("tokenizer.ggml.eot_token_id")?;
    let end_of_message = ids("tokenizer.ggml.eom_token_id")?;
    let mut more_ends = ids("tokenizer.ggml.eos_token_ids")?;
    more_ends.extend([&eos, &end_of_turn, &end_of_message].into_iter().flat_map(|ids| ids.iter().skip(1)));
    Ok(GgufVocabulary {
        model: text("tokenizer.ggml.model")?.unwrap_or_default(),
        pre: text("tokenizer.ggml.pre")?,
        tokens: texts("tokenizer.ggml.tokens")?,
        token_types: token_types(gguf)?,
        merges: texts("tokenizer.ggml.merges")?,
        scores: gguf.floats("tokenizer.ggml.scores")?.unwrap_or_default(),
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: eos.first().copied(),
        end_of_turn: end_of_turn.first().copied(),
        end_of_message: end_of_message.first().copied(),
        more_ends,
        unknown: id("tokenizer.ggml.unknown_token_id")?,
        add_bos: gguf.bool("tokenizer.ggml.add_bos_token")?,
        add_space_prefix: gguf.bool("tokenizer.ggml.add_space_prefix")?,
    })
}

/// A token's id.
pub(crate) fn token_id(gguf: &Gguf<Mapping>, key: &str) -> Result<Option<u32>, FormatError> {
    let value = gguf.unsigned(key)?;
    value.map(|value| u32::try_from(value).map_err(|_| out_of_range(key, value))).transpose()
}

/// The types of all tokens.
pub(crate) fn token_types(gguf: &Gguf<Mapping>) -> Result<Vec<i32>, FormatError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let types = gguf.integers(KEY)?.unwrap_or_default().into_iter();
    types.map(|kind| i32::try_from(kind).map_err(|_| out_of_range(KEY, kind))).collect()
}

pub(crate) fn out_of_range(key: &str, value: impl std::fmt::Display) -> FormatError {
    FormatError::new(format!("metadata `{key}`"), format!("{value} is out of range"))
}

/// `general.sampling.*`, which newer converters write from `generation_config.json`.
fn sampling_of_gguf(gguf: &Gguf<Mapping>) -> Result<GenerationDefaults, FormatError> {
    const TOP_K: &str = "general.sampling.top_k";
    let fault = |key: &str| {
        let place = format!("metadata `{key}`");
        move |problem: String| FormatError::new(place, problem)
    };
    let number = |name: &str, range: Range| -> Result<Option<f32>, FormatError> {
        let key = format!("general.sampling.{name}");
        gguf.float(&key)?.map(|value| range.check(value)).transpose().map_err(fault(&key))
    };
    let top_k = match gguf.get(TOP_K) {
        None => None,
        Some(GgufValue::Signed(top_k)) => Some(candidates(top_k).map_err(fault(TOP_K))?),
        Some(GgufValue::Unsigned(top_k)) => {
            Some(u32::try_from(top_k).map_err(|_| out_of_range(TOP_K, top_k))?)
        }
        Some(_) => return Err(fault(TOP_K)("must be a whole number".to_owned())),
    };
    Ok(GenerationDefaults {
        temperature: number("temp", Range::FromZero)?,
        top_p: number("top_p", Range::ZeroToOne)?,
        top_k,
        min_p: number("min_p", Range::ZeroToOne)?,
        repetition_penalty: number("penalty_repeat", Range::AboveZero)?,
    })
}

fn open_folder(files: &HuggingFaceFiles) -> Result<TextParts, OpenError> {
    let Some(tokenizer_path) = &files.tokenizer else {
        return Err(OpenError::Missing { folder: files.folder.clone(), file: "tokenizer.json" });
    };
    let config = read_config(files)?;
    let tokenizer =
        Tokenizer::from_tokenizer_json(&read(tokenizer_path, MAX_TOKENIZER_JSON_BYTES)?, Some(&config))
            .map_err(|error| OpenError::Tokenizer { path: tokenizer_path.clone(), error })?;
    let (generation_defaults, mut end_of_turn) = match &files.generation_config {
        Some(path) => read_generation_config(path)?,
        None => (GenerationDefaults::default(), Vec::new()),
    };
    // The two files often name different ids, and a model stops at any of them.
    end_of_turn.extend(
        ends_of_turn(&read_json(&files.config)?)
            .map_err(|reason| OpenError::GenerationConfig { path: files.config.clone(), reason })?,
    );
    let tokenizer = tokenizer.with_end_of_turn(end_of_turn).map_err(|error| OpenError::Tokenizer {
        path: files.generation_config.clone().unwrap_or_else(|| files.folder.clone()),
        error,
    })?;
    let template = folder_template(files, &config, &tokenizer)?;
    Ok((tokenizer, template, generation_defaults))
}

/// What `tokenizer_config.json` says; nothing where there is none.
pub(crate) fn read_config(files: &HuggingFaceFiles) -> Result<TokenizerConfig, OpenError> {
    let Some(path) = &files.tokenizer_config else { return Ok(TokenizerConfig::default()) };
    let bytes = read(path, MAX_TOKENIZER_JSON_BYTES)?;
    TokenizerConfig::from_json(&bytes).map_err(|error| OpenError::Tokenizer { path: path.clone(), error })
}

/// The template for requests with tools, a file that belongs to a `chat_template.jinja`.
pub(crate) fn tool_use_template(files: &HuggingFaceFiles) -> Result<Option<String>, OpenError> {
    let path = files.folder.join("additional_chat_templates").join("tool_use.jinja");
    if files.chat_template.is_none() || !path.is_file() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&read(&path, MAX_TEMPLATE_BYTES)?).into_owned()))
}

/// A template file wins over the one in `tokenizer_config.json`, as in Hugging Face's library.
fn folder_template(
    files: &HuggingFaceFiles,
    config: &TokenizerConfig,
    tokenizer: &Tokenizer,
) -> Result<Option<ChatTemplate>, OpenError> {
    let template_error = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Template { path, error }
    };
    if let Some(path) = &files.chat_template {
        let source = String::from_utf8_lossy(&read(path, MAX_TEMPLATE_BYTES)?).into_owned();
        let tool_use = tool_use_template(files)?;
        return compile(&source, tool_use.as_deref(), tokenizer).map(Some).map_err(template_error(path));
    }
    let path = files.tokenizer_config.as_deref().unwrap_or(&files.folder);
    ChatTemplate::from_config(config, tokenizer).map_err(template_error(path))
}

fn compile(
    source: &str,
    tool_use: Option<&str>,
    tokenizer: &Tokenizer,
) -> Result<ChatTemplate, zhenjin_tokenizer::TemplateError> {
    let template = ChatTemplate::new(source, tokenizer)?;
    match tool_use {
        Some(tool_use) => template.with_tool_use(tool_use),
        None => Ok(template),
    }
}

/// Reads `generation_config.json`: advice for sampling, and the ids that end a turn.
fn read_generation_config(path: &Path) -> Result<(GenerationDefaults, Vec<u32>), OpenError> {
    let bad = |reason: String| OpenError::GenerationConfig { path: path.to_owned(), reason };
    let config = read_json(path)?;
    let number = |name: &str, range: Range| -> Result<Option<f32>, OpenError> {
        if config[name].is_null() {
            return Ok(None);
        }
        let value = config[name].as_f64().ok_or_else(|| bad(format!("{name} is not a number")))?;
        range.check(value).map(Some).map_err(|problem| bad(format!("{name} {problem}")))
    };
    let end_of_turn = ends_of_turn(&config).map_err(bad)?;
    let top_k = match &config["top_k"] {
        Value::Null => None,
        value => {
            let top_k = value.as_i64().ok_or_else(|| "is not a count".to_owned()).and_then(candidates);
            Some(top_k.map_err(|problem| bad(format!("top_k {problem}")))?)
        }
    };
    let greedy = config["do_sample"] == Value::Bool(false);
    let defaults = GenerationDefaults {
        temperature: if greedy { Some(0.0) } else { number("temperature", Range::FromZero)? },
        top_p: number("top_p", Range::ZeroToOne)?,
        top_k,
        min_p: number("min_p", Range::ZeroToOne)?,
        repetition_penalty: number("repetition_penalty", Range::AboveZero)?,
    };
    Ok((defaults, end_of_turn))
}

fn read_json(path: &Path) -> Result<Value, OpenError> {
    serde_json::from_slice(&read(path, MAX_GENERATION_CONFIG_BYTES)?)
        .map_err(|error| OpenError::GenerationConfig { path: path.to_owned(), reason: error.to_string() })
}

/// `eos_token_id`, one id or a list, of `config.json` or `generation_config.json`.
fn ends_of_turn(config: &Value) -> Result<Vec<u32>, String> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| "eos_token_id is neither an id nor a list of ids".to_owned())
    };
    match &config["eos_token_id"] {
        Value::Null => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        single => Ok(vec![id(single)?]),
    }
}

pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, OpenError> {
    let bytes = read_at_most(path, limit).map_err(|error| {
        let error = match error {
            FileError::Io { source, .. } => source,
            other => std::io::Error::other(other.problem()),
        };
        OpenError::Read { path: PathBuf::from(path), error }
    })?;
    check_no_lfs_pointer(path, &bytes).map_err(OpenError::LfsPointer)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ends_of_turn_are_one_id_or_a_list() {
        assert_eq!(ends_of_turn(&json!({})), Ok(Vec::new()));
        assert_eq!(ends_of_turn(&json!({ "eos_token_id": null })), Ok(Vec::new()));
        assert_eq!(ends_of_turn(&json!({ "eos_token_id": 2 })), Ok(vec![2]));
        assert_eq!(ends_of_turn(&json!({ "eos_token_id": [1, 106] })), Ok(vec![1, 106]));
        for bad in [json!("</s>"), json!(-1), json!([1, null]), json!(1.5)] {
            assert!(ends_of_turn(&json!({ "eos_token_id": bad })).is_err());
        }
    }

    #[test]
    fn a_tokenizer_that_is_a_git_lfs_pointer_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\nsize 7\n").unwrap();
        let error = read(&path, 1000).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: it is a Git LFS pointer"), "{error}");
    }

    /// Regression: the length was looked at before the file was read, so that a file that grew between the two was read whole.
    #[test]
    fn of_a_file_that_is_too_long_no_more_is_read_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json: it has more than 4 bytes"), "{error}");
        let error = read(folder.path(), 4).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
