//! Which rows of a batch belong to which document, where documents that begin alike share the rows of what they have in common.

use std::ops::Range;

use crate::TensorError;

/// Whole documents of a batch. A document's own rows are consecutive, and behind those of all documents before it; its first rows may be
/// those of earlier documents instead: a row's numbers depend on what is before it in its document alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentRows {
    /// The row of each position of each document, one document after the other.
    rows: Vec<usize>,
    documents: Vec<Document>,
    count: usize,
}

/// A document of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Where its positions are in the list of all documents' positions.
    places: Range<usize>,
    /// Positions whose rows belong to earlier documents.
    pub(crate) shared: usize,
    /// The row of the first position behind these.
    pub(crate) first_row: usize,
    /// Shared positions of all documents before it.
    pub(crate) shared_before: usize,
}

impl Document {
    /// Positions.
    pub(crate) fn positions(&self) -> usize {
        self.places.len()
    }

    /// Rows of its own.
    pub(crate) fn own_rows(&self) -> usize {
        self.positions() - self.shared
    }
}

impl DocumentRows {
    /// Documents of these lengths that share nothing.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`] for more rows than can be numbered in 32 bits.
    pub fn separate(lengths: &[usize]) -> Result<DocumentRows, TensorError> {
        let mut documents = DocumentRows::default();
        let all = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
        if all.is_none_or(|all| u32::try_from(all).is_err()) {
            return Err(TensorError::OutOfMemory {
                what: "rows of packed documents",
                elements: all.unwrap_or(usize::MAX),
            });
        }
        for length in lengths {
            let first = documents.count;
            documents.rows.extend(first..first + length);
            documents.push(*length, 0);
        }
        Ok(documents)
    }

    /// Documents of these lengths; `rows` has the row of each of their positions, one document after the other.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `rows` does not have as many; [`TensorError::RowOutOfRange`] when a document is not first rows of earlier
    /// documents, as these have them, and then the next rows that no document has.
    pub fn new(lengths: &[usize], rows: Vec<usize>) -> Result<DocumentRows, TensorError> {
        let all = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
        crate::error::expect("rows of documents", all.unwrap_or(usize::MAX), rows.len())?;
        let mut documents = DocumentRows { rows, ..DocumentRows::default() };
        // Of each row, the one before it in its document.
        let mut before: Vec<Option<usize>> = Vec::new();
        let mut start = 0;
        for length in lengths {
            let own = &documents.rows[start..start + length];
            let shared = own.iter().take_while(|row| **row < documents.count).count();
            let mut last = None;
            for (position, row) in own.iter().enumerate() {
                let expected = if position < shared { *row } else { documents.count + position - shared };
                let fits = *row == expected && before.get(*row).is_none_or(|before| *before == last);
                if !fits || *row > before.len() {
                    return Err(TensorError::RowOutOfRange { row: *row, rows: before.len() });
                }
                if *row == before.len() {
                    before.push(last);
                }
                last = Some(*row);
            }
            start += length;
            documents.push(*length, shared);
        }
        Ok(documents)
    }

    fn push(&mut self, length: usize, shared: usize) {
        let last = self.documents.last();
        let start = last.map_or(0, |last| last.places.end);
        let shared_before = last.map_or(0, |last| last.shared_before + last.shared);
        let places = start..start + length;
        self.documents.push(Document { places, shared, first_row: self.count, shared_before });
        self.count += length - shared;
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.count
    }

    /// The row of each position of each document, one document after the other.
    pub fn of_positions(&self) -> &[usize] {
        &self.rows
    }

    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// The rows of a document's positions.
    pub(crate) fn of(&self, document: &Document) -> &[usize] {
        &self.rows[document.places.clone()]
    }

    /// The position of every row in its document.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.documents.iter().flat_map(|document| document.shared..document.positions())
    }

    /// Positions whose rows belong to earlier documents, over all documents.
    pub(crate) fn shared(&self) -> usize {
        self.documents.last().map_or(0, |last| last.shared_before + last.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_of_documents_are_refused() {
        let good = DocumentRows::new(&[3, 4, 2, 3], vec![0, 1, 2, 0, 1, 3, 4, 0, 1, 0, 1, 3]).unwrap();
        assert_eq!(good.rows(), 5);
        assert_eq!(good.shared(), 7);
        assert_eq!(good.positions().collect::<Vec<_>>(), [0, 1, 2, 2, 3]);
        let [.., third, fourth] = good.documents() else { panic!("four documents") };
        assert_eq!((third.own_rows(), third.shared, fourth.shared_before), (0, 2, 4));
        assert_eq!(
            DocumentRows::new(&[2, 3], vec![0, 1, 2, 3, 4]).unwrap(),
            DocumentRows::separate(&[2, 3]).unwrap()
        );
        for (lengths, rows) in [
            (vec![2, 2], vec![0, 1, 2]),
            (vec![usize::MAX, 2], vec![0, 1, 2]),
            // A gap, a row of another place, a row of another prefix, and an own row before a shared one.
            (vec![2, 2], vec![0, 1, 0, 3]),
            (vec![2, 2], vec![0, 1, 1, 2]),
            (vec![3, 3, 3], vec![0, 1, 2, 0, 3, 4, 0, 1, 4]),
            (vec![2, 2], vec![0, 1, 2, 1]),
            (vec![2], vec![1, 0]),
        ] {
            assert!(DocumentRows::new(&lengths, rows.clone()).is_err(), "{rows:?}");
        }
    }
}
