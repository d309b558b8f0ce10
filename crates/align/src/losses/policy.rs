//! The losses of tokens that the policy wrote: clipped policy gradients, and estimates of the divergence from a reference.

use serde::{Deserialize, Serialize};

/// How far a token's probability may move before it stops to count (Schulman et al. 2017, arXiv 1707.06347, equation 7).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// The ratio counts down to 1 − low.
    pub low: f64,
    /// And up to 1 + high; greater than `low` for asymmetric clipping (Yu et al. 2025, "DAPO", arXiv 2503.14476).
    pub high: f64,
    /// With a negative advantage, ratios beyond this count as it (Ye et al. 2020, "dual clip", arXiv 1912.09729), at least 1 + high; infinite
    /// without.
    pub dual: f64,
}

/// The loss of one token and its derivative by the token's log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLoss {
    /// The loss.
    pub loss: f64,
    /// Its derivative.
    pub slope: f64,
    /// Whether the ratio was beyond what counts, so that the token has no gradient.
    pub clipped: bool,
}

impl Clip {
    /// max(−r A, −clip(r, 1 − low, 1 + high) A) with r = e^`log_ratio`, where `log_ratio` is log π(token) − log π_old(token).
    pub fn loss(&self, log_ratio: f64, advantage: f64) -> TokenLoss {
        let ratio = log_ratio.exp();
        let bounded = ratio.clamp(1.0 - self.low, 1.0 + self.high);
        let free = ratio.min(self.dual);
        let (loss, clipped_loss) = (-free * advantage, -bounded * advantage);
        if loss >= clipped_loss {
            let is_free = ratio <= self.dual;
            TokenLoss { loss, slope: if is_free { loss } else { 0.0 }, clipped: !is_free && advantage != 0.0 }
        } else {
            TokenLoss { loss: clipped_loss, slope: 0.0, clipped: true }
        }
    }
}

/// How KL(π ‖ π_ref) is estimated from a token that π wrote (Schulman 2020, "Approximating KL divergence").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DivergenceEstimator {
    /// log π − log π_ref: without bias, of great variance. Its gradient in a loss is not that of the divergence: in expectation it does
    /// not know the reference at all. So it serves in rewards only.
    K1,
    /// ½ (log π − log π_ref)²: of small variance; in a loss, its gradient is that of the divergence where π wrote the token.
    K2,
    /// e^(log π_ref − log π) − (log π_ref − log π) − 1: without bias, never negative.
    K3,
}

impl DivergenceEstimator {
    /// The estimate and its derivative by log π.
    pub fn of(self, log_probability: f64, reference: f64) -> (f64, f64) {
        let log_ratio = log_probability - reference;
        match self {
            DivergenceEstimator::K1 => (log_ratio, 1.0),
            DivergenceEstimator::K2 => (0.5 * log_ratio * log_ratio, log_ratio),
            DivergenceEstimator::K3 => {
                let inverse = (-log_ratio).exp();
                (inverse + log_ratio - 1.0, 1.0 - inverse)
            }
        }
    }

    /// The estimate times π(token) / π_old(token), and what its gradient multiplies that of log π with: in expectation over tokens that π_old wrote,
    /// the gradient is that of KL(π ‖ π_ref). Of k1 and k3 it is the derivative of the product (DeepSeek-AI 2025, arXiv 2512.02556). Of k2, whose
    /// own gradient is that of the divergence where π wrote the token, the ratio is a weight and has no derivative.
    pub fn corrected(self, log_probability: f64, reference: f64, old: f64) -> (f64, f64) {
        let ratio = (log_probability - old).exp();
        let (estimate, slope) = self.of(log_probability, reference);
        let slope = match self {
            DivergenceEstimator::K1 | DivergenceEstimator::K3 => estimate + slope,
            DivergenceEstimator::K2 => slope,
        };
        (ratio * estimate, ratio * slope)
    }
}

/// How the losses of tokens become one loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The mean over answers of each answer's mean over tokens (Shao et al. 2024, "GRPO", arXiv 2402.03300, equation 3).
    AnswerMean,
    /// The mean over all tokens of the batch (Yu et al. 2025, "DAPO", equation 8): long answers count for more.
    TokenMean,
    /// The sum over an answer's tokens by the greatest possible length, mean over answers (Liu et al. 2025, "Dr. GRPO", arXiv 2503.20783):
    /// an answer's length changes nothing.
    ConstantLength,
}

impl Aggregation {
    /// What a token's loss is multiplied with: for an answer of `tokens` tokens, among `answers` answers of `all_tokens`
    /// tokens together, none longer than `longest`.
    pub fn weight(self, tokens: usize, answers: usize, all_tokens: usize, longest: usize) -> f64 {
        let by = |count: usize| 1.0 / count.max(1) as f64;
        match self {
            Aggregation::AnswerMean => by(tokens) * by(answers),
            Aggregation::TokenMean => by(all_tokens),
            Aggregation::ConstantLength => by(longest) * by(answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_losses() {
        let clips =
            [Clip { low: 0.2, high: 0.28, dual: f64::INFINITY }, Clip { low: 0.2, high: 0.2, dual: 3.0 }];
        for clip in clips {
            for log_ratio in [-1.0, -0.1, 0.0, 0.1, 0.5, 1.3] {
                for advantage in [-1.7, 0.0, 0.9] {
                    let of = clip.loss(log_ratio, advantage);
                    let slope = difference(|x| clip.loss(x, advantage).loss, log_ratio);
                    assert!(
                        (of.slope - slope).abs() < 1e-7,
                        "{clip:?} {log_ratio} {advantage}: {of:?} {slope}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_ratio_of_one_is_never_clipped_and_a_great_one_counts_only_where_it_hurts() {
        let clip = Clip { low: 0.2, high: 0.2, dual: 3.0 };
        let free = clip.loss(0.0, 0.5);
        assert_eq!((free.loss, free.slope, free.clipped), (-0.5, -0.5, false));
        let great = clip.loss(1.0, 0.5);
        assert_eq!((great.loss, great.slope, great.clipped), (-0.6, 0.0, true));
        // A token that ought to be less likely and became more likely keeps its gradient up to the dual clip.
        assert!(!clip.loss(1.0, -0.5).clipped);
        let beyond = clip.loss(2.0, -0.5);
        assert_eq!((beyond.loss, beyond.slope, beyond.clipped), (1.5, 0.0, true));
    }

    #[test]
    fn the_estimates_of_a_token() {
        for (estimator, expected) in [
            (DivergenceEstimator::K1, 0.2),
            (DivergenceEstimator::K2, 0.02),
            (DivergenceEstimator::K3, 0.018731),
        ] {
            let (value, slope) = estimator.of(-1.0, -1.2);
            assert!((value - expected).abs() < 1e-6, "{estimator:?}: {value}");
            assert!((slope - difference(|x| estimator.of(x, -1.2).0, -1.0)).abs() < 1e-7);
        }
    }

    #[test]
    fn expectations_over_a_coin() {
        let (policy, reference) = ([0.7f64, 0.3], [0.5f64, 0.5]);
        let expectation = |estimator: DivergenceEstimator| -> f64 {
            policy.iter().zip(&reference).map(|(p, q)| p * estimator.of(p.ln(), q.ln()).0).sum()
        };
        assert!((expectation(DivergenceEstimator::K1) - 0.082283).abs() < 1e-6);
        assert!((expectation(DivergenceEstimator::K2) - 0.078766).abs() < 1e-6);
        assert!((expectation(DivergenceEstimator::K3) - 0.082283).abs() < 1e-6);
    }

    /// Over three tokens everything can be enumerated: the expected gradient of k2 in a loss is that of the divergence, that of k1
    /// does not know the reference. Corrected by the ratio, those of all three are, also where another policy wrote the tokens.
    #[test]
    fn in_a_loss_k2_has_the_gradient_of_the_divergence_and_with_the_ratio_all_have() {
        let logits = [0.3f64, -0.4, 1.1];
        let reference = [0.2f64, 0.5, 0.3];
        let softmax = |logits: &[f64; 3]| {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            logits.map(|logit| logit.exp() / sum)
        };
        let divergence = |logits: &[f64; 3]| -> f64 {
            softmax(logits).iter().zip(&reference).map(|(p, q)| p * (p / q).ln()).sum()
        };
        let policy = softmax(&logits);
        let expected_gradient = |estimator: DivergenceEstimator, reference: &[f64; 3]| -> [f64; 3] {
            std::array::from_fn(|logit| {
                (0..3)
                    .map(|token| {
                        let (_, slope) = estimator.of(policy[token].ln(), reference[token].ln());
                        let by_logit = f64::from(u8::from(token == logit)) - policy[logit];
                        policy[token] * slope * by_logit
                    })
                    .sum()
            })
        };
        let of_k2 = expected_gradient(DivergenceEstimator::K2, &reference);
        let of_k1 = expected_gradient(DivergenceEstimator::K1, &reference);
        let of_k1_elsewhere = expected_gradient(DivergenceEstimator::K1, &[0.6, 0.1, 0.3]);
        let old = [0.5f64, 0.3, 0.2];
        let corrected = |estimator: DivergenceEstimator, logit: usize| -> f64 {
            let of_token = |token: usize| {
                let (_, slope) =
                    estimator.corrected(policy[token].ln(), reference[token].ln(), old[token].ln());
                let by_logit = f64::from(u8::from(token == logit)) - policy[logit];
                old[token] * slope * by_logit
            };
            (0..3).map(of_token).sum()
        };
        for logit in 0..3 {
            let exact = difference(
                |x| {
                    let mut moved = logits;
                    moved[logit] = x;
                    divergence(&moved)
                },
                logits[logit],
            );
            assert!((of_k2[logit] - exact).abs() < 1e-8, "{of_k2:?} {exact}");
            for estimator in [DivergenceEstimator::K1, DivergenceEstimator::K2, DivergenceEstimator::K3] {
                assert!((corrected(estimator, logit) - exact).abs() < 1e-8, "{estimator:?} {exact}");
            }
            assert!(of_k1[logit].abs() < 1e-12 && of_k1_elsewhere[logit].abs() < 1e-12);
            assert!(exact.abs() > 1e-3);
        }
    }

    #[test]
    fn aggregations_of_two_answers() {
        let answers = [vec![-1.0; 2], vec![2.0; 4]];
        for (aggregation, expected) in [
            (Aggregation::AnswerMean, 0.5),
            (Aggregation::TokenMean, 1.0),
            (Aggregation::ConstantLength, 0.375),
        ] {
            let loss: f64 = answers
                .iter()
                .map(|tokens| tokens.iter().sum::<f64>() * aggregation.weight(tokens.len(), 2, 6, 8))
                .sum();
            assert!((loss - expected).abs() < 1e-12, "{aggregation:?}: {loss}");
        }
    }
}
