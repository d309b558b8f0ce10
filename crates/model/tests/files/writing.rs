//! Models that are written and opened again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_model::config::{RopeConfig, RopeLayout, RopeScaling, SlidingWindow, from_json};
use zhenjin_model::families::{Bias, FAMILIES, Family, WindowRule};
use zhenjin_model::testing::tiny_config;
use zhenjin_model::write::{NewTensor, config_json, write_safetensors, write_tensors};
use zhenjin_model::{
    InitialisationRule, LoadOptions, Model, ModelConfig, ModelError, Weight, WeightName, Weights, initialise,
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
                sliding_window: match family.window {
                    WindowRule::Never => None,
                    _ => window.map(|positions| SlidingWindow { positions, first_layer }),
                },
                rms_norm_epsilon,
                tied_embeddings: tied,
                attention_bias: given(family.attention_bias, bias),
                attention_output_bias: given(family.attention_output_bias, bias),
                feed_forward_bias: given(family.feed_forward_bias, mlp_bias),
                qk_norm: family.qk_norm,
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
