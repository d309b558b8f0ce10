//! What files hold that rewards depend on: under the same name they may hold something else the next time.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use zhenjin_align::rewards::RewardExpression;

/// The digests of the schemas `json:FILE` in the text of a reward, in their order.
pub(crate) fn of_schemas(reward: &str) -> Result<Vec<String>> {
    let terms = RewardExpression::parse(reward)?.terms;
    let schemas = terms.iter().filter(|term| term.name == "json").filter_map(|term| term.argument.as_deref());
    schemas
        .map(|path| {
            let bytes = std::fs::read(path)
                .with_context(|| format!("`{reward}`: the schema {path} cannot be read"))?;
            Ok(hexadecimal(Sha256::digest(&bytes).into()))
        })
        .collect()
}

/// The digest of a model's or an adapter's folder: of its weights, and of the settings beside them, such as an adapter's lora_alpha, with which the
/// same weights are another model.
pub(super) fn of_folder(folder: &Path) -> Result<String> {
    of_files(folder, &|name| name.ends_with(".safetensors") || name.ends_with(".json"))
}

/// The digest of those files in a folder whose names count, whatever the folder is called.
pub(crate) fn of_files(folder: &Path, counts: &dyn Fn(&str) -> bool) -> Result<String> {
    let reading = || format!("reading {}", folder.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(reading)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .with_context(reading)?;
    files.sort();
    let counts = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(counts) && path.is_file()
    };
    let mut hash = Sha256::new();
    // The lengths are hashed as well, so that names and contents cannot run into each other.
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for file in files.iter().filter(|path| counts(path)) {
        add(file.file_name().unwrap_or_default().as_encoded_bytes());
        match file.extension().is_some_and(|ending| ending == "json") {
            true => add(&std::fs::read(file).with_context(|| format!("reading {}", file.display()))?),
            false => add(zhenjin_files::Mapping::open(file)?.as_ref()),
        }
    }
    Ok(hexadecimal(hash.finalize().into()))
}

fn hexadecimal(digest: [u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema counted by its name, and of an adapter's folder the weights alone: scores by other ones were taken for theirs.
    #[test]
    fn what_schemas_and_settings_say_counts_and_not_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("schema.json", "{}");
        let reward = format!("0.5*number+json:{}", folder.path().join("schema.json").display());
        let schema = of_schemas(&reward).expect("a digest");
        assert_eq!(schema.len(), 1);
        assert_eq!(of_schemas(&reward).expect("a digest"), schema);
        write("schema.json", r#"{"type": "object"}"#);
        assert_ne!(of_schemas(&reward).expect("a digest"), schema);
        assert_eq!(of_schemas("number+json").expect("no file"), Vec::<String>::new());
        let error = of_schemas("json:/nonexistent.json").expect_err("no file").to_string();
        assert!(error.contains("/nonexistent.json"), "{error}");

        write("adapter_model.safetensors", "weights");
        write("adapter_config.json", r#"{"lora_alpha": 32}"#);
        let adapter = of_folder(folder.path()).expect("a digest");
        write("notes.txt", "what does not matter");
        assert_eq!(of_folder(folder.path()).expect("a digest"), adapter);
        write("adapter_config.json", r#"{"lora_alpha": 64}"#);
        assert_ne!(of_folder(folder.path()).expect("a digest"), adapter);
    }
}
