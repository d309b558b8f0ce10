//! The engine's counters, and the observer that is told of events.

use std::time::Duration;

use crate::request::{EndReason, Timings, Usage};

/// A snapshot of the engine, as of the end of its latest step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Requests accepted and not running: new ones, and preempted ones.
    pub waiting: usize,
    /// Requests that hold pages and take part in steps.
    pub running: usize,
    /// Requests in the latest step.
    pub batch: usize,
    /// Pages of keys and values.
    pub pages_total: usize,
    /// Pages that requests hold.
    pub pages_used: usize,
    /// Pages whose content a later prompt can reuse, held or not.
    pub pages_cached: usize,
    /// Steps so far.
    pub steps: u64,
    /// Prompt tokens computed so far (again after a preemption).
    pub prefill_tokens: u64,
    /// Tokens generated so far.
    pub decode_tokens: u64,
    /// Tokens guessed and checked so far.
    pub drafted_tokens: u64,
    /// Of these, right ones: each saved a step.
    pub accepted_tokens: u64,
    /// Of the tokens guessed and checked, those that the draft model guessed.
    pub model_drafted_tokens: u64,
    /// Of these, right ones.
    pub model_accepted_tokens: u64,
    /// Pages of the draft model's keys and values; 0 without one.
    pub draft_pages_total: usize,
    /// Of these, pages that it holds for running requests.
    pub draft_pages_used: usize,
    /// Prompt tokens found in the cache instead of computed so far.
    pub prefix_hit_tokens: u64,
    /// How often a request had to give its pages to an older one.
    pub preemptions: u64,
    /// Requests that ended so far, for whatever reason.
    pub finished: u64,
    /// Requests whose receiver was dropped so far; counted in `finished` as well.
    pub cancelled: u64,
    /// Requests that failed so far; counted in `finished` as well.
    pub failed: u64,
}

impl EngineStats {
    /// So many tokens were guessed, by the draft model or not, and checked.
    pub(crate) fn note_draft(&mut self, by_model: bool, drafted: usize, accepted: usize) {
        self.drafted_tokens += drafted as u64;
        self.accepted_tokens += accepted as u64;
        if by_model {
            self.model_drafted_tokens += drafted as u64;
            self.model_accepted_tokens += accepted as u64;
        }
    }
}

/// One step of the model.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Requests in it.
    pub sequences: usize,
    /// Rows of prompts.
    pub prefill_rows: usize,
    /// Rows of answers, drafts not counted.
    pub decode_rows: usize,
    /// Rows of drafts: tokens guessed and checked.
    pub draft_rows: usize,
    /// Of these, right ones.
    pub accepted_rows: usize,
    /// Of the rows of drafts, those that the draft model guessed.
    pub model_draft_rows: usize,
    /// Of these, right ones.
    pub model_accepted_rows: usize,
    /// How long the draft model guessed before the step.
    pub drafting: Duration,
    /// From the end of planning to the last choice.
    pub duration: Duration,
    /// Of it, reading the model's outputs: masks, sampling, reports.
    pub choosing: Duration,
}

/// Told by the engine's threads what happens, as it happens; by several at once. Must return quickly.
pub trait EngineObserver: Send + Sync {
    /// A step is done.
    fn step(&self, _report: &StepReport) {}
    /// A request has its first token, this long after its submission.
    fn first_token(&self, _since_submission: Duration) {}
    /// A request has a further token, this long after the one before.
    fn next_token(&self, _since_last_token: Duration) {}
    /// A request has ended. `reason` is `None` if its receiver was dropped.
    fn finished(&self, _reason: Option<&EndReason>, _usage: &Usage, _timings: &Timings) {}
}
