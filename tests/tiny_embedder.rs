//! Makes an embedder of a folder with a tiny model that writes, as sentence-transformers saves one: the last token's hidden state, of unit length.

#![allow(unreachable_pub, dead_code, reason = "each test program takes what it needs")]

use std::path::Path;

use serde_json::{Value, json};

/// Adds the library's files to the model in `folder`; the token `last`, with the id `id`, is put behind every text.
pub fn make_embedder(folder: &Path, last: &str, id: u32) {
    std::fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
    let write = |name: &str, value: Value| {
        std::fs::write(folder.join(name), value.to_string()).expect("a file");
    };
    let module = |place: usize, class: &str, path: &str| json!({ "idx": place, "name": place.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}") });
    write(
        "modules.json",
        json!([
            module(0, "Transformer", ""),
            module(1, "Pooling", "1_Pooling"),
            module(2, "Normalize", "2_Normalize"),
        ]),
    );
    write("1_Pooling/config.json", json!({ "pooling_mode_lasttoken": true, "include_prompt": true }));
    let prompts = json!({ "query": "Instruct: find\nQuery:", "document": "" });
    write("config_sentence_transformers.json", json!({ "prompts": prompts, "default_prompt_name": null }));
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let special = json!({ "SpecialToken": { "id": last, "type_id": 0 } });
    let mut tokens = serde_json::Map::new();
    tokens.insert(last.to_owned(), json!({ "id": last, "ids": [id], "tokens": [last] }));
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing", "single": [text("A"), special],
        "pair": [text("A"), special, text("B"), special], "special_tokens": tokens,
    });
    std::fs::write(path, tokenizer.to_string()).expect("a file");
}
