//! Where a run takes its sequences from.

use zhenjin_corpus::{CorpusError, Loader, PackedSequence};

/// Sequences by their number. The same number gives the same sequence at every time and on every rank.
pub trait SequenceSource: Send + Sync {
    /// Sequence `index` of the endless series of epochs.
    ///
    /// # Errors
    /// [`CorpusError`] when a shard has been damaged.
    fn sequence(&self, index: u64) -> Result<PackedSequence, CorpusError>;

    /// How many sequences for validation there are.
    fn validation_sequences(&self) -> u64;

    /// One of them.
    ///
    /// # Errors
    /// As for [`SequenceSource::sequence`].
    fn validation_sequence(&self, index: u64) -> Result<PackedSequence, CorpusError>;

    /// Changes with the data.
    fn fingerprint(&self) -> String;
}

impl SequenceSource for Loader {
    fn sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        Loader::sequence(self, index)
    }

    fn validation_sequences(&self) -> u64 {
        Loader::validation_sequences(self)
    }

    fn validation_sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        Loader::validation_sequence(self, index)
    }

    fn fingerprint(&self) -> String {
        self.shard_set().fingerprint()
    }
}

/// Sequences one after the other as one batch: tokens, targets and the lengths of all documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// A token for each row.
    pub tokens: Vec<u32>,
    /// What each row is to predict.
    pub targets: Vec<Option<u32>>,
    /// Rows of each document.
    pub document_lengths: Vec<usize>,
    /// Bytes of text that the targets stand for.
    pub bytes: u64,
}

impl Rows {
    /// Adds a sequence.
    pub fn push(&mut self, sequence: PackedSequence) {
        self.tokens.extend(sequence.tokens);
        self.targets.extend(sequence.targets);
        self.document_lengths.extend(sequence.document_lengths);
        self.bytes += sequence.bytes;
    }

    /// Rows that have a target.
    pub fn target_count(&self) -> u64 {
        self.targets.iter().flatten().count() as u64
    }

    /// As the learner takes it.
    pub fn batch(&self) -> zhenjin_model::TokenBatch<'_> {
        let Rows { tokens, targets, document_lengths, .. } = self;
        zhenjin_model::TokenBatch { tokens, targets, document_lengths }
    }
}
