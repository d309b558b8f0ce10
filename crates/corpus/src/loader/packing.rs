//! Documents one after another, and any stretch of their rows.

use std::ops::Range;

use super::PackedSequence;
use crate::{CorpusError, ShardSet};

/// Documents in an order.
#[derive(Debug)]
pub(super) struct Packing {
    documents: Vec<u32>,
    /// `ends[i]` rows are those of the first i + 1 documents.
    ends: Vec<u64>,
}

impl Packing {
    pub(super) fn new(set: &ShardSet, documents: Vec<u32>) -> Packing {
        let mut end = 0;
        let ends = documents
            .iter()
            .map(|&document| {
                end += set.document_tokens(document.into());
                end
            })
            .collect();
        Packing { documents, ends }
    }

    pub(super) fn documents(&self) -> usize {
        self.documents.len()
    }

    /// Rows of all documents.
    pub(super) fn rows(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The rows `rows`, which lie below [`Packing::rows`].
    pub(super) fn sequence(&self, set: &ShardSet, rows: Range<u64>) -> Result<PackedSequence, CorpusError> {
        let mut sequence = PackedSequence::default();
        let mut buffer = Vec::new();
        let mut row = rows.start;
        let mut place = self.ends.partition_point(|&end| end <= row);
        while row < rows.end {
            let document = u64::from(self.documents[place]);
            let length = set.document_tokens(document);
            let start = length - (self.ends[place] - row);
            let end = length.min(start + (rows.end - row));
            // One more than the rows: the last row's target.
            buffer.clear();
            set.read_tokens(document, start..length.min(end + 1), &mut buffer)?;
            if end == length {
                buffer.push(set.end_of_text());
            }
            let count = (end - start) as usize;
            sequence.tokens.extend_from_slice(&buffer[..count]);
            sequence.targets.extend(buffer[1..].iter().map(|&target| Some(target)));
            sequence.bytes += buffer[1..].iter().map(|&target| set.token_bytes(target)).sum::<u64>();
            sequence.document_lengths.push(count);
            row += end - start;
            place += 1;
        }
        Ok(sequence)
    }
}
