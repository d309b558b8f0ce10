//! Takes training steps of a model with random weights on random tokens, as they are asked for: forward, backward, AdamW.
//! The one of us that `bench/training/compare.py` measures.
//!
//! `train_speed '{"shape": …, "threads": 2}'` takes one step and answers with a line of JSON; then one line of standard input,
//! a number of steps, gets one line of JSON with the seconds of each. `train_speed peak THREADS` tells this machine's
//! greatest number of f32 operations per second.

#![allow(clippy::print_stdout, reason = "it answers on standard output")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use zhenjin_model::config::{Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling};
use zhenjin_model::{
    InitialisationRule, Learner, LearnerOptions, LoadOptions, ModelConfig, TokenBatch, Weights, initialise,
};
use zhenjin_tensor::linear::peak;
use zhenjin_tensor::{ComputeOptions, GateActivation, Gradients, ScoreGradient, SimdLevel, ThreadTeam};
use zhenjin_train::configuration::{OptimiserKind, OptimiserSection, Orthogonaliser};
use zhenjin_train::optimiser::{Optimiser, StepNumbers};
use zhenjin_train::plan::{OptimiserMemory, RunShape, fewest_recomputed_layers};

/// What `bench/training/shapes.py` says of a model and its batch.
#[derive(Deserialize)]
struct Shape {
    layers: usize,
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    sequences: usize,
    length: usize,
}

#[derive(Deserialize)]
struct Request {
    shape: Shape,
    threads: usize,
    /// The most memory that it may take, in bytes: so many layers are computed again that it does.
    #[serde(default)]
    memory_limit: Option<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, threads] = &arguments[..]
        && word == "peak"
    {
        let team = ThreadTeam::new(threads.parse()?)?;
        println!("{}", json!({ "flops": peak::float_operations(SimdLevel::detect(), &team)? }));
        return Ok(());
    }
    let Some(request) = arguments.first() else {
        return Err("usage: train_speed REQUEST, or train_speed peak THREADS".into());
    };
    let mut trainer = Trainer::new(&serde_json::from_str(request)?)?;
    let ready = started.elapsed().as_secs_f64();
    let loss = trainer.step()?;
    let first = started.elapsed().as_secs_f64();
    let recomputed = trainer.recomputed_layers;
    answer(
        json!({ "first_step_seconds": first, "ready_seconds": ready, "recomputed_layers": recomputed, "loss": loss, "version": env!("CARGO_PKG_VERSION") }),
    )?;
    for line in std::io::stdin().lock().lines() {
        let mut seconds = Vec::new();
        let mut loss = 0.0;
        for _ in 0..line?.trim().parse::<usize>()? {
            let start = Instant::now();
            loss = trainer.step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        answer(json!({ "seconds": seconds, "loss": loss }))?;
    }
    Ok(())
}

/// Prints a line of JSON with the process's greatest memory so far.
fn answer(mut message: serde_json::Value) -> Result<(), Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes =
        line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<u64>().ok());
    message["peak_bytes"] = json!(kilobytes.map(|kilobytes| kilobytes * 1024));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}")?;
    Ok(out.flush()?)
}

struct Trainer {
    recomputed_layers: usize,
    weights: Weights,
    learner: Learner,
    gradients: Gradients,
    optimiser: Optimiser,
    load: LoadOptions,
    tokens: Vec<u32>,
    targets: Vec<Option<u32>>,
    lengths: Vec<usize>,
}

impl Trainer {
    fn new(Request { shape, threads, memory_limit }: &Request) -> Result<Trainer, Box<dyn Error>> {
        let ComputeOptions { simd, threads } = ComputeOptions::resolve(None, Some(*threads))?;
        let load = LoadOptions { simd, team: std::sync::Arc::new(ThreadTeam::new(threads)?) };
        let config = config(shape);
        let weights = initialise(&config, &InitialisationRule::default(), 1, &load)?;
        let gradients = Gradients::new(&weights.parameter_shapes())?;
        let options = LearnerOptions { load: load.clone(), recompute: false };
        let recomputed_layers = fewest_recomputed_layers(&config, &run_shape(shape), *memory_limit);
        let mut random = 1_u64;
        let mut token = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % shape.vocabulary as u64) as u32
        };
        let rows = shape.sequences * shape.length;
        Ok(Trainer {
            learner: Learner::new(&config, options)?.with_recomputed_layers(recomputed_layers),
            recomputed_layers,
            optimiser: Optimiser::new(&config, &adamw())?,
            tokens: (0..rows).map(|_| token()).collect(),
            targets: (0..rows).map(|_| Some(token())).collect(),
            lengths: vec![shape.length; shape.sequences],
            weights,
            gradients,
            load,
        })
    }

    /// One step; the mean loss before it.
    fn step(&mut self) -> Result<f64, Box<dyn Error>> {
        let batch =
            TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.targets };
        // New gradients are zero.
        if self.optimiser.updates() > 0 {
            self.gradients.clear(&self.load.team);
        }
        let cross_entropy = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
        let scores = self.learner.accumulate(&self.weights, &batch, &cross_entropy, &mut self.gradients)?;
        let rows = scores.len() as f64;
        let numbers = StepNumbers { gradient_factor: (1.0 / rows) as f32, rate_factor: 1.0 };
        self.optimiser.update(&mut self.weights, &self.gradients, numbers, &self.load.team)?;
        Ok(-scores.iter().map(|score| f64::from(score.log_probability)).sum::<f64>() / rows)
    }
}

/// One step of it, as a plan knows it.
fn run_shape(shape: &Shape) -> RunShape {
    RunShape {
        sequence_length: shape.length,
        sequences: shape.sequences,
        micro_batches: 1,
        steps: 1,
        document_length: None,
        documents: 0,
        optimiser: OptimiserMemory::Adamw,
        averages_weights: false,
        recomputed_layers: None,
        ranks: 1,
        kept_checkpoints: 0,
    }
}

fn config(shape: &Shape) -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        vocabulary_size: shape.vocabulary,
        context_length: shape.length,
        layers: shape.layers,
        hidden_size: shape.hidden,
        intermediate_size: shape.ffn,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        rope: RopeConfig {
            base: 10_000.0,
            rotary_dim: shape.head_dim,
            layout: RopeLayout::HalfSplit,
            scaling: RopeScaling::None,
        },
        windowed_rope: None,
        unrotated_layers: Vec::new(),
        sliding_window: None,
        rms_norm_epsilon: 1e-5,
        norms: NormPlacement::Before,
        norms_less_one: false,
        tied_embeddings: true,
        attention_bias: false,
        attention_output_bias: false,
        feed_forward_bias: false,
        qk_norm: QueryKeyNorm::Never,
        activation: GateActivation::Silu,
        multipliers: Multipliers::default(),
        experts: None,
    }
}

/// The numbers of the peer's optimiser.
fn adamw() -> OptimiserSection {
    OptimiserSection {
        kind: OptimiserKind::Adamw,
        learning_rate: 1e-4,
        embedding_learning_rate: 1e-4,
        muon_learning_rate: 0.0,
        weight_decay: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        momentum: 0.0,
        orthogonaliser: Orthogonaliser::PolarExpress,
        clip: 0.0,
        average_decay: 0.0,
    }
}
