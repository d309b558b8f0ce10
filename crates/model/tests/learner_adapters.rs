//! Adapters and value heads that learn: gradients against the rules in f64, over bases in f32 and quantised; what must not change
//! a bit; losses of all scores; what nothing learns through costs nothing.

use std::sync::Arc;

use zhenjin_model::config::{QueryKeyNorm, RopeLayout};
use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config, tiny_forms, tiny_phi};
use zhenjin_model::write::{FloatType, write_hugging_face};
use zhenjin_model::{
    Adapter, AdapterMerge, AdapterRows, Learned, Learner, LearnerOptions, LoadOptions, MergedRows,
    ModelConfig, ReferenceLoader, ReferenceTapeLoader, TokenBatch, Transformer, Weights, rope,
};
use zhenjin_tensor::{
    Dtype, Executor, Gradients, ParameterId, ParameterShape, Projection, ReferenceExecutor,
    ReferenceParameter, ReferenceTape, ReferenceTensor, ScoreGradient, SimdLevel, ThreadTeam, TokenScore,
    Vector,
};

const LENGTHS: [usize; 3] = [29, 1, 40];
const RANK: usize = 5;

fn families() -> Vec<ModelConfig> {
    let qwen3 = ModelConfig { qk_norm: QueryKeyNorm::Heads, layers: 3, ..tiny_config() };
    let qwen2 = ModelConfig { attention_bias: true, kv_heads: 1, ..tiny_config() };
    let mut mistral = ModelConfig { tied_embeddings: false, ..tiny_config() };
    mistral.rope.layout = RopeLayout::Interleaved;
    vec![tiny_config(), qwen3, qwen2, mistral]
}

/// [`families`], and models with other forms of a layer.
fn configs() -> Vec<ModelConfig> {
    families().into_iter().chain(tiny_forms()).collect()
}

fn options(simd: SimdLevel, threads: usize) -> LoadOptions {
    LoadOptions { simd, team: Arc::new(ThreadTeam::new(threads).unwrap()) }
}

struct Model {
    config: ModelConfig,
    weights: Weights,
    adapter: Adapter,
    head: Vector,
    options: LoadOptions,
}

impl Model {
    fn new(config: &ModelConfig, dtype: Dtype, options: LoadOptions) -> Model {
        let source = RandomWeights::new(config.clone(), dtype, 3);
        let weights = Weights::load(config, &source, &options).unwrap();
        let first = weights.parameters().count();
        let adapter = random_adapter(config, RANK, 9).pack(options.simd, &options.team).unwrap();
        let adapter = adapter.with_parameters(first);
        let behind = first + adapter.parameters().count();
        let values: Vec<f32> =
            (0..config.hidden_size).map(|index| ((index * 37 % 19) as f32 - 9.0) / 40.0).collect();
        let head = Vector::from(values).with_parameter(ParameterId(behind as u32));
        Model { config: config.clone(), weights, adapter, head, options }
    }

    fn parameters(&self) -> Learned<'_> {
        Learned::from(&self.weights).with_adapter(Some(&self.adapter)).with_values(Some(&self.head))
    }

    /// The number of the first parameter behind the weights.
    fn first(&self) -> ParameterId {
        ParameterId(self.weights.parameters().count() as u32)
    }

    fn learner(&self, recompute: bool) -> Learner {
        Learner::new(&self.config, LearnerOptions { load: self.options.clone(), recompute }).unwrap()
    }

    /// Room for the gradients of what is behind the weights.
    fn gradients(&self) -> Gradients {
        let first = self.first();
        Gradients::of_some(&self.parameters().parameter_shapes(), |id| id >= first).unwrap()
    }
}

struct Batch {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    targets: Vec<Option<u32>>,
}

impl Batch {
    fn new(lengths: &[usize], vocabulary_size: usize) -> Batch {
        let rows: usize = lengths.iter().sum();
        let number = |index: usize| {
            let hash = (index as u64 + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((hash ^ hash >> 29) >> 33) as u32 % vocabulary_size as u32
        };
        let target = |row: usize| (row % 7 != 3).then(|| number(row + 1));
        Batch {
            tokens: (0..rows).map(number).collect(),
            lengths: lengths.to_vec(),
            targets: (0..rows).map(target).collect(),
        }
    }

    fn get(&self) -> TokenBatch<'_> {
        TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.targets }
    }
}

/// −Σ importance · log-probability.
fn importance(row: usize) -> f32 {
    0.5 + (row % 5) as f32 / 4.0
}

fn row_gradient(row: usize, _: TokenScore) -> ScoreGradient {
    ScoreGradient { log_probability: -importance(row), log_sum_exp: 0.0 }
}

fn learn(model: &Model, batch: &Batch, recompute: bool) -> (Vec<TokenScore>, Gradients) {
    let mut learner = model.learner(recompute);
    let mut gradients = model.gradients();
    let scores = learner.accumulate(model.parameters(), &batch.get(), &row_gradient, &mut gradients).unwrap();
    assert_eq!(learner.score(model.parameters(), &batch.get()).unwrap(), scores);
    (scores, gradients)
}

fn unpacked(gradient: &[f32], shape: ParameterShape) -> Vec<f64> {
    let ParameterShape::Matrix { rows, columns } = shape else {
        panic!("only matrices are behind the weights")
    };
    let at = |row: usize, column: usize| (row / 16 * columns + column) * 16 + row % 16;
    let elements = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    elements.map(|(row, column)| f64::from(gradient[at(row, column)])).collect()
}

fn bits(gradients: &Gradients) -> Vec<Vec<u32>> {
    let of = |id| gradients.get(ParameterId(id)).iter().map(|value| value.to_bits()).collect();
    (0..gradients.len() as u32).map(of).collect()
}

/// The model's adapter as parameters in f64.
fn exact_adapter(model: &Model) -> Adapter<ReferenceParameter<ReferenceTensor>> {
    let mut next = model.first().0;
    model
        .adapter
        .values(&model.config)
        .unwrap()
        .load(|values, [_, columns]| {
            next += 1;
            let values = values.iter().map(|value| f64::from(*value)).collect();
            let value = ReferenceTensor { width: columns, values };
            Ok((ReferenceParameter { id: ParameterId(next - 1), value }, 0))
        })
        .unwrap()
}

/// The largest distance of an adapter's gradients from those in f64 over the dequantised weights, as a share of the largest
/// element of a parameter's gradient.
fn distance_from_f64(config: &ModelConfig, dtype: Dtype, simd: SimdLevel) -> f64 {
    let model = Model::new(config, dtype, options(simd, 2));
    let batch = Batch::new(&LENGTHS, config.vocabulary_size);
    let source = RandomWeights::new(config.clone(), dtype, 3);
    let weights = Weights::load_with(config, &source, &mut ReferenceTapeLoader).unwrap();
    let adapter = exact_adapter(&model);
    let rows: Vec<usize> = (0..batch.tokens.len()).collect();
    let adapters = [AdapterRows { rows: 0..rows.len(), adapter: &adapter }];
    let mut tape = ReferenceTape::new();
    tape.begin_packed(&batch.lengths, &rope::tables(config)).unwrap();
    let transformer = Transformer { config, weights: &weights, adapters: &adapters };
    let logits = transformer.logits(&mut tape, &batch.tokens, &rows).unwrap();
    let slopes = |((row, logits), target): ((usize, &[f64]), &Option<u32>)| -> Vec<f64> {
        let Some(target) = target else { return vec![0.0; logits.len()] };
        let (sum, weight) = (logits.iter().map(|logit| logit.exp()).sum::<f64>(), f64::from(importance(row)));
        let mut slopes: Vec<f64> = logits.iter().map(|logit| weight * logit.exp() / sum).collect();
        slopes[*target as usize] -= weight;
        slopes
    };
    let slopes: Vec<f64> = logits.value.rows().enumerate().zip(&batch.targets).flat_map(slopes).collect();
    let exact = tape.gradients(&logits, &slopes);
    let (_, gradients) = learn(&model, &batch, false);
    let first = model.first().0;
    let mut furthest = 0.0f64;
    for (id, _) in (first..).zip(model.adapter.parameters()) {
        let (shape, exact) = (gradients.shapes()[id as usize], &exact[&ParameterId(id)]);
        let actual = unpacked(gradients.get(ParameterId(id)), shape);
        let largest = exact.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        assert!(largest > 0.0 && actual.len() == exact.len());
        let far = |(actual, exact): (&f64, &f64)| (actual - exact).abs() / largest;
        furthest = actual.iter().zip(exact).map(far).fold(furthest, f64::max);
    }
    assert!((0..first).all(|id| gradients.get(ParameterId(id)).is_empty()));
    furthest
}

#[test]
fn gradients_of_every_adapter_matrix_are_near_those_in_f64_at_every_level() {
    for config in configs() {
        for simd in SimdLevel::available() {
            let distance = distance_from_f64(&config, Dtype::F32, simd);
            assert!(distance < 2e-5, "{distance}, {simd}: {config:?}");
        }
    }
}

/// The way back is the derivative of the products with the dequantised weights. The forward pass computes with activations in 8
/// bits, which moves what the derivatives are taken at by about a hundredth; floats of 16 bits have no such error.
#[test]
fn gradients_over_a_frozen_base_of_other_types_are_those_over_its_dequantised_weights() {
    for (dtype, bound) in
        [(Dtype::Q8_0, 0.1), (Dtype::Q4_0, 0.1), (Dtype::Q4_1, 0.1), (Dtype::F16, 1e-4), (Dtype::Bf16, 1e-4)]
    {
        // Rounded activations move what other forms of a layer compute further.
        let configs = if dtype.is_quantised() { families() } else { configs() };
        for config in configs {
            let distance = distance_from_f64(&config, dtype, SimdLevel::detect());
            assert!(distance < bound, "{distance}, {dtype}: {config:?}");
        }
    }
}

#[test]
fn threads_recomputation_and_a_loss_of_all_scores_do_not_change_a_bit() {
    for config in configs() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size);
        let at_levels = |dtype| SimdLevel::available().into_iter().map(move |simd| (dtype, simd));
        for (dtype, simd) in [Dtype::F32, Dtype::Q4_1].into_iter().flat_map(at_levels) {
            let of = |threads, recompute| {
                learn(&Model::new(&config, dtype, options(simd, threads)), &batch, recompute)
            };
            let (scores, gradients) = of(1, false);
            for (threads, recompute) in [(2, false), (3, false), (1, true), (2, true)] {
                let (same_scores, same) = of(threads, recompute);
                assert_eq!(same_scores, scores);
                let what = format!("{threads} threads, recompute {recompute}, {dtype}, {simd}");
                assert!(bits(&same) == bits(&gradients), "{what}");
            }
            let model = Model::new(&config, dtype, options(simd, 2));
            let mut same = model.gradients();
            let mut asked = 0;
            let mut loss = |found: &[TokenScore]| {
                asked += 1;
                assert_eq!(found, scores);
                found.iter().enumerate().map(|(row, score)| row_gradient(row, *score)).collect()
            };
            let (parameters, get) = (model.parameters(), batch.get());
            model.learner(true).accumulate_together(parameters, &get, &mut loss, &mut same).unwrap();
            assert_eq!(asked, 1);
            assert_near(&same, &gradients);
            let model = Model::new(&config, dtype, options(simd, 1));
            let mut loss = |found: &[TokenScore]| {
                found.iter().enumerate().map(|(row, score)| row_gradient(row, *score)).collect()
            };
            let mut by_one_thread = model.gradients();
            let outcome = model.learner(false).accumulate_together(
                model.parameters(),
                &get,
                &mut loss,
                &mut by_one_thread,
            );
            assert_eq!(outcome.unwrap(), scores);
            assert!(bits(&by_one_thread) == bits(&same), "{dtype}, {simd}");
        }
    }
}

/// The gradients of a frozen head's input are multiplied with their slopes at the end, which rounds in another place.
fn assert_near(actual: &Gradients, expected: &Gradients) {
    for id in (0..expected.len() as u32).map(ParameterId) {
        let (actual, expected) = (actual.get(id), expected.get(id));
        assert_eq!(actual.len(), expected.len());
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let differs = |(one, other): (&f32, &f32)| (one - other).abs() > 1e-5 * largest;
        assert!(!actual.iter().zip(expected).any(differs), "parameter {}", id.0);
    }
}

/// More rows than a piece of logits has. A head that learns is computed a second time, and the bits are the same.
#[test]
fn a_loss_of_all_scores_has_the_same_gradients_over_many_pieces_of_logits() {
    let config = ModelConfig { layers: 1, ..tiny_config() };
    let batch = Batch::new(&[200, 150, 333], config.vocabulary_size);
    let model = Model::new(&config, Dtype::F32, options(SimdLevel::detect(), 2));
    let (scores, gradients) = learn(&model, &batch, false);
    let mut same = model.gradients();
    let mut loss = |found: &[TokenScore]| {
        assert_eq!(found, scores);
        found.iter().enumerate().map(|(row, score)| row_gradient(row, *score)).collect()
    };
    let (parameters, get) = (model.parameters(), batch.get());
    model.learner(false).accumulate_together(parameters, &get, &mut loss, &mut same).unwrap();
    assert_near(&same, &gradients);
    let all = || Gradients::new(&parameters.parameter_shapes()).unwrap();
    let (mut apart, mut together) = (all(), all());
    model.learner(false).accumulate(parameters, &get, &row_gradient, &mut apart).unwrap();
    model.learner(false).accumulate_together(parameters, &get, &mut loss, &mut together).unwrap();
    assert!(bits(&together) == bits(&apart));
}

#[test]
fn packed_documents_with_an_adapter_score_as_each_alone() {
    for config in configs() {
        let model = Model::new(&config, Dtype::F32, options(SimdLevel::detect(), 2));
        let batch = Batch::new(&LENGTHS, config.vocabulary_size);
        let (scores, _) = learn(&model, &batch, false);
        let mut first = 0;
        for length in LENGTHS {
            let rows = first..first + length;
            let alone = Batch {
                tokens: batch.tokens[rows.clone()].to_vec(),
                lengths: vec![length],
                targets: batch.targets[rows.clone()].to_vec(),
            };
            assert_eq!(learn(&model, &alone, true).0, scores[rows]);
            first += length;
        }
    }
}

/// Only one matrix learns, high up: its gradient has the bits that it has beside all others.
#[test]
fn what_learns_beside_a_parameter_does_not_change_its_gradient() {
    for config in configs() {
        let model = Model::new(&config, Dtype::F32, options(SimdLevel::detect(), 2));
        let batch = Batch::new(&LENGTHS, config.vocabulary_size);
        let mut all = Gradients::new(&model.parameters().parameter_shapes()).unwrap();
        let parameters = model.parameters();
        let get = batch.get();
        model.learner(false).accumulate(parameters, &get, &row_gradient, &mut all).unwrap();
        let last = all.len() - 1;
        for only in (0..last).rev().step_by(3) {
            for recompute in [false, true] {
                let mut some =
                    Gradients::of_some(&model.parameters().parameter_shapes(), |id| id.0 as usize == only)
                        .unwrap();
                let outcome = model.learner(recompute).accumulate(parameters, &get, &row_gradient, &mut some);
                outcome.unwrap();
                let id = ParameterId(only as u32);
                assert!(some.get(id) == all.get(id), "parameter {only}, recompute {recompute}");
            }
        }
    }
}

/// Σ importance · value² / 2 in f64.
fn value_loss(model: &Model, rows: &[usize], batch: &Batch, head: &[f64]) -> f64 {
    let config = &model.config;
    let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
    let weights = Weights::load_with(config, &source, &mut ReferenceLoader).unwrap();
    let adapter = model.adapter.values(config).unwrap().load(|values, [_, width]| {
        Ok((ReferenceTensor { width, values: values.iter().map(|value| f64::from(*value)).collect() }, 0))
    });
    let adapter = adapter.unwrap();
    let adapters = [AdapterRows { rows: 0..batch.tokens.len(), adapter: &adapter }];
    let mut executor = ReferenceExecutor::new();
    executor.begin_packed(&batch.lengths, &rope::tables(config)).unwrap();
    let transformer = Transformer { config, weights: &weights, adapters: &adapters };
    let hidden = transformer.hidden_states(&mut executor, &batch.tokens, rows).unwrap();
    let normalised = transformer.final_norm(&mut executor, &hidden).unwrap();
    let matrix = ReferenceTensor { width: head.len(), values: head.to_vec() };
    let projection = Projection { matrix: &matrix, bias: None, additions: &[] };
    let [values] = executor.linear(normalised, [projection]).unwrap();
    values
        .values
        .iter()
        .enumerate()
        .map(|(row, value)| f64::from(importance(row)) * value * value / 2.0)
        .sum()
}

#[test]
fn gradients_of_values_are_near_finite_differences_in_f64() {
    for config in configs() {
        let model = Model::new(&config, Dtype::F32, options(SimdLevel::detect(), 2));
        let batch = Batch::new(&LENGTHS, config.vocabulary_size);
        let rows = [3, 28, 29, 50, 69];
        let mut targets = vec![None; batch.tokens.len()];
        rows.iter().for_each(|row| targets[*row] = Some(0));
        let of = TokenBatch { tokens: &batch.tokens, document_lengths: &batch.lengths, targets: &targets };
        let mut gradients = model.gradients();
        let mut loss =
            |values: &[f32]| values.iter().enumerate().map(|(row, value)| importance(row) * value).collect();
        let values = model
            .learner(false)
            .accumulate_values(model.parameters(), &of, &mut loss, &mut gradients)
            .unwrap();
        assert_eq!(model.learner(true).values(model.parameters(), &of).unwrap(), values);
        let id = ParameterId(gradients.len() as u32 - 1);
        let slopes: Vec<f64> = gradients.get(id).iter().map(|value| f64::from(*value)).collect();
        let head: Vec<f64> = model.head.iter().map(|value| f64::from(*value)).collect();
        let norm = slopes.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        let moved = |step: f64| -> Vec<f64> {
            head.iter().zip(&slopes).map(|(weight, slope)| weight + step * slope / norm).collect()
        };
        let loss_at = |step| value_loss(&model, &rows, &batch, &moved(step));
        let slope = (loss_at(1e-4) - loss_at(-1e-4)) / 2e-4;
        assert!((slope / norm - 1.0).abs() < 2e-5, "{slope} instead of {norm}");
        let adapter_norm: f64 = (model.first().0..id.0)
            .flat_map(|id| gradients.get(ParameterId(id)))
            .map(|value| f64::from(*value).powi(2))
            .sum();
        assert!(adapter_norm > 0.0);
    }
}

#[test]
fn merged_weights_score_as_the_adapter_does() {
    // Both layouts of query and key rows and fused projections, in families that a config.json can name.
    for config in [configs()[0].clone(), configs()[3].clone(), tiny_phi()] {
        let mut model = Model::new(&config, Dtype::F32, options(SimdLevel::detect(), 2));
        let batch = Batch::new(&LENGTHS, config.vocabulary_size);
        // As small as after a few steps of training.
        for (_, matrix) in model.adapter.parameters_mut().enumerate().filter(|(index, _)| index % 2 == 1) {
            matrix.f32_packed_mut().unwrap().iter_mut().for_each(|value| *value *= 0.02);
        }
        let values = model.adapter.values(&config).unwrap();
        let furthest = |a: &[TokenScore], b: &[TokenScore]| {
            let distance = |(a, b): (&TokenScore, &TokenScore)| (a.log_probability - b.log_probability).abs();
            a.iter().zip(b).map(distance).fold(0.0, f32::max)
        };
        let mut learner = model.learner(false);
        let adapted = learner.score(model.parameters(), &batch.get()).unwrap();
        let base = learner.score(&model.weights, &batch.get()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("merged");
        let merge = AdapterMerge::from(values.clone());
        let rows = MergedRows::new(&model.weights, &merge);
        write_hugging_face(&path, &config, &rows, FloatType::F32, &[], &[]).unwrap();
        values.merge_into(&mut model.weights).unwrap();
        let merged = learner.score(&model.weights, &batch.get()).unwrap();
        assert!(furthest(&merged, &adapted) <= 1e-5, "{}", furthest(&merged, &adapted));
        assert!(furthest(&merged, &base) > 0.01, "{}", furthest(&merged, &base));
        let written = zhenjin_model::Model::load(&path, &model.options).unwrap();
        let again = learner.score(&model.weights, &batch.get()).unwrap();
        let read =
            Learner::new(&written.config, LearnerOptions { load: model.options.clone(), recompute: false });
        let read = read.unwrap().score(&written.weights, &batch.get()).unwrap();
        assert!(furthest(&read, &again) <= 1e-5);
    }
}
