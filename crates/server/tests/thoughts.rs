//! Thinking models over the API: thought and answer apart, in whole answers and in streams, however the answer ends.

use crate::support::{Application, template_that_ends_with};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
/// The whole of what the model writes where it opens its thought itself.
const SCRIPT: &[&str] = &[
    "<think>",
    "\nAdd",
    " one",
    " END",
    " and <tool_call>",
    ".\n",
    "</think>",
    "\n\n",
    "Two",
    ", END",
    " so.",
];
/// The same where the prompt has opened the thought.
const REST: &[&str] =
    &["Add", " one", " END", " and <tool_call>", ".\n", "</think>", "\n\n", "Two", ", END", " so."];
const THOUGHT: &str = "Add one END and <tool_call>.";
const ANSWER: &str = "Two, END so.";

fn body(more: Value) -> String {
    let mut body =
        json!({ "model": "tiny", "messages": [{ "role": "user", "content": "1+1?" }], "temperature": 0 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.to_string()
}

/// A choice as a whole answer has it, and its message put together from a stream: both must say the same.
async fn choice(application: &Application, more: Value) -> Value {
    let whole = application.post(CHAT, body(more.clone())).await;
    assert_eq!(whole.status, 200, "{}", whole.text);
    let choice = whole.json()["choices"][0].clone();
    let mut more = more;
    more["stream"] = json!(true);
    let stream = application.post(CHAT, body(more)).await;
    let (mut message, mut tokens, mut thought_tokens) = (json!({}), Vec::new(), Vec::new());
    let mut reason = Value::Null;
    for event in stream.events() {
        if event == "[DONE]" {
            continue;
        }
        let piece: Value = serde_json::from_str(event).expect("JSON");
        let piece = &piece["choices"][0];
        for name in ["content", "reasoning_content", "reasoning"] {
            if let Some(text) = piece["delta"][name].as_str() {
                let earlier = message[name].as_str().unwrap_or("").to_owned();
                message[name] = json!(earlier + text);
            }
        }
        let list = |name: &str| piece["logprobs"][name].as_array().cloned().unwrap_or_default();
        tokens.extend(list("content"));
        thought_tokens.extend(list("reasoning_content"));
        if !piece["finish_reason"].is_null() {
            reason = piece["finish_reason"].clone();
        }
    }
    for name in ["content", "reasoning_content", "reasoning"] {
        assert_eq!(
            message[name].as_str().unwrap_or(""),
            choice["message"][name].as_str().unwrap_or(""),
            "{name}"
        );
    }
    let listed = |name: &str| choice["logprobs"][name].as_array().cloned().unwrap_or_default();
    assert_eq!((listed("content"), listed("reasoning_content")), (tokens, thought_tokens));
    assert_eq!(reason, choice["finish_reason"]);
    choice
}

fn assert_message(choice: &Value, thought: Option<&str>, answer: &str, reason: &str) {
    let message = &choice["message"];
    assert_eq!(message["reasoning_content"].as_str(), thought, "{choice}");
    assert_eq!(message["reasoning"], message["reasoning_content"], "{choice}");
    assert_eq!(message["content"], answer, "{choice}");
    assert_eq!(choice["finish_reason"], reason, "{choice}");
}

async fn applications() -> [Application; 2] {
    let opened = template_that_ends_with("<think>\n");
    [
        Application::with_script(&template_that_ends_with(""), SCRIPT).await,
        Application::with_script(&opened, REST).await,
    ]
}

#[tokio::test]
async fn the_thought_stands_beside_the_answer() {
    for application in applications().await {
        assert_message(&choice(&application, json!({})).await, Some(THOUGHT), ANSWER, "stop");
        let twice = choice(&application, json!({ "logprobs": true })).await;
        let texts = |name: &str| -> String {
            twice["logprobs"][name]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|token| token["token"].as_str())
                .collect()
        };
        assert_eq!(texts("content"), ANSWER);
        assert!(
            texts("reasoning_content").contains(THOUGHT) && texts("reasoning_content").contains("</think>")
        );
    }
}

#[tokio::test]
async fn an_answer_cut_inside_its_thought_has_no_content() {
    for (application, markers) in applications().await.iter().zip([1, 0]) {
        let cut = choice(application, json!({ "max_tokens": 2 + markers })).await;
        assert_message(&cut, Some("Add one"), "", "length");
        let cut = choice(application, json!({ "max_tokens": 6 + markers })).await;
        assert_message(&cut, Some(THOUGHT), "", "length");
        let cut = choice(application, json!({ "max_tokens": 8 + markers })).await;
        assert_message(&cut, Some(THOUGHT), "Two", "length");
    }
}

/// What an answer begins with may look like a thought for a while: its tokens are the answer's all the same.
#[tokio::test]
async fn tokens_of_an_undecided_beginning_are_the_answers() {
    for script in [["  ", "ab"], ["<thi", "ng>"], ["\t\t", "<th"]] {
        let application = Application::with_script(&template_that_ends_with(""), &script).await;
        for count in [1, 2] {
            let choice = choice(&application, json!({ "max_tokens": count, "logprobs": true })).await;
            assert_message(&choice, None, &script[..count].concat(), "length");
            assert_eq!(choice["logprobs"]["content"].as_array().map(Vec::len), Some(count), "{choice}");
            assert!(choice["logprobs"].get("reasoning_content").is_none(), "{choice}");
        }
    }
}

#[tokio::test]
async fn stop_strings_are_looked_for_in_the_answer_alone() {
    for application in applications().await {
        let stopped = choice(&application, json!({ "stop": "END", "logprobs": true })).await;
        assert_message(&stopped, Some(THOUGHT), "Two, ", "stop");
        let stopped = choice(&application, json!({ "stop": ["</think>"] })).await;
        assert_message(&stopped, Some(THOUGHT), "", "stop");
    }
}

#[tokio::test]
async fn calls_are_looked_for_in_the_answer_alone() {
    let call = ["<tool_call>", "{\"name\": \"add\", \"arguments\": {\"a\": 1}}", "</tool_call>"];
    let tools = json!({ "tools": [{ "type": "function", "function": { "name": "add" } }] });
    for (opening, start) in [("", 0), ("<think>\n", 1)] {
        let script: Vec<&str> =
            ["<think>", "\nI call <tool_call> {}", "\n</think>\n"].into_iter().chain(call).collect();
        let application = Application::with_script(&template_that_ends_with(opening), &script[start..]).await;
        let choice = choice(&application, tools.clone()).await;
        assert_eq!(choice["message"]["reasoning_content"], "I call <tool_call> {}");
        assert_eq!(choice["message"]["content"], Value::Null);
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\": 1}");
        assert_eq!(choice["finish_reason"], "tool_calls");
    }
}

#[tokio::test]
async fn a_format_begins_after_a_thought_that_the_prompt_opened() {
    let script = ["I think", "</think>", "{\"a\": 1}"];
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"], "additionalProperties": false });
    let format = json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } } });
    let application = Application::with_script(&template_that_ends_with("<think>\n"), &script).await;
    assert_message(&choice(&application, format.clone()).await, Some("I think"), "{\"a\": 1}", "stop");
    // Where nothing opens a thought, the format holds for all that is written.
    let application =
        Application::with_script(&template_that_ends_with(""), &["<think>x</think>", "{\"a\": 2}"]).await;
    let regex = json!({ "regex": "<think>x</think>" });
    assert_message(&choice(&application, regex).await, None, "<think>x</think>", "stop");
    let answer =
        choice(&application, json!({ "response_format": { "type": "json_object" }, "max_tokens": 3 })).await;
    assert!(answer["message"]["content"].as_str().is_some_and(|text| text.starts_with('{')), "{answer}");
}

#[tokio::test]
async fn a_thought_that_came_back_reaches_the_template() {
    let template = "{% for m in messages %}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}{% endfor %}\n";
    let application = Application::with_script(template, &["yes"]).await;
    let tokens = async |assistant: Value| {
        let messages =
            json!([{ "role": "user", "content": "a" }, assistant, { "role": "user", "content": "b" }]);
        let answer = application.post(CHAT, body(json!({ "messages": messages }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["usage"]["prompt_tokens"].as_u64().expect("tokens")
    };
    let plain = tokens(json!({ "role": "assistant", "content": "x" })).await;
    for message in [
        json!({ "role": "assistant", "content": "x", "reasoning_content": "hm" }),
        json!({ "role": "assistant", "content": "x", "reasoning": "hm" }),
        json!({ "role": "assistant", "content": "x", "reasoning": "hm", "reasoning_content": "hm" }),
        json!({ "role": "assistant", "content": [{ "type": "reasoning", "text": "hm" }, { "type": "text", "text": "x" }] }),
        json!({ "role": "assistant", "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }, { "type": "text", "text": "x" }] }),
    ] {
        assert_eq!(tokens(message.clone()).await, plain + 4, "{message}");
    }
}

#[tokio::test]
async fn effort_turns_the_templates_switch() {
    let template = template_that_ends_with(
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% else %}<think>\n{% endif %}",
    );
    let application = Application::with_script(&template, &["hm", "</think>", "yes"]).await;
    assert_message(
        &choice(&application, json!({ "reasoning_effort": "high" })).await,
        Some("hm"),
        "yes",
        "stop",
    );
    // Without thinking, what this model writes is its answer.
    let answer = choice(&application, json!({ "reasoning_effort": "none" })).await;
    assert_message(&answer, None, "hm</think>yes", "stop");
    let answer = choice(&application, json!({ "chat_template_kwargs": { "enable_thinking": false } })).await;
    assert_message(&answer, None, "hm</think>yes", "stop");
}

/// The page keeps an answer as one text, in which the thought stands between `<think>` and `</think>`.
#[tokio::test]
async fn the_web_chat_keeps_the_thought_between_its_marks() {
    for application in applications().await {
        let made =
            application.post("/api/conversations", json!({ "model": "tiny" }).to_string()).await.json();
        let conversation = made["id"].as_str().expect("an id").to_owned();
        let path = format!("/api/conversations/{conversation}/messages");
        let asked = application.post(&path, json!({ "content": "1+1?" }).to_string()).await.json();
        let answer = asked["answer"]["id"].as_str().expect("an id").to_owned();
        let events = application.get(&format!("/api/messages/{answer}/stream")).await.text;
        assert!(events.contains("event: done"), "{events}");
        let kept = application.get(&format!("/api/conversations/{conversation}")).await.json();
        let content = kept["messages"][1]["content"].as_str().expect("a text");
        assert_eq!(content, format!("<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"));
    }
}
