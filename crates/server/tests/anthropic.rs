//! Anthropic's API: shapes, streams, tools, counts, keys, errors.

use crate::support::{Answer, Application, CONTEXT, request};
use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use zhenjin_server::ServerOptions;

const MESSAGES: &str = "/v1/messages";

fn body(more: Value) -> String {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 12, "temperature": 0 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn ask(application: &Application, more: Value) -> Value {
    let answer = application.post(MESSAGES, body(more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The events of a stream, each under its own type's name.
fn events(answer: &Answer) -> Vec<Value> {
    let mut events = Vec::new();
    for text in answer.text.split("\n\n").filter(|text| !text.is_empty()) {
        let (name, data) = text.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{text}");
        events.push(data);
    }
    events
}

#[tokio::test]
async fn an_answer_has_anthropics_shape_and_streams_the_same() {
    let application = Application::new().await;
    let whole = ask(&application, json!({})).await;
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("tiny"))
    );
    assert_eq!((&whole["stop_reason"], &whole["stop_sequence"]), (&json!("max_tokens"), &Value::Null));
    assert_eq!(whole["usage"]["output_tokens"], 12);
    let text = whole["content"][0]["text"].as_str().expect("text");

    let answer = application.post(MESSAGES, body(json!({ "stream": true }))).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let events = events(&answer);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"], "{kinds:?}");
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["content_block_stop", "message_delta", "message_stop"],
        "{kinds:?}"
    );
    let deltas = events.iter().filter_map(|event| event["delta"]["text"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    let start = &events[0]["message"];
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    let ending = &events[events.len() - 2];
    assert_eq!(
        (&ending["delta"]["stop_reason"], &ending["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(12))
    );
    let input = |usage: &Value| {
        usage["input_tokens"].as_u64().expect("a count")
            + usage["cache_read_input_tokens"].as_u64().expect("a count")
    };
    assert_eq!(input(&whole["usage"]), input(&start["usage"]));
}

#[tokio::test]
async fn a_stop_sequence_and_the_contexts_end_are_named() {
    let application = Application::new().await;
    let whole = ask(&application, json!({ "max_tokens": 30 })).await;
    let text = whole["content"][0]["text"].as_str().expect("text");
    let stop = text.chars().find(|character| *character != char::REPLACEMENT_CHARACTER).expect("a character");
    let stopped = ask(&application, json!({ "max_tokens": 30, "stop_sequences": [stop] })).await;
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));

    let long = ask(&application, json!({ "max_tokens": 1_000_000 })).await;
    let usage = &long["usage"];
    let total: u64 = ["input_tokens", "cache_read_input_tokens", "output_tokens"]
        .iter()
        .filter_map(|name| usage[name].as_u64())
        .sum();
    if long["stop_reason"] == "model_context_window_exceeded" {
        assert_eq!(total, CONTEXT as u64);
    } else {
        // The model ended its turn, or began to repeat itself, which counts as cut.
        assert!(long["stop_reason"] == "end_turn" || long["stop_reason"] == "max_tokens", "{long}");
    }
}

#[tokio::test]
async fn calls_and_results_go_both_ways() {
    let application = Application::new().await;
    let tools = json!([{ "name": "get_weather", "description": "The weather.", "cache_control": { "type": "ephemeral" },
        "input_schema": { "type": "object", "properties": { "city": { "enum": ["Rome", "Oslo"] } }, "required": ["city"], "additionalProperties": false } }]);
    let more = json!({ "tools": tools, "tool_choice": { "type": "tool", "name": "get_weather" }, "max_tokens": 400, "temperature": 1 });
    let whole = ask(&application, more.clone()).await;
    assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
    let call = whole["content"]
        .as_array()
        .expect("blocks")
        .iter()
        .find(|block| block["type"] == "tool_use")
        .expect("a call");
    assert_eq!(call["name"], "get_weather");
    let city = call["input"]["city"].as_str().expect("a city");
    assert!(["Rome", "Oslo"].contains(&city));

    let mut streamed = more;
    streamed["stream"] = json!(true);
    let events = events(&application.post(MESSAGES, body(streamed)).await);
    let arguments: String =
        events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    let streamed: Value = serde_json::from_str(&arguments).expect("JSON");
    assert!(streamed["city"] == "Rome" || streamed["city"] == "Oslo", "{streamed}");

    let conversation = json!([
        { "role": "user", "content": [{ "type": "text", "text": "Weather?", "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": [{ "type": "thinking", "thinking": "I call.", "signature": "" }, call] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": call["id"], "content": [{ "type": "text", "text": "sunny" }], "is_error": false },
            { "type": "text", "text": "And?" }] },
    ]);
    ask(&application, json!({ "messages": conversation, "tools": tools })).await;
    let unknown = json!([
        { "role": "user", "content": "x" },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "none", "content": "x" }] },
    ]);
    let answer = application.post(MESSAGES, body(json!({ "messages": unknown }))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("messages[1].content[0].tool_use_id"), "{}", answer.text);
}

#[tokio::test]
async fn tokens_are_counted_as_they_are_used() {
    let application = Application::new().await;
    let conversation = json!({ "model": "tiny", "system": [{ "type": "text", "text": "Be brief." }], "messages": [{ "role": "user", "content": "hi" }] });
    let counted = application.post("/v1/messages/count_tokens", conversation.to_string()).await.json();
    let used = ask(&application, json!({ "system": "Be brief." })).await;
    let usage = &used["usage"];
    let prompt = usage["input_tokens"].as_u64().expect("a count")
        + usage["cache_read_input_tokens"].as_u64().expect("a count");
    assert_eq!(counted["input_tokens"], prompt);
}

#[tokio::test]
async fn what_is_wrong_is_named_in_anthropics_shape() {
    let application = Application::new().await;
    for (more, status, kind, named) in [
        (json!({ "model": "other" }), 404, "not_found_error", "other"),
        (json!({ "max_tokens": null }), 400, "invalid_request_error", "`max_tokens` is missing"),
        (json!({ "max_tokens": 0 }), 400, "invalid_request_error", "`max_tokens`"),
        (json!({ "max_token": 1 }), 400, "invalid_request_error", "`max_token`"),
        (json!({ "messages": [] }), 400, "invalid_request_error", "`messages`"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }, { "role": "assistant", "content": "y" }] }),
            400,
            "invalid_request_error",
            "messages[1].role",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "source": {} }] }] }),
            400,
            "invalid_request_error",
            "messages[0].content[0].type",
        ),
        (
            json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
            400,
            "invalid_request_error",
            "tools[0].type",
        ),
        (json!({ "tool_choice": { "type": "any" } }), 400, "invalid_request_error", "tool_choice"),
        (
            json!({ "tool_choice": { "type": "any", "name": "f" } }),
            400,
            "invalid_request_error",
            "`tool_choice.name`",
        ),
        (json!({ "stop_sequences": "x" }), 400, "invalid_request_error", "stop_sequences"),
        (json!({ "container": "x" }), 400, "invalid_request_error", "`container`"),
        (json!({ "mcp_servers": [{}] }), 400, "invalid_request_error", "`mcp_servers`"),
    ] {
        let answer = application.post(MESSAGES, body(more.clone())).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text);
        let json = answer.json();
        assert_eq!((&json["type"], &json["error"]["type"]), (&json!("error"), &json!(kind)), "{more}");
        assert!(json["error"]["message"].as_str().expect("words").contains(named), "{more}: {json}");
        assert_eq!(answer.headers["request-id"], answer.headers["x-request-id"]);
    }
    let wrong_method = application.get(MESSAGES).await;
    assert_eq!((wrong_method.status.as_u16(), &wrong_method.json()["type"]), (405, &json!("error")));
}

#[tokio::test]
async fn a_key_is_taken_from_either_header() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let (_, secret) =
        application.state.store.create_api_key(zhenjin_store::NewApiKey::named("test")).await.expect("a key");
    let key = secret.expose().to_owned();
    let send = async |name: &str, value: &str| {
        let built = request(Method::POST, MESSAGES)
            .header(header::CONTENT_TYPE, "application/json")
            .header(name, value);
        application.send(built.body(Body::from(body(json!({})))).expect("valid")).await
    };
    assert_eq!(send("x-api-key", &key).await.status, 200);
    assert_eq!(send("authorization", &format!("Bearer {key}")).await.status, 200);
    let refused = send("x-api-key", "wrong").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["type"]),
        (401, &json!("authentication_error"))
    );
}

#[tokio::test]
async fn models_are_listed_in_the_callers_dialect() {
    let application = Application::new().await;
    let list = async |version: bool| {
        let mut built = request(Method::GET, "/v1/models");
        if version {
            built = built.header("anthropic-version", "2023-06-01");
        }
        application.send(built.body(Body::empty()).expect("valid")).await.json()
    };
    let theirs = list(true).await;
    assert_eq!(
        (&theirs["data"][0]["type"], &theirs["has_more"], &theirs["first_id"]),
        (&json!("model"), &json!(false), &json!("tiny"))
    );
    assert_eq!(list(false).await["object"], "list");
}

#[tokio::test]
async fn a_format_holds() {
    let application = Application::new().await;
    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1, 2] } }, "required": ["a"], "additionalProperties": false });
    let answer = ask(&application, json!({ "max_tokens": 400, "temperature": 1, "output_config": { "format": { "type": "json_schema", "schema": schema } } })).await;
    let value: Value =
        serde_json::from_str(answer["content"][0]["text"].as_str().expect("text")).expect("JSON");
    assert!(value["a"] == 1 || value["a"] == 2, "{value}");
}
