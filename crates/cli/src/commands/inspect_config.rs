//! A model's configuration in the words of `zhenjin inspect`.

use std::collections::BTreeMap;

use zhenjin_model::ModelConfig;
use zhenjin_model::config::{
    ExpertsConfig, Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling,
    SlidingWindow,
};
use zhenjin_tensor::GateActivation;

/// What a configuration says, by name.
pub(super) fn config_lines(config: &ModelConfig) -> BTreeMap<&'static str, String> {
    let mut lines = BTreeMap::from([
        ("layers", config.layers.to_string()),
        ("hidden size", config.hidden_size.to_string()),
        ("intermediate size", config.intermediate_size.to_string()),
        (
            "heads",
            format!(
                "{} of {} values, {} for keys and values",
                config.heads, config.head_dim, config.kv_heads
            ),
        ),
        ("context", config.context_length.to_string()),
        ("rope", rope(&config.rope)),
        ("tied embeddings", config.tied_embeddings.to_string()),
        ("RMSNorm epsilon", config.rms_norm_epsilon.to_string()),
    ]);
    if !config.unrotated_layers.is_empty() {
        lines.insert("layers without rope", layers_of(&config.unrotated_layers, config.layers));
    }
    if let Some(window) = &config.sliding_window {
        lines.insert("sliding window", sliding_window(window, config.layers));
    }
    if let Some(windowed) = &config.windowed_rope {
        lines.insert("rope in layers with a window", rope(windowed));
    }
    match config.norms {
        NormPlacement::Before => {}
        NormPlacement::After => {
            lines.insert("norms", "behind attention and the feed-forward network".to_owned());
        }
        NormPlacement::BeforeAndAfter => {
            lines.insert("norms", "before and behind attention and the feed-forward network".to_owned());
        }
    }
    if config.activation == GateActivation::GeluTanh {
        lines.insert("activation", "GELU (with tanh)".to_owned());
    }
    if config.multipliers != Multipliers::default() {
        lines.insert("multipliers", multipliers(&config.multipliers));
    }
    if let Some(experts) = &config.experts {
        let ExpertsConfig { count, active, intermediate_size, .. } = experts;
        lines.insert("experts", format!("{active} of {count} for each token, {intermediate_size} wide"));
    }
    if config.attention_bias {
        lines.insert("biases", "query, key, value".to_owned());
    }
    match config.qk_norm {
        QueryKeyNorm::Never => {}
        QueryKeyNorm::Heads => {
            lines.insert("query and key norm", "per head".to_owned());
        }
        QueryKeyNorm::Whole => {
            lines.insert("query and key norm", "all heads as one".to_owned());
        }
    }
    lines
}

/// Some of a model's layers in words.
fn layers_of(layers: &[usize], all: usize) -> String {
    let numbers = layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{numbers} ({} of {all}, counted from 0)", layers.len())
}

/// Which layers see how many positions.
fn sliding_window(window: &SlidingWindow, all: usize) -> String {
    let SlidingWindow { positions, layers } = window;
    let layers = match layers.first() {
        // They ascend, so these are all from the first one on.
        Some(first) if layers.len() == all.saturating_sub(*first) => format!("from layer {first}"),
        _ => format!("in layers {}", layers_of(layers, all)),
    };
    format!("{positions} positions {layers}")
}

/// The factors that are not 1.
fn multipliers(multipliers: &Multipliers) -> String {
    let Multipliers { embedding, residual, attention, logits } = multipliers;
    let mut factors = Vec::new();
    for (what, factor) in
        [("embedded tokens", embedding), ("what each layer adds", residual), ("logits", logits)]
    {
        if *factor != 1.0 {
            factors.push(format!("{what} by {factor}"));
        }
    }
    // Files hold it in f32.
    factors.extend(attention.map(|factor| format!("scores of attention by {}", factor as f32)));
    factors.join(", ")
}

/// Rotary position embeddings in words.
fn rope(rope: &RopeConfig) -> String {
    let pairs = match rope.layout {
        RopeLayout::Interleaved => "neighbouring dimensions in pairs",
        RopeLayout::HalfSplit => "the two halves in pairs",
    };
    let scaling = match &rope.scaling {
        RopeScaling::None => "not scaled".to_owned(),
        RopeScaling::Linear { factor } => format!("linear, by {factor}"),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length,
        } => {
            format!(
                "as in Llama 3.1, by {factor} from {original_context_length} positions on, \
                 between {low_frequency_factor} and {high_frequency_factor} turns of them"
            )
        }
        RopeScaling::Yarn {
            factor, original_context_length, beta_fast, beta_slow, attention_factor, ..
        } => {
            let attention =
                attention_factor.map(|factor| format!(", attention by {factor}")).unwrap_or_default();
            format!(
                "YaRN, by {factor} from {original_context_length} positions on, \
                 between {beta_slow} and {beta_fast} turns of them{attention}"
            )
        }
        RopeScaling::Divisors(divisors) => format!("{} frequencies with a divisor each", divisors.len()),
        RopeScaling::LongRope { attention_factor, original_context_length, .. } => format!(
            "LongRoPE's short factors, which are for at most {original_context_length} positions (the long ones, for more, are not used), \
             attention by {attention_factor}"
        ),
    };
    format!("base {}, {} dimensions, {pairs}, {scaling}", rope.base, rope.rotary_dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_model::testing::tiny_config;

    #[test]
    fn layers_are_named_by_their_numbers() {
        assert_eq!(layers_of(&[3, 7, 11], 12), "3, 7, 11 (3 of 12, counted from 0)");
    }

    #[test]
    fn windows_are_told_by_their_first_layer_or_by_all() {
        let window =
            |layers: &[usize]| sliding_window(&SlidingWindow { positions: 512, layers: layers.to_vec() }, 4);
        assert_eq!(window(&[0, 1, 2, 3]), "512 positions from layer 0");
        assert_eq!(window(&[2, 3]), "512 positions from layer 2");
        assert_eq!(window(&[0, 1, 3]), "512 positions in layers 0, 1, 3 (3 of 4, counted from 0)");
        assert_eq!(window(&[1, 2]), "512 positions in layers 1, 2 (2 of 4, counted from 0)");
    }

    #[test]
    fn switches_of_a_family_are_told_where_they_differ_from_the_usual() {
        let plain = config_lines(&tiny_config());
        for name in
            ["norms", "activation", "multipliers", "query and key norm", "rope in layers with a window"]
        {
            assert!(!plain.contains_key(name), "{name}");
        }
        let config = ModelConfig {
            norms: NormPlacement::BeforeAndAfter,
            qk_norm: QueryKeyNorm::Whole,
            activation: GateActivation::GeluTanh,
            multipliers: Multipliers { embedding: 8.0, attention: Some(0.25), ..Multipliers::default() },
            sliding_window: Some(SlidingWindow { positions: 8, layers: vec![0] }),
            windowed_rope: Some(RopeConfig { base: 500.0, ..tiny_config().rope }),
            ..tiny_config()
        };
        let lines = config_lines(&config);
        assert_eq!(lines["norms"], "before and behind attention and the feed-forward network");
        assert_eq!(lines["query and key norm"], "all heads as one");
        assert_eq!(lines["activation"], "GELU (with tanh)");
        assert_eq!(lines["multipliers"], "embedded tokens by 8, scores of attention by 0.25");
        assert!(lines["rope in layers with a window"].starts_with("base 500, "));
        assert_eq!(lines["sliding window"], "8 positions in layers 0 (1 of 2, counted from 0)");
    }
}
