//! Gradients of the learner against finite differences of the forward pass in f64, for every switch of the forward pass; and what
//! must not change a bit: threads, recomputation, other documents.

use std::sync::Arc;

use zhenjin_model::config::{ExpertsConfig, QueryKeyNorm, RopeLayout, SlidingWindow};
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    FeedForward, Learner, LearnerOptions, LoadOptions, ModelConfig, ModelError, NonFiniteOrigin,
    ReferenceLoader, ReferenceTapeLoader, TokenBatch, TokenBatchError, Transformer, Weight, WeightName,
    Weights, rope,
};
use zhenjin_tensor::{
    Dtype, Executor, Gradients, ParameterId, ParameterShape, Pass, ReferenceExecutor, ReferenceTape,
    ReferenceTensor, ScoreGradient, SimdLevel, ThreadTeam, TokenScore,
};

type ReferenceWeights = Weights<ReferenceTensor, Vec<f64>>;

/// Factor of the squared log-sum-exp in the loss.
const Z_LOSS: f64 = 0.03;
const LENGTHS: [usize; 4] = [37, 1, 5, 70];

/// Shapes that between them use every switch of the forward pass.
fn configs() -> Vec<ModelConfig> {
    let qwen3 = ModelConfig { qk_norm: QueryKeyNorm::Heads, ..tiny_config() };
    let mut qwen2 =
        ModelConfig { attention_bias: true, heads: 6, kv_heads: 2, head_dim: 24, ..tiny_config() };
    qwen2.rope.rotary_dim = 24;
    let window = Some(SlidingWindow { positions: 9, layers: vec![1] });
    let mut mistral = ModelConfig { sliding_window: window, tied_embeddings: false, ..tiny_config() };
    mistral.rope.layout = RopeLayout::Interleaved;
    mistral.rope.rotary_dim = 8;
    let all = ModelConfig {
        attention_bias: true,
        attention_output_bias: true,
        feed_forward_bias: true,
        qk_norm: QueryKeyNorm::Heads,
        tied_embeddings: false,
        heads: 3,
        kv_heads: 1,
        vocabulary_size: 77,
        hidden_size: 40,
        intermediate_size: 50,
        sliding_window: Some(SlidingWindow { positions: 40, layers: vec![0, 1] }),
        ..tiny_config()
    };
    let smollm3 = ModelConfig { unrotated_layers: vec![1], ..tiny_config() };
    [vec![tiny_config(), qwen3, qwen2, mistral, all, smollm3], tiny_forms().to_vec()].concat()
}

/// [`configs`], and models with experts: in every layer with normalised weights, and in one of two without.
fn configs_and_mixtures() -> Vec<ModelConfig> {
    let experts = |count, active, intermediate_size, normalise, every| {
        let dense_layers = Vec::new();
        Some(ExpertsConfig { count, active, intermediate_size, normalise, every, dense_layers })
    };
    let qwen3_moe =
        ModelConfig { qk_norm: QueryKeyNorm::Heads, experts: experts(6, 2, 40, true, 1), ..tiny_config() };
    let half = ModelConfig { hidden_size: 40, experts: experts(5, 3, 17, false, 2), ..tiny_config() };
    [configs(), vec![qwen3_moe, half]].concat()
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
            let hash = ((index as u64) << 32 | seed).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let hash = (hash ^ hash >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
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
    executor.begin_packed(&batch.lengths, &rope::tables(config)).unwrap();
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

/// The derivatives of the loss by the logits of every row, in f64.
fn logit_gradients(logits: &ReferenceTensor, batch: &Batch) -> Vec<f64> {
    let of_row = |((row, logits), target): ((usize, &[f64]), &Option<u32>)| -> Vec<f64> {
        let Some(target) = target else { return vec![0.0; logits.len()] };
        let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
        let factor = importance(row) * (1.0 + 2.0 * Z_LOSS * log_sum);
        let mut slopes: Vec<f64> = logits.iter().map(|logit| factor * (logit - log_sum).exp()).collect();
        slopes[*target as usize] -= importance(row);
        slopes
    };
    logits.rows().enumerate().zip(&batch.targets).flat_map(of_row).collect()
}

/// How far an element of a gradient may be from that in f64, as a share of the largest element of the parameter's gradient.
const TOLERANCE: f64 = 1e-5;

#[test]
fn gradients_of_every_parameter_are_near_those_in_f64_at_every_level() {
    for config in configs_and_mixtures() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size, 2);
        let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
        let weights = Weights::load_with(&config, &source, &mut ReferenceTapeLoader).unwrap();
        let mut tape = ReferenceTape::new();
        tape.begin_packed(&batch.lengths, &rope::tables(&config)).unwrap();
        let transformer = Transformer { config: &config, weights: &weights, adapters: &[] };
        let rows: Vec<usize> = (0..batch.tokens.len()).collect();
        let logits = transformer.logits(&mut tape, &batch.tokens, &rows).unwrap();
        let exact = tape.gradients(&logits, &logit_gradients(&logits.value, &batch));
        for simd in SimdLevel::available() {
            let (_, gradients) = learn(&config, &batch, options(simd, 2), false);
            assert_eq!(exact.len(), gradients.len());
            for (index, shape) in gradients.shapes().iter().enumerate() {
                let id = ParameterId(index as u32);
                let actual = unpacked(gradients.get(id), *shape);
                let largest = exact[&id].iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                assert_eq!(actual.len(), exact[&id].len());
                for (element, (actual, exact)) in actual.iter().zip(&exact[&id]).enumerate() {
                    let error = (actual - exact).abs() / largest;
                    assert!(
                        error < TOLERANCE,
                        "parameter {index} {shape:?}, element {element}: {actual} instead of {exact}, {simd}"
                    );
                }
            }
        }
    }
}

fn bits(gradients: &Gradients) -> Vec<Vec<u32>> {
    let of = |id| gradients.get(ParameterId(id)).iter().map(|value| value.to_bits()).collect();
    (0..gradients.len() as u32).map(of).collect()
}

#[test]
fn threads_and_recomputation_do_not_change_a_bit() {
    for config in configs_and_mixtures() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size, 3);
        for simd in SimdLevel::available() {
            let (scores, gradients) = learn(&config, &batch, options(simd, 1), false);
            for (threads, recompute) in [(2, false), (3, false), (1, true), (2, true)] {
                let (same_scores, same) = learn(&config, &batch, options(simd, threads), recompute);
                assert_eq!(same_scores, scores);
                assert!(bits(&same) == bits(&gradients), "{threads} threads, recompute {recompute}, {simd}");
            }
            let load = options(simd, 2);
            let weights = self::load(&config, &load);
            let learner = Learner::new(&config, LearnerOptions { load, recompute: false }).unwrap();
            let mut learner = learner.with_recomputed_layers(1);
            let mut same = Gradients::new(&weights.parameter_shapes()).unwrap();
            let same_scores = learner.accumulate(&weights, &batch.get(), &row_gradient, &mut same).unwrap();
            assert_eq!(same_scores, scores);
            assert!(bits(&same) == bits(&gradients), "one layer recomputed, {simd}");
        }
    }
}

/// Gradients are added to what is there, in another batch's memory as well.
#[test]
fn a_learner_is_used_again_for_batches_of_other_shapes() {
    let load_options = options(SimdLevel::detect(), 2);
    for (config, recompute) in configs_and_mixtures()
        .into_iter()
        .skip(4)
        .flat_map(|config| [(config.clone(), false), (config, true)])
    {
        let weights = load(&config, &load_options);
        let load = load_options.clone();
        let mut learner = Learner::new(&config, LearnerOptions { load, recompute }).unwrap();
        for lengths in [&[50, 3][..], &[7], &[50, 3], &[53]] {
            let batch = Batch::new(lengths, config.vocabulary_size, 5);
            let mut gradients = Gradients::new(&weights.parameter_shapes()).unwrap();
            let scores = learner.accumulate(&weights, &batch.get(), &row_gradient, &mut gradients).unwrap();
            let (expected, expected_gradients) = learn(&config, &batch, load_options.clone(), false);
            assert_eq!(scores, expected);
            assert!(bits(&gradients) == bits(&expected_gradients), "{lengths:?}");
        }
    }
}

/// What is taken out when its layer is finished has all of its bits, and the layers come from the last to the first.
#[test]
fn the_gradients_of_a_finished_layer_are_final() {
    for config in configs() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size, 8);
        let load_options = options(SimdLevel::detect(), 2);
        let weights = load(&config, &load_options);
        let layer_of = |id: usize| match weights.parameters().nth(id) {
            Some((WeightName::Layer(layer, _), _)) => Some(layer),
            _ => None,
        };
        let (_, expected) = learn(&config, &batch, load_options.clone(), false);
        for recomputed_layers in 0..=config.layers {
            let load = load_options.clone();
            let learner = Learner::new(&config, LearnerOptions { load, recompute: false }).unwrap();
            let mut learner = learner.with_recomputed_layers(recomputed_layers);
            let mut gradients = Gradients::new(&weights.parameter_shapes()).unwrap();
            let (mut order, mut taken) = (Vec::new(), Vec::new());
            let mut finished = |layer: usize, gradients: &mut Gradients| {
                order.push(layer);
                for id in (0..gradients.len()).filter(|id| layer_of(*id) == Some(layer)) {
                    let id = ParameterId(id as u32);
                    taken.push((id, gradients.take(id).unwrap()));
                }
            };
            learner
                .accumulate_by_layer(&weights, &batch.get(), &row_gradient, &mut gradients, &mut finished)
                .unwrap();
            assert_eq!(order, (0..config.layers).rev().collect::<Vec<_>>());
            taken.into_iter().for_each(|(id, buffer)| gradients.put(id, buffer));
            assert!(bits(&gradients) == bits(&expected), "{recomputed_layers} layers computed again");
        }
    }
}

#[test]
fn documents_do_not_reach_each_other() {
    for config in configs_and_mixtures() {
        let batch = Batch::new(&LENGTHS, config.vocabulary_size, 6);
        // The loss is that of the last document alone.
        let first = LENGTHS[..3].iter().sum::<usize>();
        let only_last = |mut batch: Batch| {
            batch.targets[..first].fill(None);
            batch
        };
        let mut others = Batch::new(&LENGTHS, config.vocabulary_size, 7);
        others.tokens[first..].copy_from_slice(&batch.tokens[first..]);
        others.targets[first..].copy_from_slice(&batch.targets[first..]);
        assert_ne!(others.tokens[..first], batch.tokens[..first]);
        let (batch, others) = (only_last(batch), only_last(others));
        for simd in SimdLevel::available() {
            let (scores, gradients) = learn(&config, &batch, options(simd, 2), false);
            let (same_scores, same) = learn(&config, &others, options(simd, 2), false);
            assert_eq!(same_scores, scores);
            // AMX sums blocks of 32 rows, and other documents' tokens move an expert's rows to other blocks.
            let rounding = if simd == SimdLevel::Amx && config.experts.is_some() { 1e-6 } else { 0.0 };
            // Matrix gradients are sums over all rows; those of other documents are zero, but not their places.
            for id in 1..gradients.len() as u32 {
                let id = ParameterId(id);
                let largest = gradients.get(id).iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (a, b) in gradients.get(id).iter().zip(same.get(id)) {
                    assert!((a - b).abs() <= rounding * largest, "{simd}, parameter {id:?}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
fn a_batch_without_targets_has_no_gradient() {
    let config = tiny_config();
    let mut batch = Batch::new(&[9, 4], config.vocabulary_size, 1);
    batch.targets.fill(None);
    let (scores, gradients) = learn(&config, &batch, options(SimdLevel::detect(), 2), false);
    assert_eq!(scores, vec![TokenScore::default(); 13]);
    assert_eq!(gradients.squared_norm(&ThreadTeam::new(1).unwrap()), 0.0);
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let config = tiny_config();
    let load = options(SimdLevel::detect(), 1);
    let weights = self::load(&config, &load);
    let mut learner = Learner::new(&config, LearnerOptions { load, recompute: false }).unwrap();
    let good = || Batch::new(&[9, 4], config.vocabulary_size, 1);
    let mut refuse = |change: &dyn Fn(&mut Batch), expected: TokenBatchError| {
        let mut batch = good();
        change(&mut batch);
        match learner.score(&weights, &batch.get()) {
            Err(ModelError::TokenBatch(error)) => assert_eq!(error, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    };
    let unknown = |what, row| TokenBatchError::UnknownToken { what, row, token: 96, vocabulary_size: 96 };
    refuse(&|batch| batch.lengths[1] = 5, TokenBatchError::Rows { tokens: 13, targets: 13, rows: 14 });
    refuse(&|batch| batch.targets.push(None), TokenBatchError::Rows { tokens: 13, targets: 14, rows: 13 });
    refuse(&|batch| batch.tokens[3] = 96, unknown("token", 3));
    refuse(&|batch| batch.targets[12] = Some(96), unknown("target", 12));
    let long = |batch: &mut Batch| *batch = Batch::new(&[3, 513], 96, 1);
    let expected = TokenBatchError::DocumentTooLong { document: 1, length: 513, context_length: 512 };
    refuse(&long, expected);
    assert!(learner.score(&weights, &good().get()).is_ok());
}

#[test]
fn a_number_that_is_not_finite_is_traced_to_its_operation_and_layer() {
    let config = configs()[4].clone();
    let load_options = options(SimdLevel::detect(), 2);
    let batch = Batch::new(&LENGTHS, config.vocabulary_size, 1);
    for recompute in [false, true] {
        let options = LearnerOptions { load: load_options.clone(), recompute };
        let mut learner = Learner::new(&config, options).unwrap();
        let mut find = |weights: &Weights, gradient: &(dyn Fn(usize, TokenScore) -> ScoreGradient + Sync)| {
            let mut gradients = Gradients::new(&weights.parameter_shapes()).unwrap();
            learner.find_non_finite(weights, &batch.get(), gradient, &mut gradients).unwrap()
        };
        let mut weights = load(&config, &load_options);
        assert_eq!(find(&weights, &row_gradient), None);
        // A finite weight so large that its product is infinite.
        let FeedForward::Dense { up, .. } = &mut weights.layers[1].feed_forward else { unreachable!() };
        up.matrix.f32_packed_mut().unwrap()[5..2000].fill(3e38);
        match find(&weights, &row_gradient) {
            Some(NonFiniteOrigin::Operation(found)) => {
                assert_eq!((found.pass, found.operation, found.layer), (Pass::Forward, "linear", Some(1)));
            }
            other => panic!("{other:?}"),
        }
        let mut weights = load(&config, &load_options);
        let FeedForward::Dense { gate, .. } = &mut weights.layers[0].feed_forward else { unreachable!() };
        gate.bias.as_mut().unwrap()[3] = f32::NAN;
        let found = find(&weights, &row_gradient).unwrap();
        assert!(matches!(found, NonFiniteOrigin::Parameter(_, 3)), "{found:?}");
        // The loss itself gives an infinite derivative.
        let weights = load(&config, &load_options);
        let infinite = |row: usize, score| match row {
            5 => ScoreGradient { log_probability: f32::INFINITY, log_sum_exp: 0.0 },
            _ => row_gradient(row, score),
        };
        match find(&weights, &infinite) {
            Some(NonFiniteOrigin::Operation(found)) => {
                assert_eq!((found.pass, found.operation, found.layer), (Pass::Backward, "head", None));
            }
            other => panic!("{other:?}"),
        }
    }
}
