//! Where a number that is not finite comes from, and steps that were kept for it.

use zhenjin_model::Learned;
use zhenjin_tensor::ScoreGradient;

use super::Trainee;
use crate::error::AlignError;
use crate::faults::{FaultyDocument, FaultyStep};

impl Trainee {
    /// Where a number that is not finite comes from, and what helps: of each document alone, else as far as parameters tell. Gradients are overwritten.
    pub fn why_not_finite(&mut self, documents: &[FaultyDocument]) -> String {
        let known = self.not_finite_parameters();
        // What cannot be computed again says nothing.
        let found = match self.origin_of_non_finite(documents) {
            Ok(Some(origin)) => origin,
            _ => known,
        };
        format!("{found}; a smaller optimiser.learning_rate may help")
    }

    /// Computes documents alone until a number that is not finite is found: in which example, and where from.
    fn origin_of_non_finite(&mut self, documents: &[FaultyDocument]) -> Result<Option<String>, AlignError> {
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        let slope = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        for document in documents {
            let packed = document.packed();
            let batch = packed.batch();
            let found = self.learner.find_non_finite(learned, &batch, &slope, &mut self.gradients)?;
            if let Some(origin) = found {
                return Ok(Some(format!("in example {}: {origin}", document.example)));
            }
        }
        Ok(None)
    }

    /// Computes a step that was kept with the weights as they are: the mean of −log-probability over its targets in nats, and where a number
    /// that is not finite comes from, if there is one. Nothing is learnt.
    ///
    /// # Errors
    /// [`AlignError::Model`], also for documents that are not this model's.
    pub fn replay(&mut self, step: &FaultyStep) -> Result<(f64, Option<String>), AlignError> {
        let (mut sum, mut targets) = (0.0, 0);
        for document in &step.documents {
            let packed = document.packed();
            let scores = self.scores(&packed)?;
            let scored = packed.targets.iter().zip(&scores).filter(|(target, _)| target.is_some());
            sum -= scored.map(|(_, score)| f64::from(score.log_probability)).sum::<f64>();
            targets += packed.target_count();
        }
        let origin = self.origin_of_non_finite(&step.documents)?;
        self.forget_gradients();
        Ok((sum / targets.max(1) as f64, origin))
    }

    fn not_finite_parameters(&self) -> String {
        let parameter = self.model.weights.first_non_finite().map(|(name, index)| {
            let name = zhenjin_model::names::Naming::HuggingFace.spell(name);
            format!("element {index} of `{name}` is not finite")
        });
        let gradient = self.gradients.first_non_finite().map(|(id, index)| {
            let descriptions = self.optimiser.descriptions();
            let name = descriptions.get(id.0 as usize).map_or("?", |description| &description.name);
            format!("the first gradient that is not finite is element {index} of that of `{name}`")
        });
        parameter.or(gradient).unwrap_or_else(|| "all parameters and gradients are finite".to_owned())
    }
}
