//! What can go wrong.

use std::path::{Path, PathBuf};

use zhenjin_files::FileError;

/// Why nothing was promoted, rolled back or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromotionError {
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A list or a record is not one.
    #[error(
        "{path} is not a list of promotions: {problem}; put back a copy of it, or move it away to begin without promotions"
    )]
    Damaged {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The source holds nothing that could answer.
    #[error(
        "{path} holds neither an adapter (adapter_config.json and adapter_model.safetensors) nor a model (a GGUF file, or config.json and \
         model.safetensors): give a checkpoint of a run, or a file"
    )]
    NoWeights {
        /// What was given.
        path: PathBuf,
    },
    /// Not the name of an improvement.
    #[error("`{id}` is not the name of an improvement: 1 to 64 letters, digits and `-`")]
    BadId {
        /// What was given.
        id: String,
    },
    /// No such improvement.
    #[error("there is no improvement `{id}`")]
    Unknown {
        /// What was given.
        id: String,
    },
    /// Another program makes an improvement.
    #[error("an improvement is under way already: wait for its end, or stop it")]
    Busy,
    /// Whole weights answer for the model, which no improvement is compared with.
    #[error(
        "whole weights were promoted for `{model}`, and an improvement is an adapter to the model's own: it cannot be compared with what answers \
         now; roll that promotion back first"
    )]
    WholeWeights {
        /// The model.
        model: String,
    },
    /// Something else answers now than what an improvement was compared with.
    #[error(
        "the improvement {id} was compared with {then}, but {now} answers now: nothing was measured against that"
    )]
    ComparedWithOther {
        /// The improvement.
        id: String,
        /// What it was compared with, in words.
        then: String,
        /// What answers now, in words.
        now: String,
    },
    /// There is nothing before what answers now.
    #[error("`{model}` answers with its own weights already: there is nothing earlier to go back to")]
    NothingEarlier {
        /// The model.
        model: String,
    },
}

pub(crate) fn io<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> PromotionError + use<'a> {
    move |source| PromotionError::Io { doing, path: path.to_owned(), source }
}
