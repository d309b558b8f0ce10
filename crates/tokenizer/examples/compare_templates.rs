//! Whole templates against Python's jinja2: those that cannot be shipped, with what Python made of them.
//!
//! `python crates/tokenizer/tests/reference/make_jinja_idioms.py cases.json FOLDER …`, then
//! `cargo run --release -p zhenjin-tokenizer --example compare_templates cases.json`.

#![allow(clippy::print_stdout, reason = "it is a program for the terminal")]

use serde_json::Value;
use time::macros::datetime;
use zhenjin_tokenizer::{ChatTemplate, RenderInput, TemplateError};

fn render(case: &Value) -> Result<String, TemplateError> {
    let none = Vec::new();
    let source = case["template"].as_str().unwrap_or_default();
    let template = ChatTemplate::with_special_texts(source, "<s>", "</s>", Vec::new(), Vec::new())?;
    let input = RenderInput {
        messages: case["messages"].as_array().unwrap_or(&none),
        tools: case["tools"].as_array().unwrap_or(&none),
        add_generation_prompt: case["add_generation_prompt"] != false,
        now: Some(datetime!(2026-03-09 14:05:06 UTC)),
        variables: case["variables"].as_object(),
        ..RenderInput::default()
    };
    template.render(&input).map(|rendered| rendered.text)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("give the file that make_jinja_idioms.py wrote")?;
    let golden: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let (mut equal, mut both_refuse, mut refused, mut different) = (0, 0, 0, 0);
    for case in golden["cases"].as_array().into_iter().flatten() {
        let name = case["name"].as_str().unwrap_or_default();
        match (render(case), case["text"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => equal += 1,
            (Err(_), None) => both_refuse += 1,
            (Err(error), Some(_)) => {
                refused += 1;
                println!("{name}: refused: {error}");
            }
            (Ok(text), expected) => {
                different += 1;
                println!(
                    "{name}: different\n--- ours\n{text}\n--- Python's\n{}",
                    expected.unwrap_or("refused")
                );
                println!("{}", case["reason"].as_str().unwrap_or_default());
            }
        }
    }
    println!(
        "equal {equal}, refused by both {both_refuse}, refused here alone {refused}, different {different}"
    );
    Ok(())
}
