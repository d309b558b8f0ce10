//! An answer with everything that is known of it when it is learnt from.

use zhenjin_tensor::TokenScore;

use crate::configuration::PolicySection;
use crate::data::EncodedTask;
use crate::error::AlignError;
use crate::packed::{Packed, groups};
use crate::rollouts::Answer;

/// One answer to one prompt. Lists have one value for each of its tokens, or none.
#[derive(Debug, Default)]
pub(super) struct Episode {
    /// The prompt's number.
    pub(super) task: usize,
    pub(super) answer: Answer,
    pub(super) text: String,
    /// Of the whole answer; `None` where the reward failed.
    pub(super) reward: Option<f64>,
    /// Whether it is learnt from.
    pub(super) counts: bool,
    /// log π of the tokens by the weights that wrote them, as the learner computes it.
    pub(super) old: Vec<f32>,
    /// log π_ref.
    pub(super) reference: Vec<f32>,
    /// What is taken from each token's reward for moving away from the reference.
    pub(super) penalties: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    /// The critic's values before the updates, and what they ought to be.
    pub(super) values: Vec<f64>,
    pub(super) returns: Vec<f64>,
    /// π_old by the learner / π_old by the engine, where they differ, truncated.
    pub(super) corrections: Vec<f64>,
}

impl Episode {
    pub(super) fn new(task: usize, answer: Answer, text: String) -> Episode {
        let old = answer.log_probabilities.clone();
        Episode { task, answer, text, old, ..Episode::default() }
    }

    /// Rows that it has in a batch.
    pub(super) fn rows(&self, tasks: &[EncodedTask]) -> usize {
        (tasks[self.task].prompt.len() + self.answer.tokens.len()).saturating_sub(1)
    }

    /// Takes the divergence from each token's reward.
    pub(super) fn count_divergence(&mut self, policy: &PolicySection) {
        let pairs = self.old.iter().zip(&self.reference);
        self.penalties = pairs
            .map(|(old, reference)| {
                policy.kl * policy.kl_estimator.of(f64::from(*old), f64::from(*reference)).0
            })
            .collect();
    }

    /// The answer's reward less all penalties.
    pub(super) fn whole_reward(&self) -> f64 {
        self.reward.unwrap_or_default() - self.penalties.iter().sum::<f64>()
    }

    /// The reward of each token: what the answer gets, at its last one; less its own penalty.
    pub(super) fn token_rewards(&self) -> Vec<f64> {
        let count = self.answer.tokens.len();
        let mut rewards = vec![0.0; count];
        if let (Some(last), Some(reward)) = (rewards.last_mut(), self.reward) {
            *last = reward;
        }
        for (reward, penalty) in rewards.iter_mut().zip(&self.penalties) {
            *reward -= penalty;
        }
        rewards
    }
}

/// Scores the tokens of all answers, some answers together, and hands each its log-probabilities.
pub(super) fn score(
    episodes: &mut [Episode],
    tasks: &[EncodedTask],
    most_tokens: usize,
    scores: &mut dyn FnMut(&Packed) -> Result<Vec<TokenScore>, AlignError>,
    mut take: impl FnMut(&mut Episode, Vec<f32>),
) -> Result<(), AlignError> {
    let sizes: Vec<usize> = episodes.iter().map(|episode| episode.rows(tasks)).collect();
    for range in groups(&sizes, most_tokens) {
        let mut packed = Packed::default();
        for episode in &episodes[range.clone()] {
            packed.push_answer(&tasks[episode.task].prompt, &episode.answer.tokens);
        }
        let scores = scores(&packed)?;
        for (episode, rows) in episodes[range].iter_mut().zip(packed.documents()) {
            let of_answer = rows.filter(|row| packed.targets[*row].is_some());
            take(episode, of_answer.map(|row| scores[row].log_probability).collect());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reward_is_on_the_last_token_that_was_written_and_penalties_are_on_each() {
        let answer = Answer { tokens: vec![5, 6, 7], log_probabilities: vec![-1.0; 3], ended: true };
        let mut episode = Episode::new(0, answer, String::new());
        episode.reward = Some(2.0);
        assert_eq!(episode.token_rewards(), [0.0, 0.0, 2.0]);
        episode.penalties = vec![0.5, 0.25, 1.0];
        assert_eq!(episode.token_rewards(), [-0.5, -0.25, 1.0]);
        assert_eq!(episode.whole_reward(), 0.25);
        // An answer of nothing but the stop token.
        let answer = Answer { tokens: vec![7], log_probabilities: vec![-1.0], ended: true };
        let episode = Episode { reward: Some(1.0), ..Episode::new(0, answer, String::new()) };
        assert_eq!(episode.token_rewards(), [1.0]);
    }
}
