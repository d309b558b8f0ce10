//! Rewards: how good an answer is, by a rule, a program or a service.
//!
//! A text such as `0.7*number+0.3*length:tokens<=64` is a [`RewardExpression`]; [`RewardExpression::build`] makes of it
//! [`WeightedRewards`], which give every answer a sum and keep each part for plots. To add a reward: a file here that implements
//! [`Reward`], and its name in `build.rs`.

mod build;
mod child;
mod code;
mod expression;
mod http;
mod memory;
mod numbers;
mod process;
mod rules;
mod sandbox;
mod scores;
mod verse;

pub use build::{BuildOptions, REWARDS, RewardError};
pub use code::SandboxLimits;
pub use expression::{RewardExpression, RewardSyntaxError, RewardTerm};
pub use http::HttpReward;
pub use numbers::{Rational, last_number};
pub use process::ProcessReward;

use std::time::Duration;

use serde::Serialize;

use crate::data::EncodedTask;

/// How often a wait for rewards looks whether it is to stop.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// An answer that is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub task: &'a EncodedTask,
    /// The answer's text, without control tokens.
    pub text: &'a str,
    /// Its tokens, that which ends the turn included where there is one.
    pub tokens: &'a [u32],
    /// Whether the model ended it, and not a limit.
    pub ended: bool,
}

/// Why an answer has no score.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RewardFault {
    /// The example lacks what the answer is compared with, or holds something else there.
    #[error("the example's field `{field}` {problem}")]
    Field {
        /// Which field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing came back in time.
    #[error("{who} gave no score within {} s, {attempts} times", limit.as_secs_f64())]
    TimedOut {
        /// The process or service.
        who: String,
        /// How long it had.
        limit: Duration,
        /// How often it was tried.
        attempts: u32,
    },
    /// The process cannot be started, or ended before it gave a score.
    #[error("{who} {what}")]
    Died {
        /// The process.
        who: String,
        /// How it ended, with the last it wrote to standard error.
        what: String,
    },
    /// What came back is no score.
    #[error("{who} gave no score but `{got}`; expected is {expected}")]
    Garbage {
        /// The process or service.
        who: String,
        /// The beginning of what it gave.
        got: String,
        /// What it should give.
        expected: &'static str,
    },
    /// The score is not a finite number.
    #[error("{who} gave a score that is not a finite number: {value}")]
    NotFinite {
        /// The reward, process or service.
        who: String,
        /// What it gave.
        value: String,
    },
    /// The score is finite, and too large to compute with.
    #[error("{who} gave {value:e}, and scores beyond ±{most:e} cannot be computed with: scale them down", most = MOST)]
    TooLarge {
        /// The reward, process or service, or the sum.
        who: String,
        /// What it gave.
        value: f64,
    },
    /// The service cannot be reached or refuses.
    #[error("{who}: {reason} ({attempts} attempts)")]
    Service {
        /// The service.
        who: String,
        /// What went wrong.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The wait for scores was to stop.
    #[error("{who} gave no score before the run was asked to stop")]
    Stopped {
        /// The process or service.
        who: String,
    },
    /// A part of a sum has a fault.
    #[error("{part}: {fault}")]
    Part {
        /// The part, as it was written.
        part: String,
        /// Its fault.
        fault: Box<RewardFault>,
    },
}

impl RewardFault {
    /// Whether there is no score because the wait for it was to stop.
    pub fn is_stop(&self) -> bool {
        match self {
            RewardFault::Stopped { .. } => true,
            RewardFault::Part { fault, .. } => fault.is_stop(),
            _ => false,
        }
    }
}

/// The greatest magnitude of a score. Losses are computed in `f32`, where the square of this is a finite number and a sum of such squares
/// too; differences of much larger scores have no finite square, so that a group's deviation is none.
const MOST: f64 = 1e18;

/// Judges answers.
pub trait Reward: Send + Sync {
    /// A score, or a fault, for each answer, in their order. It returns within a time that the reward's own limits bound.
    fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>>;

    /// Looks whether a prompt has the fields that every answer to it is compared with.
    ///
    /// # Errors
    /// [`RewardFault::Field`].
    fn check(&self, task: &EncodedTask) -> Result<(), RewardFault> {
        let _ = task;
        Ok(())
    }

    /// What a reader of the log should know of the scores since this was last asked, beside their faults.
    fn take_notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A score and what it is the sum of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The weighted sum.
    pub total: f64,
    /// Each part's own value, not weighted, in the order of the parts.
    pub parts: Vec<f64>,
}

/// A part of a sum of rewards.
pub struct WeightedPart {
    /// As it was written, without its weight.
    pub name: String,
    /// What its value counts.
    pub weight: f64,
    /// Its reward.
    pub reward: Box<dyn Reward>,
}

/// A weighted sum of rewards.
pub struct WeightedRewards {
    parts: Vec<WeightedPart>,
}

impl std::fmt::Debug for WeightedRewards {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.parts.iter().map(|part| (&part.name, part.weight));
        formatter.debug_list().entries(parts).finish()
    }
}

impl WeightedRewards {
    /// A sum of these parts.
    pub fn new(parts: Vec<WeightedPart>) -> WeightedRewards {
        WeightedRewards { parts }
    }

    /// The names of the parts, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// Looks at the first prompts, so that a part whose field none of them has is known before answers are written.
    ///
    /// # Errors
    /// The fault of the first prompt, with the part, where all of the first have one there.
    pub fn check(&self, tasks: &[EncodedTask]) -> Result<(), RewardFault> {
        const FIRST: usize = 16;
        for part in &self.parts {
            let mut faults = tasks.iter().take(FIRST).map(|task| part.reward.check(task));
            if let Some(Err(fault)) = faults.next()
                && faults.all(|found| found.is_err())
            {
                return Err(RewardFault::Part { part: part.name.clone(), fault: Box::new(fault) });
            }
        }
        Ok(())
    }

    /// What a reader of the log should know of the scores since this was last asked, beside their faults.
    pub fn take_notes(&self) -> Vec<String> {
        self.parts.iter().flat_map(|part| part.reward.take_notes()).collect()
    }

    /// A score, or a fault, for each answer, in their order; a fault names the part.
    pub fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<Score, RewardFault>> {
        let empty = || Score { total: 0.0, parts: Vec::with_capacity(self.parts.len()) };
        let mut scores: Vec<Result<Score, RewardFault>> = answers.iter().map(|_| Ok(empty())).collect();
        for part in &self.parts {
            let named = |fault| RewardFault::Part { part: part.name.clone(), fault: Box::new(fault) };
            let mut values = part.reward.score(answers).into_iter();
            for score in &mut scores {
                let missing = || {
                    Err(RewardFault::Died { who: part.name.clone(), what: "gave too few scores".to_owned() })
                };
                let value = values.next().unwrap_or_else(missing).and_then(|value| usable(&part.name, value));
                *score = match (std::mem::replace(score, Ok(empty())), value) {
                    (Ok(mut score), Ok(value)) => {
                        score.parts.push(value);
                        usable("the sum", score.total + part.weight * value).map(|total| {
                            score.total = total;
                            score
                        })
                    }
                    (Err(fault), _) => Err(fault),
                    (Ok(_), Err(fault)) => Err(named(fault)),
                };
            }
        }
        scores
    }
}

fn usable(who: &str, value: f64) -> Result<f64, RewardFault> {
    if !value.is_finite() {
        return Err(RewardFault::NotFinite { who: who.to_owned(), value: value.to_string() });
    }
    if value.abs() > MOST {
        return Err(RewardFault::TooLarge { who: who.to_owned(), value });
    }
    Ok(value)
}

/// The beginning of what somebody wrote, in one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    let line: String = text.chars().take(MOST).map(|one| if one.is_control() { ' ' } else { one }).collect();
    let line = line.trim().to_owned();
    if text.chars().count() > MOST { line + "…" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(f64);

    impl Reward for Always {
        fn score(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, RewardFault>> {
            answers.iter().map(|_| Ok(self.0)).collect()
        }
    }

    fn of(parts: &[(f64, f64)]) -> Result<Score, RewardFault> {
        let part = |(weight, value): &(f64, f64)| WeightedPart {
            name: "always".to_owned(),
            weight: *weight,
            reward: Box::new(Always(*value)),
        };
        let rewards = WeightedRewards::new(parts.iter().map(part).collect());
        let task = EncodedTask { prompt: vec![1], messages: Vec::new(), fields: serde_json::Map::new() };
        let answer = Answer { task: &task, text: "", tokens: &[], ended: true };
        rewards.score(&[answer]).remove(0)
    }

    /// The deviation of a group with 1e300 was infinite, so that it had no advantages and the log spoke of equal rewards.
    #[test]
    fn scores_that_nothing_can_be_computed_with_are_faults() {
        assert_eq!(of(&[(1.0, 1e18), (1.0, -2.0)]).map(|score| score.parts), Ok(vec![1e18, -2.0]));
        for value in [1e300, -1e19] {
            let fault = of(&[(1.0, 0.5), (0.0, value)]).unwrap_err();
            assert!(fault.to_string().contains(&format!("{value:e}")), "{fault}");
            let RewardFault::Part { fault: of_part, .. } = &fault else { panic!("{fault:?}") };
            assert!(matches!(**of_part, RewardFault::TooLarge { .. }), "{fault:?}");
        }
        let sum = of(&[(1e10, 1e17), (1.0, 0.5)]).unwrap_err();
        assert!(matches!(&sum, RewardFault::TooLarge { who, .. } if who == "the sum"), "{sum:?}");
    }
}
