//! Templates against Python's jinja2, set up as Hugging Face's library does: the same bytes, or a refusal.

use serde_json::Value;
use time::macros::datetime;
use zhenjin_tokenizer::{ChatTemplate, RenderInput, TemplateError};

const IDIOMS: &str = include_str!("data/jinja_idioms.json");

/// What Python refuses at the value and the engine cannot be made to: nobody writes a template that always fails.
const MORE_THAN_PYTHON: [&str; 6] = [
    // Operations on two constants, which the engine computes when it compiles.
    "{{ 1 < 'a' }}",
    "{{ none < 1 }}",
    "{{ 1 in 'a1' }}",
    "{{ none in 'abc' }}",
    // A list as a key of a dictionary.
    "{{ {[1]: 2} }}",
    // A column of values without an order.
    "{{ d.items() | sort(attribute='1') | list | length }}",
];

fn render(source: &str, idioms: &Value) -> Result<String, TemplateError> {
    let template = ChatTemplate::with_special_texts(source, "<s>", "</s>", Vec::new(), Vec::new())?;
    let input = RenderInput {
        messages: idioms["messages"].as_array().unwrap(),
        add_generation_prompt: true,
        now: Some(datetime!(2026-03-09 14:05:06 UTC)),
        variables: idioms["context"].as_object(),
        ..RenderInput::default()
    };
    template.render(&input).map(|rendered| rendered.text)
}

/// The cases that Python renders and this program refuses, and those that differ.
fn compare(idioms: &Value) -> (Vec<String>, Vec<String>) {
    let (mut refused, mut differences) = (Vec::new(), Vec::new());
    for case in idioms["cases"].as_array().unwrap() {
        let source = case["template"].as_str().unwrap();
        match (render(source, idioms), case["text"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            (Err(_), None) => {}
            (Ok(text), Some(expected)) => {
                differences.push(format!("{source}\n  ours   {text:?}\n  theirs {expected:?}"));
            }
            (Err(error), Some(_)) => refused.push(format!("{source}: {error}")),
            (Ok(_), None) if MORE_THAN_PYTHON.contains(&source) => {}
            (Ok(text), None) => {
                differences.push(format!("{source}\n  ours   {text:?}\n  refused {}", case["reason"]));
            }
        }
    }
    (refused, differences)
}

#[test]
fn idioms_render_as_in_python() {
    let idioms: Value = serde_json::from_str(IDIOMS).unwrap();
    let (mut refused, differences) = compare(&idioms);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    let mut allowed: Vec<&str> = REFUSED.lines().collect();
    allowed.sort_unstable();
    refused.sort_unstable();
    assert!(idioms["cases"].as_array().unwrap().len() > 800);
    assert_eq!(refused, allowed, "{}", refused.join("\n"));
}

/// What Python renders and this program refuses.
const REFUSED: &str = include_str!("data/jinja_refused.txt");
