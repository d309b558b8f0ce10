//! RoPE's settings in a `config.json`: the old spelling (`rope_theta` and `rope_scaling`) and the new (`rope_parameters`).
//!
//! It follows `modeling_rope_utils.py` of transformers 5, except that what contradicts itself or is unknown is refused.

use super::fields::Fields;
use super::{RopeConfig, RopeLayout, RopeScaling};
use crate::errors::{FormatError, quoted};

/// YaRN's ramp where a file leaves it out, as in transformers and the paper.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

/// What each type of scaling may have beside its name and the base.
const TYPES: [(&str, &[&str]); 4] = [
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
];

/// What every type may have.
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// Reads RoPE's settings for heads of `head_dim` dimensions, with `default_base` where the file leaves the base out.
pub(super) fn rope(
    document: &Fields<'_>,
    head_dim: usize,
    default_base: u32,
) -> Result<RopeConfig, FormatError> {
    let parameters = parameters(document)?;
    let base = base(document, parameters.as_ref())?.unwrap_or(f64::from(default_base));
    for fields in [Some(*document), parameters].into_iter().flatten() {
        if let Some(part) = fields.number("partial_rotary_factor")?
            && part != 1.0
        {
            return Err(fields.fault("partial_rotary_factor", format!("must be 1, found {part}")));
        }
    }
    let scaling = match &parameters {
        None => RopeScaling::None,
        Some(parameters) => scaling(document, parameters)?,
    };
    Ok(RopeConfig { base, rotary_dim: head_dim, layout: RopeLayout::HalfSplit, scaling })
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

fn base(document: &Fields<'_>, parameters: Option<&Fields<'_>>) -> Result<Option<f64>, FormatError> {
    let outer = document.number("rope_theta")?;
    let inner = parameters.map(|parameters| parameters.number("rope_theta")).transpose()?.flatten();
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer != inner => Err(document.fault(
            "rope_theta",
            format!("is {outer}, but the RoPE parameters say {inner}; only one of them can be meant"),
        )),
        (outer, inner) => Ok(inner.or(outer)),
    }
}

fn scaling(document: &Fields<'_>, parameters: &Fields<'_>) -> Result<RopeScaling, FormatError> {
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
    let Some((_, known)) = TYPES.iter().find(|(known, _)| *known == name) else {
        return Err(parameters.fault(
            "rope_type",
            format!("{} is not supported; supported are default, linear, llama3 and yarn", quoted(name)),
        ));
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

fn attention_scale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}
