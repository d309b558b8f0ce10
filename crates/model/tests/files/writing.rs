//! Models that are written and opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::config::{
    ExpertsConfig, Multipliers, NormPlacement, QueryKeyNorm, RopeConfig, RopeLayout, RopeScaling,
    SlidingWindow, from_json,
};
use zhenjin_model::families::{Bias, FAMILIES, Family, MultiplierRule, UnrotatedLayers, WindowRule};
use zhenjin_model::names::Naming;
use zhenjin_model::testing::tiny_config;
use zhenjin_model::write::{
    FileRows, FloatType, FolderFile, MetadataValue, NewTensor, Quantisation, config_json, write_gguf,
    write_hugging_face, write_safetensors, write_tensors,
};
use zhenjin_model::{
    FeedForward, InitialisationRule, LoadOptions, Model, ModelConfig, ModelError, ModelFile, TensorSource,
    Weight, WeightName, Weights, initialise,
};
use zhenjin_tensor::{Dtype, SimdLevel, ThreadTeam};

use super::written_families::gemma3;

pub(super) fn options() -> LoadOptions {
    LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) }
}

/// Sixteenths: numbers that JSON keeps exactly.
fn sixteenths(range: std::ops::Range<u32>) -> impl Strategy<Value = f64> {
    (16 * range.start..16 * range.end).prop_map(|number| f64::from(number) / 16.0)
}

fn scalings() -> impl Strategy<Value = RopeScaling> {
    let yarn = (sixteenths(1..8), sixteenths(1..4), any::<bool>(), proptest::option::of(sixteenths(1..2)))
        .prop_map(|(factor, beta_slow, truncate, attention_factor)| RopeScaling::Yarn {
            factor,
            original_context_length: 64,
            beta_fast: beta_slow * 7.0,
            beta_slow,
            attention_factor,
            truncate,
        });
    prop_oneof![
        Just(RopeScaling::None),
        sixteenths(1..8).prop_map(|factor| RopeScaling::Linear { factor }),
        (sixteenths(1..8), sixteenths(1..2)).prop_map(|(factor, low)| RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: 2.0 * low,
            original_context_length: 64,
        }),
        yarn,
    ]
}

/// Any small configuration that a family allows.
pub(super) fn configurations() -> impl Strategy<Value = ModelConfig> {
    let sizes = (1..40_usize, 1..3_usize, 1..20_usize, 1..20_usize, 1..3_usize, 1..3_usize, 1..4_usize);
    let switches =
        (any::<[bool; 4]>(), proptest::option::of(1..50_usize), 1e-7..1e-3_f32, sixteenths(1..1 << 20));
    (proptest::sample::select(&FAMILIES[..]), sizes, switches, scalings()).prop_map(
        |(family, sizes, switches, scaling)| {
            let (vocabulary_size, layers, hidden_size, intermediate_size, kv_heads, group, eights) = sizes;
            let ([tied, bias, mlp_bias, first], window, rms_norm_epsilon, base) = switches;
            let given = |rule, given| match rule {
                Bias::Never => false,
                Bias::Always => true,
                Bias::Setting(_) => given,
            };
            let in_layers = match family.window {
                WindowRule::Never => Vec::new(),
                WindowRule::AllLayers { .. } => (0..layers).collect(),
                WindowRule::LaterLayers if mlp_bias => (0..layers).collect(),
                WindowRule::UnrotatedLayers => vec![0],
                _ if first => vec![layers - 1],
                _ => vec![0],
            };
            let window = window.filter(|_| !in_layers.is_empty());
            let rope = rope(&family, base, 8 * eights, scaling);
            ModelConfig {
                architecture: family.model_type.to_owned(),
                vocabulary_size,
                // The least length with which YaRN's stretched one is the same.
                context_length: 4096,
                layers,
                hidden_size,
                intermediate_size,
                heads: kv_heads * group,
                kv_heads,
                head_dim: 8 * eights,
                windowed_rope: window.and(family.windowed_rope_base).map(|_| RopeConfig {
                    base: base + 1.0,
                    scaling: RopeScaling::None,
                    ..rope.clone()
                }),
                rope,
                unrotated_layers: match family.unrotated {
                    UnrotatedLayers::Listed { .. } if first => vec![layers - 1],
                    _ => Vec::new(),
                },
                sliding_window: window.map(|positions| SlidingWindow { positions, layers: in_layers }),
                rms_norm_epsilon,
                norms: family.norms,
                norms_less_one: family.norms_less_one,
                tied_embeddings: tied,
                attention_bias: given(family.attention_bias, bias),
                attention_output_bias: given(family.attention_output_bias, bias),
                feed_forward_bias: given(family.feed_forward_bias, mlp_bias),
                qk_norm: family.qk_norm,
                activation: family.activation,
                multipliers: multipliers(
                    &family,
                    hidden_size,
                    vocabulary_size,
                    first.then_some(8 * eights + 3),
                ),
                experts: family.experts.then(|| ExpertsConfig {
                    count: 1 + vocabulary_size % 5,
                    active: 1 + (vocabulary_size % 5) / 2,
                    intermediate_size: 1 + hidden_size % 7,
                    normalise: !first,
                    every: 1 + usize::from(first),
                    dense_layers: if bias && first { vec![0] } else { Vec::new() },
                }),
            }
        },
    )
}

/// RoPE with this scaling, or with LongRoPE where the family knows `yarn` as an older name of that only.
fn rope(family: &Family, base: f64, rotary_dim: usize, scaling: RopeScaling) -> RopeConfig {
    let scaling = match scaling {
        RopeScaling::Yarn { factor, .. } if family.long_rope => RopeScaling::LongRope {
            factors: (0..rotary_dim / 2).map(|pair| factor + pair as f64).collect(),
            attention_factor: 1.25,
            original_context_length: 4096,
            long_factors: (0..rotary_dim / 2).map(|pair| factor + 2.0 * pair as f64).collect(),
            long_context_length: 131_072,
        },
        other => other,
    };
    RopeConfig { base, rotary_dim, layout: RopeLayout::HalfSplit, scaling }
}

/// Factors that the family allows, such as `1 / divisor` of the logits; scores are divided by the root of `scalar`, if there is one.
fn multipliers(family: &Family, hidden_size: usize, divisor: usize, scalar: Option<usize>) -> Multipliers {
    match family.multipliers {
        MultiplierRule::Never => Multipliers::default(),
        MultiplierRule::Granite => Multipliers {
            embedding: 0.1,
            residual: 0.3,
            attention: Some(f64::from(0.7_f32)),
            logits: (1.0 / divisor as f64) as f32,
        },
        MultiplierRule::Gemma { .. } => Multipliers {
            embedding: (hidden_size as f64).sqrt() as f32,
            attention: scalar.map(|scalar| 1.0 / (scalar as f64).sqrt()),
            ..Multipliers::default()
        },
    }
}

/// Every parameter's elements as bits.
pub(super) fn bits(weights: &Weights) -> Vec<(WeightName, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    let elements = |weight: Weight<&zhenjin_tensor::Matrix, &zhenjin_tensor::Vector>| match weight {
        Weight::Matrix(matrix) => bits(matrix.f32_packed().unwrap()),
        Weight::Vector(vector) => bits(vector),
    };
    weights.parameters().map(|(name, weight)| (name, elements(weight))).collect()
}

/// Writes configuration and weights into `folder`.
pub(super) fn write_model(folder: &Path, config: &ModelConfig, weights: &Weights) {
    std::fs::write(folder.join("config.json"), config_json(config).unwrap().to_string()).unwrap();
    let written =
        write_safetensors(&folder.join("model.safetensors"), config, weights, &BTreeMap::new()).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(written.sha256[..], sha256(&bytes)[..]);
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).to_vec()
}

/// How many tensors a folder has: of a fused family, one for three projections of each layer and one for two.
pub(super) fn tensors(config: &ModelConfig) -> usize {
    config.weights().count() - if config.is_fused() { 3 * config.layers } else { 0 }
}

proptest! {
    #[test]
    fn weights_that_are_written_and_loaded_again_have_the_same_bits(
        config in configurations(), seed in any::<u64>(), odd in proptest::collection::vec(any::<u32>(), 1..40),
    ) {
        let options = options();
        let mut weights = initialise(&config, &InitialisationRule::default(), seed, &options).unwrap();
        // Any bits at all, those of infinities and of small and negative numbers among them.
        // Norms that files hold less 1 keep only those from 1 to 2, say.
        let from_one = |bits: u32| 1.0_f32.to_bits() | (bits & 0x007F_FFFF);
        let kept = |bits: u32| if config.norms_less_one { from_one(bits) } else { bits };
        let values: Vec<f32> = odd.iter().map(|bits| f32::from_bits(kept(*bits))).collect();
        for (_, weight) in weights.parameters_mut() {
            if let Weight::Vector(vector) = weight {
                vector.iter_mut().zip(values.iter().cycle()).for_each(|(element, value)| *element = *value);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config, &weights);
        let read = Model::load(folder.path(), &options).unwrap();
        prop_assert_eq!(&read.config, &config);
        prop_assert_eq!(bits(&read.weights), bits(&weights));
        // The reference library reads the file too.
        let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        prop_assert_eq!(header.metadata().as_ref().unwrap()["format"].as_str(), "pt");
        prop_assert_eq!(header.tensors().len(), tensors(&config));
    }

    #[test]
    fn a_gguf_file_holds_the_same_model(config in configurations(), seed in any::<u64>()) {
        let options = options();
        let weights = initialise(&config, &InitialisationRule::default(), seed, &options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let metadata = [("general.name".to_owned(), MetadataValue::string("tiny"))];
        let floats = Quantisation::Floats(FloatType::F32);
        match write_gguf(&path, &config, &weights, floats, &metadata) {
            // Not every scaling of RoPE can be said.
            Err(ModelError::Unwritable { .. }) => return Ok(()),
            written => {
                let written = written.unwrap();
                prop_assert!(written.fallbacks.is_empty());
                let names: BTreeSet<String> = config.weights().map(|weight| Naming::Gguf.spell(weight)).collect();
                let of_rope = match config.rope.scaling {
                    RopeScaling::Llama3 { .. } => 1,
                    RopeScaling::LongRope { .. } => 2,
                    _ => 0,
                };
                let together = config.weights().count() - tensors(&config);
                prop_assert_eq!(written.types, vec![(Dtype::F32, names.len() - together + of_rope)]);
            }
        }
        let file = ModelFile::open(&path).unwrap();
        prop_assert_eq!(file.gguf().unwrap().string("general.name").unwrap(), Some("tiny"));
        prop_assert!(file.unused_tensors().is_empty() && file.unread_settings().is_empty());
        let read = file.config();
        prop_assert_eq!((read.heads, read.kv_heads, read.head_dim), (config.heads, config.kv_heads, config.head_dim));
        prop_assert_eq!(read.tied_embeddings, config.tied_embeddings);
        prop_assert_eq!(read.rms_norm_epsilon, config.rms_norm_epsilon);
        // Back in the order of Hugging Face files the bits are those that were written.
        let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
        let first = write_safetensors(&first, &config, &weights, &BTreeMap::new()).unwrap();
        let second = write_safetensors(&second, read, &FileRows(&file), &BTreeMap::new()).unwrap();
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_written_configuration_reads_as_it_was(config in configurations()) {
        let reading = from_json(config_json(&config).unwrap().to_string().as_bytes()).unwrap();
        prop_assert_eq!(reading.config, config);
        prop_assert!(reading.unread.is_empty());
    }
}

#[test]
fn what_no_config_json_can_say_is_refused_by_name() {
    let refused = |config: ModelConfig| config_json(&config).unwrap_err().to_string();
    let tiny = tiny_config();
    for (config, problem) in [
        (ModelConfig { architecture: "gpt9".to_owned(), ..tiny.clone() }, "architecture `gpt9`"),
        (ModelConfig { qk_norm: QueryKeyNorm::Heads, ..tiny.clone() }, "cannot say `qk_norm: Heads`"),
        (ModelConfig { norms: NormPlacement::After, ..tiny.clone() }, "cannot say `norms: After`"),
        (
            ModelConfig {
                multipliers: Multipliers { residual: 0.5, ..Multipliers::default() },
                ..tiny.clone()
            },
            "cannot say `residual: 0.5`",
        ),
        (ModelConfig { attention_bias: true, ..tiny.clone() }, "cannot say `attention_output_bias: false`"),
        (
            ModelConfig { unrotated_layers: vec![1], ..tiny.clone() },
            "cannot say that layers [1] have no rotary",
        ),
        (
            ModelConfig {
                rope: RopeConfig { scaling: RopeScaling::Divisors(vec![1.0; 8]), ..tiny.rope.clone() },
                ..tiny.clone()
            },
            "rope_freqs.weight",
        ),
        (
            ModelConfig { rope: RopeConfig { rotary_dim: 8, ..tiny.rope.clone() }, ..tiny.clone() },
            "cannot say `rotary_dim: 8`",
        ),
    ] {
        let error = refused(config);
        assert!(error.contains(problem), "{error}");
    }
    let qwen2 = Family::of_model_type("qwen2").unwrap();
    let error = refused(ModelConfig { architecture: qwen2.model_type.to_owned(), ..tiny });
    assert!(error.contains("cannot say `attention_bias: false`"), "{error}");
}

#[test]
fn weights_of_another_configuration_are_not_written() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let weights = initialise(&tiny_config(), &InitialisationRule::default(), 1, &options).unwrap();
    let file = folder.path().join("model.safetensors");
    let write = |config: &ModelConfig| write_safetensors(&file, config, &weights, &BTreeMap::new());
    let wider = ModelConfig { intermediate_size: 112, ..tiny_config() };
    assert!(
        matches!(write(&wider), Err(ModelError::TensorShape { tensor, .. }) if tensor.contains("gate_proj"))
    );
    let deeper = ModelConfig { layers: 3, ..tiny_config() };
    assert!(
        matches!(write(&deeper), Err(ModelError::MissingTensor { tensor, .. }) if tensor.contains("layers.2"))
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.safetensors");
    let tensor = |name: &str, dtype, shape: &[usize]| NewTensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    let good = [tensor("a", Dtype::F32, &[2])];
    write_tensors(&file, &good, &BTreeMap::new(), &mut |_, out| out.write(&[1; 8])).unwrap();
    let before = std::fs::read(&file).unwrap();
    let quantised = [tensor("a", Dtype::Q8_0, &[32])];
    let twice = [tensor("a", Dtype::F16, &[2]), tensor("a", Dtype::F16, &[2])];
    let huge = [tensor("a", Dtype::F32, &[usize::MAX, 2])];
    for (tensors, problem) in [
        (&good[..], "should end at byte 8 of the data, not 4"),
        (&quantised[..], "have no type Q8_0"),
        (&twice[..], "two tensors are called `a`"),
        (&huge[..], "too large"),
    ] {
        let error =
            write_tensors(&file, tensors, &BTreeMap::new(), &mut |_, out| out.write(&[2; 4])).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let nowhere = folder.path().join("missing").join("a.safetensors");
    let error = write_tensors(&nowhere, &good, &BTreeMap::new(), &mut |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
}

#[test]
fn mixtures_are_written_with_the_types_that_they_say() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let config = ModelConfig { hidden_size: 256, intermediate_size: 288, layers: 3, ..tiny_config() };
    let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
    for name in Quantisation::names() {
        let quantisation = Quantisation::from_name(name).unwrap();
        let path = folder.path().join(format!("{name}.gguf"));
        let written = write_gguf(&path, &config, &weights, quantisation, &[]).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let mut fallbacks = 0;
        for weight in config.weights() {
            let (wanted, given) = quantisation.dtype(&config, weight);
            assert_eq!(file.tensor(weight).unwrap().dtype, given, "{name}: {weight:?}");
            fallbacks += usize::from(wanted != given);
        }
        assert_eq!(written.fallbacks.len(), fallbacks);
        assert_eq!(fallbacks > 0, name.contains("_k"), "{name}");
        Model::load(&path, &options).unwrap();
        // The elements are near those that were written.
        let mut values = vec![0.0; config.hidden_size];
        let view = file.tensor(WeightName::Embedding).unwrap();
        let bytes = view.dtype.bytes(values.len()).unwrap();
        zhenjin_tensor::dequantise(view.dtype, &view.bytes[..bytes], &mut values).unwrap();
        let mut expected = vec![0.0; config.hidden_size];
        weights.embedding.row(0, &mut expected);
        let error = |(a, b): (&f32, &f32)| (a - b).abs();
        let largest = values.iter().zip(&expected).map(error).fold(0.0, f32::max);
        assert!(largest <= 0.01, "{name}: off by {largest}");
    }
}

#[test]
fn folders_are_written_whole_and_replace_nothing() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let weights = initialise(&tiny_config(), &InitialisationRule::default(), 1, &options).unwrap();
    let out = folder.path().join("model");
    let files = [FolderFile { name: "tokenizer.json".to_owned(), bytes: b"{}".to_vec() }];
    let write = |config: &ModelConfig, dtype| {
        let settings = [("eos_token_id", serde_json::json!(3))];
        write_hugging_face(&out, config, &weights, dtype, &settings, &files)
    };
    // A head that the weights do not have: found before anything is visible.
    let untied = ModelConfig { tied_embeddings: false, ..tiny_config() };
    assert!(matches!(write(&untied, FloatType::F32), Err(ModelError::MissingTensor { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    write(&tiny_config(), FloatType::Bf16).unwrap();
    let file = ModelFile::open(&out).unwrap();
    assert_eq!(file.tensor(WeightName::Embedding).unwrap().dtype, Dtype::Bf16);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["torch_dtype"], &config["eos_token_id"]), (&"bfloat16".into(), &3.into()));
    assert_eq!(std::fs::read(out.join("tokenizer.json")).unwrap(), b"{}");
    let error = write(&tiny_config(), FloatType::F32).unwrap_err();
    assert!(error.to_string().contains("something of this name already"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// GGUF files do not say which layers of SmolLM3 rotate: readers leave rotary embedding out in the last of every four.
#[test]
fn a_smollm3_goes_through_a_gguf_file() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let config = ModelConfig {
        architecture: "smollm3".to_owned(),
        layers: 9,
        unrotated_layers: vec![3, 7],
        ..tiny_config()
    };
    let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&path, &config, &weights, Quantisation::Floats(FloatType::F32), &[]).unwrap();
    let file = ModelFile::open(&path).unwrap();
    let read = file.config();
    assert_eq!(file.gguf().unwrap().string("general.architecture").unwrap(), Some("smollm3"));
    assert_eq!((&read.unrotated_layers[..], read.rope.layout), (&[3, 7][..], RopeLayout::Interleaved));
    assert_eq!(
        (0..9).map(|layer| u8::from(read.rotates(layer))).collect::<Vec<_>>(),
        [1, 1, 1, 0, 1, 1, 1, 0, 1]
    );
    let json = config_json(read).unwrap();
    assert_eq!(json["no_rope_layers"], serde_json::json!([1, 1, 1, 0, 1, 1, 1, 0, 1]));
    let back = from_json(json.to_string().as_bytes()).unwrap().config;
    assert_eq!(back, config);
}

#[test]
fn numbers_beyond_half_precision_are_refused_by_tensor() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let mut weights = initialise(&tiny_config(), &InitialisationRule::default(), 1, &options).unwrap();
    let FeedForward::Dense { gate, .. } = &mut weights.layers[1].feed_forward else { unreachable!() };
    gate.matrix.f32_packed_mut().unwrap()[5] = 70_000.0;
    let write = |dtype| {
        write_gguf(&folder.path().join("a.gguf"), &tiny_config(), &weights, Quantisation::Floats(dtype), &[])
    };
    let error = write(FloatType::F16).unwrap_err().to_string();
    assert!(error.contains("layers.1.mlp.gate_proj") && error.contains("F16"), "{error}");
    write(FloatType::Bf16).unwrap();
}

#[test]
fn what_no_gguf_file_can_say_is_refused_by_name() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let floats = Quantisation::Floats(FloatType::F32);
    let qwen2 = ModelConfig { architecture: "qwen2".to_owned(), attention_bias: true, ..tiny_config() };
    let window = SlidingWindow::from_layer(8, 1, 2);
    let divisors = RopeScaling::Divisors(vec![1.0; 8]);
    let smollm3 = ModelConfig { architecture: "smollm3".to_owned(), layers: 4, ..tiny_config() };
    for (config, problem) in [
        (
            ModelConfig { unrotated_layers: vec![1], ..tiny_config() },
            "`llama` cannot say which layers have no rotary embedding: here [1] (counted from 0), but programs that read it rotate",
        ),
        (
            ModelConfig { unrotated_layers: vec![0, 3], ..smollm3.clone() },
            "`smollm3` cannot say which layers have no rotary embedding: here [0, 3]",
        ),
        (smollm3, "here none, but programs that read it leave it out in the last of every 4 layers"),
        (ModelConfig { sliding_window: Some(window), ..qwen2.clone() }, "which layers have a sliding window"),
        (
            ModelConfig { rope: RopeConfig { scaling: divisors, ..qwen2.rope.clone() }, ..qwen2.clone() },
            "files of architecture `qwen2` have no tensor",
        ),
        (ModelConfig { architecture: "gpt9".to_owned(), ..tiny_config() }, "`gpt9`"),
        (ModelConfig { qk_norm: QueryKeyNorm::Heads, ..tiny_config() }, "`llama` cannot say which norms"),
        (
            ModelConfig {
                sliding_window: Some(SlidingWindow { positions: 8, layers: vec![1, 2] }),
                ..gemma3(4)
            },
            "`gemma3` cannot say that layers [1, 2] (counted from 0) have a sliding window",
        ),
        (
            ModelConfig {
                windowed_rope: Some(RopeConfig {
                    scaling: RopeScaling::Linear { factor: 2.0 },
                    ..tiny_config().rope
                }),
                ..gemma3(4)
            },
            "`gemma3` cannot say how rotary embedding differs",
        ),
        (
            ModelConfig {
                multipliers: Multipliers { attention: Some(0.5), ..gemma3(4).multipliers },
                ..gemma3(4)
            },
            "`gemma3` cannot say with which factors",
        ),
    ] {
        let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
        let error = write_gguf(&folder.path().join("a.gguf"), &config, &weights, floats, &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{error}");
    }
    let weights = initialise(&qwen2, &InitialisationRule::default(), 1, &options).unwrap();
    let twice = [("general.architecture".to_owned(), MetadataValue::string("llama"))];
    let error = write_gguf(&folder.path().join("a.gguf"), &qwen2, &weights, floats, &twice).unwrap_err();
    assert!(error.to_string().contains("`general.architecture` was given twice"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
