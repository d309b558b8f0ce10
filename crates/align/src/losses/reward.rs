//! The loss of a reward model.

use super::{log_sigmoid, sigmoid};

/// The loss of a pair of rewards and its derivatives by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardLoss {
    /// The loss.
    pub loss: f64,
    /// By the chosen answer's reward.
    pub by_chosen: f64,
    /// By the rejected answer's.
    pub by_rejected: f64,
}

/// Bradley–Terry with a margin and centring: −ln σ(r_c − r_r − margin) + centring · (r_c + r_r)² (Ouyang et al. 2022, arXiv
/// 2203.02155, equation 1; Touvron et al. 2023, arXiv 2307.09288, equation 2; Eisenstein et al. 2023, arXiv 2312.09244, equation 2).
pub fn bradley_terry(chosen: f64, rejected: f64, margin: f64, centring: f64) -> RewardLoss {
    let difference = chosen - rejected - margin;
    let sum = chosen + rejected;
    let (slope, centre) = (-sigmoid(-difference), 2.0 * centring * sum);
    RewardLoss {
        loss: -log_sigmoid(difference) + centring * sum * sum,
        by_chosen: slope + centre,
        by_rejected: -slope + centre,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::difference;
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_loss() {
        for (chosen, rejected) in [(1.0, -0.5), (0.0, 0.0), (-3.0, 2.0)] {
            let of = bradley_terry(chosen, rejected, 0.3, 0.01);
            let by_chosen = difference(|x| bradley_terry(x, rejected, 0.3, 0.01).loss, chosen);
            let by_rejected = difference(|x| bradley_terry(chosen, x, 0.3, 0.01).loss, rejected);
            assert!((of.by_chosen - by_chosen).abs() < 1e-8, "{of:?}");
            assert!((of.by_rejected - by_rejected).abs() < 1e-8, "{of:?}");
        }
        assert!((bradley_terry(1.0, 1.0, 0.0, 0.5).loss - (std::f64::consts::LN_2 + 2.0)).abs() < 1e-12);
    }
}
