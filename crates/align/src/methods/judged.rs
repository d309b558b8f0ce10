//! KTO: liked answers become more likely, disliked ones less, measured against the reference.

use zhenjin_tensor::{ScoreGradient, TokenScore};
use zhenjin_tokenizer::EncodedDialogue;

use super::examples::{Examples, References, log_probabilities, log_probability, prompt_of, spread};
use crate::data::EncodedThumb;
use crate::error::AlignError;
use crate::evaluation::correct;
use crate::losses::judged::{JudgedLoss, divergence};
use crate::measures::Measures;
use crate::packed::Packed;
use crate::trainee::Trainee;

/// Judged answers with the reference's log-probabilities, which are computed once.
#[derive(Debug)]
pub struct Judged {
    thumbs: Vec<EncodedThumb>,
    /// Of each, its prompt with the answer to the next other prompt.
    mismatched: Vec<EncodedDialogue>,
    loss: JudgedLoss,
    /// Weight of a liked answer's mean negative log-probability, times that of liked answers.
    sft_weight: f64,
    micro_tokens: usize,
    /// Of each: log π_ref of its answer, and of the mismatched one.
    reference: References,
    /// The estimate of the divergence for the step that was begun.
    divergence: f64,
}

impl Judged {
    /// These answers. The divergence is estimated from prompts with answers to other prompts: of `thumbs`, or of `others` where all of `thumbs`
    /// have one prompt, as a small held-out part may. `context_length` bounds these dialogues; `micro_tokens` are scored together.
    ///
    /// # Errors
    /// [`AlignError::Input`] when all answers are to one prompt: there is nothing to estimate the divergence from.
    pub fn new(
        thumbs: Vec<EncodedThumb>,
        others: &[EncodedThumb],
        loss: JudgedLoss,
        context_length: usize,
        micro_tokens: usize,
    ) -> Result<Judged, AlignError> {
        let mismatched = (0..thumbs.len())
            .map(|index| mismatched(&thumbs, others, index, context_length))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                let problem = "KTO needs answers to at least two different prompts (the divergence from the reference is estimated from \
                               answers to other prompts); use DPO or SFT for these data";
                AlignError::Input(problem.to_owned())
            })?;
        Ok(Judged {
            thumbs,
            mismatched,
            loss,
            sft_weight: 0.0,
            micro_tokens,
            reference: References::default(),
            divergence: 0.0,
        })
    }

    /// The same with this weight of a liked answer's mean negative log-probability: liked answers become more likely, and do not merely fall
    /// less than disliked ones.
    pub fn with_sft_weight(self, sft_weight: f64) -> Judged {
        Judged { sft_weight, ..self }
    }

    fn losses(
        &self,
        examples: &[usize],
        packed: &Packed,
        scores: &[TokenScore],
        divisor: f64,
        measures: &mut Measures,
    ) -> Vec<ScoreGradient> {
        let mut gradients = vec![ScoreGradient::default(); scores.len()];
        for (example, rows) in examples.iter().zip(packed.documents()) {
            let liked = self.thumbs[*example].liked;
            let (sum, tokens) = log_probability(packed, scores, &rows);
            let log_ratio = sum - self.reference.of(*example)[0];
            let (loss, slope) = self.loss.of(log_ratio, liked, self.divergence);
            let imitated = if liked { self.sft_weight * self.loss.liked_weight } else { 0.0 };
            let per_token = imitated / tokens.max(1) as f64;
            spread(packed, &rows, (slope - per_token) / divisor, &mut gradients);
            measures.add("loss", loss - per_token * sum);
            let margin = log_ratio - self.divergence;
            measures.add("accuracy", correct(if liked { margin } else { -margin }));
            let name = if liked { "liked_reward" } else { "disliked_reward" };
            measures.add(name, self.loss.beta * log_ratio);
        }
        gradients
    }
}

/// The prompt of one with the answer of the next whose prompt is another one.
fn mismatched(
    thumbs: &[EncodedThumb],
    others: &[EncodedThumb],
    index: usize,
    context_length: usize,
) -> Option<EncodedDialogue> {
    let prompt = prompt_of(&thumbs[index].dialogue);
    let after = (1..thumbs.len()).map(|step| &thumbs[(index + step) % thumbs.len()]);
    let mut candidates = after.chain(others).map(|thumb| &thumb.dialogue);
    let other = candidates.find(|other| prompt_of(other) != prompt)?;
    let start = prompt_of(other).len();
    let mut ids = prompt.to_vec();
    ids.extend(&other.ids[start..]);
    let mut assistant_mask = vec![false; prompt.len()];
    assistant_mask.extend(&other.assistant_mask[start..]);
    ids.truncate(context_length);
    assistant_mask.truncate(context_length);
    Some(EncodedDialogue { ids, assistant_mask })
}

impl Examples for Judged {
    fn count(&self) -> usize {
        self.thumbs.len()
    }

    fn rows(&self, example: usize) -> usize {
        self.thumbs[example].dialogue.ids.len().saturating_sub(1)
    }

    fn packed(&self, examples: &[usize]) -> Packed {
        let mut packed = Packed::default();
        examples.iter().for_each(|example| packed.push(&self.thumbs[*example].dialogue));
        packed
    }

    fn prepare(&mut self, trainee: &mut Trainee, progress: &mut dyn FnMut(usize)) -> Result<(), AlignError> {
        let examples =
            self.thumbs.iter().zip(&self.mismatched).map(|(thumb, other)| [&thumb.dialogue, other]);
        self.reference.compute(trainee, examples, self.micro_tokens, progress)
    }

    fn prepared(&self) -> Vec<f64> {
        self.reference.prepared()
    }

    fn restore(&mut self, prepared: &[f64]) -> bool {
        self.reference.restore(prepared, self.thumbs.len())
    }

    fn begin(&mut self, trainee: &mut Trainee, examples: &[usize]) -> Result<f64, AlignError> {
        let documents = examples.iter().map(|example| &self.mismatched[*example]);
        let sums = log_probabilities(documents, self.micro_tokens, &mut |packed| trainee.scores(packed))?;
        let ratios: Vec<f64> =
            sums.iter().zip(examples).map(|(sum, example)| sum - self.reference.of(*example)[1]).collect();
        self.divergence = divergence(&ratios);
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
        measures.add_weighted("answer_kl", self.divergence, examples.len() as f64);
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
        Some(prompt_of(&self.thumbs[example].dialogue)).filter(|prompt| !prompt.is_empty())
    }
}
