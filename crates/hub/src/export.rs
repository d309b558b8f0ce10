//! Writing an opened model anew: as a Hugging Face folder or as a GGUF file, in floats or quantised, tokenizer, chat
//! template and sampling advice included. What the other format cannot say is refused by name.

mod embedder;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zhenjin_model::write::{
    FileRows, FloatType, FolderFile, MetadataValue, Quantisation, WrittenFile, WrittenGguf, write_gguf,
    write_hugging_face,
};
use zhenjin_model::{AdapterMerge, HuggingFaceFiles, MergedRows, ModelError, TensorSource};
use zhenjin_tokenizer::{GgufVocabulary, MAX_TEMPLATE_BYTES, MAX_TOKENIZER_JSON_BYTES, TokenizerError};

use crate::open::{MAX_GENERATION_CONFIG_BYTES, read, read_config, read_vocabulary, tool_use_template};
use crate::{OpenError, OpenedModel};

/// Why a model cannot be written anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The source.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The weights, the settings or the disk.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The source's weights have been rounded already.
    #[error(
        "{}: tensor `{tensor}` is quantised ({dtype}); a model is written anew from its weights in F32, F16 or BF16 only, \
         because rounding twice would lose more than its name says",
        file.display()
    )]
    Quantised {
        /// The source.
        file: PathBuf,
        /// The first such tensor.
        tensor: String,
        /// Its type.
        dtype: &'static str,
    },
    /// The tokenizer cannot be said in the other format.
    #[error("{}: {error}", path.display())]
    Tokenizer {
        /// Where it was read from.
        path: PathBuf,
        /// What cannot be said.
        error: TokenizerError,
    },
}

/// Writes `model` as a folder that `transformers` opens; with `adapter`, merged into the weights, which may be quantised then: the sum is
/// rounded once.
///
/// # Errors
/// [`ExportError`] names the file or tensor and what to do.
pub fn export_hugging_face(
    model: &OpenedModel,
    adapter: Option<&AdapterMerge>,
    folder: &Path,
    dtype: FloatType,
) -> Result<WrittenFile, ExportError> {
    require_floats_without(model, adapter)?;
    let mut files = match model.file.hugging_face() {
        Some(files) => copied_files(model, files)?,
        None => files_of_gguf(model)?,
    };
    embedder::add_files(model, &mut files)?;
    // Where these are left out, transformers takes those of the class, which may be beyond the vocabulary.
    let settings = [
        ("bos_token_id", json!(model.tokenizer.bos())),
        ("eos_token_id", json!(ends_of_turn(model))),
        ("pad_token_id", json!(model.file.padding_token())),
    ];
    let config = model.file.config();
    let rows = FileRows(&model.file);
    Ok(match adapter {
        Some(adapter) => {
            let rows = MergedRows::new(&rows, adapter);
            write_hugging_face(folder, &adapter.config(config), &rows, dtype, &settings, &files)?
        }
        None => write_hugging_face(folder, config, &rows, dtype, &settings, &files)?,
    })
}

/// Writes `model` as a GGUF file of these types; with `adapter` as [`export_hugging_face`].
///
/// # Errors
/// [`ExportError`] names the file or tensor and what to do.
pub fn export_gguf(
    model: &OpenedModel,
    adapter: Option<&AdapterMerge>,
    file: &Path,
    quantisation: Quantisation,
) -> Result<WrittenGguf, ExportError> {
    require_floats_without(model, adapter)?;
    let metadata = match (model.file.hugging_face(), model.file.gguf()) {
        (Some(files), _) => {
            let mut metadata = metadata_of_folder(model, files)?;
            for (key, value) in embedder::metadata_of_folder(model, &files.folder)? {
                metadata.retain(|(known, _)| *known != key);
                metadata.push((key, value));
            }
            metadata
        }
        (None, Some(gguf)) => {
            let passed_on = |key: &str| {
                key.starts_with("tokenizer.")
                    || key.starts_with("general.sampling.")
                    || ["general.type", "general.name", "general.license"].contains(&key)
                    // How a model that makes vectors does so.
                    || key.ends_with(".pooling_type")
            };
            gguf.spelled()
                .filter(|(key, ..)| passed_on(key))
                .map(|(key, kind, bytes)| (key.to_owned(), MetadataValue::spelled(kind, bytes)))
                .collect()
        }
        (None, None) => Vec::new(),
    };
    let (config, rows) = (model.file.config(), FileRows(&model.file));
    Ok(match adapter {
        Some(adapter) => {
            let rows = MergedRows::new(&rows, adapter);
            write_gguf(file, &adapter.config(config), &rows, quantisation, &metadata)?
        }
        None => write_gguf(file, config, &rows, quantisation, &metadata)?,
    })
}

/// All ids at which the model stops, those of `config.json` and `generation_config.json` included; the end of text is the first.
fn ends_of_turn(model: &OpenedModel) -> Value {
    let mut ends: Vec<u32> = model.tokenizer.eos().into_iter().collect();
    for id in model.tokenizer.end_of_turn() {
        if !ends.contains(id) {
            ends.push(*id);
        }
    }
    match ends.as_slice() {
        [] => Value::Null,
        [end] => json!(end),
        ends => json!(ends),
    }
}

/// The small files that say how text becomes tokens and how the model wants to be sampled, as they stand in a folder that `transformers`
/// opens: names and contents.
///
/// # Errors
/// [`ExportError`] when one cannot be read or said.
pub fn tokenizer_files(model: &OpenedModel) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
    let files = match model.file.hugging_face() {
        Some(files) => copied_files(model, files)?,
        None => files_of_gguf(model)?,
    };
    Ok(files.into_iter().map(|file| (file.name, file.bytes)).collect())
}

/// Weights that were rounded are not rounded again, unless an adapter changes them anyhow.
fn require_floats_without(model: &OpenedModel, adapter: Option<&AdapterMerge>) -> Result<(), ExportError> {
    if adapter.is_some() {
        return Ok(());
    }
    for name in model.file.config().weights() {
        let view = model.file.tensor(name)?;
        if view.dtype.is_quantised() {
            let (file, tensor, dtype) = (model.file.path().to_owned(), view.name, view.dtype.name());
            return Err(ExportError::Quantised { file, tensor, dtype });
        }
    }
    Ok(())
}

/// The files of the source's folder that say how text becomes tokens, and how the model wants to be sampled.
fn copied_files(model: &OpenedModel, files: &HuggingFaceFiles) -> Result<Vec<FolderFile>, ExportError> {
    let mut copies = Vec::new();
    let templates = match (&files.chat_template, tool_use_template(files)?) {
        (Some(path), Some(tool_use)) => {
            let template = String::from_utf8_lossy(&read(path, MAX_TEMPLATE_BYTES)?).into_owned();
            Some(named_templates(&template, &tool_use))
        }
        _ => None,
    };
    for (path, limit) in [
        (files.tokenizer.as_ref(), MAX_TOKENIZER_JSON_BYTES),
        (files.tokenizer_config.as_ref(), MAX_TOKENIZER_JSON_BYTES),
        (files.chat_template.as_ref().filter(|_| templates.is_none()), MAX_TEMPLATE_BYTES),
        (files.generation_config.as_ref(), MAX_GENERATION_CONFIG_BYTES),
    ] {
        if let Some(path) = path {
            copies.push(folder_file(path.file_name().and_then(|name| name.to_str()), read(path, limit)?));
        }
    }
    if files.tokenizer_config.is_none() {
        let text = |id: Option<u32>| -> Value {
            let bytes = id.and_then(|id| model.tokenizer.token_bytes(id));
            json!(bytes.map(|bytes| String::from_utf8_lossy(bytes)))
        };
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": text(model.tokenizer.bos()),
            "eos_token": text(model.tokenizer.eos()),
            "clean_up_tokenization_spaces": false,
        });
        copies.push(json_file("tokenizer_config.json", &config));
    }
    if let Some(templates) = templates {
        for copy in copies.iter_mut().filter(|copy| copy.name == "tokenizer_config.json") {
            // It was read as an object when the model was opened.
            let mut config: Value = serde_json::from_slice(&copy.bytes).unwrap_or_default();
            if let Some(config) = config.as_object_mut() {
                config.insert("chat_template".to_owned(), templates.clone());
            }
            *copy = json_file(&copy.name, &config);
        }
    }
    if files.generation_config.is_none() {
        copies.push(json_file("generation_config.json", &generation_config(model)));
    }
    Ok(copies)
}

/// The same files for a model whose GGUF file held it all.
fn files_of_gguf(model: &OpenedModel) -> Result<Vec<FolderFile>, ExportError> {
    let path = model.file.path();
    let Some(gguf) = model.file.gguf() else { return Ok(Vec::new()) };
    let metadata_error = |error| OpenError::Metadata { path: path.to_owned(), error };
    let vocabulary = read_vocabulary(gguf).map_err(metadata_error)?;
    let (tokenizer, mut config) = vocabulary
        .to_tokenizer_json()
        .map_err(|error| ExportError::Tokenizer { path: path.to_owned(), error })?;
    let template = gguf.string("tokenizer.chat_template").map_err(metadata_error)?;
    let tool_use = gguf.string("tokenizer.chat_template.tool_use").map_err(metadata_error)?;
    if let (Some(template), Some(tool_use)) = (template, tool_use) {
        config["chat_template"] = named_templates(template, tool_use);
    }
    let mut files = vec![
        json_file("tokenizer.json", &tokenizer),
        json_file("tokenizer_config.json", &config),
        json_file("generation_config.json", &generation_config(model)),
    ];
    if let Some(template) = template.filter(|_| tool_use.is_none()) {
        files.push(folder_file(Some("chat_template.jinja"), template.as_bytes().to_vec()));
    }
    Ok(files)
}

/// Two templates in one setting of `tokenizer_config.json`, which a template in a file of its own would hide.
fn named_templates(default: &str, tool_use: &str) -> Value {
    json!([{ "name": "default", "template": default }, { "name": "tool_use", "template": tool_use }])
}

fn generation_config(model: &OpenedModel) -> Value {
    let advice = &model.generation_defaults;
    let mut config = json!({
        "bos_token_id": model.tokenizer.bos(),
        "eos_token_id": model.tokenizer.end_of_turn(),
    });
    // The shortest decimals: 0.7 instead of 0.699999988079071.
    let number = |value: f32| value.to_string().parse::<f64>().ok();
    for (name, value) in [
        ("temperature", advice.temperature),
        ("top_p", advice.top_p),
        ("min_p", advice.min_p),
        ("repetition_penalty", advice.repetition_penalty),
    ] {
        if let Some(value) = value.filter(|value| name != "temperature" || *value > 0.0) {
            config[name] = json!(number(value));
        }
    }
    if let Some(top_k) = advice.top_k {
        config["top_k"] = json!(top_k);
    }
    match advice.temperature {
        Some(0.0) => config["do_sample"] = json!(false),
        Some(_) => config["do_sample"] = json!(true),
        None => {}
    }
    config
}

fn folder_file(name: Option<&str>, bytes: Vec<u8>) -> FolderFile {
    FolderFile { name: name.unwrap_or_default().to_owned(), bytes }
}

fn json_file(name: &str, value: &Value) -> FolderFile {
    folder_file(Some(name), format!("{value:#}\n").into_bytes())
}

/// How texts are put together: byte-level vocabularies have merges, SentencePiece's have scores.
fn merges_or_scores(vocabulary: &GgufVocabulary) -> (&'static str, MetadataValue) {
    match vocabulary.scores.is_empty() {
        true => ("ggml.merges", MetadataValue::strings(&vocabulary.merges)),
        false => ("ggml.scores", MetadataValue::f32s(&vocabulary.scores)),
    }
}

/// The vocabulary without added tokens beyond the model's rows, which a GGUF file has no place for; what is left out is told.
fn without_tokens_beyond(vocabulary: GgufVocabulary, rows: usize, path: &Path) -> GgufVocabulary {
    let beyond = vocabulary.tokens.get(rows..).unwrap_or_default().to_vec();
    let limited = vocabulary.limited_to(rows);
    if !beyond.is_empty() && limited.tokens.len() == rows {
        tracing::warn!(
            path = %path.display(),
            tokens = ?beyond,
            "added tokens for which the model has no rows are left out of the GGUF file"
        );
    }
    limited
}

/// What a GGUF file says beside the model's own settings: name, tokenizer, template, sampling advice.
fn metadata_of_folder(
    model: &OpenedModel,
    files: &HuggingFaceFiles,
) -> Result<Vec<(String, MetadataValue)>, ExportError> {
    let Some(tokenizer_path) = &files.tokenizer else {
        return Err(OpenError::Missing { folder: files.folder.clone(), file: "tokenizer.json" }.into());
    };
    let config = read_config(files)?;
    let rows = model.file.config().vocabulary_size;
    let tokenizer_json = read(tokenizer_path, MAX_TOKENIZER_JSON_BYTES)?;
    let vocabulary = GgufVocabulary::from_tokenizer_json(&tokenizer_json, Some(&config))
        .map_err(|error| ExportError::Tokenizer { path: tokenizer_path.clone(), error })?;
    let vocabulary = without_tokens_beyond(vocabulary, rows, tokenizer_path);
    if vocabulary.tokens.len() > rows {
        return Err(ExportError::Model(ModelError::Unwritable {
            file: tokenizer_path.clone(),
            reason: format!(
                "it has {} tokens, but the model's embedding only {rows} rows",
                vocabulary.tokens.len()
            ),
        }));
    }
    let vocabulary = vocabulary.padded_to(rows);
    let name = files.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut metadata = vec![
        ("general.type".to_owned(), MetadataValue::string("model")),
        ("general.name".to_owned(), MetadataValue::string(&name)),
    ];
    let mut set = |key: &str, value| metadata.push((format!("tokenizer.{key}"), value));
    set("ggml.model", MetadataValue::string(&vocabulary.model));
    set("ggml.pre", MetadataValue::string(vocabulary.pre.as_deref().unwrap_or_default()));
    set("ggml.tokens", MetadataValue::strings(&vocabulary.tokens));
    set("ggml.token_type", MetadataValue::i32s(&vocabulary.token_types));
    let (key, value) = merges_or_scores(&vocabulary);
    set(key, value);
    if let Some(adds_space) = vocabulary.add_space_prefix {
        set("ggml.add_space_prefix", MetadataValue::bool(adds_space));
    }
    for (key, id) in [
        ("ggml.bos_token_id", vocabulary.bos),
        ("ggml.eos_token_id", vocabulary.eos),
        ("ggml.eot_token_id", vocabulary.end_of_turn),
        ("ggml.unknown_token_id", vocabulary.unknown),
    ] {
        if let Some(id) = id {
            set(key, MetadataValue::u32(id));
        }
    }
    let ends: Vec<i32> =
        model.tokenizer.end_of_turn().iter().filter_map(|id| i32::try_from(*id).ok()).collect();
    if !ends.is_empty() {
        set("ggml.eos_token_ids", MetadataValue::i32s(&ends));
    }
    set("ggml.add_bos_token", MetadataValue::bool(model.tokenizer.adds_bos()));
    let (template, tool_use) = templates(files, &config)?;
    if let Some(template) = template {
        set("chat_template", MetadataValue::string(&template));
        if let Some(tool_use) = tool_use {
            set("chat_template.tool_use", MetadataValue::string(&tool_use));
        }
    }
    let advice = &model.generation_defaults;
    for (key, value) in [
        ("temp", advice.temperature),
        ("top_p", advice.top_p),
        ("min_p", advice.min_p),
        ("penalty_repeat", advice.repetition_penalty),
    ] {
        if let Some(value) = value {
            metadata.push((format!("general.sampling.{key}"), MetadataValue::f32(value)));
        }
    }
    if let Some(top_k) = advice.top_k {
        metadata.push((
            "general.sampling.top_k".to_owned(),
            MetadataValue::i32(top_k.try_into().unwrap_or(i32::MAX)),
        ));
    }
    Ok(metadata)
}

/// The sources of the chat template and of that for requests with tools: the files win, as when a model is opened.
fn templates(
    files: &HuggingFaceFiles,
    config: &zhenjin_tokenizer::TokenizerConfig,
) -> Result<(Option<String>, Option<String>), ExportError> {
    if let Some(path) = &files.chat_template {
        let template = String::from_utf8_lossy(&read(path, MAX_TEMPLATE_BYTES)?).into_owned();
        return Ok((Some(template), tool_use_template(files)?));
    }
    Ok(match &config.chat_template {
        Some(Value::String(source)) => (Some(source.clone()), None),
        // A list of named templates.
        Some(Value::Array(templates)) => {
            let named = |name: &str| {
                let found = templates.iter().find(|template| template["name"] == name)?;
                found["template"].as_str().map(str::to_owned)
            };
            (named("default"), named("tool_use"))
        }
        _ => (None, None),
    })
}
