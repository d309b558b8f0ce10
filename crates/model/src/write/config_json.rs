//! A configuration as the `config.json` of a Hugging Face folder: what `config::from_json` reads.

use serde_json::{Map, Value, json};

use crate::config::{ModelClass, ModelConfig, RopeLayout, RopeScaling, from_json_as};
use crate::errors::FormatError;
use crate::families::{Bias, Family, UnrotatedLayers, WindowRule};

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
    set("max_position_embeddings", json!(config.context_length));
    set("num_hidden_layers", json!(config.layers));
    set("hidden_size", json!(config.hidden_size));
    set("intermediate_size", json!(config.intermediate_size));
    set("num_attention_heads", json!(config.heads));
    set("num_key_value_heads", json!(config.kv_heads));
    set("head_dim", json!(config.head_dim));
    set("hidden_act", json!("silu"));
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
    set("rope_theta", json!(config.rope.base));
    set("rope_scaling", rope_scaling(config)?);
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
    match (family.window, config.sliding_window) {
        // A window that the family's files cannot say is found when the text is read back.
        (WindowRule::Never | WindowRule::UnrotatedLayers, _) => {}
        (WindowRule::AllLayers { .. }, window) => {
            set("sliding_window", json!(window.map(|window| window.positions)));
        }
        (WindowRule::LaterLayers, window) => {
            set("use_sliding_window", json!(window.is_some()));
            set("sliding_window", json!(window.map(|window| window.positions)));
            set("max_window_layers", json!(window.map_or(config.layers, |window| window.first_layer)));
        }
    }
    set("torch_dtype", json!("float32"));
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

fn rope_scaling(config: &ModelConfig) -> Result<Value, FormatError> {
    Ok(match &config.rope.scaling {
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
    expected.rope.layout = RopeLayout::HalfSplit;
    let mut found = from_json_as(json.to_string().as_bytes(), class)?.config;
    found.architecture.clone_from(&expected.architecture);
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
    round(&mut config.rope.base);
    match &mut config.rope.scaling {
        RopeScaling::None | RopeScaling::Divisors(_) => {}
        RopeScaling::Linear { factor } => round(factor),
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, .. } => {
            [factor, low_frequency_factor, high_frequency_factor].into_iter().for_each(round);
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
            [factor, beta_fast, beta_slow].into_iter().chain(attention_factor).for_each(round);
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
