//! Ollama's API: shapes, streams, names, options, errors.

use crate::support::{self, Answer, Application, request};
use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use zhenjin_server::ServerOptions;

fn chat_body(more: Value) -> String {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }],
        "options": { "num_predict": 12, "temperature": 0 } });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body.to_string()
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_chat_streams_lines_by_default_and_says_the_same_whole() {
    let application = Application::new().await;
    let answer = application.post("/api/chat", chat_body(json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = lines(&answer);
    let (last, pieces) = lines.split_last().expect("lines");
    let text: String = pieces.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert!(pieces.iter().all(|line| line["done"] == false && line["model"] == "tiny"));
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("length"), &json!(12))
    );
    for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(last[name].is_u64(), "{name}: {last}");
    }
    let total = last["total_duration"].as_u64().expect("nanoseconds");
    assert!(total >= last["eval_duration"].as_u64().expect("nanoseconds") && total > 1000, "{last}");

    let whole = application.post("/api/chat", chat_body(json!({ "stream": false }))).await.json();
    assert_eq!(whole["message"]["content"], text);
    assert_eq!(whole["message"]["role"], "assistant");
    assert_eq!((&whole["done"], &whole["prompt_eval_count"]), (&json!(true), &last["prompt_eval_count"]));
    assert!(whole["created_at"].as_str().expect("a time").ends_with('Z'));
}

#[tokio::test]
async fn generating_uses_the_template_unless_raw() {
    let application = Application::new().await;
    let generate = async |more: Value| {
        let mut body = json!({ "model": "tiny", "prompt": "hi", "stream": false,
            "options": { "num_predict": 8, "temperature": 0 } });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = application.post("/api/generate", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let plain = generate(json!({})).await;
    assert!(plain["response"].is_string() && plain["done"] == true);
    let chat = application.post("/api/chat", chat_body(json!({ "stream": false }))).await.json();
    assert_eq!(plain["prompt_eval_count"], chat["prompt_eval_count"]);
    let with_system = generate(json!({ "system": "Be brief." })).await;
    assert!(with_system["prompt_eval_count"].as_u64() > plain["prompt_eval_count"].as_u64());
    let raw = generate(json!({ "raw": true })).await;
    assert!(raw["prompt_eval_count"].as_u64() < plain["prompt_eval_count"].as_u64());
}

#[tokio::test]
async fn a_format_holds() {
    let application = Application::new().await;
    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1, 2] } }, "required": ["a"], "additionalProperties": false });
    let body = chat_body(
        json!({ "stream": false, "format": schema, "options": { "num_predict": 200, "temperature": 1, "seed": 7 } }),
    );
    let answer = application.post("/api/chat", body).await.json();
    let content = answer["message"]["content"].as_str().expect("text");
    let value: Value = serde_json::from_str(content).expect("JSON");
    assert!(value["a"] == 1 || value["a"] == 2, "{value}");
    for bad in [json!("yaml"), json!(7), json!(true)] {
        let answer = application.post("/api/chat", chat_body(json!({ "format": bad }))).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.json()["error"].as_str().expect("words").contains("`format`"));
    }
}

#[tokio::test]
async fn names_resolve_with_latest_and_nothing_else_answers() {
    let application = Application::new().await;
    for name in ["tiny", "tiny:latest"] {
        let mut body: Value = serde_json::from_str(&chat_body(json!({ "stream": false }))).expect("JSON");
        body["model"] = json!(name);
        let answer = application.post("/api/chat", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["model"], name);
    }
    for name in ["tiny:7b", "other", "latest"] {
        let mut body: Value = serde_json::from_str(&chat_body(json!({}))).expect("JSON");
        body["model"] = json!(name);
        let answer = application.post("/api/chat", body.to_string()).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert!(answer.json()["error"].as_str().expect("words").contains(name));
    }
}

#[tokio::test]
async fn a_model_is_listed_described_loaded_and_unloaded() {
    let application = Application::new().await;
    let tags = application.get("/api/tags").await.json();
    assert_eq!(tags["models"][0]["name"], "tiny");
    assert_eq!(tags["models"][0]["details"]["format"], "safetensors");
    assert_eq!(application.get("/api/ps").await.json()["models"], json!([]));

    let load = json!({ "model": "tiny" }).to_string();
    let loaded = application.post("/api/generate", load.clone()).await.json();
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    let running = application.get("/api/ps").await.json();
    assert_eq!(running["models"][0]["name"], "tiny");
    assert_eq!(running["models"][0]["context_length"], support::CONTEXT);

    let unload = json!({ "model": "tiny", "keep_alive": 0 }).to_string();
    assert_eq!(application.post("/api/chat", unload).await.json()["done_reason"], "unload");
    assert_eq!(application.get("/api/ps").await.json()["models"], json!([]));
    // After an answer as well, once it has been read to its end.
    let answer = application.post("/api/chat", chat_body(json!({ "keep_alive": "0s" }))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(application.get("/api/ps").await.json()["models"], json!([]));

    let card = application.post("/api/show", load).await.json();
    assert_eq!(card["model_info"]["general.architecture"], card["details"]["family"]);
    assert!(card["capabilities"].as_array().expect("a list").contains(&json!("completion")));
    assert!(!card["template"].as_str().expect("a template").is_empty());
}

/// Regression: a model stayed for ever, whatever time above 0 `keep_alive` named.
#[tokio::test]
async fn a_model_stays_as_long_as_keep_alive_says() {
    let application = Application::new().await;
    let expires_at = async || application.get("/api/ps").await.json()["models"][0]["expires_at"].clone();
    let load = |keep_alive: Value| json!({ "model": "tiny", "keep_alive": keep_alive }).to_string();
    let never = json!("9999-12-31T23:59:59Z");

    application.post("/api/generate", load(json!("1h"))).await;
    let an_hour = expires_at().await;
    let now = time::OffsetDateTime::now_utc();
    let format = &time::format_description::well_known::Rfc3339;
    let at = time::OffsetDateTime::parse(an_hour.as_str().expect("a time"), format).expect("a time");
    assert!((3500..=3600).contains(&(at - now).whole_seconds()), "{an_hour}");
    // The last word counts: another time, none, for ever.
    application.post("/api/chat", chat_body(json!({ "keep_alive": 7200, "stream": false }))).await;
    assert!(expires_at().await.as_str() > an_hour.as_str());
    for stay in [json!({ "stream": false }), json!({ "keep_alive": -1 })] {
        application.post("/api/generate", load(json!("1h"))).await;
        application.post("/api/chat", chat_body(stay)).await;
        assert_eq!(expires_at().await, never);
    }

    application.post("/api/generate", load(json!("50ms"))).await;
    let gone = async {
        while application.get("/api/ps").await.json()["models"] != json!([]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("it is unloaded");
}

#[tokio::test]
async fn every_option_is_known_or_refused_by_name() {
    let application = Application::new().await;
    let with = |options: Value| chat_body(json!({ "stream": false, "options": options }));
    for fine in [
        json!({ "num_ctx": 8192, "num_predict": 2, "seed": -1, "top_k": -1, "num_thread": 2, "use_mmap": true }),
        json!({ "num_predict": -1, "stop": ["\n", "x"], "repeat_last_n": -1, "mirostat": 0, "tfs_z": 1.0, "typical_p": 1 }),
        json!({ "num_predict": 2, "repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.1, "min_p": 0.05 }),
    ] {
        let answer = application.post("/api/chat", with(fine.clone())).await;
        assert_eq!(answer.status, 200, "{fine}: {}", answer.text);
    }
    for (wrong, named) in [
        (json!({ "temprature": 1 }), "`options.temprature`"),
        (json!({ "temperature": "hot" }), "`options.temperature`"),
        (json!({ "temperature": -1 }), "`options.temperature`"),
        (json!({ "mirostat": 2 }), "`options.mirostat`"),
        (json!({ "typical_p": 0.5 }), "`options.typical_p`"),
        (json!({ "repeat_last_n": 64 }), "`options.repeat_last_n`"),
        (json!({ "num_predict": -3 }), "`options.num_predict`"),
        (json!({ "stop": [""] }), "`options.stop[0]`"),
        (json!([]), "`options`"),
    ] {
        let answer = application.post("/api/chat", with(wrong.clone())).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
        assert!(answer.json()["error"].as_str().expect("words").contains(named), "{wrong}: {}", answer.text);
    }
    // More than there is room for ends where the context does, and says so.
    let long = application.post("/api/chat", with(json!({ "num_predict": 1_000_000 }))).await.json();
    let total =
        long["prompt_eval_count"].as_u64().expect("a count") + long["eval_count"].as_u64().expect("a count");
    assert!(long["done_reason"] == "stop" || total == support::CONTEXT as u64, "{long}");
}

/// Regression: with `raw`, more tokens than there is room for were refused, where all other answers end with the context.
#[tokio::test]
async fn a_raw_answer_ends_with_the_context_as_well() {
    let application = Application::new().await;
    let prompt = "a".repeat(support::CONTEXT - 8);
    let ask = async |prompt: &str| {
        let body = json!({ "model": "tiny", "prompt": prompt, "raw": true, "stream": false,
            "options": { "num_predict": 1_000_000, "temperature": 0 } });
        application.post("/api/generate", body.to_string()).await
    };
    let answer = ask(&prompt).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    let count = |name: &str| answer[name].as_u64().expect("a count");
    let total = count("prompt_eval_count") + count("eval_count");
    assert!(answer["done_reason"] == "stop" || total == support::CONTEXT as u64, "{answer}");
    // A prompt that leaves no room is refused all the same.
    assert_eq!(ask(&"a".repeat(support::CONTEXT)).await.status, 400);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_ollamas_shape() {
    let application = Application::new().await;
    for (path, body, status) in [
        ("/api/embed", json!({ "model": "tiny", "input": "x" }), 400),
        ("/api/embeddings", json!({ "model": "tiny", "prompt": "x" }), 400),
        ("/api/create", json!({ "model": "x", "from": "tiny" }), 400),
        ("/api/copy", json!({ "source": "tiny", "destination": "x" }), 400),
        ("/api/push", json!({ "model": "tiny" }), 400),
        ("/api/pull", json!({ "model": "no-such-model" }), 404),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "suffix": "y" }), 400),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "template": "{{ .Prompt }}" }), 400),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "images": ["aGk="] }), 400),
        ("/api/generate", json!({ "model": "tiny", "prompt": "x", "context": [1, 2] }), 400),
        (
            "/api/chat",
            json!({ "model": "tiny", "messages": [{ "role": "user", "content": "x", "images": ["aGk="] }] }),
            400,
        ),
        ("/api/chat", json!({ "messages": [] }), 400),
        ("/api/chat", json!({ "model": "tiny", "keep_alive": "soon" }), 400),
        ("/api/show", json!({}), 400),
    ] {
        let answer = application.post(path, body.to_string()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        let json = answer.json();
        assert!(json["error"].as_str().is_some_and(|words| !words.is_empty()), "{path}: {json}");
    }
    let wrong_method = application.get("/api/chat").await;
    assert_eq!((wrong_method.status.as_u16(), wrong_method.json()["error"].is_string()), (405, true));
    // The web page's own routes keep their shape.
    assert!(application.get("/api/conversations/none").await.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn a_body_without_its_type_is_read_but_not_from_another_sites_page() {
    let application = Application::new().await;
    let send = async |header: Option<(&str, &str)>| {
        let mut built = request(Method::POST, "/api/chat")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((name, value)) = header {
            built = built.header(name, value);
        }
        application
            .send(built.body(Body::from(chat_body(json!({ "stream": false })))).expect("valid"))
            .await
            .status
            .as_u16()
    };
    assert_eq!(send(None).await, 200);
    assert_eq!(send(Some(("sec-fetch-site", "cross-site"))).await, 415);
    assert_eq!(send(Some(("origin", "http://localhost:8080"))).await, 415);
    assert_eq!(send(Some(("origin", "https://evil.example"))).await, 403);
}

#[tokio::test]
async fn a_key_is_needed_where_one_is_needed() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    for path in ["/api/tags", "/api/ps", "/api/version"] {
        let answer = application.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].is_string()), (401, true), "{path}");
    }
    assert_eq!(application.post("/api/chat", chat_body(json!({}))).await.status, 401);
}

#[tokio::test]
async fn results_of_calls_find_their_calls_and_thoughts_are_taken_back() {
    let application = Application::new().await;
    let messages = json!([
        { "role": "user", "content": "weather?" },
        { "role": "assistant", "content": "", "thinking": "I call.", "tool_calls": [
            { "function": { "index": 0, "name": "get_weather", "arguments": { "city": "Rome" } } },
            { "id": "call_x", "function": { "name": "get_time", "arguments": {} } }] },
        { "role": "tool", "tool_name": "get_time", "content": "noon" },
        { "role": "tool", "content": "sunny", "tool_call_id": "call_1_0" },
    ]);
    let tools = json!([{ "type": "function", "function": { "name": "get_weather", "description": "x", "parameters": { "type": "object", "properties": {} } } }]);
    let answer = application
        .post("/api/chat", chat_body(json!({ "messages": messages, "tools": tools, "stream": false })))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let wrong =
        json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{}" } }] }]);
    let answer = application.post("/api/chat", chat_body(json!({ "messages": wrong }))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().expect("words").contains("arguments"), "{}", answer.text);
}

#[tokio::test]
async fn only_the_operator_pulls_and_deletes() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let send = async |key: &str, method: Method, path: &str| {
        let built = request(method, path).header(header::AUTHORIZATION, format!("Bearer {key}"));
        let body = json!({ "model": "no-such-model" }).to_string();
        application.send(built.body(Body::from(body)).expect("valid")).await.status.as_u16()
    };
    let keys = operators_and_users_key(&application).await;
    for (method, path) in [(Method::POST, "/api/pull"), (Method::DELETE, "/api/delete")] {
        assert_eq!(send(&keys[0], method.clone(), path).await, 404, "{path}");
        assert_eq!(send(&keys[1], method, path).await, 403, "{path}");
    }
}

/// Regression: Ollama's program shows the first twelve digits of every digest and stopped at the empty one of a model that is served by its path.
#[tokio::test]
async fn every_listed_model_has_a_digest_of_64_digits() {
    let application = Application::with_encoder().await;
    let fetched = application.folder.path().join("models/all-minilm--l6");
    support::write_tiny_encoder(&fetched);
    let manifest = json!({ "name": "all-minilm:l6", "source": "here", "open": ".", "files": [] });
    std::fs::write(fetched.join("model.json"), manifest.to_string()).expect("a file");
    assert_eq!(application.post("/api/generate", json!({ "model": "tiny" }).to_string()).await.status, 200);
    for (path, names) in [("/api/tags", vec!["tiny", "encoder", "all-minilm:l6"]), ("/api/ps", vec!["tiny"])]
    {
        let listed = application.get(path).await.json();
        let models = listed["models"].as_array().expect("a list");
        for name in names {
            let model = models.iter().find(|model| model["name"] == name).expect(name);
            let digest = model["digest"].as_str().expect("a text");
            assert!(
                digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{path}: {model}"
            );
        }
    }
    // It stays the same, and each model has its own.
    let digests = async || {
        let listed = application.get("/api/tags").await.json();
        let models = listed["models"].as_array().expect("a list").iter();
        models.map(|model| model["digest"].as_str().unwrap_or("").to_owned()).collect::<Vec<String>>()
    };
    let mut first = digests().await;
    assert_eq!(first, digests().await);
    let count = first.len();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), count);
}

async fn operators_and_users_key(application: &Application) -> [String; 2] {
    let store = &application.state.store;
    let mut keys = Vec::new();
    // The first key is the operator's, later ones are users'.
    for name in ["first", "second"] {
        let (_, secret) = store.create_api_key(zhenjin_store::NewApiKey::named(name)).await.expect("a key");
        keys.push(secret.expose().to_owned());
    }
    keys.try_into().expect("two keys")
}

/// Regression: anybody's `keep_alive` unloaded the model that all others used.
#[tokio::test]
async fn only_the_operator_says_how_long_a_model_stays() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let [operator, user] = operators_and_users_key(&application).await;
    let send = async |key: &str, method: Method, path: &str, body: String| {
        let built = request(method, path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json");
        application.send(built.body(Body::from(body)).expect("valid")).await
    };
    let running = async || {
        let running = send(&operator, Method::GET, "/api/ps", String::new()).await.json();
        running["models"].as_array().expect("a list").first().map(|model| model["expires_at"].clone())
    };
    let load = |keep_alive: Value| json!({ "model": "tiny", "keep_alive": keep_alive }).to_string();
    let loaded = send(&operator, Method::POST, "/api/generate", load(json!(-1))).await;
    assert_eq!(loaded.status, 200, "{}", loaded.text);
    let never = Some(json!("9999-12-31T23:59:59Z"));
    assert_eq!(running().await, never);
    for keep_alive in [json!(0), json!("0s"), json!("0")] {
        for path in ["/api/chat", "/api/generate"] {
            let refused = send(&user, Method::POST, path, load(keep_alive.clone())).await;
            assert_eq!(refused.status, 403, "{path} {keep_alive}: {}", refused.text);
            assert!(refused.text.contains("`keep_alive`"), "{}", refused.text);
        }
    }
    assert_eq!(running().await, never);
    // Clients send a time with every request: it has no effect, and their answers come.
    for keep_alive in [json!("5m"), json!(1), json!("1ns"), json!(-1), json!(0), json!("0s")] {
        let question = chat_body(json!({ "keep_alive": keep_alive, "stream": false }));
        let answer = send(&user, Method::POST, "/api/chat", question).await;
        assert_eq!(answer.status, 200, "{keep_alive}: {}", answer.text);
        assert_eq!(running().await, never, "{keep_alive}");
    }
    let unloaded = send(&operator, Method::POST, "/api/chat", load(json!(0))).await;
    assert_eq!((unloaded.status.as_u16(), &unloaded.json()["done_reason"]), (200, &json!("unload")));
    assert_eq!(running().await, None);
}
