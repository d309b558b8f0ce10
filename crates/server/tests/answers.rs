//! What the routes answer when the request is right: shapes, streams, usage, log-probabilities, formats, tools.

use crate::support::{self, Application, VOCABULARY};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = "/v1/completions";

async fn chat(application: &Application, more: Value) -> Value {
    let answer = application.post(CHAT, chat_body(more)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn chat_body(more: Value) -> String {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 12, "temperature": 0 });
    merge(&mut body, more);
    body.to_string()
}

async fn complete(application: &Application, more: Value) -> Value {
    let mut body = json!({ "model": "tiny", "prompt": "hi", "max_tokens": 12, "temperature": 0 });
    merge(&mut body, more);
    let answer = application.post(COMPLETION, body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn merge(body: &mut Value, more: Value) {
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
}

/// The events of a streamed chat, `[DONE]` checked and taken off.
async fn streamed(application: &Application, path: &str, body: String) -> Vec<Value> {
    let answer = application.post(path, body).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let mut events = answer.events();
    assert_eq!(events.pop(), Some("[DONE]"), "{}", answer.text);
    events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect()
}

#[tokio::test]
async fn a_chat_answer_has_openais_shape() {
    let application = Application::new().await;
    let answer = chat(&application, json!({ "service_tier": "auto" })).await;
    assert_eq!(answer["object"], "chat.completion");
    assert!(answer["id"].as_str().expect("an id").starts_with("chatcmpl-"));
    assert_eq!(answer["model"], "tiny");
    assert_eq!(answer["service_tier"], "default");
    assert!(!answer["system_fingerprint"].as_str().expect("a fingerprint").is_empty());
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(choice["message"]["content"].is_string() && choice["logprobs"].is_null());
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    assert_eq!(choice["finish_reason"], "length");
    let sum = usage["prompt_tokens"].as_u64().expect("tokens") + 12;
    assert_eq!(usage["total_tokens"], sum);
    assert!(usage["prompt_tokens_details"]["cached_tokens"].is_u64());
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let application = Application::new().await;
    let more = json!({ "n": 2, "seed": 5, "temperature": 1, "logprobs": true, "top_logprobs": 2 });
    let whole = chat(&application, more.clone()).await;
    let mut body = more;
    merge(&mut body, json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let mut events = streamed(&application, CHAT, chat_body(body)).await;
    let last = events.pop().expect("the usage");
    assert_eq!(
        (&last["choices"], &last["usage"]["completion_tokens"]),
        (&json!([]), &whole["usage"]["completion_tokens"])
    );
    for index in 0..2 {
        let of_choice =
            || events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = of_choice().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        let tokens: Vec<&Value> =
            of_choice().filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten().collect();
        let ends: Vec<&Value> =
            of_choice().map(|choice| &choice["finish_reason"]).filter(|end| !end.is_null()).collect();
        let expected = &whole["choices"][index];
        assert_eq!(of_choice().next().expect("a first piece")["delta"]["role"], "assistant");
        assert_eq!(expected["message"]["content"], text);
        assert_eq!(expected["logprobs"]["content"], json!(tokens));
        assert_eq!(ends, [&expected["finish_reason"]]);
    }
    assert!(
        events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["usage"].is_null())
    );
    assert!(
        events.iter().all(|event| event["id"] == events[0]["id"] && event["created"] == events[0]["created"])
    );
}

#[tokio::test]
async fn the_same_seed_says_the_same_and_choices_differ() {
    let application = Application::new().await;
    let more = json!({ "n": 3, "seed": 7, "temperature": 1.5 });
    let (one, two) = (chat(&application, more.clone()).await, chat(&application, more).await);
    let texts = |answer: &Value| -> Vec<String> {
        let choices = answer["choices"].as_array().expect("choices");
        choices.iter().map(|choice| choice["message"]["content"].to_string()).collect()
    };
    assert_eq!(texts(&one), texts(&two));
    assert_ne!(texts(&one)[0], texts(&one)[1]);
    assert!(two["usage"]["prompt_tokens_details"]["cached_tokens"].is_u64());
}

#[tokio::test]
async fn logprobs_are_those_of_the_tokens_in_both_forms() {
    let application = Application::new().await;
    let answer = chat(&application, json!({ "logprobs": true, "top_logprobs": 3 })).await;
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().expect("tokens").clone();
    assert_eq!(tokens.len(), 12);
    for token in &tokens {
        let logprob = token["logprob"].as_f64().expect("a number");
        assert!(logprob <= 0.0);
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(3));
        // Greedy: the token is the most likely one.
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
        assert_eq!(token["top_logprobs"][0]["bytes"], token["bytes"]);
    }

    let echoed =
        complete(&application, json!({ "prompt": "héllo", "echo": true, "logprobs": 2, "max_tokens": 3 }))
            .await;
    let choice = &echoed["choices"][0];
    assert!(choice["text"].as_str().expect("text").starts_with("héllo"));
    let report = &choice["logprobs"];
    assert_eq!(report["tokens"].as_array().map(Vec::len), Some(9), "{report}");
    assert_eq!((&report["token_logprobs"][0], &report["top_logprobs"][0]), (&Value::Null, &Value::Null));
    assert_eq!(report["tokens"][1], "bytes:\\xc3");
    assert_eq!(
        &json!(report["text_offset"].as_array().expect("offsets")[..7]),
        &json!([0, 1, 2, 2, 3, 4, 5])
    );
}

/// Regression: places counted the letters that the tokenizer had composed, and the text had others.
#[tokio::test]
async fn places_of_tokens_are_those_of_the_echoed_text() {
    let application = Application::new().await;
    // As Qwen's tokenizers do. The model is read at its first use.
    let path = application.folder.path().join("tiny/tokenizer.json");
    let mut tokenizer: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("valid JSON");
    tokenizer["normalizer"] = json!({ "type": "NFC" });
    std::fs::write(&path, tokenizer.to_string()).expect("a file");
    let prompt = "e\u{301}e\u{301}e\u{301} hello";
    let fields = json!({ "prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 2 });
    let choice = complete(&application, fields).await["choices"][0].clone();
    assert!(choice["text"].as_str().expect("a text").starts_with(prompt), "{choice}");
    let offsets = choice["logprobs"]["text_offset"].as_array().expect("a list");
    // A token for each byte: two for each letter with an accent, the second of which begins no character.
    assert_eq!(json!(offsets[..13]), json!([0, 2, 2, 4, 4, 6, 6, 7, 8, 9, 10, 11, 12]), "{choice}");
}

#[tokio::test]
async fn scoring_a_text_generates_nothing() {
    let application = Application::new().await;
    let scored =
        complete(&application, json!({ "prompt": "abc", "echo": true, "logprobs": 0, "max_tokens": 0 }))
            .await;
    assert_eq!(scored["choices"][0]["text"], "abc");
    assert_eq!(scored["choices"][0]["logprobs"]["token_logprobs"].as_array().map(Vec::len), Some(3));
    assert_eq!(scored["usage"]["completion_tokens"], 0);
    let longer =
        complete(&application, json!({ "prompt": "abc", "echo": true, "logprobs": 0, "max_tokens": 2 }))
            .await;
    let own = &scored["choices"][0]["logprobs"]["token_logprobs"];
    let same = &longer["choices"][0]["logprobs"]["token_logprobs"].as_array().expect("a list")[..3];
    assert_eq!(own, &json!(same), "a score does not depend on what is generated after it");
}

#[tokio::test]
async fn several_prompts_and_the_best_of_several_answers() {
    let application = Application::new().await;
    let answer =
        complete(&application, json!({ "prompt": ["a", "b"], "n": 2, "seed": 3, "temperature": 1 })).await;
    let indexes: Vec<&Value> =
        answer["choices"].as_array().expect("choices").iter().map(|choice| &choice["index"]).collect();
    assert_eq!(json!(indexes), json!([0, 1, 2, 3]));
    let alone = complete(&application, json!({ "prompt": "b", "n": 2, "seed": 3, "temperature": 1 })).await;
    assert_eq!(answer["choices"][2]["text"], alone["choices"][0]["text"]);
    let tokens = complete(&application, json!({ "prompt": [98], "n": 2, "seed": 3, "temperature": 1 })).await;
    assert_eq!(tokens["choices"][1]["text"], alone["choices"][1]["text"]);

    let mean = |choice: &Value| -> f64 {
        let list = choice["logprobs"]["token_logprobs"].as_array().expect("a list");
        list.iter().filter_map(Value::as_f64).sum::<f64>() / list.len() as f64
    };
    let sampled = json!({ "n": 4, "seed": 3, "temperature": 2, "logprobs": 0 });
    let all = complete(&application, sampled.clone()).await;
    let mut one = sampled;
    merge(&mut one, json!({ "n": 1, "best_of": 4 }));
    let best = complete(&application, one).await;
    let best_of_all = all["choices"].as_array().expect("choices").iter().map(mean).fold(f64::MIN, f64::max);
    assert_eq!(mean(&best["choices"][0]), best_of_all);
    assert_eq!(best["usage"]["completion_tokens"], all["usage"]["completion_tokens"]);
}

#[tokio::test]
async fn formats_hold_whatever_the_model_would_say() {
    let application = Application::new().await;
    let schema = json!({ "type": "object", "properties": { "yes": { "type": "boolean" } }, "required": ["yes"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
    let answer = chat(&application, json!({ "response_format": format, "max_tokens": 200 })).await;
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let value: Value = serde_json::from_str(content).unwrap_or_else(|error| panic!("{error}: {content}"));
    assert!(value["yes"].is_boolean(), "{content}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let matched = complete(&application, json!({ "regex": "[0-9]{3}-(aa|bb)" })).await;
    let text = matched["choices"][0]["text"].as_str().expect("text");
    assert!(
        text.len() == 6 && text.as_bytes()[3] == b'-' && (text.ends_with("aa") || text.ends_with("bb")),
        "{text}"
    );

    let grammar = complete(&application, json!({ "grammar": "start: \"yes\" | \"no\"" })).await;
    assert!(["yes", "no"].contains(&grammar["choices"][0]["text"].as_str().expect("text")), "{grammar}");
}

#[tokio::test]
async fn a_required_tool_is_called_whole_and_streamed() {
    let application = Application::new().await;
    let parameters = json!({ "type": "object", "properties": { "metric": { "type": "boolean" } }, "required": ["metric"], "additionalProperties": false });
    let more = json!({
        "tools": [{ "type": "function", "function": { "name": "weather", "description": "The weather.", "parameters": parameters } }],
        "tool_choice": { "type": "function", "function": { "name": "weather" } }, "parallel_tool_calls": false, "max_tokens": 300,
        // JSON may hold any white space, and this model would write nothing else.
        "logit_bias": { "9": -100, "10": -100, "13": -100, "32": -100 },
    });
    let answer = chat(&application, more.clone()).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let calls = choice["message"]["tool_calls"].as_array().expect("calls");
    assert_eq!(
        (calls.len(), &calls[0]["type"], &calls[0]["function"]["name"]),
        (1, &json!("function"), &json!("weather"))
    );
    let arguments: Value =
        serde_json::from_str(calls[0]["function"]["arguments"].as_str().expect("text")).expect("JSON");
    assert!(arguments["metric"].is_boolean());

    let mut body = more;
    merge(&mut body, json!({ "stream": true }));
    let events = streamed(&application, CHAT, chat_body(body)).await;
    let deltas: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .collect();
    assert_eq!(deltas[0]["function"]["name"], "weather");
    assert!(
        deltas[0]["id"].is_string()
            && deltas[1..].iter().all(|delta| delta.get("id").is_none() && delta["index"] == 0)
    );
    let text: String = deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(json!(text), calls[0]["function"]["arguments"]);
}

#[tokio::test]
async fn stop_texts_and_tokens_end_the_answer() {
    let application = Application::new().await;
    // A bias that only leaves `a` makes the answer predictable.
    let only_a = json!({ "97": 100 });
    let stopped = chat(&application, json!({ "logit_bias": only_a, "stop": ["aaa"] })).await;
    assert_eq!(
        (&stopped["choices"][0]["message"]["content"], &stopped["choices"][0]["finish_reason"]),
        (&json!(""), &json!("stop"))
    );
    let token = chat(&application, json!({ "logit_bias": only_a, "stop_token_ids": [97] })).await;
    assert_eq!(token["choices"][0]["finish_reason"], "stop");
    let full = chat(&application, json!({ "logit_bias": only_a })).await;
    assert_eq!(full["choices"][0]["message"]["content"], "a".repeat(12));
    let outside =
        application.post(CHAT, chat_body(json!({ "logit_bias": { VOCABULARY.to_string(): 1 } }))).await;
    assert_eq!(
        (outside.status.as_u16(), outside.error().2.as_str()),
        (400, "logit_bias"),
        "{}",
        outside.text
    );
}

#[tokio::test]
async fn models_are_listed_with_their_state() {
    let application = Application::new().await;
    let list = application.get("/v1/models").await.json();
    assert_eq!(
        (&list["object"], &list["data"][0]["id"], &list["data"][0]["loaded"]),
        (&json!("list"), &json!("tiny"), &json!(false))
    );
    chat(&application, json!({})).await;
    let one = application.get("/v1/models/tiny").await.json();
    assert_eq!(
        (&one["object"], &one["loaded"], &one["context_length"]),
        (&json!("model"), &json!(true), &json!(support::CONTEXT))
    );
    let none = application.get("/v1/models/org/other").await;
    assert_eq!((none.status.as_u16(), none.error().1.as_str()), (404, "model_not_found"));
    assert!(none.error().0.contains("served: tiny"));
}

#[tokio::test]
async fn what_happened_is_counted() {
    let application = Application::new().await;
    chat(&application, json!({})).await;
    application.post(CHAT, chat_body(json!({ "temperature": 9 }))).await;
    let text = application.get("/metrics").await.text;
    for line in [
        r#"zhenjin_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1"#,
        r#"zhenjin_http_requests_total{method="POST",route="/v1/chat/completions",status="400"} 1"#,
        r#"zhenjin_generations_total{model="tiny",end="length"} 1"#,
        r#"zhenjin_answer_tokens_total{model="tiny"} 12"#,
        r#"zhenjin_time_to_first_token_seconds_count{model="tiny"} 1"#,
        r#"zhenjin_inter_token_seconds_count{model="tiny"} 11"#,
        r#"zhenjin_model_loaded{model="tiny"} 1"#,
        r#"zhenjin_queue_length{model="tiny"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\n---\n{text}");
    }
}

#[tokio::test]
async fn a_draft_model_changes_no_answer_and_its_guesses_are_counted() {
    let (plain, drafted) = (Application::new().await, Application::with_draft().await);
    drafted.state.models.check_drafts().expect("one tokenizer");
    for more in [
        json!({ "temperature": 0 }),
        json!({ "temperature": 1, "seed": 3, "logprobs": true, "top_logprobs": 2 }),
        json!({ "temperature": 1, "seed": 4, "presence_penalty": 1 }),
        json!({ "temperature": 0, "response_format": { "type": "json_object" } }),
        json!({ "temperature": 1, "seed": 5, "n": 3 }),
    ] {
        let mut long = json!({ "max_tokens": 80 });
        merge(&mut long, more.clone());
        let [expected, found] =
            [&plain, &drafted].map(|application| application.post(CHAT, chat_body(long.clone())));
        let (expected, found) = (expected.await.json(), found.await.json());
        assert_eq!(found["choices"], expected["choices"], "{more}");
        assert_eq!(found["system_fingerprint"], expected["system_fingerprint"]);
        assert!(expected["choices"][0]["message"].is_object(), "{expected}");
    }
    let text = drafted.get("/metrics").await.text;
    let guessed = text.lines().filter_map(|line| {
        line.strip_prefix(r#"zhenjin_draft_tokens_total{model="tiny",by="model",end=""#)?.rsplit(' ').next()
    });
    let guessed: u64 = guessed.map(|count| count.parse::<u64>().expect("a count")).sum();
    assert!(guessed > 0, "{text}");
    // Weights and workspace count twice.
    let memory = |application: &Application| application.state.models.list()[0].memory_bytes.expect("loaded");
    assert!(memory(&drafted) > memory(&plain) * 5 / 4, "{} {}", memory(&drafted), memory(&plain));
}

/// A client takes an answer for greedy if each token's log-probability is the largest of the list at its place.
#[tokio::test]
async fn every_reported_pair_of_log_probabilities_is_equal() {
    let application = Application::new().await;
    for more in [
        json!({ "logprobs": 5, "echo": true }),
        json!({ "logprobs": 1 }),
        json!({ "logprobs": 5, "max_tokens": 60 }),
    ] {
        let report = complete(&application, more).await["choices"][0]["logprobs"].clone();
        let list = |name: &str| report[name].as_array().expect("a list").clone();
        let (tokens, own, top) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
        assert!(!tokens.is_empty() && tokens.len() == own.len() && own.len() == top.len());
        for ((token, own), top) in tokens.iter().zip(&own).zip(&top).filter(|((_, own), _)| !own.is_null()) {
            assert_eq!(&top[token.as_str().expect("a text")], own);
            assert!(own.to_string().len() <= 14, "{own} has more digits than an f32");
        }
    }
    let greedy = complete(&application, json!({ "logprobs": 3 })).await["choices"][0]["logprobs"].clone();
    for (own, top) in greedy["token_logprobs"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(greedy["top_logprobs"].as_array().expect("a list"))
    {
        let largest =
            top.as_object().expect("an object").values().filter_map(Value::as_f64).fold(f64::MIN, f64::max);
        assert_eq!(own.as_f64(), Some(largest));
    }
    let chat = chat(&application, json!({ "logprobs": true, "top_logprobs": 2 })).await;
    for token in chat["choices"][0]["logprobs"]["content"].as_array().expect("a list") {
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"]);
    }
}

/// Always the same token.
const LOOP: &str = r#"{ "logit_bias": { "40": 100 }, "max_tokens": 100, "repetition_detection": null }"#;

#[tokio::test]
async fn an_answer_that_repeats_itself_ends_and_says_so() {
    let application = Application::new().await;
    let looping = |detection: Value| {
        let mut body: Value = serde_json::from_str(LOOP).expect("JSON");
        body["repetition_detection"] = detection;
        body
    };
    let rule = json!({ "max_pattern_size": 4, "min_count": 10 });
    let answer = chat(&application, looping(rule.clone())).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["stop_reason"], "repetition_detected");
    assert_eq!(answer["usage"]["completion_tokens"], 10);
    let text = answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();

    let mut streaming = looping(rule.clone());
    merge(&mut streaming, json!({ "stream": true }));
    let events = streamed(&application, CHAT, chat_body(streaming)).await;
    let last = &events.last().expect("events")["choices"][0];
    assert_eq!(
        (&last["finish_reason"], &last["stop_reason"]),
        (&json!("length"), &json!("repetition_detected"))
    );
    let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), text);

    let completed = complete(&application, looping(rule)).await;
    assert_eq!(completed["choices"][0]["stop_reason"], "repetition_detected");
    assert_eq!(completed["usage"]["completion_tokens"], 10);
    for switch in [json!(false), json!(null), json!(true), json!({ "max_pattern_size": 0 })] {
        let answer = chat(&application, looping(switch)).await;
        assert_eq!(answer["usage"]["completion_tokens"], 100);
        assert_eq!(answer["choices"][0].get("stop_reason"), None);
    }
}

/// A model that takes part in nothing but forms: white space is forbidden to it.
fn without_spaces() -> Value {
    json!({ "9": -100, "10": -100, "13": -100, "32": -100 })
}

#[tokio::test]
async fn with_tools_an_answer_is_a_call_or_in_the_format() {
    let application = Application::new().await;
    let parameters =
        json!({ "type": "object", "properties": { "n": { "type": "boolean" } }, "required": ["n"] });
    let schema =
        json!({ "type": "object", "properties": { "yes": { "type": "boolean" } }, "required": ["yes"] });
    let body = |choice: &str, first: &str| {
        // The first token decides: `{` begins the format, `<` a call.
        let mut bias = without_spaces();
        bias[first.as_bytes()[0].to_string()] = json!(20);
        json!({
            "tools": [{ "type": "function", "function": { "name": "f", "parameters": parameters } }], "tool_choice": choice,
            "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": schema } },
            "max_tokens": 300, "logit_bias": bias,
        })
    };
    let answer = chat(&application, body("auto", "{")).await;
    let message = &answer["choices"][0]["message"];
    let content: Value = serde_json::from_str(message["content"].as_str().expect("a text")).expect("JSON");
    assert!(content["yes"].is_boolean() && message.get("tool_calls").is_none(), "{answer}");
    for (choice, first) in [("auto", "<"), ("required", "{")] {
        let answer = chat(&application, body(choice, first)).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{choice}: {answer}");
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
        assert!(arguments["n"].is_boolean());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_its_schema_is_never_returned() {
    let application = Application::new().await;
    // Tokens are not held to `uniqueItems`, and this model says one thing only.
    let schema = json!({ "type": "array", "items": { "type": "string", "pattern": "^a?$" }, "minItems": 2, "maxItems": 3, "uniqueItems": true });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    let mut bias = without_spaces();
    bias["97"] = json!(-100);
    let body = json!({ "response_format": format, "logit_bias": bias, "max_tokens": 100 });
    let answer = application.post(CHAT, chat_body(body.clone())).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "json_validate_failed");
    assert!(error["message"].as_str().expect("text").contains("/uniqueItems"), "{error}");
    let mut streaming = body;
    merge(&mut streaming, json!({ "stream": true }));
    let answer = application.post(CHAT, chat_body(streaming)).await;
    assert!(answer.events().iter().any(|event| event.contains("json_validate_failed")), "{}", answer.text);
}

#[tokio::test]
async fn a_schema_that_cannot_be_held_to_is_refused_by_its_pointer() {
    let application = Application::new().await;
    for (schema, pointer) in [
        (json!({ "properties": { "a": { "$ref": "#/$defs/b" } } }), "`/properties/a/$ref`"),
        (
            json!({ "properties": { "a": { "type": "integer", "minimum": 2, "maximum": 1 } }, "required": ["a"] }),
            "`/properties/a/minimum`",
        ),
        (json!({ "properties": { "a": { "type": "list" } } }), "`/properties/a/type`"),
    ] {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
        let answer = application.post(CHAT, chat_body(json!({ "response_format": format }))).await;
        assert_eq!(answer.status, 400);
        let error = &answer.json()["error"];
        assert_eq!(error["param"], "response_format");
        let message = error["message"].as_str().expect("text");
        assert!(message.contains(pointer) && !message.contains("line"), "{message}");
    }
}

#[tokio::test]
async fn keys_come_to_an_end_where_nothing_forbids_more() {
    let application = Application::new().await;
    let person = json!({ "type": "object", "properties": { "name": { "type": "string", "maxLength": 3 } }, "required": ["name"] });
    let schema = json!({ "type": "object", "properties": { "people": { "type": "array", "items": person, "maxItems": 2 } }, "required": ["people"] });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": schema } });
    let body = json!({ "response_format": format, "logit_bias": without_spaces(), "max_tokens": 300, "temperature": 1, "seed": 4 });
    let answer = chat(&application, body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    let content = answer["choices"][0]["message"]["content"].as_str().expect("text");
    let value: Value = serde_json::from_str(content).expect("JSON");
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&value), ["people"]);
    value["people"].as_array().expect("a list").iter().for_each(|person| assert_eq!(names(person), ["name"]));
}

/// Regression: an answer that was cut in a call showed the beginning of the model's notation as its content.
#[tokio::test]
async fn notation_of_a_call_that_is_cut_is_no_content() {
    let tools = json!([{ "type": "function", "function": { "name": "add" } }]);
    let tiny = Application::new().await;
    let script = ["<tool_call>", "{\"name", "\": \"add\", \"arguments\": {}}"];
    let scripted = Application::with_script(&support::template_that_ends_with(""), &script).await;
    for (application, choice, max_tokens) in
        [(&tiny, "required", 3), (&tiny, "required", 20), (&scripted, "auto", 1), (&scripted, "auto", 2)]
    {
        let more = json!({ "tools": tools, "tool_choice": choice, "max_tokens": max_tokens, "logit_bias": without_spaces() });
        let whole = chat(application, more.clone()).await;
        let (message, reason) = (&whole["choices"][0]["message"], &whole["choices"][0]["finish_reason"]);
        assert_eq!((&message["content"], reason), (&json!(""), &json!("length")), "{whole}");
        let mut body = more;
        body["stream"] = json!(true);
        for event in streamed(application, CHAT, chat_body(body)).await {
            let content = &event["choices"][0]["delta"]["content"];
            assert!(content.is_null() || content == "", "{event}");
        }
    }
}

/// Regression: a call that the request's own stop text or token cut off was reported as one to make, or failed as it broke its schema.
#[tokio::test]
async fn a_call_that_is_cut_off_is_none_to_make() {
    let tools = json!([{ "type": "function", "function": { "name": "add" } }]);
    let script = ["<tool_call>", "{\"name\": \"add\", \"arguments\": {\"a\":", " 12", "}}", "</tool_call>"];
    let application = Application::with_script(&support::template_that_ends_with(""), &script).await;
    for (more, reason, arguments) in [
        (json!({}), "tool_calls", "{\"a\": 12}"),
        (json!({ "stop": "12" }), "stop", "{\"a\": "),
        (json!({ "stop_token_ids": [VOCABULARY + 2] }), "stop", "{\"a\":"),
        // What comes after a whole call may be cut off.
        (json!({ "stop": "</tool_call>" }), "tool_calls", "{\"a\": 12}"),
    ] {
        let mut body = more.clone();
        body["tools"] = tools.clone();
        body["max_tokens"] = json!(40);
        let answer = chat(&application, body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], reason, "{more}: {answer}");
        let call = &choice["message"]["tool_calls"][0]["function"];
        assert_eq!(call["arguments"], arguments, "{more}: {answer}");
    }

    let application = Application::new().await;
    let item = json!({ "type": "string", "pattern": "^a?$" });
    let list = json!({ "type": "array", "items": item, "minItems": 2, "maxItems": 3, "uniqueItems": true });
    let parameters = json!({ "type": "object", "properties": { "n": list }, "required": ["n"] });
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": parameters } }]);
    let body = json!({ "tools": tools, "tool_choice": "required", "max_tokens": 300, "logit_bias": without_spaces(), "stop": "[" });
    let answer = chat(&application, body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
}
