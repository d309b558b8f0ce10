//! Sample texts of a model that is being trained, by the engine that serves: the same weights, the same forward pass.

use super::{Inputs, PretrainArguments};
use anyhow::{Result, bail};
use std::sync::Arc;
use zhenjin_engine::{EndReason, Engine, EngineOptions, Event, Request, Sampling};
use zhenjin_model::{Model, Runner, RunnerOptions};
use zhenjin_tensor::{KvDtype, PAGE_TOKENS, ThreadTeam};
use zhenjin_tokenizer::{ControlText, Specials, Tokenizer};
use zhenjin_train::configuration::Configuration;
use zhenjin_train::metrics::SampleText;
use zhenjin_train::training::Sampler;

/// Prompts that are taken from the data, and their tokens.
const PROMPTS: usize = 3;
const PROMPT_TOKENS: usize = 6;
/// Tokens of a sample text where nobody says and they fit.
const SAMPLE_TOKENS: usize = 48;
/// Sequences that are looked through for prompts that differ.
const LOOKED_THROUGH: u64 = 64;
const TEMPERATURE: f32 = 0.8;

pub(super) struct EngineSampler<'a> {
    tokenizer: &'a Tokenizer,
    team: Arc<ThreadTeam>,
    prompts: Vec<Vec<u32>>,
    end_of_text: u32,
    tokens: usize,
    usable_vocabulary: usize,
    seed: u64,
}

impl<'a> EngineSampler<'a> {
    pub(super) fn new(
        arguments: &PretrainArguments,
        inputs: &Inputs<'_>,
        tokenizer: &'a Tokenizer,
        configuration: &Configuration,
    ) -> Result<EngineSampler<'a>> {
        let longest = configuration.data.sequence_length.saturating_sub(1).max(1);
        let mut prompts = Vec::new();
        for text in &arguments.sample_prompt {
            let prompt = tokenizer.encode(text, Specials::Parse)?;
            if prompt.is_empty() || prompt.len() > longest {
                bail!(
                    "--sample-prompt `{text}` has {} tokens; the run's sequences have room for 1 to {longest}",
                    prompt.len()
                );
            }
            prompts.push(prompt);
        }
        if prompts.is_empty() {
            let loader = inputs.loader(configuration)?;
            for index in 0..LOOKED_THROUGH.min(loader.sequences_per_epoch()) {
                if prompts.len() == PROMPTS {
                    break;
                }
                let sequence = loader.sequence(index)?;
                // A later document than the first one begins with its own beginning.
                let first = sequence.document_lengths.first().copied().unwrap_or(0);
                let start = if sequence.document_lengths.len() > 1 { first } else { 0 };
                let prompt: Vec<u32> = sequence.tokens[start..].iter().take(PROMPT_TOKENS).copied().collect();
                if !prompts.contains(&prompt) {
                    prompts.push(prompt);
                }
            }
        }
        prompts.iter_mut().for_each(|prompt| prompt.truncate(longest));
        prompts.retain(|prompt| !prompt.is_empty());
        let longest_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let room = configuration.data.sequence_length.saturating_sub(longest_prompt);
        let tokens = match arguments.sample_tokens {
            None => SAMPLE_TOKENS.min(room),
            Some(tokens) if (1..=room).contains(&tokens) => tokens,
            Some(tokens) => bail!(
                "--sample-tokens {tokens} is not possible: after a prompt of {longest_prompt} tokens the run's sequences have room \
                 for 1 to {room}"
            ),
        };
        Ok(EngineSampler {
            tokenizer,
            team: Arc::clone(&inputs.load.team),
            prompts,
            end_of_text: inputs.set.end_of_text(),
            tokens,
            usable_vocabulary: inputs.set.vocabulary_size() as usize,
            seed: configuration.seed,
        })
    }

    fn engine(&self, model: &Arc<Model>) -> Result<Engine> {
        let options = EngineOptions { simd: model.simd, ..EngineOptions::default() };
        let pages = model.config.context_length.div_ceil(PAGE_TOKENS) * self.prompts.len().max(1);
        let runner = Runner::new(
            Arc::clone(model),
            RunnerOptions {
                pages,
                kv_dtype: KvDtype::F32,
                max_rows: 2 * options.max_batch.max(options.prefill_chunk),
                max_logits_rows: options.max_batch,
                context_length: None,
                usable_vocabulary: Some(self.usable_vocabulary),
                simd: model.simd,
                team: Arc::clone(&self.team),
            },
        )?;
        Ok(Engine::start(Box::new(runner), options)?)
    }

    fn texts(&self, model: &Arc<Model>, step: u64) -> Result<Vec<SampleText>> {
        let engine = self.engine(model)?;
        let mut samples = Vec::new();
        for (number, prompt) in self.prompts.iter().enumerate() {
            // Prompts that begin alike shall not go on alike.
            let seed = Some(self.seed.wrapping_add(number as u64));
            let sampling = Sampling { temperature: TEMPERATURE, seed, ..Sampling::default() };
            let mut request = Request::new(prompt.clone(), self.tokens, sampling);
            request.stop_tokens = vec![self.end_of_text];
            let mut generation = engine.submit(request)?;
            let mut tokens = Vec::new();
            while let Some(event) = generation.blocking_next() {
                match event {
                    Event::Token { report, is_stop: false } => tokens.push(report.id),
                    Event::Finished { reason: EndReason::Error(reason), .. } => anyhow::bail!("{reason}"),
                    _ => {}
                }
            }
            let decode = |ids: &[u32]| self.tokenizer.decode(ids, ControlText::Show);
            samples.push(SampleText { step, prompt: decode(prompt)?, text: decode(&tokens)? });
        }
        Ok(samples)
    }
}

impl Sampler for EngineSampler<'_> {
    fn samples(&mut self, model: &Arc<Model>, step: u64) -> Result<Vec<SampleText>, String> {
        self.texts(model, step).map_err(|error| format!("{error:#}"))
    }
}
