//! Models that are written and opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::config::{ExpertsConfig, RopeConfig, RopeLayout, RopeScaling, SlidingWindow, from_json};
use zhenjin_model::families::{Bias, FAMILIES, Family, UnrotatedLayers, WindowRule};
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
            let first_layer = match family.window {
                WindowRule::LaterLayers if first => layers - 1,
                _ => 0,
            };
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
                rope: RopeConfig { base, rotary_dim: 8 * eights, layout: RopeLayout::HalfSplit, scaling },
                unrotated_layers: match family.unrotated {
                    UnrotatedLayers::Listed { .. } if first => vec![layers - 1],
                    _ => Vec::new(),
                },
                sliding_window: match family.window {
                    WindowRule::Never | WindowRule::UnrotatedLayers => None,
                    _ => window.map(|positions| SlidingWindow { positions, first_layer }),
                },
                rms_norm_epsilon,
                tied_embeddings: tied,
                attention_bias: given(family.attention_bias, bias),
                attention_output_bias: given(family.attention_output_bias, bias),
                feed_forward_bias: given(family.feed_forward_bias, mlp_bias),
                qk_norm: family.qk_norm,
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

/// Every parameter's elements as bits.
fn bits(weights: &Weights) -> Vec<(WeightName, Vec<u32>)> {
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

proptest! {
    #[test]
    fn weights_that_are_written_and_loaded_again_have_the_same_bits(
        config in configurations(), seed in any::<u64>(), odd in proptest::collection::vec(any::<u32>(), 1..40),
    ) {
        let options = options();
        let mut weights = initialise(&config, &InitialisationRule::default(), seed, &options).unwrap();
        // Any bits at all, those of infinities and of small and negative numbers among them.
        let values: Vec<f32> = odd.iter().map(|bits| f32::from_bits(*bits)).collect();
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
        prop_assert_eq!(header.tensors().len(), config.weights().count());
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
                let divisors = usize::from(matches!(config.rope.scaling, RopeScaling::Llama3 { .. }));
                prop_assert_eq!(written.types, vec![(Dtype::F32, names.len() + divisors)]);
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
        (ModelConfig { qk_norm: true, ..tiny.clone() }, "cannot say `qk_norm: true`"),
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
    let window = SlidingWindow { positions: 8, first_layer: 1 };
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
