//! Sequences of packed documents, in an order that depends on the data, the seed and the epoch alone.
//!
//! A sequence has a fixed number of rows. A row is a token with its target, the token that follows it in its document; the
//! last token of a document has the end-of-text token as its target. Documents stand one after another, and a document that
//! does not fit the rest of a sequence goes on in another one as if it were a new document: its first part keeps its last
//! target, so that every token of the data is the input of exactly one row in an epoch. Only what is left at the end of the
//! epoch and does not fill a sequence is left out ([`Loader::remainder_tokens`]); each epoch leaves out another part.
//!
//! Which documents are for validation depends on their contents alone, never on the seed, so that equal documents are on
//! the same side.

mod packing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::random::numbers_of;
use crate::{CorpusError, ShardSet};
use packing::Packing;

/// How sequences are made.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// Rows of a sequence.
    pub sequence_length: usize,
    /// Another seed gives another order.
    pub seed: u64,
    /// The share of documents that are for validation, from 0 to below 1.
    pub validation_share: f64,
    /// Let attention see the documents before in the same sequence. Rows and targets stay the same; this is for comparison.
    pub across_documents: bool,
}

/// One sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedSequence {
    /// A token for each row.
    pub tokens: Vec<u32>,
    /// For each row the token that is to be predicted; of the same document, or its end of text.
    pub targets: Vec<Option<u32>>,
    /// Rows of each document, in order; attention and positions begin anew at each.
    pub document_lengths: Vec<usize>,
    /// Bytes of text that the targets stand for, for bits per byte.
    pub bytes: u64,
}

/// Gives any sequence of any epoch.
#[derive(Debug)]
pub struct Loader {
    set: Arc<ShardSet>,
    options: LoaderOptions,
    training: Vec<u32>,
    training_tokens: u64,
    validation: Packing,
    /// The latest epochs: at an epoch's end two are in use.
    epochs: Mutex<Vec<Arc<Epoch>>>,
    /// Documents that were read since the shards' pages were given back.
    documents_read: AtomicU64,
}

/// The order of one epoch.
#[derive(Debug)]
struct Epoch {
    number: u64,
    packing: Packing,
    /// Which part of the packed documents the n-th sequence is.
    windows: Vec<u32>,
}

const KEPT_EPOCHS: usize = 2;
/// After so many documents the shards' pages are given back. A document makes the system map at most two stretches of 64 KiB,
/// so that a run takes 8 MiB for its data however large they are.
const DOCUMENTS_BETWEEN_RELEASES: u64 = 64;

/// Whether a document with this [`ShardSet::content_hash`] is for validation, where `share` of the documents are.
pub fn is_for_validation(content_hash: u64, share: f64) -> bool {
    content_hash < (share * 2f64.powi(64)) as u64
}

impl Loader {
    /// Divides the documents into training and validation.
    ///
    /// # Errors
    /// [`CorpusError::Setting`] for options outside their range, [`CorpusError::TooFewTokens`] when there is not one whole
    /// sequence.
    pub fn new(set: Arc<ShardSet>, options: LoaderOptions) -> Result<Loader, CorpusError> {
        let setting = |field, reason: &str| CorpusError::Setting { field, reason: reason.to_owned() };
        if options.sequence_length == 0 {
            return Err(setting("sequence_length", "a sequence needs at least one token"));
        }
        if !(0.0..1.0).contains(&options.validation_share) {
            return Err(setting("validation_share", "it is a share from 0 to below 1"));
        }
        let documents = u32::try_from(set.documents())
            .map_err(|_| setting("data", "more than 4,294,967,295 documents; join short ones"))?;
        let share = options.validation_share;
        let (validation, training): (Vec<u32>, Vec<u32>) =
            (0..documents).partition(|&document| is_for_validation(set.content_hash(document.into()), share));
        let training_tokens = training.iter().map(|&document| set.document_tokens(document.into())).sum();
        if training_tokens < options.sequence_length as u64 {
            let sequence_length = options.sequence_length;
            return Err(CorpusError::TooFewTokens { tokens: training_tokens, sequence_length });
        }
        if training_tokens / options.sequence_length as u64 > u32::MAX.into() {
            return Err(setting(
                "sequence_length",
                "more than 4,294,967,295 sequences an epoch; take longer ones",
            ));
        }
        let validation = Packing::new(&set, validation);
        set.release();
        let (epochs, documents_read) = (Mutex::default(), AtomicU64::new(0));
        Ok(Loader { set, options, training, training_tokens, validation, epochs, documents_read })
    }

    /// The data.
    pub fn shard_set(&self) -> &Arc<ShardSet> {
        &self.set
    }

    /// Sequences of one epoch.
    pub fn sequences_per_epoch(&self) -> u64 {
        self.training_tokens / self.options.sequence_length as u64
    }

    /// Documents for training.
    pub fn training_documents(&self) -> u64 {
        self.training.len() as u64
    }

    /// Tokens of the documents for training.
    pub fn training_tokens(&self) -> u64 {
        self.training_tokens
    }

    /// Tokens that an epoch leaves out, because they do not fill a sequence.
    pub fn remainder_tokens(&self) -> u64 {
        self.training_tokens % self.options.sequence_length as u64
    }

    /// Documents for validation.
    pub fn validation_documents(&self) -> u64 {
        self.validation.documents() as u64
    }

    /// Sequence `index` of all epochs, counted from the first one's beginning: a pure function of the data, the options and
    /// `index`.
    ///
    /// # Errors
    /// [`CorpusError::Shard`] when a shard has been damaged.
    pub fn sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        let per_epoch = self.sequences_per_epoch();
        let epoch = self.epoch(index / per_epoch);
        let window = u64::from(epoch.windows[(index % per_epoch) as usize]);
        let length = self.options.sequence_length as u64;
        self.packed(&epoch.packing, window * length..(window + 1) * length)
    }

    /// Sequences of the documents for validation; the last may have fewer rows than the others.
    pub fn validation_sequences(&self) -> u64 {
        self.validation.rows().div_ceil(self.options.sequence_length as u64)
    }

    /// One of them, in the documents' own order.
    ///
    /// # Errors
    /// [`CorpusError::Setting`] for an index that is too large, [`CorpusError::Shard`] when a shard has been damaged.
    pub fn validation_sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        if index >= self.validation_sequences() {
            let reason = format!("there are {} of them, no number {index}", self.validation_sequences());
            return Err(CorpusError::Setting { field: "validation sequences", reason });
        }
        let start = index * self.options.sequence_length as u64;
        let end = (start + self.options.sequence_length as u64).min(self.validation.rows());
        self.packed(&self.validation, start..end)
    }

    fn packed(&self, packing: &Packing, rows: std::ops::Range<u64>) -> Result<PackedSequence, CorpusError> {
        let mut sequence = packing.sequence(&self.set, rows)?;
        let documents = sequence.document_lengths.len() as u64;
        if self.documents_read.fetch_add(documents, Ordering::Relaxed) + documents
            >= DOCUMENTS_BETWEEN_RELEASES
        {
            self.documents_read.store(0, Ordering::Relaxed);
            self.set.release();
        }
        if self.options.across_documents {
            sequence.document_lengths = vec![sequence.tokens.len()];
        }
        Ok(sequence)
    }

    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoch) = epochs.iter().find(|epoch| epoch.number == number) {
            return Arc::clone(epoch);
        }
        let mut numbers = numbers_of(self.options.seed, number);
        let documents = numbers.shuffled(self.training.clone());
        let windows = numbers.shuffled((0..self.sequences_per_epoch() as u32).collect());
        let epoch = Arc::new(Epoch { number, packing: Packing::new(&self.set, documents), windows });
        self.set.release();
        if epochs.len() == KEPT_EPOCHS {
            epochs.remove(0);
        }
        epochs.push(Arc::clone(&epoch));
        epoch
    }
}
