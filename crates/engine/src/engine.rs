//! The handle of a running engine: starts its thread, checks and submits requests, shuts it down.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use zhenjin_model::{Model, PAGE_TOKENS};

use zhenjin_tensor::SimdLevel;

use crate::generation::Generation;
use crate::inbox::{Entrant, Inbox, Phase};
use crate::options::EngineOptions;
use crate::request::{Request, SubmitError};
use crate::sampling::random;
use crate::scheduler::Scheduler;
use crate::stats::EngineStats;
use crate::step_model::StepModel;
use crate::weights::WeightsVersion;

/// Why an engine's weights were not replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// The engine's model has no weights that could be replaced.
    #[error("the weights of this engine's model cannot be replaced")]
    Fixed,
    /// The new weights are those of another kind of model.
    #[error(
        "the new weights have another configuration than the engine's; load them as a model of their own"
    )]
    OtherConfiguration,
    /// The new weights are packed for other instructions.
    #[error(
        "the new weights are packed for {theirs}, but the engine computes with {ours}; load them for {ours}"
    )]
    OtherInstructions {
        /// What the engine's weights are packed for.
        ours: SimdLevel,
        /// What the new ones are packed for.
        theirs: SimdLevel,
    },
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model's steps have too few rows for so many requests.
    #[error(
        "{max_batch} requests cannot run at once: this model's steps have {rows} rows, half of which are left for prompts, and \
         logits for {logits_rows} of them, so 1 to {most} can"
    )]
    MaxBatch {
        /// Requests that were to run at once.
        max_batch: usize,
        /// Rows of a step.
        rows: usize,
        /// Rows of a step with logits.
        logits_rows: usize,
        /// The most requests that can run at once.
        most: usize,
    },
    /// The operating system starts no thread.
    #[error("the engine's thread did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// One model, shared by many requests. Dropping it ends them.
pub struct Engine {
    inbox: Arc<Inbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
    usable_vocabulary: usize,
    context_length: usize,
    page_count: usize,
    max_batch: usize,
}

impl Engine {
    /// Starts the thread that owns `model`.
    ///
    /// # Errors
    /// [`StartError::MaxBatch`] if [`EngineOptions::max_batch`] is 0 or more than the model's steps have rows for, and
    /// [`StartError::Thread`].
    pub fn start(model: Box<dyn StepModel>, options: EngineOptions) -> Result<Engine, StartError> {
        Engine::start_with_draft_model(model, None, options)
    }

    /// The same with a second model that guesses how answers go on, where that pays: with a smaller and so faster one that is often right, answers
    /// come sooner and stay the same. A token id has to mean the same in both. The draft model gets no adapters, and its weights are not replaced.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_with_draft_model(
        model: Box<dyn StepModel>,
        draft_model: Option<Box<dyn StepModel>>,
        options: EngineOptions,
    ) -> Result<Engine, StartError> {
        let max_batch = options.max_batch;
        // Answers take one row each; half of the rows at least are left for prompts.
        let (rows, logits_rows) = (model.max_rows(), model.max_logits_rows());
        let most = (rows / 2).min(logits_rows);
        if !(1..=most).contains(&max_batch) {
            return Err(StartError::MaxBatch { max_batch, rows, logits_rows, most });
        }
        let usable_vocabulary = model.usable_vocabulary();
        let (context_length, page_count) = (model.context_length(), model.page_count());
        let stats = EngineStats { pages_total: page_count, ..EngineStats::default() };
        let weights = WeightsVersion::first(model.weights().cloned());
        let inbox = Inbox::new(max_batch, options.queue_limit, stats, weights);
        let scheduler = Scheduler::new(model, draft_model, options, usable_vocabulary, Arc::clone(&inbox));
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || scheduler.run())?;
        Ok(Engine {
            inbox,
            thread: Mutex::new(Some(thread)),
            usable_vocabulary,
            context_length,
            page_count,
            max_batch,
        })
    }

    /// Checks `request` and hands it to the scheduler.
    ///
    /// # Errors
    /// [`SubmitError`] that says what is wrong, or how long to wait.
    pub fn submit(&self, request: Request) -> Result<Generation, SubmitError> {
        self.check(&request)?;
        let seed = request.sampling.seed.unwrap_or_else(random::fresh_seed);
        let (events, receiver) = unbounded_channel();
        let weights = self.inbox.submit(vec![Entrant { request, seed, events }])?;
        Ok(Generation::new(receiver, seed, weights.fingerprint()))
    }

    /// Checks `requests` and hands them to the scheduler: all of them, or none.
    ///
    /// # Errors
    /// As [`Engine::submit`]; [`SubmitError::Invalid`] with the field `n` where there are more than the engine ever takes at once.
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<Vec<Generation>, SubmitError> {
        requests.iter().try_for_each(|request| self.check(request))?;
        let mut entrants = Vec::with_capacity(requests.len());
        let mut receivers = Vec::with_capacity(requests.len());
        for request in requests {
            let seed = request.sampling.seed.unwrap_or_else(random::fresh_seed);
            let (events, receiver) = unbounded_channel();
            entrants.push(Entrant { request, seed, events });
            receivers.push((receiver, seed));
        }
        let fingerprint = self.inbox.submit(entrants)?.fingerprint();
        let generation = |(receiver, seed)| Generation::new(receiver, seed, fingerprint);
        Ok(receivers.into_iter().map(generation).collect())
    }

    /// When a place should be free once all are taken, estimated from how long the latest requests took; `None` before the first has ended.
    pub fn expected_wait(&self) -> Option<Duration> {
        self.inbox.expected_wait()
    }

    /// Computes requests that are submitted from now on with `weights`, between two steps. Requests that were submitted
    /// before keep the weights that they have, which stay in memory until the last of them has ended. Keys and values that
    /// other weights computed are not used.
    ///
    /// # Errors
    /// [`ReplaceError`]; then nothing changes.
    pub fn replace_weights(&self, weights: Arc<Model>) -> Result<(), ReplaceError> {
        let current = self.inbox.weights().model.ok_or(ReplaceError::Fixed)?;
        if current.config != weights.config {
            return Err(ReplaceError::OtherConfiguration);
        }
        if current.simd != weights.simd {
            return Err(ReplaceError::OtherInstructions { ours: current.simd, theirs: weights.simd });
        }
        self.inbox.replace_weights(weights);
        Ok(())
    }

    /// Forgets keys and values that no request uses, before requests that are submitted from now on. Pages that were used once are used again
    /// before others then, which take memory only from when they are used: for those whose adapters will not come back.
    pub fn forget_prefixes(&self) {
        self.inbox.forget_prefixes();
    }

    /// The weights of requests that are submitted now; `None` for a model whose weights cannot be replaced.
    pub fn weights(&self) -> Option<Arc<Model>> {
        self.inbox.weights().model
    }

    /// Refuses what [`Engine::submit`] would refuse, however many places are free.
    ///
    /// # Errors
    /// [`SubmitError`] that says what is wrong.
    pub fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(SubmitError::invalid("prompt", "it has no tokens"));
        }
        let outside = |token: &&u32| **token as usize >= self.usable_vocabulary;
        if let Some(token) = request.prompt.iter().find(outside) {
            return Err(SubmitError::invalid("prompt", self.outside_vocabulary(*token)));
        }
        if let Some(token) = request.stop_tokens.iter().find(outside) {
            return Err(SubmitError::invalid("stop_token_ids", self.outside_vocabulary(*token)));
        }
        let asks_about_the_prompt = request.prompt_logprobs.is_some() || request.pooling.is_some();
        if request.max_tokens == 0 && !asks_about_the_prompt {
            return Err(SubmitError::invalid(
                "max_tokens",
                "0 tokens can be asked for only with the prompt's log-probabilities or its pooled hidden state",
            ));
        }
        let prompt_top = request.prompt_logprobs.map(|asked| asked.top);
        for (field, count) in [("logprobs", request.logprobs), ("prompt_logprobs", prompt_top)] {
            if let Some(count) = count.filter(|count| *count > self.usable_vocabulary) {
                let reason = format!(
                    "{count} alternatives are more than the {} tokens of the vocabulary",
                    self.usable_vocabulary
                );
                return Err(SubmitError::invalid(field, reason));
            }
        }
        let temperature = request.logprob_temperature;
        if !(temperature.is_normal() && temperature > 0.0 && temperature.recip().is_normal()) {
            let reason = format!("{temperature} is no temperature: it must be greater than 0");
            return Err(SubmitError::invalid("logprob_temperature", reason));
        }
        request.sampling.validate(self.usable_vocabulary)?;
        let (max_tokens, context, capacity) =
            (request.max_tokens, self.context_length, self.capacity_tokens());
        let needed = prompt.saturating_add(max_tokens);
        if needed > context {
            return Err(SubmitError::ContextExceeded { prompt, max_tokens, context });
        }
        if needed > capacity {
            return Err(SubmitError::MemoryExceeded { prompt, max_tokens, capacity });
        }
        Ok(())
    }

    fn outside_vocabulary(&self, token: u32) -> String {
        format!("token {token} is outside the vocabulary of {} tokens", self.usable_vocabulary)
    }

    /// The most tokens of one sequence.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// How many tokens' keys and values fit into memory, over all requests; a single request cannot be
    /// longer.
    pub fn capacity_tokens(&self) -> usize {
        self.page_count.saturating_mul(PAGE_TOKENS)
    }

    /// The most requests that run at once.
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }

    /// The ids that can be generated are `0..usable_vocabulary()`.
    pub fn usable_vocabulary(&self) -> usize {
        self.usable_vocabulary
    }

    /// What the engine counted, as of its latest step.
    pub fn stats(&self) -> EngineStats {
        self.inbox.stats()
    }

    /// Takes no more requests, lets those inside finish for at most `grace`, ends the rest with
    /// [`crate::EndReason::ShutDown`], and waits for the thread to end.
    pub fn shutdown(&self, grace: Duration) {
        self.inbox.advance_to(Phase::Draining);
        self.inbox.wait_until_empty(grace);
        self.inbox.advance_to(Phase::Stopping);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread ended by a panic");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("context_length", &self.context_length)
            .field("page_count", &self.page_count)
            .field("max_batch", &self.max_batch)
            .finish_non_exhaustive()
    }
}
