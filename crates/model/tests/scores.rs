//! What a step gives besides logits: scores of given tokens and hidden states. That scores are those of the logits, bit for
//! bit, whatever is computed together; and over exactly the tokens that can be predicted.

use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    HiddenFor, LoadOptions, LogitsFor, Model, ModelConfig, PageId, Pool, ReferenceLoader, RowScore, Runner,
    RunnerOptions, Scoring, SequenceChunk, Transformer, WeightName, Weights, rope,
};
use zhenjin_tensor::{Dtype, Executor, ReferenceExecutor, SimdLevel, ThreadTeam, log_sum_exp};

const LENGTH: usize = 90;
/// More than two of the parts in which ln Σ e^logit is summed, and no multiple of a tile.
const VOCABULARY: usize = 2_603;

fn team(threads: usize) -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(threads).unwrap())
}

fn config() -> ModelConfig {
    ModelConfig { vocabulary_size: VOCABULARY, heads: 6, kv_heads: 2, ..tiny_config() }
}

fn model(dtype: Dtype, simd: SimdLevel) -> Arc<Model> {
    let weights = RandomWeights::new(config(), dtype, 11);
    Arc::new(Model::from_source(config(), &weights, &LoadOptions { simd, team: team(2) }).unwrap())
}

fn runner(model: &Arc<Model>, threads: usize, usable_vocabulary: Option<usize>) -> Runner {
    let options = RunnerOptions {
        pages: 8,
        kv_dtype: zhenjin_tensor::KvDtype::default(),
        max_rows: 2 * LENGTH,
        max_logits_rows: 2 * LENGTH,
        context_length: None,
        usable_vocabulary,
        simd: model.simd,
        team: team(threads),
    };
    Runner::new(Arc::clone(model), options).unwrap()
}

fn tokens(seed: u32, count: usize, vocabulary: usize) -> Vec<u32> {
    let number = |index: u32| (index + seed * 1000).wrapping_mul(2_654_435_761) >> 9;
    (0..count as u32).map(|index| number(index) % vocabulary as u32).collect()
}

fn pages(first: u32) -> Vec<PageId> {
    (first..first + 4).map(PageId).collect()
}

/// The bits of a target's log-probability, and of the most likely tokens'.
type ScoreBits = (u32, Vec<(usize, u32)>);

fn bits(score: &RowScore) -> ScoreBits {
    assert_eq!(score.broken, None);
    let top = score.top.iter().map(|(index, value)| (*index, value.to_bits())).collect();
    (score.log_probability.to_bits(), top)
}

/// What the logits of every position say about the next token, by the public formula; and the hidden states.
fn reference(
    model: &Arc<Model>,
    tokens: &[u32],
    usable: usize,
    top: usize,
) -> (Vec<ScoreBits>, Vec<Vec<f32>>) {
    let mut runner = runner(model, 1, Some(usable));
    let pages = pages(0);
    let chunk = SequenceChunk {
        tokens,
        pages: &pages,
        logits: LogitsFor::All,
        hidden: HiddenFor::All,
        ..SequenceChunk::default()
    };
    let outputs = runner.step(&[chunk]).unwrap();
    let score = |position: usize| {
        let row = outputs.logits.row(position);
        assert_eq!(row.len(), usable);
        let total = log_sum_exp(model.simd, row);
        let mut order: Vec<usize> = (0..usable).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        order.truncate(top);
        let ranked = |index: usize| (index, total.log_probability(row[index]).to_bits());
        let target = row[tokens[position + 1] as usize];
        (total.log_probability(target).to_bits(), order.into_iter().map(ranked).collect())
    };
    let scores = (0..tokens.len() - 1).map(score).collect();
    let hidden = (0..tokens.len()).map(|row| outputs.hidden.row(row).to_vec()).collect();
    (scores, hidden)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn scores_and_states_depend_on_the_sequence_alone(
        portions in prop::collection::vec(prop_oneof![Just(1usize), 2usize..20, 20usize..LENGTH], 1..12),
        threads in 1usize..=3,
        dtype in 0usize..3,
        usable in prop_oneof![Just(VOCABULARY), Just(2048), 1500usize..VOCABULARY],
        top in prop_oneof![Just(0usize), Just(1), Just(7), Just(90)],
        first in 1usize..LENGTH,
        neighbour in any::<bool>(),
    ) {
        let dtype = [Dtype::F32, Dtype::Q8_0, Dtype::Q4_1][dtype];
        for simd in SimdLevel::available() {
            let model = model(dtype, simd);
            let text = tokens(1, LENGTH, usable);
            let other = tokens(2, LENGTH, usable);
            let (expected, hidden) = reference(&model, &text, usable, top);
            let mut runner = runner(&model, threads, Some(usable));
            let (own, others) = (pages(4), pages(0));
            let (mut scores, mut pool, mut start) = (Vec::new(), Pool::default(), 0);
            let portions = portions.iter().copied().chain(std::iter::repeat(17));
            for portion in portions {
                if start == LENGTH {
                    break;
                }
                let end = LENGTH.min(start + portion);
                // The token at `first` is the first one scored.
                let first_row = (first - 1).saturating_sub(start).min(end - start);
                let targets = &text[(start + first_row + 1).min(LENGTH)..LENGTH.min(end + 1)];
                let chunk = SequenceChunk {
                    tokens: &text[start..end],
                    start,
                    pages: &own,
                    scores: Scoring { first_row, targets, top },
                    hidden: HiddenFor::All,
                    logits: if end == LENGTH { LogitsFor::Last } else { LogitsFor::None },
                    ..SequenceChunk::default()
                };
                let beside = SequenceChunk {
                    tokens: &other[start..end],
                    start,
                    pages: &others,
                    scores: Scoring { first_row: 0, targets: &other[start..end], top: 2 },
                    logits: LogitsFor::All,
                    ..SequenceChunk::default()
                };
                let both = [chunk, beside];
                let outputs = runner.step(&both[..if neighbour { 2 } else { 1 }]).unwrap();
                scores.extend(outputs.scores[..targets.len()].iter().map(bits));
                (0..end - start).for_each(|row| pool.add(outputs.hidden.row(row)));
                start = end;
            }
            prop_assert!(scores == expected[first - 1..], "{dtype} {simd}");
            let mut whole = Pool::default();
            hidden.iter().for_each(|row| whole.add(row));
            prop_assert_eq!(pool.finish(false), whole.finish(false));
        }
    }
}

/// A step of more rows than a piece of outputs holds has several pieces of rows' width.
#[test]
fn many_rows_score_as_few() {
    let simd = SimdLevel::detect();
    let model = model(Dtype::Q8_0, simd);
    let text = tokens(3, 4 * LENGTH, VOCABULARY);
    let options = |rows| RunnerOptions {
        pages: 16,
        kv_dtype: zhenjin_tensor::KvDtype::default(),
        max_rows: rows,
        max_logits_rows: 0,
        context_length: None,
        usable_vocabulary: None,
        simd,
        team: team(2),
    };
    let pages: Vec<PageId> = (0..16).map(PageId).collect();
    let score = |rows: usize| {
        let mut runner = Runner::new(Arc::clone(&model), options(rows)).unwrap();
        let mut scores = Vec::new();
        for (index, chunk) in text[..4 * LENGTH - 1].chunks(rows).enumerate() {
            let start = index * rows;
            let targets = &text[start + 1..start + 1 + chunk.len()];
            let scores_wanted = Scoring { first_row: 0, targets, top: 3 };
            let chunk = SequenceChunk {
                tokens: chunk,
                start,
                pages: &pages,
                scores: scores_wanted,
                ..SequenceChunk::default()
            };
            scores.extend(runner.step(&[chunk]).unwrap().scores.iter().map(bits));
        }
        scores
    };
    let together = score(4 * LENGTH);
    assert_eq!(together.len(), 4 * LENGTH - 1);
    assert_eq!(together, score(7));
}

/// The rows of the vocabulary's padding have logits far above all others, but cannot be predicted: they must take no
/// probability from the tokens that can.
#[test]
fn padding_of_the_vocabulary_takes_no_probability() {
    const USABLE: usize = 2_500;
    let simd = SimdLevel::detect();
    let mut weights = RandomWeights::new(config(), Dtype::F32, 11);
    weights.multiply_rows(WeightName::Embedding, USABLE..VOCABULARY, 40.0);
    let model =
        Arc::new(Model::from_source(config(), &weights, &LoadOptions { simd, team: team(1) }).unwrap());
    let text = tokens(4, 40, USABLE);
    let mut everything = runner(&model, 1, None);
    let page_ids = pages(0);
    let chunk =
        SequenceChunk { tokens: &text, pages: &page_ids, logits: LogitsFor::All, ..SequenceChunk::default() };
    let all: Vec<Vec<f32>> = {
        let outputs = everything.step(&[chunk]).unwrap();
        (0..40).map(|row| outputs.logits.row(row).to_vec()).collect()
    };
    // Every row's greatest logit lies in the padding, as it stands for no token.
    let greatest = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    assert!(all.iter().all(|row| greatest(row) >= USABLE));
    let mut runner = runner(&model, 2, Some(USABLE));
    let scores = Scoring { first_row: 0, targets: &text[1..], top: USABLE };
    let outputs = runner.step(&[SequenceChunk { scores, ..chunk }]).unwrap();
    assert_eq!((runner_width(&outputs), outputs.scores.len()), (USABLE, 39));
    for (row, score) in outputs.scores.iter().enumerate() {
        assert_eq!(outputs.logits.row(row), &all[row][..USABLE]);
        assert_eq!(score.top.len(), USABLE);
        let sum: f64 = score.top.iter().map(|(_, value)| f64::from(*value).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert_eq!(score.top[0].0, greatest(&all[row][..USABLE]));
    }
}

fn runner_width(outputs: &zhenjin_model::StepOutputs<'_>) -> usize {
    outputs.logits.row(0).len()
}

#[test]
fn a_broken_logit_is_named() {
    let simd = SimdLevel::detect();
    let mut weights = RandomWeights::new(config(), Dtype::F32, 11);
    weights.multiply_rows(WeightName::Embedding, 2_000..2_001, f32::NAN);
    let model =
        Arc::new(Model::from_source(config(), &weights, &LoadOptions { simd, team: team(1) }).unwrap());
    let mut runner = runner(&model, 2, None);
    let pages = pages(0);
    let scores = Scoring { first_row: 0, targets: &[5], top: 1 };
    let chunk = SequenceChunk { tokens: &[3, 4], pages: &pages, scores, ..SequenceChunk::default() };
    let outputs = runner.step(&[chunk]).unwrap();
    let broken = outputs.scores[0].broken.unwrap();
    assert!(broken.index == 2_000 && broken.logit.is_nan(), "{broken:?}");
}

/// Of odd widths, heads and vocabularies, the scores and pooled states that a runner computes chunk by chunk, against the
/// forward pass and the formulas in f64. Logits are within 1e-5 of their row's largest there (see `reference_executor`).
#[test]
fn scores_and_pooled_states_are_near_those_in_f64() {
    const USABLE: usize = 1_051;
    let shape = |hidden_size, heads, kv_heads, head_dim| {
        let mut config =
            ModelConfig { vocabulary_size: 1_103, hidden_size, heads, kv_heads, head_dim, ..tiny_config() };
        config.rope.rotary_dim = head_dim;
        config
    };
    // Logits have a factor in some of the forms, and hidden states have none.
    let forms = tiny_forms().map(|form| ModelConfig { vocabulary_size: 1_103, ..form });
    let shapes = [shape(40, 5, 1, 8), shape(72, 3, 3, 24), shape(33, 2, 1, 80)];
    for config in shapes.into_iter().chain(forms) {
        let source = RandomWeights::new(config.clone(), Dtype::F32, 3);
        let text = tokens(5, 77, USABLE);
        let exact = exact_states(&config, &source, &text);
        for simd in SimdLevel::available() {
            let options = LoadOptions { simd, team: team(2) };
            let model = Arc::new(Model::from_source(config.clone(), &source, &options).unwrap());
            let mut runner = runner(&model, 2, Some(USABLE));
            let (own, mut pool, mut scores, mut last) =
                (pages(2), Pool::default(), Vec::new(), Pool::default());
            for (start, end) in [(0, 33), (33, 34), (34, 77)] {
                let targets = &text[start + 1..text.len().min(end + 1)];
                let chunk = SequenceChunk {
                    tokens: &text[start..end],
                    start,
                    pages: &own,
                    scores: Scoring { first_row: 0, targets, top: 0 },
                    hidden: HiddenFor::All,
                    ..SequenceChunk::default()
                };
                let outputs = runner.step(&[chunk]).unwrap();
                scores.extend(outputs.scores.iter().map(|score| score.log_probability));
                (0..end - start).for_each(|row| pool.add(outputs.hidden.row(row)));
                if end == text.len() {
                    last.add(outputs.hidden.row(end - start - 1));
                }
            }
            assert_eq!(scores.len(), 76);
            for (position, score) in scores.iter().enumerate() {
                let logits = &exact.logits[position][..USABLE];
                let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                let expected = logits[text[position + 1] as usize] - total;
                assert!((f64::from(*score) - expected).abs() < 1e-4, "{simd}: {score}, not {expected}");
            }
            let rows = exact.hidden.len() as f64;
            let mean: Vec<f64> = (0..config.hidden_size)
                .map(|i| exact.hidden.iter().map(|row| row[i]).sum::<f64>() / rows)
                .collect();
            for (pool, expected) in [(&pool, &mean), (&last, &exact.hidden[76])] {
                let length = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
                for (normalise, divisor) in [(false, 1.0), (true, length)] {
                    let pooled = pool.finish(normalise);
                    assert_eq!(pooled.len(), config.hidden_size);
                    for (value, expected) in pooled.iter().zip(expected) {
                        let difference = (f64::from(*value) - expected / divisor).abs() * divisor / length;
                        assert!(difference < 1e-5, "{simd}: off by {difference}");
                    }
                }
            }
        }
    }
}

/// Hidden states after the final norm, and logits, of every position, in f64.
struct ExactStates {
    hidden: Vec<Vec<f64>>,
    logits: Vec<Vec<f64>>,
}

fn exact_states(config: &ModelConfig, source: &RandomWeights, tokens: &[u32]) -> ExactStates {
    let weights = Weights::load_with(config, source, &mut ReferenceLoader).unwrap();
    let mut executor = ReferenceExecutor::new();
    let transformer = Transformer { config, weights: &weights, adapters: &[] };
    executor.begin_packed(&[tokens.len()], &rope::tables(config)).unwrap();
    let selected: Vec<usize> = (0..tokens.len()).collect();
    let states = transformer.hidden_states(&mut executor, tokens, &selected).unwrap();
    let normalised = transformer.final_norm(&mut executor, &states).unwrap();
    let hidden = normalised.rows().map(<[f64]>::to_vec).collect();
    let logits = transformer.head(&mut executor, normalised).unwrap();
    ExactStates { hidden, logits: logits.rows().map(<[f64]>::to_vec).collect() }
}
