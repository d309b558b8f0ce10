//! A tokenizer with the control tokens of common templates, and those templates.

use std::path::PathBuf;

use serde_json::{Value, json};
use time::macros::datetime;
use zhenjin_align::data::{Dataset, Encoder, PromptSettings, ReadOptions};
use zhenjin_tokenizer::{ChatTemplate, GgufVocabulary, Tokenizer};

const CONTROL: [&str; 9] = [
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|begin_of_text|>",
];

pub(crate) const TEMPLATES: [(&str, &str); 6] = [
    ("plain", include_str!("../../../tokenizer/tests/data/templates/plain.jinja")),
    ("hermes_tools", include_str!("../../../tokenizer/tests/data/templates/hermes_tools.jinja")),
    ("thinking", include_str!("../../../tokenizer/tests/data/templates/thinking.jinja")),
    ("headers", include_str!("../../../tokenizer/tests/data/templates/headers.jinja")),
    ("instruct", include_str!("../../../tokenizer/tests/data/templates/instruct.jinja")),
    ("generation_tag", include_str!("../../../tokenizer/tests/data/templates/generation_tag.jinja")),
];

/// Opens every prompt with a thought, and leaves thoughts out of what was said before.
pub(crate) const OPENING: &str = "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

/// Begins the next answer whether it is asked to or not.
pub(crate) const ALWAYS: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// Writes the question alone, whether an answer follows or not.
const PROMPTS: &str =
    "<|title|>{{ (messages | selectattr('role', 'equalto', 'user') | list | last).content }}<|poem|>";

/// Writes something behind the end of an answer.
pub(crate) const SIGNED: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% if m.role == 'assistant' %}signed{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Ends turns with nothing.
pub(crate) const ENDLESS: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

/// A byte-level tokenizer; its end of sequence is `</s>`.
pub(crate) fn tokenizer() -> Tokenizer {
    tokenizer_with_bos(false)
}

/// The same; `adds_bos` says whether it puts `<s>` before a text that is no conversation.
pub(crate) fn tokenizer_with_bos(adds_bos: bool) -> Tokenizer {
    let vocabulary: Value =
        serde_json::from_str(include_str!("../../../tokenizer/tests/data/byte_level_vocabulary.json"))
            .unwrap();
    let texts = |name: &str| -> Vec<String> {
        vocabulary[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut tokens = texts("tokens");
    let mut token_types = vec![1; tokens.len()];
    tokens.extend(CONTROL.map(str::to_owned));
    token_types.extend([3; CONTROL.len()]);
    let id = |text: &str| tokens.iter().position(|token| token == text).map(|id| id as u32);
    Tokenizer::from_gguf(GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        bos: id("<s>"),
        eos: id("</s>"),
        tokens: tokens.clone(),
        token_types,
        merges: texts("merges"),
        add_bos: Some(adds_bos),
        ..GgufVocabulary::default()
    })
    .unwrap()
}

pub(crate) fn template(name: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    let source = match name {
        "opening" => OPENING,
        "endless" => ENDLESS,
        "always" => ALWAYS,
        "signed" => SIGNED,
        "prompts" => PROMPTS,
        name => TEMPLATES.iter().find(|(known, _)| *known == name).unwrap().1,
    };
    ChatTemplate::new(source, tokenizer).unwrap()
}

pub(crate) fn settings() -> PromptSettings {
    PromptSettings::at(datetime!(2026-03-09 14:05:06 UTC))
}

pub(crate) fn encoder<'a>(tokenizer: &'a Tokenizer, template: &'a ChatTemplate) -> Encoder<'a> {
    Encoder::new(tokenizer, Some(template), settings()).unwrap()
}

pub(crate) fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// Files in a folder of their own.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Files {
        Files { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Records as JSON lines.
    pub(crate) fn lines(&self, name: &str, records: &[Value]) -> PathBuf {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        self.write(name, lines.join("\n"))
    }
}

/// The data of records, which must be good.
pub(crate) fn data(records: &[Value]) -> Dataset {
    let files = Files::new();
    Dataset::read(&[files.lines("data.jsonl", records)], &ReadOptions::default()).unwrap()
}
