//! Log-probabilities of the model's own distribution: log softmax of the unmodified logits, before temperature, penalties, bias or
//! masks. That is what the trainer computes for the same weights and tokens, so the two can be compared bit by bit.
//! Does not know which token was chosen, or why.

use super::exponential::exp_of_nonpositive;
use crate::request::TokenLogprob;

/// Logits are summed in blocks of this many, each block in [`LANES`] partial sums.
pub(crate) const BLOCK: usize = 256;
const LANES: usize = 16;

/// The model gave a logit that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's logit of token {token} is {}: the weights or the calculation are broken", if *.nan { "NaN" } else { "infinite" })]
pub struct BrokenLogit {
    /// The first token concerned.
    pub token: u32,
    /// NaN rather than infinite.
    pub nan: bool,
}

/// The highest logit.
///
/// # Errors
/// [`BrokenLogit`] if a logit is NaN or +∞. (-∞ is a token that the model excludes.)
pub(crate) fn highest(logits: &[f32]) -> Result<f32, BrokenLogit> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut broken = [false; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            let x = chunk[lane];
            broken[lane] |= x.is_nan() | (x == f32::INFINITY);
            lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        broken[lane] |= x.is_nan() | (x == f32::INFINITY);
        lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
    }
    if broken.contains(&true)
        && let Some(token) = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY)
    {
        return Err(BrokenLogit { token: token as u32, nan: logits[token].is_nan() });
    }
    Ok(lanes.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// Σ values, in a fixed order: f32 lanes within a block of [`BLOCK`], f64 from there on.
pub(crate) fn block_sum(values: impl Iterator<Item = f32>) -> f64 {
    let mut lanes = [0.0f32; LANES];
    for (index, value) in values.enumerate() {
        lanes[index % LANES] += value;
    }
    lanes.into_iter().map(f64::from).sum()
}

/// The two numbers that turn a row of logits into log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSoftmax {
    highest: f32,
    log_sum: f64,
}

impl LogSoftmax {
    /// For the logits [vocabulary] of one position. The sum's order depends on the vocabulary's size alone.
    ///
    /// # Errors
    /// [`BrokenLogit`] if a logit is NaN or +∞, or all of them are -∞.
    pub fn of(logits: &[f32]) -> Result<LogSoftmax, BrokenLogit> {
        let highest = highest(logits)?;
        if highest == f32::NEG_INFINITY {
            return Err(BrokenLogit { token: 0, nan: false });
        }
        let mut sum = 0.0f64;
        for block in logits.chunks(BLOCK) {
            let mut lanes = [0.0f32; LANES];
            let (whole, rest) = block.as_chunks::<LANES>();
            for chunk in whole {
                for lane in 0..LANES {
                    lanes[lane] += exp_of_nonpositive(chunk[lane] - highest);
                }
            }
            for (lane, &x) in rest.iter().enumerate() {
                lanes[lane] += exp_of_nonpositive(x - highest);
            }
            sum += lanes.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(LogSoftmax { highest, log_sum: sum.ln() })
    }

    /// The natural logarithm of the probability of a token with this logit.
    pub fn log_probability(&self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.highest) - self.log_sum) as f32
    }

    /// The `count` most likely tokens among `logits`, most likely first, the lower id first among equals.
    pub fn top(&self, logits: &[f32], count: usize) -> Vec<TokenLogprob> {
        let mut best = Vec::new();
        super::truncation::highest_candidates(logits, count, &mut best);
        best.into_iter()
            .map(|candidate| TokenLogprob {
                id: candidate.id,
                logprob: self.log_probability(candidate.logit),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_textbook_formula() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 613) as f32 * 0.031 - 9.0).collect();
        let softmax = LogSoftmax::of(&logits).unwrap();
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        for &logit in &logits {
            assert!((f64::from(softmax.log_probability(logit)) - (f64::from(logit) - exact)).abs() < 1e-5);
        }
        let top = softmax.top(&logits, 5);
        let mut order: Vec<u32> = (0..1000).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), order[..5]);
    }

    #[test]
    fn broken_logits_are_named() {
        let mut logits = vec![0.5f32; 100];
        logits[77] = f32::NAN;
        assert_eq!(LogSoftmax::of(&logits), Err(BrokenLogit { token: 77, nan: true }));
        logits[77] = f32::INFINITY;
        assert_eq!(LogSoftmax::of(&logits), Err(BrokenLogit { token: 77, nan: false }));
        logits[77] = f32::NEG_INFINITY;
        assert!(LogSoftmax::of(&logits).is_ok());
    }
}
