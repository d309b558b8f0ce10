//! What a run needs of rewards.

use super::episode::Episode;
use crate::data::EncodedTask;
use crate::error::AlignError;
use crate::rewards::{Answer, RewardFault, Score, WeightedRewards};

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
    /// [`AlignError`] when no answer can be judged any more, [`AlignError::Stopped`] when the wait was to stop; what concerns one answer stands in its judgement.
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError>;

    /// What a reader of the log should know of the judgements since this was last asked, beside answers without one.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl RewardSource for WeightedRewards {
    fn judge(&mut self, answers: &[Answer<'_>]) -> Result<Vec<Judgement>, AlignError> {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        let judgement = |score: Result<Score, RewardFault>| match score {
            Ok(Score { total, parts }) => {
                Judgement { total: Ok(total), parts: names.iter().cloned().zip(parts).collect() }
            }
            Err(fault) => Judgement { total: Err(fault.to_string()), parts: Vec::new() },
        };
        let scores = self.score(answers);
        if scores.iter().any(|score| score.as_ref().is_err_and(RewardFault::is_stop)) {
            return Err(AlignError::Stopped);
        }
        Ok(scores.into_iter().map(judgement).collect())
    }

    fn notes(&mut self) -> Vec<String> {
        self.take_notes()
    }
}

/// Judgements of all answers; a number that is not finite is none. What else is to be known of them is added to `notes`.
pub(super) fn judge(
    source: &mut dyn RewardSource,
    tasks: &[EncodedTask],
    episodes: &[Episode],
    notes: &mut Vec<String>,
) -> Result<Vec<Judgement>, AlignError> {
    let answers: Vec<Answer<'_>> = episodes
        .iter()
        .map(|episode| Answer {
            task: &tasks[episode.task],
            tokens: &episode.answer.tokens,
            text: &episode.text,
            ended: episode.answer.ended,
        })
        .collect();
    let mut judgements = source.judge(&answers)?;
    notes.extend(source.notes());
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
