//! Documents of a batch that begin alike: what they share is computed once, with the bits of each document alone.

use std::sync::Arc;

use zhenjin_model::config::{QueryKeyNorm, RopeLayout};
use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config, tiny_forms};
use zhenjin_model::{
    Adapter, Learned, Learner, LearnerOptions, LoadOptions, ModelConfig, TokenBatch, Weights,
};
use zhenjin_tensor::{
    Dtype, Gradients, ParameterId, ScoreGradient, SimdLevel, ThreadTeam, TokenScore, Vector,
};

fn configs() -> Vec<ModelConfig> {
    let qwen3 = ModelConfig { qk_norm: QueryKeyNorm::Heads, layers: 3, ..tiny_config() };
    let qwen2 = ModelConfig { attention_bias: true, kv_heads: 1, ..tiny_config() };
    let mut mistral = ModelConfig { tied_embeddings: false, ..tiny_config() };
    mistral.rope.layout = RopeLayout::Interleaved;
    [vec![tiny_config(), qwen3, qwen2, mistral], tiny_forms().to_vec()].concat()
}

/// All of them with the processor's best instructions, the first at every level.
fn configs_and_levels() -> Vec<(ModelConfig, SimdLevel)> {
    let best = configs().into_iter().map(|config| (config, SimdLevel::detect()));
    let others = SimdLevel::available().into_iter().filter(|simd| *simd != SimdLevel::detect());
    best.chain(others.map(|simd| (tiny_config(), simd))).collect()
}

struct Model {
    config: ModelConfig,
    weights: Weights,
    adapter: Option<Adapter>,
    head: Vector,
    options: LoadOptions,
}

impl Model {
    /// With an adapter, only it and the head for values learn.
    fn new(config: &ModelConfig, dtype: Dtype, with_adapter: bool, simd: SimdLevel, threads: usize) -> Model {
        let team = Arc::new(ThreadTeam::new(threads).unwrap());
        let options = LoadOptions { simd, team };
        let weights = Weights::load(config, &RandomWeights::new(config.clone(), dtype, 3), &options).unwrap();
        let first = weights.parameters().count();
        let pack = || random_adapter(config, 5, 9).pack(options.simd, &options.team).unwrap();
        let adapter = with_adapter.then(|| pack().with_parameters(first));
        let behind = first + adapter.as_ref().map_or(0, |adapter| adapter.parameters().count());
        let values: Vec<f32> =
            (0..config.hidden_size).map(|index| ((index * 37 % 19) as f32 - 9.0) / 40.0).collect();
        let head = Vector::from(values).with_parameter(ParameterId(behind as u32));
        Model { config: config.clone(), weights, adapter, head, options }
    }

    fn parameters(&self) -> Learned<'_> {
        Learned::from(&self.weights).with_adapter(self.adapter.as_ref()).with_values(Some(&self.head))
    }

    fn learner(&self, recompute: bool, shares: bool) -> Learner {
        let options = LearnerOptions { load: self.options.clone(), recompute };
        let learner = Learner::new(&self.config, options).unwrap();
        if shares { learner.with_shared_beginnings() } else { learner }
    }

    fn gradients(&self) -> Gradients {
        let first = self.weights.parameters().count() as u32;
        let learns = |id: ParameterId| self.adapter.is_none() || id.0 >= first;
        Gradients::of_some(&self.parameters().parameter_shapes(), learns).unwrap()
    }
}

struct Batch {
    tokens: Vec<u32>,
    lengths: Vec<usize>,
    targets: Vec<Option<u32>>,
}

impl Batch {
    /// Prompts, some longer than a page of keys or just as long, each with several answers; and a document that is another's beginning, one
    /// that stands twice, and one that has nothing in common with any.
    fn new(vocabulary_size: usize) -> Batch {
        let token = |index: usize| {
            let hash = (index as u64 + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((hash ^ hash >> 29) >> 33) as u32 % vocabulary_size as u32
        };
        let text = |seed: usize, length: usize| (0..length).map(move |place| token(1000 * seed + place));
        let mut batch = Batch { tokens: Vec::new(), lengths: Vec::new(), targets: Vec::new() };
        let mut add = |prompt: usize, answer: Vec<u32>| {
            let document: Vec<u32> = text(0, 3).chain(text(1 + prompt, prompt)).chain(answer).collect();
            let next = document.iter().skip(1).map(|token| Some(*token)).chain([None]);
            batch.targets.extend(next.enumerate().map(|(row, next)| next.filter(|_| row >= prompt + 2)));
            batch.lengths.push(document.len());
            batch.tokens.extend(document);
        };
        for prompt in [37, 29, 61, 5, 0] {
            for answer in 0..3 {
                add(prompt, text(100 + answer, 9 + 13 * answer).collect());
            }
        }
        add(37, Vec::new());
        // Goes on as an answer that the batch has, and leaves it in the middle.
        add(37, text(102, 20).chain(text(200, 9)).collect());
        add(37, text(102, 20).chain(text(200, 9)).collect());
        add(37, text(102, 20).chain(text(200, 5)).chain(text(300, 40)).collect());
        batch.lengths.push(7);
        batch.tokens.extend(text(400, 7));
        batch.targets.extend(text(401, 7).map(Some));
        batch
    }

    fn get(&self) -> TokenBatch<'_> {
        TokenBatch { tokens: &self.tokens, document_lengths: &self.lengths, targets: &self.targets }
    }
}

fn slope(row: usize) -> f32 {
    (row % 11) as f32 / 4.0 - 1.0
}

fn row_gradient(row: usize, score: TokenScore) -> ScoreGradient {
    ScoreGradient { log_probability: slope(row), log_sum_exp: 0.01 * score.log_sum_exp }
}

/// Scores and values, and the gradients of a loss of each.
fn learn(
    model: &Model,
    batch: &Batch,
    recompute: bool,
    shares: bool,
) -> (Vec<TokenScore>, Vec<f32>, Gradients) {
    let mut learner = model.learner(recompute, shares);
    let mut gradients = model.gradients();
    let (parameters, get) = (model.parameters(), batch.get());
    let scores = learner.accumulate(parameters, &get, &row_gradient, &mut gradients).unwrap();
    assert_eq!(learner.score(parameters, &get).unwrap(), scores);
    let mut of_all = |found: &[TokenScore]| {
        assert_eq!(found, scores);
        found.iter().enumerate().map(|(row, score)| row_gradient(row, *score)).collect()
    };
    let together = learner.accumulate_together(parameters, &get, &mut of_all, &mut gradients).unwrap();
    assert_eq!(together, scores);
    let mut of_values = |found: &[f32]| (0..found.len()).map(slope).collect();
    let values = learner.accumulate_values(parameters, &get, &mut of_values, &mut gradients).unwrap();
    assert_eq!(learner.values(parameters, &get).unwrap(), values);
    (scores, values, gradients)
}

fn bits(gradients: &Gradients) -> Vec<Vec<u32>> {
    let of = |id| gradients.get(ParameterId(id)).iter().map(|value| value.to_bits()).collect();
    (0..gradients.len() as u32).map(of).collect()
}

#[test]
fn what_documents_share_has_the_bits_of_each_alone_and_the_sum_of_their_gradients() {
    for (config, simd) in configs_and_levels() {
        let batch = Batch::new(config.vocabulary_size);
        for (dtype, with_adapter) in [(Dtype::F32, true), (Dtype::Q4_1, true), (Dtype::F32, false)] {
            let model = Model::new(&config, dtype, with_adapter, simd, 2);
            let (scores, values, gradients) = learn(&model, &batch, false, false);
            let (same_scores, same_values, shared) = learn(&model, &batch, false, true);
            assert_eq!(same_scores, scores, "{dtype}, {with_adapter}, {simd}");
            assert_eq!(same_values, values, "{dtype}, {with_adapter}, {simd}");
            for id in (0..gradients.len() as u32).map(ParameterId) {
                let (expected, actual) = (gradients.get(id), shared.get(id));
                assert_eq!(expected.len(), actual.len());
                let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                for (expected, actual) in expected.iter().zip(actual) {
                    let distance = (expected - actual).abs() / largest;
                    assert!(distance < 1e-5 || largest == 0.0, "{actual}, not {expected}: {dtype}");
                }
            }
        }
    }
}

#[test]
fn threads_and_recomputation_do_not_change_a_bit_of_shared_rows() {
    for (config, simd) in configs_and_levels() {
        let batch = Batch::new(config.vocabulary_size);
        for dtype in [Dtype::F32, Dtype::Q4_1] {
            let expected = bits(&learn(&Model::new(&config, dtype, true, simd, 1), &batch, false, true).2);
            for (threads, recompute) in [(2, false), (3, false), (1, true), (2, true)] {
                let model = Model::new(&config, dtype, true, simd, threads);
                let actual = bits(&learn(&model, &batch, recompute, true).2);
                assert!(actual == expected, "{threads} threads, recompute {recompute}, {dtype}, {simd}");
            }
        }
    }
}

/// Fewer rows are computed, so less memory is taken.
#[test]
fn shared_rows_take_no_memory() {
    let config = tiny_config();
    let model = Model::new(&config, Dtype::F32, true, SimdLevel::detect(), 1);
    let documents = 32;
    let tokens: Vec<u32> = (0..documents).flat_map(|document| (0..63).chain([document + 1])).collect();
    let batch = Batch {
        targets: tokens.iter().map(|token| Some(*token)).collect(),
        lengths: vec![64; documents as usize],
        tokens,
    };
    let taken = |shares: bool| {
        let mut learner = model.learner(false, shares);
        let row_gradient = |row, _| ScoreGradient { log_probability: slope(row), log_sum_exp: 0.0 };
        learner.accumulate(model.parameters(), &batch.get(), &row_gradient, &mut model.gradients()).unwrap();
        learner.workspace_bytes_taken()
    };
    assert!(2 * taken(true) < taken(false), "{} and {}", taken(true), taken(false));
}
