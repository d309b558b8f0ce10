//! Runs a planned step, has its outputs read, and ends requests. Does not decide who takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zhenjin_model::{HiddenFor, LogitsFor, PAGE_TOKENS, Scoring, SequenceChunk, StepOutputs};

use super::choose::{Choosing, Reading};
use super::drafts::Checked;
use super::memory::publish_full_pages;
use super::rows::is_answering;
use super::sequence::Sequence;
use super::{PlannedChunk, Scheduler};
use crate::panics::without_panic;
use crate::request::EndReason;
use crate::stats::StepReport;
use crate::step_model::StepModel;

impl PlannedChunk {
    fn logits_rows(&self) -> usize {
        match self.logits {
            LogitsFor::None => 0,
            LogitsFor::Last => 1,
            LogitsFor::All => self.rows,
        }
    }

    fn hidden_rows(&self) -> usize {
        match self.prompt.hidden {
            HiddenFor::None => 0,
            HiddenFor::Last => 1,
            HiddenFor::All => self.rows,
        }
    }

    /// Positions of the tokens that are scored.
    pub(super) fn scored(&self) -> Range<usize> {
        let first = self.start + self.prompt.first_scored_row + 1;
        first..first + self.prompt.scored
    }
}

/// Where the outputs of a chunk are among those of its step.
pub(super) struct ChunkOutputs<'a> {
    pub(super) outputs: StepOutputs<'a>,
    pub(super) logits: Range<usize>,
    pub(super) scores: Range<usize>,
    pub(super) hidden: Range<usize>,
}

impl<'a> ChunkOutputs<'a> {
    /// Those of each chunk.
    ///
    /// # Errors
    /// If the model did not return what was asked of it.
    fn of(plan: &[PlannedChunk], outputs: StepOutputs<'a>) -> Result<Vec<ChunkOutputs<'a>>, String> {
        let (mut logits, mut scores, mut hidden) = (0, 0, 0);
        let next = |next: &mut usize, count: usize| {
            *next += count;
            *next - count..*next
        };
        let chunks = plan
            .iter()
            .map(|chunk| ChunkOutputs {
                outputs,
                logits: next(&mut logits, chunk.logits_rows()),
                scores: next(&mut scores, chunk.prompt.scored),
                hidden: next(&mut hidden, chunk.hidden_rows()),
            })
            .collect();
        for (what, expected, actual) in [
            ("rows of logits", logits, outputs.logits.rows()),
            ("scores", scores, outputs.scores.len()),
            ("hidden states", hidden, outputs.hidden.rows()),
        ] {
            if actual != expected {
                return Err(format!("the model returned {actual} {what} instead of {expected}"));
            }
        }
        Ok(chunks)
    }
}

impl Scheduler {
    /// Computes the planned chunks. If that fails, each is computed alone and without its draft, so that only
    /// the culprit fails: a step is a function of its chunks, so computing it again gives the others what they
    /// would have got.
    pub(super) fn execute(&mut self, plan: &[PlannedChunk]) {
        if plan.is_empty() {
            return;
        }
        let started = Instant::now();
        for chunk in plan {
            if let Some(sequence) = self.running.get_mut(&chunk.id) {
                sequence.start(started);
            }
        }
        let decoding = |chunk: &&PlannedChunk| self.running.get(&chunk.id).is_some_and(is_answering);
        let decode_rows = plan.iter().filter(decoding).count();
        let draft_rows = plan.iter().map(|chunk| chunk.drafted).sum::<usize>();
        let prefill_rows = plan.iter().map(|chunk| chunk.rows).sum::<usize>() - decode_rows - draft_rows;
        let before = self.stats;
        self.choosing = Duration::ZERO;
        let ended = self.step_each_version(plan);
        let duration = started.elapsed();
        self.pace.note(prefill_rows, decode_rows + draft_rows, duration);
        if prefill_rows == 0 {
            self.row_cost.note(decode_rows, draft_rows, duration.as_secs_f64());
        }
        if let Some(draft_model) = &mut self.draft_model {
            draft_model.cost.earn(duration.as_secs_f64());
        }
        self.stats.steps += 1;
        self.stats.batch = plan.len();
        self.stats.prefill_tokens += prefill_rows as u64;
        if let Some(observer) = &self.options.observer {
            observer.step(&StepReport {
                sequences: plan.len(),
                prefill_rows,
                decode_rows,
                draft_rows: (self.stats.drafted_tokens - before.drafted_tokens) as usize,
                accepted_rows: (self.stats.accepted_tokens - before.accepted_tokens) as usize,
                model_draft_rows: (self.stats.model_drafted_tokens - before.model_drafted_tokens) as usize,
                model_accepted_rows: (self.stats.model_accepted_tokens - before.model_accepted_tokens)
                    as usize,
                drafting: self.drafting,
                duration,
                choosing: self.choosing,
            });
        }
        // Last, so that the counts include the step when the receiver sees the answer's end.
        for (id, reason) in ended {
            self.finish(id, Some(reason));
        }
    }

    /// Computes the planned chunks: in one step if all have the same weights, else in one for each version, the oldest
    /// first. Returns the requests that end.
    fn step_each_version(&mut self, plan: &[PlannedChunk]) -> Vec<(u64, EndReason)> {
        let version = |chunk: &PlannedChunk| self.running.get(&chunk.id).map(|s| s.weights.number);
        if plan.windows(2).all(|pair| version(&pair[0]) == version(&pair[1])) {
            return self.step(plan).unwrap_or_else(|failure| self.step_one_by_one(plan, failure));
        }
        let versions: BTreeSet<Option<u64>> = plan.iter().map(version).collect();
        let of_version = |wanted| plan.iter().filter(|chunk| version(chunk) == wanted).copied().collect();
        let parts: Vec<Vec<PlannedChunk>> = versions.into_iter().map(of_version).collect();
        let step = |part: Vec<PlannedChunk>| {
            self.step(&part).unwrap_or_else(|failure| self.step_one_by_one(&part, failure))
        };
        parts.into_iter().flat_map(step).collect()
    }

    fn step_one_by_one(&mut self, plan: &[PlannedChunk], failure: String) -> Vec<(u64, EndReason)> {
        tracing::warn!(requests = plan.len(), "a step failed: {failure}");
        let mut all_ended = Vec::new();
        for chunk in plan {
            let retried = if plan.len() > 1 || chunk.drafted > 0 {
                self.step(&[chunk.without_draft()])
            } else {
                Err(failure.clone())
            };
            match retried {
                Ok(ended) => all_ended.extend(ended),
                Err(failure) => all_ended.push((chunk.id, EndReason::Error(failure))),
            }
        }
        all_ended
    }

    /// One call of the model. Returns the requests that end with it, still running. On an error no request
    /// has moved.
    fn step(&mut self, plan: &[PlannedChunk]) -> Result<Vec<(u64, EndReason)>, String> {
        let Scheduler {
            model,
            draft_model,
            running,
            pool,
            samplers,
            stats,
            options,
            choosing: choosing_time,
            ..
        } = self;
        if let Some(first) = plan.first().and_then(|chunk| running.get(&chunk.id)) {
            use_weights(&mut **model, first)?;
        }
        let mut chunks = Vec::with_capacity(plan.len());
        for chunk in plan {
            let Some(sequence) = running.get(&chunk.id) else {
                return Err(format!("request {} is not running", chunk.id));
            };
            let end = chunk.start + chunk.rows;
            chunks.push(SequenceChunk {
                tokens: match chunk.drafted {
                    0 => &sequence.tokens[chunk.start..end],
                    _ => &sequence.draft_rows,
                },
                start: chunk.start,
                pages: &sequence.pages[..end.div_ceil(PAGE_TOKENS)],
                logits: chunk.logits,
                scores: Scoring {
                    first_row: chunk.prompt.first_scored_row,
                    targets: &sequence.tokens[chunk.scored()],
                    top: sequence.about_prompt.top(),
                },
                hidden: chunk.prompt.hidden,
                adapter: sequence.request.adapter.as_deref(),
            });
        }
        let model = &mut **model;
        let team = model.team().cloned();
        let outputs = without_panic(|| model.step(&chunks))
            .map_err(|panic| format!("the model's step panicked: {panic}"))?
            .map_err(|error| error.to_string())?;
        let outputs = ChunkOutputs::of(plan, outputs)?;
        let choosing = Choosing { simd: options.simd, observer: options.observer.as_deref() };
        let mut sequences: BTreeMap<u64, &mut Sequence> =
            running.iter_mut().map(|(id, sequence)| (*id, sequence)).collect();
        let mut readings = Vec::with_capacity(plan.len());
        for (chunk, outputs) in plan.iter().zip(outputs) {
            let Some(sequence) = sequences.remove(&chunk.id) else { continue };
            readings.push(Reading::new(chunk, outputs, sequence));
        }
        let started = Instant::now();
        let readings = choosing.read(readings, samplers, team.as_deref());
        *choosing_time += started.elapsed();
        let mut ended = Vec::new();
        for reading in readings {
            let Reading { chunk, sequence, ending, generated_before, computed_before, .. } = reading;
            publish_full_pages(pool, sequence);
            stats.decode_tokens += (sequence.completion_tokens() - generated_before) as u64;
            if chunk.drafted > 0 {
                let accepted = sequence.computed - computed_before;
                stats.note_draft(sequence.draft.is_of_model(), chunk.drafted, accepted);
                let checked = Checked { drafted: chunk.drafted, accepted, has_ended: ending.is_some() };
                let of_all = draft_model.as_mut().map(|model| &mut model.acceptance);
                sequence.learn_from_draft(checked, of_all);
            }
            if let Some(reason) = ending {
                ended.push((chunk.id, reason));
            }
        }
        Ok(ended)
    }
}

/// Makes the model compute with the weights of `sequence`.
fn use_weights(model: &mut dyn StepModel, sequence: &Sequence) -> Result<(), String> {
    match (&sequence.weights.model, model.weights()) {
        (Some(wanted), Some(ours)) if !Arc::ptr_eq(wanted, ours) => {
            model.use_weights(wanted).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}
