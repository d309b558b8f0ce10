//! Writes a tiny random model as a Hugging Face folder: 2 layers of width 64, a tokenizer with one token for each byte and
//! three control tokens, and the ChatML template.

use std::path::Path;

use serde_json::{Map, Value, json};

/// 256 bytes and 3 control tokens.
pub const VOCABULARY: usize = 259;
/// Tokens in the model's context.
pub const CONTEXT: usize = 8192;

const WIDTH: usize = 64;
const INNER: usize = 96;
const KEY_VALUE_WIDTH: usize = 32;
const LAYERS: usize = 2;
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes the model into `folder`, which is made.
pub fn write_tiny_model(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, content: Vec<u8>| std::fs::write(folder.join(name), content).expect(name);
    let json = |value: Value| value.to_string().into_bytes();
    write("config.json", json(config()));
    write("tokenizer.json", json(tokenizer()));
    write("tokenizer_config.json", json(json!({ "eos_token": "<|im_end|>", "chat_template": TEMPLATE })));
    write("model.safetensors", weights());
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": VOCABULARY,
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "float32", "attention_bias": false,
        "mlp_bias": false, "eos_token_id": 258,
    })
}

/// GPT-2's visible letter for each byte.
fn letter(byte: u8) -> char {
    let is_visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_visible(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|earlier| !is_visible(*earlier)).count() as u32;
    char::from_u32(256 + rank).expect("a letter")
}

fn tokenizer() -> Value {
    let bytes = (0..=255u8).map(|byte| (letter(byte).to_string(), json!(byte)));
    let control = CONTROL.iter().enumerate().map(|(index, text)| ((*text).to_owned(), json!(256 + index)));
    let vocabulary: Map<String, Value> = bytes.chain(control).collect();
    let added: Vec<Value> = CONTROL
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({ "id": 256 + index, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [] },
    })
}

fn weights() -> Vec<u8> {
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, WIDTH]),
        ("model.norm.weight".to_owned(), vec![WIDTH]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![WIDTH, WIDTH]),
            ("self_attn.k_proj", vec![KEY_VALUE_WIDTH, WIDTH]),
            ("self_attn.v_proj", vec![KEY_VALUE_WIDTH, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, WIDTH]),
            ("mlp.gate_proj", vec![INNER, WIDTH]),
            ("mlp.up_proj", vec![INNER, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, INNER]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let (mut header, mut data, mut random) = (Map::new(), Vec::new(), 1u32);
    for (name, shape) in tensors {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            // A linear congruential generator is random enough for weights nobody trusts.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (random >> 8) as f32 / 16_777_216.0 - 0.5;
            let value = if shape.len() == 1 { 1.0 } else { noise * 0.5 };
            data.extend_from_slice(&value.to_le_bytes());
        }
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    file
}
