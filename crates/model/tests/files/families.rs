//! Configurations of Gemma 3, OLMo 2, Granite and Phi-3: published ones, every spelling of a setting, and what is refused.

use serde_json::{Value, json};
use zhenjin_model::ModelConfig;
use zhenjin_model::config::{
    Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling, SlidingWindow, from_json,
};
use zhenjin_tensor::GateActivation;

/// `config` with `changes`, in which null removes a field.
fn with(mut config: Value, changes: &Value) -> Value {
    let fields = config.as_object_mut().unwrap();
    for (field, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.remove(field);
        } else {
            fields.insert(field.clone(), value.clone());
        }
    }
    config
}

/// Reads a configuration of which nothing may remain unread.
pub(super) fn read(config: &Value) -> Result<ModelConfig, String> {
    let reading = from_json(config.to_string().as_bytes()).map_err(|error| error.to_string())?;
    assert!(reading.unread.is_empty(), "nothing reads {:?}", reading.unread);
    Ok(reading.config)
}

/// Every change must give an error that contains both texts.
fn assert_refused(base: &Value, faults: &[(Value, &str, &str)]) {
    for (changes, place, problem) in faults {
        let error = read(&with(base.clone(), changes)).unwrap_err();
        assert!(error.contains(place) && error.contains(problem), "{changes}: {error}");
    }
}

pub(super) fn gemma_3_1b() -> Value {
    json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
        "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262144
    })
}

fn windowed_layers(layers: usize) -> Vec<usize> {
    (0..layers).filter(|layer| layer % 6 != 5).collect()
}

#[test]
fn gemma_3() {
    let config = read(&gemma_3_1b()).unwrap();
    assert_eq!(config.parameters(), 999_885_952);
    assert_eq!((config.norms, config.qk_norm), (NormPlacement::BeforeAndAfter, QueryKeyNorm::Heads));
    assert!(config.norms_less_one && config.tied_embeddings && !config.is_fused());
    assert_eq!(config.activation, GateActivation::GeluTanh);
    let embedding = 1152_f32.sqrt();
    assert_eq!(config.multipliers, Multipliers { embedding, ..Multipliers::default() });
    assert_eq!(config.sliding_window, Some(SlidingWindow { positions: 512, layers: windowed_layers(26) }));
    let windowed = config.windowed_rope.as_ref().unwrap();
    assert_eq!((config.rope.base, windowed.base), (1_000_000.0, 10_000.0));
    assert_eq!((config.rope_table(4), config.rope_table(5), config.rope_table(6)), (1, 0, 1));
    assert_eq!((config.window(4), config.window(5)), (Some(512), None));
}

#[test]
fn gemma_3_270m_names_the_type_of_every_layer() {
    let types: Vec<&str> =
        (0..18).map(|layer| if layer % 6 == 5 { "full_attention" } else { "sliding_attention" }).collect();
    let config = read(&json!({
        "_sliding_window_pattern": 6, "architectures": ["Gemma3ForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "attn_logit_softcapping": null, "bos_token_id": 2, "eos_token_id": 1,
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640,
        "initializer_range": 0.02, "intermediate_size": 2048, "layer_types": types, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0,
        "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": 512, "torch_dtype": "bfloat16",
        "transformers_version": "4.55.0.dev0", "use_bidirectional_attention": false, "use_cache": true,
        "vocab_size": 262144
    }))
    .unwrap();
    assert_eq!(config.parameters(), 268_098_176);
    assert_eq!(config.sliding_window.unwrap().layers, windowed_layers(18));
}

#[test]
fn gemma_3_takes_what_its_class_has_as_defaults() {
    let bare = json!({
        "model_type": "gemma3_text", "architectures": null, "head_dim": null, "num_key_value_heads": null,
        "query_pre_attn_scalar": null, "rope_local_base_freq": null, "rope_theta": null, "sliding_window": null,
        "sliding_window_pattern": null, "hidden_activation": null
    });
    let config = read(&with(gemma_3_1b(), &bare)).unwrap();
    let said = json!({"num_key_value_heads": 4, "sliding_window": 4096});
    assert_eq!(config, read(&with(gemma_3_1b(), &said)).unwrap());
    // A window in no layer: then there is one RoPE.
    for changes in [json!({"sliding_window_pattern": 1}), json!({"layer_types": vec!["full_attention"; 26]})]
    {
        let config = read(&with(gemma_3_1b(), &changes)).unwrap();
        assert_eq!((config.sliding_window, config.windowed_rope), (None, None), "{changes}");
    }
    let one = read(&with(gemma_3_1b(), &json!({"rope_local_base_freq": 1e6}))).unwrap();
    assert_eq!(one.windowed_rope, None, "a second table with the same numbers");
    let scores = read(&with(gemma_3_1b(), &json!({"query_pre_attn_scalar": 168}))).unwrap();
    assert_eq!(scores.multipliers.attention, Some(1.0 / 168_f64.sqrt()));
    // Larger than 2^18.
    assert_eq!(read(&with(gemma_3_1b(), &json!({"vocab_size": 262_208}))).unwrap().vocabulary_size, 262_208);
}

#[test]
fn both_spellings_of_gemmas_rope_mean_the_same() {
    let old = with(gemma_3_1b(), &json!({"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}));
    let new = with(
        gemma_3_1b(),
        &json!({
            "rope_theta": null, "rope_local_base_freq": null, "rope_scaling": null,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}
            }
        }),
    );
    let config = read(&old).unwrap();
    assert_eq!(config, read(&new).unwrap());
    assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(
        config.windowed_rope.unwrap().scaling,
        RopeScaling::None,
        "layers with a window are not scaled"
    );
    let bases = with(new.clone(), &json!({"rope_parameters": {"sliding_attention": {"rope_theta": 5e3}}}));
    let bases = read(&bases).unwrap();
    assert_eq!((bases.rope.base, bases.windowed_rope.unwrap().base), (1e6, 5e3));
    assert_refused(
        &new,
        &[
            (
                json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
                "field `rope_parameters.rope_type`",
                "one for each type of layers",
            ),
            (
                json!({"rope_parameters": {"full_attention": 5}}),
                "field `rope_parameters.full_attention`",
                "must be an object",
            ),
            (
                json!({"rope_parameters": {"sliding_attention": {"partial_rotary_factor": 0.5}}}),
                "field `rope_parameters.sliding_attention.partial_rotary_factor`",
                "must be 1",
            ),
            (json!({"rope_local_base_freq": 5.0}), "field `rope_local_base_freq`", "only one of them"),
            (json!({"rope_theta": 5.0}), "field `rope_theta`", "only one of them"),
            (json!({"rope_scaling": {"rope_type": "default"}}), "field `rope_scaling`", "only one of them"),
            (
                json!({"rope_parameters": {"sliding_attention": {"rope_theta": 0}}}),
                "configuration",
                "the base of RoPE",
            ),
        ],
    );
}

#[test]
fn what_gemma_cannot_be_is_refused() {
    assert_refused(
        &gemma_3_1b(),
        &[
            (json!({"model_type": "gemma3"}), "field `model_type`", "the folder of a text model"),
            (json!({"model_type": "gemma2"}), "field `model_type`", "it caps the scores of attention"),
            (json!({"hidden_activation": "silu"}), "`hidden_activation`", "must be `gelu_pytorch_tanh`"),
            (json!({"hidden_act": "silu"}), "`hidden_act`", "must be `gelu_pytorch_tanh`"),
            (json!({"attn_logit_softcapping": 50.0}), "`attn_logit_softcapping`", "`50.0` is not supported"),
            (
                json!({"final_logit_softcapping": 30.0}),
                "`final_logit_softcapping`",
                "`30.0` is not supported",
            ),
            (json!({"use_bidirectional_attention": true}), "`use_bidirectional_attention`", "not supported"),
            (json!({"query_pre_attn_scalar": 0}), "`query_pre_attn_scalar`", "must be positive"),
            (json!({"query_pre_attn_scalar": "x"}), "`query_pre_attn_scalar`", "must be a number"),
            (
                json!({"query_pre_attn_scalar": 1e-300}),
                "configuration",
                "the factor of the scores of attention",
            ),
            (json!({"sliding_window_pattern": 0}), "`sliding_window_pattern`", "must be at least 1"),
            (json!({"sliding_window": 0}), "configuration", "the sliding window must be at least 1"),
            (json!({"num_hidden_layers": 1_u64 << 60}), "configuration", "the number of layers must be"),
            (json!({"layer_types": ["full_attention"]}), "`layer_types`", "1 entries for 26 layers"),
            (json!({"embedding_multiplier": 2.0}), "`embedding_multiplier`", "not supported"),
            (json!({"rope_scaling": {"rope_type": "longrope"}}), "`rope_scaling.rope_type`", "`longrope`"),
        ],
    );
    // Null is not left out: there is no window, but layers that should have one.
    let mut config = gemma_3_1b();
    config["sliding_window"] = Value::Null;
    let error = read(&config).unwrap_err();
    assert!(error.contains("do not give a window"), "{error}");
}

#[test]
fn olmo_2() {
    let olmo = json!({
        "architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "eos_token_id": 100257,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "max_position_embeddings": 4096, "model_type": "olmo2", "num_attention_heads": 16, "num_hidden_layers": 16,
        "num_key_value_heads": 16, "pad_token_id": 100277, "rms_norm_eps": 1e-06, "rope_scaling": null,
        "rope_theta": 500000, "tie_word_embeddings": false, "torch_dtype": "float32", "transformers_version": "4.50.0",
        "use_cache": false, "vocab_size": 100352
    });
    let config = read(&olmo).unwrap();
    assert_eq!(config.parameters(), 1_484_916_736);
    assert_eq!((config.norms, config.qk_norm), (NormPlacement::After, QueryKeyNorm::Whole));
    assert!(!config.norms_less_one && !config.tied_embeddings);
    assert_eq!((config.activation, config.multipliers), (GateActivation::Silu, Multipliers::default()));
    let grouped = read(&with(olmo.clone(), &json!({"num_key_value_heads": 8}))).unwrap();
    assert_eq!(config.parameters() - grouped.parameters(), 16 * (2 * 2048 * 1024 + 1024));
    assert_refused(
        &olmo,
        &[
            (json!({"model_type": "olmo3"}), "field `model_type`", "`olmo3` is not supported (RoPE"),
            (json!({"sliding_window": 4096}), "field `sliding_window`", "no sliding window"),
            (json!({"clip_qkv": 8.0}), "field `clip_qkv`", "not supported"),
            (json!({"num_key_value_heads": 3}), "configuration", "cannot share 3"),
        ],
    );
}

#[test]
fn granite() {
    let granite = json!({
        "architectures": ["GraniteForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
        "logits_scaling": 8.0, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "granite",
        "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "pad_token_id": 0,
        "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.49.0", "use_cache": true,
        "vocab_size": 49159
    });
    let config = read(&granite).unwrap();
    assert_eq!(config.parameters(), 2_533_539_840);
    assert_eq!(
        config.multipliers,
        Multipliers { embedding: 12.0, residual: 0.22, attention: Some(0.015_625), logits: 0.125 }
    );
    let plain = json!({
        "attention_multiplier": null, "embedding_multiplier": null, "logits_scaling": null, "residual_multiplier": null
    });
    let plain = read(&with(granite.clone(), &plain)).unwrap();
    assert_eq!(plain.multipliers, Multipliers { attention: Some(1.0), ..Multipliers::default() });
    let factor = |what: &'static str| ("configuration", what);
    for (name, (place, problem)) in [
        ("attention_multiplier", factor("the factor of the scores of attention must be 10^-6 to 10^6")),
        ("embedding_multiplier", factor("the factor of embedded tokens must be")),
        ("residual_multiplier", factor("the factor of what a layer adds must be")),
        ("logits_scaling", factor("the factor of logits must be")),
    ] {
        let faults: Vec<(Value, &str, &str)> = [0.0, -2.0, 1e300, 1e-30]
            .into_iter()
            .map(|value| (json!({ name: value }), place, problem))
            .collect();
        assert_refused(&granite, &faults);
    }
    assert_refused(
        &granite,
        &[
            (json!({"model_type": "granitemoe"}), "field `model_type`", "dense Granite models are"),
            (json!({"num_local_experts": 4}), "field `num_local_experts`", "not supported"),
            (json!({"logit_scale": 0.5}), "field `logit_scale`", "not supported"),
            (json!({"sliding_window": 64}), "field `sliding_window`", "no sliding window"),
        ],
    );
}

fn phi_3_mini_4k() -> Value {
    json!({
        "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
        "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.40.2", "use_cache": true, "vocab_size": 32064
    })
}

#[test]
fn phi_3_and_phi_4() {
    let config = read(&phi_3_mini_4k()).unwrap();
    assert_eq!(config.parameters(), 3_821_079_552);
    assert!(config.is_fused() && !config.tied_embeddings);
    assert_eq!((config.head_dim, config.context_length), (96, 4096));
    assert_eq!(config.sliding_window, Some(SlidingWindow::from_layer(2047, 0, 32)));
    let none = read(&with(phi_3_mini_4k(), &json!({"sliding_window": null}))).unwrap();
    assert_eq!(none.sliding_window, None, "the class default");
    let phi_4 = read(&json!({
        "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 100257,
        "embd_pdrop": 0.0, "eos_token_id": 100265, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02,
        "intermediate_size": 17920, "max_position_embeddings": 16384, "model_type": "phi3", "num_attention_heads": 40,
        "num_hidden_layers": 40, "num_key_value_heads": 10, "original_max_position_embeddings": 16384,
        "pad_token_id": 100349, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 250000,
        "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.47.0",
        "use_cache": true, "vocab_size": 100352
    }))
    .unwrap();
    assert_eq!(phi_4.parameters(), 14_659_507_200);
    assert_eq!((phi_4.sliding_window, phi_4.rope.scaling), (None, RopeScaling::None));
}

/// Phi-3.5-mini, whose factors are here simple ones.
pub(super) fn phi_3_5_mini() -> Value {
    let short: Vec<f64> = (0..48_u8).map(|pair| 1.0 + f64::from(pair) / 16.0).collect();
    let changes = json!({
        "max_position_embeddings": 131_072, "sliding_window": 262_144,
        "rope_scaling": {"long_factor": vec![8.0; 48], "short_factor": short, "type": "longrope"}
    });
    with(phi_3_mini_4k(), &changes)
}

#[test]
fn long_rope_serves_the_context_of_pretraining() {
    let config = read(&phi_3_5_mini()).unwrap();
    assert_eq!(config.context_length, 4096, "longer texts need the long factors");
    let RopeScaling::LongRope { factors, attention_factor, original_context_length, .. } =
        &config.rope.scaling
    else {
        panic!("{:?}", config.rope.scaling)
    };
    assert_eq!((factors.len(), factors[16], *original_context_length), (48, 2.0, 4096));
    assert!((attention_factor - (1.0 + 32_f64.ln() / 4096_f64.ln()).sqrt()).abs() < 1e-6);
    // Names that older files have, and the newer spelling of everything.
    let mut scaling = phi_3_5_mini()["rope_scaling"].clone();
    for name in ["su", "yarn"] {
        scaling["type"] = json!(name);
        assert_eq!(read(&with(phi_3_5_mini(), &json!({ "rope_scaling": scaling }))).unwrap(), config);
    }
    scaling["type"] = Value::Null;
    scaling["rope_type"] = json!("longrope");
    scaling["rope_theta"] = json!(10_000.0);
    scaling["partial_rotary_factor"] = json!(1.0);
    scaling["original_max_position_embeddings"] = json!(4096);
    let new = json!({ "rope_scaling": null, "rope_theta": null, "rope_parameters": scaling });
    assert_eq!(read(&with(phi_3_5_mini(), &new)).unwrap(), config);
    let said = |name: &str, value: Value| {
        let mut scaling = phi_3_5_mini()["rope_scaling"].clone();
        scaling[name] = value;
        let config = read(&with(phi_3_5_mini(), &json!({ "rope_scaling": scaling }))).unwrap();
        match config.rope.scaling {
            RopeScaling::LongRope { attention_factor, .. } => attention_factor,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said("attention_factor", json!(1.5)), 1.5);
    assert_eq!(said("factor", json!(1.0)), 1.0);
}

#[test]
fn what_phi_cannot_be_is_refused() {
    let scaling = |name: &str, value: Value| {
        let mut scaling = phi_3_5_mini()["rope_scaling"].clone();
        scaling[name] = value;
        json!({ "rope_scaling": scaling })
    };
    assert_refused(
        &phi_3_5_mini(),
        &[
            (json!({"partial_rotary_factor": 0.75}), "`partial_rotary_factor`", "must be 1, found 0.75"),
            (scaling("partial_rotary_factor", json!(0.75)), "partial_rotary_factor`", "must be 1"),
            (scaling("short_factor", Value::Null), "field `rope_scaling.short_factor`", "is missing"),
            (scaling("short_factor", json!([1, "x"])), "`rope_scaling.short_factor`", "a list of numbers"),
            (
                scaling("short_factor", json!([1, 2])),
                "configuration",
                "LongRoPE needs 48 short factors, found 2",
            ),
            (scaling("short_factor", json!(vec![0; 48])), "configuration", "a short factor of LongRoPE is 0"),
            (
                scaling("short_factor", json!(vec![-1; 48])),
                "configuration",
                "a short factor of LongRoPE is -1",
            ),
            (scaling("attention_factor", json!(-1)), "configuration", "LongRoPE's attention factor"),
            (scaling("attention_factor", json!(1e300)), "configuration", "LongRoPE's attention factor"),
            (json!({"original_max_position_embeddings": 0}), "configuration", "the context length must be"),
            (json!({"original_max_position_embeddings": 1}), "configuration", "LongRoPE's attention factor"),
            (
                scaling("type", json!("dynamic")),
                "rope_type`",
                "supported are default, linear, llama3, yarn, longrope",
            ),
            (scaling("beta_fast", json!(1)), "field `rope_scaling.beta_fast`", "is unknown"),
            (json!({"attention_bias": true}), "field `attention_bias`", "no such bias"),
            (json!({"model_type": "phimoe"}), "field `model_type`", "dense Phi-3 models are"),
        ],
    );
}

#[test]
fn a_model_checks_what_it_is_made_of() {
    let tiny = zhenjin_model::testing::tiny_config;
    let window = |layers: &[usize]| Some(SlidingWindow { positions: 8, layers: layers.to_vec() });
    let rope = |change: fn(&mut RopeConfig)| {
        let mut rope = tiny().rope;
        change(&mut rope);
        Some(rope)
    };
    for (config, problem) in [
        (ModelConfig { sliding_window: window(&[0, 2]), ..tiny() }, "layer 2 is to have a sliding window"),
        (ModelConfig { sliding_window: window(&[1, 0]), ..tiny() }, "must ascend"),
        (ModelConfig { windowed_rope: rope(|rope| rope.rotary_dim = 8), ..tiny() }, "the same dimensions"),
        (
            ModelConfig { windowed_rope: rope(|rope| rope.layout = RopeLayout::Interleaved), ..tiny() },
            "the same dimensions",
        ),
        (ModelConfig { windowed_rope: rope(|rope| rope.base = f64::NAN), ..tiny() }, "the base of RoPE"),
        (
            ModelConfig {
                multipliers: Multipliers { residual: f32::NAN, ..Multipliers::default() },
                ..tiny()
            },
            "the factor of what a layer adds",
        ),
        (
            ModelConfig {
                multipliers: Multipliers { attention: Some(f64::INFINITY), ..Multipliers::default() },
                ..tiny()
            },
            "the factor of the scores of attention",
        ),
    ] {
        let error = config.check().unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let config =
        ModelConfig { sliding_window: window(&[1]), windowed_rope: rope(|rope| rope.base = 5.0), ..tiny() };
    config.check().unwrap();
    assert!(SlidingWindow::from_layer(8, 5, 2).layers.is_empty());
}
