//! The table of supported model families: the switches in which they differ.
//!
//! A new family is a new row (and perhaps a new switch), never another forward pass. This file does not know how files are
//! parsed.

use crate::config::{RopeLayout, last_of_every};
use crate::errors::quoted;

/// The switches of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// What `model_type` of a `config.json` says.
    pub model_type: &'static str,
    /// The class that `architectures` of a `config.json` names.
    pub class: &'static str,
    /// What `general.architecture` of a GGUF file says; Mistral's files say `llama`.
    pub gguf_architecture: &'static str,
    /// Which two dimensions rotate together in GGUF files, whose converter permutes q and k for some families.
    /// In Hugging Face files it is always [`RopeLayout::HalfSplit`].
    pub gguf_rope_layout: RopeLayout,
    /// Layers whose queries and keys are not rotated by their positions.
    pub unrotated: UnrotatedLayers,
    /// RoPE's base where a `config.json` leaves it out, as in transformers.
    pub default_rope_base: u32,
    /// `tie_word_embeddings` where a `config.json` leaves it out.
    pub default_tied_embeddings: bool,
    /// Biases of the q, k and v projections.
    pub attention_bias: Bias,
    /// Bias of the attention's output projection.
    pub attention_output_bias: Bias,
    /// Biases of the feed-forward projections.
    pub feed_forward_bias: Bias,
    /// Queries and keys are normalised per head.
    pub qk_norm: bool,
    /// How a `config.json` says which layers see only a window.
    pub window: WindowRule,
    /// `head_dim` where a `config.json` leaves it out; `None` is `hidden_size / num_attention_heads`.
    pub default_head_dim: Option<usize>,
    /// `num_key_value_heads` where a `config.json` leaves it out.
    pub default_kv_heads: DefaultKvHeads,
    /// Feed-forward networks are mixtures of experts.
    pub experts: bool,
}

/// Whether a projection has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// In no model of the family.
    Never,
    /// In every model of the family.
    Always,
    /// Where the named setting of a `config.json` is true; in GGUF files, where the tensor exists.
    Setting(&'static str),
}

/// How a `config.json` says which layers see only the most recent positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRule {
    /// The family has no windows.
    Never,
    /// `sliding_window`, in all layers, unless it is null. Where it is left out, the class default applies.
    AllLayers {
        /// The class default.
        default: usize,
    },
    /// `sliding_window` where `use_sliding_window` is true, from layer `max_window_layers` on, or as `layer_types` says.
    LaterLayers,
    /// `sliding_window` where `use_sliding_window` is true, in the layers without rotary embedding, or as `layer_types` says.
    /// Such windows are refused: a [`SlidingWindow`](crate::config::SlidingWindow) begins at one layer.
    UnrotatedLayers,
}

/// Which layers have no rotary embedding, and so see no positions (Kazemnejad et al. 2023, arXiv 2305.19466, "NoPE").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnrotatedLayers {
    /// None.
    Never,
    /// Those for which `no_rope_layers` of a `config.json` has 0; where it is left out, the last of every
    /// `no_rope_layer_interval` layers. GGUF files cannot say it: there it is always the last of every `interval`.
    Listed {
        /// The class default of `no_rope_layer_interval`.
        interval: usize,
    },
}

impl UnrotatedLayers {
    /// The layers without rotary embedding of a model of `layers` layers in a GGUF file, ascending.
    pub(crate) fn in_gguf(self, layers: usize) -> Vec<usize> {
        match self {
            UnrotatedLayers::Never => Vec::new(),
            UnrotatedLayers::Listed { interval } => last_of_every(interval, layers),
        }
    }
}

/// `num_key_value_heads` where a `config.json` leaves it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultKvHeads {
    /// As many as query heads.
    Heads,
    /// A number.
    Number(usize),
}

/// Every supported family.
pub const FAMILIES: [Family; 6] = [
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        gguf_architecture: "llama",
        gguf_rope_layout: RopeLayout::Interleaved,
        unrotated: UnrotatedLayers::Never,
        default_rope_base: 10_000,
        default_tied_embeddings: false,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Setting("mlp_bias"),
        qk_norm: false,
        window: WindowRule::Never,
        default_head_dim: None,
        default_kv_heads: DefaultKvHeads::Heads,
        experts: false,
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        gguf_architecture: "llama",
        gguf_rope_layout: RopeLayout::Interleaved,
        unrotated: UnrotatedLayers::Never,
        default_rope_base: 10_000,
        default_tied_embeddings: false,
        attention_bias: Bias::Never,
        attention_output_bias: Bias::Never,
        feed_forward_bias: Bias::Never,
        qk_norm: false,
        window: WindowRule::AllLayers { default: 4096 },
        default_head_dim: None,
        default_kv_heads: DefaultKvHeads::Number(8),
        experts: false,
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        gguf_architecture: "qwen2",
        gguf_rope_layout: RopeLayout::HalfSplit,
        unrotated: UnrotatedLayers::Never,
        default_rope_base: 10_000,
        default_tied_embeddings: false,
        attention_bias: Bias::Always,
        attention_output_bias: Bias::Never,
        feed_forward_bias: Bias::Never,
        qk_norm: false,
        window: WindowRule::LaterLayers,
        default_head_dim: None,
        default_kv_heads: DefaultKvHeads::Number(32),
        experts: false,
    },
    Family {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        gguf_architecture: "qwen3",
        gguf_rope_layout: RopeLayout::HalfSplit,
        unrotated: UnrotatedLayers::Never,
        default_rope_base: 10_000,
        default_tied_embeddings: false,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Never,
        qk_norm: true,
        window: WindowRule::LaterLayers,
        default_head_dim: Some(128),
        default_kv_heads: DefaultKvHeads::Number(32),
        experts: false,
    },
    Family {
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        gguf_architecture: "qwen3moe",
        gguf_rope_layout: RopeLayout::HalfSplit,
        unrotated: UnrotatedLayers::Never,
        default_rope_base: 10_000,
        default_tied_embeddings: false,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Never,
        qk_norm: true,
        window: WindowRule::Never,
        default_head_dim: None,
        default_kv_heads: DefaultKvHeads::Number(4),
        experts: true,
    },
    Family {
        model_type: "smollm3",
        class: "SmolLM3ForCausalLM",
        gguf_architecture: "smollm3",
        gguf_rope_layout: RopeLayout::Interleaved,
        unrotated: UnrotatedLayers::Listed { interval: 4 },
        default_rope_base: 2_000_000,
        default_tied_embeddings: true,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Setting("mlp_bias"),
        qk_norm: false,
        window: WindowRule::UnrotatedLayers,
        default_head_dim: None,
        default_kv_heads: DefaultKvHeads::Number(4),
        experts: false,
    },
];

/// The switches of one family of encoders: transformers that read a whole text at once and write none (Devlin et al. 2019, "BERT").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderFamily {
    /// What `model_type` of a `config.json` says.
    pub model_type: &'static str,
    /// What the classes that `architectures` of a `config.json` names begin with.
    pub class_stem: &'static str,
    /// What stands before every tensor's name in files of a model with a head for tokens.
    pub prefix: &'static str,
    /// The position of a text's first token.
    pub first_position: FirstPosition,
}

/// The row of the position embeddings that belongs to a text's first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPosition {
    /// The first.
    Zero,
    /// The one behind that of the padding token's id; padding tokens in a text have that one, and are not counted.
    BehindPadding,
}

/// Every supported family of encoders.
pub const ENCODER_FAMILIES: [EncoderFamily; 3] = [
    EncoderFamily {
        model_type: "bert",
        class_stem: "Bert",
        prefix: "bert.",
        first_position: FirstPosition::Zero,
    },
    EncoderFamily {
        model_type: "xlm-roberta",
        class_stem: "XLMRoberta",
        prefix: "roberta.",
        first_position: FirstPosition::BehindPadding,
    },
    EncoderFamily {
        model_type: "roberta",
        class_stem: "Roberta",
        prefix: "roberta.",
        first_position: FirstPosition::BehindPadding,
    },
];

impl EncoderFamily {
    /// The family of a `config.json`.
    pub fn of_model_type(model_type: &str) -> Option<&'static EncoderFamily> {
        ENCODER_FAMILIES.iter().find(|family| family.model_type == model_type)
    }
}

impl Family {
    /// The family of a `config.json`.
    pub fn of_model_type(model_type: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.model_type == model_type)
    }

    /// The family of a GGUF file. The first row with that name stands for all: GGUF files say by the presence of tensors
    /// what a `config.json` says by `model_type`.
    pub fn of_gguf_architecture(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.gguf_architecture == architecture)
    }
}

/// The supported names for messages, such as `llama, mistral, qwen2`.
pub(crate) fn supported(name: impl Fn(&Family) -> &'static str) -> String {
    let mut names: Vec<&str> = FAMILIES.iter().map(name).collect();
    names.dedup();
    names.join(", ")
}

/// Why a model whose files name its kind so is not opened as one that writes; `spelling` is how such files name the families.
pub(crate) fn not_a_writer(name: &str, spelling: impl Fn(&Family) -> &'static str) -> String {
    let (quoted_name, names) = (quoted(name), supported(spelling));
    // GGUF files call encoders as a `config.json` does.
    match EncoderFamily::of_model_type(name) {
        Some(_) => format!(
            "{quoted_name} is an encoder: it gives vectors of texts (`zhenjin embed`, `/v1/embeddings`) and writes none; models that write are {names}"
        ),
        None => format!("{quoted_name} is not supported; supported are {names}"),
    }
}
