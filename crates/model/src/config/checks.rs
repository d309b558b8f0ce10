//! What every configuration must satisfy, wherever it was read from, before its numbers are multiplied.

use zhenjin_tensor::GateActivation;

use super::{ModelConfig, RopeConfig, RopeScaling};

/// The largest values that are accepted; products of the sizes of a tensor or of a model's cache stay far below 2^64.
/// Gemma 3 has 262,208 tokens.
const MAX_VOCABULARY: usize = 1 << 20;
const MAX_CONTEXT: usize = 1 << 27;
pub(super) const MAX_LAYERS: usize = 1 << 10;
const MAX_WIDTH: usize = 1 << 18;
const MAX_HEADS: usize = 1 << 12;
/// Of a layer; files of published models have up to 512.
const MAX_EXPERTS: usize = 1 << 11;
/// What the attention kernel is made for.
const HEAD_DIM_STEP: usize = 8;
const MAX_HEAD_DIM: usize = 256;
/// Of a constant factor and of a factor of LongRoPE; the least is its inverse.
const MAX_FACTOR: f64 = 1e6;

impl ModelConfig {
    /// Checks that the sizes are possible and fit together.
    ///
    /// # Errors
    /// A sentence that names the sizes in question.
    pub fn check(&self) -> Result<(), String> {
        for (what, value, most) in [
            ("the vocabulary", self.vocabulary_size, MAX_VOCABULARY),
            ("the context length", self.context_length, MAX_CONTEXT),
            ("the number of layers", self.layers, MAX_LAYERS),
            ("the hidden size", self.hidden_size, MAX_WIDTH),
            ("the intermediate size", self.intermediate_size, MAX_WIDTH),
            ("the number of attention heads", self.heads, MAX_HEADS),
            ("the number of key/value heads", self.kv_heads, MAX_HEADS),
            ("the width of a head", self.head_dim, MAX_HEAD_DIM),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("{what} must be 1 to {most}, found {value}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!(
                "{} attention heads cannot share {} key/value heads evenly",
                self.heads, self.kv_heads
            ));
        }
        if !self.head_dim.is_multiple_of(HEAD_DIM_STEP) {
            return Err(format!(
                "the width of a head must be a multiple of {HEAD_DIM_STEP}, found {}",
                self.head_dim
            ));
        }
        if !(self.rms_norm_epsilon > 0.0 && self.rms_norm_epsilon < 1.0) {
            return Err(format!(
                "the epsilon of RMSNorm must lie between 0 and 1, found {}",
                self.rms_norm_epsilon
            ));
        }
        self.check_window()?;
        self.check_multipliers()?;
        self.check_experts()?;
        self.check_unrotated_layers()?;
        check_rope(&self.rope, self.head_dim)?;
        let Some(windowed) = &self.windowed_rope else { return Ok(()) };
        check_rope(windowed, self.head_dim)?;
        if (windowed.rotary_dim, windowed.layout) == (self.rope.rotary_dim, self.rope.layout) {
            return Ok(());
        }
        Err("layers with a window must rotate the same dimensions in the same pairs as the others".to_owned())
    }

    fn check_window(&self) -> Result<(), String> {
        let Some(window) = &self.sliding_window else { return Ok(()) };
        if window.positions == 0 {
            return Err("the sliding window must be at least 1 position wide".to_owned());
        }
        if let Some(layer) = window.layers.iter().find(|layer| **layer >= self.layers) {
            return Err(format!(
                "layer {layer} is to have a sliding window, but there are only {} layers",
                self.layers
            ));
        }
        if !window.layers.is_sorted_by(|layer, next| layer < next) {
            return Err("the layers with a sliding window must ascend".to_owned());
        }
        Ok(())
    }

    fn check_multipliers(&self) -> Result<(), String> {
        let factors = &self.multipliers;
        for (what, factor) in [
            ("embedded tokens", f64::from(factors.embedding)),
            ("what a layer adds", f64::from(factors.residual)),
            ("the scores of attention", factors.attention.unwrap_or(1.0)),
            ("logits", f64::from(factors.logits)),
        ] {
            if !is_factor(factor) {
                return Err(format!("the factor of {what} must be 10^-6 to 10^6, found {factor}"));
            }
        }
        if self.experts.is_some() && self.activation != GateActivation::Silu {
            return Err("experts with another activation than SiLU are not supported".to_owned());
        }
        Ok(())
    }

    fn check_experts(&self) -> Result<(), String> {
        let Some(experts) = &self.experts else { return Ok(()) };
        for (what, value, most) in [
            ("the number of experts", experts.count, MAX_EXPERTS),
            ("the number of active experts", experts.active, experts.count),
            ("the width of an expert", experts.intermediate_size, MAX_WIDTH),
            ("the step between layers with experts", experts.every, MAX_LAYERS),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("{what} must be 1 to {most}, found {value}"));
            }
        }
        if let Some(layer) = experts.dense_layers.iter().find(|layer| **layer >= self.layers) {
            return Err(format!(
                "layer {layer} is to have no experts, but there are only {} layers",
                self.layers
            ));
        }
        if self.feed_forward_bias {
            return Err("experts with biases are not supported".to_owned());
        }
        Ok(())
    }

    fn check_unrotated_layers(&self) -> Result<(), String> {
        let unrotated = &self.unrotated_layers;
        if let Some(layer) = unrotated.iter().find(|layer| **layer >= self.layers) {
            return Err(format!(
                "layer {layer} is to have no rotary embedding, but there are only {} layers",
                self.layers
            ));
        }
        if !unrotated.is_sorted_by(|layer, next| layer < next) {
            return Err("the layers without rotary embedding must ascend".to_owned());
        }
        Ok(())
    }
}

fn check_rope(rope: &RopeConfig, head_dim: usize) -> Result<(), String> {
    if !(1.0..1e18).contains(&rope.base) {
        return Err(format!("the base of RoPE must be 1 to 10^18, found {}", rope.base));
    }
    if rope.rotary_dim == 0 || !rope.rotary_dim.is_multiple_of(2) || rope.rotary_dim > head_dim {
        return Err(format!(
            "RoPE must rotate an even number of the {head_dim} dimensions of a head, found {}",
            rope.rotary_dim
        ));
    }
    let factor_fits = |factor: f64| (1.0..1e6).contains(&factor);
    let factor_error =
        |factor: f64| Err(format!("the factor of RoPE scaling must be 1 to 10^6, found {factor}"));
    match &rope.scaling {
        RopeScaling::None => Ok(()),
        RopeScaling::Linear { factor } if !factor_fits(*factor) => factor_error(*factor),
        RopeScaling::Linear { .. } => Ok(()),
        RopeScaling::Llama3 { factor, .. } | RopeScaling::Yarn { factor, .. } if !factor_fits(*factor) => {
            factor_error(*factor)
        }
        RopeScaling::Llama3 {
            low_frequency_factor, high_frequency_factor, original_context_length, ..
        } => {
            if !(*low_frequency_factor > 0.0
                && low_frequency_factor < high_frequency_factor
                && high_frequency_factor.is_finite())
            {
                return Err(format!(
                    "llama3 RoPE scaling needs 0 < low_freq_factor < high_freq_factor, found \
                     {low_frequency_factor} and {high_frequency_factor}"
                ));
            }
            check_original_context(*original_context_length)
        }
        RopeScaling::Yarn { original_context_length, beta_fast, beta_slow, attention_factor, .. } => {
            if !(*beta_slow > 0.0 && beta_slow <= beta_fast && beta_fast.is_finite()) {
                return Err(format!(
                    "YaRN needs 0 < beta_slow <= beta_fast, found {beta_slow} and {beta_fast}"
                ));
            }
            if let Some(factor) = attention_factor.filter(|factor| !(*factor > 0.0 && factor.is_finite())) {
                return Err(format!("YaRN's attention factor must be positive, found {factor}"));
            }
            check_original_context(*original_context_length)
        }
        RopeScaling::Divisors(divisors) => {
            if divisors.len() != rope.rotary_dim / 2 {
                return Err(format!(
                    "RoPE needs {} frequency divisors, found {}",
                    rope.rotary_dim / 2,
                    divisors.len()
                ));
            }
            match divisors.iter().find(|divisor| !(**divisor > 0.0 && divisor.is_finite())) {
                Some(divisor) => {
                    Err(format!("a frequency divisor of RoPE is {divisor}; all must be positive"))
                }
                None => Ok(()),
            }
        }
        RopeScaling::LongRope {
            factors,
            attention_factor,
            original_context_length,
            long_factors,
            long_context_length,
        } => {
            for (which, factors) in [("short", factors), ("long", long_factors)] {
                check_long_rope(which, factors, rope.rotary_dim / 2)?;
            }
            if !is_factor(*attention_factor) {
                return Err(format!(
                    "LongRoPE's attention factor must be 10^-6 to 10^6, found {attention_factor}"
                ));
            }
            check_original_context(*original_context_length)?;
            check_original_context(*long_context_length)
        }
    }
}

fn check_long_rope(which: &str, factors: &[f64], pairs: usize) -> Result<(), String> {
    if factors.len() != pairs {
        return Err(format!("LongRoPE needs {pairs} {which} factors, found {}", factors.len()));
    }
    match factors.iter().find(|factor| !is_factor(**factor)) {
        Some(factor) => Err(format!("a {which} factor of LongRoPE is {factor}; all must be 10^-6 to 10^6")),
        None => Ok(()),
    }
}

/// Whether a factor is a number that is neither too small nor too large to compute with.
fn is_factor(factor: f64) -> bool {
    (1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&factor)
}

fn check_original_context(length: usize) -> Result<(), String> {
    if (1..=MAX_CONTEXT).contains(&length) {
        return Ok(());
    }
    Err(format!("the original context length of RoPE scaling must be 1 to {MAX_CONTEXT}, found {length}"))
}
