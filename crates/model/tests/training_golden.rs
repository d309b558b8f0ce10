//! Logits, loss and the gradient of every parameter against PyTorch, for a batch of documents.
//!
//! `tests/golden/make_training.py` computed the numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::Deserialize;
use zhenjin_model::config::from_json;
use zhenjin_model::names::Naming;
use zhenjin_model::testing::golden_model;
use zhenjin_model::{
    Learner, LearnerOptions, LoadOptions, ModelConfig, TokenBatch, Transformer, Weights, forward, rope,
};
use zhenjin_tensor::{
    DirectExecutor, Executor, Gradients, KvCache, KvDtype, KvShape, ParameterId, ParameterShape,
    ScoreGradient, SimdLevel, ThreadTeam,
};

/// How far a number may be from PyTorch's, as a share of the largest of its tensor.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: serde_json::Value,
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    z_loss: f64,
    loss: f64,
    /// Weight of the loss for the experts' balance, and its value: 1 for each layer where all are chosen equally often.
    #[serde(default)]
    balance_weight: f64,
    #[serde(default)]
    balance: f64,
    /// By layer, the number of rows that chose each expert.
    #[serde(default)]
    choices: BTreeMap<usize, Vec<u64>>,
    rows: Vec<usize>,
    logits: Vec<Vec<f32>>,
}

impl Case {
    /// Every token predicts the one after it in its document.
    fn targets(&self) -> Vec<Option<u32>> {
        let ends: Vec<usize> = self
            .lengths
            .iter()
            .scan(0, |row, length| {
                *row += length;
                Some(*row)
            })
            .collect();
        let target = |row: usize| (!ends.contains(&(row + 1))).then(|| self.tokens[row + 1]);
        (0..self.tokens.len()).map(target).collect()
    }

    /// The derivatives of the loss for balance, E · Σ f_e · p_e over the experts e of a layer (f the share of choices, p the mean
    /// probability), by the probabilities of one of `count` rows.
    fn slopes(&self, count: f64) -> BTreeMap<usize, Vec<f32>> {
        let of_layer = |choices: &Vec<u64>| {
            let factor =
                self.balance_weight * choices.len() as f64 / choices.iter().sum::<u64>() as f64 / count;
            choices.iter().map(|chosen| (factor * *chosen as f64) as f32).collect()
        };
        self.choices.iter().map(|(layer, choices)| (*layer, of_layer(choices))).collect()
    }
}

fn assert_near(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what}: all zero");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = f64::from((actual - expected).abs()) / f64::from(largest);
        assert!(error <= TOLERANCE, "{what}, element {index}: {actual} instead of {expected}");
    }
}

/// Row-major elements of a packed gradient.
fn unpacked(gradient: &[f32], shape: ParameterShape) -> Vec<f32> {
    let ParameterShape::Matrix { rows, columns } = shape else { return gradient.to_vec() };
    let at = |row: usize, column: usize| gradient[(row / 16 * columns + column) * 16 + row % 16];
    (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
}

fn logits(case: &Case, config: &ModelConfig, weights: &Weights, options: &LoadOptions) -> Vec<Vec<f32>> {
    let ModelConfig { kv_heads, head_dim, .. } = *config;
    let kv_shape = KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim };
    let cache = KvCache::new(kv_shape, 0).unwrap();
    let shape = forward::attention_shape(config);
    let mut executor = DirectExecutor::new(cache, shape, options.simd, Arc::clone(&options.team)).unwrap();
    executor.begin_packed(&case.lengths, &rope::tables(config)).unwrap();
    let transformer = Transformer { config, weights, adapters: &[] };
    let logits = transformer.logits(&mut executor, &case.tokens, &case.rows).unwrap();
    (0..case.rows.len()).map(|row| logits.row(row).to_vec()).collect()
}

#[test]
fn logits_loss_and_every_gradient_are_those_of_pytorch() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/training.json")).unwrap();
    let file = include_bytes!("golden/training_gradients.safetensors");
    let expected = SafeTensors::deserialize(file).unwrap();
    let mut compared = 0;
    for case in cases {
        let config = from_json(case.config.to_string().as_bytes()).unwrap().config;
        let naming = Naming::of_folder(&config);
        for simd in SimdLevel::available() {
            let load = LoadOptions { simd, team: Arc::new(ThreadTeam::new(2).unwrap()) };
            let weights = golden_model(&config, &load).unwrap();
            for (actual, expected) in logits(&case, &config, &weights, &load).iter().zip(&case.logits) {
                assert_near(actual, expected, &format!("{}, logits", case.name));
            }
            let targets = case.targets();
            let count = targets.iter().flatten().count() as f32;
            let z_loss = case.z_loss as f32;
            let batch =
                TokenBatch { tokens: &case.tokens, document_lengths: &case.lengths, targets: &targets };
            let mut learner = Learner::new(&config, LearnerOptions { load, recompute: false }).unwrap();
            let mut gradients = Gradients::new(&weights.parameter_shapes()).unwrap();
            learner.set_router_slopes(case.slopes(f64::from(count)));
            let row_gradient = |_, score: zhenjin_tensor::TokenScore| ScoreGradient {
                log_probability: -1.0 / count,
                log_sum_exp: 2.0 * z_loss * score.log_sum_exp / count,
            };
            let scores = learner.accumulate(&weights, &batch, &row_gradient, &mut gradients).unwrap();
            let of_row = |score: &zhenjin_tensor::TokenScore| {
                case.z_loss * f64::from(score.log_sum_exp).powi(2) - f64::from(score.log_probability)
            };
            let loss = scores.iter().map(of_row).sum::<f64>() / f64::from(count);
            assert!((loss / case.loss - 1.0).abs() < TOLERANCE, "{}: {loss}, {}", case.name, case.loss);
            let mut balance = 0.0;
            for (layer, statistics) in learner.take_router_statistics() {
                assert_eq!(case.choices.get(&layer), Some(&statistics.choices), "{}", case.name);
                let experts = statistics.choices.len() as f64;
                let chosen: u64 = statistics.choices.iter().sum();
                let products = statistics.choices.iter().zip(&statistics.probabilities);
                let sum: f64 = products.map(|(choices, sum)| *choices as f64 * sum).sum();
                balance += experts * sum / chosen as f64 / statistics.rows as f64;
            }
            assert!((balance - case.balance).abs() < TOLERANCE, "{}: {balance}, {}", case.name, case.balance);
            for (index, (name, _)) in weights.parameters().enumerate() {
                let name = format!("{}/{}", case.name, naming.spell(name));
                let tensor = expected.tensor(&name).unwrap();
                let values: Vec<f32> =
                    tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                let gradient = gradients.get(ParameterId(index as u32));
                assert_near(&unpacked(gradient, gradients.shapes()[index]), &values, &name);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, expected.names().len() * SimdLevel::available().len());
}
