//! Byte-pair merging of one word: the pair of least rank first, the leftmost of equal ones (Sennrich et al., arXiv
//! 1508.07909).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::AHashMap;

/// Words up to this many bytes search all pairs for the least rank; longer ones keep a heap, whose cost does not grow with
/// the square of the length.
const SEARCHED_BYTES: usize = 96;
/// Marks a pair that does not merge. No rank is that large: vocabularies are bounded.
const NONE: u32 = u32::MAX;

/// Which pairs merge: rank and merged token, by the ids of left and right.
#[derive(Debug, Default)]
pub(super) struct Merges(AHashMap<u64, (u32, u32)>);

impl Merges {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self(AHashMap::with_capacity(count))
    }

    pub(super) fn insert(&mut self, left: u32, right: u32, rank: u32, merged: u32) {
        self.0.insert(key(left, right), (rank, merged));
    }

    fn rank(&self, left: u32, right: u32) -> (u32, u32) {
        self.0.get(&key(left, right)).copied().unwrap_or((NONE, NONE))
    }

    /// Merges the tokens of a word until no pair merges any more.
    pub(super) fn merge(&self, word: &mut Vec<u32>, scratch: &mut Scratch) {
        if word.len() <= SEARCHED_BYTES {
            self.merge_short(word, &mut scratch.pairs);
        } else {
            self.merge_long(word);
        }
    }

    fn merge_short(&self, word: &mut Vec<u32>, pairs: &mut Vec<(u32, u32)>) {
        pairs.clear();
        pairs.extend(word.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        loop {
            let mut best = (NONE, 0);
            for (index, &(rank, _)) in pairs.iter().enumerate() {
                if rank < best.0 {
                    best = (rank, index);
                }
            }
            let (rank, index) = best;
            if rank == NONE {
                return;
            }
            word[index] = pairs[index].1;
            word.remove(index + 1);
            pairs.remove(index);
            if index > 0 {
                pairs[index - 1] = self.rank(word[index - 1], word[index]);
            }
            if index < pairs.len() {
                pairs[index] = self.rank(word[index], word[index + 1]);
            }
        }
    }

    fn merge_long(&self, word: &mut Vec<u32>) {
        // Tokens stay at their first byte's index; a merged one leaves NONE at its right part's index.
        let mut next: Vec<usize> = (1..=word.len()).collect();
        let mut previous: Vec<Option<usize>> = (0..word.len()).map(|index| index.checked_sub(1)).collect();
        let mut heap: BinaryHeap<Reverse<(u32, usize, u32)>> = word
            .windows(2)
            .enumerate()
            .map(|(index, pair)| (self.rank(pair[0], pair[1]), index))
            .filter(|&((rank, _), _)| rank != NONE)
            .map(|((rank, merged), index)| Reverse((rank, index, merged)))
            .collect();
        while let Some(Reverse((_, index, merged))) = heap.pop() {
            let right = next[index];
            // The pair may have been merged with a neighbour since it was queued; then its union is another token.
            if word[index] == NONE || right >= word.len() || self.rank(word[index], word[right]).1 != merged {
                continue;
            }
            word[index] = merged;
            word[right] = NONE;
            next[index] = next[right];
            if let Some(previous) = previous.get_mut(next[index]) {
                *previous = Some(index);
            }
            let left_pair = previous[index].map(|left| (left, index));
            let right_pair = Some((index, next[index])).filter(|&(_, right)| right < word.len());
            for (left, right) in left_pair.into_iter().chain(right_pair) {
                let (rank, merged) = self.rank(word[left], word[right]);
                if rank != NONE {
                    heap.push(Reverse((rank, left, merged)));
                }
            }
        }
        word.retain(|&token| token != NONE);
    }
}

/// Memory that is used again for every word.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pairs: Vec<(u32, u32)>,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word.
    fn merged_one_by_one(merges: &Merges, mut word: Vec<u32>) -> Vec<u32> {
        loop {
            let best = (1..word.len())
                .map(|right| (merges.rank(word[right - 1], word[right]), right))
                .filter(|&((rank, _), _)| rank != NONE)
                .min_by_key(|&((rank, _), right)| (rank, right));
            let Some(((_, merged), right)) = best else { return word };
            word.splice(right - 1..=right, [merged]);
        }
    }

    proptest! {
        #[test]
        fn both_ways_merge_as_defined(
            word in prop::collection::vec(0u32..4, 0..60),
            // As in a vocabulary, every pair merges into a token of its own.
            pairs in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
        ) {
            let mut merges = Merges::default();
            let mut tokens = vec![0, 1, 2, 3];
            for (rank, (left, right)) in pairs.into_iter().enumerate() {
                let merged = 4 + rank as u32;
                merges.insert(*left.get(&tokens), *right.get(&tokens), rank as u32, merged);
                tokens.push(merged);
            }
            let expected = merged_one_by_one(&merges, word.clone());
            let (mut short, mut long) = (word.clone(), word);
            merges.merge_short(&mut short, &mut Vec::new());
            merges.merge_long(&mut long);
            prop_assert_eq!(&short, &expected);
            prop_assert_eq!(&long, &expected);
        }
    }
}
