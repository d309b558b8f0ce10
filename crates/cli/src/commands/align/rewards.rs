//! What answers are worth: an expression of rewards, a reward model, or both together.

use crate::commands::training::was_asked;
use anyhow::{Result, bail};
use clap::Args;
use std::time::Duration;
use zhenjin_align::AlignError;
use zhenjin_align::methods::{Judgement, RewardSource};
use zhenjin_align::rewards::{Answer, BuildOptions, RewardExpression, WeightedRewards};

/// What a reward model's part of a sum is called.
const REWARD_MODEL: &str = "reward_model";

/// Limits of rewards that programs and services give.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RewardLimits {
    /// How long `process:` may take for the next score, and `http:` for a request of up to 32 answers with all its attempts [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) reward_timeout: Option<u64>,
    /// How often `process:` is tried with an answer, and `http:` with a request [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) reward_attempts: Option<u32>,
    /// Programs of `code` that run at once, and requests of `http:` that are open at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) reward_threads: Option<u16>,
}

impl RewardLimits {
    /// The options, and whether they were given.
    pub(crate) fn given(&self) -> [(&'static str, bool); 3] {
        [
            ("--reward-timeout", self.reward_timeout.is_some()),
            ("--reward-attempts", self.reward_attempts.is_some()),
            ("--reward-threads", self.reward_threads.is_some()),
        ]
    }

    /// Refuses limits of rewards that there are not.
    pub(crate) fn check(&self, has_rewards: bool) -> Result<()> {
        match self.given().iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if !has_rewards => {
                bail!(
                    "{option} limits rewards, and there are none: say what an answer is worth with --reward"
                )
            }
            _ => Ok(()),
        }
    }

    fn options(&self) -> BuildOptions {
        let default = BuildOptions::default();
        BuildOptions {
            limit: self.reward_timeout.map_or(default.limit, Duration::from_secs),
            attempts: self.reward_attempts.unwrap_or(default.attempts),
            threads: self.reward_threads.map_or(default.threads, usize::from),
            // A run that waits for a process hears a signal at once.
            stop: was_asked,
            ..default
        }
    }
}

/// The rewards of an option's text.
pub(crate) fn reward_expression(text: &str, limits: &RewardLimits) -> Result<WeightedRewards> {
    let expression = RewardExpression::parse(text)?;
    Ok(expression.build(&limits.options())?)
}

/// The values of whole dialogues by a reward model, or why one has none.
type Values = dyn FnMut(&[Vec<u32>]) -> Result<Vec<Result<f64, String>>, AlignError>;

/// What a reward model says of answers, added to other rewards.
pub(crate) struct ModelRewards {
    pub(crate) values: Box<Values>,
    pub(crate) rewards: Option<WeightedRewards>,
}

impl RewardSource for ModelRewards {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let dialogues: Vec<Vec<u32>> =
            answers.iter().map(|answer| [&answer.task.prompt[..], answer.tokens].concat()).collect();
        let values = (self.values)(&dialogues)?;
        let mut judgements = match &mut self.rewards {
            Some(rewards) => RewardSource::judge(rewards, answers)?,
            None => answers.iter().map(|_| Judgement { total: Ok(0.0), parts: Vec::new() }).collect(),
        };
        for (judgement, value) in judgements.iter_mut().zip(values) {
            match value {
                Ok(value) => {
                    judgement.parts.push((REWARD_MODEL.to_owned(), value));
                    if let Ok(total) = &mut judgement.total {
                        *total += value;
                    }
                }
                Err(fault) if judgement.total.is_ok() => {
                    judgement.total = Err(format!("of the reward model: {fault}"));
                }
                // There is a reason already.
                Err(_) => {}
            }
        }
        Ok(judgements)
    }

    fn notes(&mut self) -> Vec<String> {
        self.rewards.as_mut().map(RewardSource::notes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use zhenjin_align::data::EncodedTask;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        limits: RewardLimits,
    }

    fn limits(arguments: &[&str]) -> Result<RewardLimits, clap::Error> {
        let arguments = [&["program"][..], arguments].concat();
        Ok(Options::try_parse_from(arguments)?.limits)
    }

    /// One answer that a reward model cannot score left all others without a reward, and ended the run.
    #[test]
    fn an_answer_without_a_value_is_alone_without_a_reward() {
        let task = EncodedTask { prompt: vec![7], messages: Vec::new(), fields: serde_json::Map::new() };
        let tokens = [vec![1], vec![2, 2], vec![3]];
        let answers: Vec<Answer<'_>> =
            tokens.iter().map(|tokens| Answer { task: &task, tokens, text: "four", ended: true }).collect();
        let values = |dialogues: &[Vec<u32>]| -> Result<Vec<Result<f64, String>>, AlignError> {
            let value = |dialogue: &Vec<u32>| match dialogue.len() {
                2 => Ok(f64::from(dialogue[1])),
                _ => Err("its value is NaN".to_owned()),
            };
            Ok(dialogues.iter().map(value).collect())
        };
        let rewards =
            || reward_expression("length:characters<=9", &RewardLimits::default()).expect("a reward");
        for (rewards, more) in [(None, 0.0), (Some(rewards()), 1.0)] {
            let mut source = ModelRewards { values: Box::new(values), rewards };
            let judgements = source.judge(&answers).expect("judgements");
            let totals: Vec<_> = judgements.iter().map(|judgement| judgement.total.clone()).collect();
            let fault = Err("of the reward model: its value is NaN".to_owned());
            assert_eq!(totals, [Ok(1.0 + more), fault, Ok(3.0 + more)]);
        }
    }

    /// Whatever was asked for, a process had 60 seconds and programs ran one after another.
    #[test]
    fn limits_of_rewards_are_those_that_were_asked_for() {
        let default = BuildOptions::default();
        let found = limits(&[]).expect("no options").options();
        assert_eq!(
            (found.limit, found.attempts, found.threads),
            (default.limit, default.attempts, default.threads)
        );
        let given = ["--reward-timeout", "5", "--reward-attempts", "2", "--reward-threads", "4"];
        let given = limits(&given).expect("all options");
        let found = given.options();
        assert_eq!((found.limit, found.attempts, found.threads), (Duration::from_secs(5), 2, 4));
        assert!(given.check(true).is_ok());
        let error = given.check(false).expect_err("no reward").to_string();
        assert!(error.starts_with("--reward-timeout"), "{error}");
        for option in ["--reward-timeout", "--reward-attempts", "--reward-threads"] {
            for value in ["0", "100000", "-1", "x"] {
                assert!(limits(&[option, value]).is_err(), "{option} {value}");
            }
        }
    }
}
