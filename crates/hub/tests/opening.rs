//! What stands beside the weights, read within limits: makers' advice for sampling, and layers behind an encoder.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use zhenjin_hub::{export_gguf, open, open_embedder};
use zhenjin_model::write::{FloatType, Quantisation};

use crate::tiny_encoder::{ENCODER_WIDTH, write_tiny_encoder};
use crate::tiny_model::write_tiny_model;

const NOT_NEGATIVE: &str = "must be a finite number of at least 0";
const SHARE: &str = "must be a number from 0 to 1";
const POSITIVE: &str = "must be a finite number above 0";

/// Regression: advice outside the ranges of sampling was taken over, and then every request that did not send the field was refused as if
/// the client had made the mistake. -1 as the number of candidates, which keeps all, was no count.
#[test]
fn advice_that_no_answer_could_follow_names_file_field_and_range() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("model");
    write_tiny_model(&folder, FloatType::F32);
    let with = |field: &str, value: &str| {
        let text = format!(r#"{{"{field}": {value}}}"#);
        fs::write(folder.join("generation_config.json"), text).unwrap();
        open(&folder).map(|model| model.generation_defaults).map_err(|error| error.to_string())
    };
    for (field, value, range) in [
        ("temperature", "-1", NOT_NEGATIVE),
        ("temperature", "1e39", NOT_NEGATIVE),
        ("top_p", "1.5", SHARE),
        ("top_p", "-0.1", SHARE),
        ("min_p", "2", SHARE),
        ("repetition_penalty", "0", POSITIVE),
        ("repetition_penalty", "-1.1", POSITIVE),
        ("repetition_penalty", "1e39", POSITIVE),
        ("top_k", "-2", "must be a whole number from 0 to 4294967295, or -1 for all"),
        ("top_k", "4294967296", "must be a whole number from 0 to 4294967295"),
        ("top_k", "1.5", "is not a count"),
    ] {
        let error = with(field, value).unwrap_err();
        let expected = format!("generation_config.json: {field} {range}");
        assert!(error.contains(&expected), "{field} {value}: {error}");
    }
    for (field, value) in [("top_p", "0"), ("top_p", "1"), ("min_p", "1"), ("repetition_penalty", "1.1")] {
        with(field, value).unwrap_or_else(|error| panic!("{field} {value}: {error}"));
    }
    assert_eq!(with("temperature", "0").unwrap().temperature, Some(0.0));
    for (value, expected) in [("-1", Some(0)), ("0", Some(0)), ("40", Some(40)), ("null", None)] {
        assert_eq!(with("top_k", value).unwrap().top_k, expected);
    }
}

/// Writes another value in the place of a key's own, of the same type.
fn replace(file: &Path, key: &str, value: [u8; 4]) {
    let mut bytes = fs::read(file).unwrap();
    let place = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    let start = place + key.len() + size_of::<u32>();
    bytes[start..start + value.len()].copy_from_slice(&value);
    fs::write(file, bytes).unwrap();
}

#[test]
fn advice_in_a_gguf_file_has_the_same_ranges() {
    let temporary = tempfile::tempdir().unwrap();
    let [folder, file] = ["model", "model.gguf"].map(|name| temporary.path().join(name));
    write_tiny_model(&folder, FloatType::F32);
    let advice =
        r#"{"temperature": 0.5, "top_p": 0.5, "min_p": 0.5, "repetition_penalty": 1.5, "top_k": 20}"#;
    fs::write(folder.join("generation_config.json"), advice).unwrap();
    let exported = open(&folder).unwrap();
    let with = |key: &str, value: [u8; 4]| {
        export_gguf(&exported, None, &file, Quantisation::Floats(FloatType::F32)).unwrap();
        replace(&file, key, value);
        open(&file).map(|model| model.generation_defaults).map_err(|error| error.to_string())
    };
    for (name, value, range) in [
        ("temp", -1.0f32, NOT_NEGATIVE),
        ("temp", f32::INFINITY, NOT_NEGATIVE),
        ("top_p", 1.5, SHARE),
        ("min_p", f32::NAN, SHARE),
        ("penalty_repeat", 0.0, POSITIVE),
        ("penalty_repeat", f32::INFINITY, POSITIVE),
    ] {
        let key = format!("general.sampling.{name}");
        let error = with(&key, value.to_le_bytes()).unwrap_err();
        assert!(error.contains(&format!("metadata `{key}`: {range}")), "{key} {value}: {error}");
    }
    let top_k = |value: i32| with("general.sampling.top_k", value.to_le_bytes());
    assert_eq!([-1, 0, 7].map(|value| top_k(value).unwrap().top_k), [Some(0), Some(0), Some(7)]);
    let error = top_k(-2).unwrap_err();
    assert!(error.contains("metadata `general.sampling.top_k`: must be a whole number from 0"), "{error}");
}

/// A layer that keeps the width: its weights are zeros.
fn write_layer(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let config = json!({ "in_features": ENCODER_WIDTH, "out_features": ENCODER_WIDTH, "bias": false });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = ENCODER_WIDTH * ENCODER_WIDTH * size_of::<f32>();
    let shape = [ENCODER_WIDTH, ENCODER_WIDTH];
    let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] });
    let header = json!({ "linear.weight": tensor }).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + bytes, 0);
    fs::write(folder.join("model.safetensors"), file).unwrap();
}

/// Regression: a list of modules could name one layer any number of times, and each was read into memory before any plan.
#[test]
fn an_encoder_has_at_most_sixteen_layers_behind_its_pooling() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("encoder");
    write_tiny_encoder(&folder);
    write_layer(&folder.join("2_Dense"));
    let layers = |count: usize| {
        let module = |class: &str, path: &str| json!({ "path": path, "type": format!("sentence_transformers.models.{class}") });
        let mut modules = vec![module("Transformer", ""), module("Pooling", "1_Pooling")];
        modules.resize(modules.len() + count, module("Dense", "2_Dense"));
        fs::write(folder.join("modules.json"), Value::from(modules).to_string()).unwrap();
        open_embedder(&folder).map(|opened| opened.pooling.unwrap().dense.len())
    };
    assert_eq!(layers(16).unwrap(), 16);
    for count in [17, 10_000] {
        let error = layers(count).unwrap_err().to_string();
        let expected = format!("there are {count} layers Dense; at most 16 are read");
        assert!(error.contains("modules.json: ") && error.contains(&expected), "{error}");
    }
}
