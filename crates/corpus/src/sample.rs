//! Text for training a tokenizer: all of it, or a part that is chosen by the documents' contents.

use std::num::NonZeroUsize;

use crate::pipeline::{Item, Position, for_each_record};
use crate::source::{Document, InputFile, InputOptions};
use crate::{BrokenRecord, CorpusError};

/// One document of this many is held out for measuring.
const HELD_OUT_EVERY: u64 = 64;
/// Held-out text that is kept at most.
const HELD_OUT_BYTES: usize = 8 << 20;

/// What to take.
#[derive(Debug, Clone)]
pub struct SampleOptions {
    /// How files become documents.
    pub input: InputOptions,
    /// Bytes of text that are kept at most for training.
    pub limit_bytes: usize,
    /// Control tokens, whose text is no text.
    pub special_tokens: Vec<String>,
    /// Threads that read.
    pub threads: NonZeroUsize,
}

/// Text for training and for measuring.
#[derive(Debug, Default)]
pub struct TextSample {
    /// Stretches of text between control tokens.
    pub training: Vec<String>,
    /// Documents for measuring, none of which is trained on.
    pub held_out: Vec<String>,
    /// All documents that were read.
    pub documents: u64,
    /// Bytes of all documents' text.
    pub bytes: u64,
    /// Which share of the documents was kept for training: 1, ½, ¼ …
    pub share: f64,
    /// Records that were left out because they are broken.
    pub broken: u64,
}

/// Documents by their hash, of which those with the smallest hashes stay when they become too many.
struct Kept {
    documents: Vec<(u64, Vec<String>)>,
    bytes: usize,
    limit: usize,
    /// Only hashes below 2⁶⁴ / 2^`halvings` are kept.
    halvings: u32,
}

impl Kept {
    fn new(limit: usize) -> Kept {
        Kept { documents: Vec::new(), bytes: 0, limit, halvings: 0 }
    }

    fn keeps(&self, hash: u64) -> bool {
        self.halvings == 0 || (self.halvings < 64 && hash >> (64 - self.halvings) == 0)
    }

    /// Which documents are kept in the end depends on the set of all, not on their order.
    fn add(&mut self, hash: u64, texts: Vec<String>) {
        if !self.keeps(hash) {
            return;
        }
        self.bytes += bytes_of(&texts);
        self.documents.push((hash, texts));
        while self.bytes > self.limit && self.documents.len() > 1 && self.halvings < 63 {
            self.halvings += 1;
            let documents = std::mem::take(&mut self.documents);
            self.documents = documents.into_iter().filter(|(hash, _)| self.keeps(*hash)).collect();
            self.bytes = self.documents.iter().map(|(_, texts)| bytes_of(texts)).sum();
        }
    }

    /// In an order that depends on the contents alone.
    fn finish(mut self) -> Vec<String> {
        self.documents.sort();
        self.documents.into_iter().flat_map(|(_, texts)| texts).collect()
    }
}

fn bytes_of(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// Reads all inputs and keeps text for training and measuring; `broken` is told what is left out.
///
/// # Errors
/// [`CorpusError::Input`] and [`CorpusError::Io`] when something cannot be read, [`CorpusError::NoText`] when there is no
/// document.
pub fn sample(
    inputs: &[Vec<InputFile>],
    options: &SampleOptions,
    broken: &mut dyn FnMut(&BrokenRecord),
) -> Result<TextSample, CorpusError> {
    options.input.check()?;
    let mut result = TextSample::default();
    let (mut training, mut held_out) = (Kept::new(options.limit_bytes), Kept::new(HELD_OUT_BYTES));
    let work = |record: &crate::source::Record| Document::of(record, &options.input);
    for_each_record(inputs, Position::default(), &options.input, options.threads, &work, &mut |item| {
        let Item::Record { position, line, result: document, .. } = item else { return Ok(()) };
        match document {
            Err(reason) => {
                result.broken += 1;
                broken(&BrokenRecord::at(inputs, position, line, &reason));
            }
            Ok(document) => {
                result.documents += 1;
                result.bytes += document.bytes() as u64;
                let texts = document.texts_between(&options.special_tokens);
                // The low bits say whether, the high bits how many: the two choices do not depend on each other.
                if document.content_hash % HELD_OUT_EVERY == 0 {
                    held_out.add(document.content_hash, texts);
                } else {
                    training.add(document.content_hash, texts);
                }
            }
        }
        Ok(())
    })?;
    result.share = 0.5f64.powi(training.halvings as i32);
    result.training = training.finish();
    result.held_out = held_out.finish();
    if result.training.is_empty() {
        // A single document, by chance one to hold out.
        result.training = result.held_out.clone();
    }
    if result.documents == 0 {
        return Err(CorpusError::NoText { broken: result.broken });
    }
    Ok(result)
}
