//! One step's input and output: chunks of sequences in, rows of logits out; and what can be wrong with the input.
//!
//! It does not know who put the batch together or what becomes of the logits.

use zhenjin_tensor::PageId;

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
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
}

/// Which tokens of a chunk need logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// None: the chunk is not the end of a prompt.
    None,
    /// The last one.
    Last,
    /// Every one.
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
}

/// Rows of logits `[rows, vocabulary_size]`, in the order of the chunks and their tokens.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    values: &'a [f32],
    vocabulary_size: usize,
}

impl<'a> Logits<'a> {
    /// Rows of `vocabulary_size` values; `None` when `values` is not whole rows.
    pub fn new(values: &'a [f32], vocabulary_size: usize) -> Option<Logits<'a>> {
        (vocabulary_size > 0 && values.len().is_multiple_of(vocabulary_size))
            .then_some(Logits { values, vocabulary_size })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.vocabulary_size
    }

    /// One row. Panics when there is no such row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.vocabulary_size..(row + 1) * self.vocabulary_size]
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
