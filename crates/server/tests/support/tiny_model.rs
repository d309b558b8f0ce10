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
const END_OF_TURN: usize = 258;
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes the model into `folder`, which is made.
pub fn write_tiny_model(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, content: Vec<u8>| std::fs::write(folder.join(name), content).expect(name);
    let json = |value: Value| value.to_string().into_bytes();
    write("config.json", json(config(VOCABULARY, true)));
    write("tokenizer.json", json(tokenizer(&[])));
    write("tokenizer_config.json", json(json!({ "eos_token": "<|im_end|>", "chat_template": TEMPLATE })));
    write("model.safetensors", weights());
}

/// The ChatML template whose generation prompt ends with `opening`.
pub fn template_that_ends_with(opening: &str) -> String {
    TEMPLATE.replace("assistant\n{% endif %}", &format!("assistant\n{opening}{{% endif %}}"))
}

/// Writes a model that answers every prompt that ends with a line break with `script`, one token for each of its texts, no
/// two of which may be equal, and then ends its turn.
///
/// Its layers add nothing, so that a token's embedding alone decides on the next one: the head's row of a token is the
/// embedding of the one before it in the script.
pub fn write_scripted_model(folder: &Path, template: &str, script: &[&str]) {
    std::fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, content: Vec<u8>| std::fs::write(folder.join(name), content).expect(name);
    let json = |value: Value| value.to_string().into_bytes();
    let vocabulary = VOCABULARY + script.len();
    write("config.json", json(config(vocabulary, false)));
    write("tokenizer.json", json(tokenizer(script)));
    write("tokenizer_config.json", json(json!({ "eos_token": "<|im_end|>", "chat_template": template })));

    let mut random = 1u32;
    let mut sign = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if random >> 31 == 0 { 1.0 } else { -1.0 }
    };
    let embeddings: Vec<f32> = (0..vocabulary * WIDTH).map(|_| sign()).collect();
    let mut head = vec![0.0; vocabulary * WIDTH];
    let order: Vec<usize> =
        [usize::from(b'\n')].into_iter().chain(VOCABULARY..vocabulary).chain([END_OF_TURN]).collect();
    for pair in order.windows(2) {
        for place in 0..WIDTH {
            head[pair[1] * WIDTH + place] = 4.0 * embeddings[pair[0] * WIDTH + place];
        }
    }
    let mut file = SafeTensors::default();
    file.push("model.embed_tokens.weight", &[vocabulary, WIDTH], embeddings);
    file.push("lm_head.weight", &[vocabulary, WIDTH], head);
    for (name, shape) in shapes_of_layers() {
        let value = if shape.len() == 1 { 1.0 } else { 0.0 };
        let values = vec![value; shape.iter().product()];
        file.push(&name, &shape, values);
    }
    write("model.safetensors", file.bytes());
}

fn config(vocabulary: usize, tied: bool) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": vocabulary,
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": tied, "torch_dtype": "float32", "attention_bias": false,
        "mlp_bias": false, "eos_token_id": END_OF_TURN,
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

/// A tokenizer of bytes and control tokens, and of `added` texts that are tokens as a whole.
fn tokenizer(added: &[&str]) -> Value {
    let bytes = (0..=255u8).map(|byte| (letter(byte).to_string(), json!(byte)));
    let control = CONTROL.iter().enumerate().map(|(index, text)| ((*text).to_owned(), json!(256 + index)));
    let vocabulary: Map<String, Value> = bytes.chain(control).collect();
    let added: Vec<Value> = CONTROL
        .iter()
        .chain(added)
        .enumerate()
        .map(|(index, text)| {
            json!({ "id": 256 + index, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": index < CONTROL.len() })
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
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, WIDTH])];
    tensors.extend(shapes_of_layers());
    let (mut file, mut random) = (SafeTensors::default(), 1u32);
    for (name, shape) in tensors {
        let values = (0..shape.iter().product::<usize>()).map(|_| {
            // A linear congruential generator is random enough for weights nobody trusts.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (random >> 8) as f32 / 16_777_216.0 - 0.5;
            if shape.len() == 1 { 1.0 } else { noise * 0.5 }
        });
        file.push(&name, &shape, values.collect());
    }
    file.bytes()
}

/// Names and shapes of everything but the embeddings.
fn shapes_of_layers() -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![("model.norm.weight".to_owned(), vec![WIDTH])];
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
    tensors
}

/// A file of tensors in f32.
#[derive(Default)]
struct SafeTensors {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl SafeTensors {
    fn push(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let begin = self.data.len();
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let offsets = [begin, self.data.len()];
        self.header
            .insert(name.to_owned(), json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
    }

    fn bytes(self) -> Vec<u8> {
        let header = Value::Object(self.header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&self.data);
        file
    }
}
