//! The settings of a `config.json`: which are honoured, which have no effect, and which change the numbers in a way that is not supported.

use serde_json::Value;

use super::fields::Fields;
use crate::errors::{FormatError, quoted};
use crate::families::{Family, MultiplierRule, UnrotatedLayers};

/// Settings that are honoured.
const HONOURED: [&str; 35] = [
    "model_type",
    "architectures",
    "vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
    "hidden_act",
    "hidden_activation",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "quantization_config",
    "num_experts",
    "num_local_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
    "no_rope_layers",
    "no_rope_layer_interval",
];

/// Settings that only some families have, where they are honoured.
const HONOURED_BY_GRANITE: &[&str] =
    &["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"];
const HONOURED_BY_GEMMA: &[&str] =
    &["query_pre_attn_scalar", "sliding_window_pattern", "rope_local_base_freq"];

/// Settings that have no effect on the logits of the supported families, beside those that have none anywhere.
const WITHOUT_EFFECT: [&str; 13] = [
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "pad_token_id",
    "pretraining_tp",
    "is_llama_config",
    "unsloth_version",
    "unsloth_fixed",
    "is_decoder",
    "router_aux_loss_coef",
    "output_router_logits",
    "cache_implementation",
];

/// Settings without effect that only some families' published files have: the pattern that `layer_types` was made from, and the names of
/// Python files that later became part of transformers.
const WITHOUT_EFFECT_IN_GEMMA: &[&str] = &["_sliding_window_pattern"];
const WITHOUT_EFFECT_IN_PHI: &[&str] = &["auto_map"];

/// Settings that change the numbers in a way that is not supported, unless they are absent, null or neutral, or the family honours them.
const REFUSED: [(&str, Neutral); 27] = [
    ("compression_config", Neutral::Null),
    ("text_config", Neutral::Null),
    ("vision_config", Neutral::Null),
    ("is_encoder_decoder", Neutral::False),
    ("add_cross_attention", Neutral::False),
    ("pruned_heads", Neutral::Empty),
    ("per_layer_config", Neutral::Empty),
    ("rope_interleaved", Neutral::False),
    ("use_mrope", Neutral::False),
    ("use_bidirectional_attention", Neutral::False),
    ("alibi", Neutral::False),
    ("qk_layernorm", Neutral::False),
    ("use_qk_norm", Neutral::False),
    ("qkv_bias", Neutral::Null),
    ("n_routed_experts", Neutral::Zero),
    ("shared_intermediate_size", Neutral::Zero),
    ("attention_chunk_size", Neutral::Null),
    ("attn_logit_softcapping", Neutral::Null),
    ("final_logit_softcapping", Neutral::Null),
    ("query_pre_attn_scalar", Neutral::Null),
    ("attention_multiplier", Neutral::One),
    ("embedding_multiplier", Neutral::One),
    ("residual_multiplier", Neutral::One),
    ("logits_scaling", Neutral::One),
    ("logit_scale", Neutral::One),
    ("scale_emb", Neutral::One),
    ("clip_qkv", Neutral::Null),
];

/// The same, for families that rotate in every layer.
const REFUSED_WHERE_ALL_ROTATE: &[(&str, Neutral)] =
    &[("no_rope_layers", Neutral::Empty), ("no_rope_layer_interval", Neutral::Zero)];

/// The value with which a setting changes nothing. Null always is.
#[derive(Clone, Copy)]
enum Neutral {
    Null,
    False,
    Zero,
    One,
    Empty,
}

impl Neutral {
    fn is(self, value: &Value) -> bool {
        match self {
            Neutral::Null => false,
            Neutral::False => value == &Value::Bool(false),
            Neutral::Zero => value.as_f64() == Some(0.0),
            Neutral::One => value.as_f64() == Some(1.0),
            Neutral::Empty => {
                value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)
            }
        }
    }
}

/// Refuses settings that change the numbers in unsupported ways, and lists those that nothing reads.
pub(super) fn sort_out(fields: &Fields<'_>, family: &Family) -> Result<Vec<String>, FormatError> {
    if let Some(method) = fields.fields("quantization_config", "quantization_config.")? {
        let method = method.text("quant_method")?.unwrap_or("unknown");
        return Err(fields.fault(
            "quantization_config",
            format!("weights quantised by method {} are not supported; use a GGUF file", quoted(method)),
        ));
    }
    // One of the two is the family's setting; the other one, which transformers does not read, may not contradict it.
    let expected = family.activation_name();
    for name in ["hidden_act", "hidden_activation"] {
        if let Some(activation) = fields.text(name)?
            && activation != expected
        {
            return Err(fields.fault(name, format!("must be `{expected}`, found {}", quoted(activation))));
        }
    }
    let (honoured, without_effect) = of_the_family(family);
    let where_all_rotate: &[_] = match family.unrotated {
        UnrotatedLayers::Never => REFUSED_WHERE_ALL_ROTATE,
        UnrotatedLayers::Listed { .. } => &[],
    };
    for &(name, neutral) in REFUSED.iter().chain(where_all_rotate) {
        if let Some(value) = fields.get(name)
            && !neutral.is(value)
            && !honoured.contains(&name)
        {
            let problem = format!("the value {} is not supported", quoted(&value.to_string()));
            return Err(fields.fault(name, problem));
        }
    }
    let refused = REFUSED.map(|(name, _)| name);
    Ok(fields.unread(&[&HONOURED, honoured, &WITHOUT_EFFECT, without_effect, &refused]))
}

/// The settings that a family honours and those that have no effect in its files, of those that not all have.
fn of_the_family(family: &Family) -> (&'static [&'static str], &'static [&'static str]) {
    match family.multipliers {
        MultiplierRule::Granite => (HONOURED_BY_GRANITE, &[]),
        MultiplierRule::Gemma { .. } => (HONOURED_BY_GEMMA, WITHOUT_EFFECT_IN_GEMMA),
        MultiplierRule::Never if family.fused => (&[], WITHOUT_EFFECT_IN_PHI),
        MultiplierRule::Never => (&[], &[]),
    }
}
