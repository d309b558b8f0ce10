//! What a run needs of rewards.

use super::episode::Episode;
use crate::data::EncodedTask;
use crate::error::AlignError;

/// An answer to be judged.
#[derive(Clone, Copy, Debug)]
pub struct WrittenAnswer<'a> {
    /// The prompt and what is known of it.
    pub task: &'a EncodedTask,
    /// The answer's tokens, the stop token included.
    pub tokens: &'a [u32],
    /// The answer as text, without the stop token.
    pub text: &'a str,
    /// Whether it ended by itself.
    pub ended: bool,
}

/// What an answer is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The reward, a finite number; or why there is none.
    pub total: Result<f64, String>,
    /// What it is made of, by name.
    pub parts: Vec<(String, f64)>,
}

/// Judges answers.
pub trait RewardSource {
    /// A judgement for each answer, in their order.
    ///
    /// # Errors
    /// [`AlignError`] when no answer can be judged any more; what concerns one answer stands in its judgement.
    fn judge(&mut self, answers: &[WrittenAnswer<'_>]) -> Result<Vec<Judgement>, AlignError>;
}

/// Judgements of all answers; a number that is not finite is none.
pub(super) fn judge(
    source: &mut dyn RewardSource,
    tasks: &[EncodedTask],
    episodes: &[Episode],
) -> Result<Vec<Judgement>, AlignError> {
    let answers: Vec<WrittenAnswer<'_>> = episodes
        .iter()
        .map(|episode| WrittenAnswer {
            task: &tasks[episode.task],
            tokens: &episode.answer.tokens,
            text: &episode.text,
            ended: episode.answer.ended,
        })
        .collect();
    let mut judgements = source.judge(&answers)?;
    if judgements.len() != answers.len() {
        return Err(AlignError::Input(format!(
            "the reward judged {} answers of {}",
            judgements.len(),
            answers.len()
        )));
    }
    for judgement in &mut judgements {
        if let Ok(total) = judgement.total
            && !total.is_finite()
        {
            judgement.total = Err(format!("the reward is {total}"));
        }
    }
    Ok(judgements)
}
