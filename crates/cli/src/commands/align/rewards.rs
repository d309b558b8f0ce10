//! What answers are worth: an expression of rewards, a reward model, or both together.

use anyhow::Result;
use zhenjin_align::AlignError;
use zhenjin_align::methods::{Judgement, RewardSource};
use zhenjin_align::rewards::{Answer, BuildOptions, RewardExpression, WeightedRewards};

/// What a reward model's part of a sum is called.
const REWARD_MODEL: &str = "reward_model";

/// The rewards of an option's text.
pub(crate) fn reward_expression(text: &str) -> Result<WeightedRewards> {
    let expression = RewardExpression::parse(text)?;
    Ok(expression.build(&BuildOptions::default())?)
}

/// The values of whole dialogues by a reward model.
type Values = dyn FnMut(&[Vec<u32>]) -> Result<Vec<f64>, AlignError>;

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
            judgement.parts.push((REWARD_MODEL.to_owned(), value));
            if let Ok(total) = &mut judgement.total {
                *total += value;
            }
        }
        Ok(judgements)
    }
}
