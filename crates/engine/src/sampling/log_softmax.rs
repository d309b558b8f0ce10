//! Log-probabilities of the model's own distribution: log softmax of the unmodified logits, before temperature,
//! penalties, bias or masks; for training, of the logits divided by a temperature. The sum is `zhenjin_tensor::log_sum_exp`, as in the model's scores of given tokens, so
//! that both have the same bits for the same weights and tokens.

use zhenjin_tensor::{LOGIT_BLOCK, LogSumExp, SimdLevel, TopLogit, greatest_of_blocks};

use super::truncation::highest_candidates;
use crate::request::TokenLogprob;

/// A logit is NaN or +∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's logit of token {token} is {}: the weights or the calculation are broken", if *.nan { "NaN" } else { "infinite" })]
pub struct BrokenLogit {
    /// The first token with such a logit.
    pub token: u32,
    /// NaN rather than infinite.
    pub nan: bool,
}

impl From<TopLogit> for BrokenLogit {
    fn from(broken: TopLogit) -> BrokenLogit {
        BrokenLogit { token: broken.index as u32, nan: broken.logit.is_nan() }
    }
}

impl BrokenLogit {
    /// The first of `logits` that is NaN or +∞; token 0 if there is none.
    pub(crate) fn first_of(logits: &[f32]) -> BrokenLogit {
        let token = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
        BrokenLogit { token: token as u32, nan: logits.get(token).is_some_and(|logit| logit.is_nan()) }
    }
}

/// What turns a row of logits into log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSoftmax {
    total: LogSumExp,
}

impl LogSoftmax {
    /// For the logits [vocabulary] of one position.
    ///
    /// # Errors
    /// [`BrokenLogit`] if a logit is NaN or +∞, or all of them are -∞.
    pub fn of(simd: SimdLevel, logits: &[f32]) -> Result<LogSoftmax, BrokenLogit> {
        LogSoftmax::at_temperature(simd, logits, 1.0)
    }

    /// As [`LogSoftmax::of`], for logits divided by `temperature`, which is greater than 0.
    ///
    /// # Errors
    /// As for that.
    pub fn at_temperature(
        simd: SimdLevel,
        logits: &[f32],
        temperature: f32,
    ) -> Result<LogSoftmax, BrokenLogit> {
        let mut total = LogSumExp::at_temperature(temperature);
        total.add(simd, logits);
        if total.is_broken() {
            return Err(BrokenLogit::first_of(logits));
        }
        if total.value() == f64::NEG_INFINITY {
            return Err(BrokenLogit { token: 0, nan: false });
        }
        Ok(LogSoftmax { total })
    }

    /// The natural logarithm of the probability of a token with this logit.
    pub fn log_probability(&self, logit: f32) -> f32 {
        self.total.log_probability(logit)
    }

    /// The `count` most likely tokens among `logits`, most likely first, the lower id first among equals.
    pub fn top(&self, simd: SimdLevel, logits: &[f32], count: usize) -> Vec<TokenLogprob> {
        let mut best = Vec::new();
        if count > 0 {
            let mut greatest = vec![0.0; logits.len().div_ceil(LOGIT_BLOCK)];
            greatest_of_blocks(simd, logits, &mut greatest);
            highest_candidates(logits, &greatest, count, &mut best);
        }
        let report = |logit: f32, id: u32| TokenLogprob { id, logprob: self.log_probability(logit) };
        best.into_iter().map(|candidate| report(candidate.logit, candidate.id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_textbook_formula() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 613) as f32 * 0.031 - 9.0).collect();
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let mut order: Vec<u32> = (0..1000).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        for simd in SimdLevel::available() {
            let softmax = LogSoftmax::of(simd, &logits).unwrap();
            for &logit in &logits {
                let expected = f64::from(logit) - exact;
                assert!((f64::from(softmax.log_probability(logit)) - expected).abs() < 1e-5, "{simd}");
            }
            let top = softmax.top(simd, &logits, 5);
            assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), order[..5], "{simd}");
        }
    }

    #[test]
    fn broken_logits_are_named() {
        let mut logits = vec![0.5f32; 100];
        for simd in SimdLevel::available() {
            logits[77] = f32::NAN;
            assert_eq!(LogSoftmax::of(simd, &logits), Err(BrokenLogit { token: 77, nan: true }));
            logits[77] = f32::INFINITY;
            assert_eq!(LogSoftmax::of(simd, &logits), Err(BrokenLogit { token: 77, nan: false }));
            logits[77] = f32::NEG_INFINITY;
            assert!(LogSoftmax::of(simd, &logits).is_ok());
        }
    }
}
