//! Fields, routes and addresses that clients of other servers use.

use crate::support::{self, Application, template_that_ends_with};
use axum::http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

async fn scripted() -> Application {
    Application::with_script(&template_that_ends_with(""), &["One", " two", " three"]).await
}

async fn post(application: &Application, path: &str, body: Value) -> Value {
    let answer = application.post(path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
    answer.json()
}

async fn chat(application: &Application, more: Value) -> Value {
    let mut body =
        json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }], "temperature": 0 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    post(application, CHAT, body).await
}

#[tokio::test]
async fn an_answer_goes_on_past_its_end_or_may_not_end_too_soon() {
    let application = scripted().await;
    let plain = chat(&application, json!({})).await;
    assert_eq!(plain["choices"][0]["message"]["content"], "One two three");
    assert_eq!(plain["usage"]["completion_tokens"], 4);
    let on = chat(&application, json!({ "ignore_eos": true, "max_tokens": 9 })).await;
    assert_eq!(
        (&on["usage"]["completion_tokens"], &on["choices"][0]["finish_reason"]),
        (&json!(9), &json!("length"))
    );
    let least = chat(&application, json!({ "min_tokens": 6, "max_tokens": 12 })).await;
    assert!(least["usage"]["completion_tokens"].as_u64().is_some_and(|count| count > 6), "{least}");
    // The end token may be the last of exactly as many.
    let least = chat(&application, json!({ "min_tokens": 3, "max_tokens": 12 })).await;
    assert_eq!(least["choices"][0]["message"]["content"], "One two three");
    let unlimited = chat(&application, json!({ "max_tokens": -1, "top_k": -1 })).await;
    assert_eq!(unlimited["choices"], plain["choices"]);
}

#[tokio::test]
async fn every_piece_of_a_stream_reports_the_usage_if_asked() {
    let application = scripted().await;
    let options = json!({ "include_usage": true, "continuous_usage_stats": true });
    for (path, prompt) in [(CHAT, "messages"), ("/v1/completions", "prompt")] {
        let mut body = json!({ "model": "tiny", "temperature": 0, "max_tokens": 3, "stream": true, "stream_options": options });
        body[prompt] =
            if prompt == "prompt" { json!("a\n") } else { json!([{ "role": "user", "content": "hi" }]) };
        let answer = application.post(path, body.to_string()).await;
        let pieces: Vec<Value> =
            answer.events().iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
        let counts: Vec<u64> = pieces
            .iter()
            .map(|piece| piece["usage"]["completion_tokens"].as_u64().expect("a count"))
            .collect();
        assert!(counts.is_sorted() && counts.contains(&1) && counts.last() == Some(&3), "{path}: {counts:?}");
        assert!(
            pieces.iter().all(|piece| piece["usage"]["prompt_tokens"] == pieces[0]["usage"]["prompt_tokens"])
        );
    }
    let body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "x" }], "stream": true,
        "stream_options": { "continuous_usage_stats": true } });
    let (message, ..) = application.post(CHAT, body.to_string()).await.error();
    assert!(message.contains("only allowed with `include_usage`"), "{message}");
}

#[tokio::test]
async fn formats_are_understood_under_their_other_names() {
    let application = Application::new().await;
    let schema = json!({ "type": "object", "properties": { "a": { "type": "boolean" } }, "required": ["a"], "additionalProperties": false });
    for format in [
        json!({ "response_format": { "type": "json_object", "schema": schema } }),
        json!({ "response_format": { "type": "json_schema", "schema": schema } }),
        json!({ "json_schema": schema }),
        json!({ "guided_json": schema.to_string() }),
        json!({ "structured_outputs": { "json": schema } }),
    ] {
        let answer = chat(&application, format.clone()).await;
        let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{format}: {error}: {text}"));
        assert!(value["a"].is_boolean(), "{format}: {text}");
    }
    for format in [
        json!({ "guided_choice": ["左", "a \"b\"\n"] }),
        json!({ "structured_outputs": { "choice": ["左", "a \"b\"\n"] } }),
    ] {
        let answer = chat(&application, format).await;
        let text = answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
        assert!(["左", "a \"b\"\n"].contains(&text.as_str()), "{text:?}");
    }
    let answer = chat(&application, json!({ "guided_regex": "[xy]{3}" })).await;
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().map(str::len), Some(3));
    let answer = chat(&application, json!({ "n_probs": 2, "max_tokens": 1 })).await;
    assert_eq!(
        answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn texts_become_tokens_and_tokens_texts() {
    let application = Application::new().await;
    let tokens = post(&application, "/tokenize", json!({ "content": "hi" })).await;
    assert_eq!(
        tokens,
        json!({ "count": 2, "max_model_len": 8192, "tokens": [104, 105], "token_strs": null })
    );
    let tokens = post(
        &application,
        "/tokenize",
        json!({ "model": "tiny", "prompt": "é", "return_token_strs": true, "with_pieces": true }),
    )
    .await;
    assert_eq!(tokens["tokens"], json!([{ "id": 195, "piece": [195] }, { "id": 169, "piece": [169] }]));
    assert_eq!(tokens["token_strs"], json!(["\u{fffd}", "\u{fffd}"]));
    let marked = json!({ "content": "<|im_end|>" });
    assert_eq!(post(&application, "/tokenize", marked.clone()).await["count"], 10);
    assert_eq!(
        post(&application, "/tokenize", json!({ "content": "<|im_end|>", "parse_special": true })).await["tokens"],
        json!([258])
    );
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let conversation = post(&application, "/tokenize", json!({ "messages": messages })).await;
    let answer = chat(&application, json!({ "max_tokens": 1 })).await;
    assert_eq!(conversation["count"], answer["usage"]["prompt_tokens"]);
    let back = post(&application, "/detokenize", json!({ "tokens": conversation["tokens"] })).await;
    assert_eq!(back["prompt"], "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(back["prompt"], back["content"]);
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    for (path, body, words) in [
        ("/tokenize", json!({}), "one of `prompt`, `content` and `messages`"),
        ("/tokenize", json!({ "prompt": "a", "content": "b" }), "one of `prompt`, `content` and `messages`"),
        ("/tokenize", json!({ "prompt": "a", "model": "other" }), "not served here"),
        ("/tokenize", json!({ "prompt": "a", "tools": tools }), "`tools` has no effect beside `prompt`"),
        ("/tokenize", json!({ "content": "a", "tools": tools }), "`tools` has no effect beside `content`"),
        (
            "/tokenize",
            json!({ "messages": messages, "parse_special": true }),
            "`parse_special` has no effect",
        ),
        ("/tokenize", json!({ "messages": messages, "add_special": true }), "`add_special` has no effect"),
        (
            "/tokenize",
            json!({ "messages": messages, "add_special_tokens": true }),
            "`add_special_tokens` has no effect",
        ),
        (
            "/tokenize",
            json!({ "prompt": "a", "add_special_tokens": true, "add_special": false }),
            "`add_special_tokens` and `add_special` contradict",
        ),
        ("/detokenize", json!({}), "`tokens` is missing"),
        ("/detokenize", json!({ "tokens": [259] }), "`tokens`"),
    ] {
        let answer = application.post(path, body.to_string()).await;
        assert!(
            answer.status.is_client_error() && answer.error().0.contains(words),
            "{path} {body}: {}",
            answer.text
        );
    }
}

/// Regression: a text of millions of tokens was listed whole, each token as an object of gigabytes together.
#[tokio::test]
async fn more_tokens_than_are_listed_are_refused_with_their_number() {
    let application = Application::new().await;
    // A byte is a token here.
    let text = "ab ".repeat(166_334);
    for (field, more) in [("content", json!({})), ("prompt", json!({ "with_pieces": true }))] {
        let mut body = more;
        body[field] = json!(text);
        let (message, _, param) = application.post("/tokenize", body.to_string()).await.error();
        assert_eq!(param, field);
        assert!(message.contains("has 499002 tokens") && message.contains("at most 499000"), "{message}");
    }
    let tokens = post(&application, "/tokenize", json!({ "content": &text[2..], "with_pieces": true })).await;
    assert_eq!(tokens["tokens"].as_array().map(Vec::len), Some(499_000));
    assert_eq!(tokens["tokens"][0], json!({ "id": 32, "piece": " " }));
}

/// Regression: a list could have as many tokens as a body may have values, and so not be sent back with what stands around it.
#[tokio::test]
async fn the_longest_list_of_tokens_can_be_sent_back() {
    let application = Application::new().await;
    let text = format!("{}a", "ab ".repeat(166_333));
    let tokens = post(&application, "/tokenize", json!({ "content": text })).await["tokens"].take();
    assert_eq!(tokens.as_array().map(Vec::len), Some(499_000));
    let back = post(&application, "/detokenize", json!({ "model": "tiny", "tokens": tokens })).await;
    assert!(back["content"] == text, "{} bytes", back["content"].as_str().unwrap_or_default().len());
}

#[tokio::test]
async fn health_version_and_properties() {
    let application = Application::new().await;
    assert_eq!(application.get("/health").await.json()["status"], "ok");
    assert_eq!(application.get("/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
    let props = application.get("/props").await.json();
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(8), &json!("tiny")));
    assert_eq!(props["default_generation_settings"]["n_ctx"], Value::Null);
    chat(&application, json!({ "max_tokens": 1 })).await;
    let settings = application.get("/props?model=tiny").await.json()["default_generation_settings"].clone();
    assert_eq!((&settings["n_ctx"], &settings["params"]["temperature"]), (&json!(8192), &json!(1.0)));
    assert_eq!(application.get("/props?model=other").await.status, 404);
}

#[tokio::test]
async fn the_base_address_may_end_with_the_version_or_not() {
    let application = Application::new().await;
    let models = application.get("/v1/models").await.json();
    for path in ["/models", "/v1/v1/models"] {
        assert_eq!(application.get(path).await.json(), models, "{path}");
    }
    assert_eq!(application.get("/models/tiny").await.json()["id"], "tiny");
    let body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 });
    assert_eq!(post(&application, "/chat/completions", body).await["object"], "chat.completion");
    let body = json!({ "model": "tiny", "prompt": "hi", "max_tokens": 1 });
    assert_eq!(post(&application, "/completions", body).await["object"], "text_completion");
}

#[tokio::test]
async fn only_the_pages_own_address_is_answered_with_the_page() {
    let application = Application::new().await;
    let page = application.get("/").await;
    assert!(page.headers["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/html")));
    for path in [
        "/chat",
        "/chat/completions/x",
        "/v2/models",
        "/c/1",
        "/index.htm",
        "/%2e%2e/etc/passwd",
        "/.git/config",
    ] {
        let answer = application.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (404, "unknown_url"), "{path}");
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    }
}

#[tokio::test]
async fn an_unknown_address_names_the_likely_one_and_allows_nothing() {
    let application = Application::new().await;
    for (method, path, near) in [
        (Method::POST, "/v1/chat/completion", "`/v1/chat/completions`"),
        (Method::POST, "/completion", "`/v1/completions`"),
        (Method::GET, "/v1/chat/completions/", "`/v1/chat/completions`"),
        (Method::DELETE, "/tokenise", "`/tokenize`"),
        (Method::POST, "/nothing/like/it", "/docs lists all of them"),
    ] {
        let request = support::request(method.clone(), path).body(axum::body::Body::empty()).expect("valid");
        let answer = application.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().1.as_str()),
            (404, "unknown_url"),
            "{method} {path}"
        );
        assert!(answer.error().0.contains(near), "{method} {path}: {}", answer.text);
        assert!(!answer.headers.contains_key("allow"), "{method} {path}");
    }
    let wrong = application.get(CHAT).await;
    assert_eq!((wrong.status.as_u16(), wrong.headers["allow"].as_bytes()), (405, b"POST".as_slice()));
}
