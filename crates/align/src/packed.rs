//! Documents one after the other, as the learner takes them, and where each one's answer is.

use std::ops::Range;

use zhenjin_model::TokenBatch;
use zhenjin_tokenizer::EncodedDialogue;

/// A micro-batch: documents, each with the rows that have a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// A token for each row.
    pub tokens: Vec<u32>,
    /// What each row is to predict.
    pub targets: Vec<Option<u32>>,
    /// Rows of each document.
    pub lengths: Vec<usize>,
}

impl Packed {
    /// Adds a dialogue without its last token, which predicts nothing; rows before a token that the assistant wrote have it as target.
    pub fn push(&mut self, dialogue: &EncodedDialogue) {
        let rows = dialogue.ids.len().saturating_sub(1);
        self.tokens.extend(&dialogue.ids[..rows]);
        let next = dialogue.ids.iter().zip(&dialogue.assistant_mask).skip(1);
        self.targets.extend(next.map(|(id, is_trained)| is_trained.then_some(*id)));
        self.lengths.push(rows);
    }

    /// Adds a prompt with an answer, each token of which is a target.
    pub fn push_answer(&mut self, prompt: &[u32], answer: &[u32]) {
        let rows = (prompt.len() + answer.len()).saturating_sub(1);
        self.tokens.extend(prompt.iter().chain(answer).take(rows));
        let without = prompt.len().saturating_sub(1);
        self.targets.extend(std::iter::repeat_n(None, without));
        self.targets.extend(answer.iter().map(|token| Some(*token)).take(rows - without));
        self.lengths.push(rows);
    }

    /// The rows of each document.
    pub fn documents(&self) -> impl Iterator<Item = Range<usize>> {
        self.lengths.iter().scan(0, |end, length| {
            let start = *end;
            *end += length;
            Some(start..*end)
        })
    }

    /// Rows that have a target.
    pub fn target_count(&self) -> usize {
        self.targets.iter().flatten().count()
    }

    /// As the learner takes it.
    pub fn batch(&self) -> TokenBatch<'_> {
        TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.targets }
    }
}

/// Consecutive groups of items whose sizes together are at most `most`, each with at least one item.
pub(crate) fn groups(sizes: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut sum) = (0, 0usize);
    for (index, size) in sizes.iter().enumerate() {
        if index > start && sum.saturating_add(*size) > most {
            groups.push(start..index);
            (start, sum) = (index, 0);
        }
        sum = sum.saturating_add(*size);
    }
    if start < sizes.len() {
        groups.push(start..sizes.len());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_next_token_as_target_if_the_assistant_wrote_it() {
        let mut packed = Packed::default();
        packed.push(&EncodedDialogue {
            ids: vec![1, 2, 3, 4, 5],
            assistant_mask: vec![false, false, true, true, false],
        });
        packed.push_answer(&[7, 8], &[9, 10, 11]);
        packed.push_answer(&[7], &[9]);
        assert_eq!(packed.tokens, [1, 2, 3, 4, 7, 8, 9, 10, 7]);
        assert_eq!(
            packed.targets,
            [None, Some(3), Some(4), None, None, Some(9), Some(10), Some(11), Some(9)]
        );
        assert_eq!(packed.lengths, [4, 4, 1]);
        assert_eq!(packed.documents().collect::<Vec<_>>(), [0..4, 4..8, 8..9]);
        assert_eq!(packed.target_count(), 6);
    }

    #[test]
    fn groups_are_full_but_not_too_full() {
        assert_eq!(groups(&[3, 3, 3, 9, 1, 1], 6), [0..2, 2..3, 3..4, 4..6]);
        assert!(groups(&[], 6).is_empty());
        assert_eq!(groups(&[usize::MAX, usize::MAX], 6), [0..1, 1..2]);
    }
}
