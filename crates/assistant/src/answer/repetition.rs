//! Finds answers that repeat the same tokens without end. What it finds is a function of the answer's tokens and the
//! rule alone.

/// When an answer counts as a loop.
///
/// An answer's tail of n tokens has period p if each of its last n - p tokens equals the one p places before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepetitionDetection {
    /// Never.
    Off,
    /// A tail of period p ≤ 512 that repeats its pattern at least 4 times and has at least 1,024 tokens, or 512 where
    /// the pattern has 16 different tokens or more, as sentences and program code have.
    ///
    /// Laughter, ruled lines, tables and matrices of zeros repeat few different tokens, and people ask for them.
    #[default]
    Standard,
    /// A tail of a period from `min_pattern` to `max_pattern` that repeats its pattern at least `min_count` times: the
    /// meaning that vLLM's `repetition_detection` has.
    Pattern {
        /// The shortest period, at least 1.
        min_pattern: usize,
        /// The longest period, at most [`MAX_PATTERN`].
        max_pattern: usize,
        /// The least number of repetitions, at least 2.
        min_count: usize,
    },
}

/// The longest period that is looked for.
pub const MAX_PATTERN: usize = 512;
/// The longest tail, in tokens, that may be asked for before it counts as a loop.
pub const MAX_COUNT: usize = 100_000;

/// The least repetitions of a pattern that is a loop.
const LEAST_COUNT: usize = 4;
/// The least tokens of a loop.
const LEAST_TOKENS: usize = 1024;
/// The least tokens of a loop whose pattern is varied.
const LEAST_VARIED_TOKENS: usize = 512;
/// The different tokens that make a pattern varied.
const VARIED: usize = 16;

/// An answer's tokens, as far as they have come.
#[derive(Clone, Debug)]
pub(crate) struct RepetitionDetector {
    rule: RepetitionDetection,
    /// The last tokens, at most as many as the longest period; token i is at i modulo that.
    recent: Vec<u32>,
    /// How many tokens came.
    count: usize,
    /// The least tokens of a loop, beside the rule.
    least: usize,
    /// At p - 1: how many of the newest tokens in a row equal the one p places before.
    equal: Vec<usize>,
}

impl RepetitionDetector {
    /// Before the first token; `None` if the rule finds nothing ever.
    pub(crate) fn new(rule: RepetitionDetection) -> Option<RepetitionDetector> {
        let longest = match rule {
            RepetitionDetection::Off => return None,
            RepetitionDetection::Standard => MAX_PATTERN,
            RepetitionDetection::Pattern { max_pattern, .. } => max_pattern.min(MAX_PATTERN),
        };
        Some(RepetitionDetector {
            rule,
            recent: vec![0; longest],
            count: 0,
            least: 0,
            equal: vec![0; longest],
        })
    }

    /// The same with loops of at least `tokens` tokens.
    pub(crate) fn of_at_least(self, tokens: usize) -> RepetitionDetector {
        RepetitionDetector { least: tokens, ..self }
    }

    /// Takes note of the next token; true if the answer is a loop now.
    pub(crate) fn push(&mut self, token: u32) -> bool {
        let longest = self.recent.len();
        let mut is_loop = false;
        for period in 1..=longest.min(self.count) {
            let earlier = self.recent[(self.count - period) % longest];
            let equal = &mut self.equal[period - 1];
            *equal = if earlier == token { *equal + 1 } else { 0 };
            let tail = *equal + period;
            is_loop = is_loop || (*equal > 0 && tail >= self.least && self.rule.is_reached(period, tail));
        }
        if longest > 0 {
            self.recent[self.count % longest] = token;
        }
        self.count += 1;
        is_loop && self.is_loop()
    }

    /// The whole rule, with what is too much to count at each token.
    fn is_loop(&self) -> bool {
        (1..=self.recent.len().min(self.count)).any(|period| {
            let equal = self.equal[period - 1];
            let tail = equal + period;
            equal > 0
                && tail >= self.least
                && self.rule.is_reached(period, tail)
                && (self.rule != RepetitionDetection::Standard
                    || tail >= LEAST_TOKENS
                    || self.different(period) >= VARIED)
        })
    }

    /// How many different tokens the newest `period` ones are.
    fn different(&self, period: usize) -> usize {
        let longest = self.recent.len();
        let newest = (1..=period.min(self.count)).map(|back| self.recent[(self.count - back) % longest]);
        newest.collect::<std::collections::BTreeSet<u32>>().len()
    }
}

impl RepetitionDetection {
    /// Whether a tail of `tail` tokens with this period may be a loop.
    fn is_reached(self, period: usize, tail: usize) -> bool {
        match self {
            RepetitionDetection::Off => false,
            RepetitionDetection::Standard => {
                tail >= LEAST_VARIED_TOKENS && tail >= period.saturating_mul(LEAST_COUNT)
            }
            RepetitionDetection::Pattern { min_pattern, max_pattern, min_count } => {
                (min_pattern..=max_pattern).contains(&period) && tail >= period.saturating_mul(min_count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The number of tokens after which the answer is a loop.
    fn found_after(rule: RepetitionDetection, tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let mut detector = RepetitionDetector::new(rule)?;
        tokens.into_iter().position(|token| detector.push(token)).map(|index| index + 1)
    }

    fn repeated(pattern: &[u32], tokens: usize) -> impl Iterator<Item = u32> {
        pattern.iter().copied().cycle().take(tokens)
    }

    /// The definition, computed anew from all tokens.
    fn is_loop_by_definition(tokens: &[u32]) -> bool {
        (1..=MAX_PATTERN.min(tokens.len().saturating_sub(1))).any(|period| {
            let equal = (period..tokens.len())
                .rev()
                .take_while(|&index| tokens[index] == tokens[index - period])
                .count();
            let tail = equal + period;
            let pattern: std::collections::BTreeSet<_> = tokens[tokens.len() - period..].iter().collect();
            equal > 0 && tail >= 4 * period && (tail >= 1024 || (tail >= 512 && pattern.len() >= 16))
        })
    }

    #[test]
    fn loops_are_found_where_the_rule_says() {
        let standard = RepetitionDetection::Standard;
        assert_eq!(found_after(standard, repeated(&[7], 5000)), Some(1024));
        assert_eq!(found_after(standard, repeated(&[1, 2, 3], 5000)), Some(1024));
        let sentence: Vec<u32> = (0..20).collect();
        assert_eq!(found_after(standard, repeated(&sentence, 5000)), Some(512));
        let page: Vec<u32> = (0..500).collect();
        assert_eq!(found_after(standard, repeated(&page, 5000)), Some(2000));
        let story = (1000..3000).chain(repeated(&sentence, 5000));
        assert_eq!(found_after(standard, story), Some(2000 + 512));
        assert_eq!(found_after(RepetitionDetection::Off, repeated(&[7], 5000)), None);
        assert_eq!(found_after(standard, repeated(&(0..600).collect::<Vec<u32>>(), 20_000)), None);
    }

    #[test]
    fn what_people_ask_for_is_no_loop() {
        let standard = RepetitionDetection::Standard;
        let laughter = repeated(&[10, 11], 20);
        let ruled_line = repeated(&[5], 400);
        let line_100_times = repeated(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 900);
        // 20 rows of a matrix of zeros, 20 in each: "[0, 0, …, 0],\n".
        let row: Vec<u32> = [50].into_iter().chain(repeated(&[0, 1], 39)).chain([51, 52]).collect();
        let zeros = repeated(&row, row.len() * 20);
        let counting = (0..3000u32).flat_map(|number| [number / 100, number % 100 + 1000, 7]);
        let table_rows = (0..500u32).flat_map(|row| [7, row + 100, 7, 9, 7, 9, 7, 8]);
        assert_eq!(found_after(standard, laughter), None);
        assert_eq!(found_after(standard, ruled_line), None);
        assert_eq!(found_after(standard, line_100_times), None);
        assert_eq!(found_after(standard, zeros), None);
        assert_eq!(found_after(standard, counting), None);
        assert_eq!(found_after(standard, table_rows), None);
    }

    #[test]
    fn a_rule_of_ones_own_counts_patterns() {
        let rule = RepetitionDetection::Pattern { min_pattern: 2, max_pattern: 10, min_count: 3 };
        assert_eq!(found_after(rule, [1, 2, 3, 1, 2, 3, 1, 2, 3]), Some(9));
        // Six equal tokens are three patterns of two.
        assert_eq!(found_after(rule, repeated(&[4], 20)), Some(6));
        assert_eq!(found_after(rule, repeated(&(0..11).collect::<Vec<u32>>(), 200)), None);
        assert_eq!(found_after(rule, (0..300).map(|index| index % 11 * (index / 11 + 1))), None);
    }

    proptest! {
        #[test]
        fn the_counters_agree_with_the_definition(
            start in prop::collection::vec(0u32..5, 0..40),
            pattern in prop::collection::vec(0u32..40, 1..90),
            repeats in 1usize..30,
        ) {
            let tokens: Vec<u32> = start.iter().copied().chain(repeated(&pattern, pattern.len() * repeats)).collect();
            let mut detector = RepetitionDetector::new(RepetitionDetection::Standard).expect("it is on");
            for length in 1..=tokens.len() {
                let found = detector.push(tokens[length - 1]);
                if length % 37 == 0 || length == tokens.len() {
                    prop_assert_eq!(found, is_loop_by_definition(&tokens[..length]));
                }
            }
        }

        #[test]
        fn text_that_never_repeats_512_tokens_is_never_cut(tokens in prop::collection::vec(0u32..3, 0..500)) {
            prop_assert_eq!(found_after(RepetitionDetection::Standard, tokens), None);
        }
    }
}
