//! A part of a text that is chosen by the documents' contents: so many bytes, whatever order they stand in.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use crate::pipeline::{Item, Position, for_each_record};
use crate::source::{Document, InputFile, InputOptions, Record};
use crate::{BrokenRecord, CorpusError};

/// What to take.
#[derive(Debug, Clone)]
pub struct ExcerptOptions {
    /// How files become documents.
    pub input: InputOptions,
    /// Bytes of text at most; they are in memory together.
    pub limit_bytes: u64,
    /// Threads that read.
    pub threads: NonZeroUsize,
}

/// A part of a text.
#[derive(Debug, Default)]
pub struct Excerpt {
    /// Each a different document, in an order that depends on their contents alone.
    pub documents: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Documents that were read, equal ones counted each time.
    pub read_documents: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Records that were left out because they are broken.
    pub broken: u64,
}

/// The documents with the smallest hashes, as many as fit.
struct Smallest {
    documents: BTreeMap<u64, String>,
    bytes: u64,
    limit: u64,
    /// The smallest hash that did not fit: nothing from there on is taken, so that the order of reading does not matter.
    end: Option<u64>,
}

impl Smallest {
    fn add(&mut self, hash: u64, text: String) {
        if self.end.is_some_and(|end| hash >= end) || self.documents.contains_key(&hash) {
            return;
        }
        self.bytes += text.len() as u64;
        self.documents.insert(hash, text);
        while self.bytes > self.limit {
            let Some((hash, text)) = self.documents.pop_last() else { break };
            self.bytes -= text.len() as u64;
            self.end = Some(hash);
        }
    }
}

/// Reads all inputs and keeps different documents of at most [`ExcerptOptions::limit_bytes`]; `broken` is told what is left out.
///
/// # Errors
/// [`CorpusError::Input`] and [`CorpusError::Io`] when something cannot be read, [`CorpusError::NoText`] when there is no
/// document, [`CorpusError::Setting`] when not one fits.
pub fn excerpt(
    inputs: &[Vec<InputFile>],
    options: &ExcerptOptions,
    broken: &mut dyn FnMut(&BrokenRecord),
) -> Result<Excerpt, CorpusError> {
    options.input.check()?;
    let mut result = Excerpt::default();
    let mut kept = Smallest { documents: BTreeMap::new(), bytes: 0, limit: options.limit_bytes, end: None };
    let work = |record: &Record| Document::of(record, &options.input);
    for_each_record(inputs, Position::default(), &options.input, options.threads, &work, &mut |item| {
        let Item::Record { position, line, result: document, .. } = item else { return Ok(()) };
        match document {
            Err(reason) => {
                result.broken += 1;
                broken(&BrokenRecord::at(inputs, position, line, &reason));
            }
            Ok(document) => {
                result.read_documents += 1;
                result.read_bytes += document.bytes() as u64;
                let text = document.pieces.iter().map(|piece| piece.text.as_str()).collect();
                kept.add(document.content_hash, text);
            }
        }
        Ok(())
    })?;
    if result.read_documents == 0 {
        return Err(CorpusError::NoText { broken: result.broken });
    }
    if kept.documents.is_empty() {
        let reason = format!("{} bytes hold no whole document", options.limit_bytes);
        return Err(CorpusError::Setting { field: "bytes", reason });
    }
    result.bytes = kept.bytes;
    result.documents = kept.documents.into_values().collect();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limit: u64, documents: &[(u64, &str)]) -> Vec<u64> {
        let mut kept = Smallest { documents: BTreeMap::new(), bytes: 0, limit, end: None };
        documents.iter().for_each(|(hash, text)| kept.add(*hash, (*text).to_owned()));
        assert_eq!(kept.bytes, kept.documents.values().map(|text| text.len() as u64).sum::<u64>());
        kept.documents.into_keys().collect()
    }

    #[test]
    fn what_is_taken_does_not_depend_on_the_order_of_reading() {
        let documents = [(5, "12345678"), (1, "123456789"), (9, "1")];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for order in orders {
            assert_eq!(taken(10, &order.map(|index| documents[index])), [1], "{order:?}");
            assert_eq!(taken(17, &order.map(|index| documents[index])), [1, 5], "{order:?}");
            assert_eq!(taken(18, &order.map(|index| documents[index])), [1, 5, 9], "{order:?}");
        }
        assert_eq!(taken(10, &[(1, "12345"), (1, "12345")]), [1]);
        assert!(taken(4, &[(1, "12345")]).is_empty());
    }
}
