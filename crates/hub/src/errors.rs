//! What can go wrong with models on this machine, said so that the user can act on it. Errors of downloading are in `pull`.

use std::path::{Path, PathBuf};

use zhenjin_files::FileError;
use zhenjin_model::{FormatError, ModelError};
use zhenjin_tokenizer::{TemplateError, TokenizerError};

/// A model that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The weights' file or folder.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer's part of the GGUF metadata.
    #[error("{}: {error}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        error: FormatError,
    },
    /// The tokenizer.
    #[error("{}: {error}", path.display())]
    Tokenizer {
        /// The file it was read from.
        path: PathBuf,
        /// What is wrong.
        error: TokenizerError,
    },
    /// The chat template.
    #[error("{}: {error}", path.display())]
    Template {
        /// The file it was read from.
        path: PathBuf,
        /// What is wrong.
        error: TemplateError,
    },
    /// `generation_config.json`.
    #[error("{}: {reason}", path.display())]
    GenerationConfig {
        /// The file.
        path: PathBuf,
        /// Which field, and what is wrong.
        reason: String,
    },
    /// A file that says how vectors are made from an encoder's hidden states.
    #[error("{}: {reason}", path.display())]
    SentenceTransformers {
        /// The file.
        path: PathBuf,
        /// Which field, and what is wrong.
        reason: String,
    },
    /// A file that the model needs is missing.
    #[error("{} has no {file}; a model folder needs it to turn text into tokens", folder.display())]
    Missing {
        /// The model's folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A file that has not been fetched: only a Git LFS pointer is there.
    #[error(transparent)]
    LfsPointer(FileError),
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
}

/// A model that is not in the store, or a store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelStoreError {
    /// The name is in the catalogue, but the model is not on this machine.
    #[error("the model {name} is not on this machine yet: pull it first")]
    NotInstalled {
        /// The model.
        name: String,
    },
    /// Neither a model's name nor a path.
    #[error(
        "there is no model `{name}`. Known models: {known}. A path to a GGUF file or a model folder works as well"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A name that cannot be a model's name.
    #[error("`{name}` is not a model name: {reason}")]
    BadName {
        /// What was given.
        name: String,
        /// Why not.
        reason: String,
    },
    /// The model is being pulled or removed by another program.
    #[error("the model {name} is in use by another pull or removal; wait until it ends")]
    Busy {
        /// The model.
        name: String,
    },
    /// The model's own description is damaged.
    #[error("{}: {reason}; remove the model and pull it again", path.display())]
    Manifest {
        /// The description.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
}

impl From<FileError> for ModelStoreError {
    fn from(error: FileError) -> ModelStoreError {
        match error {
            FileError::Io { path, action, source } => ModelStoreError::Io { action, path, error: source },
            FileError::NotRegular { ref path } | FileError::LfsPointer { ref path, .. } => {
                ModelStoreError::Io {
                    action: "open",
                    path: path.clone(),
                    error: std::io::Error::other(error.problem()),
                }
            }
        }
    }
}

impl ModelStoreError {
    /// An operating system's error with what was tried.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ModelStoreError {
        let path = path.to_owned();
        move |error| ModelStoreError::Io { action, path, error }
    }
}
