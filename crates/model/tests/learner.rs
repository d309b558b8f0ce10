//! Gradients of the learner against finite differences of the forward pass in f64, for every switch of the forward pass; and what
//! must not change a bit: threads, recomputation, other documents.

use std::sync::Arc;

use zhenjin_model::config::{RopeLayout, SlidingWindow};
use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::{
    Learner, LearnerOptions, LoadOptions, ModelConfig, ReferenceLoader, TokenBatch, Transformer, Weight,
    Weights, rope,
};
use zhenjin_tensor::{
    Dtype, Executor, Gradients, ParameterId, ParameterShape, ReferenceExecutor, ReferenceTensor,
    ScoreGradient, SimdLevel, ThreadTeam, TokenScore,
};

type ReferenceWeights = Weights<ReferenceTensor, Vec<f64>>;

/// Factor of the squared log-sum-exp in the loss.
const Z_LOSS: f64 = 0.03;
const LENGTHS: [usize; 4] = [37, 1, 5, 70];

/// Shapes that between them use every switch of the forward pass.
fn configs() -> Vec<ModelConfig> {
    let qwen3 = ModelConfig { qk_norm: true, ..tiny_config() };
    let mut qwen2 =
        ModelConfig { attention_bias: true, heads: 6, kv_heads: 2, head_dim: 24, ..tiny_config() };
    qwen2.rope.rotary_dim = 24;
    let window = Some(SlidingWindow { positions: 9, first_layer: 1 });
    let mut mistral = ModelConfig { sliding_window: window, tied_embeddings: false, ..tiny_config() };
    mistral.rope.layout = RopeLayout::Interleaved;
    mistral.rope.rotary_dim = 8;
    let all = ModelConfig {
        attention_bias: true,
        attention_output_bias: true,
        feed_forward_bias: true,
        qk_norm: true,
        tied_embeddings: false,
        heads: 3,
        kv_heads: 1,
        vocabulary_size: 77,
        hidden_size: 40,
        intermediate_size: 50,
        sliding_window: Some(SlidingWindow { positions: 40, first_layer: 0 }),
        ..tiny_config()
    };
    vec![tiny_config(), qwen3, qwen2, mistral, all]
}

struct Batch {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    targets: Vec<Option<u32>>,
}

impl Batch {
    /// Documents whose rows predict the token after them; some rows predict nothing.
    fn new(lengths: &[usize], vocabulary_size: usize, seed: u64) -> Batch {
        let rows: usize = lengths.iter().sum();
        let number = |index: usize| {
            let hash = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ seed << 9);
            ((hash >> 33) % vocabulary_size as u64) as u32
        };
        let tokens: Vec<u32> = (0..rows).map(number).collect();
        let target = |row: usize| (row % 7 != 3).then(|| number(row + 1));
        let targets = (0..rows).map(target).collect();
        Batch { tokens, lengths: lengths.to_vec(), targets }
    }

    fn get(&self) -> TokenBatch<'_> {
        TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.targets }
    }
}

fn load(config: &ModelConfig, options: &LoadOptions) -> Weights {
    let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
    Weights::load(config, &source, options).unwrap()
}

fn options(simd: SimdLevel, threads: usize) -> LoadOptions {
    LoadOptions { simd, team: Arc::new(ThreadTeam::new(threads).unwrap()) }
}

/// Different rows weigh differently.
fn importance(row: usize) -> f64 {
    0.5 + (row % 5) as f64 / 4.0
}

fn row_gradient(row: usize, score: TokenScore) -> ScoreGradient {
    let weight = importance(row) as f32;
    ScoreGradient { log_probability: -weight, log_sum_exp: weight * 2.0 * Z_LOSS as f32 * score.log_sum_exp }
}

/// Scores and gradients of a batch.
fn learn(
    config: &ModelConfig,
    batch: &Batch,
    load_options: LoadOptions,
    recompute: bool,
) -> (Vec<TokenScore>, Gradients) {
    let weights = load(config, &load_options);
    let mut learner = Learner::new(config, LearnerOptions { load: load_options, recompute }).unwrap();
    let mut gradients = Gradients::new(&weights.parameter_shapes()).unwrap();
    let scores = learner.accumulate(&weights, &batch.get(), &row_gradient, &mut gradients).unwrap();
    assert_eq!(learner.score(&weights, &batch.get()).unwrap(), scores);
    (scores, gradients)
}

/// Row-major elements of a packed gradient.
fn unpacked(gradient: &[f32], shape: ParameterShape) -> Vec<f64> {
    match shape {
        ParameterShape::Vector { .. } => gradient.iter().map(|value| f64::from(*value)).collect(),
        ParameterShape::Matrix { rows, columns } => {
            let at = |row: usize, column: usize| (row / 16 * columns + column) * 16 + row % 16;
            let elements = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
            elements.map(|(row, column)| f64::from(gradient[at(row, column)])).collect()
        }
    }
}

fn loss_in_f64(config: &ModelConfig, weights: &ReferenceWeights, batch: &Batch) -> f64 {
    let mut executor = ReferenceExecutor::new();
    executor.begin_packed(&batch.lengths, &rope::frequencies(&config.rope)).unwrap();
    let rows: Vec<usize> = (0..batch.tokens.len()).collect();
    let transformer = Transformer { config, weights, adapters: &[] };
    let logits = transformer.logits(&mut executor, &batch.tokens, &rows).unwrap();
    let of_row = |((row, logits), target): ((usize, &[f64]), &Option<u32>)| {
        let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let target = (*target)? as usize;
        Some(importance(row) * (log_sum - logits[target] + Z_LOSS * log_sum * log_sum))
    };
    logits.rows().enumerate().zip(&batch.targets).filter_map(of_row).sum()
}

/// Adds `step` times a direction to parameter `index`.
fn perturb(weights: &mut ReferenceWeights, index: usize, direction: &[f64], step: f64) {
    let values = match weights.parameters_mut().nth(index).unwrap().1 {
        Weight::Matrix(matrix) => &mut matrix.values,
        Weight::Vector(vector) => vector,
    };
    values.iter_mut().zip(direction).for_each(|(value, direction)| *value += step * direction);
}

#[test]
fn gradients_of_every_parameter_are_near_finite_differences_in_f64() {
    for config in configs() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size, 1);
        let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
        let mut exact = Weights::load_with(&config, &source, &mut ReferenceLoader).unwrap();
        let (_, gradients) = learn(&config, &batch, options(SimdLevel::detect(), 2), false);
        for (index, shape) in gradients.shapes().to_vec().into_iter().enumerate() {
            let gradient = unpacked(gradients.get(ParameterId(index as u32)), shape);
            let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert!(norm > 0.0, "parameter {index}: no gradient");
            // Along the gradient itself, the slope is its length; along another direction it shows wrong places.
            let hash = |at: usize| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63;
            let other: Vec<f64> = (0..gradient.len()).map(|at| hash(at + 1) as f64 * 2.0 - 1.0).collect();
            for direction in [&gradient, &other] {
                let length = direction.iter().map(|value| value * value).sum::<f64>().sqrt();
                let unit: Vec<f64> = direction.iter().map(|value| value / length).collect();
                let step = 1e-4;
                perturb(&mut exact, index, &unit, step);
                let above = loss_in_f64(&config, &exact, &batch);
                perturb(&mut exact, index, &unit, -2.0 * step);
                let below = loss_in_f64(&config, &exact, &batch);
                perturb(&mut exact, index, &unit, step);
                let expected = (above - below) / (2.0 * step);
                let actual: f64 = unit.iter().zip(&gradient).map(|(unit, value)| unit * value).sum();
                let error = (actual - expected).abs() / norm;
                assert!(
                    error < 2e-5,
                    "parameter {index} {shape:?}: {actual} instead of {expected}: {config:?}"
                );
            }
        }
    }
}
