//! A tiny model as a Hugging Face folder, for the tests of several crates, which take this file in by its path.

use std::path::Path;
use std::sync::Arc;

use zhenjin_model::config::{ModelConfig, QueryKeyNorm, RopeConfig};
use zhenjin_model::testing::tiny_config;
use zhenjin_model::write::{FloatType, FolderFile, write_hugging_face};
use zhenjin_model::{Deviation, InitialisationRule, LoadOptions, initialise};
use zhenjin_tensor::{SimdLevel, ThreadTeam};
use zhenjin_tokenizer::GgufVocabulary;

pub(crate) const TEMPLATE: &str =
    "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}<|im_start|>";

/// Bytes, two merges and control tokens: 262 ids, of which <|im_end|> ends a turn.
pub(crate) fn vocabulary() -> GgufVocabulary {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let (same, others): (Vec<u8>, Vec<u8>) = (0..=255).partition(printable);
    let others = others.iter().enumerate().map(|(index, byte)| (*byte, char::from_u32(256 + index as u32)));
    let mut characters: Vec<(u8, Option<char>)> =
        same.iter().map(|byte| (*byte, Some(char::from(*byte)))).chain(others).collect();
    characters.sort_unstable();
    let bytes = characters.into_iter().filter_map(|(_, character)| character).map(String::from);
    let mut tokens: Vec<String> = bytes.collect();
    tokens.extend(["he", "ll", "hell", "<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let mut token_types = vec![1; 259];
    token_types.extend([3; 3]);
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        tokens,
        token_types,
        merges: ["h e", "l l", "he ll"].map(str::to_owned).to_vec(),
        eos: Some(261),
        add_bos: Some(false),
        ..GgufVocabulary::default()
    }
}

/// Writes the folder: a Qwen3 of two layers with two rows of embedding that no token has.
pub(crate) fn write_tiny_model(folder: &Path, dtype: FloatType) {
    write_model(folder, dtype, tiny_config());
}

/// The same model with other sizes.
pub(crate) fn write_model(folder: &Path, dtype: FloatType, tiny: ModelConfig) {
    let config = ModelConfig {
        architecture: "qwen3".to_owned(),
        vocabulary_size: 264,
        qk_norm: QueryKeyNorm::Heads,
        rope: RopeConfig { base: 1_000_000.0, ..tiny.rope.clone() },
        ..tiny
    };
    let team = Arc::new(ThreadTeam::new(1).expect("a team of one"));
    let options = LoadOptions { simd: SimdLevel::detect(), team };
    let rule = InitialisationRule {
        embedding: Deviation::Fixed(1.0),
        matrices: Deviation::PerInput(2.0),
        ..InitialisationRule::default()
    };
    let weights = initialise(&config, &rule, 5, &options).expect("there is memory");
    let (tokenizer, settings) = vocabulary().to_tokenizer_json().expect("a byte-level vocabulary");
    let files = [
        ("tokenizer.json", tokenizer.to_string()),
        ("tokenizer_config.json", settings.to_string()),
        ("chat_template.jinja", TEMPLATE.to_owned()),
        (
            "generation_config.json",
            r#"{"temperature": 0.7, "top_k": 20, "eos_token_id": [261, 259]}"#.to_owned(),
        ),
    ];
    let files = files.map(|(name, text)| FolderFile { name: name.to_owned(), bytes: text.into_bytes() });
    write_hugging_face(folder, &config, &weights, dtype, &[], &files).expect("the folder can be written");
}
