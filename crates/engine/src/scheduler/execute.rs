//! Runs a planned step and reads its outputs: reports, samples, ends requests. Does not decide who takes part.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use zhenjin_model::{HiddenFor, LogitsFor, PAGE_TOKENS, Scoring, SequenceChunk, StepOutputs};
use zhenjin_tensor::SimdLevel;

use super::memory::publish_full_pages;
use super::rows::is_answering;
use super::sequence::{Sequence, TokenTime};
use super::{PlannedChunk, Scheduler};
use crate::request::{EndReason, Event, TokenReport};
use crate::sampling::log_softmax::{BrokenLogit, LogSoftmax};
use crate::sampling::sampler::{Choice, Sampler};
use crate::stats::{EngineObserver, StepReport};
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
    fn scored(&self) -> Range<usize> {
        let first = self.start + self.prompt.first_scored_row + 1;
        first..first + self.prompt.scored
    }
}

/// Where the outputs of a chunk are among those of its step.
struct ChunkOutputs<'a> {
    outputs: StepOutputs<'a>,
    logits: Range<usize>,
    scores: Range<usize>,
    hidden: Range<usize>,
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
        let ended = self.step_each_version(plan);
        let duration = started.elapsed();
        self.pace.note(prefill_rows, decode_rows + draft_rows, duration);
        if prefill_rows == 0 {
            self.row_cost.note(decode_rows, draft_rows, duration.as_secs_f64());
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
                duration,
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
        let Scheduler { model, running, pool, sampler, stats, options, .. } = self;
        let mut choosing = Choosing { sampler, simd: options.simd, observer: options.observer.as_deref() };
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
        let outputs = without_panic(|| model.step(&chunks))
            .map_err(|panic| format!("the model's step panicked: {panic}"))?
            .map_err(|error| error.to_string())?;
        let mut ended = Vec::new();
        for (chunk, outputs) in plan.iter().zip(ChunkOutputs::of(plan, outputs)?) {
            let Some(sequence) = running.get_mut(&chunk.id) else { continue };
            sequence.computed += chunk.rows - chunk.drafted;
            let (generated_before, computed_before) = (sequence.completion_tokens(), sequence.computed);
            let ending = without_panic(|| read_outputs(sequence, chunk, &outputs, &mut choosing))
                .unwrap_or_else(|panic| {
                    Some(EndReason::Error(format!("choosing a token panicked: {panic}")))
                });
            publish_full_pages(pool, sequence);
            stats.decode_tokens += (sequence.completion_tokens() - generated_before) as u64;
            if chunk.drafted > 0 {
                let accepted = sequence.computed - computed_before;
                sequence.learn_from_draft(chunk.drafted, accepted, ending.is_some());
                stats.drafted_tokens += chunk.drafted as u64;
                stats.accepted_tokens += accepted as u64;
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

/// Turns rows of logits into tokens and reports.
struct Choosing<'a> {
    sampler: &'a mut Sampler,
    simd: SimdLevel,
    observer: Option<&'a dyn EngineObserver>,
}

impl Choosing<'_> {
    /// Log-probabilities of `token` and of the `count` most likely tokens, if a count is given.
    fn report(&self, logits: &[f32], token: u32, count: Option<usize>) -> Result<TokenReport, BrokenLogit> {
        let Some(count) = count else { return Ok(TokenReport { id: token, logprob: None, top: Vec::new() }) };
        let softmax = LogSoftmax::of(self.simd, logits)?;
        let logprob = Some(softmax.log_probability(logits[token as usize]));
        Ok(TokenReport { id: token, logprob, top: softmax.top(logits, count) })
    }
}

/// Takes in what was asked about the prompt and generates the next tokens, as far as the chunk's outputs allow. Returns why
/// the request ends, if it does.
fn read_outputs(
    sequence: &mut Sequence,
    chunk: &PlannedChunk,
    outputs: &ChunkOutputs<'_>,
    choosing: &mut Choosing<'_>,
) -> Option<EndReason> {
    let targets = &sequence.tokens[chunk.scored()];
    let scores = &outputs.outputs.scores[outputs.scores.clone()];
    if let Err(broken) = sequence.about_prompt.add_scores(targets, scores) {
        return Some(EndReason::Error(broken.to_string()));
    }
    let end = chunk.start + chunk.rows;
    sequence.about_prompt.add_hidden(end, outputs.outputs.hidden, outputs.hidden.clone());
    if sequence.computed < sequence.tokens.len() {
        return None;
    }
    if !sequence.prompt_announced {
        sequence.prompt_announced = true;
        let (tokens, pooled) = sequence.about_prompt.take();
        if pooled.iter().flatten().any(|value| !value.is_finite()) {
            let message =
                "the model's hidden states are not finite: the weights or the calculation are broken";
            return Some(EndReason::Error(message.to_owned()));
        }
        sequence.send(Event::Prompt { cached_tokens: sequence.cached_tokens, tokens, pooled });
    }
    if sequence.request.max_tokens == 0 {
        return Some(EndReason::Length);
    }
    let rows: Vec<&[f32]> = outputs.logits.clone().map(|row| outputs.outputs.logits.row(row)).collect();
    let Some(first) = rows.len().checked_sub(1 + chunk.drafted) else {
        return Some(EndReason::Error("the model returned no logits".to_owned()));
    };
    for (row, logits) in rows[first..].iter().enumerate() {
        let (token, ending) = match generate(sequence, logits, choosing) {
            Ok(generated) => generated,
            Err(message) => return Some(EndReason::Error(message)),
        };
        if ending.is_some() {
            return ending;
        }
        if row == chunk.drafted || sequence.draft_rows[row + 1] != token {
            // The rows behind come after a token that was not chosen; the next step writes over their keys
            // and values.
            break;
        }
        // The draft's row was the chosen token's: it need not be computed again.
        sequence.computed += 1;
    }
    None
}

/// Chooses the next token by the logits after the last one. Returns it, and why the request ends with it, if
/// it does.
fn generate(
    sequence: &mut Sequence,
    logits: &[f32],
    choosing: &mut Choosing<'_>,
) -> Result<(u32, Option<EndReason>), String> {
    if let (Some(constraint), Some(mask)) = (&mut sequence.request.constraint, &mut sequence.mask) {
        mask.clear();
        constraint.mask(mask).map_err(|error| format!("the constraint failed: {error}"))?;
    }
    let choice = Choice {
        sampling: &sequence.request.sampling,
        history: sequence.history.as_ref(),
        mask: sequence.mask.as_ref(),
        seed: sequence.seed,
        position: sequence.tokens.len(),
    };
    let token = choosing.sampler.sample(logits, choice).map_err(|error| error.to_string())?;
    let report =
        choosing.report(logits, token, sequence.request.logprobs).map_err(|error| error.to_string())?;
    let is_stop = sequence.request.stop_tokens.contains(&token);
    let (mut is_complete, mut condition_met) = (false, false);
    if !is_stop && let Some(constraint) = &mut sequence.request.constraint {
        constraint.accept(token).map_err(|error| format!("the constraint failed: {error}"))?;
        is_complete = constraint.is_finished();
    }
    if !is_stop && let Some(condition) = &mut sequence.request.stop_condition {
        condition_met = condition.ends_with(token);
    }
    match (sequence.push(token, Instant::now()), choosing.observer) {
        (TokenTime::First(time), Some(observer)) => observer.first_token(time),
        (TokenTime::Next(time), Some(observer)) => observer.next_token(time),
        _ => {}
    }
    sequence.send(Event::Token { report, is_stop });
    let ending = if is_stop {
        Some(EndReason::StopToken(token))
    } else if condition_met {
        Some(EndReason::StopCondition)
    } else if is_complete {
        Some(EndReason::ConstraintFinished)
    } else if sequence.completion_tokens() >= sequence.request.max_tokens {
        Some(EndReason::Length)
    } else {
        None
    };
    Ok((token, ending))
}

/// Runs third-party or numeric code so that a panic becomes its message: one request's failure must not end the
/// engine.
fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(message), _) => (*message).to_owned(),
            (_, Some(message)) => message.clone(),
            _ => "no message".to_owned(),
        }
    })
}
