//! Shows measurements as a table or as JSON lines, with the share of what the machine could do.

use crate::arguments::BenchArguments;
use crate::memory_size::MemorySize;
use anyhow::Result;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use zhenjin_model::{FeedForward, LayerWeights, Model};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{Expert, KvDtype, Matrix, ThreadTeam};

/// Bytes read to measure memory: more than any cache.
const MEMORY_WORDS: usize = 64 << 20;

/// What is measured.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Prefill,
    Decode,
    /// Log-probabilities of a prompt's tokens.
    Score,
    /// Prompts of this many tokens and their answers.
    Answers {
        prompt: usize,
    },
}

/// A measurement: `tokens` of each of `batch` sequences.
#[derive(Clone, Copy)]
pub(super) struct Test {
    pub(super) kind: Kind,
    pub(super) tokens: usize,
    pub(super) batch: usize,
}

impl Test {
    fn name(self) -> &'static str {
        match self.kind {
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
            Kind::Score => "score",
            Kind::Answers { .. } => "answers",
        }
    }
}

/// What this machine can do at most, if it was measured.
struct Limits {
    operations: f64,
    bytes: f64,
}

pub(super) struct Report {
    json: bool,
    simd: String,
    kv_dtype: KvDtype,
    threads: usize,
    load: Duration,
    layer_weights: f64,
    head_weights: f64,
    weight_bytes: f64,
    limits: Option<Limits>,
}

impl Report {
    pub(super) fn new(
        arguments: &BenchArguments,
        model: &Model,
        kv_dtype: KvDtype,
        team: &ThreadTeam,
        load: Duration,
    ) -> Result<Self> {
        let active = model.config.experts.as_ref().map_or(0, |experts| experts.active);
        let report = Self {
            json: arguments.json,
            simd: model.simd.to_string(),
            kv_dtype,
            threads: team.threads(),
            load,
            layer_weights: model.weights.layers.iter().map(|layer| layer_weights(layer, active)).sum(),
            head_weights: weights_of(model.weights.head()),
            weight_bytes: model.weights.bytes() as f64,
            limits: if arguments.no_limits { None } else { Some(Limits::measure(model, team)?) },
        };
        if !report.json {
            report.print_head(&arguments.model.to_string_lossy(), is_float(model));
        }
        Ok(report)
    }

    fn print_head(&self, name: &str, is_float: bool) {
        println!(
            "{name} · {} · {} threads · KV cache {} · weights {} in memory · loaded in {:.2} s",
            self.simd,
            self.threads,
            self.kv_dtype,
            MemorySize(self.weight_bytes as u64),
            self.load.as_secs_f64()
        );
        if let Some(limits) = &self.limits {
            println!(
                "measured limits: {:.0} G{}/s, {:.1} GB/s from memory (a cache may be faster)",
                limits.operations / 1e9,
                if is_float { "FLOP" } else { "OP (int8)" },
                limits.bytes / 1e9
            );
        }
        println!(
            "\n| test    | tokens | batch |  tok/s min / median / max  |  GOP/s (of limit) |  GB/s (of limit) |"
        );
        println!(
            "|---------|-------:|------:|---------------------------:|------------------:|-----------------:|"
        );
    }

    pub(super) fn add(&mut self, test: Test, times: &[Duration]) -> Result<()> {
        let Test { kind, tokens, batch } = test;
        let all = (tokens * batch) as f64;
        // In the order of the runs: stretches of consecutive runs can be told from the JSON.
        let in_order: Vec<f64> = times.iter().map(|time| all / time.as_secs_f64()).collect();
        let mut speeds = in_order.clone();
        speeds.sort_by(f64::total_cmp);
        let median = speeds[speeds.len() / 2];
        // Prefill computes the head for one token, and only decoding reads all weights for each step.
        let (operations_per_token, reads_per_token) = match kind {
            Kind::Prefill => (2.0 * (self.layer_weights + self.head_weights / tokens as f64), 0.0),
            Kind::Decode => (2.0 * (self.layer_weights + self.head_weights), 1.0 / batch as f64),
            Kind::Score => (2.0 * (self.layer_weights + self.head_weights), 0.0),
            Kind::Answers { prompt } => {
                let computed = (prompt + tokens) as f64 / tokens as f64;
                (2.0 * (self.layer_weights * computed + self.head_weights), 0.0)
            }
        };
        let operations = operations_per_token * median;
        let bytes = reads_per_token * self.weight_bytes * median;
        let mut out = std::io::stdout().lock();
        if self.json {
            let prompt = if let Kind::Answers { prompt } = kind { Some(prompt) } else { None };
            let line = json!({
                "test": test.name(), "tokens": tokens, "batch": batch, "prompt": prompt, "tok_s": in_order,
                "gop_s": operations / 1e9, "gop_s_limit": self.limits.as_ref().map(|limits| limits.operations / 1e9),
                "gb_s": bytes / 1e9, "gb_s_limit": self.limits.as_ref().map(|limits| limits.bytes / 1e9),
                "load_s": self.load.as_secs_f64(), "simd": self.simd, "threads": self.threads,
                "kv_cache_dtype": self.kv_dtype.name(),
            });
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let speed = format!("{:.1} / {median:.1} / {:.1}", speeds[0], speeds[speeds.len() - 1]);
        let operations_share = share(operations, self.limits.as_ref().map(|limits| limits.operations));
        let bytes_share = match bytes {
            0.0 => "–".to_owned(),
            bytes => share(bytes, self.limits.as_ref().map(|limits| limits.bytes)),
        };
        writeln!(
            out,
            "| {:7} | {tokens:6} | {batch:5} | {speed:>26} | {operations_share:>17} | {bytes_share:>16} |",
            test.name()
        )?;
        Ok(())
    }
}

impl Limits {
    fn measure(model: &Model, team: &ThreadTeam) -> Result<Self> {
        let operations = match is_float(model) {
            true => peak::float_operations(model.simd, team)?,
            false => peak::integer_operations(model.simd, team)?,
        };
        let memory = vec![1u64; MEMORY_WORDS];
        Ok(Self { operations, bytes: peak::read_bytes(model.simd, &memory, team)? })
    }
}

fn is_float(model: &Model) -> bool {
    !model.layer_dtype().is_quantised()
}

fn share(value: f64, limit: Option<f64>) -> String {
    match limit {
        Some(limit) => format!("{:.1} ({:.0} %)", value / 1e9, 100.0 * value / limit),
        None => format!("{:.1}", value / 1e9),
    }
}

fn weights_of(matrix: &Matrix) -> f64 {
    matrix.rows() as f64 * matrix.columns() as f64
}

/// Weights that a row is multiplied with: of a mixture, those of the experts that it uses.
fn layer_weights(layer: &LayerWeights, active: usize) -> f64 {
    let attention = [&layer.query, &layer.key, &layer.value, &layer.output];
    let attention: f64 = attention.into_iter().map(|projection| weights_of(&projection.matrix)).sum();
    attention
        + match &layer.feed_forward {
            FeedForward::Dense { gate, up, down } => {
                [gate, up, down].into_iter().map(|projection| weights_of(&projection.matrix)).sum()
            }
            FeedForward::Experts(experts) => {
                let expert = |Expert { gate, up, down }: &Expert<Matrix>| {
                    weights_of(gate) + weights_of(up) + weights_of(down)
                };
                let used = experts.experts.iter().take(active);
                weights_of(&experts.router) + used.map(expert).sum::<f64>()
            }
        }
}
