//! Reward models: the preferred answer's last token gets a greater value than the other's.

use super::examples::Examples;
use crate::data::EncodedPair;
use crate::error::AlignError;
use crate::evaluation::correct;
use crate::losses::reward::bradley_terry;
use crate::losses::sigmoid;
use crate::measures::Measures;
use crate::packed::Packed;
use crate::trainee::{Trainee, ValueBatch};

/// Preference pairs for a reward model.
#[derive(Debug)]
pub struct RewardPairs {
    pairs: Vec<EncodedPair>,
    centring: f64,
}

impl RewardPairs {
    /// These pairs; `centring` is the weight of (r_chosen + r_rejected)².
    pub fn new(pairs: Vec<EncodedPair>, centring: f64) -> RewardPairs {
        RewardPairs { pairs, centring }
    }

    fn batch(&self, examples: &[usize]) -> ValueBatch {
        let mut batch = ValueBatch::default();
        for example in examples {
            batch.push_last(&self.pairs[*example].chosen.ids);
            batch.push_last(&self.pairs[*example].rejected.ids);
        }
        batch
    }

    fn losses(&self, examples: &[usize], values: &[f32], divisor: f64, measures: &mut Measures) -> Vec<f32> {
        let mut gradients = Vec::with_capacity(values.len());
        for (example, values) in examples.iter().zip(values.chunks_exact(2)) {
            let (chosen, rejected) = (f64::from(values[0]), f64::from(values[1]));
            let margin = self.pairs[*example].margin.map_or(0.0, f64::from);
            let of = bradley_terry(chosen, rejected, margin, self.centring);
            gradients.extend([of.by_chosen, of.by_rejected].map(|slope| (slope / divisor) as f32));
            measures.add("loss", of.loss);
            measures.add("accuracy", correct(chosen - rejected));
            measures.add("margin", chosen - rejected);
            measures.add("reward", (chosen + rejected) / 2.0);
            // What the model thinks its accuracy is; equal to it where it is calibrated.
            measures.add("confidence", sigmoid((chosen - rejected).abs()));
        }
        gradients
    }
}

impl Examples for RewardPairs {
    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn rows(&self, example: usize) -> usize {
        self.pairs[example].chosen.ids.len() + self.pairs[example].rejected.ids.len()
    }

    fn packed(&self, examples: &[usize]) -> Packed {
        self.batch(examples).into()
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
        let batch = self.batch(examples);
        if learn {
            let mut loss = |values: &[f32]| self.losses(examples, values, divisor, measures);
            trainee.accumulate_values(&batch, &mut loss)?;
        } else {
            let values = trainee.values(&batch)?;
            self.losses(examples, &values, divisor, measures);
        }
        Ok(2 * examples.len())
    }

    /// A reward model writes nothing.
    fn prompt(&self, _: usize) -> Option<&[u32]> {
        None
    }
}
