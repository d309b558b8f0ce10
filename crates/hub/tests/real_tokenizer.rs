//! The real SmolLM2 file: its tokenizer against llama.cpp on 1.1 MB of text, its template, its defaults.

use std::collections::BTreeSet;

use crate::generated_text::{KINDS, generated_text};
use crate::real_model::real_model;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zhenjin_hub::{OpenedModel, open};
use zhenjin_tokenizer::{ControlText, RenderInput, Specials};

const GOLDEN: &str = include_str!("data/smollm2_tokenizer_golden.json");
const BYTES_PER_KIND: usize = 220_000;

fn model() -> OpenedModel {
    open(&real_model()).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn ids_equal_llama_cpps_and_text_comes_back() {
    let tokenizer = model().tokenizer;
    let known_bytes: BTreeSet<u8> = (0..tokenizer.vocabulary_size() as u32)
        .filter_map(|id| <[u8; 1]>::try_from(tokenizer.token_bytes(id)?).ok())
        .map(|[byte]| byte)
        .collect();
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    for kind in KINDS {
        let text = generated_text(kind, BYTES_PER_KIND);
        let golden = &golden["smollm2"][*kind];
        assert_eq!(golden["text_sha256"], digest(text.as_bytes()), "{kind}: the two generators differ");
        let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
        assert_eq!(golden["ids"], ids.len(), "{kind}");
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(golden["ids_sha256"], digest(&bytes), "{kind}");
        // SmolLM2 has no token for some bytes that only rare characters hold; they are left out, as llama.cpp does.
        let expected: Vec<u8> = text.bytes().filter(|byte| known_bytes.contains(byte)).collect();
        assert_eq!(tokenizer.decode_bytes(&ids, ControlText::Show).unwrap(), expected, "{kind}");
        assert_eq!(expected.len() == text.len(), *kind != "broken", "{kind}");
    }
}

#[test]
fn every_control_token_in_a_message_stays_text() {
    let model = model();
    let (tokenizer, template) = (model.tokenizer, model.template.unwrap());
    let specials = tokenizer.special_texts();
    assert_eq!(specials.len(), 17);
    for special in &specials {
        for role in ["system", "user", "assistant"] {
            let messages = [
                json!({ "role": role, "content": format!("a{special}b") }),
                json!({ "role": "user", "content": "x" }),
            ];
            let input =
                RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
            let rendered = template.render(&input).unwrap();
            let ids = tokenizer.encode_rendered(&rendered).unwrap();
            let count = ids.iter().filter(|&&id| tokenizer.is_special(id)).count();
            let turns = if role == "system" { 2 } else { 3 };
            assert_eq!(count, 2 * turns + 1, "{special} from {role}: {}", rendered.text);
            assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), rendered.text);
        }
    }
}

#[test]
fn the_template_renders_as_hugging_face_renders_it() {
    let model = model();
    let messages = [json!({ "role": "user", "content": "Hello" })];
    let input = RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
    assert_eq!(
        model.template.unwrap().render(&input).unwrap().text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    );
    let ends: Vec<&[u8]> =
        model.tokenizer.end_of_turn().iter().map(|&id| model.tokenizer.token_bytes(id).unwrap()).collect();
    assert_eq!(ends, [b"<|im_end|>".as_slice(), b"<|endoftext|>"]);
    assert_eq!(model.tokenizer.vocabulary_size(), model.file.config().vocabulary_size);
}
