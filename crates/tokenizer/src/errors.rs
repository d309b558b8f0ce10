//! What can go wrong with tokenizers and templates, said so that the user can act on it.
//! This file does not know where the bytes came from; callers add the path.

/// A tokenizer that cannot be built, or text or ids that it cannot process.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The description is larger than any real one.
    #[error("{what} holds {size}, more than the limit of {limit}: this is not a tokenizer we can trust")]
    TooLarge {
        /// Which part of the description.
        what: &'static str,
        /// What was found.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The text is not JSON, or not in the shape of a tokenizer description.
    #[error("{file} cannot be read: {reason}")]
    Json {
        /// `tokenizer.json` or `tokenizer_config.json`.
        file: &'static str,
        /// The JSON reader's own words, with line and column.
        reason: String,
    },
    /// A kind of model, pre-tokeniser, normaliser or decoder that is not implemented.
    #[error("the {part} `{name}` is not supported (supported: {supported})")]
    Unsupported {
        /// Which part of the tokenizer.
        part: &'static str,
        /// Its name in the file.
        name: String,
        /// What would have been accepted.
        supported: String,
    },
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is broken: {0}")]
    Vocabulary(String),
    /// The library refused a part of the description.
    #[error("the {part} of the tokenizer cannot be built: {reason}")]
    Part {
        /// Which part of the tokenizer.
        part: &'static str,
        /// The library's own words.
        reason: String,
    },
    /// A text that cannot be turned into tokens.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
    /// An id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary_size} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of ids that exist.
        vocabulary_size: usize,
    },
}

/// A chat template that cannot be compiled or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The source is larger than any real template.
    #[error("the chat template has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Size of the source in bytes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The source is not valid Jinja, or uses a part of it that is not supported.
    #[error("the chat template cannot be compiled: {0}")]
    Syntax(String),
    /// The template stopped with an error of its own or of the language.
    #[error("the chat template failed: {0}")]
    Failed(String),
    /// The template itself refused the conversation through `raise_exception`.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template used up its budget of work.
    #[error("the chat template was stopped: it needs more than {fuel} units of work for this conversation")]
    OutOfFuel {
        /// The budget that was used up.
        fuel: u64,
    },
    /// `tokenizer_config.json` describes templates in an unknown shape.
    #[error("the chat template's description cannot be read: {0}")]
    Description(String),
}
