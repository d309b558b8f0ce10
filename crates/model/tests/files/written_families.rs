//! Models of the families whose files differ more from Llama's than by switches: Gemma 3 and Phi-3, written and opened again.

use std::path::Path;

use serde_json::json;
use zhenjin_model::config::{Multipliers, RopeConfig, RopeScaling, SlidingWindow, from_json};
use zhenjin_model::families::Family;
use zhenjin_model::testing::tiny_config;
use zhenjin_model::write::{FileRows, FloatType, Quantisation, config_json, write_gguf, write_hugging_face};
use zhenjin_model::{
    InitialisationRule, LayerWeightName, Model, ModelConfig, ModelFile, TensorSource, Weight, WeightName,
    initialise,
};

use super::golden::{self, fused};
use super::hugging_face_writer::{self, FolderTensor, tiny_tensors, write_folder};
use super::writing::{bits, options, tensors, write_model};

/// A Gemma 3 as its folders say it, of hidden size 64: all layers but the last of every six have a window and another base of RoPE.
pub(super) fn gemma3(layers: usize) -> ModelConfig {
    let family = Family::of_model_type("gemma3_text").unwrap();
    let tiny = tiny_config();
    ModelConfig {
        architecture: family.model_type.to_owned(),
        layers,
        windowed_rope: Some(RopeConfig { base: 500.0, ..tiny.rope.clone() }),
        sliding_window: Some(SlidingWindow {
            positions: 8,
            layers: (0..layers).filter(|layer| !(layer + 1).is_multiple_of(6)).collect(),
        }),
        norms: family.norms,
        norms_less_one: family.norms_less_one,
        qk_norm: family.qk_norm,
        activation: family.activation,
        multipliers: Multipliers { embedding: 8.0, ..Multipliers::default() },
        ..tiny
    }
}

/// GGUF files say the number of layers of which the last sees everything, if it is not the usual one.
#[test]
fn windows_of_a_gemma3_go_through_a_gguf_file() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let windows = |layers: &[usize]| Some(SlidingWindow { positions: 8, layers: layers.to_vec() });
    for (layers, sliding_window, pattern) in [
        (7, gemma3(7).sliding_window, None),
        (5, windows(&[0, 1, 3, 4]), Some(3)),
        (3, windows(&[0, 1]), Some(3)),
        (7, windows(&[0, 1, 2, 3, 4, 5, 6]), Some(8)),
        (3, windows(&[0, 1, 2]), None),
        (2, None, None),
    ] {
        let windowed_rope = sliding_window.as_ref().and(gemma3(1).windowed_rope);
        let config = ModelConfig { sliding_window, windowed_rope, ..gemma3(layers) };
        let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
        let path = folder.path().join("model.gguf");
        write_gguf(&path, &config, &weights, Quantisation::Floats(FloatType::F32), &[]).unwrap();
        let file = ModelFile::open(&path).unwrap();
        let written = file.gguf().unwrap().unsigned("gemma3.attention.sliding_window_pattern").unwrap();
        assert_eq!(written, pattern, "{layers} layers");
        let read = ModelConfig {
            architecture: config.architecture.clone(),
            norms_less_one: true,
            ..file.config().clone()
        };
        assert_eq!(read, config);
        let back = from_json(config_json(file.config()).unwrap().to_string().as_bytes()).unwrap();
        assert_eq!((back.config, back.unread), (config, Vec::new()));
    }
}

/// The elements of a weight in a file.
fn elements(file: &ModelFile, weight: WeightName) -> Vec<f32> {
    let view = file.tensor(weight).unwrap();
    let mut values = vec![0.0; view.shape.iter().product()];
    zhenjin_tensor::dequantise(view.dtype, view.bytes, &mut values).unwrap();
    values
}

/// Folders of Gemma hold norms less 1, GGUF files do not. Within a format no bit changes, also of numbers that 1 swallows.
#[test]
fn norms_less_one_change_between_the_formats_only() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    let config = gemma3(2);
    let mut weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
    let stored = [0.25, -0.75, 1e-9, -1e-30, 3.5, 0.0];
    for (_, weight) in weights.parameters_mut() {
        if let Weight::Vector(vector) = weight {
            vector.fill(1.0);
        }
    }
    std::fs::create_dir(path("source")).unwrap();
    write_model(&path("source"), &config, &weights);
    // In place of zeros, which stand for ones, numbers of the file's own.
    let norm = WeightName::Layer(1, LayerWeightName::FeedForwardOutputNorm);
    let file = ModelFile::open(&path("source")).unwrap();
    assert_eq!(elements(&file, norm), [0.0; 64]);
    let begin = {
        let (all, part) =
            (std::fs::read(path("source").join("model.safetensors")).unwrap(), file.tensor(norm).unwrap());
        let header = zhenjin_model::safetensors::parse_header(&all).unwrap();
        header.tensor(&part.name).unwrap().data.start
    };
    drop(file);
    let mut bytes = std::fs::read(path("source").join("model.safetensors")).unwrap();
    for (index, value) in stored.iter().enumerate() {
        bytes[begin + 4 * index..][..4].copy_from_slice(&f32::to_le_bytes(*value));
    }
    std::fs::write(path("source").join("model.safetensors"), &bytes).unwrap();

    let floats = Quantisation::Floats(FloatType::F32);
    let source = ModelFile::open(&path("source")).unwrap();
    write_hugging_face(&path("copy"), source.config(), &FileRows(&source), FloatType::F32, &[], &[]).unwrap();
    let copy = ModelFile::open(&path("copy")).unwrap();
    for weight in config.weights() {
        assert_eq!(copy.tensor(weight).unwrap().bytes, source.tensor(weight).unwrap().bytes, "{weight:?}");
    }
    write_gguf(&path("a.gguf"), source.config(), &FileRows(&source), floats, &[]).unwrap();
    let gguf = ModelFile::open(&path("a.gguf")).unwrap();
    assert_eq!(elements(&gguf, norm)[..6], [1.25, 0.25, 1.0, 1.0, 4.5, 1.0]);
    assert_eq!(elements(&gguf, WeightName::FinalNorm), [1.0; 64]);
    write_gguf(&path("b.gguf"), gguf.config(), &FileRows(&gguf), floats, &[]).unwrap();
    assert_eq!(std::fs::read(path("a.gguf")).unwrap(), std::fs::read(path("b.gguf")).unwrap());
    write_hugging_face(&path("back"), gguf.config(), &FileRows(&gguf), FloatType::F32, &[], &[]).unwrap();
    let back = ModelFile::open(&path("back")).unwrap();
    assert_eq!(elements(&back, norm)[..6], [0.25, -0.75, 0.0, 0.0, 3.5, 0.0]);
    // Loaded, all of them are the same model, to the last bit of these numbers.
    let loaded = |name: &str| bits(&Model::load(&path(name), &options).unwrap().weights);
    assert_eq!(loaded("source"), loaded("a.gguf"));
    assert_eq!(loaded("source"), loaded("back"));
}

/// A Phi-3 has one tensor for three projections and one for two, in both formats and in every type.
#[test]
fn fused_projections_are_written_and_read_in_every_type() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let config = ModelConfig {
        architecture: "phi3".to_owned(),
        hidden_size: 256,
        intermediate_size: 288,
        layers: 3,
        ..tiny_config()
    };
    let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
    let check = |path: &Path, tolerance: f32| {
        let file = ModelFile::open(path).unwrap();
        assert!(file.unused_tensors().is_empty(), "{:?}", file.unused_tensors());
        assert_eq!(file.tensors().count(), tensors(&config), "{}", path.display());
        for (weight, values) in weights.parameters() {
            let Weight::Matrix(matrix) = values else { continue };
            let found = elements(&file, weight);
            let mut row = vec![0.0; matrix.columns()];
            for (index, found) in found.chunks_exact(row.len()).enumerate() {
                matrix.row(index, &mut row);
                let off = row.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= tolerance, "{}: {weight:?}, row {index}: off by {off}", path.display());
            }
        }
        Model::load(path, &options).unwrap();
    };
    for name in Quantisation::names() {
        let path = folder.path().join(format!("{name}.gguf"));
        let quantisation = Quantisation::from_name(name).unwrap();
        write_gguf(&path, &config, &weights, quantisation, &[]).unwrap();
        check(&path, if name == "f32" { 0.0 } else { 0.02 });
        let file = ModelFile::open(&path).unwrap();
        for weight in config.weights() {
            assert_eq!(
                file.tensor(weight).unwrap().dtype,
                quantisation.dtype(&config, weight).1,
                "{name}: {weight:?}"
            );
        }
    }
    for (name, dtype, tolerance) in
        [("f32", FloatType::F32, 0.0), ("f16", FloatType::F16, 1e-4), ("bf16", FloatType::Bf16, 1e-3)]
    {
        let path = folder.path().join(name);
        write_hugging_face(&path, &config, &weights, dtype, &[], &[]).unwrap();
        check(&path, tolerance);
    }
}

/// LongRoPE's long factors are not kept: a written model has the context length of the short ones, in both formats.
#[test]
fn a_phi3_with_longrope_goes_through_both_formats() {
    let (options, folder) = (options(), tempfile::tempdir().unwrap());
    let scaling = RopeScaling::LongRope {
        factors: (0..8).map(|pair| 1.0 + 0.25 * f64::from(pair)).collect(),
        attention_factor: f64::from(1.19_f32),
        original_context_length: 512,
        long_factors: (0..8).map(|pair| 1.0 + f64::from(pair)).collect(),
        long_context_length: 2048,
    };
    let config = ModelConfig {
        architecture: "phi3".to_owned(),
        rope: RopeConfig { scaling, ..tiny_config().rope },
        ..tiny_config()
    };
    let weights = initialise(&config, &InitialisationRule::default(), 1, &options).unwrap();
    let path = folder.path().join("model.gguf");
    write_gguf(&path, &config, &weights, Quantisation::Floats(FloatType::F32), &[]).unwrap();
    let file = ModelFile::open(&path).unwrap();
    assert_eq!(file.config(), &config);
    assert!(file.unused_tensors().is_empty() && file.unread_settings().is_empty());
    let gguf = file.gguf().unwrap();
    for name in ["rope_factors_short.weight", "rope_factors_long.weight"] {
        assert_eq!(gguf.tensor(name).unwrap().shape, [8], "{name}");
    }
    let json = config_json(file.config()).unwrap();
    assert_eq!(
        (&json["max_position_embeddings"], &json["original_max_position_embeddings"]),
        (&2048.into(), &512.into()),
        "what the source says of longer texts is kept"
    );
    assert_eq!(from_json(json.to_string().as_bytes()).unwrap().config, config);
}

fn open_error(path: &Path) -> String {
    match ModelFile::open(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error.to_string(),
    }
}

/// Programs that know the family read the fused tensors.
#[test]
fn projections_beside_fused_ones_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = hugging_face_writer::tiny_config();
    config["model_type"] = json!("phi3");
    config["architectures"] = json!(["Phi3ForCausalLM"]);
    let key = WeightName::Layer(0, LayerWeightName::Key);
    // Of a folder without fused tensors, the projections themselves.
    write_folder(folder.path(), &config, &tiny_tensors());
    let apart = ModelFile::open(folder.path()).unwrap();
    assert!(apart.unused_tensors().is_empty());
    assert_eq!(apart.tensor(key).unwrap().shape, [8, 16]);
    let mut together = fused(tiny_tensors());
    write_folder(folder.path(), &config, &together);
    let file = ModelFile::open(folder.path()).unwrap();
    assert!(file.unused_tensors().is_empty());
    let view = file.tensor(key).unwrap();
    assert_eq!((view.name.as_str(), view.shape), ("model.layers.0.self_attn.qkv_proj.weight", vec![8, 16]));
    let name = "model.layers.0.self_attn.k_proj.weight";
    together.push(FolderTensor::f32(name, &[8, 16], &[7.0; 128]));
    write_folder(folder.path(), &config, &together);
    let file = ModelFile::open(folder.path()).unwrap();
    assert_eq!(file.unused_tensors(), [format!("`{name}`")]);
    assert_eq!(elements(&file, key), [0.25; 128]);
    // The same tensors mean nothing to another family.
    together.pop();
    let mut both = tiny_tensors();
    both.extend(
        together.into_iter().filter(|tensor| tensor.name.contains("qkv") || tensor.name.contains("gate_up")),
    );
    write_folder(folder.path(), &hugging_face_writer::tiny_config(), &both);
    let file = ModelFile::open(folder.path()).unwrap();
    assert_eq!(
        file.unused_tensors(),
        ["`model.layers.0.mlp.gate_up_proj.weight`", "`model.layers.0.self_attn.qkv_proj.weight`"]
    );
}

/// A tensor that has not the rows of all its projections is no tensor of one of them, even where it has as many rows as that.
#[test]
fn fused_tensors_of_another_height_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = hugging_face_writer::tiny_config();
    config["model_type"] = json!("phi3");
    config["architectures"] = json!(["Phi3ForCausalLM"]);
    let mut tensors = fused(tiny_tensors());
    let place = tensors.iter().position(|tensor| tensor.name.ends_with("gate_up_proj.weight")).unwrap();
    tensors[place] = FolderTensor::f32(&tensors[place].name, &[24, 16], &[0.25; 384]);
    write_folder(folder.path(), &config, &tensors);
    let error = open_error(folder.path());
    assert!(error.contains("mlp.gate_up_proj.weight`: the configuration implies shape [48, 16]"), "{error}");
    let mut gguf = golden::gguf(&golden::Case::named("phi3")).unwrap();
    let up = gguf.tensor("blk.1.ffn_up.weight");
    up.dimensions[1] /= 2;
    up.data.truncate(up.data.len() / 2);
    let path = folder.path().join("phi3.gguf");
    std::fs::write(&path, gguf.bytes()).unwrap();
    let error = open_error(&path);
    assert!(error.contains("`blk.1.ffn_up.weight`: the configuration implies shape [192, 64]"), "{error}");
}
