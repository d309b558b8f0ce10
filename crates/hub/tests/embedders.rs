//! Decoders that make vectors: told from those that write by their files, and the same vectors from a folder and from the GGUF file made of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use zhenjin_hub::{export_gguf, is_embedder, open, open_embedder};
use zhenjin_model::LoadOptions;
use zhenjin_model::embedder::EmbedderRunner;
use zhenjin_model::encoder::{EncoderPooling, PoolingMode};
use zhenjin_model::write::{FloatType, Quantisation};
use zhenjin_tensor::{SimdLevel, ThreadTeam};

use crate::tiny_embedder::make_embedder;
use crate::tiny_model::write_tiny_model;

/// What [`make_embedder`] puts behind texts; 261 ends a turn.
const LAST: (&str, u32) = ("<|endoftext|>", 259);
const F32: Quantisation = Quantisation::Floats(FloatType::F32);

fn write(folder: &Path) {
    write_tiny_model(folder, FloatType::F32);
    make_embedder(folder, LAST.0, LAST.1);
}

/// The tokens of texts and their vectors.
fn vectors(path: &Path) -> (Vec<Vec<u32>>, Vec<Vec<f32>>) {
    let opened = open_embedder(path).unwrap();
    let texts = ["hello <|im_end|>", "", "a longer text, \u{4f60}\u{597d}"];
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| opened.tokenizer.encode(text).unwrap()).collect();
    let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
    let mut runner = EmbedderRunner::load(&opened.file, &options, 64, opened.max_tokens).unwrap();
    let vectors = runner.embed(&tokens, &opened.pooling.unwrap()).unwrap();
    (tokens, vectors)
}

#[test]
fn an_embedder_stays_one_in_a_gguf_file() {
    let temporary = tempfile::tempdir().unwrap();
    let [folder, gguf, again, eight] =
        ["model", "model.gguf", "again.gguf", "q8_0.gguf"].map(|name| temporary.path().join(name));
    write_tiny_model(&folder, FloatType::F32);
    assert!(!is_embedder(&folder));
    make_embedder(&folder, LAST.0, LAST.1);
    assert!(is_embedder(&folder));
    let opened = open_embedder(&folder).unwrap();
    assert_eq!(opened.pooling, Some(EncoderPooling::of_mode(PoolingMode::Last, true)));
    assert_eq!((opened.prompts["query"].as_str(), opened.max_tokens), ("Instruct: find\nQuery:", 512));
    assert_eq!(opened.warnings, Vec::<String>::new());
    export_gguf(&open(&folder).unwrap(), None, &gguf, F32).unwrap();
    export_gguf(&open(&gguf).unwrap(), None, &again, F32).unwrap();
    export_gguf(&open(&folder).unwrap(), None, &eight, Quantisation::Q8_0).unwrap();
    let (tokens, expected) = vectors(&folder);
    // The texts of control tokens are control tokens, as for the library, and one ends every text.
    assert!(tokens.iter().all(|text| text.last() == Some(&LAST.1)));
    assert_eq!((tokens[1].len(), tokens[0][tokens[0].len() - 2]), (1, 261));
    for path in [&gguf, &again] {
        assert!(is_embedder(path), "{}", path.display());
        assert_eq!(open_embedder(path).unwrap().warnings, Vec::<String>::new());
        assert_eq!(vectors(path), (tokens.clone(), expected.clone()), "{}", path.display());
    }
    let (_, eight) = vectors(&eight);
    for (vector, expected) in eight.iter().zip(&expected) {
        let cosine: f32 = vector.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.99, "{cosine}");
    }
}

/// What a GGUF file cannot say of a folder's vectors is not left out of it.
#[test]
fn an_embedder_whose_vectors_no_gguf_file_can_describe_is_not_written() {
    let temporary = tempfile::tempdir().unwrap();
    let [folder, gguf] = ["model", "model.gguf"].map(|name| temporary.path().join(name));
    write(&folder);
    let refusal = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = folder.join(file);
        let before = fs::read(&path).unwrap();
        let mut value: Value = serde_json::from_slice(&before).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        let error = export_gguf(&open(&folder).unwrap(), None, &gguf, F32).unwrap_err().to_string();
        fs::write(&path, before).unwrap();
        error
    };
    let error = refusal("1_Pooling/config.json", &|pooling| {
        *pooling = json!({ "pooling_mode_weightedmean_tokens": true });
    });
    assert!(error.contains("a GGUF file cannot say how their hidden states are pooled"), "{error}");
    let error = refusal("modules.json", &|modules| {
        modules.as_array_mut().unwrap().pop();
    });
    assert!(error.contains("that they are not of unit length"), "{error}");
}

#[test]
fn folders_of_decoders_are_told_apart_by_their_modules_and_class() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("model");
    write(&folder);
    let change = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = folder.join(file);
        let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
    };
    // A module that does not pool makes no vectors of texts; one that reads both ways is refused by name.
    change("config.json", &|config| config["is_causal"] = json!(false));
    let error = open_embedder(&folder).unwrap_err().to_string();
    assert!(is_embedder(&folder) && error.contains("field `is_causal`"), "{error}");
    change("config.json", &|config| config["is_causal"] = json!(null));
    open_embedder(&folder).unwrap();
    change("modules.json", &|modules| drop(modules.as_array_mut().unwrap().drain(1..)));
    assert!(!is_embedder(&folder));
    open(&folder).unwrap();
    // A class without a head writes nothing: it is an embedder that does not say how.
    change("config.json", &|config| config["architectures"] = json!(["Qwen3Model"]));
    fs::remove_file(folder.join("modules.json")).unwrap();
    assert!(is_embedder(&folder) && open_embedder(&folder).unwrap().pooling.is_none());
    let error = open(&folder).unwrap_err().to_string();
    assert!(error.contains("without its head it writes no text, but gives vectors of texts"), "{error}");
}
