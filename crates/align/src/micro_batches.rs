//! Which examples are computed together in which steps, and which of these batches takes the most memory.

use std::ops::Range;

use crate::configuration::BatchSection;
use crate::order::Order;
use crate::packed::{Packed, groups};

/// Steps that are looked at, at most.
const STEPS: u64 = 1024;
/// Batches whose rows are counted one by one, at most.
const COUNTED: usize = 256;

/// Answers, or examples, whose gradients are computed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MicroBatch {
    /// Number `example · answers + answer` of each.
    pub(crate) items: Vec<usize>,
    /// Rows, with those that are shared counted once for each that shares them.
    pub(crate) rows: usize,
}

/// The micro-batches of the steps in `steps`, of the first 1,024 of them at most, for examples of `sizes` rows that each have so many answers.
pub(crate) fn micro_batches(
    batch: &BatchSection,
    order: &mut Order,
    steps: Range<u64>,
    sizes: &dyn Fn(usize) -> usize,
    answers: usize,
) -> Vec<Vec<MicroBatch>> {
    let last = steps.end.min(steps.start.saturating_add(STEPS));
    let of_step = |step: u64| {
        let examples = order.examples(step * batch.examples as u64, batch.examples);
        let items: Vec<usize> = examples
            .iter()
            .flat_map(|example| (0..answers).map(move |answer| example * answers + answer))
            .collect();
        let sizes: Vec<usize> = items.iter().map(|item| sizes(item / answers.max(1))).collect();
        let of_range = |range: Range<usize>| MicroBatch {
            items: items[range.clone()].to_vec(),
            rows: sizes[range].iter().sum(),
        };
        groups(&sizes, batch.micro_tokens).into_iter().map(of_range).collect()
    };
    (steps.start..last).map(of_step).collect()
}

/// The micro-batch that computes the most rows when what documents begin with in common is computed once, and how many; of the 256 with
/// the most rows before that.
pub(crate) fn largest<'a>(
    candidates: impl Iterator<Item = &'a MicroBatch>,
    packed: &dyn Fn(&[usize]) -> Packed,
) -> Option<(&'a MicroBatch, usize)> {
    let mut candidates: Vec<&MicroBatch> = candidates.collect();
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.rows));
    let mut best: Option<(&MicroBatch, usize)> = None;
    for candidate in candidates.into_iter().take(COUNTED) {
        if best.is_some_and(|(_, rows)| rows >= candidate.rows) {
            break;
        }
        let rows = packed(&candidate.items).batch().different_rows();
        if best.is_none_or(|(_, most)| rows > most) {
            best = Some((candidate, rows));
        }
    }
    best
}

/// Whether a batch of so many rows takes nearly the memory of one of `most`.
pub(crate) fn is_nearly(rows: usize, most: usize) -> bool {
    rows.saturating_mul(20) >= most.saturating_mul(19)
}

/// Answers that are as long as they may be, for the numbers in `items`: they have nothing in common, and say nothing.
pub(crate) fn longest_answers<'a>(
    items: &[usize],
    answers: usize,
    max_tokens: usize,
    vocabulary: usize,
    prompt: &dyn Fn(usize) -> &'a [u32],
) -> Packed {
    let mut packed = Packed::default();
    for item in items {
        let first = (item % vocabulary.max(1)) as u32;
        packed.push_answer(prompt(item / answers.max(1)), &vec![first; max_tokens]);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(examples: usize, micro_tokens: usize) -> BatchSection {
        BatchSection { examples, micro_tokens }
    }

    #[test]
    fn the_largest_is_the_one_with_the_most_different_rows() {
        // Two documents that share all but one token, and one that is shorter than both together and shares nothing.
        let documents = [[1u32, 2, 3, 4, 5], [1, 2, 3, 4, 6], [7, 8, 9, 10, 11]];
        let packed = |items: &[usize]| {
            let mut packed = Packed::default();
            items.iter().for_each(|item| packed.push_answer(&[], &documents[*item]));
            packed
        };
        let of = |items: &[usize], rows| MicroBatch { items: items.to_vec(), rows };
        let candidates = [of(&[0, 1], 9), of(&[0, 2], 8), of(&[2], 4)];
        let (found, rows) = largest(candidates.iter(), &packed).unwrap();
        assert_eq!((&found.items[..], rows), (&[0, 2][..], 8));
        assert!(largest([].iter(), &packed).is_none());
    }

    #[test]
    fn steps_are_divided_as_the_runs_are() {
        let sizes = [10, 20, 30, 40];
        let mut order = Order::new(3, 4);
        let found = micro_batches(&batch(2, 50), &mut order, 0..3, &|example| sizes[example], 2);
        assert_eq!(found.len(), 3);
        let mut same = Order::new(3, 4);
        for (step, found) in found.iter().enumerate() {
            let examples = same.examples(2 * step as u64, 2);
            let items: Vec<usize> = found.iter().flat_map(|micro| micro.items.clone()).collect();
            let expected: Vec<usize> =
                examples.iter().flat_map(|example| [2 * example, 2 * example + 1]).collect();
            assert_eq!(items, expected);
            for micro in found {
                let rows: usize = micro.items.iter().map(|item| sizes[item / 2]).sum();
                assert!(micro.rows == rows && (rows <= 50 || micro.items.len() == 1), "{micro:?}");
            }
        }
        let prompts: [&[u32]; 2] = [&[7, 8], &[9]];
        let packed = longest_answers(&[0, 1, 2], 2, 3, 100, &|example| prompts[example]);
        assert_eq!(packed.tokens, [7, 8, 0, 0, 7, 8, 1, 1, 9, 2, 2]);
        assert_eq!(packed.batch().different_rows(), 9);
    }
}
