//! Adapters: logits against those of the `peft` library through files of both formats, and what is refused.
//!
//! `tests/golden/make_adapters.py` had `peft` write the adapters and computed the numbers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zhenjin_model::write::{FileRows, FloatType, Quantisation, write_gguf, write_hugging_face};
use zhenjin_model::{AdapterMerge, AdapterValues, MergedRows, ModelFile, ServedAdapter};
use zhenjin_tensor::SimdLevel;

use super::golden::{Case, TOLERANCE, gguf, reference_logits};
use super::hugging_face_writer::{FolderTensor, safetensors_bytes, write_folder};

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/adapters.json")).unwrap()
}

/// Where `peft` saved the adapter of that name.
fn saved(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters").join(name)
}

#[test]
fn hugging_face_folders_give_the_logits_of_peft() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &case.config, &case.tensors());
        for simd in SimdLevel::available() {
            let difference = case.difference_with(folder.path(), Some(&saved(&case.name)), simd);
            assert!(difference <= TOLERANCE, "{} with {simd:?}: differs by {difference}", case.name);
        }
        let reference = reference_logits(folder.path(), Some(&saved(&case.name)), &case.tokens);
        let difference = case.difference_of(&reference);
        assert!(difference <= TOLERANCE, "{} in f64: differs by {difference}", case.name);
        let without = case.difference_with(folder.path(), None, SimdLevel::detect());
        assert!(without > 100.0 * TOLERANCE, "{}: without the adapter only {without}", case.name);
    }
}

/// Query and key rows of these files are interleaved for the Llama family.
#[test]
fn gguf_files_give_the_logits_of_peft() {
    let mut interleaved = 0;
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, gguf(&case).unwrap().bytes()).unwrap();
        let adapter = saved(&case.name).join("adapter_model.safetensors");
        let difference = case.difference_with(&path, Some(&adapter), SimdLevel::detect());
        assert!(difference <= TOLERANCE, "{}: differs by {difference}", case.name);
        interleaved += usize::from(case.model_config().architecture == "llama");
    }
    assert_eq!(interleaved, 2);
}

/// The case's model in both formats.
fn sources(case: &Case, folder: &Path) -> [PathBuf; 2] {
    let (source, source_gguf) = (folder.join("source"), folder.join("source.gguf"));
    std::fs::create_dir(&source).unwrap();
    write_folder(&source, &case.config, &case.tensors());
    std::fs::write(&source_gguf, gguf(case).unwrap().bytes()).unwrap();
    [source, source_gguf]
}

/// Adapters merged into the weights, from files of both formats into files of both: the logits are those of base and adapter together, within what
/// the written type rounds. Among the cases are tied embeddings, rank and alpha by pattern, and rank-stabilised scales.
#[test]
fn merged_files_give_the_logits_of_base_and_adapter() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        for (number, path) in sources(&case, folder.path()).iter().enumerate() {
            let file = ModelFile::open(path).unwrap();
            let config = file.config();
            // Both ways of opening give the same changes.
            let merge = match number {
                0 => AdapterMerge::from(AdapterValues::open(&saved(&case.name), config).unwrap()),
                _ => AdapterMerge::open(&saved(&case.name), config).unwrap(),
            };
            let base = FileRows(&file);
            let rows = MergedRows::new(&base, &merge);
            let out = |name: &str| folder.path().join(format!("{number}-{name}"));
            let check = |written: &Path, most: f32| {
                let difference = case.difference_with(written, None, SimdLevel::detect());
                assert!(difference <= most, "{} {}: {difference}", case.name, written.display());
                difference
            };
            write_hugging_face(&out("hf"), config, &rows, FloatType::F32, &[], &[]).unwrap();
            check(&out("hf"), TOLERANCE);
            let name = out("f32.gguf");
            write_gguf(&name, config, &rows, Quantisation::Floats(FloatType::F32), &[]).unwrap();
            check(&name, TOLERANCE);
            // What is merged is not adapted once more by mistake: the plain model is far away.
            let plain = case.difference_with(path, None, SimdLevel::detect());
            let name = out("f16.gguf");
            write_gguf(&name, config, &rows, Quantisation::Floats(FloatType::F16), &[]).unwrap();
            let f16 = check(&name, 0.1);
            let name = out("q8_0.gguf");
            let q8_0 = Quantisation::from_name("q8_0").unwrap();
            write_gguf(&name, config, &rows, q8_0, &[]).unwrap();
            let q8 = check(&name, 1.0);
            assert!(plain > 4.0 * q8 && plain > 40.0 * f16, "{}: {plain} {q8} {f16}", case.name);
        }
    }
}

/// A small adapter of the tiny Llama, of rank 2 to its query projection, with the changes of `edit`.
fn opened(edit: impl FnOnce(&mut Value, &mut Vec<FolderTensor>)) -> Result<AdapterValues, String> {
    let config = cases().into_iter().find(|case| case.name == "llama-every").unwrap().model_config();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"});
    let tensor = |part: &str, shape: [usize; 2]| {
        let name = format!("base_model.model.model.layers.1.self_attn.q_proj.{part}.weight");
        FolderTensor::f32(&name, &shape, &vec![0.5; shape[0] * shape[1]])
    };
    let mut tensors = vec![tensor("lora_A", [2, 64]), tensor("lora_B", [64, 2])];
    edit(&mut settings, &mut tensors);
    std::fs::write(folder.path().join("adapter_config.json"), settings.to_string()).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), safetensors_bytes(&tensors)).unwrap();
    AdapterValues::open(folder.path(), &config).map_err(|error| error.to_string())
}

fn renamed(from: &str, to: &str, tensors: &mut [FolderTensor]) {
    tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace(from, to));
}

/// Opened again by `peft`, it once got products in every layer.
#[test]
fn written_settings_of_an_adapter_in_some_layers_name_these() {
    let modules = |name: &str| {
        let config = cases().into_iter().find(|case| case.name == name).unwrap().model_config();
        let values = AdapterValues::open(&saved(name), &config).unwrap();
        let settings: Value = serde_json::from_str(&values.settings_json("base")).unwrap();
        settings["target_modules"].as_array().unwrap().clone()
    };
    let one = modules("qwen3-one-layer");
    assert_eq!(one.len(), 3);
    assert!(one.contains(&"model.layers.1.self_attn.v_proj".into()), "{one:?}");
    assert_eq!(modules("llama-attention"), ["k_proj", "q_proj"]);
}

#[test]
fn fingerprints_are_of_every_value() {
    let plain = opened(|_, _| {}).unwrap();
    let default = opened(|_, tensors| renamed(".weight", ".default.weight", tensors)).unwrap();
    assert_eq!(plain.fingerprint(), default.fingerprint());
    let scaled = opened(|settings, _| settings["lora_alpha"] = 5.into()).unwrap();
    let other_layer = opened(|_, tensors| renamed("layers.1.", "layers.0.", tensors)).unwrap();
    let one_value = opened(|_, tensors| tensors[1].data[4 * 77] ^= 1).unwrap();
    for other in [scaled, other_layer, one_value] {
        assert_ne!(plain.fingerprint(), other.fingerprint());
    }
}

#[test]
fn what_is_not_supported_or_does_not_fit_is_refused_by_name() {
    type Edit = fn(&mut Value, &mut Vec<FolderTensor>);
    let refused: [(Edit, &[&str]); 17] = [
        (
            |settings, _| settings["r"] = 4.into(),
            &["adapter_model.safetensors", "q_proj.lora_A.weight", "[4, 64]", "[2, 64]"],
        ),
        (|settings, _| settings["use_dora"] = true.into(), &["adapter_config.json", "`use_dora`", "DoRA"]),
        (|settings, _| settings["bias"] = "some".into(), &["`bias`"]),
        (
            |_, tensors| tensors[1].shape = vec![2, 64],
            &["lora_B.weight", "[64, 2]", "[2, 64]", "another model"],
        ),
        (|_, tensors| drop(tensors.pop()), &["q_proj.lora_B.weight` is missing"]),
        (|_, tensors| tensors.clear(), &["nothing to adapt"]),
        (
            |_, tensors| renamed("layers.1.", "layers.2.", tensors),
            &["of 2 layers", "model.layers.2.self_attn.q_proj"],
        ),
        (
            |_, tensors| renamed("model.layers.1.self_attn.q_proj", "lm_head", tensors),
            &["lm_head", "not supported"],
        ),
        // What `peft` saves beside an adapted head that is tied to the embedding.
        (
            |_, tensors| renamed("model.layers.1.self_attn.q_proj.lora_B", "lm_head.base_layer", tensors),
            &["lm_head.base_layer.weight", "an adapted head (lm_head) is not supported"],
        ),
        (|_, tensors| renamed("layers.1.self_attn.q_proj", "embed_tokens", tensors), &["token embeddings"]),
        (|_, tensors| renamed("lora_A", "lora_embedding_A", tensors), &["token embeddings"]),
        (|_, tensors| renamed("lora_B.weight", "lora_magnitude_vector", tensors), &["DoRA"]),
        (|_, tensors| renamed("lora_B.weight", "lora_B.bias", tensors), &["biases"]),
        (|_, tensors| renamed("self_attn.q_proj.lora_B", "mlp.up_proj", tensors), &["whole weights"]),
        (|_, tensors| renamed("base_model.model.", "transformer.", tensors), &["neither lora_A nor lora_B"]),
        (
            |_, tensors| tensors[0].data[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            &["q_proj", "not a finite"],
        ),
        (
            |_, tensors| {
                let mut again = tensors[0].clone();
                again.name = again.name.replace(".weight", ".default.weight");
                tensors.push(again);
            },
            &["lora_A", "the same as"],
        ),
    ];
    for (edit, named) in refused {
        let error = opened(edit).unwrap_err();
        assert!(named.iter().all(|name| error.contains(name)), "{error} should name {named:?}");
    }
}

#[test]
fn paths_that_are_no_adapters_say_what_would_be() {
    let config = cases()[0].model_config();
    let folder = tempfile::tempdir().unwrap();
    let other_file = folder.path().join("other.safetensors");
    std::fs::write(&other_file, "x").unwrap();
    std::fs::write(folder.path().join("adapter_model.bin"), "x").unwrap();
    for (path, named) in [
        (folder.path().join("missing"), "cannot open"),
        (other_file, "adapter_config.json and adapter_model.safetensors"),
        (folder.path().to_owned(), "PyTorch pickle"),
    ] {
        let error = AdapterValues::open(&path, &config).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// Regression: a folder with adapters in folders of their own was `cannot open: No such file`.
#[test]
fn a_folder_of_named_adapters_names_them() {
    let config = cases()[0].model_config();
    let folder = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for name in ["two", "one"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("adapter_config.json"), "{}").unwrap();
        said.push(AdapterValues::open(folder.path(), &config).unwrap_err().to_string());
        said.push(AdapterMerge::open(folder.path(), &config).unwrap_err().to_string());
    }
    for (text, words) in said.iter().zip([
        "it holds the adapter `two`; name that folder",
        "it holds the adapter `two`; name that folder",
        "it holds the adapters `one` and `two`; name one of these folders",
        "it holds the adapters `one` and `two`; name one of these folders",
    ]) {
        assert!(text.contains(words), "{text}");
    }
}

/// Regression: merging said that an embedding's magnitudes had a wrong shape, and training that merging was possible.
#[test]
fn an_embedding_with_magnitudes_is_refused_by_name_everywhere() {
    let mut case = cases().remove(0);
    case.config["vocab_size"] = 80.into();
    let config = case.model_config();
    let folder = tempfile::tempdir().unwrap();
    let hidden = config.hidden_size;
    let tensors: Vec<FolderTensor> = [
        ("lora_embedding_A", vec![2, 80]),
        ("lora_embedding_B", vec![hidden, 2]),
        ("lora_magnitude_vector", vec![hidden]),
    ]
    .into_iter()
    .map(|(part, shape)| {
        let name = format!("base_model.model.model.embed_tokens.{part}");
        FolderTensor::f32(&name, &shape, &vec![0.5; shape.iter().product()])
    })
    .collect();
    std::fs::write(folder.path().join("adapter_model.safetensors"), safetensors_bytes(&tensors)).unwrap();
    let settings = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true });
    std::fs::write(folder.path().join("adapter_config.json"), settings.to_string()).unwrap();
    for error in [
        AdapterMerge::open(folder.path(), &config).unwrap_err().to_string(),
        AdapterValues::open(folder.path(), &config).unwrap_err().to_string(),
    ] {
        assert!(error.contains("embed_tokens") && error.contains("an embedding decomposed"), "{error}");
        assert!(!error.contains("merges it"), "{error}");
    }
}

fn merged_cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/merged.json")).unwrap()
}

/// Magnitudes (DoRA) and biases are computed beside the model, at every instruction set and in f64; what changes other weights is refused with
/// what can be done with it.
#[test]
fn adapters_that_change_outputs_give_the_logits_of_peft_beside_their_model() {
    let served: Vec<Case> = serde_json::from_str(include_str!("../golden/served.json")).unwrap();
    let mut beside = Vec::new();
    for case in merged_cases().into_iter().chain(served) {
        let folder = tempfile::tempdir().unwrap();
        let adapter = saved(&case.name);
        for path in sources(&case, folder.path()) {
            let file = ModelFile::open(&path).unwrap();
            if let Err(error) = ServedAdapter::open(&adapter, &file, 1) {
                let error = error.to_string();
                assert!(error.contains("merges it into the weights"), "{}: {error}", case.name);
                continue;
            }
            for simd in SimdLevel::available() {
                let difference = case.difference_with(&path, Some(&adapter), simd);
                assert!(difference <= TOLERANCE, "{} with {simd:?}: differs by {difference}", case.name);
            }
            let reference = reference_logits(&path, Some(&adapter), &case.tokens);
            let difference = case.difference_of(&reference);
            assert!(difference <= TOLERANCE, "{} in f64: differs by {difference}", case.name);
            beside.push(case.name.clone());
        }
    }
    beside.dedup();
    let all = ["llama-dora", "qwen2-biases", "qwen2-bias-of-b", "phi3-dora", "qwen2-dora", "llama-bias-of-b"];
    assert_eq!(beside, all);
}

/// Adapters that are not plain LoRA, merged into files of both formats: magnitudes, biases, an adapted head and embedding that were one weight,
/// whole modules and rows of single tokens.
#[test]
fn adapters_that_change_more_than_products_are_merged_with_the_logits_of_peft() {
    let cases = merged_cases();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        for (number, path) in sources(&case, folder.path()).iter().enumerate() {
            let file = ModelFile::open(path).unwrap();
            let error = AdapterValues::open(&saved(&case.name), file.config()).unwrap_err().to_string();
            assert!(error.contains("merges it into the weights"), "{}: {error}", case.name);
            let merge = AdapterMerge::open(&saved(&case.name), file.config()).unwrap();
            let config = merge.config(file.config());
            let base = FileRows(&file);
            let rows = MergedRows::new(&base, &merge);
            let out = |name: &str| folder.path().join(format!("{number}-{name}"));
            write_hugging_face(&out("hf"), &config, &rows, FloatType::F32, &[], &[]).unwrap();
            let floats = Quantisation::Floats(FloatType::F32);
            write_gguf(&out("f32.gguf"), &config, &rows, floats, &[]).unwrap();
            for written in [out("hf"), out("f32.gguf")] {
                let difference = case.difference_with(&written, None, SimdLevel::detect());
                assert!(difference <= TOLERANCE, "{} {}: {difference}", case.name, written.display());
            }
            let plain = case.difference_with(path, None, SimdLevel::detect());
            assert!(plain > 100.0 * TOLERANCE, "{}: without the adapter only {plain}", case.name);
        }
    }
}

#[test]
fn an_adapter_to_be_merged_must_fit_its_model() {
    let config =
        |name: &str| merged_cases().into_iter().find(|case| case.name == name).unwrap().model_config();
    let error = |adapter: &str, model: &str, edit: fn(&mut Value)| {
        let folder = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            std::fs::copy(saved(adapter).join(file), folder.path().join(file)).unwrap();
        }
        let path = folder.path().join("adapter_config.json");
        let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut settings);
        std::fs::write(&path, settings.to_string()).unwrap();
        AdapterMerge::open(folder.path(), &config(model)).unwrap_err().to_string()
    };
    for (text, parts) in [
        (error("qwen2-biases", "llama-dora", |_| {}), ["bias", "has no weight"]),
        (
            error("qwen2-tokens", "qwen2-tokens", |settings| {
                settings["trainable_token_indices"] = Value::Null
            }),
            ["trainable_tokens_delta", "whose rows"],
        ),
        (
            error("qwen2-tokens", "qwen2-tokens", |settings| {
                settings["trainable_token_indices"][0] = 64.into()
            }),
            ["token 64", "64 tokens"],
        ),
        (
            error("llama-dora", "llama-dora", |settings| settings["use_dora"] = false.into()),
            ["lora_magnitude_vector", "`use_dora` is not set"],
        ),
        (error("llama-dora", "llama-dora", |settings| settings["r"] = 3.into()), ["lora_A", "[3, 64]"]),
        // Weights that are no numbers were once written.
        (
            error("llama-dora", "llama-dora", |settings| settings["lora_alpha"] = json!(1e40)),
            ["its scale", "is not a finite number"],
        ),
        (
            error("llama-dora", "llama-dora", |settings| settings["alpha_pattern"] = json!({ ".*": 1e40 })),
            ["its scale", "is not a finite number"],
        ),
    ] {
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}
