//! Choosing the next token from a row of logits.
//!
//! One file for each part: [`penalties`] (what was said before), [`mask`] (what a grammar allows), [`blocks`] (one pass over the row),
//! [`truncation`] (top-k, top-p, min-p), [`random`] (the number that decides), [`log_softmax`] (the
//! model's own log-probabilities). The order in which they act:
//!
//! 1. repetition penalty, then presence and frequency penalties, then `logit_bias`;
//! 2. the constraint's mask;
//! 3. temperature 0: the highest logit, the lowest id among equals. Otherwise softmax(logits / temperature),
//!    then
//! 4. `top_k`, then `top_p`, then `min_p`, then one draw by [`random::uniform`]`(seed, position)`.
//!
//! Everything is computed in a fixed order, so that the choice depends on the logits, the settings, the seed and the
//! position only: not on what else runs, nor on how often the request was interrupted.

pub mod blocks;
pub mod log_softmax;
pub mod mask;
pub mod penalties;
pub mod random;
pub mod sampler;
pub mod truncation;

use crate::request::SubmitError;

/// How the next token is chosen. The defaults change nothing: the model's own distribution at temperature 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits before the softmax; 0 is greedy (highest logit, lowest id among equals). From 0 up.
    pub temperature: f32,
    /// Keeps the smallest set of most likely tokens whose probabilities reach this sum. From 0 to 1; 1 keeps
    /// all.
    pub top_p: f32,
    /// Keeps this many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Drops tokens less likely than this fraction of the most likely one. From 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of every token in the prompt or the answer (Keskar et
    /// al. 2019, CTRL, section 4.1). Above 0; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of every token that the answer holds already. From -2 to 2.
    pub presence_penalty: f32,
    /// Subtracted from the logit of every token that the answer holds already, once for each time. From -2 to
    /// 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these token ids. Each from -100 to 100, no id twice.
    pub logit_bias: Vec<(u32, f32)>,
    /// Where the random numbers come from; `None`: a fresh one, which [`crate::Generation::seed`] tells.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// True if earlier tokens change the logits.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Checks every value against its range, for a model of `vocabulary_size` tokens.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] that names the first field out of its range.
    pub fn validate(&self, vocabulary_size: usize) -> Result<(), SubmitError> {
        let in_range = |field: &'static str, value: f32, low: f32, high: f32| {
            if value >= low && value <= high {
                Ok(())
            } else if high == f32::MAX {
                Err(SubmitError::invalid(field, format!("{value} is not a finite number of at least {low}")))
            } else {
                Err(SubmitError::invalid(field, format!("{value} is not between {low} and {high}")))
            }
        };
        in_range("temperature", self.temperature, 0.0, f32::MAX)?;
        in_range("top_p", self.top_p, 0.0, 1.0)?;
        in_range("min_p", self.min_p, 0.0, 1.0)?;
        in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty < f32::INFINITY) {
            let reason = format!("{} is not a finite number above 0", self.repetition_penalty);
            return Err(SubmitError::invalid("repetition_penalty", reason));
        }
        let mut seen = std::collections::BTreeSet::new();
        for &(token, bias) in &self.logit_bias {
            in_range("logit_bias", bias, -100.0, 100.0)?;
            if token as usize >= vocabulary_size {
                let reason = format!("token {token} is outside the vocabulary of {vocabulary_size} tokens");
                return Err(SubmitError::invalid("logit_bias", reason));
            }
            if !seen.insert(token) {
                return Err(SubmitError::invalid("logit_bias", format!("token {token} is given twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_checked() {
        let field = |change: &dyn Fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            match sampling.validate(10) {
                Err(SubmitError::Invalid { field, .. }) => field,
                other => panic!("expected a refusal, got {other:?}"),
            }
        };
        assert!(Sampling::default().validate(10).is_ok());
        for bad in [-0.1, f32::NAN, f32::INFINITY] {
            assert_eq!(field(&|s| s.temperature = bad), "temperature");
            assert_eq!(field(&|s| s.top_p = bad), "top_p");
            assert_eq!(field(&|s| s.min_p = bad), "min_p");
            assert_eq!(field(&|s| s.repetition_penalty = bad), "repetition_penalty");
            assert_eq!(field(&|s| s.presence_penalty = bad - 2.0), "presence_penalty");
            assert_eq!(field(&|s| s.frequency_penalty = bad - 2.0), "frequency_penalty");
        }
        assert_eq!(field(&|s| s.logit_bias = vec![(10, 1.0)]), "logit_bias");
        assert_eq!(field(&|s| s.logit_bias = vec![(1, 101.0)]), "logit_bias");
        assert_eq!(field(&|s| s.logit_bias = vec![(1, 1.0), (1, 2.0)]), "logit_bias");
    }
}
