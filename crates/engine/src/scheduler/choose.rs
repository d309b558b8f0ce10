//! Reads the outputs of a step: what was asked about prompts, the next tokens, reports. The requests of a step do not know each other, so
//! the thread team shares them: who reads which reaches no result.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use zhenjin_tensor::{SimdLevel, ThreadTeam};

use super::PlannedChunk;
use super::execute::ChunkOutputs;
use super::sequence::{Sequence, TokenTime};
use crate::panics::without_panic;
use crate::request::{EndReason, Event, Request, TokenReport};
use crate::sampling::log_softmax::{BrokenLogit, LogSoftmax};
use crate::sampling::sampler::{Choice, Sampler};
use crate::stats::EngineObserver;

/// The outputs of one chunk and the request that they are for.
pub(super) struct Reading<'a> {
    pub(super) chunk: &'a PlannedChunk,
    outputs: ChunkOutputs<'a>,
    pub(super) sequence: &'a mut Sequence,
    /// Tokens of the answer before the step.
    pub(super) generated_before: usize,
    /// Computed tokens, those of the draft left out.
    pub(super) computed_before: usize,
    /// Why the request ends with this step, if it does.
    pub(super) ending: Option<EndReason>,
}

impl<'a> Reading<'a> {
    /// Nothing is read yet; the chunk's rows count as computed.
    pub(super) fn new(
        chunk: &'a PlannedChunk,
        outputs: ChunkOutputs<'a>,
        sequence: &'a mut Sequence,
    ) -> Self {
        sequence.computed += chunk.rows - chunk.drafted;
        Reading {
            chunk,
            outputs,
            generated_before: sequence.completion_tokens(),
            computed_before: sequence.computed,
            sequence,
            ending: None,
        }
    }
}

/// Turns rows of logits into tokens and reports.
#[derive(Clone, Copy)]
pub(super) struct Choosing<'a> {
    pub(super) simd: SimdLevel,
    pub(super) observer: Option<&'a dyn EngineObserver>,
}

impl Choosing<'_> {
    /// Reads all outputs, with one of `samplers` on each thread of `team`.
    pub(super) fn read<'a>(
        &self,
        readings: Vec<Reading<'a>>,
        samplers: &[Mutex<Sampler>],
        team: Option<&ThreadTeam>,
    ) -> Vec<Reading<'a>> {
        // Every reading is one part and every worker has its sampler, so no lock is ever waited for.
        let readings: Vec<Mutex<Reading<'_>>> = readings.into_iter().map(Mutex::new).collect();
        let read = |worker: usize, part: usize| {
            let mut reading = readings[part].lock().unwrap_or_else(PoisonError::into_inner);
            let mut sampler = samplers[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let Reading { chunk, outputs, sequence, ending, .. } = &mut *reading;
            *ending = without_panic(|| self.read_outputs(sequence, chunk, outputs, &mut sampler))
                .unwrap_or_else(|panic| {
                    Some(EndReason::Error(format!("choosing a token panicked: {panic}")))
                });
        };
        match team {
            Some(team) => team.run(readings.len(), &read),
            None => (0..readings.len()).for_each(|part| read(0, part)),
        }
        readings
            .into_iter()
            .map(|reading| reading.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }

    /// Log-probabilities of `token` and of the most likely tokens, if the request asks for them.
    fn report(&self, logits: &[f32], token: u32, request: &Request) -> Result<TokenReport, BrokenLogit> {
        let Some(count) = request.logprobs else {
            return Ok(TokenReport { id: token, logprob: None, top: Vec::new() });
        };
        let softmax = LogSoftmax::at_temperature(self.simd, logits, request.logprob_temperature)?;
        let logprob = Some(softmax.log_probability(logits[token as usize]));
        Ok(TokenReport { id: token, logprob, top: softmax.top(self.simd, logits, count) })
    }

    /// Takes in what was asked about the prompt and generates the next tokens, as far as the chunk's outputs allow. Returns why
    /// the request ends, if it does.
    fn read_outputs(
        &self,
        sequence: &mut Sequence,
        chunk: &PlannedChunk,
        outputs: &ChunkOutputs<'_>,
        sampler: &mut Sampler,
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
            let (token, ending) = match self.generate(sequence, logits, sampler) {
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
        &self,
        sequence: &mut Sequence,
        logits: &[f32],
        sampler: &mut Sampler,
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
        let token = sampler.sample(logits, choice).map_err(|error| error.to_string())?;
        let report = self.report(logits, token, &sequence.request).map_err(|error| error.to_string())?;
        let is_stop = sequence.request.stop_tokens.contains(&token);
        let (mut is_complete, mut condition_met) = (false, false);
        if !is_stop && let Some(constraint) = &mut sequence.request.constraint {
            constraint.accept(token).map_err(|error| format!("the constraint failed: {error}"))?;
            is_complete = constraint.is_finished();
        }
        if !is_stop && let Some(condition) = &mut sequence.request.stop_condition {
            condition_met = condition.ends_with(token);
        }
        match (sequence.push(token, Instant::now()), self.observer) {
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
}
