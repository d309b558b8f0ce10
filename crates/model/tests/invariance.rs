//! The promise of the engine: what a sequence gets depends on its own tokens alone, bit for bit. Random batches, chunks,
//! shared prefixes, page orders and numbers of threads, at every instruction set, for weights of several types.

use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::config::{ExpertsConfig, QueryKeyNorm, RopeLayout, SlidingWindow};
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    LoadOptions, LogitsFor, Model, ModelConfig, PAGE_TOKENS, PageId, Runner, RunnerOptions, SequenceChunk,
};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam};

/// Pages of a sequence of the longest length.
const PAGES: usize = 5;
const LONGEST: usize = PAGES * PAGE_TOKENS;

/// Shapes that between them use every switch of the forward pass.
fn configs() -> Vec<ModelConfig> {
    let llama = ModelConfig { heads: 6, kv_heads: 2, ..tiny_config() };
    let mut mistral = ModelConfig {
        sliding_window: Some(SlidingWindow { positions: 37, layers: vec![1] }),
        tied_embeddings: false,
        head_dim: 40,
        heads: 4,
        feed_forward_bias: true,
        attention_output_bias: true,
        ..tiny_config()
    };
    mistral.rope.layout = RopeLayout::Interleaved;
    mistral.rope.rotary_dim = 24;
    let qwen =
        ModelConfig { qk_norm: QueryKeyNorm::Heads, attention_bias: true, kv_heads: 1, ..tiny_config() };
    // Heads as int8 takes them: of one part, and of three.
    let mut wide = ModelConfig { head_dim: 32, attention_bias: true, ..tiny_config() };
    wide.rope.rotary_dim = 32;
    let mut three =
        ModelConfig { head_dim: 96, heads: 2, kv_heads: 1, attention_bias: true, ..tiny_config() };
    three.rope.rotary_dim = 48;
    three.sliding_window = Some(SlidingWindow { positions: 50, layers: vec![1] });
    let unrotated = ModelConfig { layers: 3, unrotated_layers: vec![0, 2], ..wide.clone() };
    let experts = ExpertsConfig {
        count: 6,
        active: 2,
        intermediate_size: 32,
        normalise: true,
        every: 1,
        dense_layers: vec![0],
    };
    let mixture = ModelConfig { qk_norm: QueryKeyNorm::Heads, experts: Some(experts), ..tiny_config() };
    // Windows in any layers, and heads as int8 takes them with two rotary tables and constant factors.
    let first = Some(SlidingWindow { positions: 21, layers: vec![0] });
    let first_windowed = ModelConfig { sliding_window: first, ..tiny_config() };
    let [mut gemma, norms_after, granite] = tiny_forms();
    for rope in std::iter::once(&mut gemma.rope).chain(&mut gemma.windowed_rope) {
        rope.rotary_dim = 32;
    }
    let gemma = ModelConfig { head_dim: 32, attention_bias: true, ..gemma };
    vec![llama, mistral, qwen, wide, three, unrotated, mixture, first_windowed, gemma, norms_after, granite]
}

fn team(threads: usize) -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(threads).unwrap())
}

fn runner(model: &Arc<Model>, kv_dtype: KvDtype, simd: SimdLevel, threads: usize) -> Runner {
    let options = RunnerOptions {
        pages: 4 * PAGES,
        kv_dtype,
        max_rows: 4 * LONGEST,
        max_logits_rows: 4 * LONGEST,
        context_length: None,
        usable_vocabulary: None,
        simd,
        team: team(threads),
    };
    Runner::new(Arc::clone(model), options).unwrap()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|logit| logit.to_bits()).collect()
}

/// The logits of every position, computed alone, in one step, by one thread.
fn alone(model: &Arc<Model>, kv_dtype: KvDtype, simd: SimdLevel, tokens: &[u32]) -> Vec<Vec<u32>> {
    let mut runner = runner(model, kv_dtype, simd, 1);
    let pages: Vec<PageId> = (0..PAGES as u32).map(PageId).collect();
    let chunk =
        SequenceChunk { tokens, start: 0, pages: &pages, logits: LogitsFor::All, ..SequenceChunk::default() };
    let logits = runner.step(&[chunk]).unwrap().logits;
    (0..logits.rows()).map(|row| bits(logits.row(row))).collect()
}

/// A history: how long the sequences are, and in what portions they advance.
#[derive(Debug, Clone)]
struct History {
    lengths: Vec<usize>,
    /// Sequence 1 begins with that many pages of sequence 0.
    shared_pages: usize,
    page_order: Vec<u32>,
    /// Which sequences advance in a step (bits), and by how much.
    steps: Vec<(u8, [usize; 3])>,
    threads: usize,
    token_seed: u32,
}

fn histories() -> impl Strategy<Value = History> {
    let portion = prop_oneof![3 => Just(1usize), 2 => 2usize..40, 1 => 40usize..LONGEST];
    let portions = [portion.clone(), portion.clone(), portion];
    (
        prop::collection::vec(1..=LONGEST, 3),
        0..PAGES,
        Just((0..4 * PAGES as u32).collect::<Vec<_>>()).prop_shuffle(),
        prop::collection::vec((1u8..8, portions), 1..12),
        1usize..=3,
        any::<u32>(),
    )
        .prop_map(|(lengths, shared_pages, page_order, steps, threads, token_seed)| History {
            lengths,
            shared_pages,
            page_order,
            steps,
            threads,
            token_seed,
        })
}

fn tokens(history: &History, shared: usize) -> Vec<Vec<u32>> {
    let token = |sequence: usize, position: usize| {
        let owner = if sequence == 1 && position < shared { 0 } else { sequence };
        let mixed = (owner as u32 * 1000 + position as u32).wrapping_mul(2_654_435_761) ^ history.token_seed;
        (mixed >> 11) % 96
    };
    (0..3)
        .map(|sequence| (0..history.lengths[sequence]).map(|position| token(sequence, position)).collect())
        .collect()
}

/// Positions of a sequence, each with the bits of its logits.
type PositionedLogits = Vec<(usize, Vec<u32>)>;

/// Computes the sequences together as the history says; logits of every position that was computed, by sequence.
fn together(
    model: &Arc<Model>,
    kv_dtype: KvDtype,
    simd: SimdLevel,
    history: &History,
) -> (Vec<Vec<u32>>, Vec<PositionedLogits>) {
    let mut runner = runner(model, kv_dtype, simd, history.threads);
    // A prefix is shared when it is whole pages that sequence 0 has, and something is left to compute.
    let longest_shared = (history.lengths[0] / PAGE_TOKENS).min((history.lengths[1] - 1) / PAGE_TOKENS);
    let shared = history.shared_pages.min(longest_shared);
    let tokens = tokens(history, shared * PAGE_TOKENS);
    let mut pages: Vec<Vec<PageId>> =
        history.page_order.chunks(PAGES).map(|pages| pages.iter().copied().map(PageId).collect()).collect();
    let prefix: Vec<PageId> = pages[0][..shared].to_vec();
    pages[1][..shared].copy_from_slice(&prefix);
    let mut done = [0, shared * PAGE_TOKENS, 0];
    let mut rows: Vec<Vec<(usize, Vec<u32>)>> = vec![Vec::new(); 3];
    // What the steps leave over is computed at the end; sequence 1 waits until its prefix is there.
    let rest = (0b111, [LONGEST; 3]);
    for (who, portions) in history.steps.iter().chain([&rest, &rest]) {
        let prefix_is_there = done[0] >= shared * PAGE_TOKENS;
        let part = |sequence: usize| {
            let wanted = if *who >> sequence & 1 == 1 { portions[sequence] } else { 0 };
            let waits = sequence == 1 && !prefix_is_there;
            if waits { 0 } else { wanted.min(tokens[sequence].len() - done[sequence]) }
        };
        let parts: Vec<(usize, usize)> =
            (0..3).map(|sequence| (sequence, part(sequence))).filter(|(_, count)| *count > 0).collect();
        let chunks: Vec<SequenceChunk<'_>> = parts
            .iter()
            .map(|(sequence, count)| SequenceChunk {
                tokens: &tokens[*sequence][done[*sequence]..done[*sequence] + count],
                start: done[*sequence],
                pages: &pages[*sequence],
                logits: LogitsFor::All,
                ..SequenceChunk::default()
            })
            .collect();
        let logits = runner.step(&chunks).unwrap().logits;
        let mut row = 0;
        for (sequence, count) in parts {
            for position in done[sequence]..done[sequence] + count {
                rows[sequence].push((position, bits(logits.row(row))));
                row += 1;
            }
            done[sequence] += count;
        }
        assert_eq!(row, logits.rows());
    }
    assert_eq!(done.to_vec(), history.lengths);
    (tokens, rows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn logits_depend_on_the_sequence_alone(
        history in histories(),
        config in prop::sample::select(configs()),
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::Q8_0, Dtype::Q4_1, Dtype::Bf16]),
        int8: bool,
    ) {
        check(&history, &config, dtype, int8);
    }
}

/// That every sequence of the history gets the bits that it gets alone, at every instruction set.
fn check(history: &History, config: &ModelConfig, dtype: Dtype, int8: bool) {
    let mut weights = RandomWeights::new(config.clone(), dtype, 3);
    let mut kv_dtype = KvDtype::F32;
    if KvDtype::Int8.holds_heads_of(config.head_dim) {
        weights.plant_key_outliers(config, 150.0);
        kv_dtype = if int8 { KvDtype::Int8 } else { KvDtype::F32 };
    }
    for simd in SimdLevel::available() {
        let options = LoadOptions { simd, team: team(2) };
        let model = Arc::new(Model::from_source(config.clone(), &weights, &options).unwrap());
        let (tokens, rows) = together(&model, kv_dtype, simd, history);
        for (sequence, rows) in rows.iter().enumerate() {
            let expected = alone(&model, kv_dtype, simd, &tokens[sequence]);
            for (position, row) in rows {
                let place = format!("sequence {sequence}, position {position}, {simd}, {kv_dtype}");
                assert!(row == &expected[*position], "{place}: {config:?}");
            }
        }
    }
}

/// Regression: numbers of configurations were drawn of which the last, that with experts, was none.
#[test]
fn every_configuration_gives_a_sequence_its_own_bits() {
    let history = History {
        lengths: vec![70, 97, 33],
        shared_pages: 1,
        page_order: (0..4 * PAGES as u32).rev().collect(),
        steps: vec![(0b001, [64, 0, 0]), (0b111, [1, 40, 20]), (0b110, [0, 1, 1]), (0b111, [5, 24, 12])],
        threads: 3,
        token_seed: 12,
    };
    for config in configs() {
        check(&history, &config, Dtype::Q8_0, true);
        check(&history, &config, Dtype::F32, false);
    }
}

#[test]
fn fewer_logits_do_not_change_the_others() {
    let config = configs()[0].clone();
    let simd = SimdLevel::detect();
    let options = LoadOptions { simd, team: team(1) };
    let weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 5);
    let model = Arc::new(Model::from_source(config, &weights, &options).unwrap());
    let tokens: Vec<u32> = (0..70).map(|position| position * 13 % 96).collect();
    let expected = alone(&model, KvDtype::F32, simd, &tokens);
    let mut runner = runner(&model, KvDtype::F32, simd, 2);
    let pages: Vec<PageId> = (3..3 + PAGES as u32).map(PageId).collect();
    let mut done = 0;
    for (count, logits) in [(33, LogitsFor::None), (30, LogitsFor::Last), (7, LogitsFor::All)] {
        let chunk = SequenceChunk {
            tokens: &tokens[done..done + count],
            start: done,
            pages: &pages,
            logits,
            ..SequenceChunk::default()
        };
        let rows = runner.step(&[chunk]).unwrap().logits;
        done += count;
        assert_eq!(rows.rows(), chunk.logits_rows());
        for row in 0..rows.rows() {
            assert_eq!(bits(rows.row(row)), expected[done - rows.rows() + row]);
        }
    }
}
