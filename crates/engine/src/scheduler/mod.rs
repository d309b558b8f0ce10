//! The engine's thread: takes requests, plans a step, computes it, hands out tokens, and again.
//!
//! [`rows`] decides how many rows each request gets, [`drafts`] which answers get drafts, [`model_drafts`] on which ones the draft model guesses, [`memory`] which get pages, [`execute`] runs the step,
//! [`choose`] reads its logits, [`about_prompt`] collects what a request asks about its prompt. Requests are ordered by age (their id) everywhere, so that the schedule is a function of arrivals
//! and measured time, and answers of neither.

mod about_prompt;
mod choose;
mod drafts;
mod execute;
mod memory;
mod model_drafts;
mod rows;
mod sequence;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use zhenjin_model::LogitsFor;

use crate::draft_model::DraftModel;
use crate::inbox::{Inbox, Phase, Taken};
use crate::kv::page_pool::PagePool;
use crate::options::EngineOptions;
use crate::request::{EndReason, Event};
use crate::sampling::sampler::Sampler;
use crate::speculation::row_cost::RowCost;
use crate::stats::EngineStats;
use crate::step_model::StepModel;
use crate::weights::WeightsVersion;
use about_prompt::PromptRowsWanted;
use rows::{Pace, StepLimits};
use sequence::Sequence;

/// A part of a request that the next step computes; its pages are there.
#[derive(Clone, Copy, Debug)]
struct PlannedChunk {
    id: u64,
    start: usize,
    rows: usize,
    /// The last of the rows that are guesses.
    drafted: usize,
    logits: LogitsFor,
    /// What is wanted about the prompt.
    prompt: PromptRowsWanted,
}

/// Everything that the engine's thread owns.
pub(crate) struct Scheduler {
    model: Box<dyn StepModel>,
    /// Guesses how answers go on; `None` for an engine without one.
    draft_model: Option<DraftModel>,
    options: EngineOptions,
    usable_vocabulary: usize,
    inbox: Arc<Inbox>,
    pool: PagePool,
    /// By age. A request is in one of the two from its arrival to its end.
    waiting: BTreeMap<u64, Sequence>,
    running: BTreeMap<u64, Sequence>,
    /// One for each thread that reads outputs.
    samplers: Vec<Mutex<Sampler>>,
    pace: Pace,
    row_cost: RowCost,
    stats: EngineStats,
    /// How long reading the outputs of the latest step took.
    choosing: Duration,
    /// How long the draft model guessed for the latest step.
    drafting: Duration,
    /// The weights of new requests.
    weights: WeightsVersion,
}

/// Ends all requests when the thread ends, also by a panic, so that no receiver waits for ever.
struct CloseAtEnd(Arc<Inbox>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Scheduler {
    pub(crate) fn new(
        model: Box<dyn StepModel>,
        draft_model: Option<Box<dyn StepModel>>,
        options: EngineOptions,
        usable_vocabulary: usize,
        inbox: Arc<Inbox>,
    ) -> Scheduler {
        let draft_model = draft_model.map(|model| DraftModel::new(model, usable_vocabulary, options.simd));
        let weights = inbox.weights();
        let pool = PagePool::new(model.page_count());
        let threads = model.team().map_or(1, |team| team.threads());
        let samplers = (0..threads).map(|_| Mutex::new(Sampler::new(options.simd))).collect();
        Scheduler {
            model,
            draft_model,
            options,
            usable_vocabulary,
            inbox,
            pool,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            samplers,
            pace: Pace::default(),
            row_cost: RowCost::default(),
            stats: EngineStats::default(),
            choosing: Duration::ZERO,
            drafting: Duration::ZERO,
            weights,
        }
    }

    /// Runs until the engine shuts down.
    pub(crate) fn run(mut self) {
        let _close_at_end = CloseAtEnd(Arc::clone(&self.inbox));
        loop {
            let is_idle = self.waiting.is_empty() && self.running.is_empty();
            let Taken { arrivals, phase, weights, forgets } = self.inbox.take(is_idle, self.weights.number);
            self.weights = weights;
            if forgets {
                self.pool.forget_unheld();
            }
            for submission in arrivals {
                self.waiting.insert(submission.id, Sequence::new(submission, self.usable_vocabulary));
            }
            if phase == Phase::Stopping {
                for id in self.all_ids() {
                    self.finish(id, Some(EndReason::ShutDown));
                }
                return;
            }
            self.drop_cancelled();
            self.let_go_of_old_weights();
            self.admit();
            let plan = self.plan();
            self.execute(&plan);
            self.publish_stats();
        }
    }

    fn all_ids(&self) -> Vec<u64> {
        self.running.keys().chain(self.waiting.keys()).copied().collect()
    }

    /// While nothing runs, the model must not keep weights that were replaced in memory. Otherwise the next step of
    /// a request with other weights makes it change them.
    fn let_go_of_old_weights(&mut self) {
        if !self.running.is_empty() || !self.waiting.is_empty() {
            return;
        }
        if let Some(weights) = &self.weights.model
            && self.model.weights().is_some_and(|ours| !Arc::ptr_eq(ours, weights))
            && let Err(error) = self.model.use_weights(weights)
        {
            tracing::error!("the new weights cannot be used: {error}");
        }
    }

    fn drop_cancelled(&mut self) {
        let all = self.running.values().chain(self.waiting.values());
        let cancelled: Vec<u64> =
            all.filter(|sequence| sequence.is_cancelled()).map(|sequence| sequence.id).collect();
        for id in cancelled {
            self.finish(id, None);
        }
    }

    fn plan(&mut self) -> Vec<PlannedChunk> {
        for sequence in self.running.values_mut() {
            self.stats.prefix_hit_tokens += memory::adopt_cached_pages(&mut self.pool, sequence) as u64;
        }
        let decode_rows = self.running.values().filter(|sequence| rows::is_answering(sequence)).count();
        let most = self.options.prefill_chunk.min(self.model.max_rows().saturating_sub(decode_rows)).max(1);
        let limits =
            StepLimits { prefill_rows: self.pace.prefill_rows(decode_rows, self.options.step_time, most) };
        let rows = rows::choose_rows(&self.running, limits);
        self.drafting = Duration::ZERO;
        self.choose_drafts(&rows);
        let mut plan = self.secure_pages(rows);
        // Neighbours with the same adapter are computed together.
        plan.sort_by_key(|chunk| {
            let adapter = self.running.get(&chunk.id).and_then(|sequence| sequence.request.adapter.as_ref());
            adapter.map(|adapter| adapter.fingerprint())
        });
        plan
    }

    /// Ends a request: its pages are free before its last event is sent. `None`: the receiver was dropped.
    fn finish(&mut self, id: u64, reason: Option<EndReason>) {
        let Some(mut sequence) = self.running.remove(&id).or_else(|| self.waiting.remove(&id)) else {
            return;
        };
        memory::release_pages(&mut self.pool, &mut sequence);
        if let Some(draft_model) = &mut self.draft_model {
            draft_model.forget(id);
        }
        let (usage, timings) = (sequence.usage(), sequence.timings(Instant::now()));
        self.stats.finished += 1;
        self.stats.cancelled += u64::from(reason.is_none());
        if let Some(EndReason::Error(message)) = &reason {
            self.stats.failed += 1;
            tracing::error!(request = id, "request failed: {message}");
        }
        if let Some(observer) = &self.options.observer {
            observer.finished(reason.as_ref(), &usage, &timings);
        }
        self.publish_stats();
        self.inbox.ended(timings.total);
        if let Some(reason) = reason {
            sequence.send(Event::Finished { reason, usage, timings });
        }
    }

    fn publish_stats(&mut self) {
        self.stats.waiting = self.waiting.len();
        self.stats.running = self.running.len();
        self.stats.pages_total = self.pool.total();
        self.stats.pages_used = self.pool.held();
        self.stats.pages_cached = self.pool.cached();
        if let Some(draft_model) = &self.draft_model {
            (self.stats.draft_pages_total, self.stats.draft_pages_used) = draft_model.pages();
        }
        self.inbox.publish(self.stats);
    }
}
