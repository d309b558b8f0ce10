//! Rendering and encoding on many threads at once give what they give alone.

use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::thread;

use crate::support::*;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};
use zhenjin_tokenizer::{
    ChatTemplate, DialogueError, EncodedDialogue, RenderInput, Rendered, TemplateError, Tokenizer,
    encode_dialogues,
};

/// Uses everything that could pass from one conversation to the next: a namespace, a macro, variables, the time.
const REMEMBERING: &str = "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{% set seen = namespace(count=0, text='') %}{{ strftime_now('%Y-%m-%d %H:%M') }} {{ name | default('nobody') }}\n{% for message in messages %}{% set seen.count = seen.count + 1 %}{% set seen.text = seen.text ~ message.content[:3] %}<|im_start|>{{ message.role }}\n{{ message.content }} {{ seen.count }} {{ twice(seen.text) }}<|im_end|>\n{% if message.content == 'refuse' %}{{ raise_exception('refused ' ~ seen.text) }}{% endif %}{% endfor %}";

/// A conversation that no other number has.
struct Numbered {
    messages: Vec<Value>,
    variables: Map<String, Value>,
    now: OffsetDateTime,
}

impl Numbered {
    fn new(number: usize) -> Self {
        let message = |turn: usize| {
            let role = ["user", "assistant"][turn % 2];
            let content = match (number + turn) % 5 {
                0 if number.is_multiple_of(10) && turn == 3 => "refuse".to_owned(),
                1 => format!("{number} 你好，世界 {turn} <|im_end|>"),
                2 => format!("word {number} ").repeat(1 + number * 7 % 50),
                _ => format!("It's {turn} of {number}: 😀 e\u{301}"),
            };
            json!({ "role": role, "content": content })
        };
        let variables = json!({ "name": format!("number {number}") }).as_object().unwrap().clone();
        Self {
            messages: (0..2 + number % 5).map(message).collect(),
            variables: if number.is_multiple_of(3) { Map::new() } else { variables },
            now: OffsetDateTime::UNIX_EPOCH + Duration::minutes(number as i64),
        }
    }

    fn input(&self) -> RenderInput<'_> {
        RenderInput {
            messages: &self.messages,
            variables: Some(&self.variables),
            now: Some(self.now),
            mark_assistant: true,
            ..RenderInput::default()
        }
    }
}

fn tokenizer_and_templates() -> (Tokenizer, Vec<ChatTemplate>) {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    let sources = [REMEMBERING, include_str!("data/templates/hermes_tools.jinja")];
    let templates = sources.map(|source| ChatTemplate::new(source, &tokenizer).unwrap()).into();
    (tokenizer, templates)
}

fn comparable<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

type Outcome = Result<(Rendered, Vec<u32>, Vec<bool>), String>;

fn outcome(tokenizer: &Tokenizer, template: &ChatTemplate, conversation: &Numbered) -> Outcome {
    let rendered: Result<Rendered, TemplateError> = template.render(&conversation.input());
    let rendered = comparable(rendered)?;
    let (ids, mask) = comparable(tokenizer.encode_rendered_with_mask(&rendered))?;
    Ok((rendered, ids, mask))
}

#[test]
fn a_hundred_threads_get_what_each_gets_alone() {
    let (tokenizer, templates) = tokenizer_and_templates();
    let conversations: Vec<Numbered> = (0..100).map(Numbered::new).collect();
    for template in &templates {
        let alone: Vec<Outcome> =
            conversations.iter().map(|conversation| outcome(&tokenizer, template, conversation)).collect();
        assert!(alone.iter().filter(|outcome| outcome.is_ok()).count() >= 80);
        let together = Barrier::new(conversations.len());
        thread::scope(|scope| {
            let threads: Vec<_> = conversations
                .iter()
                .zip(&alone)
                .map(|(conversation, alone)| {
                    let (together, tokenizer) = (&together, &tokenizer);
                    scope.spawn(move || {
                        together.wait();
                        for _ in 0..5 {
                            assert_eq!(&outcome(tokenizer, template, conversation), alone);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}

#[test]
fn dialogues_encoded_by_any_number_of_threads_are_those_encoded_alone() {
    let (tokenizer, templates) = tokenizer_and_templates();
    let conversations: Vec<Numbered> = (0..100).map(Numbered::new).collect();
    let inputs: Vec<RenderInput<'_>> = conversations.iter().map(Numbered::input).collect();
    for template in &templates {
        let alone: Vec<Result<EncodedDialogue, String>> = conversations
            .iter()
            .map(|conversation| {
                let (_, ids, assistant_mask) = outcome(&tokenizer, template, conversation)?;
                Ok(EncodedDialogue { ids, assistant_mask })
            })
            .collect();
        for threads in [1, 2, 7, 300].map(|threads| NonZeroUsize::new(threads).unwrap()) {
            let encoded: Vec<Result<EncodedDialogue, DialogueError>> =
                encode_dialogues(template, &tokenizer, &inputs, threads);
            let encoded: Vec<_> = encoded.into_iter().map(comparable).collect();
            assert_eq!(encoded, alone, "{threads} threads");
        }
    }
}

#[test]
fn a_conversation_that_fails_leaves_nothing_behind() {
    let (_, templates) = tokenizer_and_templates();
    let good = Numbered::new(1);
    let expected = templates[0].render(&good.input()).unwrap();
    let refused = [json!({ "role": "user", "content": "refuse" })];
    let not_sliced = [json!({ "role": "user", "content": 5 })];
    for messages in [&refused, &not_sliced] {
        let bad = RenderInput { messages, ..good.input() };
        templates[0].render(&bad).unwrap_err();
        assert_eq!(templates[0].render(&good.input()).unwrap(), expected);
        let mixed = templates[0].render_all(&[good.input(), bad, good.input()]);
        assert!(mixed[1].is_err());
        assert_eq!([&mixed[0], &mixed[2]].map(|rendered| rendered.as_ref().ok()), [Some(&expected); 2]);
    }
}
