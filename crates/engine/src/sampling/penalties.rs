//! Penalties for tokens that came before, and the bias that a request adds.

use std::collections::BTreeMap;

use super::Sampling;

/// Which tokens a sequence holds: all of them for the repetition penalty, those of the answer with their
/// counts for the others. Kept up to date token by token, so that a long sequence costs no more than a short
/// one.
#[derive(Clone, Debug, Default)]
pub struct TokenHistory {
    /// token → how often the answer (not the prompt) holds it.
    answered: BTreeMap<u32, u32>,
}

impl TokenHistory {
    /// After a prompt, before the answer's first token.
    pub fn of_prompt(prompt: &[u32]) -> TokenHistory {
        TokenHistory { answered: prompt.iter().map(|&token| (token, 0)).collect() }
    }

    /// Takes note of the answer's next token.
    pub fn push(&mut self, token: u32) {
        *self.answered.entry(token).or_insert(0) += 1;
    }

    /// Applies the penalties of `sampling` to `logits` [vocabulary].
    pub fn penalise(&self, sampling: &Sampling, logits: &mut [f32]) {
        for (&token, &count) in &self.answered {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            let penalised = match *logit > 0.0 {
                true => *logit / sampling.repetition_penalty,
                false => *logit * sampling.repetition_penalty,
            };
            // +∞ says that the model is broken and −∞ that it excludes a token: no penalty says either of them.
            *logit = match logit.is_finite() {
                true => penalised.clamp(f32::MIN, f32::MAX),
                false => penalised,
            };
            if count > 0 {
                *logit -= sampling.presence_penalty + sampling.frequency_penalty * count as f32;
            }
        }
    }
}

/// Adds the request's bias to `logits` [vocabulary].
pub fn add_bias(bias: &[(u32, f32)], logits: &mut [f32]) {
    for &(token, value) in bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_penalty_does_what_its_name_says() {
        let mut history = TokenHistory::of_prompt(&[0, 1]);
        history.push(1);
        history.push(2);
        history.push(2);
        let sampling = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        let mut logits = vec![4.0, -4.0, 4.0, 4.0];
        history.penalise(&sampling, &mut logits);
        assert_eq!(logits, [2.0, -8.75, 1.0, 4.0]);
        add_bias(&[(3, -3.0), (9, 1.0)], &mut logits);
        assert_eq!(logits[3], 1.0);
    }

    /// 5 / 1e-38 became infinite, and the request failed as if the model's weights were broken.
    #[test]
    fn no_repetition_penalty_makes_a_logit_infinite() {
        for (repetition_penalty, expected) in [
            (1e-38, [f32::MAX, -5.0 * 1e-38, f32::NEG_INFINITY, 5.0]),
            (3e38, [5.0 / 3e38, f32::MIN, f32::NEG_INFINITY, 5.0]),
        ] {
            let sampling = Sampling { repetition_penalty, presence_penalty: 2.0, ..Sampling::default() };
            assert!(sampling.validate(4).is_ok());
            let mut logits = [5.0, -5.0, f32::NEG_INFINITY, 5.0];
            TokenHistory::of_prompt(&[0, 1, 2]).penalise(&sampling, &mut logits);
            assert_eq!(logits.map(f32::to_bits), expected.map(f32::to_bits), "{logits:?}");
            let mut history = TokenHistory::default();
            (0..3).for_each(|token| history.push(token));
            history.penalise(&sampling, &mut logits);
            assert!(logits[..2].iter().all(|logit| logit.is_finite()), "{logits:?}");
        }
    }
}
