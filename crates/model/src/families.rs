//! The table of supported model families: the switches in which they differ.
//!
//! A new family is a new row (and perhaps a new switch), never another forward pass. This file does not know how files are
//! parsed.

use zhenjin_tensor::GateActivation;

use crate::config::{NormPlacement, QueryKeyNorm, RopeLayout, last_of_every};
use crate::errors::quoted;

/// The switches of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// What `model_type` of a `config.json` says.
    pub model_type: &'static str,
    /// The class that `architectures` of a `config.json` names.
    pub class: &'static str,
    /// What the names of its classes without a head for tokens begin with, where it is not what `class` begins with.
    pub other_stem: Option<&'static str>,
    /// What `general.architecture` of a GGUF file says; Mistral's files say `llama`.
    pub gguf_architecture: &'static str,
    /// Which two dimensions rotate together in GGUF files, whose converter permutes q and k for some families.
    /// In Hugging Face files it is always [`RopeLayout::HalfSplit`].
    pub gguf_rope_layout: RopeLayout,
    /// Layers whose queries and keys are not rotated by their positions.
    pub unrotated: UnrotatedLayers,
    /// RoPE's base where a `config.json` leaves it out, as in transformers.
    pub default_rope_base: u32,
    /// RoPE's base in layers with a window where a file leaves it out; `None` for families in which all layers have the same.
    pub windowed_rope_base: Option<u32>,
    /// A `config.json` may have RoPE of the type `longrope`, of which the short factors are used.
    pub long_rope: bool,
    /// `tie_word_embeddings` where a `config.json` leaves it out.
    pub default_tied_embeddings: bool,
    /// Biases of the q, k and v projections.
    pub attention_bias: Bias,
    /// Bias of the attention's output projection.
    pub attention_output_bias: Bias,
    /// Biases of the feed-forward projections.
    pub feed_forward_bias: Bias,
    /// Where a layer's norms stand.
    pub norms: NormPlacement,
    /// Hugging Face folders hold the weights of all norms less 1.
    pub norms_less_one: bool,
    /// How queries and keys are normalised.
    pub qk_norm: QueryKeyNorm,
    /// What the gate of a feed-forward network goes through.
    pub activation: GateActivation,
    /// Where the constant factors of the forward pass come from.
    pub multipliers: MultiplierRule,
    /// How a `config.json` says which layers see only a window.
    pub window: WindowRule,
    /// `head_dim` where a `config.json` leaves it out; `None` is `hidden_size / num_attention_heads`.
    pub default_head_dim: Option<usize>,
    /// `num_key_value_heads` where a `config.json` leaves it out.
    pub default_kv_heads: DefaultKvHeads,
    /// Feed-forward networks are mixtures of experts.
    pub experts: bool,
    /// Files of both formats have one tensor for the q, k and v projections and one for gate and up.
    pub fused: bool,
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
        /// The class default; `None` is no window.
        default: Option<usize>,
    },
    /// `sliding_window` where `use_sliding_window` is true, from layer `max_window_layers` on, or as `layer_types` says.
    LaterLayers,
    /// `sliding_window` where `use_sliding_window` is true, in the layers without rotary embedding, or as `layer_types` says.
    UnrotatedLayers,
    /// `sliding_window`, in all layers but the last of every `sliding_window_pattern`, or as `layer_types` says. In GGUF files it is
    /// always the last of every `interval`, unless they say another number.
    AllButLastOfEvery {
        /// The class default of `sliding_window_pattern`.
        interval: usize,
        /// The class default of `sliding_window`.
        default: usize,
    },
}

/// Where the constant factors of the forward pass come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultiplierRule {
    /// There are none.
    Never,
    /// `embedding_multiplier`, `residual_multiplier`, `attention_multiplier` and `logits_scaling`, by which logits are divided, of a
    /// `config.json`; `embedding_scale`, `residual_scale`, `attention.scale` and `logit_scale` of a GGUF file.
    Granite,
    /// Embedded tokens are multiplied by `√hidden_size`, scores of attention by `1 / √query_pre_attn_scalar`.
    Gemma {
        /// `query_pre_attn_scalar` where a `config.json` leaves it out.
        default_scalar: usize,
    },
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

/// What most families have in common.
const COMMON: Family = Family {
    model_type: "",
    class: "",
    other_stem: None,
    gguf_architecture: "",
    gguf_rope_layout: RopeLayout::HalfSplit,
    unrotated: UnrotatedLayers::Never,
    default_rope_base: 10_000,
    windowed_rope_base: None,
    long_rope: false,
    default_tied_embeddings: false,
    attention_bias: Bias::Never,
    attention_output_bias: Bias::Never,
    feed_forward_bias: Bias::Never,
    norms: NormPlacement::Before,
    norms_less_one: false,
    qk_norm: QueryKeyNorm::Never,
    activation: GateActivation::Silu,
    multipliers: MultiplierRule::Never,
    window: WindowRule::Never,
    default_head_dim: None,
    default_kv_heads: DefaultKvHeads::Heads,
    experts: false,
    fused: false,
};

/// Every supported family.
pub const FAMILIES: [Family; 10] = [
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        gguf_architecture: "llama",
        gguf_rope_layout: RopeLayout::Interleaved,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Setting("mlp_bias"),
        ..COMMON
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        gguf_architecture: "llama",
        gguf_rope_layout: RopeLayout::Interleaved,
        window: WindowRule::AllLayers { default: Some(4096) },
        default_kv_heads: DefaultKvHeads::Number(8),
        ..COMMON
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        gguf_architecture: "qwen2",
        attention_bias: Bias::Always,
        window: WindowRule::LaterLayers,
        default_kv_heads: DefaultKvHeads::Number(32),
        ..COMMON
    },
    Family {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        gguf_architecture: "qwen3",
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        qk_norm: QueryKeyNorm::Heads,
        window: WindowRule::LaterLayers,
        default_head_dim: Some(128),
        default_kv_heads: DefaultKvHeads::Number(32),
        ..COMMON
    },
    Family {
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        gguf_architecture: "qwen3moe",
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        qk_norm: QueryKeyNorm::Heads,
        default_kv_heads: DefaultKvHeads::Number(4),
        experts: true,
        ..COMMON
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
        window: WindowRule::UnrotatedLayers,
        default_kv_heads: DefaultKvHeads::Number(4),
        ..COMMON
    },
    Family {
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        other_stem: Some("Gemma3Text"),
        gguf_architecture: "gemma3",
        default_rope_base: 1_000_000,
        windowed_rope_base: Some(10_000),
        default_tied_embeddings: true,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        norms: NormPlacement::BeforeAndAfter,
        norms_less_one: true,
        qk_norm: QueryKeyNorm::Heads,
        activation: GateActivation::GeluTanh,
        multipliers: MultiplierRule::Gemma { default_scalar: 256 },
        window: WindowRule::AllButLastOfEvery { interval: 6, default: 4096 },
        default_head_dim: Some(256),
        default_kv_heads: DefaultKvHeads::Number(4),
        ..COMMON
    },
    Family {
        model_type: "olmo2",
        class: "Olmo2ForCausalLM",
        gguf_architecture: "olmo2",
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        norms: NormPlacement::After,
        qk_norm: QueryKeyNorm::Whole,
        ..COMMON
    },
    Family {
        model_type: "granite",
        class: "GraniteForCausalLM",
        gguf_architecture: "granite",
        gguf_rope_layout: RopeLayout::Interleaved,
        attention_bias: Bias::Setting("attention_bias"),
        attention_output_bias: Bias::Setting("attention_bias"),
        feed_forward_bias: Bias::Setting("mlp_bias"),
        multipliers: MultiplierRule::Granite,
        ..COMMON
    },
    Family {
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        gguf_architecture: "phi3",
        long_rope: true,
        window: WindowRule::AllLayers { default: None },
        fused: true,
        ..COMMON
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

    /// The family that a configuration's `architecture` names, which is a `model_type` or a GGUF architecture.
    pub fn of_architecture(architecture: &str) -> Option<&'static Family> {
        Family::of_model_type(architecture).or_else(|| Family::of_gguf_architecture(architecture))
    }

    /// The setting of a `config.json` that names the activation.
    pub(crate) fn activation_setting(&self) -> &'static str {
        match self.multipliers {
            MultiplierRule::Gemma { .. } => "hidden_activation",
            MultiplierRule::Never | MultiplierRule::Granite => "hidden_act",
        }
    }

    /// The name that a `config.json` has for the family's activation.
    pub(crate) fn activation_name(&self) -> &'static str {
        match self.activation {
            GateActivation::Silu => "silu",
            GateActivation::GeluTanh => "gelu_pytorch_tanh",
        }
    }
}

/// The supported names for messages, such as `llama, mistral, qwen2`.
pub(crate) fn supported(name: impl Fn(&Family) -> &'static str) -> String {
    let mut names: Vec<&str> = FAMILIES.iter().map(name).collect();
    names.dedup();
    names.join(", ")
}

/// Kinds of models that are refused, and why: people may expect that they are supported, as their relatives are.
const REFUSED_KINDS: [(&str, &str); 11] = [
    ("gemma", "its relative Gemma 3 is"),
    ("gemma2", "it caps the scores of attention and the logits"),
    (
        "gemma3",
        "it reads images too; the folder of a text model (model_type gemma3_text) can be opened, and a GGUF file of its text part",
    ),
    ("gemma3n", "its layers are not those of Gemma 3"),
    ("olmo3", "RoPE is scaled in some of its layers and not in others"),
    ("granitemoe", "its mixtures of experts are not supported; dense Granite models are"),
    ("granitemoeshared", "its mixtures of experts are not supported; dense Granite models are"),
    (
        "granitemoehybrid",
        "folders of this kind are not supported; a GGUF file of a dense one without state-space layers can be opened",
    ),
    ("granitehybrid", "it has layers of state-space models; dense Granite models are supported"),
    ("phimoe", "its mixtures of experts are not supported; dense Phi-3 models are"),
    ("phi3small", "its attention is not that of Phi-3-mini"),
];

/// Why a model whose files name its kind so is not opened as one that writes; `spelling` is how such files name the families.
pub(crate) fn not_a_writer(name: &str, spelling: impl Fn(&Family) -> &'static str) -> String {
    let (quoted_name, names) = (quoted(name), supported(spelling));
    // GGUF files call encoders as a `config.json` does.
    if EncoderFamily::of_model_type(name).is_some() {
        return format!(
            "{quoted_name} is an encoder: it gives vectors of texts (`zhenjin embed`, `/v1/embeddings`) and writes none; models that write are {names}"
        );
    }
    let reason =
        REFUSED_KINDS.iter().find(|(kind, _)| *kind == name).map(|(_, reason)| format!(" ({reason})"));
    format!("{quoted_name} is not supported{}; supported are {names}", reason.unwrap_or_default())
}
