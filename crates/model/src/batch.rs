//! One step's input and output: chunks of sequences in; rows of logits, scores of given tokens and hidden states out; and
//! what can be wrong with the input.

use zhenjin_tensor::{PageId, RowScore};

use crate::adapter::Adapter;

/// Consecutive tokens of one sequence, and what is wanted of them. The default wants nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceChunk<'a> {
    /// The tokens; at least one.
    pub tokens: &'a [u32],
    /// Position of the first token in its sequence. All positions before it have been computed into `pages`.
    pub start: usize,
    /// The sequence's pages in order, covering positions `0..start + tokens.len()`. The pages that the chunk's own
    /// positions fall into must belong to this sequence alone; pages before them may be shared.
    pub pages: &'a [PageId],
    /// Which tokens' logits are wanted.
    pub logits: LogitsFor,
    /// Which tokens' log-probabilities are wanted.
    pub scores: Scoring<'a>,
    /// Which tokens' hidden states are wanted.
    pub hidden: HiddenFor,
    /// The adapter that the chunk, and everything in its pages, is computed with.
    pub adapter: Option<&'a Adapter>,
}

/// Which tokens of a chunk need logits. Their rows are limited by [`crate::RunnerOptions::max_logits_rows`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogitsFor {
    /// None: the chunk is not the end of a prompt.
    #[default]
    None,
    /// The last one.
    Last,
    /// Every one.
    All,
}

/// Tokens whose log-probabilities are wanted: `targets[i]` as the token after the chunk's token `first_row + i`. There may be
/// one for each token of the chunk; logits are not kept for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scoring<'a> {
    /// The token of the chunk, counted from its first, that the first target comes after.
    pub first_row: usize,
    /// The tokens to score.
    pub targets: &'a [u32],
    /// How many of the most likely tokens are wanted at the place of each target.
    pub top: usize,
}

/// Which tokens' hidden states, after the final norm, are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HiddenFor {
    /// No one's.
    #[default]
    None,
    /// The last one's.
    Last,
    /// Every one's.
    All,
}

impl SequenceChunk<'_> {
    /// Number of rows of logits that the chunk asks for.
    pub fn logits_rows(&self) -> usize {
        match self.logits {
            LogitsFor::None => 0,
            LogitsFor::Last => 1,
            LogitsFor::All => self.tokens.len(),
        }
    }

    /// Number of rows of hidden states that the chunk asks for.
    pub fn hidden_rows(&self) -> usize {
        match self.hidden {
            HiddenFor::None => 0,
            HiddenFor::Last => 1,
            HiddenFor::All => self.tokens.len(),
        }
    }
}

/// What a step computed, each in the order of the chunks and their tokens.
#[derive(Clone, Copy, Debug)]
pub struct StepOutputs<'a> {
    /// Rows of logits `[rows, usable vocabulary]`.
    pub logits: OutputRows<'a>,
    /// A score for each target.
    pub scores: &'a [RowScore],
    /// Rows of hidden states after the final norm, `[rows, hidden_size]`.
    pub hidden: OutputRows<'a>,
}

/// Rows of numbers.
#[derive(Clone, Copy, Debug)]
pub struct OutputRows<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> OutputRows<'a> {
    /// The first `width` of every `stride` values; `None` when `values` is not whole rows, or `width` is not from 1 to
    /// `stride`.
    pub fn new(values: &'a [f32], stride: usize, width: usize) -> Option<OutputRows<'a>> {
        let whole = (1..=stride).contains(&width) && values.len().is_multiple_of(stride);
        whole.then_some(OutputRows { values, stride, width })
    }

    /// No rows.
    pub fn none() -> OutputRows<'a> {
        OutputRows { values: &[], stride: 1, width: 1 }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.stride
    }

    /// One row. Panics when there is no such row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.width]
    }
}

/// Why a batch cannot be computed. Nothing has been changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A chunk without tokens.
    #[error("chunk {chunk} has no tokens")]
    EmptyChunk {
        /// Index of the chunk.
        chunk: usize,
    },
    /// A token id that the model does not have.
    #[error("chunk {chunk}: token {index} is {token}, but the vocabulary has {vocabulary_size} tokens")]
    UnknownToken {
        /// Index of the chunk.
        chunk: usize,
        /// Index of the token in the chunk.
        index: usize,
        /// The token id.
        token: u32,
        /// Number of token ids.
        vocabulary_size: usize,
    },
    /// Positions beyond the context.
    #[error("chunk {chunk} reaches position {end}, but the context has {context_length} positions")]
    ContextExceeded {
        /// Index of the chunk.
        chunk: usize,
        /// One more than the last position of the chunk.
        end: usize,
        /// Positions of the context.
        context_length: usize,
    },
    /// More targets than there are tokens that they could come after.
    #[error(
        "chunk {chunk}: {targets} targets after token {first_row} and the next ones, but the chunk has {tokens} tokens"
    )]
    TooManyTargets {
        /// Index of the chunk.
        chunk: usize,
        /// The token that the first target comes after.
        first_row: usize,
        /// Number of targets.
        targets: usize,
        /// Tokens of the chunk.
        tokens: usize,
    },
    /// A target that the model cannot predict.
    #[error(
        "chunk {chunk}: target {index} is token {token}, but only the first {usable_vocabulary} tokens can be predicted"
    )]
    UnknownTarget {
        /// Index of the chunk.
        chunk: usize,
        /// Index of the target in the chunk.
        index: usize,
        /// The token id.
        token: u32,
        /// Number of token ids that can be predicted.
        usable_vocabulary: usize,
    },
    /// More tokens than the runner was made for.
    #[error("the batch has {rows} tokens, but this runner was made for at most {max_rows} at once")]
    TooManyRows {
        /// Tokens of all chunks.
        rows: usize,
        /// The runner's limit.
        max_rows: usize,
    },
    /// More rows of logits than the runner was made for.
    #[error(
        "the batch asks for {rows} rows of logits, but this runner was made for at most {max_rows} at once"
    )]
    TooManyLogits {
        /// Rows asked for.
        rows: usize,
        /// The runner's limit.
        max_rows: usize,
    },
}
