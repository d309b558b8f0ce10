//! Where a number that is not finite comes from, and steps that were kept for it.

use zhenjin_model::names::Naming;
use zhenjin_model::{Learned, NonFiniteOrigin};
use zhenjin_tensor::{Pass, ScoreGradient, TokenScore};

use super::{Trainee, ValueBatch};
use crate::configuration::TuningKind;
use crate::error::AlignError;
use crate::faults::{FaultyDocument, FaultyStep};

/// The derivative of −log-probability.
fn slope(_: usize, _: TokenScore) -> ScoreGradient {
    ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 }
}

fn place_of(values: &[f32]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}

impl Trainee {
    /// Whether it has a head for values.
    pub fn gives_values(&self) -> bool {
        self.values.is_some()
    }

    /// The first of what a checkpoint holds that is not finite: of the weights that learn, and of what the optimiser remembers of them.
    pub fn not_finite(&self) -> Option<String> {
        let is_full = self.options.tuning.kind == TuningKind::Full;
        let of_weights = if is_full { self.not_finite_weight() } else { None };
        let of_optimiser = || {
            self.optimiser.state().find_map(|state| {
                let index = place_of(state.values)?;
                Some(format!("element {index} of the optimiser's `{}` is not finite", state.name))
            })
        };
        of_weights.or_else(|| self.not_finite_addition()).or_else(of_optimiser)
    }

    fn not_finite_weight(&self) -> Option<String> {
        let (name, index) = self.model.weights.first_non_finite()?;
        Some(format!("element {index} of `{}` is not finite", Naming::HuggingFace.spell(name)))
    }

    /// Of the adapter and the head for values.
    fn not_finite_addition(&self) -> Option<String> {
        let of_adapter = self.adapter.as_deref().and_then(|adapter| {
            adapter.parameters().find_map(|(name, matrix)| {
                let index = place_of(matrix.f32_packed().unwrap_or_default())?;
                Some(format!("element {index} of `{name}` is not finite"))
            })
        });
        let of_head = || {
            let index = place_of(self.values.as_deref()?)?;
            Some(format!("element {index} of `{}` is not finite", zhenjin_model::SCORE_TENSOR))
        };
        of_adapter.or_else(of_head)
    }

    fn not_finite_gradient(&self) -> Option<String> {
        let (id, index) = self.gradients.first_non_finite()?;
        let descriptions = self.optimiser.descriptions();
        let name = descriptions.get(id.0 as usize).map_or("?", |description| &description.name);
        Some(format!("element {index} of the gradient of `{name}` is not a finite number"))
    }

    /// What parameters and gradients tell of a number that is not finite, without computing anything.
    pub fn known_of_non_finite(&self) -> String {
        let parameter = self.not_finite_weight().or_else(|| self.not_finite_addition());
        let known = parameter.or_else(|| self.not_finite_gradient());
        known.unwrap_or_else(|| "all parameters and gradients are finite".to_owned())
    }

    /// Computes a step's documents alone until a number that is not finite is found: in which, and where from. Gradients are overwritten. It
    /// takes memory: what is to be kept must be on the disk before.
    ///
    /// # Errors
    /// [`AlignError::Model`], also for documents that are not this model's; [`AlignError::Input`] for a step of another kind of model.
    pub fn origin_of_non_finite(&mut self, step: &FaultyStep) -> Result<Option<String>, AlignError> {
        self.expect_kind(step)?;
        let parameter = self.not_finite_weight().or_else(|| self.not_finite_addition());
        if parameter.is_some() {
            return Ok(parameter);
        }
        for document in &step.documents {
            let found = match self.gives_values() {
                true => self.non_finite_value(document)?,
                false => self.non_finite_score(document)?,
            };
            if let Some(origin) = found {
                return Ok(Some(format!("in example {}: {origin}", document.example)));
            }
        }
        for document in &step.anchor {
            if let Some(origin) = self.non_finite_score(document)? {
                return Ok(Some(format!("in text {} of the anchor's piece: {origin}", document.example)));
            }
        }
        Ok(None)
    }

    fn non_finite_score(&mut self, document: &FaultyDocument) -> Result<Option<String>, AlignError> {
        let packed = document.packed();
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        let found = self.learner.find_non_finite(learned, &packed.batch(), &slope, &mut self.gradients)?;
        // The learner names gradients of the model's own weights alone.
        Ok(found.map(|origin| origin.to_string()).or_else(|| self.not_finite_gradient()))
    }

    fn non_finite_value(&mut self, document: &FaultyDocument) -> Result<Option<String>, AlignError> {
        let packed = document.packed();
        self.forget_gradients();
        let mut slopes = |values: &[f32]| vec![1.0f32; values.len()];
        let values = self.accumulate_values(&ValueBatch::from(&packed), &mut slopes)?;
        let of_values = place_of(&values).map(|row| format!("value {row} of its rows is {}", values[row]));
        let Some(found) = of_values.or_else(|| self.not_finite_gradient()) else { return Ok(None) };
        // Below the head, a model that gives values is one that gives scores, whose way forward can be searched. What its head for tokens and
        // the way back from there make is nothing of this model's.
        let learned = Learned::from(&self.model.weights).with_adapter(self.adapter.as_deref());
        let below = self.learner.find_non_finite(learned, &packed.batch(), &slope, &mut self.gradients);
        Ok(Some(match below {
            Ok(Some(NonFiniteOrigin::Operation(below)))
                if below.pass == Pass::Forward && below.operation != "head" =>
            {
                below.to_string()
            }
            _ => found,
        }))
    }

    /// Computes a step that was kept with the weights as they are: the mean of −log-probability over its targets in nats, or of the values where
    /// the model gives values; and where a number that is not finite comes from, if one is found. Nothing is learnt, and the method's loss is not
    /// computed.
    ///
    /// # Errors
    /// [`AlignError::Model`], also for documents that are not this model's; [`AlignError::Input`] for a step of another kind of model.
    pub fn replay(&mut self, step: &FaultyStep) -> Result<(f64, Option<String>), AlignError> {
        self.expect_kind(step)?;
        let (mut sum, mut count) = (0.0, 0);
        for document in &step.documents {
            let packed = document.packed();
            if self.gives_values() {
                let values = self.values(&ValueBatch::from(&packed))?;
                sum += values.iter().map(|value| f64::from(*value)).sum::<f64>();
            } else {
                let scores = self.scores(&packed)?;
                let scored = packed.targets.iter().zip(&scores).filter(|(target, _)| target.is_some());
                sum -= scored.map(|(_, score)| f64::from(score.log_probability)).sum::<f64>();
            }
            count += packed.target_count();
        }
        let origin = self.origin_of_non_finite(step)?;
        self.forget_gradients();
        Ok((sum / count.max(1) as f64, origin))
    }

    /// A policy says nothing of a critic's numbers, nor a critic of a policy's.
    fn expect_kind(&self, step: &FaultyStep) -> Result<(), AlignError> {
        match step.known_model().filter(|model| model.gives_values() != self.gives_values()) {
            None => Ok(()),
            Some(model) => Err(AlignError::Input(format!(
                "the numbers of step {} are those of the {}, which this model is not: it cannot be told where they come from",
                step.step,
                model.name()
            ))),
        }
    }
}
