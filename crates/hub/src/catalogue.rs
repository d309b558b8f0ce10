//! The models that the program knows by name. The list is `catalogue.json`, embedded into the program.
//! This file does not know networks or folders.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::open::GenerationDefaults;

const CATALOGUE: &str = include_str!("../catalogue.json");

/// The models that can be pulled by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    models: Vec<CatalogueEntry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueEntry {
    /// `family:size`, as users type it.
    pub name: String,
    /// The maker's name for it.
    pub title: String,
    /// Number of parameters, for people.
    pub parameters: String,
    /// How the weights are stored.
    pub quantisation: String,
    /// Under which terms it may be used.
    pub licence: Licence,
    /// Languages it was trained for, as ISO 639-1 codes.
    pub languages: Vec<String>,
    /// Tokens of context it was trained for.
    pub context_length: usize,
    /// What to expect of it.
    pub good_for: GoodFor,
    /// It makes embeddings and writes no text.
    #[serde(default, skip_serializing_if = "is_false")]
    pub embeds: bool,
    /// The maker's advice for sampling.
    pub sampling: GenerationDefaults,
    /// Its files; the first one is opened. If that is `config.json`, the folder is.
    pub files: Vec<CatalogueFile>,
    /// Where to get the files, in the order in which to try.
    pub sources: Vec<CatalogueSource>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Terms of use.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// SPDX name where there is one.
    pub name: String,
    /// Where to read it.
    pub url: String,
}

/// What a model is good for, in the interface's languages.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GoodFor {
    /// In English.
    pub en: String,
    /// In Chinese.
    pub zh: String,
}

/// One file of a model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueFile {
    /// Name at every source and in the local folder.
    pub file: String,
    /// Exact size, where it was checked.
    pub bytes: Option<u64>,
    /// Rounded size, where it was not.
    pub approximate_bytes: Option<u64>,
    /// SHA-256 in hexadecimal, where it was checked. Otherwise the hub's own digest is verified and recorded.
    pub sha256: Option<String>,
}

/// A place that has a model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CatalogueSource {
    /// A repository on the Hugging Face hub or a mirror of it.
    HuggingFace {
        /// `OWNER/NAME`.
        repository: String,
        /// Commit or branch; `main` when missing.
        revision: Option<String>,
    },
    /// A repository on ModelScope.
    ModelScope {
        /// `OWNER/NAME`.
        repository: String,
    },
    /// A wheel in the Python package index.
    PackageIndex {
        /// Name of the package.
        package: String,
        /// Its version.
        version: String,
        /// The folder inside the wheel that holds the files.
        folder: String,
        /// The wheel itself, with its digest: what the index offers under the name must be this.
        wheel: CatalogueFile,
    },
    /// The program itself, which carries the files.
    Program,
}

impl Catalogue {
    /// The catalogue of this program.
    pub fn embedded() -> &'static Catalogue {
        static EMBEDDED: LazyLock<Catalogue> = LazyLock::new(|| {
            // The text is part of the program, and a test reads it.
            serde_json::from_str(CATALOGUE).unwrap_or_else(|_| Catalogue { models: Vec::new() })
        });
        &EMBEDDED
    }

    /// A catalogue from JSON text in the shape of `catalogue.json`.
    ///
    /// # Errors
    /// The JSON reader's message.
    pub fn from_json(text: &str) -> Result<Catalogue, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// All models, in the order in which to show them.
    pub fn models(&self) -> &[CatalogueEntry] {
        &self.models
    }

    /// The model with this name.
    pub fn get(&self, name: &str) -> Option<&CatalogueEntry> {
        self.models.iter().find(|entry| entry.name == name)
    }
}

impl CatalogueEntry {
    /// Size of all files together; rounded where the exact size is not known.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|file| file.bytes.or(file.approximate_bytes)).sum()
    }

    /// Whether the program itself carries the model, so that fetching it needs no network.
    pub fn is_carried(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, CatalogueSource::Program))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_embedded_catalogue_is_complete() {
        let catalogue = Catalogue::from_json(CATALOGUE).unwrap();
        assert_eq!(catalogue.models().len(), Catalogue::embedded().models().len());
        let mut names = HashSet::new();
        for entry in catalogue.models() {
            assert!(names.insert(&entry.name), "{} is there twice", entry.name);
            assert!(!entry.sources.is_empty() && !entry.files.is_empty(), "{}", entry.name);
            assert!(!entry.good_for.en.is_empty() && !entry.good_for.zh.is_empty(), "{}", entry.name);
            assert!(entry.licence.url.starts_with("https://"), "{}", entry.name);
            let wheels = entry.sources.iter().filter_map(|source| match source {
                CatalogueSource::PackageIndex { wheel, .. } => Some(wheel),
                _ => None,
            });
            for wheel in wheels {
                assert!(wheel.sha256.is_some() && wheel.file.ends_with(".whl"), "{}", entry.name);
            }
            for file in &entry.files {
                assert!(file.bytes.is_some() != file.approximate_bytes.is_some(), "{}", entry.name);
                assert!(
                    file.sha256.is_none() || file.bytes.is_some(),
                    "{}: a digest without a size",
                    entry.name
                );
                assert!(file.sha256.as_ref().is_none_or(|digest| digest.len() == 64), "{}", entry.name);
            }
        }
        for expected in [
            "smollm2:135m",
            "smollm2:360m",
            "smollm2:1.7b",
            "qwen3:0.6b",
            "qwen3:1.7b",
            "qwen3:4b",
            "qwen2.5:0.5b",
            "qwen2.5:1.5b",
            "qwen2.5:3b",
            "poet",
            "all-minilm:l6",
        ] {
            assert!(catalogue.get(expected).is_some(), "{expected}");
        }
    }

    #[test]
    fn the_research_licence_is_named() {
        let entry = Catalogue::embedded().get("qwen2.5:3b").unwrap();
        assert!(entry.licence.name.contains("Research"));
    }
}
