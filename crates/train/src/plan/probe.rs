//! How fast this machine computes the products of a model, measured with the products themselves.

use super::{ParameterCount, TokenOperations};
use crate::configuration::OptimiserSection;
use crate::optimiser::{Optimiser, StepNumbers};
use serde::Serialize;
use std::time::{Duration, Instant};
use zhenjin_model::{
    InitialisationRule, Learner, LearnerOptions, LoadOptions, ModelConfig, ModelError, TokenBatch, initialise,
};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{Dtype, Gradients, Matrix, Product, QuantisedRows, ScoreGradient, TensorError, linear};

/// Wider matrices are measured at this width: they are no faster, and take long to make.
const MOST_WIDTH: usize = 2048;
/// Rows that are multiplied together, at most.
const MOST_ROWS: usize = 2048;
/// Parameters of a model of two layers, above which no whole layers are measured: they would take gigabytes.
const MOST_PARAMETERS: u64 = 120_000_000;
/// Fewer rounds than these are no measurement.
const LEAST_ROUNDS: usize = 3;

/// A machine's measured speed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// f32 operations per second of a loop that does nothing but multiply and add.
    pub peak_flops: f64,
    /// Operations per second of the model's forward and backward passes, as [`super::TokenOperations`] counts them.
    pub achieved_flops: f64,
    /// Seconds of an update by one process: the norm of the gradients, and the optimiser.
    pub update_seconds: f64,
    /// Threads.
    pub threads: usize,
}

impl Probe {
    /// Fraction of the peak that the passes reach.
    pub fn efficiency(&self) -> f64 {
        self.achieved_flops / self.peak_flops
    }
}

/// Operations per second of the products of a layer and of the head with `rows` rows, measured for about `limit`. The median of all
/// rounds counts.
fn products(
    config: &ModelConfig,
    rows: usize,
    options: &LoadOptions,
    limit: Duration,
) -> Result<f64, TensorError> {
    let begun = Instant::now();
    let width = |size: usize| size.min(MOST_WIDTH);
    let (hidden, inner) = (width(config.hidden_size), width(config.intermediate_size));
    let (queries, kv) = (width(config.query_width()), width(config.kv_width()));
    let rows = rows.clamp(1, MOST_ROWS);
    let shapes = [
        (queries, hidden),
        (kv, hidden),
        (kv, hidden),
        (hidden, queries),
        (inner, hidden),
        (inner, hidden),
        (hidden, inner),
    ];
    let mut layer = Products::new(&shapes, rows, options)?;
    let mut head = Products::new(&[(width(config.vocabulary_size), hidden)], rows, options)?;
    let mut rates = Vec::new();
    // The head's share in a model of this shape: its time per layer.
    let heads_per_layer =
        config.vocabulary_size as f64 / width(config.vocabulary_size) as f64 / config.layers.max(1) as f64;
    while rates.len() < LEAST_ROUNDS || begun.elapsed() < limit {
        let (layer_seconds, head_seconds) = (layer.seconds(options)?, head.seconds(options)?);
        let operations = layer.operations() + heads_per_layer * head.operations();
        rates.push(operations / (layer_seconds + heads_per_layer * head_seconds));
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// Measures forward and backward passes and updates of models of one and of two layers of this shape for about `limit`: their
/// difference is a layer's time, the rest is that of embedding and head. `documents` documents of `document_length` tokens at a time;
/// fewer where that is more than [`MOST_ROWS`] tokens. Where two layers and the embedding have more than [`MOST_PARAMETERS`] parameters,
/// products are measured alone.
///
/// # Errors
/// [`ModelError`] when memory is short or the instructions are not there.
pub fn probe_training(
    config: &ModelConfig,
    optimiser: &OptimiserSection,
    documents: usize,
    document_length: usize,
    options: &LoadOptions,
    limit: Duration,
) -> Result<Probe, ModelError> {
    let length = document_length.clamp(1, config.context_length.max(1));
    let documents = documents.clamp(1, (MOST_ROWS / length).max(1));
    let rows = documents * length;
    let peak_flops = peak::float_operations(options.simd, &options.team)?;
    let threads = options.team.threads();
    if ParameterCount::of(&ModelConfig { layers: 2, ..config.clone() }).total() > MOST_PARAMETERS {
        let achieved_flops = products(config, rows, options, limit)?;
        return Ok(Probe {
            peak_flops,
            achieved_flops,
            update_seconds: scaled_update(config, optimiser, options)?,
            threads,
        });
    }
    let of_layers = |layers| {
        let config = ModelConfig { layers, ..config.clone() };
        Seconds::of(&config, optimiser, (documents, length), options, limit / 2)
    };
    let (one, two) = (of_layers(1)?, of_layers(2)?);
    let whole = |one: f64, two: f64| {
        // On a disturbed machine the larger model may have been the faster one.
        let layer = if two > one { two - one } else { two / 2.0 };
        (one - layer).max(0.0) + layer * config.layers as f64
    };
    let operations = TokenOperations::of(config, length).total() * rows as f64;
    Ok(Probe {
        peak_flops,
        achieved_flops: operations / whole(one.pass, two.pass),
        update_seconds: whole(one.update, two.update),
        threads,
    })
}

/// The time of an update by the time of a smaller model's, in proportion to the parameters.
fn scaled_update(
    config: &ModelConfig,
    optimiser: &OptimiserSection,
    options: &LoadOptions,
) -> Result<f64, ModelError> {
    let width = |size: usize| size.min(MOST_WIDTH);
    let small = ModelConfig {
        layers: 1,
        vocabulary_size: width(config.vocabulary_size),
        hidden_size: width(config.hidden_size),
        intermediate_size: width(config.intermediate_size),
        ..config.clone()
    };
    let parameters = |config: &ModelConfig| ParameterCount::of(config).total() as f64;
    let seconds = Seconds::of(&small, optimiser, (1, 1), options, Duration::ZERO)?;
    Ok(seconds.update * parameters(config) / parameters(&small))
}

/// Median times, after a first one that does not count because it takes the memory from the system.
struct Seconds {
    /// Of a forward and backward pass.
    pass: f64,
    /// Of an update.
    update: f64,
}

impl Seconds {
    fn of(
        config: &ModelConfig,
        optimiser: &OptimiserSection,
        (documents, length): (usize, usize),
        options: &LoadOptions,
        limit: Duration,
    ) -> Result<Seconds, ModelError> {
        let mut weights = initialise(config, &InitialisationRule::default(), 1, options)?;
        let mut gradients = Gradients::new(&weights.parameter_shapes())?;
        let mut optimiser = Optimiser::new(config, optimiser)?;
        let mut learner = Learner::new(config, LearnerOptions { load: options.clone(), recompute: false })?;
        let rows = documents * length;
        let token = |row: usize| (row * 7 % config.vocabulary_size) as u32;
        let tokens: Vec<u32> = (0..rows).map(token).collect();
        let targets: Vec<Option<u32>> = (1..=rows).map(|row| Some(token(row))).collect();
        let document_lengths = vec![length; documents];
        let batch = TokenBatch { tokens: &tokens, document_lengths: &document_lengths, targets: &targets };
        let row_gradient = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        // A rate of 0: the weights stay what they are.
        let numbers = StepNumbers { gradient_factor: 1.0 / rows as f32, rate_factor: 0.0 };
        let begun = Instant::now();
        let (mut passes, mut updates) = (Vec::new(), Vec::new());
        while passes.len() < LEAST_ROUNDS || begun.elapsed() < limit {
            let start = Instant::now();
            learner.accumulate(&weights, &batch, &row_gradient, &mut gradients)?;
            passes.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            gradients.squared_norm(&options.team);
            optimiser.update(&mut weights, &gradients, numbers, &options.team)?;
            updates.push(start.elapsed().as_secs_f64());
        }
        let median = |times: Vec<f64>| {
            let mut times = times[1..].to_vec();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        Ok(Seconds { pass: median(passes), update: median(updates) })
    }
}

/// Matrices that are multiplied one after the other.
struct Products {
    matrices: Vec<Matrix>,
    rows: usize,
    input: Vec<f32>,
    output: Vec<f32>,
    quantised: QuantisedRows,
}

impl Products {
    /// Matrices [outputs, inputs] of ordinary values.
    fn new(shapes: &[(usize, usize)], rows: usize, options: &LoadOptions) -> Result<Self, TensorError> {
        let mut matrices = Vec::new();
        for (outputs, inputs) in shapes {
            let values: Vec<u8> = (0..outputs * inputs)
                .flat_map(|index| (0.01 + (index % 7) as f32 * 0.01).to_le_bytes())
                .collect();
            matrices.push(Matrix::pack(Dtype::F32, *outputs, *inputs, &values, options.simd, &options.team)?);
        }
        let longest = |of: fn(&(usize, usize)) -> usize| shapes.iter().map(of).max().unwrap_or(0) * rows;
        Ok(Self {
            matrices,
            rows,
            input: vec![0.5; longest(|(_, inputs)| *inputs)],
            output: vec![0.0; longest(|(outputs, _)| *outputs)],
            quantised: QuantisedRows::default(),
        })
    }

    fn operations(&self) -> f64 {
        self.matrices.iter().map(|matrix| 2.0 * (matrix.rows() * matrix.columns() * self.rows) as f64).sum()
    }

    /// Seconds for all of them.
    fn seconds(&mut self, options: &LoadOptions) -> Result<f64, TensorError> {
        let begun = Instant::now();
        for matrix in &self.matrices {
            let input = &self.input[..self.rows * matrix.columns()];
            let output = &mut self.output[..self.rows * matrix.rows()];
            linear(&options.team, input, self.rows, &mut self.quantised, &mut [Product { matrix, output }])?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}
