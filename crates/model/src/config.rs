//! The configuration that the forward pass needs: sizes, and the switches in which families differ.

mod checks;
pub(crate) mod fields;
mod from_gguf;
mod from_json;
mod layers_from_json;
mod multipliers;
mod rope_from_json;
mod settings_of_json;
mod shapes;

pub use from_gguf::from_gguf;
pub(crate) use from_gguf::{ROPE_DIVISORS, ROPE_LONG_FACTORS, ROPE_SHORT_FACTORS};
pub use from_json::{MAX_CONFIG_BYTES, ModelClass, from_json, from_json_as};
pub(crate) use multipliers::gemma_in_gguf;

use zhenjin_tensor::GateActivation;

use crate::families::Family;
use crate::tensor_source::{LayerWeightName, WeightName};

/// A configuration, and what its file said that nothing here reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigReading {
    /// The configuration.
    pub config: ModelConfig,
    /// Names of settings that have no meaning for the model's family, quoted for display.
    pub unread: Vec<String>,
    /// The token that fills up texts, if the file names one.
    pub padding: Option<u32>,
}

/// Shape and switches of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name as its file gives it: `llama`, `qwen2`, `qwen3` …
    pub architecture: String,
    /// Number of token ids; rows of the embedding and of the head.
    pub vocabulary_size: usize,
    /// Greatest number of positions that the model was made for.
    pub context_length: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; `heads` is a multiple of it (grouped-query attention).
    pub kv_heads: usize,
    /// Width of one head; a multiple of 8, at most 256.
    pub head_dim: usize,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// That of the layers with a window, where it is another (Gemma 3); of the same `rotary_dim` and `layout`.
    pub windowed_rope: Option<RopeConfig>,
    /// Layers whose queries and keys are not rotated, ascending (SmolLM3); empty where all are.
    pub unrotated_layers: Vec<usize>,
    /// Layers that see only the most recent positions, if the model has such layers.
    pub sliding_window: Option<SlidingWindow>,
    /// ε under the root of every RMSNorm.
    pub rms_norm_epsilon: f32,
    /// Where a layer's norms stand.
    pub norms: NormPlacement,
    /// The files hold the weights of all norms less 1 (Hugging Face folders of Gemma; their GGUF files do not).
    pub norms_less_one: bool,
    /// The head shares its matrix with the embedding.
    pub tied_embeddings: bool,
    /// The q, k and v projections have biases (Qwen2).
    pub attention_bias: bool,
    /// The attention's output projection has a bias too (Llama with `attention_bias`).
    pub attention_output_bias: bool,
    /// The gate, up and down projections have biases (Llama with `mlp_bias`).
    pub feed_forward_bias: bool,
    /// How queries and keys are normalised before RoPE.
    pub qk_norm: QueryKeyNorm,
    /// What the gate of a feed-forward network goes through.
    pub activation: GateActivation,
    /// Constant factors in the forward pass.
    pub multipliers: Multipliers,
    /// Layers whose feed-forward network is a mixture of experts, if the model has such layers.
    pub experts: Option<ExpertsConfig>,
}

/// Mixtures of experts: feed-forward networks of which each row uses a few (Shazeer et al. 2017, arXiv 1701.06538).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that each row uses.
    pub active: usize,
    /// Width inside an expert.
    pub intermediate_size: usize,
    /// The probabilities of a row's experts are divided by their sum.
    pub normalise: bool,
    /// Every so many layers has experts, the last of as many: 1 for all.
    pub every: usize,
    /// Layers that have none all the same.
    pub dense_layers: Vec<usize>,
}

impl ModelConfig {
    /// Query heads that share one key/value head.
    pub fn heads_per_kv_head(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of the concatenated query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Whether the queries and keys of `layer` are rotated by their positions.
    pub fn rotates(&self, layer: usize) -> bool {
        !self.unrotated_layers.contains(&layer)
    }

    /// The experts of `layer`, or `None` where its feed-forward network is a single one.
    pub fn experts_of(&self, layer: usize) -> Option<&ExpertsConfig> {
        let experts = self.experts.as_ref()?;
        let is_sparse = (layer + 1).is_multiple_of(experts.every.max(1));
        (is_sparse && !experts.dense_layers.contains(&layer)).then_some(experts)
    }

    /// The first matrix of the first layer's feed-forward network, whose type stands for that of all.
    pub(crate) fn first_gate(&self) -> WeightName {
        let gate = match self.experts_of(0) {
            Some(_) => LayerWeightName::ExpertGate(0),
            None => LayerWeightName::Gate,
        };
        WeightName::Layer(0, gate)
    }

    /// The number of most recent positions (its own included) that `layer` sees, or `None` when it sees all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.sliding_window.as_ref()?;
        window.layers.binary_search(&layer).is_ok().then_some(window.positions)
    }

    /// Which table of rotary frequencies `layer` uses, of those that [`rope::tables`](crate::rope::tables) makes: 1 for a layer with a
    /// window where such layers have one of their own, else 0.
    pub fn rope_table(&self, layer: usize) -> usize {
        usize::from(self.windowed_rope.is_some() && self.window(layer).is_some())
    }

    /// Whether the model's files, of either format, have one tensor for the q, k and v projections of a layer and one for gate and up (Phi-3).
    pub fn is_fused(&self) -> bool {
        Family::of_architecture(&self.architecture).is_some_and(|family| family.fused)
    }
}

/// Where a layer's norms stand: before attention and the feed-forward network, or behind them, before what they add is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before (Llama).
    Before,
    /// Behind (OLMo 2).
    After,
    /// Both (Gemma 3).
    BeforeAndAfter,
}

impl NormPlacement {
    /// Whether there are norms before attention and the feed-forward network.
    pub fn before(self) -> bool {
        self != NormPlacement::After
    }

    /// Whether there are norms behind attention and the feed-forward network.
    pub fn after(self) -> bool {
        self != NormPlacement::Before
    }
}

/// How queries and keys are normalised before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKeyNorm {
    /// They are not.
    Never,
    /// Each head for itself, with weights of `[head_dim]` (Qwen3, Gemma 3).
    Heads,
    /// All heads as one row, with weights of `[heads · head_dim]` and `[kv_heads · head_dim]` (OLMo 2).
    Whole,
}

/// Constant factors in the forward pass. One of exactly 1 computes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Multipliers {
    /// Of the embedded tokens.
    pub embedding: f32,
    /// Of what attention and the feed-forward network add, behind their norms after.
    pub residual: f32,
    /// Of the scores of attention; `None` is `1 / √head_dim`.
    pub attention: Option<f64>,
    /// Of the logits.
    pub logits: f32,
}

impl Default for Multipliers {
    fn default() -> Multipliers {
        Multipliers { embedding: 1.0, residual: 1.0, attention: None, logits: 1.0 }
    }
}

/// The last of every `interval` of `layers` layers; none for an interval of 0.
pub(crate) fn last_of_every(interval: usize, layers: usize) -> Vec<usize> {
    // A file may name any number of layers; more than are possible are refused when the configuration is checked.
    (0..layers.min(checks::MAX_LAYERS)).filter(|layer| (layer + 1).is_multiple_of(interval)).collect()
}

/// Which layers see only the most recent positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Number of positions seen, the query's own included.
    pub positions: usize,
    /// The layers that see no more, ascending; the others see everything.
    pub layers: Vec<usize>,
}

impl SlidingWindow {
    /// A window in layer `first` and all behind it, of `layers` layers.
    pub fn from_layer(positions: usize, first: usize, layers: usize) -> SlidingWindow {
        // A file may name any number of layers; more than are possible are refused when the configuration is checked.
        SlidingWindow { positions, layers: (first..layers.min(checks::MAX_LAYERS)).collect() }
    }
}

/// Rotary position embedding (Su et al. 2021, "RoFormer").
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// θ, the base of the geometric series of frequencies.
    pub base: f64,
    /// Leading dimensions of each head that rotate; even, at most `head_dim`.
    pub rotary_dim: usize,
    /// Which two dimensions form a pair.
    pub layout: RopeLayout,
    /// How the frequencies are stretched for contexts longer than the ones of pretraining.
    pub scaling: RopeScaling,
}

/// Which two dimensions rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// (2i, 2i+1): GGUF files of the Llama family, whose q and k rows are permuted for it.
    Interleaved,
    /// (i, i + rotary_dim/2): Hugging Face files of all families, GGUF files of Qwen.
    HalfSplit,
}

/// How frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// Every frequency divided by `factor` (Chen et al. 2023, "Position Interpolation").
    Linear {
        /// Stretch of the context.
        factor: f64,
    },
    /// Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, smooth between.
    Llama3 {
        /// Stretch of the context.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are stretched fully.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// Context length of pretraining.
        original_context_length: usize,
    },
    /// YaRN (Peng et al. 2023): a ramp between stretched and kept frequencies, and hotter attention.
    Yarn {
        /// Stretch of the context.
        factor: f64,
        /// Context length of pretraining.
        original_context_length: usize,
        /// Rotations over the original context above which a frequency is kept (32 in the paper).
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is stretched fully (1 in the paper).
        beta_slow: f64,
        /// Multiplies cosines and sines; `None` takes the paper's `0.1 ln(factor) + 1`.
        attention_factor: Option<f64>,
        /// The ends of the ramp are rounded outwards to whole dimensions (what `transformers` does by default).
        truncate: bool,
    },
    /// Every frequency divided by its own number (`rope_freqs.weight` of GGUF): `rotary_dim / 2` of them.
    Divisors(Vec<f32>),
    /// LongRoPE (Ding et al. 2024, arXiv 2402.13753) within the context of pretraining: every frequency divided by its own *short*
    /// factor. Longer texts need other factors in every position, to which no answer may switch midway; so the model's context
    /// length is the original one.
    LongRope {
        /// The short factors: `rotary_dim / 2` of them.
        factors: Vec<f64>,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Context length of pretraining.
        original_context_length: usize,
        /// The factors for longer texts, which nothing is computed with: files that are written keep them.
        long_factors: Vec<f64>,
        /// The length of texts for which those are.
        long_context_length: usize,
    },
}
