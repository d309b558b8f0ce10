//! Errors of this crate: what was wrong, in which file and where in it, and what to do.
//!
//! This file does not know how the errors are shown; the text of each variant is a whole sentence for a person.

use std::path::PathBuf;

use zhenjin_files::FileError;
use zhenjin_tensor::TensorError;

use crate::batch::BatchError;
use crate::embedder::EmbedderTextError;
use crate::learner::TokenBatchError;

/// How many characters of a name that comes from a file are repeated in an error.
const QUOTED_CHARACTERS: usize = 96;

/// A fault inside the bytes of one file, before it is known which file on disk they came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct FormatError {
    /// Where in the file: the section, the metadata key, the tensor or the JSON field.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl FormatError {
    /// A fault at `place`.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> FormatError {
        FormatError { place: place.into(), problem: problem.into() }
    }
}

/// Everything that can go wrong while opening, loading or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done to it, as a verb: "open", "read", "map into memory".
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// The file has not been fetched: only a Git LFS pointer is there.
    #[error(transparent)]
    LfsPointer(FileError),

    /// The file's contents are malformed, or ask for something that is not supported.
    #[error("{}: {error}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Where in the file, and what.
        error: FormatError,
    },

    /// The path is not something that can be opened as a model.
    #[error("{}: not a model: {reason}", path.display())]
    NotAModel {
        /// The path that was given.
        path: PathBuf,
        /// Why, and what would be accepted.
        reason: String,
    },

    /// The configuration asks for a tensor that no file of the model holds.
    #[error("{}: tensor `{tensor}` is missing", file.display())]
    MissingTensor {
        /// The file, or the folder of a sharded model.
        file: PathBuf,
        /// The name that was looked for, in the file's own naming.
        tensor: String,
    },

    /// A batch to learn from does not fit together or the model.
    #[error(transparent)]
    TokenBatch(#[from] TokenBatchError),

    /// A text of which a model that makes vectors cannot make one.
    #[error(transparent)]
    EmbedderText(#[from] EmbedderTextError),

    /// A tensor has another shape than the configuration implies.
    #[error("{}: tensor `{tensor}`: the configuration implies shape {}, but the file has {}", file.display(), shape(expected), shape(found))]
    TensorShape {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// The shape that the configuration implies, outermost dimension first.
        expected: Vec<usize>,
        /// The shape in the file, outermost dimension first.
        found: Vec<usize>,
    },

    /// A weight cannot be brought into the layout that computes.
    #[error("{}: tensor `{tensor}`: {error}", file.display())]
    Weight {
        /// The file or folder that holds the tensor.
        file: PathBuf,
        /// The tensor's name there.
        tensor: String,
        /// Why.
        error: TensorError,
    },

    /// A model cannot be written as it was asked for.
    #[error("{}: cannot be written: {reason}", file.display())]
    Unwritable {
        /// The file or folder that was to be written.
        file: PathBuf,
        /// Why.
        reason: String,
    },

    /// The path is not something that can be opened as an adapter.
    #[error("{}: not an adapter: {reason}", path.display())]
    NotAnAdapter {
        /// The path that was given.
        path: PathBuf,
        /// Why, and what would be accepted.
        reason: String,
    },

    /// A tensor of an adapter does not fit the model or the adapter's own settings.
    #[error(
        "{}: tensor {tensor}: the model and the adapter's settings imply shape {}, but the file has {}; \
         was the adapter made for another model, or with another rank than its settings say (`r`, `rank_pattern`)?",
        file.display(),
        shape(expected),
        shape(found)
    )]
    AdapterShape {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor's name, quoted.
        tensor: String,
        /// The shape that is implied, outermost dimension first.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },

    /// A longer context was asked for than the model was made for.
    #[error(
        "a context of {asked} positions was asked for, but the model was made for {longest}; ask for at most that"
    )]
    ContextTooLong {
        /// Positions asked for.
        asked: usize,
        /// Positions that the model was made for.
        longest: usize,
    },

    /// No token could be predicted.
    #[error(
        "a usable vocabulary of 0 tokens leaves nothing to predict; give at least 1, or nothing for all of the model's"
    )]
    NoUsableVocabulary,

    /// Weights were to be replaced by those of another kind of model.
    #[error(
        "these weights have another configuration, or are packed for other instructions, than those that they would replace"
    )]
    OtherModel,

    /// A batch asks for what is not there.
    #[error(transparent)]
    Batch(#[from] BatchError),

    /// The tensor crate refused weights or shapes.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> ModelError {
        match error {
            FileError::Io { path, action, source } => ModelError::Io { path, action, source },
            FileError::LfsPointer { .. } => ModelError::LfsPointer(error),
            FileError::NotRegular { path } => {
                ModelError::NotAModel { path, reason: "it is not a regular file".to_owned() }
            }
        }
    }
}

/// A shape as people write it: `[576, 1536]`.
pub(crate) fn shape(lengths: &[usize]) -> String {
    format!("[{}]", lengths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Control characters, which could steer a terminal, are replaced.
fn harmless(character: char) -> char {
    if character.is_control() { '\u{FFFD}' } else { character }
}

/// Text from a file for use in a message: without control characters, at most [`QUOTED_CHARACTERS`] characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARACTERS).map(harmless).collect();
    if text.chars().nth(QUOTED_CHARACTERS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
