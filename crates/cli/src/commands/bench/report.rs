//! Shows measurements as a table or as JSON lines, with the share of what the machine could do.

use crate::memory_size::MemorySize;
use anyhow::Result;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use zhenjin_model::{LayerWeights, Model};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{Dtype, Matrix, ThreadTeam};

/// Bytes read to measure memory: more than any cache.
const MEMORY_WORDS: usize = 64 << 20;

pub(super) struct Report {
    json: bool,
    layer_weights: f64,
    head_weights: f64,
    weight_bytes: f64,
    peak_operations: f64,
    peak_bytes: f64,
}

impl Report {
    pub(super) fn new(
        name: &str,
        model: &Model,
        team: &ThreadTeam,
        load: Duration,
        json: bool,
    ) -> Result<Self> {
        let is_float =
            matches!(model.weights.layers[0].gate.matrix.dtype(), Dtype::F32 | Dtype::F16 | Dtype::Bf16);
        let peak_operations = match is_float {
            true => peak::float_operations(model.simd, team)?,
            false => peak::integer_operations(model.simd, team)?,
        };
        let memory = vec![1u64; MEMORY_WORDS];
        let report = Self {
            json,
            layer_weights: model.weights.layers.iter().map(layer_weights).sum(),
            head_weights: weights_of(model.weights.head()),
            weight_bytes: model.weights.bytes() as f64,
            peak_operations,
            peak_bytes: peak::read_bytes(&memory, team),
        };
        if !json {
            println!(
                "{name} · {} · {} threads · weights {} in memory · loaded in {:.2} s",
                model.simd,
                team.threads(),
                MemorySize(model.weights.bytes() as u64),
                load.as_secs_f64()
            );
            println!(
                "measured limits: {:.0} G{}/s, {:.1} GB/s from memory (a cache may be faster)\n",
                peak_operations / 1e9,
                if is_float { "FLOP" } else { "OP (int8)" },
                report.peak_bytes / 1e9
            );
            println!(
                "| test    | tokens | batch |  tok/s min / median / max  |  GOP/s (of limit) |  GB/s (of limit) |"
            );
            println!(
                "|---------|-------:|------:|---------------------------:|------------------:|-----------------:|"
            );
        }
        Ok(report)
    }

    pub(super) fn add(&mut self, test: &str, tokens: usize, batch: usize, times: &[Duration]) -> Result<()> {
        let all = (tokens * batch) as f64;
        let mut speeds: Vec<f64> = times.iter().map(|time| all / time.as_secs_f64()).collect();
        speeds.sort_by(f64::total_cmp);
        let median = speeds[speeds.len() / 2];
        // Only decode computes the head for every token, and only decode reads all weights for each step.
        let (operations_per_token, reads_per_token) = match test {
            "decode" => (2.0 * (self.layer_weights + self.head_weights), 1.0 / batch as f64),
            _ => (2.0 * (self.layer_weights + self.head_weights / tokens as f64), 0.0),
        };
        let operations = operations_per_token * median;
        let bytes = reads_per_token * self.weight_bytes * median;
        let mut out = std::io::stdout().lock();
        if self.json {
            let line = json!({
                "test": test, "tokens": tokens, "batch": batch, "tok_s": speeds,
                "gop_s": operations / 1e9, "gop_s_limit": self.peak_operations / 1e9,
                "gb_s": bytes / 1e9, "gb_s_limit": self.peak_bytes / 1e9,
            });
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let speed = format!("{:.1} / {median:.1} / {:.1}", speeds[0], speeds[speeds.len() - 1]);
        let operations_share = share(operations, self.peak_operations);
        let bytes_share = if bytes > 0.0 { share(bytes, self.peak_bytes) } else { "–".to_owned() };
        writeln!(
            out,
            "| {test:7} | {tokens:6} | {batch:5} | {speed:>26} | {operations_share:>17} | {bytes_share:>16} |"
        )?;
        Ok(())
    }
}

fn share(value: f64, limit: f64) -> String {
    format!("{:.1} ({:.0} %)", value / 1e9, 100.0 * value / limit)
}

fn weights_of(matrix: &Matrix) -> f64 {
    matrix.rows() as f64 * matrix.columns() as f64
}

fn layer_weights(layer: &LayerWeights) -> f64 {
    [&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down]
        .into_iter()
        .map(|projection| weights_of(&projection.matrix))
        .sum()
}
