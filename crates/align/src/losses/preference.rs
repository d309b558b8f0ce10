//! Losses of preference pairs: DPO and its relatives.

use serde::{Deserialize, Serialize};

use super::{log_sigmoid, sigmoid};

/// Which loss a pair has. With Δ = (log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected)), where
/// log π of an answer is the sum over its tokens:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferenceLossKind {
    /// −ln σ(β Δ) (Rafailov et al. 2023, arXiv 2305.18290, equation 7); with label smoothing ε
    /// −(1 − ε) ln σ(β Δ) − ε ln σ(−β Δ) (Mitchell 2023, "cDPO").
    Sigmoid,
    /// (Δ' − 1/(2β))² with Δ' of log-probabilities per token (Azar et al. 2023, arXiv 2310.12036, equation 17; the mean over tokens is
    /// the form that TRL computes).
    Ipo,
    /// The same with Δ of sums over tokens, as OpenRLHF computes it.
    IpoSum,
    /// −ln σ(β Δ') with log-probabilities per token, so that long answers count no more than short ones.
    SigmoidPerToken,
    /// max(0, 1 − β Δ) (Zhao et al. 2023, arXiv 2305.10425).
    Hinge,
}

/// How pairs are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreferenceLoss {
    /// The formula.
    pub kind: PreferenceLossKind,
    /// β: how dear it is to move away from the reference.
    pub beta: f64,
    /// ε of [`PreferenceLossKind::Sigmoid`]: the share of labels that are taken to be wrong, below ½.
    pub label_smoothing: f64,
}

/// What the model and the reference say about a pair: sums of the log-probabilities of each answer's tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScores {
    /// log π(chosen).
    pub chosen: f64,
    /// log π(rejected).
    pub rejected: f64,
    /// log π_ref(chosen).
    pub reference_chosen: f64,
    /// log π_ref(rejected).
    pub reference_rejected: f64,
    /// Tokens of the chosen answer.
    pub chosen_tokens: usize,
    /// Tokens of the rejected answer.
    pub rejected_tokens: usize,
}

/// The loss of a pair and its derivatives by the two sums of log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// ∂ loss / ∂ log π(chosen).
    pub by_chosen: f64,
    /// ∂ loss / ∂ log π(rejected).
    pub by_rejected: f64,
    /// β Δ, the margin of the implicit rewards; positive where the model prefers the chosen answer more than the reference does.
    pub margin: f64,
}

impl PreferenceLoss {
    /// The loss of one pair.
    pub fn of(&self, pair: &PairScores) -> PairLoss {
        let chosen = pair.chosen - pair.reference_chosen;
        let rejected = pair.rejected - pair.reference_rejected;
        let per_token = matches!(self.kind, PreferenceLossKind::Ipo | PreferenceLossKind::SigmoidPerToken);
        let weight = |tokens: usize| if per_token { 1.0 / tokens.max(1) as f64 } else { 1.0 };
        let (of_chosen, of_rejected) = (weight(pair.chosen_tokens), weight(pair.rejected_tokens));
        let delta = chosen * of_chosen - rejected * of_rejected;
        let (loss, slope) = self.of_difference(delta);
        PairLoss {
            loss,
            by_chosen: slope * of_chosen,
            by_rejected: -slope * of_rejected,
            margin: self.beta * (chosen - rejected),
        }
    }

    /// The loss and its derivative by the difference.
    fn of_difference(&self, delta: f64) -> (f64, f64) {
        let (beta, smoothing) = (self.beta, self.label_smoothing);
        let scaled = beta * delta;
        match self.kind {
            PreferenceLossKind::Sigmoid => {
                let loss = -(1.0 - smoothing) * log_sigmoid(scaled) - smoothing * log_sigmoid(-scaled);
                (loss, beta * (smoothing * sigmoid(scaled) - (1.0 - smoothing) * sigmoid(-scaled)))
            }
            PreferenceLossKind::SigmoidPerToken => (-log_sigmoid(scaled), -beta * sigmoid(-scaled)),
            PreferenceLossKind::Ipo | PreferenceLossKind::IpoSum => {
                let distance = delta - 1.0 / (2.0 * beta);
                (distance * distance, 2.0 * distance)
            }
            PreferenceLossKind::Hinge => ((1.0 - scaled).max(0.0), if scaled < 1.0 { -beta } else { 0.0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    const KINDS: [PreferenceLossKind; 5] = [
        PreferenceLossKind::Sigmoid,
        PreferenceLossKind::Ipo,
        PreferenceLossKind::IpoSum,
        PreferenceLossKind::SigmoidPerToken,
        PreferenceLossKind::Hinge,
    ];

    fn pair(chosen: f64, rejected: f64) -> PairScores {
        PairScores {
            chosen,
            rejected,
            reference_chosen: -11.0,
            reference_rejected: -7.5,
            chosen_tokens: 5,
            rejected_tokens: 3,
        }
    }

    #[test]
    fn the_sigmoid_loss_of_margins_0_1_and_2() {
        let loss = PreferenceLoss { kind: PreferenceLossKind::Sigmoid, beta: 0.5, label_smoothing: 0.0 };
        for (margin, expected) in [(0.0, std::f64::consts::LN_2), (1.0, 0.313262), (2.0, 0.126928)] {
            let of = loss.of(&pair(-11.0 + margin / 0.5, -7.5));
            assert!((of.loss - expected).abs() < 1e-6, "{of:?}");
            assert!((of.margin - margin).abs() < 1e-12);
        }
    }

    #[test]
    fn derivatives_are_those_of_the_losses() {
        for kind in KINDS {
            for (chosen, rejected) in [(-10.0, -8.0), (-12.5, -7.0), (-11.0, -7.5), (-3.0, -20.0)] {
                let loss = PreferenceLoss { kind, beta: 0.3, label_smoothing: 0.1 };
                let of = loss.of(&pair(chosen, rejected));
                let by_chosen = difference(|x| loss.of(&pair(x, rejected)).loss, chosen);
                let by_rejected = difference(|x| loss.of(&pair(chosen, x)).loss, rejected);
                assert!((of.by_chosen - by_chosen).abs() < 1e-7, "{kind:?}: {of:?}, {by_chosen}");
                assert!((of.by_rejected - by_rejected).abs() < 1e-7, "{kind:?}: {of:?}, {by_rejected}");
            }
        }
    }
}
