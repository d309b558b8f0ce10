//! The configuration of a run: one dial, the depth, gives every setting a value, and a file or the caller changes any of them.
//!
//! Settings without effect have a neutral value (0) instead of being absent, so that the effective configuration that is
//! written beside a run has every key, and can be run again as it is. This module reads no command line.

mod check;
mod dial;
mod merge;

use std::path::Path;

use serde::{Deserialize, Serialize};
use zhenjin_model::ModelConfig;
use zhenjin_model::config::{
    ExpertsConfig, Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling,
};
use zhenjin_tensor::GateActivation;

use crate::plan::{OptimiserMemory, RunShape};

pub use merge::{ConfigurationError, Overrides, differing_keys};

/// Everything that decides which weights a run ends with, and how it is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The dial: number of layers, from which the other settings follow where nothing else is said.
    pub depth: usize,
    /// Of initial weights and of the order of the data.
    pub seed: u64,
    /// Shape of the model.
    pub model: ModelSection,
    /// How shards become sequences.
    pub data: DataSection,
    /// How many sequences make an update.
    pub batch: BatchSection,
    /// What an update does.
    pub optimiser: OptimiserSection,
    /// How learning rates change over the run.
    pub schedule: ScheduleSection,
    /// What is minimised.
    pub loss: LossSection,
    /// What happens when a step is not as it should be.
    pub faults: FaultSection,
    /// When something is saved, measured or shown.
    pub intervals: IntervalSection,
}

/// Shape of the model: a transformer as Qwen3's, or with experts as Qwen3-MoE's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Rows of the embedding; at least the tokenizer's vocabulary.
    pub vocabulary_size: usize,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Experts of each layer, of which each token uses a few instead of one network; 0 for a dense model.
    #[serde(default)]
    pub experts: usize,
    /// Experts that each token uses; 0 in a dense model.
    #[serde(default)]
    pub active_experts: usize,
    /// Width inside an expert; 0 in a dense model.
    #[serde(default)]
    pub expert_intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Base of the rotary position embedding.
    pub rope_base: f64,
    /// ε of the norms.
    pub rms_norm_epsilon: f64,
    /// The head is the embedding.
    pub tied_embeddings: bool,
}

/// How shards become sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Tokens of a packed sequence; also the model's context.
    pub sequence_length: usize,
    /// Share of the documents that are kept for validation.
    pub validation_share: f64,
    /// Attention sees the documents before its own in a packed sequence.
    pub across_documents: bool,
}

/// How many sequences make an update: `micro_batches · sequences` of `sequence_length` tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSection {
    /// Micro-batches, a power of two: gradients are computed for one after the other and summed by a fixed tree.
    pub micro_batches: usize,
    /// Sequences of a micro-batch.
    pub sequences: usize,
}

/// Which optimiser updates matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// AdamW for everything.
    Adamw,
    /// Muon for the matrices of the layers, AdamW for embedding, head and vectors.
    Muon,
}

/// How Muon makes an update's singular values equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orthogonaliser {
    /// Five steps of the quintic of Jordan et al. 2024.
    NewtonSchulz,
    /// The five polynomials of Amsel et al. 2025, "The Polar Express".
    PolarExpress,
}

/// What an update does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSection {
    /// For the matrices of the layers; the rest has AdamW always.
    pub kind: OptimiserKind,
    /// AdamW's highest learning rate for the layers: their matrices (unless Muon has them) and vectors.
    pub learning_rate: f64,
    /// AdamW's highest learning rate for embedding and head.
    pub embedding_learning_rate: f64,
    /// Muon's highest learning rate.
    pub muon_learning_rate: f64,
    /// Decay of matrices per unit of learning rate (Loshchilov & Hutter 2019); vectors and the embedding do not decay.
    pub weight_decay: f64,
    /// AdamW's decay of the mean gradient.
    pub beta1: f64,
    /// AdamW's decay of the mean squared gradient.
    pub beta2: f64,
    /// AdamW's ε.
    pub epsilon: f64,
    /// Muon's (Nesterov) momentum.
    pub momentum: f64,
    /// How Muon makes singular values equal.
    pub orthogonaliser: Orthogonaliser,
    /// Greatest norm of all gradients together; 0 does not clip.
    pub clip: f64,
    /// Decay of an exponential moving average of the weights; 0 keeps none.
    pub average_decay: f64,
}

/// How learning rates change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Warm-up, stable, linear decay (Hu et al. 2024, "MiniCPM").
    Wsd,
    /// Warm-up, then half a cosine (Loshchilov & Hutter 2017, "SGDR").
    Cosine,
}

/// How learning rates change over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSection {
    /// The curve.
    pub kind: ScheduleKind,
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates over which learning rates rise from 0.
    pub warmup_steps: u64,
    /// Share of the run, at its end, in which WSD's learning rates fall.
    pub decay_share: f64,
    /// What is left of the learning rates at the end.
    pub final_share: f64,
}

/// What is minimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSection {
    /// Weight of the mean squared logarithm of the softmax's denominator (Chowdhery et al. 2022, "PaLM"); 0 leaves it out.
    pub z_loss: f64,
    /// Weight of the loss that keeps experts equally busy: of each layer E · Σ f_e · p_e over its E experts, with the share f_e of the
    /// choices of the update before, on all ranks and micro-batches together, and the mean probability p_e (Fedus et al. 2022,
    /// "Switch Transformers", equations 4–6; over the whole batch: Qiu et al. 2025, arXiv 2501.11873). 0 leaves it out.
    #[serde(default)]
    pub balance: f64,
}

/// What to do about a step whose loss or gradient is not finite, or far from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPolicy {
    /// End the run with an error.
    Stop,
    /// Leave the update out and go on.
    Skip,
    /// Return to the last checkpoint, and leave the batch out.
    RollBack,
}

/// What happens when a step is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSection {
    /// What to do when loss or gradient is not a finite number.
    pub non_finite: FaultPolicy,
    /// What to do when loss or gradient norm leaps.
    pub spike: FaultPolicy,
    /// A leap is this many standard deviations over the mean of the window; 0 looks for none.
    pub spike_deviations: f64,
    /// Steps of the window; nothing counts as a leap before half of it is filled.
    pub spike_window: usize,
    /// How many faults in a row end the run, whatever the policy.
    pub most_in_a_row: usize,
}

/// When something is saved, measured or shown. In steps; 0 is never (checkpoints: only at the end).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalSection {
    /// Steps between checkpoints.
    pub checkpoint: u64,
    /// Checkpoints that are kept, beside the best.
    pub keep: usize,
    /// Steps between measurements on the validation documents.
    pub validation: u64,
    /// Most sequences of a measurement.
    pub validation_sequences: u64,
    /// Steps between sample texts.
    pub samples: u64,
    /// Steps between comparisons of the weights of several ranks, by their hashes.
    #[serde(default = "default_compare_ranks")]
    pub compare_ranks: u64,
}

/// What the dial says; also for configurations of runs that were begun when there was no such setting.
fn default_compare_ranks() -> u64 {
    dial::COMPARE_RANKS
}

impl Configuration {
    /// The dial's values for a tokenizer with `vocabulary_size` tokens, with `overrides` on top: first those of the model's
    /// shape and sequence length, from which the other values follow, then the rest.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the key that does not exist (and the nearest that does), the value of the wrong type, or
    /// the setting that is out of range.
    pub fn resolve(
        depth: usize,
        vocabulary_size: usize,
        overrides: &Overrides,
    ) -> Result<Configuration, ConfigurationError> {
        Configuration::resolve_with(depth, vocabulary_size, None, overrides)
    }

    /// As [`Configuration::resolve`], for training on about `tokens` tokens: batch and learning rates follow from those.
    ///
    /// # Errors
    /// As for [`Configuration::resolve`], and when `tokens` is less than one step takes.
    pub fn resolve_for(
        depth: usize,
        vocabulary_size: usize,
        tokens: u64,
        overrides: &Overrides,
    ) -> Result<Configuration, ConfigurationError> {
        Configuration::resolve_with(depth, vocabulary_size, Some(tokens), overrides)
    }

    /// Tokens of the smallest step that the dial chooses: fewer are not trained on, unless a smaller batch is given.
    pub fn least_step_tokens(&self) -> u64 {
        dial::LEAST_BATCH_TOKENS.max(self.data.sequence_length.next_power_of_two()) as u64
    }

    fn resolve_with(
        depth: usize,
        vocabulary_size: usize,
        tokens: Option<u64>,
        overrides: &Overrides,
    ) -> Result<Configuration, ConfigurationError> {
        if !(1..=dial::MOST_LAYERS).contains(&depth) {
            return Err(ConfigurationError::OutOfRange {
                key: "depth".to_owned(),
                problem: format!("must be 1 to {}, found {depth}", dial::MOST_LAYERS),
            });
        }
        let start = dial::configuration(depth, vocabulary_size);
        let mut shaped = overrides.shape_only().apply(&start)?;
        dial::derive_experts(&mut shaped);
        let derived = dial::derive(shaped, tokens);
        let mut configuration = overrides.apply(&derived)?;
        // A file of a dense model says 0, which is no number of active experts.
        dial::derive_experts(&mut configuration);
        if let (Some(tokens), false) = (tokens, overrides.has("schedule.steps")) {
            // A batch that was given may be another than the one that the steps were derived from.
            configuration.schedule.steps = tokens / configuration.tokens_per_step().max(1);
            if configuration.schedule.steps == 0 {
                return Err(ConfigurationError::OutOfRange {
                    key: "schedule.steps".to_owned(),
                    problem: format!(
                        "would be 0: {tokens} tokens are less than one step, which takes {}; train on more, or set a smaller batch",
                        configuration.tokens_per_step()
                    ),
                });
            }
        }
        if !overrides.has("schedule.warmup_steps") {
            configuration.schedule.warmup_steps = dial::warmup(configuration.schedule.steps);
        }
        dial::derive_intervals(&mut configuration, overrides);
        configuration.check()?;
        Ok(configuration)
    }

    /// This configuration with some settings changed, and nothing derived from them.
    ///
    /// # Errors
    /// As for [`Configuration::resolve`].
    pub fn overridden(&self, overrides: &Overrides) -> Result<Configuration, ConfigurationError> {
        let configuration = overrides.apply(self)?;
        configuration.check()?;
        Ok(configuration)
    }

    /// Reads an effective configuration that has every key.
    ///
    /// # Errors
    /// [`ConfigurationError`] as for [`Configuration::resolve`]; a missing key is named as well.
    pub fn from_toml(text: &str, origin: &Path) -> Result<Configuration, ConfigurationError> {
        let configuration: Configuration = toml::from_str(text).map_err(|error| {
            ConfigurationError::Syntax { origin: origin.to_owned(), problem: error.to_string() }
        })?;
        configuration.check()?;
        Ok(configuration)
    }

    /// As TOML, every key in its section.
    pub fn to_toml(&self) -> String {
        // Numbers, strings and booleans in named fields can always be written.
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// The model as the engine knows it.
    pub fn model_config(&self) -> ModelConfig {
        let model = &self.model;
        ModelConfig {
            architecture: if model.experts > 0 { "qwen3_moe" } else { "qwen3" }.to_owned(),
            vocabulary_size: model.vocabulary_size,
            context_length: self.data.sequence_length,
            layers: model.layers,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            rope: RopeConfig {
                base: model.rope_base,
                rotary_dim: model.head_dim,
                layout: RopeLayout::HalfSplit,
                scaling: RopeScaling::None,
            },
            windowed_rope: None,
            unrotated_layers: Vec::new(),
            sliding_window: None,
            rms_norm_epsilon: model.rms_norm_epsilon as f32,
            norms: NormPlacement::Before,
            norms_less_one: false,
            tied_embeddings: model.tied_embeddings,
            attention_bias: false,
            attention_output_bias: false,
            feed_forward_bias: false,
            qk_norm: QueryKeyNorm::Heads,
            activation: GateActivation::Silu,
            multipliers: Multipliers::default(),
            experts: (model.experts > 0).then(|| ExpertsConfig {
                count: model.experts,
                active: model.active_experts,
                intermediate_size: model.expert_intermediate_size,
                normalise: true,
                every: 1,
                dense_layers: Vec::new(),
            }),
        }
    }

    /// Parameters that multiply in every token: the matrices of the layers (of experts, the active ones), and the head.
    pub fn multiplying_parameters(&self) -> u64 {
        dial::multiplying_parameters(&self.model)
    }

    /// What of it decides the run's cost, on one machine. `document_length` is the mean length of documents in a sequence.
    pub fn run_shape(&self, document_length: Option<usize>, recomputed_layers: Option<usize>) -> RunShape {
        RunShape {
            sequence_length: self.data.sequence_length,
            sequences: self.batch.sequences,
            micro_batches: self.batch.micro_batches,
            steps: self.schedule.steps,
            document_length,
            documents: 0,
            optimiser: match self.optimiser.kind {
                OptimiserKind::Adamw => OptimiserMemory::Adamw,
                OptimiserKind::Muon => OptimiserMemory::Muon,
            },
            averages_weights: self.optimiser.average_decay > 0.0,
            recomputed_layers,
            ranks: 1,
            // The best one stays beside the last ones.
            kept_checkpoints: self.intervals.keep.saturating_add(1),
        }
    }

    /// Sequences of an update.
    pub fn sequences_per_step(&self) -> u64 {
        (self.batch.micro_batches * self.batch.sequences) as u64
    }

    /// Tokens of an update.
    pub fn tokens_per_step(&self) -> u64 {
        self.sequences_per_step() * self.data.sequence_length as u64
    }
}

#[cfg(test)]
mod tests;
