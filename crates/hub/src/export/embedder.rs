//! What stays with a decoder that makes vectors when it is written anew: how its hidden states become one vector, and what stands around a text. In a
//! folder the library sentence-transformers' files say so, in a GGUF file its metadata. What a GGUF file cannot say is refused by name, or told
//! where a request can say it instead.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use zhenjin_files::Mapping;
use zhenjin_model::ModelError;
use zhenjin_model::encoder::EncoderPooling;
use zhenjin_model::families::Family;
use zhenjin_model::gguf::Gguf;
use zhenjin_model::write::{FolderFile, MetadataValue};

use super::{ExportError, json_file};
use crate::embedder::{ADD_EOS, OpenedEmbedder, is_embedder, open_embedder};
use crate::open::{read, read_vocabulary};
use crate::sentence_transformers::{MODULES, POOLING_SWITCHES, PROMPTS, TRANSFORMER_SETTINGS, module_files};
use crate::{OpenError, OpenedModel};

/// The most bytes of one of that library's files. A layer from 16,384 to 16,384 values has as many.
const MAX_FILE_BYTES: usize = 1 << 30;
const POOLING_FOLDER: &str = "1_Pooling";

fn unwritable(path: &Path, reason: impl Into<String>) -> ExportError {
    ExportError::Model(ModelError::Unwritable { file: path.to_owned(), reason: reason.into() })
}

/// The opened embedder at `path` and its pooling; `None` for a model that writes.
///
/// # Errors
/// [`ExportError`] also for one that does not say how it pools: nothing would tell what is written from a model that writes.
fn opened(path: &Path) -> Result<Option<(OpenedEmbedder, EncoderPooling)>, ExportError> {
    if !is_embedder(path) {
        return Ok(None);
    }
    let mut opened = open_embedder(path)?;
    match opened.pooling.take() {
        Some(pooling) => Ok(Some((opened, pooling))),
        None => {
            let reason = "its model makes vectors, but nothing says how hidden states become one, so that what is written would \
                          pass for a model that writes; add a modules.json (of sentence-transformers) to its folder";
            Err(unwritable(path, reason))
        }
    }
}

/// Adds to the `files` of a folder those by which it makes the vectors that its source makes. Nothing for a model that writes.
///
/// # Errors
/// [`ExportError`] when one cannot be read or said.
pub(super) fn add_files(model: &OpenedModel, files: &mut Vec<FolderFile>) -> Result<(), ExportError> {
    let path = model.file.path();
    let Some((opened, pooling)) = opened(path)? else { return Ok(()) };
    match model.file.gguf() {
        None => files.extend(copied(path)?),
        Some(gguf) => {
            add_post_processor(model, gguf, files)?;
            files.extend(described(&opened, &pooling));
        }
    }
    Ok(())
}

/// That library's files of a folder, as they are.
fn copied(folder: &Path) -> Result<Vec<FolderFile>, ExportError> {
    let own = [MODULES, PROMPTS].into_iter().chain(TRANSFORMER_SETTINGS).map(str::to_owned);
    let names = own.chain(module_files(folder)?);
    let present = names.filter(|name| folder.join(name).is_file());
    let copy = |name: String| -> Result<FolderFile, ExportError> {
        let bytes = read(&folder.join(&name), MAX_FILE_BYTES)?;
        Ok(FolderFile { name, bytes })
    };
    present.map(copy).collect()
}

/// That library's files that say what a GGUF file does.
fn described(opened: &OpenedEmbedder, pooling: &EncoderPooling) -> Vec<FolderFile> {
    let module = |place: usize, class: &str, path: &str| json!({ "idx": place, "name": place.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}") });
    let mut modules = vec![module(0, "Transformer", ""), module(1, "Pooling", POOLING_FOLDER)];
    if pooling.normalise {
        modules.push(module(2, "Normalize", "2_Normalize"));
    }
    let mut settings = Map::new();
    settings.insert("word_embedding_dimension".to_owned(), json!(opened.file.shape().hidden_size));
    for (name, mode) in POOLING_SWITCHES {
        settings.insert(name.to_owned(), json!(pooling.modes.contains(&mode)));
    }
    settings.insert("include_prompt".to_owned(), json!(true));
    let transformer = json!({ "max_seq_length": opened.max_tokens, "do_lower_case": false });
    vec![
        json_file(MODULES, &Value::Array(modules)),
        json_file(&format!("{POOLING_FOLDER}/config.json"), &Value::Object(settings)),
        json_file(TRANSFORMER_SETTINGS[0], &transformer),
    ]
}

/// Puts the end of a sequence behind texts, in the tokenizer's files, where a GGUF file says so.
fn add_post_processor(
    model: &OpenedModel,
    gguf: &Gguf<Mapping>,
    files: &mut [FolderFile],
) -> Result<(), ExportError> {
    let metadata_error = |error| OpenError::Metadata { path: model.file.path().to_owned(), error };
    if gguf.bool(ADD_EOS).map_err(metadata_error)? != Some(true) {
        return Ok(());
    }
    let vocabulary = read_vocabulary(gguf).map_err(metadata_error)?;
    let named = |id: u32| vocabulary.tokens.get(id as usize).map(|text| (text.as_str(), id));
    // There is one: the model was opened as an embedder.
    let Some(last) = model.tokenizer.eos().and_then(named) else { return Ok(()) };
    let first = model.tokenizer.bos().filter(|_| model.tokenizer.adds_bos()).and_then(named);
    for file in files {
        // They have just been made.
        let mut value: Value = match file.name.as_str() {
            "tokenizer.json" | "tokenizer_config.json" => {
                serde_json::from_slice(&file.bytes).unwrap_or_default()
            }
            _ => continue,
        };
        match file.name.as_str() {
            "tokenizer.json" => value["post_processor"] = around(first, last),
            _ => value["add_eos_token"] = json!(true),
        }
        *file = json_file(&file.name, &value);
    }
    Ok(())
}

/// A post-processor that puts tokens, of which text and id are given, around a text.
fn around(first: Option<(&str, u32)>, last: (&str, u32)) -> Value {
    let piece =
        |(name, _): (&str, u32), kind: u32| json!({ "SpecialToken": { "id": name, "type_id": kind } });
    let one = |name: &str, kind: u32| -> Vec<Value> {
        let text = json!({ "Sequence": { "id": name, "type_id": kind } });
        first.map(|first| piece(first, kind)).into_iter().chain([text, piece(last, kind)]).collect()
    };
    let mut tokens = Map::new();
    for (name, id) in first.into_iter().chain([last]) {
        tokens.insert(name.to_owned(), json!({ "id": name, "ids": [id], "tokens": [name] }));
    }
    let pair = [one("A", 0), one("B", 1)].concat();
    json!({ "type": "TemplateProcessing", "single": one("A", 0), "pair": pair, "special_tokens": tokens })
}

/// What a GGUF file says of a folder whose model makes vectors: how hidden states are pooled, and which token ends a text. Nothing for a model
/// that writes.
///
/// # Errors
/// [`ExportError`] names what a GGUF file cannot say.
pub(super) fn metadata_of_folder(
    model: &OpenedModel,
    folder: &Path,
) -> Result<Vec<(String, MetadataValue)>, ExportError> {
    let Some((opened, pooling)) = opened(folder)? else { return Ok(Vec::new()) };
    let refused = |reason: &str| {
        unwritable(folder, format!("its model makes vectors, and a GGUF file cannot say {reason}"))
    };
    let number = match pooling.modes[..] {
        [mode] => mode.gguf_number().and_then(|number| u32::try_from(number).ok()),
        _ => None,
    };
    let number = number.ok_or_else(|| refused("how their hidden states are pooled"))?;
    if !pooling.dense.is_empty() || !pooling.normalise {
        return Err(refused("that there is a layer behind the pooling, or that they are not of unit length"));
    }
    // All of them may be said too.
    let kept = opened.kept_dimensions.filter(|kept| *kept < opened.file.shape().hidden_size);
    if let Some(kept) = kept {
        return Err(refused(&format!("that the first {kept} of their values are kept (truncate_dim)")));
    }
    if opened.lowercases {
        return Err(refused("that texts are put into lower case (do_lower_case)"));
    }
    if !opened.pools_prompts {
        return Err(refused("that the tokens of prompts are not pooled (include_prompt)"));
    }
    for note in unsaid(&opened.prompts, opened.max_tokens, model.file.config().context_length) {
        tracing::warn!(path = %folder.display(), "{note}");
    }
    let architecture = model.file.config().architecture.as_str();
    let architecture =
        Family::of_model_type(architecture).map_or(architecture, |family| family.gguf_architecture);
    let mut metadata = vec![(format!("{architecture}.pooling_type"), MetadataValue::u32(number))];
    let tokenizer_error = |error| ExportError::Tokenizer { path: folder.to_owned(), error };
    let around = opened.tokenizer.encode("").map_err(tokenizer_error)?;
    let begins = model.tokenizer.bos().filter(|_| model.tokenizer.adds_bos());
    let behind = around.strip_prefix(begins.as_slice()).unwrap_or(&around);
    match behind {
        [] => metadata.push((ADD_EOS.to_owned(), MetadataValue::bool(false))),
        [last] => {
            metadata.push((ADD_EOS.to_owned(), MetadataValue::bool(true)));
            metadata.push(("tokenizer.ggml.eos_token_id".to_owned(), MetadataValue::u32(*last)));
        }
        _ => return Err(refused("that a text ends with several tokens")),
    }
    Ok(metadata)
}

/// What a GGUF file leaves out that changes no vector of a text by itself.
fn unsaid(prompts: &BTreeMap<String, String>, max_tokens: usize, context: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let names: Vec<&str> =
        prompts.iter().filter(|(_, words)| !words.is_empty()).map(|(name, _)| name.as_str()).collect();
    if !names.is_empty() {
        notes.push(format!(
            "the GGUF file has no place for the prompts that the makers name ({}); give them with the texts",
            names.join(", ")
        ));
    }
    if max_tokens < context {
        notes.push(format!(
            "the GGUF file has no place for the makers' limit of {max_tokens} tokens: texts of up to {context} are read"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: both were left out without a word.
    #[test]
    fn prompts_and_a_shorter_limit_that_a_gguf_file_leaves_out_are_told() {
        let prompts = |words: &str| BTreeMap::from([("query".to_owned(), words.to_owned())]);
        assert_eq!(unsaid(&prompts(""), 512, 512), Vec::<String>::new());
        let notes = unsaid(&prompts("find: "), 256, 512);
        assert!(notes[0].contains("(query)") && notes[1].contains("limit of 256 tokens"), "{notes:?}");
    }
}
