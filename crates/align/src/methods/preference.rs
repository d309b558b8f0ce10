//! DPO and its relatives: preferred answers become more likely than others, measured against the reference.

use zhenjin_tensor::{ScoreGradient, TokenScore};

use super::examples::{Examples, References, log_probability, prompt_of, spread};
use crate::data::EncodedPair;
use crate::error::AlignError;
use crate::evaluation::correct;
use crate::losses::preference::{PairScores, PreferenceLoss};
use crate::measures::Measures;
use crate::packed::Packed;
use crate::trainee::Trainee;

/// Preference pairs with the reference's log-probabilities, which are computed once.
#[derive(Debug)]
pub struct Preferences {
    pairs: Vec<EncodedPair>,
    loss: PreferenceLoss,
    /// Weight of the preferred answer's mean negative log-probability.
    sft_weight: f64,
    micro_tokens: usize,
    /// Of each pair: log π_ref of the chosen and of the rejected answer.
    reference: References,
}

impl Preferences {
    /// These pairs. `micro_tokens` are scored together.
    pub fn new(
        pairs: Vec<EncodedPair>,
        loss: PreferenceLoss,
        sft_weight: f64,
        micro_tokens: usize,
    ) -> Preferences {
        Preferences { pairs, loss, sft_weight, micro_tokens, reference: References::default() }
    }

    /// The loss of a batch and its derivatives by the rows' log-probabilities.
    fn losses(
        &self,
        examples: &[usize],
        packed: &Packed,
        scores: &[TokenScore],
        divisor: f64,
        measures: &mut Measures,
    ) -> Vec<ScoreGradient> {
        let mut gradients = vec![ScoreGradient::default(); scores.len()];
        let documents: Vec<_> = packed.documents().collect();
        for (example, rows) in examples.iter().zip(documents.chunks_exact(2)) {
            let (chosen, chosen_tokens) = log_probability(packed, scores, &rows[0]);
            let (rejected, rejected_tokens) = log_probability(packed, scores, &rows[1]);
            let [reference_chosen, reference_rejected] = self.reference.of(*example);
            let pair = PairScores {
                chosen,
                rejected,
                reference_chosen,
                reference_rejected,
                chosen_tokens,
                rejected_tokens,
            };
            let of = self.loss.of(&pair);
            let per_token = 1.0 / chosen_tokens.max(1) as f64;
            let by_chosen = of.by_chosen - self.sft_weight * per_token;
            spread(packed, &rows[0], by_chosen / divisor, &mut gradients);
            spread(packed, &rows[1], of.by_rejected / divisor, &mut gradients);
            measures.add("loss", of.loss - self.sft_weight * chosen * per_token);
            measures.add("accuracy", correct(of.margin));
            measures.add("margin", of.margin);
            measures.add("chosen_reward", self.loss.beta * (chosen - reference_chosen));
            measures.add("rejected_reward", self.loss.beta * (rejected - reference_rejected));
            measures.add("chosen_log_probability", chosen);
            measures.add("rejected_log_probability", rejected);
        }
        gradients
    }
}

impl Examples for Preferences {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn rows(&self, example: usize) -> usize {
        let EncodedPair { chosen, rejected, .. } = &self.pairs[example];
        (chosen.ids.len() + rejected.ids.len()).saturating_sub(2)
    }

    fn packed(&self, examples: &[usize]) -> Packed {
        let mut packed = Packed::default();
        for example in examples {
            packed.push(&self.pairs[*example].chosen);
            packed.push(&self.pairs[*example].rejected);
        }
        packed
    }

    fn prepare(&mut self, trainee: &mut Trainee, progress: &mut dyn FnMut(usize)) -> Result<(), AlignError> {
        let examples = self.pairs.iter().map(|pair| [&pair.chosen, &pair.rejected]);
        self.reference.compute(trainee, examples, self.micro_tokens, progress)
    }

    fn prepared(&self) -> Vec<f64> {
        self.reference.prepared()
    }

    fn restore(&mut self, prepared: &[f64]) -> bool {
        self.reference.restore(prepared, self.pairs.len())
    }

    fn begin(&mut self, _: &mut Trainee, examples: &[usize]) -> Result<f64, AlignError> {
        Ok(examples.len() as f64)
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
        if learn {
            let mut loss = |scores: &[TokenScore]| self.losses(examples, &packed, scores, divisor, measures);
            trainee.accumulate(&packed, &mut loss)?;
        } else {
            let scores = trainee.scores(&packed)?;
            self.losses(examples, &packed, &scores, divisor, measures);
        }
        Ok(packed.target_count())
    }

    fn prompt(&self, example: usize) -> Option<&[u32]> {
        Some(prompt_of(&self.pairs[example].chosen)).filter(|prompt| !prompt.is_empty())
    }
}
