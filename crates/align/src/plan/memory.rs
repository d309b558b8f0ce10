//! The memory of a run at its peak, part by part, and its checkpoints on disk.

use serde::Serialize;
use zhenjin_model::{ModelConfig, PAGE_TOKENS, WeightName};
use zhenjin_train::plan::{MemoryEstimate, OptimiserMemory, ParameterCount, RunShape};

use super::StepTokens;
use crate::configuration::{Configuration, Method, TuningKind, TuningSection};
use crate::rollouts::{MOST_AT_ONCE, PREFILL_CHUNK};
use crate::trainee::fresh;

/// Bytes of an f32.
const FLOAT: u64 = 4;
/// The rows of a matrix are stored in tiles of so many.
const TILE_ROWS: usize = 16;
/// The program, its tokenizer, its stacks and the data in tokens; by measurement.
const PROGRAM_BYTES: u64 = 56 << 20;
/// Bytes for each token of the vocabulary in the tokenizer's tables; by measurement.
const BYTES_PER_TOKEN_OF_VOCABULARY: u64 = 400;
/// One part in so many of the activations is lost between the allocator's pieces; by measurement.
const LOST_PART: u64 = 12;

/// The models that a run has in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlannedModel {
    /// Bytes of the policy's weights as they are computed with.
    pub weights: u64,
    /// Bytes of whole reward models beside it.
    pub reward_weights: u64,
    /// Reward models and judges, whole or adapters.
    pub reward_models: usize,
    /// Bytes of the weights that answers are written with instead.
    pub rollout_weights: u64,
    /// Elements of an adapter that is trained further, if one is.
    pub adapter_elements: Option<u64>,
    /// The model that is learnt from, if there is one.
    pub teacher: Option<PlannedTeacher>,
    /// All layers are computed again on the way back.
    pub recomputes: bool,
    /// The critic is a reward model with weights of its own, all of which learn.
    pub whole_critic: bool,
}

/// A model that only computes beside the one that learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTeacher {
    /// Bytes of its weights as they are computed with.
    pub weights: u64,
    /// Bytes that a pass takes.
    pub pass: u64,
}

impl PlannedTeacher {
    /// One of this shape, with `weights` bytes, that reads at most `rows` rows at a time.
    pub fn of(config: &ModelConfig, weights: u64, rows: usize) -> PlannedTeacher {
        let pass = pass(config, rows, true);
        PlannedTeacher { weights, pass: pass.workspace + pass.logits }
    }
}

/// Bytes of memory at a run's peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlannedMemory {
    /// The policy's weights, in the type that they are computed with.
    pub weights: u64,
    /// An adapter's matrices, and those of the adapter that it began as.
    pub adapter: u64,
    /// Gradients of what learns.
    pub gradients: u64,
    /// Moments of what learns.
    pub optimiser: u64,
    /// Weights that the policy is measured against, where all weights learn.
    pub reference: u64,
    /// What the forward pass keeps for the way back, and what one operation on it needs.
    pub activations: u64,
    /// Logits of the rows that the head computes together.
    pub logits: u64,
    /// Keys and values of the answers that are written at once, the workspace of their steps, and weights of their own.
    pub rollouts: u64,
    /// A critic: weights, what of it learns, and its activations.
    pub critic: u64,
    /// Reward models and judges.
    pub reward_models: u64,
    /// A teacher: its weights and a pass of it.
    pub teacher: u64,
    /// The program itself, its tokenizer, and what the allocator cannot use.
    pub program: u64,
    /// All of it.
    pub total: u64,
}

impl PlannedMemory {
    pub(super) fn of(
        configuration: &Configuration,
        config: &ModelConfig,
        tokens: &StepTokens,
        models: &PlannedModel,
    ) -> PlannedMemory {
        let is_full = configuration.tuning.kind == TuningKind::Full;
        let parameters = ParameterCount::of(config).total();
        let adapter = adapter_elements(config, &configuration.tuning, models);
        let learning = if is_full { parameters } else { adapter };
        let largest_pass = tokens.different_rows.max(tokens.anchor_rows);
        // Values are asked for at few rows: the last layer's feed-forward network is hardly computed.
        let last = usize::from(configuration.method == Method::Reward && config.layers > 1);
        let computed = ModelConfig { layers: config.layers - last, ..config.clone() };
        let pass = pass(&computed, largest_pass, models.recomputes);
        // The A·x of every adapted projection is kept.
        let low_rank = match is_full {
            true => 0,
            false => FLOAT * (largest_pass * config.layers * 7 * configuration.tuning.rank) as u64,
        };
        let activations = pass.activations + pass.workspace + low_rank;
        let needs_reference = match (configuration.method, configuration.policy) {
            (Method::Dpo | Method::Kto, _) => true,
            (Method::Sft, _) => configuration.anchor.is_some(),
            (_, Some(policy)) => {
                policy.kl > 0.0 || configuration.watch.is_some_and(|watch| watch.most_kl > 0.0)
            }
            _ => false,
        };
        let copies = 1 + u64::from(models.adapter_elements.is_some());
        let mut memory = PlannedMemory {
            weights: models.weights,
            adapter: if is_full { 0 } else { FLOAT * adapter * copies },
            gradients: FLOAT * learning,
            optimiser: 2 * FLOAT * learning,
            // Methods with given answers let go of it before they have moments and a way back.
            reference: if is_full && needs_reference && configuration.rollout.is_some() {
                FLOAT * parameters
            } else {
                0
            },
            activations,
            logits: if configuration.method == Method::Reward { 0 } else { pass.logits },
            rollouts: rollouts(configuration, config, tokens) + models.rollout_weights,
            critic: match configuration.critic {
                Some(_) if models.whole_critic => 4 * FLOAT * parameters + activations,
                // Its weights are its own: all of them learn, or an adapter does.
                Some(_) => models.weights + 4 * FLOAT * learning + activations,
                None => 0,
            },
            reward_models: models.reward_weights
                + models.reward_models as u64 * (FLOAT * adapter + pass.workspace),
            teacher: models.teacher.map_or(0, |teacher| teacher.weights + teacher.pass),
            program: PROGRAM_BYTES
                + BYTES_PER_TOKEN_OF_VOCABULARY * config.vocabulary_size as u64
                + activations / LOST_PART,
            total: 0,
        };
        memory.total = memory.parts().map(|(_, bytes)| bytes).sum();
        memory
    }

    /// The parts that there are, with their names.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimiser", self.optimiser),
            ("reference", self.reference),
            ("activations", self.activations),
            ("logits", self.logits),
            ("answers being written", self.rollouts),
            ("critic", self.critic),
            ("reward models", self.reward_models),
            ("teacher", self.teacher),
            ("program", self.program),
        ]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
    }
}

/// What a forward pass with its way back takes for so many rows.
fn pass(config: &ModelConfig, rows: usize, recomputes: bool) -> MemoryEstimate {
    let shape = RunShape {
        sequence_length: rows,
        sequences: 1,
        micro_batches: 1,
        steps: 1,
        document_length: None,
        documents: 0,
        optimiser: OptimiserMemory::Adamw,
        averages_weights: false,
        recomputed_layers: None,
        ranks: 1,
        kept_checkpoints: 0,
    };
    MemoryEstimate::of(config, &shape, if recomputes { config.layers } else { 0 })
}

/// Elements of an adapter's matrices as they are stored.
pub(super) fn adapter_elements(config: &ModelConfig, tuning: &TuningSection, models: &PlannedModel) -> u64 {
    if let Some(elements) = models.adapter_elements {
        return elements;
    }
    if tuning.kind == TuningKind::Full {
        return 0;
    }
    let fresh = fresh(tuning);
    let of_weight = |weight: WeightName| {
        let WeightName::Layer(_, projection) = weight else { return 0 };
        if !fresh.projections.contains(&projection) {
            return 0;
        }
        let shape = config.shape(weight);
        let tiles = |rows: usize| rows.next_multiple_of(TILE_ROWS);
        (tiles(fresh.rank) * shape[1] + tiles(shape[0]) * fresh.rank) as u64
    };
    config.weights().map(of_weight).sum()
}

/// Keys and values in f32 of all answers that are written at once, and the workspace of a step of the engine.
fn rollouts(configuration: &Configuration, config: &ModelConfig, tokens: &StepTokens) -> u64 {
    let Some(rollout) = configuration.rollout else { return 0 };
    let of_step = configuration.batch.examples * rollout.answers;
    let at_once = of_step.max(tokens.held_out_prompts).clamp(1, MOST_AT_ONCE);
    let pages = tokens.pages;
    let page = config.layers * 2 * config.kv_width() * PAGE_TOKENS;
    let rows = 2 * at_once.max(PREFILL_CHUNK);
    let row = 4 * config.hidden_size
        + 3 * config.intermediate_size
        + 2 * config.query_width()
        + 2 * config.kv_width();
    FLOAT * (pages * page + rows * row + at_once * config.vocabulary_size) as u64
}

/// Bytes on disk: what learns with its two moments, for each checkpoint that is kept, the best, and the one that is being written.
pub(super) fn checkpoint_bytes(
    configuration: &Configuration,
    config: &ModelConfig,
    models: &PlannedModel,
) -> u64 {
    let learning = match configuration.tuning.kind {
        TuningKind::Full => ParameterCount::of(config).total(),
        TuningKind::Lora => adapter_elements(config, &configuration.tuning, models),
    };
    let trainees = 1 + u64::from(configuration.critic.is_some());
    3 * FLOAT * learning * trainees * (configuration.intervals.keep as u64 + 2)
}
