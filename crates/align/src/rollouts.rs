//! Answers that the policy writes during a run: by the engine that serves, many at once, with the prefix of a prompt's answers shared.

use std::sync::Arc;

use zhenjin_engine::{EndReason, Engine, EngineOptions, Event, Request, Sampling};
use zhenjin_model::{Adapter, Fingerprint, Model, PAGE_TOKENS, Runner, RunnerOptions};
use zhenjin_tensor::{KvDtype, ThreadTeam};

use crate::configuration::RolloutSection;
use crate::error::AlignError;

/// Prompt tokens of one step, over all requests.
pub(crate) const PREFILL_CHUNK: usize = 512;
/// Answers that run at once, at most.
pub(crate) const MOST_AT_ONCE: usize = 256;

/// What the engine writes with.
#[derive(Clone, Debug)]
pub struct RolloutOptions {
    /// How answers are sampled.
    pub section: RolloutSection,
    /// Tokens that end an answer.
    pub stop_tokens: Vec<u32>,
    /// Tokens that the tokenizer has.
    pub usable_vocabulary: usize,
    /// Type of keys and values: f32 gives the log-probabilities that are trained, bit for bit.
    pub kv_dtype: KvDtype,
    /// The threads that compute.
    pub team: Arc<ThreadTeam>,
}

/// An answer to be written.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The prompt.
    pub prompt: &'a [u32],
    /// Seed of its sampling.
    pub seed: u64,
}

/// An answer that was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Its tokens; the stop token included.
    pub tokens: Vec<u32>,
    /// Their log-probabilities at the temperature at which they were drawn, without truncation.
    pub log_probabilities: Vec<f32>,
    /// Whether it ended by a stop token.
    pub ended: bool,
}

/// Writes answers with one model and changing adapters.
pub struct Rollouts {
    options: RolloutOptions,
    /// Tokens of the longest prompt that will come.
    longest_prompt: usize,
    /// The running engine, with the model that it has and the answers that it takes at once.
    running: Option<(Engine, Arc<Model>, usize)>,
    /// The adapter of the latest answers.
    adapter: Option<Fingerprint>,
}

impl std::fmt::Debug for Rollouts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rollouts").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Rollouts {
    /// Starts nothing yet.
    pub fn new(options: RolloutOptions) -> Rollouts {
        Rollouts { options, longest_prompt: 0, running: None, adapter: None }
    }

    /// Most tokens of an answer.
    pub fn max_tokens(&self) -> usize {
        self.options.section.max_tokens
    }

    /// Takes memory for prompts of so many tokens from the first answer on.
    pub fn expect_prompts(&mut self, longest: usize) {
        self.longest_prompt = longest;
    }

    /// Ends the engine and gives the model back, so that its weights can be changed.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Writes an answer for each job, in their order. An answer depends on the weights, the prompt and the seed alone.
    ///
    /// # Errors
    /// [`AlignError::Rollout`] when a prompt leaves no room for an answer, [`AlignError::Answer`] when the engine fails.
    pub fn write(
        &mut self,
        model: &Arc<Model>,
        adapter: Option<&Arc<Adapter>>,
        jobs: &[Job<'_>],
    ) -> Result<Vec<Answer>, AlignError> {
        self.start(model, jobs)?;
        let Some((engine, ..)) = &self.running else { return Ok(Vec::new()) };
        // An adapter that has learnt since does not come back, nor do its keys and values.
        let fingerprint = adapter.map(|adapter| adapter.fingerprint());
        if std::mem::replace(&mut self.adapter, fingerprint) != fingerprint {
            engine.forget_prefixes();
        }
        let section = &self.options.section;
        let mut generations = Vec::with_capacity(jobs.len());
        for job in jobs {
            let sampling = Sampling {
                temperature: section.temperature as f32,
                top_p: section.top_p as f32,
                top_k: section.top_k,
                seed: Some(job.seed),
                ..Sampling::default()
            };
            let mut request = Request::new(job.prompt.to_vec(), section.max_tokens, sampling);
            request.stop_tokens = self.options.stop_tokens.clone();
            request.logprobs = Some(0);
            // Of the most likely tokens there is no other distribution than the model's own.
            if section.temperature > 0.0 {
                request.logprob_temperature = section.temperature as f32;
            }
            request.adapter = adapter.map(Arc::clone);
            generations.push(engine.submit(request)?);
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for mut generation in generations {
            let mut answer = Answer::default();
            while let Some(event) = generation.blocking_next() {
                match event {
                    Event::Token { report, .. } => {
                        answer.tokens.push(report.id);
                        answer.log_probabilities.push(report.logprob.unwrap_or(f32::NAN));
                    }
                    Event::Finished { reason, .. } => match reason {
                        EndReason::StopToken(_) => answer.ended = true,
                        EndReason::Length => {}
                        other => return Err(AlignError::Answer(format!("{other:?}"))),
                    },
                    Event::Prompt { .. } => {}
                }
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Sees to it that an engine with this model runs that has room for all of the jobs.
    fn start(&mut self, model: &Arc<Model>, jobs: &[Job<'_>]) -> Result<(), AlignError> {
        let longest = jobs.iter().map(|job| job.prompt.len()).max().unwrap_or(0).max(self.longest_prompt);
        let at_once = jobs.len().clamp(1, MOST_AT_ONCE);
        let context = model.config.context_length;
        let positions = (longest + self.options.section.max_tokens).min(context);
        // One page more for each, as a shared prefix ends within a page.
        let pages = (positions.div_ceil(PAGE_TOKENS) + 1) * at_once;
        let fits = self
            .running
            .as_ref()
            .is_some_and(|(_, running, room)| Arc::ptr_eq(running, model) && *room >= pages);
        if fits {
            return Ok(());
        }
        self.running = None;
        let runner = Runner::new(
            Arc::clone(model),
            RunnerOptions {
                pages,
                kv_dtype: self.options.kv_dtype,
                max_rows: 2 * at_once.max(PREFILL_CHUNK),
                max_logits_rows: at_once,
                context_length: None,
                usable_vocabulary: Some(self.options.usable_vocabulary),
                simd: model.simd,
                team: Arc::clone(&self.options.team),
            },
        )?;
        let options = EngineOptions {
            max_batch: at_once,
            prefill_chunk: PREFILL_CHUNK,
            // Nobody waits for a single token: whole prompts are computed at once.
            step_time: std::time::Duration::from_secs(60),
            queue_limit: usize::MAX / 2,
            simd: model.simd,
            ..EngineOptions::default()
        };
        let engine = Engine::start(Box::new(runner), options)?;
        self.running = Some((engine, Arc::clone(model), pages));
        Ok(())
    }
}
