//! Configurations of Gemma 3, OLMo 2, Granite and Phi-3 in GGUF files, as llama.cpp's converter writes them.

use zhenjin_model::ModelConfig;
use zhenjin_model::config::{Multipliers, NormPlacement, QueryKeyNorm, RopeLayout, RopeScaling, from_gguf};
use zhenjin_model::gguf;

use super::families::{gemma_3_1b, phi_3_5_mini, read};
use super::gguf_writer::{GgufWriter, RawValue, tiny_llama};

/// The metadata of a GGUF file of `architecture` as a published model has it, without tensors.
fn metadata(architecture: &str, sizes: [u32; 8], settings: &[(&str, RawValue)]) -> GgufWriter {
    let mut file = GgufWriter::new();
    file.set("general.architecture", RawValue::string(architecture));
    let names = [
        "vocab_size",
        "context_length",
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "rope.dimension_count",
    ];
    for (name, size) in names.into_iter().zip(sizes) {
        file.set(&format!("{architecture}.{name}"), RawValue::u32(size));
    }
    for (name, value) in settings {
        file.set(&format!("{architecture}.{name}"), value.clone());
    }
    file
}

fn read_gguf(file: &GgufWriter) -> Result<ModelConfig, String> {
    let file = gguf::parse(file.bytes()).map_err(|error| error.to_string())?;
    let reading = from_gguf(&file).map_err(|error| error.to_string())?;
    assert!(reading.unread.is_empty(), "nothing reads {:?}", reading.unread);
    Ok(reading.config)
}

/// What the same model says in a folder, but for what the formats have otherwise.
fn as_in_gguf(config: ModelConfig, architecture: &str, layout: RopeLayout) -> ModelConfig {
    let mut config = ModelConfig { architecture: architecture.to_owned(), norms_less_one: false, ..config };
    config.rope.layout = layout;
    if let Some(windowed) = &mut config.windowed_rope {
        windowed.layout = layout;
    }
    config
}

fn gemma_3_1b_gguf(settings: &[(&str, RawValue)]) -> GgufWriter {
    let mut file = metadata(
        "gemma3",
        [262_144, 32_768, 26, 1152, 6912, 4, 1, 256],
        &[
            ("attention.layer_norm_rms_epsilon", RawValue::f32(1e-6)),
            ("attention.key_length", RawValue::u32(256)),
            ("attention.value_length", RawValue::u32(256)),
            ("attention.sliding_window", RawValue::u32(512)),
            ("rope.freq_base", RawValue::f32(1e6)),
        ],
    );
    for (name, value) in settings {
        file.set(&format!("gemma3.{name}"), value.clone());
    }
    file
}

#[test]
fn gemma_3_in_gguf_files() {
    let expected = as_in_gguf(read(&gemma_3_1b()).unwrap(), "gemma3", RopeLayout::HalfSplit);
    assert_eq!(read_gguf(&gemma_3_1b_gguf(&[])).unwrap(), expected);
    let said = [
        ("rope.freq_base_swa", RawValue::f32(1e4)),
        ("attention.sliding_window_pattern", RawValue::u32(6)),
        ("final_logit_softcapping", RawValue::f32(0.0)),
    ];
    assert_eq!(read_gguf(&gemma_3_1b_gguf(&said)).unwrap(), expected);
    let by_layer = (0..26).map(|layer| u8::from(layer % 6 != 5)).collect();
    let list = [("attention.sliding_window_pattern", RawValue::array(7, 26, by_layer))];
    assert_eq!(read_gguf(&gemma_3_1b_gguf(&list)).unwrap(), expected);
    // Programs differ in what they take where it is missing.
    let sizes = [262_144, 32_768, 26, 1152, 6912, 4, 1, 288];
    let epsilon = ("attention.layer_norm_rms_epsilon", RawValue::f32(1e-6));
    let error = read_gguf(&metadata("gemma3", sizes, &[epsilon])).unwrap_err();
    assert!(error.contains("gemma3.rope.freq_base"), "{error}");
    // The largest model divides scores by another root; its RoPE is scaled in layers without a window.
    let largest = [
        ("block_count", RawValue::u32(62)),
        ("embedding_length", RawValue::u32(5376)),
        ("attention.head_count", RawValue::u32(32)),
        ("attention.head_count_kv", RawValue::u32(16)),
        ("attention.key_length", RawValue::u32(128)),
        ("attention.value_length", RawValue::u32(128)),
        ("rope.dimension_count", RawValue::u32(128)),
        ("rope.scaling.type", RawValue::string("linear")),
        ("rope.scaling.factor", RawValue::f32(8.0)),
    ];
    let config = read_gguf(&gemma_3_1b_gguf(&largest)).unwrap();
    assert_eq!(config.multipliers.attention, Some(1.0 / 168_f64.sqrt()));
    assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!(config.windowed_rope.unwrap().scaling, RopeScaling::None);
    let whole = read_gguf(&gemma_3_1b_gguf(&[("attention.sliding_window", RawValue::u32(0))])).unwrap();
    assert_eq!((whole.sliding_window, whole.windowed_rope), (None, None));
    for (setting, value, problem) in [
        ("final_logit_softcapping", RawValue::f32(30.0), "not supported with any value but 0"),
        ("attention.scale", RawValue::f32(0.1), "not supported with any value but 0"),
        ("attention.sliding_window_pattern", RawValue::u32(0), "must be at least 1"),
        ("attention.sliding_window_pattern", RawValue::array(7, 3, vec![1; 3]), "3 values for 26 layers"),
        ("attention.sliding_window_pattern", RawValue::array(0, 26, vec![1; 26]), "a list of bools"),
    ] {
        let error = read_gguf(&gemma_3_1b_gguf(&[(setting, value)])).unwrap_err();
        assert!(error.contains(setting) && error.contains(problem), "{setting}: {error}");
    }
}

#[test]
fn olmo_2_in_gguf_files() {
    let sizes = [100_352, 4096, 16, 2048, 8192, 16, 16, 128];
    let epsilon = ("attention.layer_norm_rms_epsilon", RawValue::f32(1e-6));
    let base = ("rope.freq_base", RawValue::f32(500_000.0));
    let with = |settings: &[(&str, RawValue)]| {
        let mut file = metadata("olmo2", sizes, &[epsilon.clone(), base.clone()]);
        file.tensor_f32("output.weight", &[1, 1], &[0.0]);
        for (name, value) in settings {
            file.set(&format!("olmo2.{name}"), value.clone());
        }
        read_gguf(&file)
    };
    let config = with(&[]).unwrap();
    assert_eq!(config.parameters(), 1_484_916_736);
    assert_eq!((config.norms, config.qk_norm), (NormPlacement::After, QueryKeyNorm::Whole));
    assert_eq!(config.rope.layout, RopeLayout::HalfSplit);
    for (key, value) in [("attention.sliding_window", 4096), ("attention.sliding_window_pattern", 4)] {
        let error = with(&[(key, RawValue::u32(value))]).unwrap_err();
        assert!(error.contains("is an OLMo 3, which is not supported"), "{error}");
    }
}

#[test]
fn granite_in_gguf_files() {
    let sizes = [49_159, 131_072, 40, 2048, 8192, 32, 8, 64];
    let with = |settings: &[(&str, RawValue)]| {
        let mut file = metadata(
            "granite",
            sizes,
            &[
                ("attention.layer_norm_rms_epsilon", RawValue::f32(1e-5)),
                ("rope.freq_base", RawValue::f32(1e7)),
            ],
        );
        for (name, value) in settings {
            file.set(&format!("granite.{name}"), value.clone());
        }
        read_gguf(&file)
    };
    // Converters leave a width of experts in files of models that have none.
    let shared = ("expert_shared_feed_forward_length", RawValue::u32(2048));
    assert!(with(std::slice::from_ref(&shared)).is_ok());
    let error = with(&[shared, ("expert_count", RawValue::u32(8))]).unwrap_err();
    assert!(error.contains("expert"), "{error}");
    let config = with(&[
        ("embedding_scale", RawValue::f32(12.0)),
        ("residual_scale", RawValue::f32(0.22)),
        ("attention.scale", RawValue::f32(0.015_625)),
        ("logit_scale", RawValue::f32(8.0)),
    ])
    .unwrap();
    assert_eq!(config.parameters(), 2_533_539_840);
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    assert_eq!(
        config.multipliers,
        Multipliers { embedding: 12.0, residual: 0.22, attention: Some(0.015_625), logits: 0.125 }
    );
    // A factor of 0 is none.
    let none = [
        ("embedding_scale", RawValue::f32(0.0)),
        ("residual_scale", RawValue::f32(0.0)),
        ("attention.scale", RawValue::f32(0.0)),
    ];
    assert_eq!(with(&none).unwrap().multipliers, Multipliers::default());
    for (setting, value, problem) in [
        ("logit_scale", RawValue::f32(0.0), "the factor of logits"),
        ("embedding_scale", RawValue::f32(f32::NAN), "the factor of embedded tokens"),
        ("residual_scale", RawValue::f32(-1.0), "the factor of what a layer adds"),
        ("attention.scale", RawValue::f32(f32::INFINITY), "the factor of the scores of attention"),
        ("rope.scaling.finetuned", RawValue::bool(0), "without rotary embedding"),
        ("expert_count", RawValue::u32(4), "experts are not supported"),
        ("attention.sliding_window", RawValue::u32(64), "a sliding window is not supported"),
    ] {
        let error = with(&[(setting, value)]).unwrap_err();
        assert!(error.contains(problem), "{setting}: {error}");
    }
}

#[test]
fn phi_3_in_gguf_files() {
    let with = |settings: &[(&str, RawValue)], factors: &[(&str, &[f32])]| {
        let mut file = metadata(
            "phi3",
            [32_064, 131_072, 32, 3072, 8192, 32, 32, 96],
            &[
                ("attention.layer_norm_rms_epsilon", RawValue::f32(1e-5)),
                ("rope.freq_base", RawValue::f32(10_000.0)),
                ("rope.scaling.original_context_length", RawValue::u32(4096)),
                ("attention.sliding_window", RawValue::u32(262_144)),
            ],
        );
        file.tensor_f32("output.weight", &[1, 1], &[0.0]);
        for (name, value) in settings {
            file.set(&format!("phi3.{name}"), value.clone());
        }
        for (kind, values) in factors {
            file.tensor_f32(&format!("rope_factors_{kind}.weight"), &[values.len()], values);
        }
        read_gguf(&file)
    };
    let short: Vec<f32> = (0..48_u8).map(|pair| 1.0 + f32::from(pair) / 16.0).collect();
    let both = [("long", &[8.0_f32; 48][..]), ("short", &short[..])];
    let factor = (1.0 + 32_f64.ln() / 4096_f64.ln()).sqrt() as f32;
    let config = with(&[("rope.scaling.attn_factor", RawValue::f32(factor))], &both).unwrap();
    let folder = read(&phi_3_5_mini()).unwrap();
    assert_eq!(config, as_in_gguf(folder, "phi3", RopeLayout::HalfSplit));
    assert!(config.is_fused());
    // Without factors the context is what the file says.
    let plain = with(&[("attention.sliding_window", RawValue::u32(0))], &[]).unwrap();
    assert_eq!((plain.context_length, plain.rope.scaling), (131_072, RopeScaling::None));
    assert_eq!(plain.sliding_window, None);
    let none: &[(&str, RawValue)] = &[];
    let linear =
        [("rope.scaling.type", RawValue::string("linear")), ("rope.scaling.factor", RawValue::f32(2.0))];
    for (settings, factors, problem) in [
        (none, &both[..1], "the file lacks the factors for short texts"),
        (none, &[("short", &[1.0; 40][..])][..], "LongRoPE needs 48 short factors, found 40"),
        (none, &[("short", &[0.0; 48][..])][..], "a short factor of LongRoPE is 0"),
        (none, &[("short", &[f32::NAN; 48][..])][..], "a short factor of LongRoPE is NaN"),
        (
            &[("rope.scaling.attn_factor", RawValue::f32(f32::NAN))][..],
            &both[..],
            "LongRoPE's attention factor must be",
        ),
        (&linear[..], &both[..], "together with the tensor `rope_factors_short.weight`"),
    ] {
        let error = with(settings, factors).unwrap_err();
        assert!(error.contains(problem), "{problem}: {error}");
    }
    let longrope = [
        ("rope.scaling.type", RawValue::string("longrope")),
        ("rope.scaling.attn_factor", RawValue::f32(factor)),
    ];
    assert_eq!(with(&longrope, &both).unwrap(), config);
}

#[test]
fn what_only_some_families_have_is_refused_in_others() {
    for (key, value, problem) in [
        ("rope.freq_base_swa", RawValue::f32(500.0), "must be that of the other layers"),
        ("attention.sliding_window_pattern", RawValue::u32(6), "not supported with any value but 0"),
        ("embedding_scale", RawValue::f32(2.0), "not supported with any value but 1"),
        ("logit_scale", RawValue::f32(2.0), "not supported with any value but 1"),
    ] {
        let mut file = tiny_llama();
        file.set(&format!("llama.{key}"), value);
        let error = read_gguf(&file).unwrap_err();
        assert!(error.contains(&format!("metadata `llama.{key}`")) && error.contains(problem), "{error}");
    }
    let mut file = tiny_llama();
    file.set("general.architecture", RawValue::string("gemma2"));
    let error = read_gguf(&file).unwrap_err();
    assert!(error.contains("`gemma2` is not supported (it caps the scores of attention"), "{error}");
    let mut file = tiny_llama();
    file.tensor_f32("rope_factors_short.weight", &[4], &[1.0; 4]);
    let error = read_gguf(&file).unwrap_err();
    assert!(error.contains("tensor `rope_factors_short.weight`"), "{error}");
    assert!(error.contains("is not supported for models of this family"), "{error}");
}
