//! A configuration as the metadata of a GGUF file: what `config::from_gguf` reads.

use super::config_json::stated_context_length;
use super::metadata::MetadataValue;
use crate::config::{
    ModelConfig, Multipliers, ROPE_DIVISORS, ROPE_LONG_FACTORS, ROPE_SHORT_FACTORS, RopeConfig, RopeScaling,
    SlidingWindow, gemma_in_gguf,
};
use crate::families::{FAMILIES, Family, MultiplierRule, UnrotatedLayers, WindowRule};

/// The ends of YaRN's ramp where a file does not name them.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

type Settings = Vec<(String, MetadataValue)>;

/// The tensors with the numbers that divide RoPE's frequencies: their names and elements.
type RopeTensors = Vec<(&'static str, Vec<f32>)>;

/// The metadata, and the tensors that say what it cannot.
pub(super) fn settings(config: &ModelConfig, family: &Family) -> Result<(Settings, RopeTensors), String> {
    check_switches(config, family)?;
    let architecture = family.gguf_architecture;
    let mut settings = vec![("general.architecture".to_owned(), MetadataValue::string(architecture))];
    let mut set = |key: &str, value| settings.push((format!("{architecture}.{key}"), value));
    for (key, value) in [
        ("vocab_size", config.vocabulary_size),
        ("context_length", stated_context_length(config)),
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
    if let Some(window) = &config.sliding_window {
        set_window(window, config, family, &mut set)?;
        set_windowed_rope(config, family, &mut set)?;
    }
    set_multipliers(config, family, &mut set)?;
    let tensors = rope_scaling(&config.rope, family, &mut set)?;
    Ok((settings, tensors))
}

/// What readers know by the architecture alone.
fn check_switches(config: &ModelConfig, family: &Family) -> Result<(), String> {
    let ours = (config.norms, config.qk_norm, config.activation);
    let read = (family.norms, family.qk_norm, family.activation);
    if ours == read {
        return Ok(());
    }
    Err(format!(
        "a GGUF file of architecture `{}` cannot say which norms and which activation a layer has: here {ours:?}, but programs that \
         read it expect {read:?}",
        family.gguf_architecture
    ))
}

fn set_window(
    window: &SlidingWindow,
    config: &ModelConfig,
    family: &Family,
    set: &mut impl FnMut(&str, MetadataValue),
) -> Result<(), String> {
    const NAME: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    let WindowRule::AllButLastOfEvery { interval: usual, .. } = family.window else {
        let in_all = window.layers.iter().copied().eq(0..config.layers);
        // Files of Mistral are called llama.
        let has_it_in_all = |other: &Family| {
            other.gguf_architecture == family.gguf_architecture
                && matches!(other.window, WindowRule::AllLayers { .. })
        };
        if !in_all || !FAMILIES.iter().any(has_it_in_all) {
            return Err("GGUF files of this family cannot say which layers have a sliding window".to_owned());
        }
        set(NAME, number(NAME, window.positions)?);
        return Ok(());
    };
    let interval = interval_of(window, config.layers, usual).ok_or_else(|| {
        format!(
            "a GGUF file of architecture `{}` cannot say that layers {:?} (counted from 0) have a sliding window, only that all but \
             the last of every so many have",
            family.gguf_architecture, window.layers
        )
    })?;
    set(NAME, number(NAME, window.positions)?);
    if interval != usual {
        set(PATTERN, number(PATTERN, interval)?);
    }
    Ok(())
}

/// The number of layers of which the last one, and no other, sees everything; `usual` where that fits.
fn interval_of(window: &SlidingWindow, layers: usize, usual: usize) -> Option<usize> {
    let fits = |interval: &usize| {
        let windowed = (0..layers).filter(|layer| !(layer + 1).is_multiple_of(*interval));
        window.layers.iter().copied().eq(windowed)
    };
    [usual].into_iter().chain(2..=layers + 1).find(fits)
}

/// RoPE of the layers with a window.
fn set_windowed_rope(
    config: &ModelConfig,
    family: &Family,
    set: &mut impl FnMut(&str, MetadataValue),
) -> Result<(), String> {
    let rope = config.windowed_rope.as_ref();
    let is_own = family.windowed_rope_base.is_some();
    match (rope.unwrap_or(&config.rope), is_own) {
        (RopeConfig { base, scaling: RopeScaling::None, .. }, true) => {
            set("rope.freq_base_swa", MetadataValue::f32(*base as f32));
            Ok(())
        }
        (_, false) if rope.is_none() => Ok(()),
        _ => Err(format!(
            "a GGUF file of architecture `{}` cannot say how rotary embedding differs in layers with a sliding window",
            family.gguf_architecture
        )),
    }
}

fn set_multipliers(
    config: &ModelConfig,
    family: &Family,
    set: &mut impl FnMut(&str, MetadataValue),
) -> Result<(), String> {
    let ours = config.multipliers;
    let implied = match family.multipliers {
        MultiplierRule::Granite => {
            set("embedding_scale", MetadataValue::f32(ours.embedding));
            set("residual_scale", MetadataValue::f32(ours.residual));
            if let Some(attention) = ours.attention {
                set("attention.scale", MetadataValue::f32(attention as f32));
            }
            set("logit_scale", MetadataValue::f32(logits_divisor(ours.logits)));
            return Ok(());
        }
        MultiplierRule::Never => Multipliers::default(),
        MultiplierRule::Gemma { .. } => {
            gemma_in_gguf(config.layers, config.hidden_size, config.heads, config.head_dim)
        }
    };
    let attention = |multipliers: Multipliers| {
        multipliers.attention.unwrap_or_else(|| (config.head_dim as f64).sqrt().recip())
    };
    let same = (ours.embedding, ours.residual, ours.logits)
        == (implied.embedding, implied.residual, implied.logits)
        && (attention(ours) / attention(implied) - 1.0).abs() < 1e-9;
    if same {
        return Ok(());
    }
    Err(format!(
        "a GGUF file of architecture `{}` cannot say with which factors a model computes: here {ours:?}, but programs that read it take \
         {implied:?}",
        family.gguf_architecture
    ))
}

/// The divisor of the logits, in f32, that readers turn into `factor` again.
pub(super) fn logits_divisor(factor: f32) -> f32 {
    let nearest = f64::from(factor).recip() as f32;
    let is_it = |divisor: &f32| f64::from(*divisor).recip() as f32 == factor;
    [nearest, nearest.next_up(), nearest.next_down()].into_iter().find(is_it).unwrap_or(nearest)
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
    rope: &RopeConfig,
    family: &Family,
    set: &mut impl FnMut(&str, MetadataValue),
) -> Result<RopeTensors, String> {
    let architecture = family.gguf_architecture;
    match &rope.scaling {
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
        RopeScaling::Llama3 { .. } => return Ok(vec![(ROPE_DIVISORS, llama3_divisors(rope))]),
        RopeScaling::Divisors(divisors) => return Ok(vec![(ROPE_DIVISORS, divisors.clone())]),
        RopeScaling::LongRope { .. } if !family.long_rope => {
            return Err(format!(
                "a GGUF file of architecture `{architecture}` cannot say RoPE scaling of the longrope kind"
            ));
        }
        RopeScaling::LongRope {
            factors, attention_factor, original_context_length, long_factors, ..
        } => {
            set("rope.scaling.attn_factor", MetadataValue::f32(*attention_factor as f32));
            let key = "rope.scaling.original_context_length";
            set(key, number(key, *original_context_length)?);
            let [short, long] =
                [factors, long_factors].map(|factors| factors.iter().map(|factor| *factor as f32).collect());
            return Ok(vec![(ROPE_SHORT_FACTORS, short), (ROPE_LONG_FACTORS, long)]);
        }
    }
    Ok(Vec::new())
}

/// By how much Llama 3.1's rule divides each frequency.
fn llama3_divisors(rope: &RopeConfig) -> Vec<f32> {
    let plain = RopeConfig { scaling: RopeScaling::None, ..rope.clone() };
    let plain = crate::rope::frequencies(&plain).radians;
    let scaled = crate::rope::frequencies(rope).radians;
    plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}

fn number(key: &str, value: usize) -> Result<MetadataValue, String> {
    let value = u32::try_from(value).map_err(|_| format!("{key} is {value}, more than 32 bits hold"))?;
    Ok(MetadataValue::u32(value))
}
