//! Which rows of a step need what: the rows that leave the last layer, and which of them go to the head, to the scores
//! and to the hidden states.

use zhenjin_tensor::ScoreTarget;

use crate::batch::{HiddenFor, LogitsFor, SequenceChunk};

/// A step's rows by what is wanted of them. Kept between steps, so that a step in the steady state allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Token ids of all rows.
    pub(crate) tokens: Vec<u32>,
    /// Rows of which anything is wanted, ascending.
    pub(crate) selected: Vec<usize>,
    /// Of the selected rows, by their number there: those whose logits are wanted.
    pub(crate) logits: Vec<usize>,
    /// Those after which a target is scored,
    pub(crate) scored: Vec<usize>,
    /// and its target.
    pub(crate) targets: Vec<ScoreTarget>,
    /// Those whose hidden states are wanted.
    pub(crate) hidden: Vec<usize>,
}

impl Selection {
    /// Takes in the rows of a step.
    pub(crate) fn set(&mut self, chunks: &[SequenceChunk<'_>]) {
        self.tokens.clear();
        self.targets.clear();
        for rows in [&mut self.selected, &mut self.logits, &mut self.scored, &mut self.hidden] {
            rows.clear();
        }
        for chunk in chunks {
            let first = self.tokens.len();
            self.tokens.extend_from_slice(chunk.tokens);
            for row in 0..chunk.tokens.len() {
                self.add(chunk, row, first);
            }
        }
    }

    /// Takes in row `row` of a chunk whose first row is `first`.
    fn add(&mut self, chunk: &SequenceChunk<'_>, row: usize, first: usize) {
        let is_last = row + 1 == chunk.tokens.len();
        let wants_logits = chunk.logits == LogitsFor::All || (chunk.logits == LogitsFor::Last && is_last);
        let wants_hidden = chunk.hidden == HiddenFor::All || (chunk.hidden == HiddenFor::Last && is_last);
        let target =
            row.checked_sub(chunk.scores.first_row).and_then(|index| chunk.scores.targets.get(index));
        let number = self.selected.len();
        if wants_logits {
            self.logits.push(number);
        }
        if wants_hidden {
            self.hidden.push(number);
        }
        if let Some(target) = target {
            self.scored.push(number);
            self.targets.push(ScoreTarget { output: *target as usize, top: chunk.scores.top });
        }
        if wants_logits || wants_hidden || target.is_some() {
            self.selected.push(first + row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scoring;

    #[test]
    fn each_row_goes_where_it_is_wanted() {
        let scores = Scoring { first_row: 1, targets: &[7, 8], top: 2 };
        let chunks = [
            SequenceChunk {
                tokens: &[1, 2, 3, 4, 5],
                logits: LogitsFor::Last,
                scores,
                ..SequenceChunk::default()
            },
            SequenceChunk { tokens: &[6, 7], ..SequenceChunk::default() },
            SequenceChunk {
                tokens: &[8, 9],
                hidden: HiddenFor::All,
                logits: LogitsFor::Last,
                ..SequenceChunk::default()
            },
        ];
        let mut selection = Selection::default();
        for _ in 0..2 {
            selection.set(&chunks);
            assert_eq!(selection.tokens.len(), 9);
            assert_eq!(selection.selected, [1, 2, 4, 7, 8]);
            assert_eq!((&selection.scored[..], &selection.logits[..]), (&[0, 1][..], &[2, 4][..]));
            assert_eq!(selection.hidden, [3, 4]);
            assert_eq!(selection.targets[1], ScoreTarget { output: 8, top: 2 });
        }
    }
}
