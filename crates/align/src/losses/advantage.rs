//! How much better an answer, or a token, was than expected.

use serde::{Deserialize, Serialize};

/// What a group's rewards are divided by, after their mean was subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScale {
    /// Their sample deviation, with n − 1 (Shao et al. 2024, equation 1; as TRL computes it).
    Deviation,
    /// Nothing (Liu et al. 2025, "Dr. GRPO"): easy and hard prompts are not weighted against each other.
    None,
}

/// What is added to a deviation, so that nearly equal rewards do not become great advantages.
const DEVIATION_FLOOR: f64 = 1e-4;

/// The advantages of the answers to one prompt; zero where all rewards are equal, and for an answer alone.
pub fn of_group(rewards: &[f64], scale: GroupScale) -> Vec<f64> {
    let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
    let divisor = match scale {
        GroupScale::None => 1.0,
        GroupScale::Deviation => deviation(rewards) + DEVIATION_FLOOR,
    };
    if is_uniform(rewards) {
        return vec![0.0; rewards.len()];
    }
    rewards.iter().map(|reward| (reward - mean) / divisor).collect()
}

/// The sample deviation; 0 of fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0).max(1.0)).sqrt()
}

/// Whether nothing can be learnt from the group: all rewards are equal.
pub fn is_uniform(rewards: &[f64]) -> bool {
    rewards.windows(2).all(|pair| pair[0] == pair[1])
}

/// Advantages and returns of the tokens of one answer, by generalised advantage estimation (Schulman et al. 2016, arXiv
/// 1506.02438, equation 16): δ_t = r_t + γ V_{t+1} − V_t, A_t = δ_t + γ λ A_{t+1}, R_t = A_t + V_t. After the last token
/// there is nothing.
pub fn generalised(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for index in (0..rewards.len()).rev() {
        let delta = rewards[index] + gamma * next_value - values[index];
        next_advantage = delta + gamma * lambda * next_advantage;
        advantages[index] = next_advantage;
        next_value = values[index];
    }
    let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    (advantages, returns)
}

/// Advantages of a batch with mean 0 and deviation 1 ("whitening"); unchanged if there are fewer than two, or if all are equal.
pub fn whitened(advantages: &[f64]) -> Vec<f64> {
    let mean = advantages.iter().sum::<f64>() / advantages.len().max(1) as f64;
    let deviation = deviation(advantages);
    if advantages.len() < 2 || deviation == 0.0 {
        return advantages.to_vec();
    }
    advantages.iter().map(|advantage| (advantage - mean) / (deviation + 1e-8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }

    #[test]
    fn the_advantages_of_a_group() {
        close(
            &of_group(&[1.0, 0.0, 0.0, 1.0], GroupScale::Deviation),
            &[0.86588, -0.86588, -0.86588, 0.86588],
        );
        close(&of_group(&[1.0, 0.0, 0.0, 1.0], GroupScale::None), &[0.5, -0.5, -0.5, 0.5]);
    }

    #[test]
    fn equal_rewards_have_no_advantage() {
        for scale in [GroupScale::Deviation, GroupScale::None] {
            assert_eq!(of_group(&[0.1; 7], scale), [0.0; 7]);
            assert_eq!(of_group(&[3.0], scale), [0.0]);
            assert_eq!(of_group(&[], scale), [0.0; 0]);
        }
    }

    #[test]
    fn generalised_advantages_and_returns() {
        let rewards = [0.0, 0.0, 0.0, 1.0];
        let (advantages, returns) = generalised(&rewards, &rewards, 0.9, 0.95);
        close(&advantages, &[0.657923, 0.7695, 0.9, 0.0]);
        close(&returns, &[0.657923, 0.7695, 0.9, 1.0]);
    }

    #[test]
    fn without_discount_and_values_the_advantage_is_what_is_still_to_come() {
        let (advantages, _) = generalised(&[1.0, 2.0, 3.0], &[0.0; 3], 1.0, 1.0);
        assert_eq!(advantages, [6.0, 5.0, 3.0]);
    }

    #[test]
    fn whitening() {
        close(&whitened(&[1.0, 2.0, 3.0]), &[-1.0, 0.0, 1.0]);
        assert_eq!(whitened(&[2.0]), [2.0]);
        assert_eq!(whitened(&[2.0, 2.0]), [2.0, 2.0]);
    }
}
