//! Hand-made malformed Hugging Face folders: each must give an error that names the file and the place.

use std::path::Path;

use serde_json::{Value, json};
use zhenjin_model::ModelFile;

use super::hugging_face_writer::{
    FolderTensor, safetensors_bytes, safetensors_with_header, tiny_config, tiny_tensors, write_folder,
};

/// Faults of `config.json`: fields to set, where the error must say it is, and what.
#[allow(clippy::too_many_lines, reason = "a table")]
fn configuration_faults() -> Vec<(Value, &'static str, &'static str)> {
    let scaling = |value: Value| json!({ "rope_scaling": value });
    vec![
        (json!({"model_type": null}), "field `model_type`", "is missing"),
        (json!({"model_type": 5}), "field `model_type`", "must be a string"),
        (json!({"model_type": "gpt2"}), "field `model_type`", "supported are llama, mistral, qwen2, qwen3"),
        (
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "field `architectures`",
            "`LlamaForCausalLM`",
        ),
        // Regression: why a model that makes embeddings as it was saved has no use here was not said.
        (
            json!({"architectures": ["LlamaModel"]}),
            "field `architectures`",
            "without its head it writes no text, but gives vectors of texts",
        ),
        (json!({"vocab_size": null}), "field `vocab_size`", "is missing"),
        (json!({"vocab_size": -1}), "field `vocab_size`", "must be a non-negative whole number, found `-1`"),
        (json!({"vocab_size": 8.5}), "field `vocab_size`", "must be a non-negative whole number"),
        (json!({"vocab_size": 1_u64 << 60}), "configuration", "the vocabulary must be"),
        (json!({"hidden_size": "16"}), "field `hidden_size`", "must be a non-negative whole number"),
        (json!({"hidden_size": 17}), "field `num_attention_heads`", "do not divide"),
        (json!({"hidden_size": 32}), "tensor `model.embed_tokens.weight`", "implies shape [8, 32]"),
        (json!({"num_hidden_layers": 0}), "configuration", "the number of layers must be"),
        (json!({"num_hidden_layers": 2}), "tensor `model.layers.1.input_layernorm.weight`", "is missing"),
        (json!({"num_attention_heads": 0}), "field `num_attention_heads`", "0 heads"),
        (json!({"num_key_value_heads": 0}), "configuration", "key/value heads must be"),
        (json!({"num_key_value_heads": 3, "head_dim": 8}), "configuration", "cannot share 3 key/value heads"),
        (json!({"head_dim": 7}), "configuration", "multiple of 8"),
        (json!({"rms_norm_eps": null}), "field `rms_norm_eps`", "is missing"),
        (json!({"rms_norm_eps": 0}), "configuration", "epsilon"),
        (json!({"max_position_embeddings": null}), "field `max_position_embeddings`", "is missing"),
        (json!({"hidden_act": "gelu"}), "field `hidden_act`", "must be `silu`, found `gelu`"),
        (json!({"attention_bias": "yes"}), "field `attention_bias`", "must be true or false"),
        (json!({"attention_bias": true}), "tensor `model.layers.0.self_attn.q_proj.bias`", "is missing"),
        (json!({"mlp_bias": true}), "tensor `model.layers.0.mlp.gate_proj.bias`", "is missing"),
        (json!({"tie_word_embeddings": false}), "tensor `lm_head.weight`", "is missing"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "field `quantization_config`", "`gptq`"),
        (json!({"partial_rotary_factor": 0.5}), "field `partial_rotary_factor`", "must be 1"),
        (json!({"sliding_window": 16}), "field `sliding_window`", "no sliding window"),
        (json!({"num_local_experts": 8}), "field `num_local_experts`", "not supported"),
        (json!({"attention_multiplier": 0.5}), "field `attention_multiplier`", "not supported"),
        (json!({"query_pre_attn_scalar": 8}), "field `query_pre_attn_scalar`", "not supported"),
        (json!({"final_logit_softcapping": 30.0}), "field `final_logit_softcapping`", "not supported"),
        (
            json!({"use_bidirectional_attention": true}),
            "field `use_bidirectional_attention`",
            "not supported",
        ),
        (json!({"hidden_activation": "gelu"}), "field `hidden_activation`", "must be `silu`, found `gelu`"),
        (
            scaling(json!({"type": "longrope", "short_factor": [1, 1, 1, 1]})),
            "field `rope_scaling.rope_type`",
            "`longrope` is not supported",
        ),
        (json!({"rope_theta": 0}), "configuration", "the base of RoPE"),
        (scaling(json!([])), "field `rope_scaling`", "must be an object"),
        (scaling(json!({"type": "dynamic", "factor": 2.0})), "field `rope_scaling.rope_type`", "`dynamic`"),
        (scaling(json!({"type": "linear"})), "field `rope_scaling.factor`", "is missing"),
        (scaling(json!({"type": "linear", "factor": 0.0})), "configuration", "factor of RoPE scaling"),
        (
            scaling(json!({"type": "linear", "factor": 2, "low_freq_factor": 1})),
            "rope_scaling.low_freq_factor",
            "unknown",
        ),
        (scaling(json!({"type": "linear", "rope_type": "yarn"})), "field `rope_scaling.type`", "contradicts"),
        (
            scaling(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1})),
            "configuration",
            "low_freq_factor < high_freq_factor",
        ),
        (
            scaling(json!({"full_attention": {"rope_theta": 1e4}})),
            "rope_scaling.full_attention",
            "differ between layers",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rope_theta": 1e4}),
            "field `rope_theta`",
            "only one of them",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"rope_type": "linear", "factor": 2}}),
            "field `rope_scaling`",
            "differs from it",
        ),
        (
            json!({"model_type": "qwen2", "architectures": null, "layer_types": ["chunked_attention"]}),
            "field `layer_types`",
            "`\"chunked_attention\"` of layer 0",
        ),
        (
            json!({"model_type": "qwen2", "architectures": null, "layer_types": ["sliding_attention"]}),
            "field `layer_types`",
            "do not give a window",
        ),
        (
            json!({"model_type": "qwen2", "architectures": null, "layer_types": []}),
            "field `layer_types`",
            "0 entries",
        ),
        (
            json!({"model_type": "mistral", "architectures": null, "attention_bias": true}),
            "attention_bias",
            "no such bias",
        ),
    ]
}

#[test]
fn every_fault_of_a_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (changes, place, problem) in configuration_faults() {
        let mut config = tiny_config();
        for (field, value) in changes.as_object().unwrap() {
            config[field] = value.clone();
        }
        write_folder(folder.path(), &config, &tiny_tensors());
        let message = open_error(folder.path(), &changes.to_string());
        assert!(message.contains(place) && message.contains(problem), "{changes}: {message}");
        assert!(message.starts_with(folder.path().to_str().unwrap()), "{message}");
    }
}

#[test]
fn configurations_that_are_not_json_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    let path = folder.path().join("config.json");
    let deep = format!("{{\"a\": {}", "[".repeat(200_000));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20));
    for (text, problem) in [
        ("", "EOF"),
        ("[]", "must be an object"),
        ("{\"vocab_size\": 8, \"vocab_size\": 9}", "the field `vocab_size` occurs twice"),
        ("{\"vocab_size\": 1e999}", "out of range"),
        ("{\"vocab_size\": \"\\ud800\"}", "line 1"),
        (deep.as_str(), "recursion limit"),
        (large.as_str(), "the most that is accepted"),
    ] {
        std::fs::write(&path, text).unwrap();
        let message = open_error(folder.path(), text.get(..40).unwrap_or(text));
        assert!(message.contains("config.json") && message.contains(problem), "{message}");
    }
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(open_error(folder.path(), "not UTF-8").contains("config.json"));
    let text = tiny_config().to_string();
    for length in 0..text.len() {
        std::fs::write(&path, &text[..length]).unwrap();
        open_error(folder.path(), &format!("cut at byte {length}"));
    }
}

/// Faults of a safetensors header, written by hand.
const HEADER_FAULTS: &[(&str, usize, &str, &str)] = &[
    ("", 0, "header", "does not begin with `{`"),
    ("[]", 0, "header", "does not begin with `{`"),
    ("{", 0, "header", "EOF"),
    ("{}x", 0, "header", "trailing characters"),
    ("{}", 4, "data", "its tensors use 0"),
    (r#"{"a": 1}"#, 0, "tensor `a`", "an object with dtype, shape and data_offsets"),
    (r#"{"a": {}}"#, 0, "tensor `a`", "`dtype` is missing"),
    (r#"{"a": {"dtype": "F32", "shape": [1]}}"#, 4, "tensor `a`", "`data_offsets` is missing"),
    (r#"{"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}"#, 4, "tensor `a`", "type `F31`"),
    (
        r#"{"a": {"dtype": "F32", "dtype": "F16", "shape": [1], "data_offsets": [0, 4]}}"#,
        4,
        "tensor `a`",
        "occurs twice",
    ),
    (r#"{"a": {"dtype": "F32", "size": [1], "data_offsets": [0, 4]}}"#, 4, "tensor `a`", "`size` is unknown"),
    (r#"{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}"#, 4, "tensor `a`", "`-1`"),
    (r#"{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}"#, 4, "tensor `a`", "1.5"),
    (
        r#"{"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}}"#,
        4,
        "tensor `a`",
        "at most 8",
    ),
    (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}"#, 4, "tensor `a`", "at most 2"),
    (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}}"#, 4, "tensor `a`", "must be two numbers"),
    (
        r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#,
        4,
        "tensor `a`",
        "end before they begin",
    ),
    (
        r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#,
        4,
        "tensor `a`",
        "lie beyond the 4 bytes",
    ),
    (r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}"#, 4, "tensor `a`", "need 8 bytes"),
    (
        r#"{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}"#,
        0,
        "tensor `a`",
        "need more than 2^64 bytes",
    ),
    (
        r#"{"a": {"dtype": "F32", "shape": [18446744073709551616], "data_offsets": [0, 0]}}"#,
        0,
        "tensor `a`",
        "line 1",
    ),
    (
        r#"{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "b": {"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        12,
        "tensor `b`",
        "overlap other data",
    ),
    (
        r#"{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "b": {"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
        12,
        "tensor `b`",
        "leave a gap",
    ),
    (
        r#"{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        8,
        "tensor `a`",
        "occurs twice",
    ),
    (r#"{"__metadata__": {"a": 1}}"#, 0, "`__metadata__`", "expected a string"),
    (r#"{"": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}"#, 4, "tensor ``", "1 to 255 bytes"),
];

#[test]
fn every_fault_of_a_safetensors_header_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    let path = folder.path().join("model.safetensors");
    for (header, data_bytes, place, problem) in HEADER_FAULTS {
        std::fs::write(&path, safetensors_with_header(header, *data_bytes)).unwrap();
        let message = open_error(folder.path(), header);
        assert!(message.contains("model.safetensors"), "{header}: {message}");
        assert!(message.contains(place) && message.contains(problem), "{header}: {message}");
    }
    for (bytes, problem) in [
        (vec![], "8 bytes of header length"),
        (vec![1; 7], "8 bytes of header length"),
        (u64::MAX.to_le_bytes().to_vec(), "claims 18446744073709551615 bytes"),
        (1000_u64.to_le_bytes().to_vec(), "the file has only 0"),
        (b"\x04\0\0\0\0\0\0\0{\xff\xfe}".to_vec(), "line 1"),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let message = open_error(folder.path(), "length");
        assert!(message.contains("model.safetensors: header") && message.contains(problem), "{message}");
    }
}

#[test]
fn a_safetensors_file_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), &tiny_config(), &tiny_tensors());
    ModelFile::open(folder.path()).expect("the whole folder is well-formed");
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::metadata(&path).unwrap().len();
    for length in (0..whole).rev() {
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let message = open_error(folder.path(), &format!("cut at byte {length}"));
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn faults_of_the_set_of_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut integers = tiny_tensors();
    integers[2] = FolderTensor { dtype: safetensors::Dtype::I32, ..integers[2].clone() };
    let mut transposed = tiny_tensors();
    transposed[3].shape.reverse();
    let mut extra_bias = tiny_tensors();
    extra_bias.push(FolderTensor::f32("model.layers.0.self_attn.q_proj.bias", &[16], &[0.0; 16]));
    let mut extra_layer = tiny_tensors();
    extra_layer.push(FolderTensor::f32("model.layers.1.mlp.up_proj.weight", &[1], &[0.0]));
    for (tensors, problem) in [
        (integers, "tensor `model.layers.0.self_attn.q_proj.weight`: type I32 is not supported"),
        (
            transposed,
            "tensor `model.layers.0.self_attn.k_proj.weight`: the configuration implies shape [8, 16]",
        ),
        (extra_bias, "tensor `model.layers.0.self_attn.q_proj.bias`: the configuration says"),
        (extra_layer, "tensor `model.layers.1.mlp.up_proj.weight`: the configuration says"),
    ] {
        write_folder(folder.path(), &tiny_config(), &tensors);
        let message = open_error(folder.path(), problem);
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn faults_of_an_index_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), tiny_config().to_string()).unwrap();
    std::fs::write(folder.path().join("1.safetensors"), safetensors_bytes(&tiny_tensors()[..5])).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    for (text, problem) in [
        ("", "index: EOF"),
        ("{}", "`weight_map` is missing"),
        (
            r#"{"weight_map": {"model.norm.weight": "../1.safetensors"}}"#,
            "is not the name of a .safetensors file",
        ),
        (r#"{"weight_map": {"model.norm.weight": "2.safetensors"}}"#, "2.safetensors: cannot open"),
        (r#"{"weight_map": {"model.norm.weight": "1.safetensors"}}"#, "does not hold it"),
        (r#"{"weight_map": {"a": "1.safetensors", "a": "1.safetensors"}}"#, "tensor `a` occurs twice"),
        (
            r#"{"weight_map": {"model.embed_tokens.weight": "1.safetensors"}}"#,
            "tensor `model.layers.0.input_layernorm.weight` is missing",
        ),
    ] {
        std::fs::write(&index, text).unwrap();
        let message = open_error(folder.path(), text);
        assert!(message.contains(problem), "{text}: {message}");
    }
}

fn open_error(path: &Path, case: &str) -> String {
    match ModelFile::open(path) {
        Ok(_) => panic!("{case}: the folder was accepted"),
        Err(error) => error.to_string(),
    }
}
