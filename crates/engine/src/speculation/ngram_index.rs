//! Where the latest tokens of a sequence occurred before. An entry is lost only when the bounded search for a free slot
//! overwrites it.

/// The most slots probed for one n-gram, so that no choice of tokens makes the search long.
const PROBES: usize = 16;
/// Slots for each token, so that a search seldom probes many.
const SLOTS_PER_TOKEN: usize = 4;
const LEAST_SLOTS: usize = 256;

/// For each n-gram of a sequence, the position of the token that followed its latest occurrence.
///
/// An open-addressed table of positions, at most a quarter full, beside the tokens themselves: an n-gram is
/// compared token by token where the table points to, so that a collision of hashes is never taken for it.
#[derive(Debug)]
pub(super) struct NgramIndex {
    n: usize,
    /// Positions of followers; 0 is free, because nothing comes before the first token.
    slots: Vec<u32>,
    /// The followers below this position are in the table.
    indexed: usize,
}

impl NgramIndex {
    /// For n-grams of `n` tokens, at least one.
    pub(super) fn new(n: usize) -> NgramIndex {
        NgramIndex { n, slots: vec![0; LEAST_SLOTS], indexed: n }
    }

    /// Takes note of all `tokens`, which begin with those of the call before.
    pub(super) fn extend(&mut self, tokens: &[u32]) {
        let least = tokens.len().saturating_mul(SLOTS_PER_TOKEN);
        if least > self.slots.len() {
            self.slots.clear();
            self.slots.resize(least.next_power_of_two(), 0);
            self.indexed = self.n;
        }
        for follower in self.indexed..tokens.len() {
            let slot = self.slot(tokens, &tokens[follower - self.n..follower]);
            self.slots[slot] = follower as u32;
        }
        self.indexed = self.indexed.max(tokens.len());
    }

    /// The position after the latest earlier occurrence of the last n tokens. All of `tokens` must have been
    /// taken note of.
    pub(super) fn find(&self, tokens: &[u32]) -> Option<usize> {
        let ngram = &tokens[tokens.len().checked_sub(self.n)?..];
        let follower = self.slots[self.slot(tokens, ngram)] as usize;
        (follower >= self.n && tokens.get(follower - self.n..follower) == Some(ngram)).then_some(follower)
    }

    /// The slot of `ngram`: the one that it has, else a free one, else the first one probed.
    fn slot(&self, tokens: &[u32], ngram: &[u32]) -> usize {
        let mask = self.slots.len() - 1;
        let home = hash(ngram) as usize;
        let is_its = |slot: &usize| match self.slots[*slot] as usize {
            0 => true,
            follower => &tokens[follower - self.n..follower] == ngram,
        };
        (home..home.saturating_add(PROBES)).map(|place| place & mask).find(is_its).unwrap_or(home & mask)
    }
}

/// Fowler, Noll, Vo over tokens, mixed so that the low bits depend on all of them.
fn hash(ngram: &[u32]) -> u64 {
    let hash = ngram.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &token| {
        (hash ^ u64::from(token)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_latest_occurrence_is_found_as_by_looking_at_all(
            tokens in prop::collection::vec(0u32..4, 1..400), n in 1usize..4, piece in 1usize..50,
        ) {
            let mut index = NgramIndex::new(n);
            for end in (1..=tokens.len()).step_by(piece) {
                let tokens = &tokens[..end];
                index.extend(tokens);
                let expected = (n..end).rev().find(|&follower| {
                    end >= n && tokens[follower - n..follower] == tokens[end - n..]
                });
                prop_assert_eq!(index.find(tokens), expected);
            }
        }

        #[test]
        fn what_is_found_is_an_occurrence_even_where_places_run_out(
            tokens in prop::collection::vec(any::<u32>(), 1..300), repeated in 0usize..300,
        ) {
            let mut tokens = tokens;
            let again = tokens[repeated.min(tokens.len() - 1)..].to_vec();
            tokens.extend(again);
            let mut index = NgramIndex::new(2);
            index.extend(&tokens);
            if let Some(follower) = index.find(&tokens) {
                prop_assert_eq!(&tokens[follower - 2..follower], &tokens[tokens.len() - 2..]);
                prop_assert!(follower < tokens.len());
            }
        }
    }

    #[test]
    fn the_table_stays_within_eight_places_for_each_token() {
        let tokens: Vec<u32> = (0..5000).map(|i| i * i % 997).collect();
        let mut index = NgramIndex::new(4);
        for end in 1..=tokens.len() {
            index.extend(&tokens[..end]);
            assert!(index.slots.len() <= (8 * end).max(LEAST_SLOTS));
        }
    }
}
