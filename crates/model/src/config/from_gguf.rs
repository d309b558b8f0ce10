//! Configuration from the metadata of a GGUF file.
//!
//! It does not check the tensors' shapes; it only asks which optional tensors exist.

mod family;

use super::{
    ConfigReading, ExpertsConfig, ModelConfig, Multipliers, NormPlacement, RopeConfig, RopeScaling,
    gemma_in_gguf,
};
use crate::errors::{FormatError, quoted, shape};
use crate::families::{Bias, Family, MultiplierRule, not_a_writer};
use crate::gguf::{Gguf, GgufTensor, Value};
use crate::names::Naming;
use crate::tensor_source::{LayerWeightName, WeightName};

/// RoPE's base where a file leaves it out, as in llama.cpp.
const DEFAULT_ROPE_BASE: f64 = 10_000.0;

/// YaRN's ramp where a file leaves it out, as in the paper.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

/// Keys after the architecture's prefix that have no effect on the logits.
const WITHOUT_EFFECT: [&str; 3] = ["tensor_data_layout", "rope.scaling.finetuned", "pooling_type"];

/// Keys after the architecture's prefix that are honoured.
const HONOURED: [&str; 25] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
];

/// Keys that only some families have, where they are honoured.
const HONOURED_BY_GRANITE: &[&str] = &["embedding_scale", "residual_scale", "attention.scale", "logit_scale"];
const HONOURED_BY_GEMMA: &[&str] = &["attention.sliding_window_pattern"];

/// Files of OLMo 3 name the architecture of OLMo 2.
const OLMO_3: &str =
    "a model of this architecture with windows is an OLMo 3, which is not supported; OLMo 2 is";

const EXPERT_SHARED_WIDTH: &str = "expert_shared_feed_forward_length";

/// Keys that change the numbers in a way that is not supported, unless they have the value that changes nothing or the family honours them.
const REFUSED: [(&str, Neutral); 23] = [
    ("expert_shared_count", Neutral::Zero),
    (EXPERT_SHARED_WIDTH, Neutral::Zero),
    ("expert_weights_scale", Neutral::One),
    ("expert_gating_func", Neutral::One),
    ("leading_dense_block_count", Neutral::Zero),
    ("nextn_predict_layers", Neutral::Zero),
    ("attention.causal", Neutral::True),
    ("attention.scale", Neutral::Zero),
    ("attention.clamp_kqv", Neutral::Zero),
    ("attention.max_alibi_bias", Neutral::Zero),
    ("attention.sliding_window_pattern", Neutral::Zero),
    ("attention.temperature_length", Neutral::Zero),
    ("attention.temperature_scale", Neutral::Zero),
    ("attention.shared_kv_layers", Neutral::Zero),
    ("attn_logit_softcapping", Neutral::Zero),
    ("final_logit_softcapping", Neutral::Zero),
    ("logit_scale", Neutral::One),
    ("embedding_scale", Neutral::One),
    ("residual_scale", Neutral::One),
    ("use_parallel_residual", Neutral::False),
    ("no_rope_layer_interval", Neutral::Zero),
    ("rope.scaling.yarn_log_multiplier", Neutral::Zero),
    ("rope.scaling.yarn_attn_factor", Neutral::One),
];

/// The value with which a setting changes nothing.
#[derive(Clone, Copy)]
enum Neutral {
    Zero,
    One,
    True,
    False,
}

impl Neutral {
    fn is(self, value: Value<'_>) -> bool {
        match (self, value) {
            // A list has a value for each layer.
            (_, Value::Array(list)) => {
                list.iter().count() == list.count && list.iter().all(|value| self.is(value))
            }
            (Neutral::Zero, Value::Signed(value)) => value == 0,
            (Neutral::One, Value::Signed(value)) => value == 1,
            (Neutral::Zero, Value::Unsigned(value)) => value == 0,
            (Neutral::Zero, Value::Float(value)) => value == 0.0,
            (Neutral::One, Value::Unsigned(value)) => value == 1,
            (Neutral::One, Value::Float(value)) => value == 1.0,
            (Neutral::True, Value::Bool(value)) => value,
            (Neutral::False, Value::Bool(value)) => !value,
            _ => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Neutral::Zero => "0",
            Neutral::One => "1",
            Neutral::True => "true",
            Neutral::False => "false",
        }
    }
}

/// Reads the configuration of a GGUF file.
///
/// # Errors
/// [`FormatError`] naming the key that is missing, of the wrong type, impossible or not supported.
pub fn from_gguf<B: AsRef<[u8]>>(file: &Gguf<B>) -> Result<ConfigReading, FormatError> {
    let architecture = file
        .string("general.architecture")?
        .ok_or_else(|| FormatError::new("metadata `general.architecture`", "the key is missing"))?;
    let family = Family::of_gguf_architecture(architecture).ok_or_else(|| {
        let problem = not_a_writer(architecture, |family| family.gguf_architecture);
        FormatError::new("metadata `general.architecture`", problem)
    })?;
    let settings = Settings { file, architecture };
    let unread = settings.sort_out(family)?;

    let heads = settings.required("attention.head_count")?;
    let hidden_size = settings.required("embedding_length")?;
    let head_dim = settings.head_dim(hidden_size, heads)?;
    let context_length = settings.required("context_length")?;
    let layers = settings.required("block_count")?;
    let rope = settings.rope(family, head_dim, context_length)?;
    let sliding_window = settings.window(family, layers)?;
    let windowed_rope = settings.windowed_rope(family, &rope)?;
    let windowed_rope = windowed_rope.filter(|other| sliding_window.is_some() && *other != rope);
    let config = ModelConfig {
        architecture: architecture.to_owned(),
        vocabulary_size: settings.vocabulary_size()?,
        context_length: match rope.scaling {
            RopeScaling::LongRope { original_context_length, .. } => {
                context_length.min(original_context_length)
            }
            _ => context_length,
        },
        layers,
        hidden_size,
        intermediate_size: settings.inner_width(family)?,
        heads,
        kv_heads: settings.optional("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        rope,
        windowed_rope,
        unrotated_layers: family.unrotated.in_gguf(layers),
        sliding_window,
        rms_norm_epsilon: settings
            .float("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| settings.missing("attention.layer_norm_rms_epsilon"))?
            as f32,
        norms: family.norms,
        // Converters add the 1.
        norms_less_one: false,
        tied_embeddings: file.tensor(&Naming::Gguf.spell(WeightName::Head)).is_none(),
        attention_bias: settings.has_bias(
            family.attention_bias,
            &[LayerWeightName::QueryBias, LayerWeightName::KeyBias, LayerWeightName::ValueBias],
        ),
        attention_output_bias: settings
            .has_bias(family.attention_output_bias, &[LayerWeightName::OutputBias]),
        feed_forward_bias: settings.has_bias(
            family.feed_forward_bias,
            &[LayerWeightName::GateBias, LayerWeightName::UpBias, LayerWeightName::DownBias],
        ),
        qk_norm: family.qk_norm,
        activation: family.activation,
        multipliers: match family.multipliers {
            MultiplierRule::Never => Multipliers::default(),
            MultiplierRule::Granite => settings.granite(head_dim)?,
            MultiplierRule::Gemma { .. } => gemma_in_gguf(layers, hidden_size, heads, head_dim),
        },
        experts: settings.experts(family)?,
    };
    config.check().map_err(|problem| FormatError::new("metadata", problem))?;
    let padding = file.unsigned("tokenizer.ggml.padding_token_id").ok().flatten();
    let padding = padding.and_then(|id| u32::try_from(id).ok());
    Ok(ConfigReading { config, unread, padding })
}

/// The keys under the architecture's prefix.
struct Settings<'a, B> {
    file: &'a Gguf<B>,
    architecture: &'a str,
}

impl<B: AsRef<[u8]>> Settings<'_, B> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn missing(&self, name: &str) -> FormatError {
        FormatError::new(format!("metadata `{}`", self.key(name)), "the key is missing")
    }

    /// A count, or a list of one for each layer in which all are equal.
    fn optional(&self, name: &str) -> Result<Option<usize>, FormatError> {
        let key = self.key(name);
        let value = match self.file.get(&key) {
            Some(Value::Array(_)) => self.same_in_all_layers(&key)?,
            _ => self.file.unsigned(&key)?,
        };
        value
            .map(|value| {
                usize::try_from(value).map_err(|_| {
                    FormatError::new(format!("metadata `{key}`"), format!("{value} is too large"))
                })
            })
            .transpose()
    }

    /// # Errors
    /// When the list is not one of unsigned integers for each layer, or the layers differ.
    fn same_in_all_layers(&self, key: &str) -> Result<Option<u64>, FormatError> {
        let bad = |problem: String| FormatError::new(format!("metadata `{key}`"), problem);
        let layers = match self.file.get(&self.key("block_count")) {
            Some(Value::Unsigned(layers)) => layers,
            _ => return Err(bad("is a list, but the number of layers is not known".to_owned())),
        };
        let values = self.file.integers(key)?.unwrap_or_default();
        if values.len() as u64 != layers {
            return Err(bad(format!("has {} values for {layers} layers", values.len())));
        }
        let Some(&first) = values.first() else { return Ok(None) };
        if let Some(other) = values.iter().position(|value| *value != first) {
            let differing = values.iter().filter(|value| **value != first).count();
            return Err(bad(format!(
                "layers that differ are not supported: layer 0 has {first} and layer {other} has {}; \
                 {differing} of {layers} layers differ from layer 0",
                values[other]
            )));
        }
        u64::try_from(first).map(Some).map_err(|_| bad(format!("must not be negative, found {first}")))
    }

    fn required(&self, name: &str) -> Result<usize, FormatError> {
        self.optional(name)?.ok_or_else(|| self.missing(name))
    }

    fn float(&self, name: &str) -> Result<Option<f64>, FormatError> {
        self.file.float(&self.key(name))
    }

    /// Refuses keys that change the numbers in unsupported ways, and lists those that nothing here reads.
    fn sort_out(&self, family: &Family) -> Result<Vec<String>, FormatError> {
        let own: &[&str] = match family.multipliers {
            MultiplierRule::Granite => HONOURED_BY_GRANITE,
            MultiplierRule::Gemma { .. } => HONOURED_BY_GEMMA,
            MultiplierRule::Never => &[],
        };
        let mut unread = Vec::new();
        for (key, value) in self.file.metadata() {
            let Some(name) = key.strip_prefix(self.architecture).and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            match REFUSED.iter().find(|(refused, _)| *refused == name) {
                _ if own.contains(&name) => {}
                // Converters leave the width in files of Granite models without experts; `expert_count` says that there are none.
                Some((EXPERT_SHARED_WIDTH, _)) if !self.has_experts()? => {}
                Some((_, neutral)) if !neutral.is(value) => {
                    if family.norms == NormPlacement::After && name.starts_with("attention.sliding_window") {
                        return Err(FormatError::new(format!("metadata `{key}`"), OLMO_3));
                    }
                    return Err(FormatError::new(
                        format!("metadata `{key}`"),
                        format!("this setting is not supported with any value but {}", neutral.name()),
                    ));
                }
                Some(_) => {}
                None if HONOURED.contains(&name) || WITHOUT_EFFECT.contains(&name) => {}
                None => unread.push(quoted(key)),
            }
        }
        Ok(unread)
    }

    fn has_experts(&self) -> Result<bool, FormatError> {
        Ok(self.optional("expert_count")?.is_some_and(|count| count > 0))
    }

    /// The vocabulary as llama.cpp counts it: by the tokens, else by the setting, else by the embedding's rows.
    fn vocabulary_size(&self) -> Result<usize, FormatError> {
        if let Some(tokens) = self.file.array("tokenizer.ggml.tokens")? {
            return Ok(tokens.count);
        }
        if let Some(size) = self.optional("vocab_size")? {
            return Ok(size);
        }
        let embedding = self.file.tensor(&Naming::Gguf.spell(WeightName::Embedding));
        embedding.and_then(|tensor| tensor.shape.first().copied()).ok_or_else(|| self.missing("vocab_size"))
    }

    /// Width inside a single feed-forward network; files of models that have experts in every layer may leave it out.
    fn inner_width(&self, family: &Family) -> Result<usize, FormatError> {
        match self.optional("feed_forward_length")?.filter(|width| *width > 0) {
            Some(width) => Ok(width),
            None if family.experts => self.required("expert_feed_forward_length"),
            None => self.required("feed_forward_length"),
        }
    }

    /// llama.cpp's rule for `qwen3moe`: experts in every layer, probabilities divided by their sum.
    fn experts(&self, family: &Family) -> Result<Option<ExpertsConfig>, FormatError> {
        if !family.experts {
            return match self.optional("expert_count")? {
                None | Some(0) => Ok(None),
                Some(count) => Err(FormatError::new(
                    format!("metadata `{}`", self.key("expert_count")),
                    format!("experts are not supported for models of this family, found {count}"),
                )),
            };
        }
        Ok(Some(ExpertsConfig {
            count: self.required("expert_count")?,
            active: self.required("expert_used_count")?,
            intermediate_size: self.required("expert_feed_forward_length")?,
            normalise: true,
            every: 1,
            dense_layers: Vec::new(),
        }))
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize, FormatError> {
        let key_length = self.optional("attention.key_length")?;
        let value_length = self.optional("attention.value_length")?;
        if heads == 0 {
            let place = format!("metadata `{}`", self.key("attention.head_count"));
            return Err(FormatError::new(place, "must not be 0"));
        }
        if key_length.is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(FormatError::new(
                format!("metadata `{}`", self.key("attention.head_count")),
                format!(
                    "{heads} heads do not divide the embedding length {hidden_size}, and no key length is given"
                ),
            ));
        }
        let key_length = key_length.unwrap_or(hidden_size / heads);
        match value_length {
            Some(value_length) if value_length != key_length => Err(FormatError::new(
                format!("metadata `{}`", self.key("attention.value_length")),
                format!("values of {value_length} beside keys of {key_length} dimensions are not supported"),
            )),
            _ => Ok(key_length),
        }
    }

    fn rope(
        &self,
        family: &Family,
        head_dim: usize,
        context_length: usize,
    ) -> Result<RopeConfig, FormatError> {
        let rotary_dim = self.optional("rope.dimension_count")?.unwrap_or(head_dim);
        let scaling = match self.frequency_divisors(family, context_length)? {
            None => self.rope_scaling(context_length)?,
            Some((tensor, from_divisors)) => match self.rope_scaling(context_length)? {
                RopeScaling::None => from_divisors,
                _ => {
                    return Err(FormatError::new(
                        format!("metadata `{}`", self.key("rope.scaling.type")),
                        format!("RoPE scaling together with the tensor `{tensor}` is not supported"),
                    ));
                }
            },
        };
        let base = match self.float("rope.freq_base")? {
            Some(base) => base,
            // Other programs have another default for such a family, and names of their own for its two bases.
            None if family.windowed_rope_base.is_some() => return Err(self.missing("rope.freq_base")),
            None => DEFAULT_ROPE_BASE,
        };
        Ok(RopeConfig { base, rotary_dim, layout: family.gguf_rope_layout, scaling })
    }

    fn rope_scaling(&self, context_length: usize) -> Result<RopeScaling, FormatError> {
        let type_key = self.key("rope.scaling.type");
        let scaling_type = self.file.string(&type_key)?;
        if scaling_type == Some("none") {
            return Ok(RopeScaling::None);
        }
        let factor = self.rope_factor()?;
        let missing = || self.missing("rope.scaling.factor");
        match scaling_type {
            // llama.cpp's default type is linear; a file that names neither type nor factor asks for nothing.
            None if factor.is_none() => Ok(RopeScaling::None),
            None | Some("linear") => match factor.ok_or_else(missing)? {
                1.0 => Ok(RopeScaling::None),
                factor => Ok(RopeScaling::Linear { factor }),
            },
            Some("yarn") => self.yarn(factor.ok_or_else(missing)?, context_length),
            // The tensors say it.
            Some("longrope") if self.file.tensor(ROPE_SHORT_FACTORS).is_some() => Ok(RopeScaling::None),
            Some(other) => Err(FormatError::new(
                format!("metadata `{type_key}`"),
                format!("{} is not supported; supported are none, linear and yarn", quoted(other)),
            )),
        }
    }

    /// The factor under its newer and its older name. 0, which llama.cpp takes for 1, is refused: it can only be a mistake.
    fn rope_factor(&self) -> Result<Option<f64>, FormatError> {
        let (newer, older) = ("rope.scaling.factor", "rope.scale_linear");
        let factors = (self.float(newer)?, self.float(older)?);
        let place = if factors.0.is_some() { newer } else { older };
        let fault =
            |problem: String| Err(FormatError::new(format!("metadata `{}`", self.key(place)), problem));
        match factors {
            (Some(factor), Some(other)) if factor != other => fault(format!(
                "is {factor}, but `{}` is {other}; only one of them can be meant",
                self.key(older)
            )),
            (factor, other) => match factor.or(other) {
                Some(factor) if factor <= 0.0 || !factor.is_finite() => {
                    fault(format!("a RoPE factor must be positive, found {factor}"))
                }
                factor => Ok(factor),
            },
        }
    }

    fn yarn(&self, factor: f64, context_length: usize) -> Result<RopeScaling, FormatError> {
        if let Some(mix) = self.float("rope.scaling.yarn_ext_factor")?
            && mix != 1.0
            && mix != -1.0
        {
            return Err(FormatError::new(
                format!("metadata `{}`", self.key("rope.scaling.yarn_ext_factor")),
                format!("must be 1 (or -1, the default), found {mix}"),
            ));
        }
        let extra = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
        // llama.cpp multiplies the file's factor with the paper's.
        let paper = 0.1 * factor.ln() + 1.0;
        Ok(RopeScaling::Yarn {
            factor,
            original_context_length: self
                .optional("rope.scaling.original_context_length")?
                .unwrap_or(context_length),
            beta_fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(DEFAULT_BETA_FAST),
            beta_slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(DEFAULT_BETA_SLOW),
            attention_factor: (extra != 1.0).then_some(extra * paper),
            truncate: true,
        })
    }

    /// Scaling by a tensor, and the tensor's name: `rope_freqs.weight`, with which files of Llama 3.1 and later carry their RoPE scaling, or
    /// the short factors of LongRoPE.
    fn frequency_divisors(
        &self,
        family: &Family,
        context_length: usize,
    ) -> Result<Option<(&'static str, RopeScaling)>, FormatError> {
        let place = |tensor: &str| format!("tensor `{tensor}`");
        for tensor in [ROPE_LONG_FACTORS, ROPE_SHORT_FACTORS] {
            if !family.long_rope && self.file.tensor(tensor).is_some() {
                let problem = "RoPE scaling of the longrope kind is not supported for models of this family";
                return Err(FormatError::new(place(tensor), problem));
            }
        }
        if let Some(tensor) = self.file.tensor(ROPE_SHORT_FACTORS) {
            let factors = |name: &str, tensor: &GgufTensor<'_>| {
                let factors = divisors(tensor).map_err(|problem| FormatError::new(place(name), problem))?;
                Ok::<Vec<f64>, FormatError>(factors.into_iter().map(f64::from).collect())
            };
            let short = factors(ROPE_SHORT_FACTORS, &tensor)?;
            let long = self.file.tensor(ROPE_LONG_FACTORS);
            let scaling = RopeScaling::LongRope {
                long_factors: match long {
                    Some(long) => factors(ROPE_LONG_FACTORS, &long)?,
                    None => short.clone(),
                },
                factors: short,
                attention_factor: self.float("rope.scaling.attn_factor")?.unwrap_or(1.0),
                original_context_length: self.required("rope.scaling.original_context_length")?,
                long_context_length: context_length,
            };
            return Ok(Some((ROPE_SHORT_FACTORS, scaling)));
        }
        if self.file.tensor(ROPE_LONG_FACTORS).is_some() {
            let problem = format!("the file lacks the factors for short texts, `{ROPE_SHORT_FACTORS}`");
            return Err(FormatError::new(place(ROPE_LONG_FACTORS), problem));
        }
        let Some(tensor) = self.file.tensor(ROPE_DIVISORS) else { return Ok(None) };
        divisors(&tensor)
            .map(|divisors| Some((ROPE_DIVISORS, RopeScaling::Divisors(divisors))))
            .map_err(|problem| FormatError::new(place(ROPE_DIVISORS), problem))
    }

    fn has_bias(&self, rule: Bias, weights: &[LayerWeightName]) -> bool {
        match rule {
            Bias::Never => false,
            Bias::Always => true,
            Bias::Setting(_) => weights
                .iter()
                .any(|weight| self.file.tensor(&Naming::Gguf.spell(WeightName::Layer(0, *weight))).is_some()),
        }
    }
}

/// The tensors that are part of the configuration. LongRoPE's long ones are for longer texts than are served.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";
pub(crate) const ROPE_SHORT_FACTORS: &str = "rope_factors_short.weight";
pub(crate) const ROPE_LONG_FACTORS: &str = "rope_factors_long.weight";

fn divisors(tensor: &GgufTensor<'_>) -> Result<Vec<f32>, String> {
    if tensor.dtype != zhenjin_tensor::Dtype::F32 || tensor.shape.len() != 1 || tensor.shape[0] > 1024 {
        return Err(format!(
            "must be a vector of type F32, found type {} and shape {}",
            tensor.dtype,
            shape(tensor.shape)
        ));
    }
    let (numbers, _) = tensor.bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
