//! One token from one row of logits. Holds the scratch space; keeps nothing from one row to the next.

use zhenjin_tensor::{SimdLevel, softmax};

use super::log_softmax::{BrokenLogit, highest};
use super::mask::TokenMask;
use super::penalties::{TokenHistory, add_bias};
use super::truncation::{Candidate, candidates_of_mass, highest_candidates, kept_count};
use super::{Sampling, random};

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// The model's numbers are broken.
    #[error(transparent)]
    BrokenLogit(#[from] BrokenLogit),
    /// Nothing is left to choose from.
    #[error(
        "no token is possible here: the constraint, or the model itself, excludes every token of the vocabulary"
    )]
    NothingAllowed,
}

/// What decides one choice, besides the logits.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The request's settings.
    pub sampling: &'a Sampling,
    /// What came before; needed where [`Sampling::has_penalties`].
    pub history: Option<&'a TokenHistory>,
    /// What a constraint allows.
    pub mask: Option<&'a TokenMask>,
    /// Where random numbers come from.
    pub seed: u64,
    /// The position in the sequence that the token will have.
    pub position: usize,
}

/// Probabilities are summed in blocks of this many.
const BLOCK: usize = 256;

/// Scratch space for choosing tokens, reused from row to row.
#[derive(Debug)]
pub struct Sampler {
    simd: SimdLevel,
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    block_sums: Vec<f64>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler whose exponentials use the instructions of `simd`.
    pub fn new(simd: SimdLevel) -> Sampler {
        Sampler {
            simd,
            logits: Vec::new(),
            probabilities: Vec::new(),
            block_sums: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Chooses a token from `logits` [vocabulary].
    ///
    /// # Errors
    /// [`SampleError`] if the logits are broken or nothing is allowed.
    pub fn sample(&mut self, logits: &[f32], choice: Choice<'_>) -> Result<u32, SampleError> {
        let sampling = choice.sampling;
        let raw_highest = highest(logits)?;
        let unchanged = choice.history.is_none() && choice.mask.is_none() && sampling.logit_bias.is_empty();
        if unchanged && sampling.temperature == 0.0 {
            return first_with(logits, raw_highest);
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        if let Some(history) = choice.history {
            history.penalise(sampling, &mut self.logits);
        }
        add_bias(&sampling.logit_bias, &mut self.logits);
        if let Some(mask) = choice.mask {
            mask.exclude_others(&mut self.logits);
        }
        let highest = highest(&self.logits)?;
        if sampling.temperature == 0.0 {
            return first_with(&self.logits, highest);
        }
        if highest == f32::NEG_INFINITY {
            return Err(SampleError::NothingAllowed);
        }
        self.weigh(highest, sampling.temperature);
        let random = random::uniform(choice.seed, choice.position as u64);
        Ok(self.draw(sampling, random))
    }

    /// probabilities = softmax((logits - highest) / temperature), and their sums by block. The highest is
    /// taken off before the division, so that no temperature is too small.
    fn weigh(&mut self, highest: f32, temperature: f32) {
        self.probabilities.clear();
        self.probabilities.extend(self.logits.iter().map(|&logit| (logit - highest) / temperature));
        softmax(self.simd, &mut self.probabilities);
        self.sum_blocks();
    }

    fn sum_blocks(&mut self) {
        self.block_sums.clear();
        let blocks = self.probabilities.chunks(BLOCK);
        self.block_sums.extend(blocks.map(|block| block.iter().copied().map(f64::from).sum::<f64>()));
    }

    fn draw(&mut self, sampling: &Sampling, random: f64) -> u32 {
        let truncates_by_rank = sampling.top_k > 0 && sampling.top_k < self.logits.len();
        if truncates_by_rank {
            highest_candidates(&self.logits, sampling.top_k, &mut self.candidates);
        } else if sampling.top_p < 1.0 {
            let total: f64 = self.block_sums.iter().sum();
            candidates_of_mass(
                &self.logits,
                &self.probabilities,
                f64::from(sampling.top_p) * total,
                &mut self.candidates,
            );
        } else {
            if sampling.min_p > 0.0 {
                let lowest = sampling.min_p * self.highest_probability();
                let unlikely = self.probabilities.iter_mut().filter(|probability| **probability < lowest);
                unlikely.for_each(|probability| *probability = 0.0);
                self.sum_blocks();
            }
            return self.draw_from_all(random);
        }
        let weights = self.candidates.iter().map(|candidate| self.probabilities[candidate.id as usize]);
        let total = if truncates_by_rank {
            weights.clone().map(f64::from).sum()
        } else {
            self.block_sums.iter().sum()
        };
        let kept = kept_count(weights, total, sampling.top_p, sampling.min_p).min(self.candidates.len());
        self.draw_from_candidates(kept, random)
    }

    fn draw_from_candidates(&self, kept: usize, random: f64) -> u32 {
        let weight = |candidate: &Candidate| f64::from(self.probabilities[candidate.id as usize]);
        let kept = &self.candidates[..kept];
        let target = random * kept.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        for candidate in kept {
            sum += weight(candidate);
            if sum > target {
                return candidate.id;
            }
        }
        // Rounding can leave the sum at the target; the most likely token is always among the kept.
        kept[0].id
    }

    /// Walks over the blocks' sums, then inside one block.
    fn draw_from_all(&self, random: f64) -> u32 {
        let target = random * self.block_sums.iter().sum::<f64>();
        let mut before = 0.0;
        for (block, &block_total) in self.block_sums.iter().enumerate() {
            if before + block_total <= target {
                before += block_total;
                continue;
            }
            let start = block * BLOCK;
            let end = (start + BLOCK).min(self.probabilities.len());
            let mut sum = before;
            let mut last_possible = start;
            for id in start..end {
                if self.probabilities[id] > 0.0 {
                    last_possible = id;
                    sum += f64::from(self.probabilities[id]);
                    if sum > target {
                        return id as u32;
                    }
                }
            }
            // The sum of the block from `before` on can round differently from the block's own sum.
            return last_possible as u32;
        }
        // `random` below 1 times the total can still round to the total: the most likely token is always
        // possible.
        let highest = self.highest_probability();
        self.probabilities.iter().position(|&probability| probability == highest).unwrap_or(0) as u32
    }

    fn highest_probability(&self) -> f32 {
        self.probabilities.iter().copied().fold(0.0, f32::max)
    }
}

fn first_with(logits: &[f32], highest: f32) -> Result<u32, SampleError> {
    if highest == f32::NEG_INFINITY {
        return Err(SampleError::NothingAllowed);
    }
    logits.iter().position(|&logit| logit == highest).map(|id| id as u32).ok_or(SampleError::NothingAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choice(sampling: &Sampling, position: usize) -> Choice<'_> {
        Choice { sampling, history: None, mask: None, seed: sampling.seed.unwrap_or(1), position }
    }

    #[test]
    fn greedy_takes_the_lowest_id_among_equals() {
        let mut logits = vec![0.0f32; 1000];
        logits[700] = 3.0;
        logits[300] = 3.0;
        assert_eq!(
            Sampler::new(SimdLevel::detect()).sample(&logits, choice(&Sampling::greedy(), 0)),
            Ok(300)
        );
        let biased = Sampling { logit_bias: vec![(700, 1.0)], ..Sampling::greedy() };
        assert_eq!(Sampler::new(SimdLevel::detect()).sample(&logits, choice(&biased, 0)), Ok(700));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits: Vec<f32> = vec![1.0, 2.0, 3.0, f32::NEG_INFINITY, 0.0];
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let mut sampler = Sampler::new(SimdLevel::detect());
        for sampling in [
            Sampling::default(),
            Sampling { top_k: 4, ..Sampling::default() },
            Sampling { top_p: 0.9999, ..Sampling::default() },
        ] {
            let mut counts = [0u32; 5];
            for position in 0..20_000 {
                counts[sampler.sample(&logits, choice(&sampling, position)).unwrap() as usize] += 1;
            }
            for (id, &count) in counts.iter().enumerate() {
                let expected = f64::from(logits[id]).exp() / total;
                assert!(
                    (f64::from(count) / 20_000.0 - expected).abs() < 0.012,
                    "token {id}: {count}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn an_empty_mask_is_an_error_and_a_nan_is_named() {
        let mask = TokenMask::none(4);
        let logits = [0.0, 1.0, f32::NAN, 0.0];
        for sampling in [Sampling::greedy(), Sampling::default()] {
            let constrained = Choice { mask: Some(&mask), ..choice(&sampling, 0) };
            assert_eq!(
                Sampler::new(SimdLevel::detect()).sample(&[0.0; 4], constrained),
                Err(SampleError::NothingAllowed)
            );
            let broken = Sampler::new(SimdLevel::detect()).sample(&logits, choice(&sampling, 0));
            assert_eq!(broken, Err(SampleError::BrokenLogit(BrokenLogit { token: 2, nan: true })));
        }
    }

    proptest! {
        #[test]
        fn draws_only_what_every_filter_keeps(
            logits in proptest::collection::vec(-8.0f32..8.0, 1..600),
            temperature in 1e-30f32..3.0, top_k in 0usize..40, top_p in 0.0f32..1.0, min_p in 0.0f32..1.0, position in 0usize..1000,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
            let mut used = Sampler::new(SimdLevel::detect());
            used.sample(&[5.0; 900], choice(&Sampling::default(), 3)).unwrap();
            let token = used.sample(&logits, choice(&sampling, position)).unwrap();
            prop_assert_eq!(token, Sampler::new(SimdLevel::detect()).sample(&logits, choice(&sampling, position)).unwrap());
            let mine = logits[token as usize];
            let higher = logits.iter().filter(|&&logit| logit > mine).count();
            prop_assert!(top_k == 0 || higher < top_k);
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |logit: f32| f64::from((logit - highest) / temperature).exp();
            prop_assert!(weight(mine) >= f64::from(min_p) * (1.0 - 1e-5));
        }
    }
}
