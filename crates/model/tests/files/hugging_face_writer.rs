//! Writes Hugging Face folders, well-formed or with chosen faults.

use std::path::Path;

use serde_json::{Value, json};

/// One tensor of a safetensors file.
#[derive(Clone)]
pub(super) struct FolderTensor {
    pub(super) name: String,
    pub(super) dtype: safetensors::Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

impl FolderTensor {
    pub(super) fn f32(name: &str, shape: &[usize], values: &[f32]) -> FolderTensor {
        FolderTensor {
            name: name.to_owned(),
            dtype: safetensors::Dtype::F32,
            shape: shape.to_vec(),
            data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// A safetensors file as the reference library writes it.
pub(super) fn safetensors_bytes(tensors: &[FolderTensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = safetensors::tensor::TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data)
            .expect("data fits type and shape");
        (tensor.name.clone(), view)
    });
    safetensors::serialize(views, None).expect("tensors can be serialised")
}

/// A safetensors file with any text as its header.
pub(super) fn safetensors_with_header(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

/// The configuration of [`tiny_tensors`]: a Llama of one layer, hidden size 16, two heads of 8 with one key/value head.
pub(super) fn tiny_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 8,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
    })
}

/// The weights of [`tiny_config`].
pub(super) fn tiny_tensors() -> Vec<FolderTensor> {
    [
        ("model.embed_tokens.weight", &[8, 16][..]),
        ("model.layers.0.input_layernorm.weight", &[16]),
        ("model.layers.0.self_attn.q_proj.weight", &[16, 16]),
        ("model.layers.0.self_attn.k_proj.weight", &[8, 16]),
        ("model.layers.0.self_attn.v_proj.weight", &[8, 16]),
        ("model.layers.0.self_attn.o_proj.weight", &[16, 16]),
        ("model.layers.0.post_attention_layernorm.weight", &[16]),
        ("model.layers.0.mlp.gate_proj.weight", &[24, 16]),
        ("model.layers.0.mlp.up_proj.weight", &[24, 16]),
        ("model.layers.0.mlp.down_proj.weight", &[16, 24]),
        ("model.norm.weight", &[16]),
    ]
    .into_iter()
    .map(|(name, shape)| FolderTensor::f32(name, shape, &vec![0.25; shape.iter().product()]))
    .collect()
}

/// Writes a folder with one weights file.
pub(super) fn write_folder(folder: &Path, config: &Value, tensors: &[FolderTensor]) {
    std::fs::write(folder.join("config.json"), config.to_string()).expect("the folder is writable");
    std::fs::write(folder.join("model.safetensors"), safetensors_bytes(tensors))
        .expect("the folder is writable");
}
