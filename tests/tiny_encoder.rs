//! Writes a tiny random encoder as sentence-transformers writes folders: BERT with one layer of width 32, WordPiece, mean and unit length.

#![allow(unreachable_pub, dead_code, reason = "each test program takes what it needs")]

use std::path::Path;

use serde_json::{Map, Value, json};

/// Width of its vectors.
pub const ENCODER_WIDTH: usize = 32;
/// The most tokens of a text, `[CLS]` and `[SEP]` included.
pub const ENCODER_LIMIT: usize = 12;

const INNER: usize = 48;
const POSITIONS: usize = 16;
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
const WORDS: [&str; 8] = ["a", "cat", "sat", "on", "the", "mat", "##s", "dog"];

/// Writes the model into `folder`, which is made.
pub fn write_tiny_encoder(folder: &Path) {
    std::fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
    let write = |name: &str, content: Vec<u8>| std::fs::write(folder.join(name), content).expect(name);
    let json = |value: Value| value.to_string().into_bytes();
    write(
        "config.json",
        json(json!({
            "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "vocab_size": SPECIAL.len() + WORDS.len(),
            "hidden_size": ENCODER_WIDTH, "intermediate_size": INNER, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        })),
    );
    write("tokenizer.json", json(tokenizer()));
    write(
        "modules.json",
        json(json!([
            { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
            { "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
            { "idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize" },
        ])),
    );
    let pooling = json!({ "word_embedding_dimension": ENCODER_WIDTH, "pooling_mode_mean_tokens": true });
    write("1_Pooling/config.json", json(pooling));
    write(
        "config_sentence_transformers.json",
        json(json!({ "prompts": { "query": "the " }, "default_prompt_name": null })),
    );
    write("sentence_bert_config.json", json(json!({ "max_seq_length": ENCODER_LIMIT })));
    write("model.safetensors", weights());
}

fn tokenizer() -> Value {
    let texts = || SPECIAL.iter().chain(&WORDS).enumerate();
    let vocabulary: Map<String, Value> = texts().map(|(id, text)| ((*text).to_owned(), json!(id))).collect();
    let added: Vec<Value> = texts()
        .take(SPECIAL.len())
        .map(|(id, text)| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let special = |text: &str| json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let entry = |text: &str, id: usize| json!({ "id": text, "ids": [id], "tokens": [text] });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [special("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, special("[SEP]")], "pair": [],
            "special_tokens": { "[CLS]": entry("[CLS]", 2), "[SEP]": entry("[SEP]", 3) } },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary },
    })
}

fn weights() -> Vec<u8> {
    let (width, mut random) = (ENCODER_WIDTH, 7u32);
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    let mut push = |name: &str, shape: &[usize]| {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            // A linear congruential generator is random enough for weights nobody trusts.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend(((random >> 8) as f32 / 16_777_216.0 - 0.5).to_le_bytes());
        }
        let offsets = [begin, data.len()];
        header.insert(name.to_owned(), json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets }));
    };
    let tables = [("word", SPECIAL.len() + WORDS.len()), ("position", POSITIONS), ("token_type", 2)];
    for (name, rows) in tables {
        push(&format!("embeddings.{name}_embeddings.weight"), &[rows, width]);
    }
    for (name, shape) in [
        ("embeddings.LayerNorm", vec![width]),
        ("encoder.layer.0.attention.self.query", vec![width, width]),
        ("encoder.layer.0.attention.self.key", vec![width, width]),
        ("encoder.layer.0.attention.self.value", vec![width, width]),
        ("encoder.layer.0.attention.output.dense", vec![width, width]),
        ("encoder.layer.0.attention.output.LayerNorm", vec![width]),
        ("encoder.layer.0.intermediate.dense", vec![INNER, width]),
        ("encoder.layer.0.output.dense", vec![width, INNER]),
        ("encoder.layer.0.output.LayerNorm", vec![width]),
    ] {
        push(&format!("{name}.weight"), &shape);
        push(&format!("{name}.bias"), &shape[..1]);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    file
}
