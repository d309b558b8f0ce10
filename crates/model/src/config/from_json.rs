//! Configuration from the `config.json` of a Hugging Face folder.
//!
//! Every setting that changes the numbers is honoured or refused by name. Those that neither this file nor the model's
//! class in transformers reads are listed, so that they can be shown.

use serde_json::Value;

use super::fields::Fields;
use super::layers_from_json::{unrotated_layers, window};
use super::multipliers;
use super::rope_from_json::ropes;
use super::settings_of_json::sort_out;
use super::{ConfigReading, ExpertsConfig, ModelConfig, RopeScaling};
use crate::errors::{FormatError, quoted};
use crate::families::{Bias, DefaultKvHeads, Family, not_a_writer};
use crate::json;

/// The longest `config.json` that is read. Real ones have a few kilobytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// What a model's last layer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelClass {
    /// Logits of the next token: `…ForCausalLM`.
    CausalLm,
    /// One score of a text: `…ForSequenceClassification` with one label. Its configuration says that the head is the embedding, as it has no head
    /// for tokens.
    SequenceClassification,
    /// Hidden states, of which vectors of texts are made: `…Model`, or a class with a head, which is left aside.
    Embedder,
}

impl ModelClass {
    const SEQUENCE_CLASSIFICATION: &'static str = "ForSequenceClassification";

    /// The name of this class for a family.
    pub(crate) fn name(self, family: &Family) -> String {
        let stem = family.other_stem.or(family.class.strip_suffix("ForCausalLM")).unwrap_or(family.class);
        match self {
            ModelClass::CausalLm => family.class.to_owned(),
            ModelClass::SequenceClassification => format!("{stem}{}", ModelClass::SEQUENCE_CLASSIFICATION),
            ModelClass::Embedder => format!("{stem}Model"),
        }
    }

    /// Whether a file that names `class` of a family can be read as of this class.
    fn accepts(self, family: &Family, class: &str) -> bool {
        class == self.name(family) || (self == ModelClass::Embedder && class == family.class)
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
    let (rope, windowed_rope) = ropes(&fields, family, head_dim)?;
    let unrotated_layers = unrotated_layers(&fields, family, layers)?;
    let sliding_window = window(&fields, family, layers, &unrotated_layers)?;
    let windowed_rope = windowed_rope.filter(|other| sliding_window.is_some() && *other != rope);
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
        windowed_rope,
        sliding_window,
        unrotated_layers,
        rms_norm_epsilon: fields.required_number("rms_norm_eps")? as f32,
        norms: family.norms,
        norms_less_one: family.norms_less_one,
        tied_embeddings: scores
            || fields.bool("tie_word_embeddings")?.unwrap_or(family.default_tied_embeddings),
        attention_bias: bias(&fields, family.attention_bias, "attention_bias")?,
        attention_output_bias: match family.attention_output_bias {
            Bias::Setting(name) => bias(&fields, Bias::Setting(name), name)?,
            rule => rule == Bias::Always,
        },
        feed_forward_bias: bias(&fields, family.feed_forward_bias, "mlp_bias")?,
        qk_norm: family.qk_norm,
        activation: family.activation,
        multipliers: multipliers::from_json(&fields, family, hidden_size, head_dim)?,
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
        && !found.as_str().is_some_and(|found| class.accepts(family, found))
    {
        let hint = match found.as_str() {
            Some(name) if name == ModelClass::SequenceClassification.name(family) => {
                "; such a model gives scores to texts and writes none, so it can be used as a reward model only"
                    .to_owned()
            }
            Some(name) if name == ModelClass::Embedder.name(family) => {
                "; without its head it writes no text, but gives vectors of texts (`zhenjin embed`, `/v1/embeddings`)"
                    .to_owned()
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

/// YaRN's stretch counts when a file leaves `max_position_embeddings` at the original length, as Qwen's do. LongRoPE's does not: positions
/// behind the original length need other factors than the short ones.
fn context_length(fields: &Fields<'_>, scaling: &RopeScaling) -> Result<usize, FormatError> {
    let length = fields.required_size("max_position_embeddings")?;
    Ok(match scaling {
        RopeScaling::Yarn { factor, original_context_length, .. } => {
            length.max((*original_context_length as f64 * factor) as usize)
        }
        RopeScaling::LongRope { original_context_length, .. } => length.min(*original_context_length),
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
