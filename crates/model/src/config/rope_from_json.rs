//! RoPE's settings in a `config.json`: the old spelling (`rope_theta` and `rope_scaling`) and the new (`rope_parameters`, for Gemma 3 with an
//! object for each type of layers).
//!
//! It follows `modeling_rope_utils.py` of transformers 5, except that what contradicts itself or is unknown is refused.

use super::fields::Fields;
use super::{RopeConfig, RopeLayout, RopeScaling};
use crate::errors::{FormatError, quoted};
use crate::families::Family;

/// YaRN's ramp where a file leaves it out, as in transformers and the paper.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

/// The context length of pretraining where a file with LongRoPE leaves it out, as in transformers.
const DEFAULT_LONG_ROPE_CONTEXT: usize = 4096;

/// What each type of scaling may have beside its name and the base.
const TYPES: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("linear", &["factor"]),
    ("llama3", &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]),
    (
        "yarn",
        &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
            // Says how the weights were made.
            "finetuned",
        ],
    ),
    (
        LONG_ROPE,
        &["factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"],
    ),
];

/// The name of LongRoPE; older files of Phi-3 have others for it.
const LONG_ROPE: &str = "longrope";
const OLDER_NAMES_OF_LONG_ROPE: [&str; 2] = ["su", "yarn"];

/// What every type may have.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// The settings of the document that give the base where the parameters do not.
const BASE: &str = "rope_theta";
const WINDOWED_BASE: &str = "rope_local_base_freq";

/// Reads RoPE's settings for heads of `head_dim` dimensions, and those of the layers with a window where the family has others for them.
pub(super) fn ropes(
    document: &Fields<'_>,
    family: &Family,
    head_dim: usize,
) -> Result<(RopeConfig, Option<RopeConfig>), FormatError> {
    check_whole_heads(document)?;
    let default_base = f64::from(family.default_rope_base);
    let Some(windowed_base) = family.windowed_rope_base else {
        let parameters = parameters(document)?;
        return Ok((rope(document, parameters, BASE, default_base, family, head_dim)?, None));
    };
    let (full, sliding) = match document.fields("rope_parameters", "rope_parameters.")? {
        None => (document.fields("rope_scaling", "rope_scaling.")?, None),
        Some(parameters) => by_layer_type(document, &parameters)?,
    };
    let windowed_base = f64::from(windowed_base);
    Ok((
        rope(document, full, BASE, default_base, family, head_dim)?,
        Some(rope(document, sliding, WINDOWED_BASE, windowed_base, family, head_dim)?),
    ))
}

fn rope(
    document: &Fields<'_>,
    parameters: Option<Fields<'_>>,
    base_name: &str,
    default_base: f64,
    family: &Family,
    head_dim: usize,
) -> Result<RopeConfig, FormatError> {
    let base = base(document, base_name, parameters.as_ref())?.unwrap_or(default_base);
    let scaling = match &parameters {
        None => RopeScaling::None,
        Some(parameters) => {
            check_whole_heads(parameters)?;
            scaling(document, parameters, family)?
        }
    };
    Ok(RopeConfig { base, rotary_dim: head_dim, layout: RopeLayout::HalfSplit, scaling })
}

/// All dimensions of a head must rotate.
fn check_whole_heads(fields: &Fields<'_>) -> Result<(), FormatError> {
    match fields.number("partial_rotary_factor")? {
        Some(part) if part != 1.0 => {
            let problem = format!(
                "must be 1, found {part}; models that rotate a part of each head's dimensions are not supported in this format"
            );
            Err(fields.fault("partial_rotary_factor", problem))
        }
        _ => Ok(()),
    }
}

fn parameters<'a>(document: &Fields<'a>) -> Result<Option<Fields<'a>>, FormatError> {
    let old = document.fields("rope_scaling", "rope_scaling.")?;
    let new = document.fields("rope_parameters", "rope_parameters.")?;
    match (old, new) {
        (Some(old), Some(new)) if old.object != new.object => {
            Err(document.fault("rope_scaling", "is given beside `rope_parameters` and differs from it"))
        }
        (old, new) => Ok(new.or(old)),
    }
}

/// The parameters of the layers that see everything and of those with a window.
type ByLayerType<'a> = (Option<Fields<'a>>, Option<Fields<'a>>);

fn by_layer_type<'a>(document: &Fields<'a>, parameters: &Fields<'a>) -> Result<ByLayerType<'a>, FormatError> {
    const FULL: &str = "full_attention";
    const SLIDING: &str = "sliding_attention";
    if document.get("rope_scaling").is_some() {
        return Err(document
            .fault("rope_scaling", "is given beside `rope_parameters`; only one of them can be meant"));
    }
    for (name, value) in parameters.object {
        if !value.is_null() && name != FULL && name != SLIDING {
            let problem = format!(
                "models of this family have RoPE parameters in `{FULL}` and `{SLIDING}`, one for each type of layers"
            );
            return Err(parameters.fault(name, problem));
        }
    }
    Ok((
        parameters.fields(FULL, "rope_parameters.full_attention.")?,
        parameters.fields(SLIDING, "rope_parameters.sliding_attention.")?,
    ))
}

/// The base: in the parameters, or under `name` in the document.
fn base(
    document: &Fields<'_>,
    name: &str,
    parameters: Option<&Fields<'_>>,
) -> Result<Option<f64>, FormatError> {
    let outer = document.number(name)?;
    let inner = parameters.map(|parameters| parameters.number(BASE)).transpose()?.flatten();
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer != inner => Err(document.fault(
            name,
            format!("is {outer}, but the RoPE parameters say {inner}; only one of them can be meant"),
        )),
        (outer, inner) => Ok(inner.or(outer)),
    }
}

fn scaling(
    document: &Fields<'_>,
    parameters: &Fields<'_>,
    family: &Family,
) -> Result<RopeScaling, FormatError> {
    if let Some((name, _)) = parameters.object.iter().find(|(_, value)| value.is_object()) {
        return Err(parameters.fault(name, "RoPE parameters that differ between layers are not supported"));
    }
    let name = match (parameters.text("rope_type")?, parameters.text("type")?) {
        (Some(new), Some(old)) if new != old => {
            return Err(
                parameters.fault("type", format!("{} contradicts rope_type {}", quoted(old), quoted(new)))
            );
        }
        (new, old) => new.or(old).unwrap_or("default"),
    };
    let name = if family.long_rope && OLDER_NAMES_OF_LONG_ROPE.contains(&name) { LONG_ROPE } else { name };
    let supported = TYPES.iter().filter(|(known, _)| family.long_rope || *known != LONG_ROPE);
    let Some((_, known)) = supported.clone().find(|(known, _)| *known == name) else {
        let supported = supported.map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        return Err(parameters
            .fault("rope_type", format!("{} is not supported; supported are {supported}", quoted(name))));
    };
    for (field, value) in parameters.object {
        if !value.is_null() && !COMMON.contains(&field.as_str()) && !known.contains(&field.as_str()) {
            return Err(parameters.fault(field, format!("is unknown for RoPE of type `{name}`")));
        }
    }
    match name {
        "linear" => Ok(RopeScaling::Linear { factor: parameters.required_number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: parameters.required_number("factor")?,
            low_frequency_factor: parameters.required_number("low_freq_factor")?,
            high_frequency_factor: parameters.required_number("high_freq_factor")?,
            original_context_length: original_context(document, parameters)?,
        }),
        "yarn" => yarn(document, parameters),
        LONG_ROPE => long_rope(document, parameters),
        _ => Ok(RopeScaling::None),
    }
}

/// A field of the document itself wins over the parameters', as in transformers.
fn original_context(document: &Fields<'_>, parameters: &Fields<'_>) -> Result<usize, FormatError> {
    const NAME: &str = "original_max_position_embeddings";
    match (document.size(NAME)?, parameters.size(NAME)?) {
        (Some(length), _) | (None, Some(length)) => Ok(length),
        (None, None) => document.required_size("max_position_embeddings"),
    }
}

fn yarn(document: &Fields<'_>, parameters: &Fields<'_>) -> Result<RopeScaling, FormatError> {
    let original_context_length = original_context(document, parameters)?;
    let factor = match parameters.number("factor")? {
        Some(factor) => factor,
        None => document.required_size("max_position_embeddings")? as f64 / original_context_length as f64,
    };
    // 0 counts as absent in transformers.
    let unless_zero = |name: &str| parameters.number(name).map(|value| value.filter(|value| *value != 0.0));
    let attention_factor = match parameters.number("attention_factor")? {
        Some(attention_factor) => Some(attention_factor),
        None => match (unless_zero("mscale")?, unless_zero("mscale_all_dim")?) {
            (Some(mscale), Some(mscale_all_dim)) => {
                Some(attention_scale(factor, mscale) / attention_scale(factor, mscale_all_dim))
            }
            _ => None,
        },
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_context_length,
        beta_fast: unless_zero("beta_fast")?.unwrap_or(DEFAULT_BETA_FAST),
        beta_slow: unless_zero("beta_slow")?.unwrap_or(DEFAULT_BETA_SLOW),
        attention_factor,
        truncate: parameters.bool("truncate")?.unwrap_or(true),
    })
}

/// The factors, rounded to f32 as both transformers and GGUF files have them.
fn long_rope(document: &Fields<'_>, parameters: &Fields<'_>) -> Result<RopeScaling, FormatError> {
    const SHORT: &str = "short_factor";
    const LENGTH: &str = "original_max_position_embeddings";
    let factors = rope_factors(parameters, SHORT)?.ok_or_else(|| parameters.missing(SHORT))?;
    let long_factors = rope_factors(parameters, "long_factor")?.unwrap_or_else(|| factors.clone());
    let original_context_length = match document.size(LENGTH)? {
        Some(length) => length,
        None => parameters.size(LENGTH)?.unwrap_or(DEFAULT_LONG_ROPE_CONTEXT),
    };
    let original = original_context_length as f64;
    let stretch = match parameters.number("factor")? {
        Some(factor) => factor,
        None => document.required_size("max_position_embeddings")? as f64 / original,
    };
    let attention_factor = match parameters.number("attention_factor")? {
        Some(factor) => factor,
        None if stretch <= 1.0 => 1.0,
        None => (1.0 + stretch.ln() / original.ln()).sqrt(),
    };
    let attention_factor = f64::from(attention_factor as f32);
    let long_context_length = document.required_size("max_position_embeddings")?;
    Ok(RopeScaling::LongRope {
        factors,
        attention_factor,
        original_context_length,
        long_factors,
        long_context_length,
    })
}

fn rope_factors(parameters: &Fields<'_>, name: &str) -> Result<Option<Vec<f64>>, FormatError> {
    let Some(list) = parameters.list(name)? else { return Ok(None) };
    let factor = |value: &serde_json::Value| value.as_f64().map(|factor| f64::from(factor as f32));
    let factors = list.iter().map(factor).collect::<Option<Vec<f64>>>();
    factors.map(Some).ok_or_else(|| parameters.fault(name, "must be a list of numbers"))
}

fn attention_scale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}
