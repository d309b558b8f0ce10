//! Documents that begin with the same tokens: what they have in common is computed once.

use std::collections::BTreeMap;

use zhenjin_tensor::{DocumentRows, TensorError};

use super::TokenBatch;

/// The rows that are computed for a batch, and their tokens.
pub(super) struct ComputedRows {
    pub(super) documents: DocumentRows,
    pub(super) tokens: Vec<u32>,
}

impl ComputedRows {
    /// A row for each token of the batch.
    pub(super) fn of_all(batch: &TokenBatch<'_>) -> Result<ComputedRows, TensorError> {
        let documents = DocumentRows::separate(batch.document_lengths)?;
        Ok(ComputedRows { documents, tokens: batch.tokens.to_vec() })
    }

    /// A row for each different beginning of a document: tokens with the same tokens before them have the same row.
    pub(super) fn of_beginnings(batch: &TokenBatch<'_>) -> Result<ComputedRows, TensorError> {
        let (rows, tokens) = beginnings(batch);
        Ok(ComputedRows { documents: DocumentRows::new(batch.document_lengths, rows)?, tokens })
    }
}

/// The row of each token, and the tokens of all rows, one for each different beginning.
fn beginnings(batch: &TokenBatch<'_>) -> (Vec<usize>, Vec<u32>) {
    let mut tokens = Vec::new();
    let mut rows = Vec::with_capacity(batch.tokens.len());
    // By the row before it and the token.
    let mut known: BTreeMap<(Option<usize>, u32), usize> = BTreeMap::new();
    let mut rest = batch.tokens.iter();
    for length in batch.document_lengths {
        let mut last = None;
        for token in rest.by_ref().take(*length) {
            let row = *known.entry((last, *token)).or_insert_with(|| {
                tokens.push(*token);
                tokens.len() - 1
            });
            rows.push(row);
            last = Some(row);
        }
    }
    (rows, tokens)
}

impl TokenBatch<'_> {
    /// Rows that are computed for it where documents share what they begin with
    /// ([`Learner::with_shared_beginnings`](super::Learner::with_shared_beginnings)).
    pub fn different_rows(&self) -> usize {
        beginnings(self).1.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_behind_the_same_tokens_have_one_row() {
        let tokens = [1, 2, 3, 1, 2, 4, 3, 1, 2, 2, 1, 2, 4];
        let targets = [None; 13];
        let batch = TokenBatch { tokens: &tokens, document_lengths: &[3, 4, 2, 1, 3], targets: &targets };
        let rows = ComputedRows::of_beginnings(&batch).unwrap();
        assert_eq!(rows.documents.of_positions(), [0, 1, 2, 0, 1, 3, 4, 0, 1, 5, 0, 1, 3]);
        assert_eq!(rows.tokens, [1, 2, 3, 4, 3, 2]);
        assert_eq!(batch.different_rows(), 6);
        let all = ComputedRows::of_all(&batch).unwrap();
        assert_eq!((all.documents.rows(), &all.tokens[..]), (13, &tokens[..]));
    }
}
