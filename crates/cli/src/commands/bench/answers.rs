//! Times whole answers, prompts included, and scores of prompts, by the engine that serves.

use super::measure::Repeat;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::Duration;
use zhenjin_engine::{EndReason, Engine, EngineOptions, Event, Request, Sampling};
use zhenjin_model::{Model, Runner, RunnerOptions};
use zhenjin_tensor::{KvDtype, PAGE_TOKENS, ThreadTeam};

/// How many answers are asked for at once, and how long they are. Prompts without an answer are scored: every token's
/// log-probability is asked for.
#[derive(Clone, Copy)]
pub(super) struct Answers {
    pub(super) batch: usize,
    pub(super) prompt: usize,
    pub(super) tokens: usize,
    pub(super) kv_dtype: KvDtype,
    pub(super) temperature: f32,
}

/// Times `answers`, all asked for at once: a warm-up and then the repeats.
pub(super) fn measure(
    model: &Arc<Model>,
    team: &Arc<ThreadTeam>,
    answers: Answers,
    repeat: Repeat,
) -> Result<Vec<Duration>> {
    let engine = start(model, team, answers)?;
    // No prompt is asked for twice, so that none is found in the cache.
    once(&engine, answers, 0)?;
    repeat.run(|run| once(&engine, answers, run))
}

/// An engine with the server's own settings and room for all answers.
fn start(model: &Arc<Model>, team: &Arc<ThreadTeam>, answers: Answers) -> Result<Engine> {
    let length = answers.prompt + answers.tokens;
    if length > model.config.context_length {
        bail!("{length} tokens do not fit the model's context of {}", model.config.context_length);
    }
    let options =
        EngineOptions { max_batch: answers.batch, queue_limit: answers.batch, ..EngineOptions::default() };
    let runner = Runner::new(
        Arc::clone(model),
        RunnerOptions {
            pages: (length.div_ceil(PAGE_TOKENS) + 1) * answers.batch,
            kv_dtype: answers.kv_dtype,
            max_rows: options.prefill_chunk.max(answers.batch) + answers.batch,
            max_logits_rows: answers.batch.max(16),
            context_length: None,
            usable_vocabulary: None,
            simd: model.simd,
            team: Arc::clone(team),
        },
    )?;
    Ok(Engine::start(Box::new(runner), EngineOptions { simd: model.simd, ..options })?)
}

/// From all tokens, each answer with a seed of its own.
fn sampling(temperature: f32, sequence: usize) -> Sampling {
    if temperature == 0.0 {
        return Sampling::greedy();
    }
    Sampling { temperature, top_p: 1.0, top_k: 0, seed: Some(sequence as u64), ..Sampling::default() }
}

fn once(engine: &Engine, answers: Answers, run: usize) -> Result<()> {
    let requests = (0..answers.batch).map(|index| {
        let sequence = run * answers.batch + index;
        let prompt = (0..answers.prompt)
            .map(|position| super::token(position, sequence, engine.usable_vocabulary()))
            .collect();
        match answers.tokens {
            0 => Request::score(prompt, 0, 0),
            tokens => Request::new(prompt, tokens, sampling(answers.temperature, sequence)),
        }
    });
    let generations = requests.map(|request| engine.submit(request)).collect::<Result<Vec<_>, _>>()?;
    for mut generation in generations {
        while let Some(event) = generation.blocking_next() {
            if let Event::Finished { reason, .. } = event
                && reason != EndReason::Length
            {
                bail!("an answer ended before its length was reached");
            }
        }
    }
    Ok(())
}
