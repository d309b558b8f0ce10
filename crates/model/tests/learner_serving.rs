//! For weights in f32, what is trained is what is served: log-probabilities of the runner, over chunks of sequences in pages,
//! and of the learner, over packed documents, have the same bits.

use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::config::{QueryKeyNorm, RopeLayout, SlidingWindow};
use zhenjin_model::testing::{RandomWeights, random_adapter, tiny_config, tiny_forms};
use zhenjin_model::{
    Adapter, Learned, Learner, LearnerOptions, LoadOptions, Model, ModelConfig, PAGE_TOKENS, PageId, Runner,
    RunnerOptions, Scoring, SequenceChunk, TokenBatch,
};
use zhenjin_tensor::{Dtype, Gradients, KvDtype, ScoreGradient, SimdLevel, ThreadTeam, TokenScore};

const PAGES: usize = 5;
const LONGEST: usize = PAGES * PAGE_TOKENS;
const SEQUENCES: usize = 4;
/// More than one of the parts in which ln Σ e^logit is summed, and no multiple of a tile.
const VOCABULARY: usize = 1_101;
/// Outputs that the tokenizer has.
const USABLE: usize = 1_090;

fn configs() -> Vec<ModelConfig> {
    let tiny = ModelConfig { vocabulary_size: VOCABULARY, ..tiny_config() };
    let qwen3 = ModelConfig { qk_norm: QueryKeyNorm::Heads, heads: 6, kv_heads: 2, ..tiny.clone() };
    let qwen2 = ModelConfig { attention_bias: true, kv_heads: 1, ..tiny.clone() };
    let window = Some(SlidingWindow { positions: 37, layers: vec![1] });
    let mut mistral =
        ModelConfig { sliding_window: window, tied_embeddings: false, head_dim: 24, ..tiny.clone() };
    mistral.rope.layout = RopeLayout::Interleaved;
    mistral.rope.rotary_dim = 24;
    let forms = tiny_forms().map(|form| ModelConfig { vocabulary_size: VOCABULARY, ..form });
    [vec![tiny, qwen3, qwen2, mistral], forms.to_vec()].concat()
}

fn team(threads: usize) -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(threads).unwrap())
}

/// Sequences, how a server advances them, and how a trainer packs them.
#[derive(Clone, Debug)]
struct Case {
    lengths: Vec<usize>,
    /// Which sequences advance in a step (bits), and by how much.
    steps: Vec<(u8, [usize; SEQUENCES])>,
    page_order: Vec<u32>,
    packing: Vec<usize>,
    threads: usize,
    seed: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let portion = prop_oneof![3 => Just(1usize), 2 => 2usize..40, 1 => 40usize..LONGEST];
    let portions = [portion.clone(), portion.clone(), portion.clone(), portion];
    (
        prop::collection::vec(2..=LONGEST, SEQUENCES),
        prop::collection::vec((1u8..16, portions), 1..10),
        Just((0..(SEQUENCES * PAGES) as u32).collect::<Vec<_>>()).prop_shuffle(),
        Just((0..SEQUENCES).collect::<Vec<_>>()).prop_shuffle(),
        1usize..=3,
        any::<u32>(),
    )
        .prop_map(|(lengths, steps, page_order, packing, threads, seed)| Case {
            lengths,
            steps,
            page_order,
            packing,
            threads,
            seed,
        })
}

fn tokens(case: &Case) -> Vec<Vec<u32>> {
    let token = |sequence: usize, position: usize| {
        let mixed = (sequence as u32 * 1000 + position as u32).wrapping_mul(2_654_435_761) ^ case.seed;
        (mixed >> 11) % USABLE as u32
    };
    (0..SEQUENCES).map(|own| (0..case.lengths[own]).map(|position| token(own, position)).collect()).collect()
}

/// Bits of the log-probability of every token after a sequence's first, as a server computes them.
fn served(model: &Arc<Model>, adapter: Option<&Adapter>, case: &Case, tokens: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let options = RunnerOptions {
        pages: SEQUENCES * PAGES,
        kv_dtype: KvDtype::F32,
        max_rows: SEQUENCES * LONGEST,
        max_logits_rows: 1,
        context_length: None,
        usable_vocabulary: Some(USABLE),
        simd: model.simd,
        team: team(case.threads),
    };
    let mut runner = Runner::new(Arc::clone(model), options).unwrap();
    let pages: Vec<Vec<PageId>> =
        case.page_order.chunks(PAGES).map(|pages| pages.iter().copied().map(PageId).collect()).collect();
    let mut scores = vec![Vec::new(); SEQUENCES];
    let mut done = [0; SEQUENCES];
    let rest = (0b1111, [LONGEST; SEQUENCES]);
    for (who, portions) in case.steps.iter().chain([&rest]) {
        let part = |own: usize| {
            let left = case.lengths[own] - done[own];
            if who >> own & 1 == 1 { portions[own].min(left) } else { 0 }
        };
        let parts: Vec<(usize, usize)> =
            (0..SEQUENCES).map(|own| (own, part(own))).filter(|(_, count)| *count > 0).collect();
        let chunk = |(own, count): &(usize, usize)| {
            let (from, to) = (done[*own], done[*own] + count);
            let targets = &tokens[*own][(from + 1).min(to)..(to + 1).min(tokens[*own].len())];
            SequenceChunk {
                tokens: &tokens[*own][from..to],
                start: from,
                pages: &pages[*own],
                scores: Scoring { first_row: 0, targets, top: 0 },
                adapter,
                ..SequenceChunk::default()
            }
        };
        let chunks: Vec<SequenceChunk<'_>> = parts.iter().map(chunk).collect();
        let mut found = runner.step(&chunks).unwrap().scores.iter();
        for ((own, count), chunk) in parts.iter().zip(&chunks) {
            let of_chunk = found.by_ref().take(chunk.scores.targets.len());
            scores[*own].extend(of_chunk.map(|score| score.log_probability.to_bits()));
            done[*own] += count;
        }
    }
    scores
}

/// The same as a trainer computes them, in the given order of the documents.
fn trained(model: &Model, adapter: Option<&Adapter>, case: &Case, tokens: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let load = LoadOptions { simd: model.simd, team: team(case.threads) };
    let options = LearnerOptions { load, recompute: case.seed.is_multiple_of(2) };
    let mut learner = Learner::new(&model.config, options).unwrap().with_usable_vocabulary(USABLE);
    let lengths: Vec<usize> = case.packing.iter().map(|own| tokens[*own].len()).collect();
    let all: Vec<u32> = case.packing.iter().flat_map(|own| tokens[*own].iter().copied()).collect();
    let targets: Vec<Option<u32>> = case
        .packing
        .iter()
        .flat_map(|own| tokens[*own][1..].iter().copied().map(Some).chain([None]))
        .collect();
    let batch = TokenBatch { tokens: &all, document_lengths: &lengths, targets: &targets };
    let learned = Learned::from(&model.weights).with_adapter(adapter);
    let scores = learner.score(learned, &batch).unwrap();
    let base = model.weights.parameters().count();
    let learns_all = model.layer_dtype() == Dtype::F32;
    let mut gradients =
        Gradients::of_some(&learned.parameter_shapes(), |id| learns_all || id.0 as usize >= base).unwrap();
    let row_gradient = |_, _| ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 };
    let learnt = learner.accumulate(learned, &batch, &row_gradient, &mut gradients).unwrap();
    assert_eq!(learnt, scores);
    let mut slopes = |found: &[TokenScore]| {
        assert_eq!(found, scores);
        vec![ScoreGradient { log_probability: -1.0, log_sum_exp: 0.0 }; found.len()]
    };
    let together = learner.accumulate_together(learned, &batch, &mut slopes, &mut gradients).unwrap();
    assert_eq!(together, scores);
    let mut results = vec![Vec::new(); SEQUENCES];
    let mut first = 0;
    for own in &case.packing {
        let rows = &scores[first..first + tokens[*own].len() - 1];
        results[*own] = rows.iter().map(|score| score.log_probability.to_bits()).collect();
        first += tokens[*own].len();
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn served_and_trained_log_probabilities_have_the_same_bits(
        case in cases(),
        config in prop::sample::select(configs()),
    ) {
        let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
        let tokens = tokens(&case);
        for simd in SimdLevel::available() {
            let options = LoadOptions { simd, team: team(2) };
            let model = Arc::new(Model::from_source(config.clone(), &source, &options).unwrap());
            let (served, trained) = (served(&model, None, &case, &tokens), trained(&model, None, &case, &tokens));
            prop_assert!(served == trained, "{simd}");
        }
    }

    /// With an adapter as well, and where the weights below it are in another type: keys and values in f32 are those of training.
    #[test]
    fn adapters_on_weights_of_any_type_are_served_as_they_are_trained(
        case in cases(),
        config in prop::sample::select(configs()),
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::Q8_0, Dtype::Q4_1, Dtype::Bf16]),
    ) {
        let source = RandomWeights::new(config.clone(), dtype, 3);
        let tokens = tokens(&case);
        for simd in SimdLevel::available() {
            let options = LoadOptions { simd, team: team(2) };
            let model = Arc::new(Model::from_source(config.clone(), &source, &options).unwrap());
            let adapter = random_adapter(&config, 5, 7).pack(simd, &options.team).unwrap();
            let adapter = adapter.with_parameters(model.weights.parameters().count());
            let with_adapter = served(&model, Some(&adapter), &case, &tokens);
            prop_assert!(with_adapter == trained(&model, Some(&adapter), &case, &tokens), "{simd} {dtype}");
            prop_assert!(with_adapter != served(&model, None, &case, &tokens), "{simd} {dtype}");
        }
    }
}
