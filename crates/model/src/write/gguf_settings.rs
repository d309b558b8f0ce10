//! A configuration as the metadata of a GGUF file: what `config::from_gguf` reads.

use super::metadata::MetadataValue;
use crate::config::{ModelConfig, RopeScaling};
use crate::families::{Family, UnrotatedLayers, WindowRule};

/// The ends of YaRN's ramp where a file does not name them.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

type Settings = Vec<(String, MetadataValue)>;

/// The metadata, and the numbers that divide RoPE's frequencies where the file carries them in a tensor.
pub(super) fn settings(
    config: &ModelConfig,
    family: &Family,
) -> Result<(Settings, Option<Vec<f32>>), String> {
    let architecture = family.gguf_architecture;
    let mut settings = vec![("general.architecture".to_owned(), MetadataValue::string(architecture))];
    let mut set = |key: &str, value| settings.push((format!("{architecture}.{key}"), value));
    for (key, value) in [
        ("vocab_size", config.vocabulary_size),
        ("context_length", config.context_length),
        ("block_count", config.layers),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.rope.rotary_dim),
    ] {
        set(key, number(key, value)?);
    }
    if let Some(experts) = &config.experts {
        if experts.every != 1 || !experts.dense_layers.is_empty() || !experts.normalise {
            return Err("a GGUF file cannot say that some layers have no experts, or that the probabilities of a row's experts \
                        are not divided by their sum"
                .to_owned());
        }
        for (key, value) in [
            ("expert_count", experts.count),
            ("expert_used_count", experts.active),
            ("expert_feed_forward_length", experts.intermediate_size),
        ] {
            set(key, number(key, value)?);
        }
    }
    set("attention.layer_norm_rms_epsilon", MetadataValue::f32(config.rms_norm_epsilon));
    set("rope.freq_base", MetadataValue::f32(config.rope.base as f32));
    check_unrotated_layers(config, family)?;
    if let Some(window) = config.sliding_window {
        let is_by_layer = matches!(family.window, WindowRule::LaterLayers | WindowRule::UnrotatedLayers);
        if window.first_layer > 0 || is_by_layer {
            return Err("GGUF files of this family cannot say which layers have a sliding window".to_owned());
        }
        set("attention.sliding_window", number("attention.sliding_window", window.positions)?);
    }
    let divisors = rope_scaling(config, architecture, &mut set)?;
    Ok((settings, divisors))
}

/// Which layers do not rotate is a rule of the readers, not a setting of the file.
fn check_unrotated_layers(config: &ModelConfig, family: &Family) -> Result<(), String> {
    let read = family.unrotated.in_gguf(config.layers);
    if config.unrotated_layers == read {
        return Ok(());
    }
    let rule = match family.unrotated {
        UnrotatedLayers::Never => "rotate in every layer".to_owned(),
        UnrotatedLayers::Listed { interval } => {
            format!("leave it out in the last of every {interval} layers")
        }
    };
    let ours = match &config.unrotated_layers[..] {
        [] => "none".to_owned(),
        layers => format!("{layers:?} (counted from 0)"),
    };
    Err(format!(
        "a GGUF file of architecture `{}` cannot say which layers have no rotary embedding: here {ours}, but programs that read \
         it {rule}",
        family.gguf_architecture
    ))
}

fn rope_scaling(
    config: &ModelConfig,
    architecture: &str,
    set: &mut impl FnMut(&str, MetadataValue),
) -> Result<Option<Vec<f32>>, String> {
    match &config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            set("rope.scaling.type", MetadataValue::string("linear"));
            set("rope.scaling.factor", MetadataValue::f32(*factor as f32));
        }
        RopeScaling::Yarn { truncate: false, .. } => {
            return Err(
                "a GGUF file cannot say that YaRN's ramp is not rounded to whole dimensions".to_owned()
            );
        }
        RopeScaling::Yarn {
            factor, original_context_length, beta_fast, beta_slow, attention_factor, ..
        } => {
            set("rope.scaling.type", MetadataValue::string("yarn"));
            set("rope.scaling.factor", MetadataValue::f32(*factor as f32));
            let key = "rope.scaling.original_context_length";
            set(key, number(key, *original_context_length)?);
            if (*beta_fast, *beta_slow) != (DEFAULT_BETA_FAST, DEFAULT_BETA_SLOW) {
                set("rope.scaling.yarn_beta_fast", MetadataValue::f32(*beta_fast as f32));
                set("rope.scaling.yarn_beta_slow", MetadataValue::f32(*beta_slow as f32));
            }
            if let Some(attention_factor) = attention_factor {
                // Readers multiply it with the paper's factor.
                let paper = 0.1 * factor.ln() + 1.0;
                set("rope.scaling.attn_factor", MetadataValue::f32((attention_factor / paper) as f32));
            }
        }
        RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) if architecture != "llama" => {
            return Err(format!(
                "files of architecture `{architecture}` have no tensor for RoPE whose frequencies are divided one by one"
            ));
        }
        RopeScaling::Llama3 { .. } => return Ok(Some(llama3_divisors(config))),
        RopeScaling::Divisors(divisors) => return Ok(Some(divisors.clone())),
    }
    Ok(None)
}

/// By how much Llama 3.1's rule divides each frequency.
fn llama3_divisors(config: &ModelConfig) -> Vec<f32> {
    let mut plain = config.rope.clone();
    plain.scaling = RopeScaling::None;
    let plain = crate::rope::frequencies(&plain).radians;
    let scaled = crate::rope::frequencies(&config.rope).radians;
    plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}

fn number(key: &str, value: usize) -> Result<MetadataValue, String> {
    let value = u32::try_from(value).map_err(|_| format!("{key} is {value}, more than 32 bits hold"))?;
    Ok(MetadataValue::u32(value))
}
