//! The forward pass on the direct executor against the same forward pass in f64, for every family, odd shapes, every
//! scaling of RoPE and every type of weights; and the parts of the forward pass against the whole.

use std::sync::Arc;

use zhenjin_model::config::{
    ExpertsConfig, Multipliers, QueryKeyNorm, RopeConfig, RopeScaling, SlidingWindow,
};
use zhenjin_model::families::{Bias, FAMILIES, Family, MultiplierRule, UnrotatedLayers, WindowRule};
use zhenjin_model::forward::attention_shape;
use zhenjin_model::testing::{RandomWeights, tiny_config, tiny_forms};
use zhenjin_model::{
    LoadOptions, ModelConfig, PAGE_TOKENS, PageId, ReferenceLoader, Transformer, Weights, rope,
};
use zhenjin_tensor::{
    DirectExecutor, Dtype, Executor, KvCache, KvDtype, KvShape, ReferenceExecutor, ReferenceTensor,
    SequenceRows, SimdLevel, ThreadTeam,
};

/// Positions of the longest sequence, which sees a window of 37 and a second split of the context.
const LONGEST: usize = 300;
const PAGES: usize = LONGEST.div_ceil(PAGE_TOKENS);
/// Sequences in a batch.
const SEQUENCES: usize = 3;

/// How far a logit may be from that in f64, as a share of the largest logit of its row, where weights are floats. A logit ends
/// a chain of about 25 operations. Each rounds to 2⁻²⁴, and a sum of up to 300 terms to about √300 / 2 times that, so
/// errors that do not all go the same way stay below √25 · √300 / 2 · 2⁻²⁴ = 2.6e-6 or little more. The largest seen is 3.0e-6.
const FLOAT_TOLERANCE: f64 = 1e-5;
/// The same where weights are quantised: activations are then rounded to 8 bits before each of 15 products, by at most 1/254
/// of the largest magnitude of their block of 32. That of the largest logit is seen to be off by up to 2.4e-2.
const QUANTISED_TOLERANCE: f64 = 0.05;

/// Constant factors of a family, none of them 1 where the family may have another.
fn multipliers(family: &Family, shape: &ModelConfig) -> Multipliers {
    match family.multipliers {
        MultiplierRule::Never => Multipliers::default(),
        MultiplierRule::Granite => {
            Multipliers { embedding: 6.0, residual: 0.3, attention: Some(0.1), logits: 0.125 }
        }
        MultiplierRule::Gemma { .. } => Multipliers {
            embedding: (shape.hidden_size as f32).sqrt(),
            attention: Some(1.0 / 40.0_f64.sqrt()),
            ..Multipliers::default()
        },
    }
}

/// The switches of a family at a shape.
fn config_of(family: &Family, shape: &ModelConfig) -> ModelConfig {
    let has = |bias: Bias| bias != Bias::Never;
    // Where the windows have a table of their own, each layer has another one.
    let windowed = if family.windowed_rope_base.is_some() { vec![0] } else { vec![1] };
    let mut config = ModelConfig {
        architecture: family.model_type.to_owned(),
        attention_bias: has(family.attention_bias),
        attention_output_bias: has(family.attention_output_bias),
        feed_forward_bias: has(family.feed_forward_bias),
        norms: family.norms,
        norms_less_one: family.norms_less_one,
        qk_norm: family.qk_norm,
        activation: family.activation,
        multipliers: multipliers(family, shape),
        // All are active: which of some are would be another choice where activations are rounded to 8 bits.
        experts: family.experts.then_some(ExpertsConfig {
            count: 3,
            active: 3,
            intermediate_size: 32,
            normalise: false,
            every: 1,
            dense_layers: vec![0],
        }),
        unrotated_layers: if family.unrotated == UnrotatedLayers::Never { Vec::new() } else { vec![1] },
        sliding_window: (family.window != WindowRule::Never)
            .then_some(SlidingWindow { positions: 37, layers: windowed }),
        ..shape.clone()
    };
    config.rope.layout = family.gguf_rope_layout;
    config.windowed_rope = family.windowed_rope_base.map(|base| RopeConfig {
        base: f64::from(base),
        scaling: RopeScaling::None,
        ..config.rope.clone()
    });
    config
}

/// Shapes (heads, key/value heads, width of a head, of it rotating, tied) with a scaling of RoPE each.
fn shapes() -> Vec<ModelConfig> {
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context_length: 64,
    };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_context_length: 128,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        truncate: true,
    };
    let long_rope = RopeScaling::LongRope {
        factors: (0..8).map(|pair| 1.0 + f64::from(pair) / 3.0).collect(),
        attention_factor: 1.19,
        original_context_length: 128,
        long_factors: Vec::new(),
        long_context_length: 0,
    };
    let shape = |heads, kv_heads, head_dim, rotary_dim, tied_embeddings, scaling| {
        let mut config = ModelConfig { heads, kv_heads, head_dim, tied_embeddings, ..tiny_config() };
        config.rope.rotary_dim = rotary_dim;
        config.rope.scaling = scaling;
        config
    };
    vec![
        shape(4, 2, 16, 16, true, RopeScaling::None),
        shape(5, 1, 8, 8, false, RopeScaling::Linear { factor: 4.0 }),
        shape(3, 3, 24, 16, true, llama3),
        shape(2, 1, 80, 80, false, yarn),
        shape(6, 2, 32, 32, true, RopeScaling::Divisors((1..=16).map(|divisor| divisor as f32).collect())),
        shape(4, 2, 16, 16, true, long_rope),
    ]
}

/// Rows of each sequence in each step: prompts in chunks, then all kinds of rows together. Sequences 1 and 2 begin with the
/// first page of sequence 0.
const STEPS: [[(usize, usize); SEQUENCES]; 4] = [
    [(0, 45), (0, 0), (0, 0)],
    [(45, 1), (32, 70), (32, 3)],
    [(46, 254), (102, 1), (35, 1)],
    [(0, 0), (103, 33), (36, 29)],
];

fn pages() -> [Vec<PageId>; SEQUENCES] {
    let own = |sequence: usize| (0..PAGES).map(move |page| PageId((page * SEQUENCES + sequence) as u32));
    [0, 1, 2].map(|sequence| own(0).take(1).chain(own(sequence).skip(1)).collect())
}

fn token(sequence: usize, position: usize) -> u32 {
    let owner = if position < PAGE_TOKENS { 0 } else { sequence };
    ((owner * 1000 + position) as u32).wrapping_mul(2_654_435_761) >> 11 & 63
}

/// The steps' batches on one executor: what `read` makes of the logits of every row.
fn run<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    weights: &Weights<E::Matrix, E::Vector>,
    read: impl Fn(E::Tensor) -> Vec<f64>,
) -> Vec<f64> {
    let (pages, rotary) = (pages(), rope::tables(config));
    let transformer = Transformer { config, weights, adapters: &[] };
    let mut logits = Vec::new();
    for step in STEPS {
        let rows = step.iter().zip(&pages).map(|(&(start, rows), pages)| SequenceRows { rows, start, pages });
        executor.begin(rows.filter(|sequence| sequence.rows > 0), &rotary).unwrap();
        let tokens: Vec<u32> = step
            .iter()
            .enumerate()
            .flat_map(|(sequence, (start, rows))| {
                (*start..start + rows).map(move |position| token(sequence, position))
            })
            .collect();
        let selected: Vec<usize> = (0..tokens.len()).collect();
        logits.extend(read(transformer.logits(executor, &tokens, &selected).unwrap()));
    }
    logits
}

fn direct_executor(config: &ModelConfig, simd: SimdLevel) -> DirectExecutor {
    let ModelConfig { layers, kv_heads, head_dim, .. } = *config;
    let shape = KvShape { dtype: KvDtype::F32, layers, kv_heads, head_dim };
    let cache = KvCache::new(shape, SEQUENCES * PAGES).unwrap();
    DirectExecutor::new(cache, attention_shape(config), simd, team()).unwrap()
}

fn team() -> Arc<ThreadTeam> {
    Arc::new(ThreadTeam::new(2).unwrap())
}

/// The largest difference of a logit from that in f64, as a share of the largest logit of its row, over all levels.
fn worst_difference(config: &ModelConfig, dtype: Dtype) -> f64 {
    let source = RandomWeights::new(config.clone(), dtype, 11);
    let weights = Weights::load_with(config, &source, &mut ReferenceLoader).unwrap();
    let expected =
        run(&mut ReferenceExecutor::new(), config, &weights, |logits: ReferenceTensor| logits.values);
    let mut worst = 0.0f64;
    for simd in SimdLevel::available() {
        let weights = Weights::load(config, &source, &LoadOptions { simd, team: team() }).unwrap();
        let mut executor = direct_executor(config, simd);
        let actual = run(&mut executor, config, &weights, |logits| {
            logits.values().iter().map(|logit| f64::from(*logit)).collect()
        });
        assert_eq!(actual.len(), expected.len());
        let width = config.vocabulary_size;
        for (actual, expected) in actual.chunks_exact(width).zip(expected.chunks_exact(width)) {
            let largest = expected.iter().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
            for (actual, expected) in actual.iter().zip(expected) {
                let difference = (actual - expected).abs() / largest;
                // A NaN must not get lost in the maximum.
                worst = if difference.is_nan() { f64::INFINITY } else { worst.max(difference) };
            }
        }
    }
    worst
}

#[test]
fn every_family_and_odd_shape_is_near_the_forward_pass_in_f64() {
    for family in &FAMILIES {
        for shape in shapes() {
            let config = config_of(family, &shape);
            let worst = worst_difference(&config, Dtype::F32);
            assert!(worst < FLOAT_TOLERANCE, "{worst:.1e}: {config:?}");
        }
    }
}

#[test]
fn every_switch_at_once_is_near_the_forward_pass_in_f64() {
    let config = ModelConfig {
        attention_bias: true,
        attention_output_bias: true,
        feed_forward_bias: true,
        qk_norm: QueryKeyNorm::Heads,
        tied_embeddings: false,
        sliding_window: Some(SlidingWindow { positions: 37, layers: vec![1] }),
        ..tiny_config()
    };
    for (dtype, tolerance) in [
        (Dtype::F32, FLOAT_TOLERANCE),
        (Dtype::F16, FLOAT_TOLERANCE),
        (Dtype::Bf16, FLOAT_TOLERANCE),
        (Dtype::Q8_0, QUANTISED_TOLERANCE),
        (Dtype::Q4_0, QUANTISED_TOLERANCE),
        (Dtype::Q4_1, QUANTISED_TOLERANCE),
    ] {
        let worst = worst_difference(&config, dtype);
        assert!(worst < tolerance, "{worst:.1e} with weights in {dtype}");
    }
}

#[test]
fn every_form_of_a_layer_is_near_the_forward_pass_in_f64() {
    for config in tiny_forms() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            let worst = worst_difference(&config, dtype);
            assert!(worst < FLOAT_TOLERANCE, "{worst:.1e} with weights in {dtype}: {config:?}");
        }
    }
}

/// Scoring, pooling and recomputation call the parts of the forward pass one by one.
fn parts<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    weights: &Weights<E::Matrix, E::Vector>,
    read: impl Fn(&E::Tensor) -> Vec<f64>,
) {
    let (lengths, rotary) = ([9, 40], rope::tables(config));
    let tokens: Vec<u32> = (0..49).map(|position| token(1, position)).collect();
    let selected = [3, 8, 48];
    let transformer = Transformer { config, weights, adapters: &[] };
    let begin = |executor: &mut E| executor.begin_packed(&lengths, &rotary).unwrap();

    begin(executor);
    let expected = read(&transformer.logits(executor, &tokens, &selected).unwrap());
    begin(executor);
    let mut hidden = transformer.embed(executor, &tokens).unwrap();
    for index in 0..config.layers {
        hidden = transformer.layer(executor, index, hidden, None).unwrap();
    }
    let all = read(&hidden);
    let hidden = executor.select_rows(hidden, &selected).unwrap();
    let normalised = transformer.final_norm(executor, &hidden).unwrap();
    let logits = transformer.head(executor, normalised).unwrap();
    assert_eq!(read(&logits), expected);

    begin(executor);
    let hidden_states = transformer.hidden_states(executor, &tokens, &selected).unwrap();
    assert_eq!(read(&hidden_states), read(&hidden));
    let width = config.hidden_size;
    let rows = selected.map(|row| all[row * width..(row + 1) * width].to_vec());
    assert_eq!(read(&hidden), rows.concat());

    begin(executor);
    let nothing = transformer.logits(executor, &tokens, &[]).unwrap();
    assert!(read(&nothing).is_empty());
}

/// Every shape with the switches of Qwen3, and the other forms of a layer.
fn shapes_and_forms() -> Vec<ModelConfig> {
    let qwen3 = Family::of_model_type("qwen3").unwrap();
    shapes().iter().map(|shape| config_of(qwen3, shape)).chain(tiny_forms()).collect()
}

#[test]
fn the_parts_of_the_forward_pass_make_up_the_whole() {
    for config in shapes_and_forms() {
        let source = RandomWeights::new(config.clone(), Dtype::F32, 5);
        let exact = Weights::load_with(&config, &source, &mut ReferenceLoader).unwrap();
        parts(&mut ReferenceExecutor::new(), &config, &exact, |tensor| tensor.values.clone());
        let simd = SimdLevel::detect();
        let weights = Weights::load(&config, &source, &LoadOptions { simd, team: team() }).unwrap();
        parts(&mut direct_executor(&config, simd), &config, &weights, |tensor| {
            tensor.values().iter().map(|value| f64::from(*value)).collect()
        });
    }
}

/// Training computes whole documents, serving computes chunks of sequences over pages: the same numbers.
#[test]
fn packed_documents_have_the_bits_of_served_sequences() {
    for config in shapes_and_forms() {
        let source = RandomWeights::new(config.clone(), Dtype::F32, 5);
        for simd in SimdLevel::available() {
            let weights = Weights::load(&config, &source, &LoadOptions { simd, team: team() }).unwrap();
            let mut executor = direct_executor(&config, simd);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let mut served = vec![Vec::new(); SEQUENCES];
            let (pages, rotary) = (pages(), rope::tables(&config));
            let transformer = Transformer { config: &config, weights: &weights, adapters: &[] };
            for step in STEPS {
                let rows = step.iter().zip(&pages).map(|(&(start, rows), pages)| SequenceRows {
                    rows,
                    start,
                    pages,
                });
                executor.begin(rows.filter(|sequence| sequence.rows > 0), &rotary).unwrap();
                let of = |(sequence, (start, rows)): (usize, &(usize, usize))| {
                    (*start..start + rows).map(move |position| (sequence, position)).collect::<Vec<_>>()
                };
                let positions: Vec<(usize, usize)> = step.iter().enumerate().flat_map(of).collect();
                let tokens: Vec<u32> =
                    positions.iter().map(|(own, position)| token(*own, *position)).collect();
                let selected: Vec<usize> = (0..tokens.len()).collect();
                let logits = transformer.logits(&mut executor, &tokens, &selected).unwrap();
                for (row, (sequence, _)) in positions.iter().enumerate() {
                    served[*sequence].push(bits(logits.row(row)));
                }
                executor.discard(logits);
            }
            let lengths = [300, 136, 65];
            for order in [[0, 1, 2], [2, 0, 1]] {
                executor.begin_packed(&order.map(|document| lengths[document]), &rotary).unwrap();
                let tokens: Vec<u32> = order
                    .iter()
                    .flat_map(|own| (0..lengths[*own]).map(|position| token(*own, position)))
                    .collect();
                let selected: Vec<usize> = (0..tokens.len()).collect();
                let logits = transformer.logits(&mut executor, &tokens, &selected).unwrap();
                let mut row = 0;
                for document in order {
                    // What the sequence shares with sequence 0 was computed there.
                    let first = lengths[document] - served[document].len();
                    for (position, expected) in (first..lengths[document]).zip(&served[document]) {
                        assert!(
                            bits(logits.row(row + position)) == *expected,
                            "{document}, {position}, {simd}"
                        );
                    }
                    row += lengths[document];
                }
                executor.discard(logits);
            }
        }
    }
}
