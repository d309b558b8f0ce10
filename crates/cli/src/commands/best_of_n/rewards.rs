//! What answers are worth.

use super::SamplingArguments;
use crate::commands::align::{Loaded, ModelRewards, check_room, reward_expression};
use anyhow::Result;
use zhenjin_align::evaluation::dialogue_values;
use zhenjin_align::methods::RewardSource;

/// The rewards of the options; nothing without any. `base` is the model that the reward model is an adapter to, where it is another one. A prompt
/// with its answer has at most `longest` tokens.
pub(super) fn source(
    model: &Loaded,
    base: Option<&Loaded>,
    sampling: &SamplingArguments,
    longest: usize,
) -> Result<Option<Box<dyn RewardSource>>> {
    let expression = |text: &str| reward_expression(text, &sampling.limits);
    let rewards = sampling.reward.as_deref().map(expression).transpose()?;
    let Some(folder) = &sampling.reward_model else {
        return Ok(rewards.map(|rewards| Box::new(rewards) as Box<dyn RewardSource>));
    };
    let mut judge = match (base, &sampling.reward_base) {
        (Some(base), Some(name)) => {
            model.check_tokens(base, name)?;
            base.reward_model(folder)?
        }
        _ => model.reward_model(folder)?,
    };
    check_room(folder, judge.context_length(), longest)?;
    let values = Box::new(move |dialogues: &[Vec<u32>]| {
        let dialogues: Vec<&[u32]> = dialogues.iter().map(Vec::as_slice).collect();
        dialogue_values(&mut judge, &dialogues, &mut |_| {})
    });
    Ok(Some(Box::new(ModelRewards { values, rewards })))
}
