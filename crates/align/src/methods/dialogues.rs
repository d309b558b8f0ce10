//! Supervised fine-tuning: the assistant's tokens of dialogues become more likely.

use zhenjin_tensor::ScoreGradient;
use zhenjin_tokenizer::EncodedDialogue;

use super::examples::{Examples, prompt_of};
use crate::error::AlignError;
use crate::measures::Measures;
use crate::packed::Packed;
use crate::trainee::Trainee;

/// Dialogues whose marked tokens are learnt: the loss is the mean of −log π over all marked tokens of a step, so that a step is the same
/// however it is divided into micro-batches.
#[derive(Debug)]
pub struct Dialogues {
    dialogues: Vec<EncodedDialogue>,
}

impl Dialogues {
    /// These dialogues.
    pub fn new(dialogues: Vec<EncodedDialogue>) -> Dialogues {
        Dialogues { dialogues }
    }

    /// The dialogues, given back.
    pub fn into_dialogues(self) -> Vec<EncodedDialogue> {
        self.dialogues
    }

    fn targets(&self, example: usize) -> usize {
        self.dialogues[example].assistant_mask.iter().skip(1).filter(|is_trained| **is_trained).count()
    }
}

impl Examples for Dialogues {
    fn count(&self) -> usize {
        self.dialogues.len()
    }

    fn rows(&self, example: usize) -> usize {
        self.dialogues[example].ids.len().saturating_sub(1)
    }

    fn packed(&self, examples: &[usize]) -> Packed {
        let mut packed = Packed::default();
        examples.iter().for_each(|example| packed.push(&self.dialogues[*example]));
        packed
    }

    fn begin(&mut self, _: &mut Trainee, examples: &[usize]) -> Result<f64, AlignError> {
        Ok(examples.iter().map(|example| self.targets(*example)).sum::<usize>() as f64)
    }

    fn judge(
        &self,
        trainee: &mut Trainee,
        examples: &[usize],
        divisor: f64,
        learn: bool,
        measures: &mut Measures,
    ) -> Result<usize, AlignError> {
        let packed = self.packed(examples);
        let targets = packed.target_count();
        if targets == 0 {
            return Ok(0);
        }
        let scores = if learn {
            let slope = -(1.0 / divisor) as f32;
            trainee.accumulate_rows(&packed, &|_, _| ScoreGradient {
                log_probability: slope,
                log_sum_exp: 0.0,
            })?
        } else {
            trainee.scores(&packed)?
        };
        let scored = packed.targets.iter().zip(&scores).filter(|(target, _)| target.is_some());
        let loss: f64 = scored.map(|(_, score)| -f64::from(score.log_probability)).sum();
        measures.add_weighted("loss", loss / targets as f64, targets as f64);
        Ok(targets)
    }

    fn prompt(&self, example: usize) -> Option<&[u32]> {
        Some(prompt_of(&self.dialogues[example])).filter(|prompt| !prompt.is_empty())
    }
}
