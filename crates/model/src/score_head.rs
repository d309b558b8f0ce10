//! The head of a model that gives a text one number: a reward model, as `…ForSequenceClassification` of the `transformers` library with one label.
//!
//! The score of a text is `score.weight · h`, h the hidden state behind the final norm at the last token that is not padding. There is no bias.

use std::collections::BTreeMap;
use std::path::Path;

use crate::errors::{FormatError, ModelError, quoted};
use crate::file::FileTensor;

/// The head's tensor in a model's own files.
pub const SCORE_TENSOR: &str = "score.weight";
/// The key of a safetensors file's metadata that says at which token the score was learnt, and its value for [`ScorePlace::EndOfTurn`].
pub(crate) const PLACE_KEY: &str = "score_position";
pub(crate) const END_OF_TURN: &str = "end_of_turn";

/// At which token of a conversation a score was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScorePlace {
    /// At the token that ends the last answer's turn.
    EndOfTurn,
    /// At the end of all that the chat template writes, which may follow that token, such as a line break: how others train.
    EndOfText,
}

/// A head for scores. See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreHead {
    /// `[hidden_size]`.
    pub weight: Vec<f32>,
    /// `pad_token_id` of the model's `config.json`: such tokens at a text's end are not read. Adapters do not say it, but their base does.
    pub padding: Option<u32>,
    /// At which token the score was learnt.
    pub place: ScorePlace,
}

impl ScoreHead {
    /// What is written into the file's metadata.
    pub(crate) fn metadata() -> BTreeMap<String, String> {
        BTreeMap::from([(PLACE_KEY.to_owned(), END_OF_TURN.to_owned())])
    }

    /// The place by a file's metadata.
    ///
    /// # Errors
    /// [`FormatError`] for a place that is not known.
    pub(crate) fn place(metadata: &BTreeMap<String, String>) -> Result<ScorePlace, FormatError> {
        match metadata.get(PLACE_KEY).map(String::as_str) {
            None => Ok(ScorePlace::EndOfText),
            Some(END_OF_TURN) => Ok(ScorePlace::EndOfTurn),
            Some(other) => Err(FormatError::new(
                format!("metadata `{PLACE_KEY}`"),
                format!("{} is not known; known is `{END_OF_TURN}`", quoted(other)),
            )),
        }
    }

    /// The numbers of `tensor`, which must have the shape `[1, hidden_size]`.
    ///
    /// # Errors
    /// [`ModelError::Format`] naming the tensor for another number of scores, another width, another type, or a number that is not finite.
    pub(crate) fn read(tensor: &FileTensor<'_>, hidden_size: usize) -> Result<Vec<f32>, ModelError> {
        match tensor.shape {
            [1, width] if *width == hidden_size => tensor.values(),
            [labels, width] if *labels != 1 && *width == hidden_size => Err(tensor.fault(format!(
                "it gives {labels} scores (num_labels {labels}), but a reward model gives one: shape [1, {hidden_size}]"
            ))),
            shape => Err(tensor.fault(format!(
                "its shape is {}, but the model's hidden size implies [1, {hidden_size}]",
                crate::errors::shape(shape)
            ))),
        }
    }
}

/// Refuses what a head with one score and no bias does not have.
///
/// # Errors
/// [`ModelError::Format`] for a bias, or another layer of a head.
pub(crate) fn check_no_bias(file: &Path, name: &str, module: &str) -> Result<(), ModelError> {
    if name.strip_prefix(module).is_none_or(|rest| !rest.starts_with(".bias")) {
        return Ok(());
    }
    let problem =
        "a bias of the head for scores is not supported: no reward model of the supported families has one";
    let error = FormatError::new(format!("tensor {}", quoted(name)), problem);
    Err(ModelError::Format { file: file.to_owned(), error })
}
