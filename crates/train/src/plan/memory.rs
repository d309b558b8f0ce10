//! The memory that a run takes at its peak, part by part, and its checkpoints on disk.

use super::{ParameterCount, Refusal, RunShape};
use serde::Serialize;
use zhenjin_model::ModelConfig;

/// Bytes of an f32.
const FLOAT: u64 = 4;
/// The head is computed in chunks: logits that exist at one time, and the fewest and the most rows of a chunk.
const LOGITS: u64 = 8 << 20;
const FEWEST_LOGITS_ROWS: u64 = 48;
const MOST_LOGITS_ROWS: u64 = 256;
/// The program, its stacks, and the stretches of the data that are mapped; by measurement.
const PROGRAM_BYTES: u64 = 38 << 20;
/// One part in so many of the activations is lost between the allocator's pieces; by measurement.
const LOST_PART: u64 = 12;
/// A document's places in the lists of all, of an epoch's order and of its ends.
const BYTES_PER_DOCUMENT: u64 = 20;

/// Bytes of memory at a run's peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Weights in f32.
    pub weights: u64,
    /// Gradients: one buffer for what is being computed, and one for each level of the tree over micro-batches.
    pub gradients: u64,
    /// What the optimiser keeps for each parameter, and the moving average of the weights.
    pub optimiser: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// What one operation of the backward pass needs beside that.
    pub workspace: u64,
    /// Logits of the rows that the head computes together, and their gradients.
    pub logits: u64,
    /// The program itself, the order of the documents, and what the allocator cannot use.
    pub program: u64,
    /// All of it.
    pub total: u64,
}

impl MemoryEstimate {
    /// The estimate for one process of a run that computes so many layers again.
    pub fn of(config: &ModelConfig, shape: &RunShape, recomputed_layers: usize) -> Self {
        let parameters = ParameterCount::of(config);
        let total_parameters = parameters.total();
        let rows = (shape.sequences * shape.sequence_length) as u64;
        let [layers, hidden, inner, queries, kv, heads, vocabulary] = [
            config.layers,
            config.hidden_size,
            config.intermediate_size,
            config.query_width(),
            config.kv_width(),
            config.heads,
            config.vocabulary_size,
        ]
        .map(|size| size as u64);
        // What the backward pass reads of a layer and cannot compute again cheaply: the inputs of all norms, queries and keys (before their norms),
        // values, attention's output with a logarithm per head, gate and up.
        // Of experts, gate and up of the active ones, the routers' scores, and which were chosen (place, weight, order).
        let of_experts = config.experts.as_ref().map_or([0; 3], |experts| {
            [experts.count, experts.active, experts.intermediate_size].map(|size| size as u64)
        });
        let [count, active, expert_inner] = of_experts;
        let feed_forward = if count > 0 { 2 * active * expert_inner + count + 4 * active } else { 2 * inner };
        // Without norms before them, projections read a copy of the residual stream.
        let inputs = if config.norms.after() { 4 } else { 2 };
        let layer = inputs * hidden + 2 * queries + 2 * kv + heads + feed_forward;
        // One recomputed layer is on the tape at a time, in memory that the others have left.
        let recomputed = (recomputed_layers as u64).min(layers);
        let kept = recomputed.min(layers.saturating_sub(1)) * hidden + (layers - recomputed).max(1) * layer;
        // The largest operation going back: SwiGLU's product and its gradient (those of gate and up take the place of gate and up), or queries, keys and values with theirs; and the residual stream's.
        // Of experts one at a time: its rows, SwiGLU's product and its gradient.
        let going_back = if count > 0 { 2 * hidden + 2 * expert_inner + count } else { 2 * inner };
        let transient = going_back.max(3 * queries + 4 * kv) + 4 * hidden;
        // Matrices are transposed in pieces of 4 MiB at most.
        let transposed = (1_u64 << 20).min((parameters.matrices - parameters.idle_matrices) / layers.max(1));
        let logits_rows = (LOGITS / vocabulary.max(1)).clamp(FEWEST_LOGITS_ROWS, MOST_LOGITS_ROWS).min(rows);
        let weights = FLOAT * total_parameters;
        let shared = shape.ranks.max(1) as u64;
        let states = match shape.optimiser {
            OptimiserMemory::Adamw => 2 * total_parameters,
            OptimiserMemory::Muon => 2 * total_parameters - parameters.matrices,
        };
        let activations = FLOAT * rows * (kept + hidden);
        let estimate = Self {
            weights,
            gradients: FLOAT * total_parameters * gradient_buffers(shape.micro_batches / shape.ranks.max(1)),
            optimiser: FLOAT * states / shared + if shape.averages_weights { weights } else { 0 },
            activations,
            workspace: FLOAT * (rows * transient + transposed),
            logits: FLOAT * logits_rows * vocabulary,
            program: PROGRAM_BYTES + activations / LOST_PART + BYTES_PER_DOCUMENT * shape.documents,
            total: 0,
        };
        Self {
            total: estimate.weights
                + estimate.gradients
                + estimate.optimiser
                + estimate.activations
                + estimate.workspace
                + estimate.logits
                + estimate.program,
            ..estimate
        }
    }
}

impl MemoryEstimate {
    /// Whether so much memory suffices, with so many layers computed again.
    ///
    /// # Errors
    /// [`Refusal::Memory`], with the figures.
    pub fn check(&self, available: u64, recomputed_layers: usize) -> Result<(), Refusal> {
        if self.total <= available {
            return Ok(());
        }
        let fixed = self.weights + self.gradients + self.optimiser;
        let advice = match (fixed > available, recomputed_layers > 0) {
            (true, _) => "choose a smaller model",
            (false, false) => "let layers be computed again (recompute), or take fewer sequences at a time",
            (false, true) => "take fewer sequences at a time and more micro-batches, or a smaller model",
        };
        let activations = self.activations + self.workspace + self.logits;
        Err(Refusal::Memory { needed: self.total, available, fixed, activations, advice })
    }
}

/// Buffers of gradients that are alive at once when the leaves of a binary tree are summed as they come: a complete subtree of each size waits for its other half.
fn gradient_buffers(micro_batches: usize) -> u64 {
    u64::from(micro_batches.max(1).ilog2()) + 1
}

/// What an optimiser keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserMemory {
    /// Two numbers a parameter.
    Adamw,
    /// One for the layers' matrices, two for the rest.
    Muon,
}

/// Bytes on disk of a run: checkpoints with weights and optimiser, one more than are kept because a new one is written before the oldest is removed.
pub fn checkpoint_bytes(config: &ModelConfig, shape: &RunShape) -> u64 {
    let parameters = ParameterCount::of(config);
    let states = match shape.optimiser {
        OptimiserMemory::Adamw => 2 * parameters.total(),
        OptimiserMemory::Muon => 2 * parameters.total() - parameters.matrices,
    };
    let average = if shape.averages_weights { parameters.total() } else { 0 };
    FLOAT * (parameters.total() + states + average) * (shape.kept_checkpoints as u64 + 1)
}
