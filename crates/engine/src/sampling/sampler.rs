//! One token from one row of logits. Holds the scratch space; keeps nothing from one row to the next.

use zhenjin_tensor::SimdLevel;

use super::blocks::{Blocks, Row, draw};
use super::log_softmax::BrokenLogit;
use super::mask::TokenMask;
use super::penalties::{TokenHistory, add_bias};
use super::truncation::{Candidate, highest_candidates, kept_count, likely_candidates, nucleus};
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

/// Weights e^((logit − highest) / temperature) are 0 for every lower logit from this inverse temperature on.
const GREATEST_SCALE: f32 = 1e30;

/// Scratch space for choosing tokens, reused from row to row. A row's logits are read once, by blocks, and then only those blocks that
/// can hold what is drawn.
#[derive(Debug)]
pub struct Sampler {
    simd: SimdLevel,
    /// The logits, where anything changes them.
    changed: Vec<f32>,
    blocks: Blocks,
    candidates: Vec<Candidate>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler that uses the instructions of `simd`.
    pub fn new(simd: SimdLevel) -> Sampler {
        Sampler {
            simd,
            changed: Vec::new(),
            blocks: Blocks::default(),
            candidates: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Chooses a token from `logits` [vocabulary].
    ///
    /// # Errors
    /// [`SampleError`] if the logits are broken or nothing is allowed.
    pub fn sample(&mut self, logits: &[f32], choice: Choice<'_>) -> Result<u32, SampleError> {
        let Sampler { simd, changed, blocks, candidates, weights } = self;
        let (simd, sampling) = (*simd, choice.sampling);
        let logits = match changes(&choice) {
            false => logits,
            true => {
                // What the model says is looked at as it is: a mask could hide that it is broken.
                blocks.find_highest(simd, logits)?;
                change(logits, &choice, changed);
                changed
            }
        };
        if sampling.temperature == 0.0 {
            let highest = blocks.find_highest(simd, logits)?;
            return blocks.first_with(logits, highest).ok_or(SampleError::NothingAllowed);
        }
        let row = Row { logits, scale: (1.0 / sampling.temperature).min(GREATEST_SCALE), simd };
        let truncates_by_rank = sampling.top_k > 0 && sampling.top_k < logits.len();
        let highest = match truncates_by_rank {
            true => blocks.find_highest(simd, logits)?,
            false => blocks.weigh(&row)?,
        };
        if highest == f32::NEG_INFINITY {
            return Err(SampleError::NothingAllowed);
        }
        let random = random::uniform(choice.seed, choice.position as u64);
        if truncates_by_rank {
            highest_candidates(logits, blocks.greatest(), sampling.top_k, candidates);
        } else if sampling.top_p < 1.0 {
            let mass = f64::from(sampling.top_p) * blocks.total();
            nucleus(&row, highest, blocks.greatest(), mass, sampling.min_p, weights, candidates);
        } else if sampling.min_p > 0.0 {
            likely_candidates(&row, highest, blocks.greatest(), sampling.min_p, weights, candidates);
        } else {
            return blocks.draw(&row, random).ok_or(SampleError::NothingAllowed);
        }
        row.weigh(candidates.iter().map(|candidate| candidate.logit), highest, weights);
        if truncates_by_rank {
            weights.truncate(kept_count(weights, sampling.top_p, sampling.min_p));
        }
        draw(weights, random).map(|place| candidates[place].id).ok_or(SampleError::NothingAllowed)
    }
}

/// Whether anything but the model decides the logits.
fn changes(choice: &Choice<'_>) -> bool {
    choice.history.is_some() || choice.mask.is_some() || !choice.sampling.logit_bias.is_empty()
}

/// Writes the logits after penalties, bias and mask into `changed`.
fn change(logits: &[f32], choice: &Choice<'_>, changed: &mut Vec<f32>) {
    changed.clear();
    changed.extend_from_slice(logits);
    if let Some(history) = choice.history {
        history.penalise(choice.sampling, changed);
    }
    add_bias(&choice.sampling.logit_bias, changed);
    if let Some(mask) = choice.mask {
        mask.exclude_others(changed);
    }
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
        let biased = Sampling { logit_bias: vec![(700, 1.0)], ..Sampling::greedy() };
        for simd in SimdLevel::available() {
            assert_eq!(Sampler::new(simd).sample(&logits, choice(&Sampling::greedy(), 0)), Ok(300));
            assert_eq!(Sampler::new(simd).sample(&logits, choice(&biased, 0)), Ok(700));
        }
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
            for simd in SimdLevel::available() {
                let nothing = Sampler::new(simd).sample(&[0.0; 4], constrained);
                assert_eq!(nothing, Err(SampleError::NothingAllowed));
                let broken = Sampler::new(simd).sample(&logits, choice(&sampling, 0));
                assert_eq!(broken, Err(SampleError::BrokenLogit(BrokenLogit { token: 2, nan: true })));
            }
        }
    }

    /// A penalty near 0 made the logits of earlier tokens infinite, and the request failed.
    #[test]
    fn an_extreme_repetition_penalty_still_chooses_a_token() {
        let history = TokenHistory::of_prompt(&[2]);
        for (repetition_penalty, expected) in [(1e-38, 2), (3e38, 1)] {
            for temperature in [0.0, 1.0] {
                let sampling = Sampling { repetition_penalty, temperature, ..Sampling::default() };
                let penalised = Choice { history: Some(&history), ..choice(&sampling, 0) };
                for simd in SimdLevel::available() {
                    let token = Sampler::new(simd).sample(&[-90.0, 90.0, 5.0], penalised);
                    assert_eq!(token, Ok(expected), "{repetition_penalty} at {temperature}, {simd}");
                }
            }
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
            for simd in SimdLevel::available() {
                prop_assert_eq!(token, Sampler::new(simd).sample(&logits, choice(&sampling, position)).unwrap());
            }
            let mine = logits[token as usize];
            let higher = logits.iter().filter(|&&logit| logit > mine).count();
            prop_assert!(top_k == 0 || higher < top_k);
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = |logit: f32| f64::from((logit - highest) / temperature).exp();
            prop_assert!(weight(mine) >= f64::from(min_p) * (1.0 - 1e-5));
        }
    }
}
