//! What the methods that learn from given answers have in common: examples in tokens, the loss of some of them, and its derivatives.

use std::ops::Range;

use zhenjin_tensor::{ScoreGradient, TokenScore};

use crate::error::AlignError;
use crate::measures::Measures;
use crate::packed::Packed;
use crate::trainee::Trainee;

/// Examples of one method.
pub trait Examples {
    /// How many there are.
    fn count(&self) -> usize;

    /// Rows of an example in a batch.
    fn rows(&self, example: usize) -> usize;

    /// Some examples one after the other, as their losses read them.
    fn packed(&self, examples: &[usize]) -> Packed;

    /// Operations for each row beside those of the model that learns.
    fn other_flops_per_row(&self) -> f64 {
        0.0
    }

    /// Computes once what the examples need of the model before it learns. `progress` is told how many examples are done.
    ///
    /// # Errors
    /// [`AlignError`].
    fn prepare(&mut self, trainee: &mut Trainee, progress: &mut dyn FnMut(usize)) -> Result<(), AlignError> {
        let _ = (trainee, progress);
        Ok(())
    }

    /// What [`Examples::prepare`] computed, to be kept beside the run; empty if nothing.
    fn prepared(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Takes over what was computed before; false if it is of other examples.
    fn restore(&mut self, prepared: &[f64]) -> bool {
        prepared.is_empty()
    }

    /// What the sums over the examples of a step are divided by, and what of the step's examples their losses depend on beside
    /// themselves.
    ///
    /// # Errors
    /// [`AlignError`].
    fn begin(&mut self, trainee: &mut Trainee, examples: &[usize]) -> Result<f64, AlignError>;

    /// The loss of some examples of the step times 1 / `divisor`. With `learn`, its derivatives are added to the trainee's gradients. What
    /// is measured is added to `measures`, the loss as `loss`; tokens with a loss are counted.
    ///
    /// # Errors
    /// [`AlignError`].
    fn judge(
        &self,
        trainee: &mut Trainee,
        examples: &[usize],
        divisor: f64,
        learn: bool,
        measures: &mut Measures,
    ) -> Result<usize, AlignError>;

    /// An example as a prompt to be answered, and what the data answer, for sample texts; `None` where there is no prompt.
    fn prompt(&self, example: usize) -> Option<&[u32]>;
}

/// The sum of the log-probabilities of a document's targets, and how many there are.
pub(super) fn log_probability(packed: &Packed, scores: &[TokenScore], rows: &Range<usize>) -> (f64, usize) {
    let targets = packed.targets[rows.clone()].iter().zip(&scores[rows.clone()]);
    let scored = targets.filter(|(target, _)| target.is_some());
    scored.fold((0.0, 0), |(sum, count), (_, score)| (sum + f64::from(score.log_probability), count + 1))
}

/// Gives every target of a document the derivative `slope` by its log-probability.
pub(super) fn spread(packed: &Packed, rows: &Range<usize>, slope: f64, gradients: &mut [ScoreGradient]) {
    for row in rows.clone().filter(|row| packed.targets[*row].is_some()) {
        gradients[row].log_probability += slope as f32;
    }
}

/// The tokens before the first one that the assistant wrote.
pub(super) fn prompt_of(dialogue: &zhenjin_tokenizer::EncodedDialogue) -> &[u32] {
    let end = dialogue.assistant_mask.iter().position(|is_trained| *is_trained);
    &dialogue.ids[..end.unwrap_or(0)]
}

/// Scores documents by `score`, some together, and gives the sum of each one's log-probabilities.
pub(super) fn log_probabilities<'a>(
    documents: impl Iterator<Item = &'a zhenjin_tokenizer::EncodedDialogue>,
    micro_tokens: usize,
    score: &mut dyn FnMut(&Packed) -> Result<Vec<TokenScore>, AlignError>,
) -> Result<Vec<f64>, AlignError> {
    let mut sums = Vec::new();
    let mut packed = Packed::default();
    let mut flush = |packed: &mut Packed| -> Result<(), AlignError> {
        let scores = score(packed)?;
        sums.extend(packed.documents().map(|rows| log_probability(packed, &scores, &rows).0));
        *packed = Packed::default();
        Ok(())
    };
    for document in documents {
        if !packed.lengths.is_empty() && packed.tokens.len() + document.ids.len() > micro_tokens {
            flush(&mut packed)?;
        }
        packed.push(document);
    }
    if !packed.lengths.is_empty() {
        flush(&mut packed)?;
    }
    Ok(sums)
}

/// What the reference says of the two documents of each example: the sums of their log-probabilities, computed once.
#[derive(Debug, Default)]
pub(super) struct References(Vec<[f64; 2]>);

impl References {
    pub(super) fn of(&self, example: usize) -> [f64; 2] {
        self.0[example]
    }

    /// Computes all; `progress` is told how many examples are done.
    pub(super) fn compute<'a>(
        &mut self,
        trainee: &mut Trainee,
        examples: impl Iterator<Item = [&'a zhenjin_tokenizer::EncodedDialogue; 2]>,
        micro_tokens: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), AlignError> {
        self.0.clear();
        for (index, documents) in examples.enumerate() {
            let sums = log_probabilities(documents.into_iter(), micro_tokens, &mut |packed| {
                trainee.reference_scores(packed)
            })?;
            self.0.push([sums[0], sums[1]]);
            progress(index + 1);
        }
        Ok(())
    }

    /// All numbers, to be kept beside the run.
    pub(super) fn prepared(&self) -> Vec<f64> {
        self.0.concat()
    }

    /// Takes over the numbers of `examples` examples; false if they are of another number.
    pub(super) fn restore(&mut self, prepared: &[f64], examples: usize) -> bool {
        let is_ours = prepared.len() == 2 * examples;
        if is_ours {
            self.0 = prepared.as_chunks().0.to_vec();
        }
        is_ours
    }
}
