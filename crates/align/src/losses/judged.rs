//! The loss of answers that were liked or not: KTO (Ethayarajh et al. 2024, arXiv 2402.01306).

use super::sigmoid;

/// How judged answers count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgedLoss {
    /// β.
    pub beta: f64,
    /// λ_D, the weight of liked answers.
    pub liked_weight: f64,
    /// λ_U, the weight of others.
    pub disliked_weight: f64,
}

impl JudgedLoss {
    /// The loss of an answer and its derivative by log π(answer), equation 8 of the paper without its constant:
    /// λ_D (1 − σ(β (r − z))) for a liked answer, λ_U (1 − σ(β (z − r))) for another, with r = log π − log π_ref.
    /// `divergence` is z, the estimate of KL(π ‖ π_ref), through which no gradient flows ([`divergence`]).
    pub fn of(&self, log_ratio: f64, liked: bool, divergence: f64) -> (f64, f64) {
        let (weight, sign) = if liked { (self.liked_weight, 1.0) } else { (self.disliked_weight, -1.0) };
        let value = sigmoid(sign * self.beta * (log_ratio - divergence));
        (weight * (1.0 - value), -sign * weight * self.beta * value * (1.0 - value))
    }
}

/// The estimate of KL(π ‖ π_ref) over a batch: the mean of log π − log π_ref of answers that belong to other prompts, at
/// least 0. Of no answer it is 0.
pub fn divergence(mismatched_log_ratios: &[f64]) -> f64 {
    let count = mismatched_log_ratios.len().max(1);
    (mismatched_log_ratios.iter().sum::<f64>() / count as f64).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_losses() {
        let loss = JudgedLoss { beta: 0.2, liked_weight: 1.0, disliked_weight: 1.3 };
        for log_ratio in [-4.0, 0.0, 2.5] {
            for liked in [true, false] {
                let (value, slope) = loss.of(log_ratio, liked, 0.7);
                let expected = difference(|x| loss.of(x, liked, 0.7).0, log_ratio);
                assert!((slope - expected).abs() < 1e-8, "{value} {slope} {expected}");
            }
        }
        assert!((loss.of(0.7, true, 0.7).0 - 0.5).abs() < 1e-12);
        assert!((loss.of(0.7, false, 0.7).0 - 0.65).abs() < 1e-12);
    }

    #[test]
    fn a_divergence_is_not_negative_and_one_answer_is_enough() {
        assert_eq!(divergence(&[3.0]), 3.0);
        assert_eq!(divergence(&[-3.0, 1.0]), 0.0);
        assert_eq!(divergence(&[3.0, 1.0]), 2.0);
        assert_eq!(divergence(&[]), 0.0);
    }
}
