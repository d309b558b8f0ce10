//! Hugging Face folders: `config.json`, `model.safetensors`, and the files that callers bring along (the tokenizer's).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use zhenjin_files::NewFolder;

use super::config_json::config_json;
use super::hashed_file::{HashedFile, WrittenFile};
use super::quantisation::FloatType;
use super::rows::WeightRows;
use super::safetensors::write_safetensors_as;
use crate::config::ModelConfig;
use crate::errors::ModelError;

/// A file of the folder whose contents this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Its name in the folder, such as `tokenizer.json`, or its path in it, with `/` between names.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// Writes a model as a folder that `transformers` opens. The folder appears under its name when everything in it is on disk;
/// there must be nothing of that name before. `settings` come into `config.json` beside the model's own
/// (`eos_token_id` for example).
///
/// # Errors
/// [`ModelError::Unwritable`] when something has the name already, [`ModelError::Format`] for a configuration that no
/// `config.json` can say; also what `weights` and the disk report.
pub fn write_hugging_face(
    folder: &Path,
    config: &ModelConfig,
    weights: &dyn WeightRows,
    dtype: FloatType,
    settings: &[(&str, Value)],
    files: &[FolderFile],
) -> Result<WrittenFile, ModelError> {
    if folder.symlink_metadata().is_ok() {
        return Err(ModelError::Unwritable {
            file: folder.to_owned(),
            reason: "there is something of this name already; give another name, or remove it".to_owned(),
        });
    }
    let mut json = config_json(config)
        .map_err(|error| ModelError::Format { file: folder.join("config.json"), error })?;
    json["torch_dtype"] = json!(match dtype {
        FloatType::F32 => "float32",
        FloatType::F16 => "float16",
        FloatType::Bf16 => "bfloat16",
    });
    for (name, value) in settings {
        json[*name] = value.clone();
    }
    let partial = NewFolder::create(folder)?;
    for FolderFile { name, bytes } in files {
        let path = partial.temporary_path().join(name);
        if let Some((inner, _)) = name.rsplit_once('/') {
            let inner = partial.temporary_path().join(inner);
            let failed = |source| ModelError::Io { path: inner.clone(), action: "create", source };
            std::fs::create_dir_all(&inner).map_err(failed)?;
        }
        write_file(&path, bytes)?;
    }
    let text = format!("{json:#}\n");
    write_file(&partial.temporary_path().join("config.json"), text.as_bytes())?;
    let weights_file = partial.temporary_path().join("model.safetensors");
    let written = write_safetensors_as(&weights_file, config, weights, dtype.dtype(), &BTreeMap::new())?;
    partial.finish()?;
    Ok(written)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<WrittenFile, ModelError> {
    let mut out = HashedFile::create(path)?;
    out.write(bytes)?;
    out.finish()
}
