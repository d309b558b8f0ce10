//! A configuration as the `config.json` of a Hugging Face folder: what `config::from_json` reads.

use serde_json::{Map, Value, json};

use super::gguf_settings::logits_divisor;
use crate::config::{
    ModelClass, ModelConfig, RopeConfig, RopeLayout, RopeScaling, SlidingWindow, from_json_as,
};
use crate::errors::FormatError;
use crate::families::{Bias, Family, MultiplierRule, UnrotatedLayers, WindowRule};

/// The `config.json` of a model with this configuration, of weights in f32. A model whose GGUF file turned pairs of
/// neighbouring dimensions gets the order of Hugging Face files; the writers bring its rows into it.
///
/// # Errors
/// [`FormatError`] names what no `config.json` of the model's family can say.
pub fn config_json(config: &ModelConfig) -> Result<Value, FormatError> {
    json_of(config, ModelClass::CausalLm)
}

/// The `config.json` of a reward model with this configuration: `…ForSequenceClassification` with one label. `transformers` reads the score at
/// the last token that is not `padding`, so this must be a token that ends no text.
///
/// # Errors
/// As [`config_json`].
pub fn reward_config_json(config: &ModelConfig, padding: Option<u32>) -> Result<Value, FormatError> {
    // There is no head for tokens.
    let config = ModelConfig { tied_embeddings: true, ..config.clone() };
    let mut json = json_of(&config, ModelClass::SequenceClassification)?;
    json["num_labels"] = json!(1);
    json["id2label"] = json!({ "0": "LABEL_0" });
    json["label2id"] = json!({ "LABEL_0": 0 });
    json["pad_token_id"] = json!(padding);
    Ok(json)
}

fn json_of(config: &ModelConfig, class: ModelClass) -> Result<Value, FormatError> {
    let family = family_of(config)?;
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| json.insert(name.to_owned(), value);
    set("architectures", json!([class.name(family)]));
    set("model_type", json!(family.model_type));
    set("vocab_size", json!(config.vocabulary_size));
    set("max_position_embeddings", json!(stated_context_length(config)));
    set("num_hidden_layers", json!(config.layers));
    set("hidden_size", json!(config.hidden_size));
    set("intermediate_size", json!(config.intermediate_size));
    set("num_attention_heads", json!(config.heads));
    set("num_key_value_heads", json!(config.kv_heads));
    set("head_dim", json!(config.head_dim));
    set(family.activation_setting(), json!(family.activation_name()));
    set("rms_norm_eps", json!(shortest(config.rms_norm_epsilon)));
    set("tie_word_embeddings", json!(config.tied_embeddings));
    if let Bias::Setting(name) = family.attention_bias {
        set(name, json!(config.attention_bias));
    }
    if let Bias::Setting(name) = family.feed_forward_bias {
        set(name, json!(config.feed_forward_bias));
    }
    if let Some(experts) = &config.experts {
        set("num_experts", json!(experts.count));
        set("num_experts_per_tok", json!(experts.active));
        set("moe_intermediate_size", json!(experts.intermediate_size));
        set("norm_topk_prob", json!(experts.normalise));
        set("decoder_sparse_step", json!(experts.every));
        set("mlp_only_layers", json!(experts.dense_layers));
    }
    json.extend(rope(config, family)?);
    json.extend(window(config, family));
    json.extend(multipliers(config, family));
    json.insert("torch_dtype".to_owned(), json!("float32"));
    let json = Value::Object(json);
    check_that_it_says(config, &json, class)?;
    Ok(json)
}

/// The family whose `config.json` can say it: GGUF files call Mistral's models llama.
fn family_of(config: &ModelConfig) -> Result<&'static Family, FormatError> {
    let name = match config.architecture.as_str() {
        "llama" if config.sliding_window.is_some() => "mistral",
        name => name,
    };
    let family = Family::of_model_type(name).or_else(|| Family::of_gguf_architecture(name));
    family.ok_or_else(|| fault(format!("no config.json is known for a model of architecture `{name}`")))
}

/// The context length that files state: of models with LongRoPE that for which the long factors are.
pub(super) fn stated_context_length(config: &ModelConfig) -> usize {
    match &config.rope.scaling {
        RopeScaling::LongRope { long_context_length, .. } => config.context_length.max(*long_context_length),
        _ => config.context_length,
    }
}

fn rope(config: &ModelConfig, family: &Family) -> Result<Map<String, Value>, FormatError> {
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| json.insert(name.to_owned(), value);
    set("rope_theta", json!(config.rope.base));
    set("rope_scaling", rope_scaling(&config.rope)?);
    if let RopeScaling::LongRope { original_context_length, .. } = &config.rope.scaling {
        // transformers reads it here.
        set("original_max_position_embeddings", json!(original_context_length));
    }
    if family.windowed_rope_base.is_some() {
        // Another scaling than none is found when the text is read back.
        set("rope_local_base_freq", json!(config.windowed_rope.as_ref().unwrap_or(&config.rope).base));
    }
    match family.unrotated {
        UnrotatedLayers::Never if config.unrotated_layers.is_empty() => {}
        UnrotatedLayers::Never => {
            return Err(fault(format!(
                "a config.json of model_type \"{}\" cannot say that layers {:?} have no rotary embedding (counted from 0)",
                family.model_type, config.unrotated_layers
            )));
        }
        UnrotatedLayers::Listed { .. } => {
            let rotates: Vec<u8> = (0..config.layers).map(|layer| u8::from(config.rotates(layer))).collect();
            set("no_rope_layers", json!(rotates));
        }
    }
    Ok(json)
}

/// Which layers see only the most recent positions. A window that the family's files cannot say is found when the text is read back.
fn window(config: &ModelConfig, family: &Family) -> Map<String, Value> {
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| json.insert(name.to_owned(), value);
    let window = config.sliding_window.as_ref();
    let positions = json!(window.map(|window| window.positions));
    let kind = |layer| match config.window(layer) {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    let types: Vec<&str> = (0..config.layers).map(kind).collect();
    match family.window {
        WindowRule::Never => {}
        WindowRule::AllLayers { .. } => {
            set("sliding_window", positions);
        }
        WindowRule::LaterLayers => {
            let first = window.and_then(|window| window.layers.first().copied()).unwrap_or(config.layers);
            set("use_sliding_window", json!(window.is_some()));
            set("sliding_window", positions);
            set("max_window_layers", json!(first));
            let is_later = |window: &SlidingWindow| {
                *window == SlidingWindow::from_layer(window.positions, first, config.layers)
            };
            if !window.is_none_or(is_later) {
                set("layer_types", json!(types));
            }
        }
        WindowRule::UnrotatedLayers if window.is_none() => {}
        WindowRule::UnrotatedLayers => {
            set("use_sliding_window", json!(true));
            set("sliding_window", positions);
            set("layer_types", json!(types));
        }
        WindowRule::AllButLastOfEvery { .. } => {
            // transformers wants a number even where no layer has a window.
            set("sliding_window", json!(window.map_or(config.context_length, |window| window.positions)));
            set("layer_types", json!(types));
        }
    }
    json
}

/// The constant factors of the forward pass. Others than the family's files can say are found when the text is read back.
fn multipliers(config: &ModelConfig, family: &Family) -> Map<String, Value> {
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| json.insert(name.to_owned(), value);
    match family.multipliers {
        MultiplierRule::Never => {}
        MultiplierRule::Granite => {
            set("embedding_multiplier", json!(shortest(config.multipliers.embedding)));
            set("residual_multiplier", json!(shortest(config.multipliers.residual)));
            set("attention_multiplier", json!(shortest(attention_multiplier(config) as f32)));
            set("logits_scaling", json!(shortest(logits_divisor(config.multipliers.logits))));
        }
        MultiplierRule::Gemma { .. } => {
            let scalar = attention_multiplier(config).powi(-2);
            let whole = scalar.round();
            // transformers takes whole numbers only.
            let is_whole = (scalar - whole).abs() <= 1e-9 * scalar && whole < 1e15;
            set("query_pre_attn_scalar", if is_whole { json!(whole as u64) } else { json!(scalar) });
        }
    }
    json
}

/// What the scores of attention are multiplied with.
fn attention_multiplier(config: &ModelConfig) -> f64 {
    config.multipliers.attention.unwrap_or_else(|| (config.head_dim as f64).sqrt().recip())
}

fn rope_scaling(rope: &RopeConfig) -> Result<Value, FormatError> {
    Ok(match &rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency_factor,
            "high_freq_factor": high_frequency_factor,
            "original_max_position_embeddings": original_context_length,
        }),
        RopeScaling::Yarn {
            factor,
            original_context_length,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original_context_length,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "truncate": truncate,
        }),
        RopeScaling::LongRope {
            factors, attention_factor, original_context_length, long_factors, ..
        } => json!({
            "rope_type": "longrope",
            "short_factor": factors,
            "long_factor": long_factors,
            "attention_factor": attention_factor,
            "original_max_position_embeddings": original_context_length,
        }),
        RopeScaling::Divisors(_) => {
            return Err(fault(
                "the model's RoPE divides every frequency by a number of its own (`rope_freqs.weight`), \
                 which a config.json cannot say",
            ));
        }
    })
}

/// Read back, the text must be the same configuration: a switch that the family has no setting for is found here.
fn check_that_it_says(config: &ModelConfig, json: &Value, class: ModelClass) -> Result<(), FormatError> {
    let mut expected = config.clone();
    // These are spelled otherwise in files of the other format.
    expected.norms_less_one = family_of(config)?.norms_less_one;
    for rope in [Some(&mut expected.rope), expected.windowed_rope.as_mut()].into_iter().flatten() {
        rope.layout = RopeLayout::HalfSplit;
    }
    let mut found = from_json_as(json.to_string().as_bytes(), class)?.config;
    found.architecture.clone_from(&expected.architecture);
    for config in [&mut expected, &mut found] {
        config.multipliers.attention = Some(f64::from(attention_multiplier(config) as f32));
    }
    // The reader of JSON may be off by the last bit of a number of 17 digits, which changes no f32.
    round(&mut expected);
    round(&mut found);
    if found == expected {
        return Ok(());
    }
    let fields = |config: &ModelConfig| -> Vec<String> {
        format!("{config:#?}").lines().map(|line| line.trim().trim_end_matches(',').to_owned()).collect()
    };
    let (expected, found) = (fields(&expected), fields(&found));
    let difference = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    let difference = difference.map_or("something", |(expected, _)| expected);
    Err(fault(format!(
        "a config.json of model_type {} cannot say `{difference}`",
        json.get("model_type").unwrap_or(&Value::Null)
    )))
}

/// Rounds the numbers in f64 to 14 digits.
fn round(config: &mut ModelConfig) {
    let round = |number: &mut f64| *number = format!("{number:.13e}").parse().unwrap_or(*number);
    config.multipliers.attention.iter_mut().for_each(round);
    for rope in std::iter::once(&mut config.rope).chain(&mut config.windowed_rope) {
        round(&mut rope.base);
        match &mut rope.scaling {
            RopeScaling::None | RopeScaling::Divisors(_) => {}
            RopeScaling::Linear { factor } => round(factor),
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, .. } => {
                [factor, low_frequency_factor, high_frequency_factor].into_iter().for_each(round);
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
                [factor, beta_fast, beta_slow].into_iter().chain(attention_factor).for_each(round);
            }
            RopeScaling::LongRope { factors, attention_factor, long_factors, .. } => {
                factors.iter_mut().chain(long_factors).chain([attention_factor]).for_each(round);
            }
        }
    }
}

/// The f64 that is written with the fewest digits and rounds to `value`: 1e-6 instead of 9.999999974752427e-7.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn fault(problem: impl Into<String>) -> FormatError {
    FormatError::new("configuration", problem)
}
