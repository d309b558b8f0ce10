//! Files of decoders that make vectors: how they are told from those of models that write, and which of them read texts both ways and so are
//! no decoders.

use std::path::Path;

use serde_json::{Map, Value};
use zhenjin_files::Mapping;

use crate::config::fields::Fields;
use crate::config::{MAX_CONFIG_BYTES, ModelClass};
use crate::encoder::file::architecture_of;
use crate::encoder::gguf::makes_vectors;
use crate::errors::{FormatError, ModelError, quoted};
use crate::families::Family;
use crate::file::{HuggingFaceFiles, ModelFile, Place, fault};
use crate::gguf::{self, Gguf};
use crate::json;

/// Models (gte-Qwen1.5, gte-Qwen2) whose own program lets every token see all others, although nothing in their GGUF files says so. In letters
/// and digits alone.
const READS_BOTH_WAYS: &str = "gteqwen";

/// Whether the files at a path say by themselves that their decoder makes vectors: a GGUF file by its pooling type, a folder by the class without
/// a head. False where nothing can be read.
pub(super) fn is_at(path: &Path) -> bool {
    match Place::of(path) {
        Ok(Place::Gguf(file)) => gguf_pools(&file).unwrap_or(false),
        Ok(Place::Folder) => {
            let folder = read_folder(path);
            folder.is_some_and(|(family, config)| {
                let class = config.get("architectures").and_then(|classes| classes.get(0)?.as_str());
                class == Some(ModelClass::Embedder.name(family).as_str())
            })
        }
        Err(_) => false,
    }
}

/// Whether a path is a folder with safetensors of a decoder.
pub(super) fn is_folder(path: &Path) -> bool {
    matches!(Place::of(path), Ok(Place::Folder)) && read_folder(path).is_some()
}

fn gguf_pools(path: &Path) -> Option<bool> {
    let architecture = architecture_of(path)?;
    Family::of_gguf_architecture(&architecture)?;
    // The setting may stand behind the tokens, which are most of the metadata.
    let file = gguf::parse(Mapping::open(path).ok()?).ok()?;
    Some(makes_vectors(&file, &architecture))
}

/// The family and the `config.json` of a folder, if it is a decoder's.
fn read_folder(folder: &Path) -> Option<(&'static Family, Map<String, Value>)> {
    let text = Mapping::open(&HuggingFaceFiles::in_folder(folder).config).ok()?;
    let Value::Object(config) = json::parse(text.as_ref(), MAX_CONFIG_BYTES).ok()? else { return None };
    let family = Family::of_model_type(config.get("model_type")?.as_str()?)?;
    Some((family, config))
}

/// Opens a file or folder of a decoder to make vectors with it.
///
/// # Errors
/// As [`ModelFile::open`]; [`ModelError::Format`] for a model whose tokens see those behind them.
pub(super) fn open(path: &Path) -> Result<ModelFile, ModelError> {
    let file = ModelFile::open_embedder(path)?;
    if let Some(files) = file.hugging_face() {
        let config = read_folder(&files.folder).map(|(_, config)| config).unwrap_or_default();
        check_config_is_causal(&config).map_err(|error| fault(&files.config, error))?;
    }
    if let Some(gguf) = file.gguf() {
        check_name_is_causal(gguf).map_err(|error| fault(path, error))?;
    }
    Ok(file)
}

/// Refuses a configuration whose model reads both ways, or computes with a program of its own, which may do so.
fn check_config_is_causal(config: &Map<String, Value>) -> Result<(), FormatError> {
    const BOTH_WAYS: &str =
        "every token of such a model sees those behind it, which is not supported for this family";
    let fields = Fields { object: config, prefix: "" };
    if fields.bool("is_causal")? == Some(false) {
        return Err(fields.fault("is_causal", BOTH_WAYS));
    }
    if fields.bool("use_bidirectional_attention")? == Some(true) {
        return Err(fields.fault("use_bidirectional_attention", BOTH_WAYS));
    }
    if let Some(name) = config.get("_name_or_path").and_then(Value::as_str)
        && names_both_ways(name)
    {
        return Err(fields.fault("_name_or_path", format!("{}: {BOTH_WAYS}", quoted(name))));
    }
    match config.get("auto_map").and_then(|map| map.get("AutoModel")).and_then(Value::as_str) {
        None => Ok(()),
        Some(program) => Err(fields.fault(
            "auto_map",
            format!(
                "the model's vectors are made by a program of its own, {}, which is not run here and may let tokens see those behind them, as \
                 that of gte-Qwen2 does; such models are not supported",
                quoted(program)
            ),
        )),
    }
}

/// Refuses files of a model that is known to read both ways.
fn check_name_is_causal(gguf: &Gguf<Mapping>) -> Result<(), FormatError> {
    for key in ["general.name", "general.basename"] {
        if let Ok(Some(name)) = gguf.string(key)
            && names_both_ways(name)
        {
            let problem =
                format!("every token of {} sees those behind it, which is not supported", quoted(name));
            return Err(FormatError::new(format!("metadata `{key}`"), problem));
        }
    }
    Ok(())
}

fn names_both_ways(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>().contains(READS_BOTH_WAYS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn models_that_read_both_ways_are_refused_by_what_says_so() {
        let refusal = |config: Value| {
            let checked = check_config_is_causal(config.as_object().unwrap());
            checked.err().map(|error| error.to_string())
        };
        for good in [
            json!({}),
            json!({ "is_causal": true, "auto_map": { "AutoModelForCausalLM": "a.B" } }),
            json!({ "use_bidirectional_attention": false, "_name_or_path": "Qwen/Qwen3-0.6B-Base" }),
        ] {
            assert_eq!(refusal(good), None);
        }
        for (config, words) in [
            (json!({ "is_causal": false }), "field `is_causal`: every token"),
            (json!({ "use_bidirectional_attention": true }), "field `use_bidirectional_attention`"),
            (json!({ "_name_or_path": "Alibaba-NLP/gte-Qwen2-1.5B-instruct" }), "gte-Qwen2-1.5B-instruct"),
            (json!({ "auto_map": { "AutoModel": "modeling_qwen.Qwen2Model" } }), "modeling_qwen.Qwen2Model"),
        ] {
            let said = refusal(config).unwrap();
            assert!(said.contains(words), "{said}");
        }
        assert!(names_both_ways("Gte Qwen2 7B Instruct") && !names_both_ways("Qwen2 7B"));
    }

    /// Regression: only its successor was known, so that a GGUF file of this one was read forwards.
    #[test]
    fn gte_qwen_1_5_reads_both_ways_too() {
        for name in ["gte-Qwen1.5-7B-instruct", "Gte Qwen1.5 7B Instruct"] {
            assert!(names_both_ways(name), "{name}");
        }
        assert!(!names_both_ways("Qwen1.5 7B Chat"));
    }
}
