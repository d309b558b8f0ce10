//! Configurations of published models and of every spelling of a setting, in both formats.

use serde_json::{Value, json};
use zhenjin_model::ModelConfig;
use zhenjin_model::config::{QueryKeyNorm, RopeLayout, RopeScaling, SlidingWindow, from_gguf, from_json};
use zhenjin_model::gguf;

use super::gguf_writer::{RawValue, tiny_llama};
use super::hugging_face_writer::tiny_config;

fn read(config: &Value) -> ModelConfig {
    from_json(config.to_string().as_bytes()).unwrap().config
}

fn tiny_with(changes: Value) -> ModelConfig {
    let mut config = tiny_config();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    read(&config)
}

#[test]
fn smollm2() {
    let reading = from_json(
        br#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
        "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
        "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "transformers_version": "4.42.3",
        "use_cache": true, "vocab_size": 49152}"#,
    )
    .unwrap();
    let config = reading.config;
    assert_eq!(config.parameters(), 134_515_008);
    assert_eq!((config.head_dim, config.heads_per_kv_head(), config.rope.base), (64, 3, 100_000.0));
    assert_eq!((config.rope.layout, &config.rope.scaling), (RopeLayout::HalfSplit, &RopeScaling::None));
    assert!(config.tied_embeddings && !config.attention_bias && config.sliding_window.is_none());
    assert!(reading.unread.is_empty());
}

#[test]
fn llama_3_2() {
    let config = read(&json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256
    }));
    assert_eq!(config.parameters(), 1_235_814_400);
    assert_eq!(
        config.rope.scaling,
        RopeScaling::Llama3 {
            factor: 32.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_length: 8192
        }
    );
}

#[test]
fn mistral_with_and_without_a_window() {
    let mut mistral = json!({
        "architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "vocab_size": 32000
    });
    let window = Some(SlidingWindow::from_layer(4096, 0, 32));
    assert_eq!(read(&mistral).sliding_window, window);
    assert_eq!(read(&mistral).parameters(), 7_241_732_096);
    mistral["sliding_window"] = Value::Null;
    assert_eq!(read(&mistral).sliding_window, None);
    mistral.as_object_mut().unwrap().remove("sliding_window");
    assert_eq!(read(&mistral).sliding_window, window, "the class default");
}

#[test]
fn qwen2_5() {
    let mut qwen = json!({
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "use_mrope": false, "use_sliding_window": false,
        "vocab_size": 151936
    });
    let config = read(&qwen);
    assert_eq!(config.parameters(), 494_032_768);
    assert!(config.attention_bias && !config.attention_output_bias);
    assert_eq!(config.qk_norm, QueryKeyNorm::Never);
    assert_eq!(config.sliding_window, None);
    qwen["use_sliding_window"] = json!(true);
    let config = read(&qwen);
    assert_eq!(config.sliding_window, Some(SlidingWindow { positions: 32768, layers: vec![21, 22, 23] }));
    assert_eq!((config.window(20), config.window(21)), (None, Some(32768)));
    // What the model's documentation says to add for long texts.
    qwen["rope_scaling"] = json!({"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"});
    let config = read(&qwen);
    assert_eq!(config.context_length, 131_072);
    assert!(matches!(
        config.rope.scaling,
        RopeScaling::Yarn { factor: 4.0, beta_fast: 32.0, beta_slow: 1.0, .. }
    ));
}

#[test]
fn qwen3() {
    let mut qwen = json!({
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
        "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936
    });
    let config = read(&qwen);
    assert_eq!(config.parameters(), 596_049_920);
    assert!(config.qk_norm == QueryKeyNorm::Heads && !config.attention_bias);
    qwen.as_object_mut().unwrap().remove("head_dim");
    assert_eq!(read(&qwen).head_dim, 128, "the class default, not the quotient");
}

/// SmolLM3-3B, without what its class has as a default, and with `changes`.
fn smollm3_with(changes: &Value) -> Result<ModelConfig, String> {
    let mut config = json!({
        "architectures": ["SmolLM3ForCausalLM"], "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008,
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3",
        "num_attention_heads": 16, "num_hidden_layers": 36, "pretraining_tp": 2, "rms_norm_eps": 1e-06,
        "sliding_window": null, "use_sliding_window": false, "vocab_size": 128256
    });
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    let reading = from_json(config.to_string().as_bytes()).map_err(|error| error.to_string())?;
    assert!(reading.unread.is_empty(), "nothing reads {:?}", reading.unread);
    Ok(reading.config)
}

#[test]
fn smollm3() {
    let config = smollm3_with(&json!({})).unwrap();
    assert_eq!(config.parameters(), 3_075_098_624);
    assert_eq!((config.kv_heads, config.head_dim, config.rope.base), (4, 128, 2_000_000.0));
    assert!(config.tied_embeddings && !config.attention_bias && config.sliding_window.is_none());
    assert_eq!(config.unrotated_layers, [3, 7, 11, 15, 19, 23, 27, 31, 35]);
    assert!(config.rotates(2) && !config.rotates(3) && config.rotates(4));
    // What the file says of itself.
    let listed: Vec<u8> = (0..36).map(|layer| u8::from(layer % 4 != 3)).collect();
    let said = json!({
        "no_rope_layers": listed, "no_rope_layer_interval": 4, "layer_types": vec!["full_attention"; 36],
        "num_key_value_heads": 4, "tie_word_embeddings": true, "rope_theta": 2e6
    });
    assert_eq!(smollm3_with(&said).unwrap(), config);
    let other = smollm3_with(&json!({
        "rope_theta": 5e6, "tie_word_embeddings": false, "num_key_value_heads": null, "attention_bias": true, "mlp_bias": true
    }))
    .unwrap();
    assert_eq!((other.rope.base, other.tied_embeddings, other.kv_heads), (5e6, false, 16));
    assert!(other.attention_bias && other.attention_output_bias && other.feed_forward_bias);
    let rope = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}});
    assert_eq!(
        smollm3_with(&rope).unwrap().rope.base,
        2_000_000.0,
        "the class default beside other parameters"
    );
}

#[test]
fn layers_without_rotary_embedding_are_listed_or_counted() {
    let unrotated = |changes: Value| smollm3_with(&changes).unwrap().unrotated_layers;
    assert_eq!(unrotated(json!({"no_rope_layers": null, "no_rope_layer_interval": 12})), [11, 23, 35]);
    assert!(unrotated(json!({"no_rope_layer_interval": 40})).is_empty());
    assert_eq!(unrotated(json!({"no_rope_layer_interval": 1})), (0..36).collect::<Vec<usize>>());
    // A list wins over the interval, and may be longer than the model.
    assert_eq!(
        unrotated(
            json!({"num_hidden_layers": 3, "no_rope_layers": [0, 1, 0, 0], "no_rope_layer_interval": 2})
        ),
        [0, 2]
    );
    for (changes, place, problem) in [
        (json!({"no_rope_layer_interval": 0}), "field `no_rope_layer_interval`", "must be at least 1"),
        (json!({"no_rope_layers": [1, 0]}), "field `no_rope_layers`", "has 2 entries for 36 layers"),
        (json!({"no_rope_layers": []}), "field `no_rope_layers`", "has 0 entries for 36 layers"),
        (json!({"no_rope_layers": vec![2; 36]}), "field `no_rope_layers`", "found `2` for layer 0"),
        (json!({"no_rope_layers": {}}), "field `no_rope_layers`", "must be a list"),
        (json!({"num_hidden_layers": 1_u64 << 60}), "configuration", "the number of layers must be"),
    ] {
        let error = smollm3_with(&changes).unwrap_err();
        assert!(error.contains(place) && error.contains(problem), "{changes}: {error}");
    }
    let tiny = zhenjin_model::testing::tiny_config();
    for (layers, problem) in [(vec![0, 2], "layer 2 is to have no rotary embedding"), (vec![1, 0], "ascend")]
    {
        let error = ModelConfig { unrotated_layers: layers, ..tiny.clone() }.check().unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

/// Regression: windows that do not begin at one layer and go on to the last were refused.
#[test]
fn windows_in_layers_without_rotary_embedding_or_in_any_others() {
    let full = vec!["full_attention"; 36];
    for changes in [
        json!({"sliding_window": 512}),
        json!({"use_sliding_window": true}),
        json!({"use_sliding_window": true, "sliding_window": 512, "layer_types": full}),
        // No layer is without.
        json!({"use_sliding_window": true, "sliding_window": 512, "no_rope_layers": vec![1; 36]}),
    ] {
        assert_eq!(smollm3_with(&changes).unwrap().sliding_window, None, "{changes}");
    }
    let with = |types: Value| {
        let changes = json!({"use_sliding_window": true, "sliding_window": 512, "layer_types": types});
        smollm3_with(&changes).unwrap().sliding_window
    };
    let unrotated = SlidingWindow { positions: 512, layers: vec![3, 7, 11, 15, 19, 23, 27, 31, 35] };
    assert_eq!(with(Value::Null), Some(unrotated));
    assert_eq!(with(json!(vec!["sliding_attention"; 36])), Some(SlidingWindow::from_layer(512, 0, 36)));
    let types = |sliding: &dyn Fn(usize) -> bool| -> Vec<&'static str> {
        let name = |layer| if sliding(layer) { "sliding_attention" } else { "full_attention" };
        (0..36).map(name).collect()
    };
    let third = SlidingWindow { positions: 512, layers: vec![0, 12, 24] };
    assert_eq!(with(json!(types(&|layer| layer % 12 == 0))), Some(third));
    for changes in [
        json!({"layer_types": types(&|layer| layer == 3), "sliding_window": 512}),
        json!({"layer_types": types(&|layer| layer == 3), "use_sliding_window": true}),
    ] {
        let error = smollm3_with(&changes).unwrap_err();
        assert!(error.contains("field `layer_types`") && error.contains("do not give a window"), "{error}");
    }
}

/// Regression: full attention in a layer after one with sliding attention was refused.
#[test]
fn layers_of_qwen_have_windows_in_any_order() {
    for family in ["qwen2", "qwen3"] {
        let config = tiny_with(json!({
            "model_type": family, "architectures": null, "num_hidden_layers": 5, "use_sliding_window": true,
            "sliding_window": 32, "max_window_layers": 4, "head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "full_attention"]
        }));
        assert_eq!(config.sliding_window, Some(SlidingWindow { positions: 32, layers: vec![0, 3] }));
        let windows: Vec<Option<usize>> = (0..5).map(|layer| config.window(layer)).collect();
        assert_eq!(windows, [Some(32), None, None, Some(32), None]);
        assert!((0..5).all(|layer| config.rope_table(layer) == 0));
    }
}

#[test]
fn only_smollm3_honours_layers_without_rotary_embedding() {
    for changes in [json!({"no_rope_layers": [0]}), json!({"no_rope_layer_interval": 4})] {
        let mut config = tiny_config();
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        let error = from_json(config.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("field `no_rope_layer") && error.contains("is not supported"), "{error}");
    }
    let neutral = tiny_with(json!({"no_rope_layers": [], "no_rope_layer_interval": 0}));
    assert_eq!(neutral, tiny_with(json!({"no_rope_layers": null})));
    assert!(neutral.unrotated_layers.is_empty());
    assert!(!tiny_with(json!({"tie_word_embeddings": null})).tied_embeddings, "the default of the others");
}

#[test]
fn old_and_new_spelling_of_rope_mean_the_same() {
    let scaling = json!({"rope_type": "linear", "factor": 4.0});
    let old = tiny_with(json!({"rope_theta": 5e5, "rope_scaling": scaling}));
    let older = tiny_with(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}));
    let new =
        tiny_with(json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}}));
    assert_eq!(old, new);
    assert_eq!(older, new);
    assert_eq!(new.rope.base, 5e5);
    assert_eq!(new.rope.scaling, RopeScaling::Linear { factor: 4.0 });
    assert_eq!(tiny_with(json!({})).rope.base, 10_000.0);
    assert_eq!(tiny_with(json!({"rope_parameters": {"rope_theta": 7e4}})).rope.base, 7e4);
}

#[test]
fn yarn_takes_its_attention_factor_from_two_scales() {
    let yarn = |changes: Value| {
        let mut scaling = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16});
        scaling.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        match tiny_with(json!({ "rope_scaling": scaling })).rope.scaling {
            RopeScaling::Yarn { attention_factor, truncate, beta_fast, .. } => {
                (attention_factor, truncate, beta_fast)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(yarn(json!({})), (None, true, 32.0));
    assert_eq!(yarn(json!({"attention_factor": 1.5, "truncate": false})), (Some(1.5), false, 32.0));
    let expected = (0.1 * 0.7 * 8_f64.ln() + 1.0) / (0.1 * 2.0 * 8_f64.ln() + 1.0);
    assert_eq!(
        yarn(json!({"mscale": 0.7, "mscale_all_dim": 2.0, "beta_fast": 0})),
        (Some(expected), true, 32.0)
    );
}

#[test]
fn settings_that_nothing_reads_are_listed() {
    let mut config = tiny_config();
    config["a_setting_of_the_future"] = json!(1);
    config["use_cache"] = json!(true);
    assert_eq!(from_json(config.to_string().as_bytes()).unwrap().unread, ["`a_setting_of_the_future`"]);
    let mut file = tiny_llama();
    file.set("llama.a_setting_of_the_future", RawValue::u32(1));
    file.set("llama.expert_count", RawValue::u32(0));
    file.set("general.name", RawValue::string("x"));
    let file = gguf::parse(file.bytes()).unwrap();
    assert_eq!(from_gguf(&file).unwrap().unread, ["`llama.a_setting_of_the_future`"]);
}

#[test]
fn a_list_with_a_value_for_each_layer_is_one_value_where_all_are_equal() {
    let counts = |counts: &[u32]| {
        let bytes = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        RawValue::array(4, counts.len() as u64, bytes)
    };
    let layers = from_gguf(&gguf::parse(tiny_llama().bytes()).unwrap()).unwrap().config.layers;
    for (key, value) in [
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("feed_forward_length", 24),
        ("attention.sliding_window", 8),
    ] {
        let with = |value: RawValue| {
            let mut file = tiny_llama();
            file.set(&format!("llama.{key}"), value);
            from_gguf(&gguf::parse(file.bytes()).unwrap()).map(|reading| reading.config)
        };
        let list = with(counts(&vec![value; layers])).unwrap();
        assert_eq!(list, with(RawValue::u32(value)).unwrap(), "{key}");
        let error = with(counts(&vec![value; layers + 1])).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`llama.{key}`")) && error.contains(&format!("{} values", layers + 1)),
            "{error}"
        );
    }
    let mut file = tiny_llama();
    file.set("llama.block_count", RawValue::u32(3));
    file.set("llama.feed_forward_length", counts(&[24, 24, 32]));
    let error = from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap_err().to_string();
    assert_eq!(
        error,
        "metadata `llama.feed_forward_length`: layers that differ are not supported: layer 0 has 24 and layer 2 has 32; \
         1 of 3 layers differ from layer 0"
    );
    // A list of settings that change nothing changes nothing.
    file.set("llama.feed_forward_length", counts(&[24, 24, 24]));
    file.set("llama.expert_shared_count", counts(&[0, 0, 0]));
    from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap();
}

#[test]
fn smollm3_in_gguf_files() {
    let mut file = tiny_llama();
    for (key, _) in &mut file.metadata {
        if let Some(name) = key.strip_prefix(b"llama.") {
            let renamed = [&b"smollm3."[..], name].concat();
            *key = renamed;
        }
    }
    file.set("general.architecture", RawValue::string("smollm3"));
    file.set("smollm3.block_count", RawValue::u32(9));
    let config = from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap().config;
    assert_eq!(config.unrotated_layers, [3, 7]);
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    // Far more than are possible.
    file.set("smollm3.block_count", RawValue::u32(u32::MAX));
    let error = from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("the number of layers must be"), "{error}");
    file.set("smollm3.block_count", RawValue::u32(9));
    file.set("smollm3.attention.sliding_window", RawValue::u32(8));
    let error = from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("`smollm3.attention.sliding_window`") && error.contains("is not supported"),
        "{error}"
    );
}

#[test]
fn scaling_of_rope_in_gguf_files() {
    let scaling = |settings: &[(&str, RawValue)]| {
        let mut file = tiny_llama();
        for (key, value) in settings {
            file.set(&format!("llama.rope.{key}"), value.clone());
        }
        from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap().config.rope.scaling
    };
    assert_eq!(scaling(&[]), RopeScaling::None);
    assert_eq!(scaling(&[("scaling.factor", RawValue::f32(1.0))]), RopeScaling::None);
    let linear = RopeScaling::Linear { factor: 4.0 };
    assert_eq!(scaling(&[("scale_linear", RawValue::f32(4.0))]), linear);
    assert_eq!(
        scaling(&[("scaling.type", RawValue::string("linear")), ("scaling.factor", RawValue::f32(4.0))]),
        linear
    );
    assert_eq!(
        scaling(&[("scaling.type", RawValue::string("none")), ("scaling.factor", RawValue::f32(4.0))]),
        RopeScaling::None
    );
    assert_eq!(
        scaling(&[("scaling.type", RawValue::string("none")), ("scaling.factor", RawValue::f32(0.0))]),
        RopeScaling::None
    );
    let yarn = [
        ("scaling.type", RawValue::string("yarn")),
        ("scaling.factor", RawValue::f32(4.0)),
        ("scaling.original_context_length", RawValue::u32(16)),
    ];
    assert_eq!(
        scaling(&yarn),
        RopeScaling::Yarn {
            factor: 4.0,
            original_context_length: 16,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            truncate: true
        }
    );
}

#[test]
fn frequency_divisors_and_biases_are_found_in_gguf_files() {
    let mut file = tiny_llama();
    file.tensor_f32("rope_freqs.weight", &[4], &[1.0, 1.0, 4.0, 8.0]);
    for (name, width) in [("attn_q", 16), ("attn_k", 8), ("attn_v", 8)] {
        file.tensor_f32(&format!("blk.0.{name}.bias"), &[width], &vec![0.5; width]);
    }
    file.tensor_f32("output.weight", &[8, 16], &[0.5; 128]);
    let config = from_gguf(&gguf::parse(file.bytes()).unwrap()).unwrap().config;
    assert_eq!(config.rope.scaling, RopeScaling::Divisors(vec![1.0, 1.0, 4.0, 8.0]));
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    assert!(config.attention_bias && !config.attention_output_bias && !config.tied_embeddings);
}
