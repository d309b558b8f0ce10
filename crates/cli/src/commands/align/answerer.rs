//! Sample texts of a run: what the model answers now, by the engine that serves.

use std::sync::Arc;
use zhenjin_align::AlignError;
use zhenjin_align::configuration::RolloutSection;
use zhenjin_align::methods::Answerer;
use zhenjin_align::rollouts::{Job, RolloutOptions, Rollouts};
use zhenjin_align::trainee::Trainee;
use zhenjin_tokenizer::{ControlText, Tokenizer};

/// Tokens of a sample text.
const TOKENS: usize = 96;
const TEMPERATURE: f64 = 0.7;

pub(super) struct Samples {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) options: RolloutOptions,
    pub(super) seed: u64,
}

impl Samples {
    /// How sample texts are sampled.
    pub(super) fn section() -> RolloutSection {
        RolloutSection {
            answers: 1,
            max_tokens: TOKENS,
            temperature: TEMPERATURE,
            top_p: 1.0,
            top_k: 0,
            drop_overlong: false,
        }
    }

    fn text(&self, tokens: &[u32], control: ControlText) -> String {
        self.tokenizer.decode(tokens, control).unwrap_or_default()
    }
}

impl Answerer for Samples {
    fn answers(
        &mut self,
        trainee: &Trainee,
        prompts: &[&[u32]],
    ) -> Result<Vec<(String, String)>, AlignError> {
        let context = trainee.model().config.context_length;
        let fits = |prompt: &&&[u32]| prompt.len() + TOKENS <= context;
        let prompts: Vec<&[u32]> = prompts.iter().filter(fits).copied().collect();
        let job = |(number, prompt): (usize, &&'_ [u32])| (number as u64, prompt.to_vec());
        let prompts: Vec<(u64, Vec<u32>)> = prompts.iter().enumerate().map(job).collect();
        let jobs: Vec<Job<'_>> = prompts
            .iter()
            .map(|(number, prompt)| Job { prompt, seed: self.seed.wrapping_add(*number) })
            .collect();
        // The engine ends with the samples, so that the weights can be changed.
        let mut rollouts = Rollouts::new(self.options.clone());
        let answers = rollouts.write(trainee.model(), trainee.adapter(), &jobs)?;
        let texts = prompts.iter().zip(answers).map(|((_, prompt), answer)| {
            let end = answer.tokens.len() - usize::from(answer.ended);
            (self.text(prompt, ControlText::Show), self.text(&answer.tokens[..end], ControlText::Show))
        });
        Ok(texts.collect())
    }
}
