//! What keeping keys and values in 8 bits costs a model whose key biases make a few dimensions of every key far larger
//! than the others, as those of Qwen2.5 do.

use std::sync::Arc;

use zhenjin_model::config::{RopeConfig, RopeLayout, SlidingWindow};
use zhenjin_model::perplexity::{self, PerplexityOptions};
use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::{
    KvCacheDtype, LoadOptions, LogitsFor, Model, ModelConfig, PageId, Runner, RunnerOptions, SequenceChunk,
};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam, log_softmax};

const LENGTH: usize = 400;

/// Two query heads for each of two key/value heads of `head_dim` dimensions.
fn config(head_dim: usize, layout: RopeLayout) -> ModelConfig {
    let mut config = ModelConfig { head_dim, attention_bias: true, ..tiny_config() };
    config.rope.rotary_dim = head_dim;
    config.rope.base = 1e6;
    config.rope.layout = layout;
    config
}

fn model(config: &ModelConfig, largest_bias: f32) -> Arc<Model> {
    let mut weights = RandomWeights::new(config.clone(), Dtype::Q8_0, 21);
    weights.plant_key_outliers(config, largest_bias);
    let team = Arc::new(ThreadTeam::new(1).unwrap());
    let options = LoadOptions { simd: SimdLevel::detect(), team };
    Arc::new(Model::from_source(config.clone(), &weights, &options).unwrap())
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 9) % 96).collect()
}

/// The log-probabilities at every position.
fn log_probabilities(model: &Arc<Model>, kv_dtype: KvDtype) -> Vec<Vec<f32>> {
    let options = RunnerOptions {
        pages: 16,
        kv_dtype,
        max_rows: LENGTH,
        max_logits_rows: LENGTH,
        context_length: None,
        usable_vocabulary: None,
        simd: model.simd,
        team: Arc::new(ThreadTeam::new(1).unwrap()),
    };
    let mut runner = Runner::new(Arc::clone(model), options).unwrap();
    let (tokens, pages) = (tokens(LENGTH), (0..16).map(PageId).collect::<Vec<_>>());
    let chunk = SequenceChunk {
        tokens: &tokens,
        start: 0,
        pages: &pages,
        logits: LogitsFor::All,
        ..SequenceChunk::default()
    };
    let logits = runner.step(&[chunk]).unwrap().logits;
    let row = |row: usize| {
        let mut row = logits.row(row).to_vec();
        log_softmax(model.simd, &mut row);
        row
    };
    (0..logits.rows()).map(row).collect()
}

/// Mean Kullback–Leibler divergence, over the positions, of what the model predicts as it is served from what it predicts
/// with keys and values in f32.
fn mean_divergence(model: &Arc<Model>) -> f64 {
    let served = model.kv_dtype(KvCacheDtype::default());
    assert_eq!(served, KvDtype::Int8);
    let (expected, actual) = (log_probabilities(model, KvDtype::F32), log_probabilities(model, served));
    let of_row = |(p, q): (&Vec<f32>, &Vec<f32>)| -> f64 {
        p.iter().zip(q).map(|(p, q)| f64::from(*p).exp() * (f64::from(*p) - f64::from(*q))).sum()
    };
    expected.iter().zip(&actual).map(of_row).sum::<f64>() / expected.len() as f64
}

#[test]
fn large_key_biases_cost_hardly_more_in_8_bits_than_small_ones() {
    // Keys of a layer with a window turn by a table of its own.
    let plain = config(64, RopeLayout::HalfSplit);
    let windowed = ModelConfig {
        sliding_window: Some(SlidingWindow { positions: 100, layers: vec![0] }),
        windowed_rope: Some(RopeConfig { base: 3e5, ..plain.rope.clone() }),
        ..plain.clone()
    };
    for config in [plain, config(96, RopeLayout::Interleaved), config(128, RopeLayout::HalfSplit), windowed] {
        let head_dim = config.head_dim;
        let [without, with] = [1.0, 150.0].map(|largest| mean_divergence(&model(&config, largest)));
        assert!(without > 0.0 && without < 5e-4, "head_dim {head_dim}: {without}");
        assert!(with < 2.0 * without, "head_dim {head_dim}: {with} with outliers, {without} without");
    }
}

#[test]
fn perplexity_as_served_is_that_with_keys_and_values_in_f32() {
    let model = model(&config(64, RopeLayout::HalfSplit), 150.0);
    let measured = [KvDtype::F32, KvDtype::Int8].map(|kv_dtype| {
        let options = PerplexityOptions {
            context: 256,
            windows: None,
            bos: None,
            usable_vocabulary: None,
            adapter: None,
            kv_dtype,
            simd: model.simd,
            team: Arc::new(ThreadTeam::new(1).unwrap()),
        };
        perplexity::measure(Arc::clone(&model), &tokens(2048), &options, &mut |_| {}).unwrap().perplexity
    });
    let change = measured[1] / measured[0] - 1.0;
    assert!(change.abs() < 0.003, "{measured:?}");
}
