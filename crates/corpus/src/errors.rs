//! What can go wrong with training data, said so that the user can act on it.

use std::path::PathBuf;

use zhenjin_files::FileError;

use crate::BrokenRecord;

/// Data that cannot be read, written or trained on.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as in "cannot … the file".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of tokens that is damaged, cut, or something else.
    #[error("{} is not a good token shard: {reason}; make it again from the text", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The list of a folder's shards does not hold together.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The list's path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A document that does not fit the tokenizer or the format.
    #[error("a document cannot be stored: {0}")]
    Document(String),
    /// Text that cannot be read, or a file that is something else.
    #[error("{}: {reason}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing to train on.
    #[error("there is not one document: {broken} records are broken, the others empty")]
    NoText {
        /// Records that are broken.
        broken: u64,
    },
    /// A broken record, where the caller wants to stop at the first.
    #[error("{0}")]
    Broken(Box<BrokenRecord>),
    /// The folder holds other data.
    #[error("{} already holds {holds}; take another folder, or allow it to be replaced", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there.
        holds: String,
    },
    /// There is less text than one sequence.
    #[error(
        "the training documents have {tokens} tokens, fewer than one sequence of {sequence_length}; \
         add text, or take a shorter sequence or a smaller share for validation"
    )]
    TooFewTokens {
        /// Tokens of all training documents.
        tokens: u64,
        /// Tokens of one sequence.
        sequence_length: usize,
    },
    /// A setting outside its range.
    #[error("{field}: {reason}")]
    Setting {
        /// Which setting.
        field: &'static str,
        /// Why it cannot be.
        reason: String,
    },
}

impl CorpusError {
    /// For `map_err`: the system's error with what was tried on which path.
    pub(crate) fn io(
        path: &std::path::Path,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> CorpusError {
        let path = path.to_owned();
        move |source| CorpusError::Io { path, action, source }
    }
}

impl From<FileError> for CorpusError {
    fn from(error: FileError) -> CorpusError {
        match error {
            FileError::Io { path, action, source } => CorpusError::Io { path, action, source },
            FileError::LfsPointer { ref path, .. } => {
                CorpusError::Input { path: path.clone(), reason: error.problem() }
            }
            FileError::NotRegular { path } => {
                CorpusError::Shard { path, reason: "it is not a regular file".to_owned() }
            }
        }
    }
}
