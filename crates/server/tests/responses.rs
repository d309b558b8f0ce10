//! `/v1/responses`: shapes, streams, items, formats, tools, references, errors.

use crate::support::{Answer, Application};
use serde_json::{Value, json};

const RESPONSES: &str = "/v1/responses";

fn body(more: Value) -> String {
    let mut body = json!({ "model": "tiny", "input": "hi", "max_output_tokens": 12, "temperature": 0 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn ask(application: &Application, more: Value) -> Value {
    let answer = application.post(RESPONSES, body(more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The events of a stream: each under its own type's name, numbered without a gap, `[DONE]` at the end.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let mut texts: Vec<&str> = answer.text.split("\n\n").filter(|text| !text.is_empty()).collect();
    assert_eq!(texts.pop(), Some("data: [DONE]"));
    let mut events = Vec::new();
    for (number, text) in texts.into_iter().enumerate() {
        let (name, data) = text.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{text}");
        assert_eq!(data["sequence_number"], number, "{text}");
        events.push(data);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["type"].as_str()).collect()
}

#[tokio::test]
async fn an_answer_has_every_field_that_open_responses_requires() {
    let application = Application::new().await;
    let answer = ask(&application, json!({ "metadata": { "a": "b" } })).await;
    for name in [
        "id",
        "object",
        "created_at",
        "completed_at",
        "status",
        "incomplete_details",
        "model",
        "previous_response_id",
        "instructions",
        "output",
        "error",
        "tools",
        "tool_choice",
        "truncation",
        "parallel_tool_calls",
        "text",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "temperature",
        "reasoning",
        "user",
        "usage",
        "max_output_tokens",
        "max_tool_calls",
        "store",
        "background",
        "service_tier",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
    ] {
        assert!(answer.get(name).is_some(), "{name} is missing: {answer}");
    }
    assert!(answer["id"].as_str().expect("an id").starts_with("resp_"));
    assert_eq!(
        (&answer["object"], &answer["store"], &answer["metadata"]),
        (&json!("response"), &json!(false), &json!({ "a": "b" }))
    );
    assert_eq!(
        (&answer["status"], &answer["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    let item = &answer["output"][0];
    assert_eq!(
        (&item["type"], &item["role"], &item["status"]),
        (&json!("message"), &json!("assistant"), &json!("incomplete"))
    );
    assert_eq!(
        (&item["content"][0]["type"], &item["content"][0]["annotations"]),
        (&json!("output_text"), &json!([]))
    );
    let usage = &answer["usage"];
    assert_eq!(usage["output_tokens"], 12);
    assert_eq!(usage["total_tokens"].as_u64(), usage["input_tokens"].as_u64().map(|tokens| tokens + 12));
}

#[tokio::test]
async fn a_stream_says_the_same_in_the_right_order() {
    let application = Application::new().await;
    let whole = ask(&application, json!({})).await;
    let events = events(&application.post(RESPONSES, body(json!({ "stream": true }))).await);
    let kinds = kinds(&events);
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(
        kinds[kinds.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete"
        ]
    );
    assert!(kinds[4..kinds.len() - 4].iter().all(|kind| *kind == "response.output_text.delta"), "{kinds:?}");
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    let text = &whole["output"][0]["content"][0]["text"];
    assert_eq!(&json!(deltas), text);
    let (created, last) = (&events[0]["response"], &events[events.len() - 1]["response"]);
    assert_eq!(
        (&created["status"], &created["output"], &created["usage"]),
        (&json!("in_progress"), &json!([]), &Value::Null)
    );
    assert_eq!((&created["id"], &last["output"][0]["content"][0]["text"]), (&last["id"], text));
    let item = &events[2]["item"];
    assert!(events[3..events.len() - 2].iter().all(|event| event["item_id"] == item["id"]), "{events:?}");
    assert_eq!(last["output"][0]["id"], item["id"]);
}

#[tokio::test]
async fn calls_and_their_results_go_both_ways() {
    let application = Application::new().await;
    let tools = json!([{ "type": "function", "name": "get_weather", "description": "The weather.", "strict": true,
        "parameters": { "type": "object", "properties": { "city": { "enum": ["Rome", "Oslo"] } }, "required": ["city"], "additionalProperties": false } }]);
    let more = json!({ "tools": tools, "tool_choice": { "type": "function", "name": "get_weather" }, "max_output_tokens": 200, "temperature": 1, "seed": 7 });
    let whole = ask(&application, more.clone()).await;
    assert_eq!(whole["status"], "completed", "{whole}");
    assert_eq!(whole["tools"], tools);
    let call = whole["output"]
        .as_array()
        .expect("items")
        .iter()
        .find(|item| item["type"] == "function_call")
        .expect("a call");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
    assert!(arguments["city"] == "Rome" || arguments["city"] == "Oslo");

    let mut streamed = more;
    streamed["stream"] = json!(true);
    let events = events(&application.post(RESPONSES, body(streamed)).await);
    let done =
        events.iter().find(|event| event["type"] == "response.function_call_arguments.done").expect("done");
    assert_eq!(done["arguments"], call["arguments"]);
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.function_call_arguments.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(json!(deltas), call["arguments"]);

    let conversation = json!([
        { "role": "user", "content": [{ "type": "input_text", "text": "Weather?" }] },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null },
        call,
        { "type": "function_call_output", "call_id": call["call_id"], "output": "sunny" },
        { "role": "user", "content": "And?" },
    ]);
    ask(&application, json!({ "input": conversation, "tools": tools })).await;
    let unknown = json!([{ "role": "user", "content": "x" }, { "type": "function_call_output", "call_id": "none", "output": "x" }]);
    let answer = application.post(RESPONSES, body(json!({ "input": unknown }))).await;
    assert_eq!((answer.status.as_u16(), answer.error().2), (400, "input[1].call_id".to_owned()));
}

#[tokio::test]
async fn what_came_is_taken_back_and_recent_items_are_found_by_their_ids() {
    let application = Application::new().await;
    let first = ask(&application, json!({})).await;
    let item = &first["output"][0];
    let follow = |said: Value| json!({ "input": [{ "role": "user", "content": "hi" }, said, { "role": "user", "content": "more" }] });
    let sent = ask(&application, follow(item.clone())).await;
    let referred = ask(&application, follow(json!({ "type": "item_reference", "id": item["id"] }))).await;
    assert_eq!(sent["output"][0]["content"], referred["output"][0]["content"]);
    assert_eq!(sent["usage"]["input_tokens"], referred["usage"]["input_tokens"]);

    // With `store` false nothing is remembered.
    let forgotten = ask(&application, json!({ "store": false })).await;
    let reference = json!({ "type": "item_reference", "id": forgotten["output"][0]["id"] });
    let answer = application.post(RESPONSES, body(follow(reference))).await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().1),
        (400, "item_not_found".to_owned()),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn formats_instructions_and_log_probabilities_are_honoured() {
    let application = Application::new().await;
    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1, 2] } }, "required": ["a"], "additionalProperties": false });
    let text = json!({ "format": { "type": "json_schema", "name": "a", "schema": schema, "strict": true } });
    let answer =
        ask(&application, json!({ "text": text, "max_output_tokens": 200, "temperature": 1, "seed": 7 }))
            .await;
    assert_eq!((&answer["text"]["format"]["schema"], &answer["status"]), (&schema, &json!("completed")));
    let value: Value =
        serde_json::from_str(answer["output"][0]["content"][0]["text"].as_str().expect("text"))
            .expect("JSON");
    assert!(value["a"] == 1 || value["a"] == 2, "{value}");

    let plain = ask(&application, json!({})).await;
    let instructed = ask(&application, json!({ "instructions": "Be brief." })).await;
    assert_eq!(instructed["instructions"], "Be brief.");
    assert!(instructed["usage"]["input_tokens"].as_u64() > plain["usage"]["input_tokens"].as_u64());

    let reported =
        ask(&application, json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 2 })).await;
    let logprobs = reported["output"][0]["content"][0]["logprobs"].as_array().expect("a list");
    assert_eq!((logprobs.len(), logprobs[0]["top_logprobs"].as_array().map(Vec::len)), (12, Some(2)));
}

#[tokio::test]
async fn what_is_not_done_is_refused_by_name() {
    let application = Application::new().await;
    for (more, named) in [
        (json!({ "store": true }), "store"),
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "conversation": "conv_1" }), "conversation"),
        (json!({ "background": true }), "background"),
        (json!({ "truncation": "auto" }), "truncation"),
        (json!({ "prompt": { "id": "x" } }), "prompt"),
        (json!({ "inptu": "x" }), "inptu"),
        (json!({ "input": null }), "input"),
        (json!({ "input": [] }), "input"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image", "image_url": "x" }] }] }),
            "input[0].content[0].type",
        ),
        (json!({ "input": [{ "type": "web_search_call", "id": "x" }] }), "input[0].type"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "text": { "verbosity": "low" } }), "text.verbosity"),
        (json!({ "text": { "format": { "type": "yaml" } } }), "text.format.type"),
        (json!({ "include": ["everything"] }), "include[0]"),
        (json!({ "reasoning": { "effort": "huge" } }), "reasoning.effort"),
        (
            json!({ "reasoning": { "effort": "low" }, "chat_template_kwargs": { "enable_thinking": false } }),
            "chat_template_kwargs.enable_thinking",
        ),
        (
            json!({ "stream": true, "stream_options": { "include_obfuscation": true } }),
            "stream_options.include_obfuscation",
        ),
        (json!({ "max_output_tokens": 1_000_000 }), "max_output_tokens"),
    ] {
        let answer = application.post(RESPONSES, body(more.clone())).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.text);
        assert_eq!(answer.error().2, named, "{more}: {}", answer.text);
    }
    assert_eq!(
        application.post(RESPONSES, body(json!({ "model": "other" }))).await.error().1,
        "model_not_found"
    );
}
