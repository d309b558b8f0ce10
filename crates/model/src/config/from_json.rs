//! Configuration from the `config.json` of a Hugging Face folder.
//!
//! Every setting that changes the numbers is honoured or refused by name. Those that neither this file nor the model's
//! class in transformers reads are listed, so that they can be shown.

use serde_json::Value;

use super::fields::Fields;
use super::rope_from_json::rope;
use super::{ConfigReading, ExpertsConfig, ModelConfig, RopeScaling, SlidingWindow, last_of_every};
use crate::errors::{FormatError, quoted};
use crate::families::{
    Bias, DefaultKvHeads, ENCODER_FAMILIES, Family, UnrotatedLayers, WindowRule, not_a_writer,
};
use crate::json;

/// The longest `config.json` that is read. Real ones have a few kilobytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Settings that are honoured.
const HONOURED: [&str; 34] = [
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

/// Settings that have no effect on the logits of the supported families, beside those that have none anywhere.
const WITHOUT_EFFECT: [&str; 10] = [
    "attention_dropout",
    "hidden_dropout",
    "pad_token_id",
    "pretraining_tp",
    "is_llama_config",
    "unsloth_version",
    "unsloth_fixed",
    "is_decoder",
    "router_aux_loss_coef",
    "output_router_logits",
];

/// Settings that change the numbers in a way that is not supported, unless they are absent, null or neutral.
const REFUSED: [(&str, Neutral); 26] = [
    ("compression_config", Neutral::Null),
    ("text_config", Neutral::Null),
    ("vision_config", Neutral::Null),
    ("is_encoder_decoder", Neutral::False),
    ("add_cross_attention", Neutral::False),
    ("pruned_heads", Neutral::Empty),
    ("per_layer_config", Neutral::Empty),
    ("rope_interleaved", Neutral::False),
    ("use_mrope", Neutral::False),
    ("alibi", Neutral::False),
    ("qk_layernorm", Neutral::False),
    ("use_qk_norm", Neutral::False),
    ("qkv_bias", Neutral::Null),
    ("n_routed_experts", Neutral::Zero),
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
    ("hidden_activation", Neutral::Text("silu")),
    ("clip_qkv", Neutral::Null),
];

/// The same, for families that rotate in every layer.
const REFUSED_WHERE_ALL_ROTATE: &[(&str, Neutral)] =
    &[("no_rope_layers", Neutral::Empty), ("no_rope_layer_interval", Neutral::Zero)];

/// What a model's last layer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelClass {
    /// Logits of the next token: `…ForCausalLM`.
    CausalLm,
    /// One score of a text: `…ForSequenceClassification` with one label. Its configuration says that the head is the embedding, as it has no head
    /// for tokens.
    SequenceClassification,
}

impl ModelClass {
    const SEQUENCE_CLASSIFICATION: &'static str = "ForSequenceClassification";

    /// The name of this class for a family.
    pub(crate) fn name(self, family: &Family) -> String {
        match self {
            ModelClass::CausalLm => family.class.to_owned(),
            ModelClass::SequenceClassification => {
                let stem = family.class.strip_suffix("ForCausalLM").unwrap_or(family.class);
                format!("{stem}{}", ModelClass::SEQUENCE_CLASSIFICATION)
            }
        }
    }
}

/// The value with which a setting changes nothing. Null always is.
#[derive(Clone, Copy)]
enum Neutral {
    Null,
    False,
    Zero,
    One,
    Empty,
    Text(&'static str),
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
            Neutral::Text(text) => value.as_str() == Some(text),
        }
    }
}

/// Reads the `config.json` of a model that writes text.
///
/// # Errors
/// [`FormatError`] naming the field that is missing, of the wrong type, impossible or not supported.
pub fn from_json(text: &[u8]) -> Result<ConfigReading, FormatError> {
    from_json_as(text, ModelClass::CausalLm)
}

/// Reads the `config.json` of a model of this class.
///
/// # Errors
/// As [`from_json`]; also for more labels than one.
pub fn from_json_as(text: &[u8], class: ModelClass) -> Result<ConfigReading, FormatError> {
    let document = json::parse(text, MAX_CONFIG_BYTES)?;
    let object =
        document.as_object().ok_or_else(|| FormatError::new("JSON", "the document must be an object"))?;
    let fields = Fields { object, prefix: "" };
    let family = family(&fields, class)?;
    let mut unread = sort_out(&fields, family)?;
    let scores = class == ModelClass::SequenceClassification;
    if scores {
        check_one_label(&fields)?;
        unread.retain(|name| name != "`num_labels`");
    }

    let heads = fields.required_size("num_attention_heads")?;
    let hidden_size = fields.required_size("hidden_size")?;
    let head_dim = head_dim(&fields, family, hidden_size, heads)?;
    let layers = fields.required_size("num_hidden_layers")?;
    let rope = rope(&fields, head_dim, family.default_rope_base)?;
    let unrotated_layers = unrotated_layers(&fields, family, layers)?;
    let config = ModelConfig {
        architecture: family.model_type.to_owned(),
        vocabulary_size: fields.required_size("vocab_size")?,
        context_length: context_length(&fields, &rope.scaling)?,
        layers,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        heads,
        kv_heads: kv_heads(&fields, family, heads)?,
        head_dim,
        rope,
        sliding_window: window(&fields, family, layers, &unrotated_layers)?,
        unrotated_layers,
        rms_norm_epsilon: fields.required_number("rms_norm_eps")? as f32,
        tied_embeddings: scores
            || fields.bool("tie_word_embeddings")?.unwrap_or(family.default_tied_embeddings),
        attention_bias: bias(&fields, family.attention_bias, "attention_bias")?,
        attention_output_bias: match family.attention_output_bias {
            Bias::Setting(name) => bias(&fields, Bias::Setting(name), name)?,
            rule => rule == Bias::Always,
        },
        feed_forward_bias: bias(&fields, family.feed_forward_bias, "mlp_bias")?,
        qk_norm: family.qk_norm,
        experts: experts(&fields, family)?,
    };
    config.check().map_err(|problem| FormatError::new("configuration", problem))?;
    let padding = fields.get("pad_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    Ok(ConfigReading { config, unread, padding })
}

fn family(fields: &Fields<'_>, class: ModelClass) -> Result<&'static Family, FormatError> {
    let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
    let family = Family::of_model_type(model_type).ok_or_else(|| {
        let problem = not_a_writer(model_type, |family| family.model_type);
        fields.fault("model_type", problem)
    })?;
    let expected = class.name(family);
    if let Some(found) = fields.list("architectures")?.and_then(<[Value]>::first)
        && found.as_str() != Some(&expected)
    {
        let hint = match found.as_str() {
            Some(name) if name == ModelClass::SequenceClassification.name(family) => {
                "; such a model gives scores to texts and writes none, so it can be used as a reward model only"
                    .to_owned()
            }
            Some(name) if family.class.strip_suffix("ForCausalLM") == name.strip_suffix("Model") => {
                let encoders = ENCODER_FAMILIES.map(|family| family.model_type).join(", ");
                format!("; without its head it writes no text, and vectors of texts are made by encoders only ({encoders})")
            }
            _ => String::new(),
        };
        return Err(fields.fault(
            "architectures",
            format!(
                "must be `{expected}` for model_type `{model_type}`, found {}{hint}",
                quoted(&found.to_string())
            ),
        ));
    }
    Ok(family)
}

/// A reward model gives one score; files that name no labels leave it to the head's shape.
fn check_one_label(fields: &Fields<'_>) -> Result<(), FormatError> {
    let named = fields.fields("id2label", "id2label.")?.map(|labels| labels.object.len());
    for (name, labels) in [("num_labels", fields.size("num_labels")?), ("id2label", named)] {
        if let Some(labels) = labels
            && labels != 1
        {
            return Err(fields.fault(
                name,
                format!(
                    "a reward model gives one score, but this model has {labels} labels (num_labels {labels})"
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses settings that change the numbers in unsupported ways, and lists those that nothing reads.
fn sort_out(fields: &Fields<'_>, family: &Family) -> Result<Vec<String>, FormatError> {
    if let Some(method) = fields.fields("quantization_config", "quantization_config.")? {
        let method = method.text("quant_method")?.unwrap_or("unknown");
        return Err(fields.fault(
            "quantization_config",
            format!("weights quantised by method {} are not supported; use a GGUF file", quoted(method)),
        ));
    }
    if let Some(activation) = fields.text("hidden_act")?
        && activation != "silu"
    {
        return Err(fields.fault("hidden_act", format!("must be `silu`, found {}", quoted(activation))));
    }
    let where_all_rotate: &[_] = match family.unrotated {
        UnrotatedLayers::Never => REFUSED_WHERE_ALL_ROTATE,
        UnrotatedLayers::Listed { .. } => &[],
    };
    for &(name, neutral) in REFUSED.iter().chain(where_all_rotate) {
        if let Some(value) = fields.get(name)
            && !neutral.is(value)
        {
            let problem = format!("the value {} is not supported", quoted(&value.to_string()));
            return Err(fields.fault(name, problem));
        }
    }
    let refused = REFUSED.map(|(name, _)| name);
    Ok(fields.unread(&[&HONOURED, &WITHOUT_EFFECT, &refused]))
}

/// The settings of mixtures of experts, which another family may have only as neutral values.
fn experts(fields: &Fields<'_>, family: &Family) -> Result<Option<ExpertsConfig>, FormatError> {
    const COUNTS: [&str; 2] = ["num_experts", "num_local_experts"];
    if !family.experts {
        for name in COUNTS {
            if let Some(count) = fields.size(name)?
                && count > 0
            {
                return Err(fields.fault(
                    name,
                    format!("experts are not supported for models of this family, found {count}"),
                ));
            }
        }
        return Ok(None);
    }
    let count = match (fields.size(COUNTS[0])?, fields.size(COUNTS[1])?) {
        (Some(count), Some(other)) if count != other => {
            return Err(fields.fault(COUNTS[1], format!("is {other}, but `{}` is {count}", COUNTS[0])));
        }
        (count, other) => count.or(other).ok_or_else(|| fields.missing(COUNTS[0]))?,
    };
    let layer = |value: &Value| {
        let layer = value.as_u64().and_then(|layer| usize::try_from(layer).ok());
        layer.ok_or_else(|| fields.fault("mlp_only_layers", "must be a list of layers' numbers"))
    };
    Ok(Some(ExpertsConfig {
        count,
        active: fields.required_size("num_experts_per_tok")?,
        intermediate_size: fields.required_size("moe_intermediate_size")?,
        normalise: fields.bool("norm_topk_prob")?.unwrap_or(false),
        every: fields.size("decoder_sparse_step")?.unwrap_or(1),
        dense_layers: fields
            .list("mlp_only_layers")?
            .unwrap_or_default()
            .iter()
            .map(layer)
            .collect::<Result<_, _>>()?,
    }))
}

fn head_dim(
    fields: &Fields<'_>,
    family: &Family,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, FormatError> {
    if let Some(head_dim) = fields.size("head_dim")?.or(family.default_head_dim) {
        return Ok(head_dim);
    }
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(fields.fault(
            "num_attention_heads",
            format!("{heads} heads do not divide the hidden size {hidden_size}, and head_dim is not given"),
        ));
    }
    Ok(hidden_size / heads)
}

fn kv_heads(fields: &Fields<'_>, family: &Family, heads: usize) -> Result<usize, FormatError> {
    const NAME: &str = "num_key_value_heads";
    Ok(match fields.size(NAME)? {
        Some(kv_heads) => kv_heads,
        // Null asks for as many as query heads; only a field that is not there takes the class default.
        None if fields.object.contains_key(NAME) => heads,
        None => match family.default_kv_heads {
            DefaultKvHeads::Heads => heads,
            DefaultKvHeads::Number(number) => number,
        },
    })
}

/// YaRN's stretch counts when a file leaves `max_position_embeddings` at the original length, as Qwen's do.
fn context_length(fields: &Fields<'_>, scaling: &RopeScaling) -> Result<usize, FormatError> {
    let length = fields.required_size("max_position_embeddings")?;
    Ok(match scaling {
        RopeScaling::Yarn { factor, original_context_length, .. } => {
            length.max((*original_context_length as f64 * factor) as usize)
        }
        _ => length,
    })
}

fn bias(fields: &Fields<'_>, rule: Bias, setting: &str) -> Result<bool, FormatError> {
    let given = fields.bool(setting)?;
    match (rule, given) {
        (Bias::Setting(_), given) => Ok(given.unwrap_or(false)),
        (Bias::Never, Some(true)) => Err(fields.fault(setting, "models of this family have no such bias")),
        (Bias::Always, Some(false)) => {
            Err(fields.fault(setting, "models of this family always have this bias"))
        }
        (rule, _) => Ok(rule == Bias::Always),
    }
}

/// The layers without rotary embedding: those with 0 in a list, which may be longer than the layers are, or the last of every so many.
fn unrotated_layers(fields: &Fields<'_>, family: &Family, layers: usize) -> Result<Vec<usize>, FormatError> {
    const LIST: &str = "no_rope_layers";
    const INTERVAL: &str = "no_rope_layer_interval";
    let UnrotatedLayers::Listed { interval } = family.unrotated else { return Ok(Vec::new()) };
    let interval = fields.size(INTERVAL)?.unwrap_or(interval);
    let Some(list) = fields.list(LIST)? else {
        return match interval {
            0 => Err(fields.fault(INTERVAL, "must be at least 1, found 0")),
            interval => Ok(last_of_every(interval, layers)),
        };
    };
    if list.len() < layers {
        return Err(fields.fault(LIST, format!("has {} entries for {layers} layers", list.len())));
    }
    let mut unrotated = Vec::new();
    for (layer, value) in list.iter().take(layers).enumerate() {
        match value.as_u64() {
            Some(0) => unrotated.push(layer),
            Some(1) => {}
            _ => {
                let problem = format!(
                    "must have 1 for each layer that rotates and 0 for each other, found {} for layer {layer}",
                    quoted(&value.to_string())
                );
                return Err(fields.fault(LIST, problem));
            }
        }
    }
    Ok(unrotated)
}

fn window(
    fields: &Fields<'_>,
    family: &Family,
    layers: usize,
    unrotated_layers: &[usize],
) -> Result<Option<SlidingWindow>, FormatError> {
    let positions = fields.size("sliding_window")?;
    let types = fields.list("layer_types")?;
    match family.window {
        WindowRule::Never => {
            if positions.is_some() {
                return Err(fields.fault("sliding_window", "models of this family have no sliding window"));
            }
            match first_sliding_layer(fields, types, layers)? {
                None => Ok(None),
                Some(_) => Err(fields.fault("layer_types", "models of this family have no sliding window")),
            }
        }
        WindowRule::AllLayers { default } => {
            let absent = !fields.object.contains_key("sliding_window");
            let positions = if absent { Some(default) } else { positions };
            let expected = if positions.is_some() { Some(0) } else { None };
            if types.is_some() && first_sliding_layer(fields, types, layers)? != expected {
                return Err(fields.fault("layer_types", "all layers must agree with sliding_window"));
            }
            Ok(positions.map(|positions| SlidingWindow { positions, first_layer: 0 }))
        }
        WindowRule::LaterLayers => {
            let positions =
                positions.filter(|_| fields.bool("use_sliding_window").is_ok_and(|used| used == Some(true)));
            fields.bool("use_sliding_window")?;
            let first_layer = match types {
                Some(_) => first_sliding_layer(fields, types, layers)?,
                None if positions.is_some() => {
                    Some(fields.required_size("max_window_layers")?).filter(|first| *first < layers)
                }
                None => None,
            };
            match (first_layer, positions) {
                (None, _) => Ok(None),
                (Some(first_layer), Some(positions)) => Ok(Some(SlidingWindow { positions, first_layer })),
                (Some(_), None) => Err(fields.fault(
                    "layer_types",
                    "names `sliding_attention`, but use_sliding_window and sliding_window do not give a window",
                )),
            }
        }
        WindowRule::UnrotatedLayers => {
            let is_used = fields.bool("use_sliding_window")?.unwrap_or(false);
            match (types, positions) {
                (Some(_), _) => match first_sliding_layer(fields, types, layers)? {
                    None => Ok(None),
                    Some(layer) => Err(fields.fault(
                        "layer_types",
                        format!(
                            "sliding attention (layer {layer}) is not supported for models of this family"
                        ),
                    )),
                },
                (None, Some(positions)) if is_used && !unrotated_layers.is_empty() => Err(fields.fault(
                    "sliding_window",
                    format!(
                        "a window of {positions} positions in the layers without rotary embedding, which \
                         use_sliding_window asks for, is not supported"
                    ),
                )),
                (None, _) => Ok(None),
            }
        }
    }
}

/// The first layer of type `sliding_attention`, from which on all must be of that type.
fn first_sliding_layer(
    fields: &Fields<'_>,
    types: Option<&[Value]>,
    layers: usize,
) -> Result<Option<usize>, FormatError> {
    let Some(types) = types else { return Ok(None) };
    let fault = |problem: String| Err(fields.fault("layer_types", problem));
    if types.len() != layers {
        return fault(format!("has {} entries for {layers} layers", types.len()));
    }
    let mut first = None;
    for (layer, value) in types.iter().enumerate() {
        match value.as_str() {
            Some("full_attention") if first.is_none() => {}
            Some("full_attention") => {
                return fault(format!(
                    "full attention in layer {layer} after sliding attention is not supported"
                ));
            }
            Some("sliding_attention") => first = first.or(Some(layer)),
            _ => return fault(format!("{} of layer {layer} is not supported", quoted(&value.to_string()))),
        }
    }
    Ok(first)
}
