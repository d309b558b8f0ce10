//! Times steps of the runner on a fixed stream of tokens.

use crate::arguments::BenchArguments;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zhenjin_model::{Adapter, AdapterValues, LogitsFor, Model, Runner, RunnerOptions, SequenceChunk};
use zhenjin_tensor::{KvDtype, PAGE_TOKENS, PageId, ThreadTeam};

/// Tokens of a prompt that one step computes, as in the server.
const PREFILL_CHUNK: usize = 512;

/// How often something is measured: so many times, and for at least so long.
#[derive(Clone)]
pub(super) struct Repeat {
    times: usize,
    least: Duration,
}

impl Repeat {
    pub(super) fn of(arguments: &BenchArguments) -> Repeat {
        Repeat { times: arguments.repeat as usize, least: Duration::from_secs(arguments.seconds) }
    }

    /// How long each run of `once` took; it is told which one it is, from 1 on.
    pub(super) fn run(self, mut once: impl FnMut(usize) -> Result<()>) -> Result<Vec<Duration>> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.len() < self.times || begun.elapsed() < self.least {
            let started = Instant::now();
            once(times.len() + 1)?;
            times.push(started.elapsed());
        }
        Ok(times)
    }
}

pub(super) struct Bench {
    runner: Runner,
    adapter: Option<Adapter>,
    vocabulary_size: usize,
    pages_per_sequence: usize,
    repeat: Repeat,
}

impl Bench {
    pub(super) fn new(
        model: Arc<Model>,
        team: Arc<ThreadTeam>,
        kv_dtype: KvDtype,
        arguments: &BenchArguments,
    ) -> Result<Self> {
        let longest = arguments.prefill.iter().chain(&arguments.decode).copied().max().unwrap_or(1);
        if longest > model.config.context_length {
            bail!("{longest} tokens do not fit the model's context of {}", model.config.context_length);
        }
        let widest = arguments.batch.iter().copied().max().unwrap_or(1);
        let pages_per_sequence = longest.max(1).div_ceil(PAGE_TOKENS);
        let options = RunnerOptions {
            pages: pages_per_sequence * widest,
            kv_dtype,
            max_rows: PREFILL_CHUNK.max(widest),
            max_logits_rows: widest,
            context_length: None,
            usable_vocabulary: None,
            simd: model.simd,
            team,
        };
        let vocabulary_size = model.config.vocabulary_size;
        let adapter = arguments.adapter.as_deref().map(|path| {
            let values = AdapterValues::open(path, &model.config)?;
            values.pack(model.simd, &options.team)
        });
        Ok(Self {
            adapter: adapter.transpose()?,
            runner: Runner::new(model, options)?,
            vocabulary_size,
            pages_per_sequence,
            repeat: Repeat::of(arguments),
        })
    }

    /// Computes a prompt of `tokens`, one warm-up and then the repeats.
    pub(super) fn prefill(&mut self, tokens: usize) -> Result<Vec<Duration>> {
        self.repeated(|bench| bench.prefill_once(tokens))
    }

    /// Computes `tokens` new tokens of each of `batch` sequences, starting from one token.
    pub(super) fn decode(&mut self, tokens: usize, batch: usize) -> Result<Vec<Duration>> {
        self.repeated(|bench| bench.decode_once(tokens, batch))
    }

    fn repeated(&mut self, once: impl Fn(&mut Self) -> Result<()>) -> Result<Vec<Duration>> {
        once(self)?;
        self.repeat.clone().run(|_| once(self))
    }

    fn prefill_once(&mut self, tokens: usize) -> Result<()> {
        let prompt: Vec<u32> = (0..tokens).map(|position| self.token(position, 0)).collect();
        let pages = self.pages_of(0);
        for (index, chunk) in prompt.chunks(PREFILL_CHUNK).enumerate() {
            let start = index * PREFILL_CHUNK;
            let logits = if start + chunk.len() == tokens { LogitsFor::Last } else { LogitsFor::None };
            let pages = &pages[..(start + chunk.len()).div_ceil(PAGE_TOKENS)];
            self.runner.step(&[SequenceChunk {
                tokens: chunk,
                start,
                pages,
                logits,
                adapter: self.adapter.as_ref(),
                ..SequenceChunk::default()
            }])?;
        }
        Ok(())
    }

    fn decode_once(&mut self, tokens: usize, batch: usize) -> Result<()> {
        let pages: Vec<Vec<PageId>> = (0..batch).map(|sequence| self.pages_of(sequence)).collect();
        for start in 0..tokens {
            let row: Vec<u32> = (0..batch).map(|sequence| self.token(start, sequence)).collect();
            let used = (start + 1).div_ceil(PAGE_TOKENS);
            let chunks: Vec<SequenceChunk<'_>> = row
                .chunks(1)
                .zip(&pages)
                .map(|(tokens, pages)| SequenceChunk {
                    tokens,
                    start,
                    pages: &pages[..used],
                    logits: LogitsFor::Last,
                    adapter: self.adapter.as_ref(),
                    ..SequenceChunk::default()
                })
                .collect();
            self.runner.step(&chunks)?;
        }
        Ok(())
    }

    fn pages_of(&self, sequence: usize) -> Vec<PageId> {
        let first = sequence * self.pages_per_sequence;
        (first..first + self.pages_per_sequence).map(|page| PageId(page as u32)).collect()
    }

    fn token(&self, position: usize, sequence: usize) -> u32 {
        super::token(position, sequence, self.vocabulary_size)
    }
}
