//! What the depth decides. Every rule says where it comes from.
//!
//! The idea of one dial, and the exponents of batch and learning rate, are those of Karpathy's nanochat, which tuned them
//! at 12 layers and more. Its weight decay and batch grow absurd when they are taken to 2–8 layers, so the constants here are
//! our own; `docs/log.md` has the sweeps.

use super::{
    BatchSection, Configuration, DataSection, FaultPolicy, FaultSection, IntervalSection, LossSection,
    ModelSection, OptimiserKind, OptimiserSection, Orthogonaliser, Overrides, ScheduleKind, ScheduleSection,
};

/// More layers than that are no size for this dial.
pub(super) const MOST_LAYERS: usize = 64;

/// Width of a head: what Qwen3-like models of this size have, and whole vectors for the attention kernels.
const HEAD_DIM: usize = 64;
/// Training tokens for each parameter that multiplies in every token (matrices of the layers and head): nanochat's choice,
/// below the 20 of Hoffmann et al. 2022, whose count has the embedding too.
const TOKENS_PER_PARAMETER: u64 = 12;
/// Tokens of an update when [`REFERENCE_TOKENS`] are trained on.
const REFERENCE_BATCH: f64 = 16_384.0;
const REFERENCE_TOKENS: f64 = 20e6;
/// Exponent by which the best batch grows with the number of tokens (Bergsma et al. 2025, "Power Lines").
const BATCH_EXPONENT: f64 = 0.383;
/// Experts that each token uses, where nobody says.
const ACTIVE_EXPERTS: usize = 2;
/// Weight of the loss that keeps experts equally busy (Fedus et al. 2022, section 2.2).
const BALANCE: f64 = 0.01;
/// Tokens that one pass computes: enough for the matrix products, little enough for the memory of activations.
const MICRO_BATCH_TOKENS: usize = 4096;
/// Hashing all weights takes about a tenth of a second for 50 million parameters: little beside a hundred steps.
pub(super) const COMPARE_RANKS: u64 = 100;

/// Everything for `depth` layers.
pub(super) fn configuration(depth: usize, vocabulary_size: usize) -> Configuration {
    let hidden_size = HEAD_DIM * depth;
    let heads = hidden_size / HEAD_DIM;
    derive(
        Configuration {
            depth,
            seed: 1,
            model: ModelSection {
                vocabulary_size,
                layers: depth,
                // nanochat: 64 for each layer.
                hidden_size,
                // 8/3 of the width, in whole 64s: as many parameters as 4 with two matrices (Shazeer 2020, "GLU Variants").
                intermediate_size: (8 * hidden_size).div_ceil(3).next_multiple_of(64),
                experts: 0,
                active_experts: 0,
                expert_intermediate_size: 0,
                heads,
                // Half as many where that is possible: grouped queries halve the KV cache of serving.
                kv_heads: if heads.is_multiple_of(2) { heads / 2 } else { heads },
                head_dim: HEAD_DIM,
                rope_base: 10_000.0,
                rms_norm_epsilon: 1e-6,
                tied_embeddings: true,
            },
            data: DataSection {
                sequence_length: if depth <= 4 { 256 } else { 512 },
                validation_share: 0.01,
                across_documents: false,
            },
            batch: BatchSection { micro_batches: 1, sequences: 1 },
            optimiser: OptimiserSection {
                kind: OptimiserKind::Muon,
                learning_rate: 0.0,
                embedding_learning_rate: 0.0,
                muon_learning_rate: 0.0,
                weight_decay: 0.1,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                momentum: 0.95,
                orthogonaliser: Orthogonaliser::PolarExpress,
                clip: 1.0,
                average_decay: 0.0,
            },
            schedule: ScheduleSection {
                kind: ScheduleKind::Wsd,
                steps: 0,
                warmup_steps: 0,
                decay_share: 0.4,
                final_share: 0.05,
            },
            loss: LossSection { z_loss: 0.0, balance: 0.0 },
            faults: FaultSection {
                non_finite: FaultPolicy::Stop,
                spike: FaultPolicy::Skip,
                // OLMo's skip-step rule: six deviations over a window of 128.
                spike_deviations: 6.0,
                spike_window: 128,
                most_in_a_row: 8,
            },
            intervals: IntervalSection {
                checkpoint: 0,
                keep: 2,
                validation: 0,
                validation_sequences: 64,
                samples: 0,
                compare_ranks: COMPARE_RANKS,
            },
        },
        None,
    )
}

/// Tokens of the smallest batch, where a sequence is not longer.
pub(super) const LEAST_BATCH_TOKENS: usize = 1 << 10;

/// The settings that follow from the model's shape, the length of sequences, and the number of tokens to train on, which follows from
/// the shape unless it is given.
pub(super) fn derive(mut configuration: Configuration, tokens: Option<u64>) -> Configuration {
    let of_shape = multiplying_parameters(&configuration.model).saturating_mul(TOKENS_PER_PARAMETER);
    let tokens = tokens.unwrap_or(of_shape);
    let length = configuration.data.sequence_length.max(1);

    let wanted = REFERENCE_BATCH * (tokens as f64 / REFERENCE_TOKENS).powf(BATCH_EXPONENT);
    let least = LEAST_BATCH_TOKENS.ilog2().into();
    let batch_tokens = 1usize << (wanted.log2().round().clamp(least, 21.0) as u32);
    let batch_sequences = (batch_tokens / length).max(1).next_power_of_two();
    let sequences = (MICRO_BATCH_TOKENS / length).max(1);
    let sequences = (1 << sequences.ilog2()).min(batch_sequences);
    configuration.batch = BatchSection { micro_batches: batch_sequences / sequences, sequences };

    // Learning rates of AdamW fall with the width (Yang et al. 2022, "Tensor Programs V"), Muon's do not: its updates have
    // singular values near 1 at every width. All grow with the root of the batch (Malladi et al. 2022).
    let batch = (configuration.tokens_per_step() as f64 / REFERENCE_BATCH).sqrt();
    let width = 256.0 / configuration.model.hidden_size.max(1) as f64;
    configuration.optimiser.learning_rate = rounded(3e-3 * width * batch);
    configuration.optimiser.embedding_learning_rate = rounded(0.015 * width.sqrt() * batch);
    configuration.optimiser.muon_learning_rate = rounded(0.01 * batch);

    configuration.loss.balance = if configuration.model.experts > 0 { BALANCE } else { 0.0 };
    configuration.schedule.steps = (tokens / configuration.tokens_per_step().max(1)).max(1);
    configuration.schedule.warmup_steps = warmup(configuration.schedule.steps);
    configuration
}

/// Of a model with experts, what nobody said: as many operations for each token as the dense model of the same depth, whose network
/// is cut into as many parts as experts are active. Only the router comes on top.
pub(super) fn derive_experts(configuration: &mut Configuration) {
    let model = &mut configuration.model;
    if model.experts == 0 {
        return;
    }
    if model.active_experts == 0 {
        model.active_experts = ACTIVE_EXPERTS.min(model.experts);
    }
    if model.expert_intermediate_size == 0 {
        model.expert_intermediate_size = model.intermediate_size.div_ceil(model.active_experts);
    }
}

/// Updates of warm-up: nanochat's 40, but at most a twentieth of a short run.
pub(super) fn warmup(steps: u64) -> u64 {
    (steps / 20).min(40)
}

/// About twenty checkpoints, measurements and samples in a run, unless something else is asked for.
pub(super) fn derive_intervals(configuration: &mut Configuration, overrides: &Overrides) {
    let often = (configuration.schedule.steps / 20).clamp(1, 500);
    let intervals = &mut configuration.intervals;
    for (key, interval) in [
        ("intervals.checkpoint", &mut intervals.checkpoint),
        ("intervals.validation", &mut intervals.validation),
        ("intervals.samples", &mut intervals.samples),
    ] {
        if !overrides.has(key) {
            *interval = often;
        }
    }
}

/// Parameters that multiply in every token: the matrices of the layers (of experts, the active ones and the router), and the head.
pub(super) fn multiplying_parameters(model: &ModelSection) -> u64 {
    let [layers, hidden, inner, vocabulary, heads, kv_heads, head_dim] = [
        model.layers,
        model.hidden_size,
        model.intermediate_size,
        model.vocabulary_size,
        model.heads,
        model.kv_heads,
        model.head_dim,
    ]
    .map(|size| size as u64);
    let attention = 2 * hidden * head_dim * (heads + kv_heads);
    let [experts, active, expert_inner] =
        [model.experts, model.active_experts, model.expert_intermediate_size].map(|size| size as u64);
    let feed_forward = match experts {
        0 => 3 * hidden * inner,
        experts => experts * hidden + active * 3 * hidden * expert_inner,
    };
    layers * (attention + feed_forward) + vocabulary * hidden
}

/// Three digits are enough for a learning rate, and read better.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}
