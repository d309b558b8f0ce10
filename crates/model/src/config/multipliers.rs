//! The constant factors of the forward pass, as both file formats say them.

use super::Multipliers;
use super::fields::Fields;
use crate::errors::FormatError;
use crate::families::{Family, MultiplierRule};

/// Layers of the one Gemma 3 model in which GGUF readers divide scores by the root of `hidden_size / heads` instead of that of `head_dim`.
const GEMMA_27B_LAYERS: usize = 62;

/// The factors of a model whose `config.json` this is.
pub(super) fn from_json(
    fields: &Fields<'_>,
    family: &Family,
    hidden_size: usize,
    head_dim: usize,
) -> Result<Multipliers, FormatError> {
    match family.multipliers {
        MultiplierRule::Never => Ok(Multipliers::default()),
        MultiplierRule::Granite => {
            let or_one = |name: &str| fields.number(name).map(|value| value.unwrap_or(1.0));
            Ok(granite(
                or_one("embedding_multiplier")?,
                or_one("residual_multiplier")?,
                Some(or_one("attention_multiplier")?),
                or_one("logits_scaling")?,
                head_dim,
            ))
        }
        MultiplierRule::Gemma { default_scalar } => {
            const SCALAR: &str = "query_pre_attn_scalar";
            let scalar = fields.number(SCALAR)?.unwrap_or(default_scalar as f64);
            if !(scalar > 0.0 && scalar.is_finite()) {
                return Err(fields.fault(SCALAR, format!("must be positive, found {scalar}")));
            }
            Ok(gemma(scalar, hidden_size, head_dim))
        }
    }
}

/// Granite's factors. They are rounded to f32, which GGUF files hold, so that both formats mean the same; a factor of scores that is the usual
/// one is not named.
pub(super) fn granite(
    embedding: f64,
    residual: f64,
    attention: Option<f64>,
    logits_scaling: f64,
    head_dim: usize,
) -> Multipliers {
    let usual = (head_dim as f64).sqrt().recip() as f32;
    Multipliers {
        embedding: embedding as f32,
        residual: residual as f32,
        attention: attention.map(|factor| factor as f32).filter(|factor| *factor != usual).map(f64::from),
        logits: (1.0 / f64::from(logits_scaling as f32)) as f32,
    }
}

/// Gemma's factors where scores are divided by the root of `scalar`.
fn gemma(scalar: f64, hidden_size: usize, head_dim: usize) -> Multipliers {
    Multipliers {
        embedding: (hidden_size as f64).sqrt() as f32,
        attention: (scalar != head_dim as f64).then(|| 1.0 / scalar.sqrt()),
        ..Multipliers::default()
    }
}

/// The factors of Gemma in a GGUF file, which does not name them.
pub(crate) fn gemma_in_gguf(layers: usize, hidden_size: usize, heads: usize, head_dim: usize) -> Multipliers {
    let scalar = if layers == GEMMA_27B_LAYERS { hidden_size / heads.max(1) } else { head_dim };
    gemma(scalar.max(1) as f64, hidden_size, head_dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_gemma_are_divided_by_the_root_of_the_width_of_a_head_but_in_the_largest_model() {
        let of_27b = gemma_in_gguf(62, 5376, 32, 128);
        assert_eq!(of_27b.attention, Some(1.0 / 168_f64.sqrt()));
        assert_eq!(of_27b.embedding, 5376_f32.sqrt());
        assert_eq!(gemma_in_gguf(26, 1152, 4, 256).attention, None);
        assert_eq!(gemma(168.0, 5376, 128), of_27b, "both formats give the same bits");
    }

    #[test]
    fn logits_of_granite_are_divided() {
        let factors = granite(12.0, 0.22, Some(0.015_625), 8.0, 64);
        let expected =
            Multipliers { embedding: 12.0, residual: 0.22, attention: Some(0.015_625), logits: 0.125 };
        assert_eq!(factors, expected);
        assert_eq!(granite(1.0, 1.0, Some(0.125), 1.0, 64), Multipliers::default());
    }
}
