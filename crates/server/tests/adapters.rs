//! Adapters over HTTP: loaded, replaced and unloaded while the server answers; and whose cached prompts a request may use.

use std::path::{Path, PathBuf};

use crate::support::{Answer, Application, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zhenjin_assistant::AdapterSpec;
use zhenjin_server::ServerOptions;

/// An application whose adapter folder holds the folders `poet` and `clerk`, for its tiny model, and what is no adapter.
async fn application() -> Application {
    Application::with_library(|library| {
        copy_adapter("llama-every", &library.adapters.join("poet"));
        copy_adapter("llama-attention", &library.adapters.join("clerk"));
        copy_adapter("llama-every", &library.adapters.parent().expect("a folder").join("outside"));
        std::fs::create_dir(library.adapters.join("empty")).expect("a folder");
        let broken = library.adapters.join("broken");
        std::fs::create_dir(&broken).expect("a folder");
        std::fs::write(broken.join("adapter_config.json"), "{").expect("a file");
    })
    .await
}

fn copy_adapter(name: &str, to: &Path) {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters").join(name);
    std::fs::create_dir_all(to).expect("a folder");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(from.join(file), to.join(file)).expect(file);
    }
}

async fn put(app: &Application, name: &str, body: Value) -> Answer {
    let path = format!("/api/adapters/{name}");
    let asked = request(Method::PUT, &path).header(header::CONTENT_TYPE, "application/json");
    app.send(asked.body(Body::from(body.to_string())).expect("valid")).await
}

async fn delete(app: &Application, name: &str) -> Answer {
    let path = format!("/api/adapters/{name}");
    app.send(request(Method::DELETE, &path).body(Body::empty()).expect("valid")).await
}

fn question(model: &str) -> Value {
    json!({ "model": model, "temperature": 0, "max_tokens": 40, "messages": [{ "role": "user", "content": "Who?" }] })
}

async fn text(app: &Application, model: &str) -> String {
    let answer = app.post("/v1/chat/completions", question(model).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["choices"][0]["message"]["content"].as_str().expect("a text").to_owned()
}

async fn models(app: &Application) -> Vec<String> {
    let list = app.get("/v1/models").await.json();
    let ids = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| model["id"].as_str().expect("an id").to_owned());
    ids.collect()
}

#[tokio::test]
async fn adapters_are_loaded_replaced_and_unloaded_while_serving() {
    let app = application().await;
    let nothing = app.get("/api/adapters").await.json();
    assert_eq!(nothing, json!({ "served": [], "folders": ["broken", "clerk", "poet"] }));
    let base = text(&app, "tiny").await;

    let loaded = put(&app, "tiny+poet", json!({})).await;
    assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
    let described = json!({
        "name": "tiny+poet", "model": "tiny", "folder": "poet", "users": 0, "method": null, "data": null
    });
    assert_eq!(loaded.json(), described);
    assert_eq!(app.get("/api/adapters").await.json()["served"], json!([described]));
    assert_eq!(models(&app).await, ["tiny", "tiny+poet"]);
    let poet = text(&app, "tiny+poet").await;
    assert_ne!(poet, base);
    assert_eq!(text(&app, "tiny").await, base);

    let replaced = put(&app, "tiny+poet", json!({ "folder": "clerk" })).await;
    assert_eq!((replaced.status, &replaced.json()["folder"]), (StatusCode::OK, &json!("clerk")));
    assert_eq!(models(&app).await, ["tiny", "tiny+poet"]);
    let clerk = text(&app, "tiny+poet").await;
    assert!(clerk != poet && clerk != base, "{clerk}");
    // Without a folder, from where it is served.
    let again = put(&app, "tiny+poet", json!({ "folder": null })).await;
    assert_eq!((again.status, &again.json()["folder"]), (StatusCode::OK, &json!("clerk")));
    assert_eq!(text(&app, "tiny+poet").await, clerk);

    assert_eq!(delete(&app, "tiny+poet").await.status, StatusCode::NO_CONTENT);
    assert_eq!(models(&app).await, ["tiny"]);
    let gone = app.post("/v1/chat/completions", question("tiny+poet").to_string()).await;
    assert_eq!((gone.status, gone.error().1.as_str()), (StatusCode::NOT_FOUND, "model_not_found"));
    assert!(gone.error().0.ends_with("served: tiny"), "{}", gone.text);
    let twice = delete(&app, "tiny+poet").await;
    assert_eq!((twice.status, twice.error().1.as_str()), (StatusCode::NOT_FOUND, "adapter_not_found"));
    assert_eq!(delete(&app, "tiny").await.status, StatusCode::NOT_FOUND, "a model is not an adapter");
    assert_eq!(text(&app, "tiny").await, base);
}

/// An adapter that was named when the server started once said nothing of the run that it is a checkpoint of.
#[tokio::test]
async fn a_checkpoint_of_a_run_says_which_method_trained_it() {
    let app = application().await;
    let run = app.folder.path().join("run");
    let path = run.join("checkpoints/step-00000008");
    copy_adapter("llama-every", &path);
    std::fs::write(run.join("run.toml"), "method = \"dpo\"\nseed = 1\n").expect("a file");
    let spec = AdapterSpec { model: "tiny".to_owned(), name: "tuned".to_owned(), path };
    app.state.models.load_adapter(spec).expect("it fits");
    let listed = app.get("/api/adapters").await.json();
    let served = &listed["served"][0];
    assert_eq!((&served["name"], &served["folder"]), (&json!("tiny+tuned"), &Value::Null), "{listed}");
    assert_eq!((&served["method"], &served["data"]), (&json!("dpo"), &Value::Null), "{listed}");
}

#[tokio::test]
async fn an_answer_keeps_the_adapter_that_it_began_with() {
    let app = application().await;
    assert_eq!(put(&app, "tiny+poet", json!({})).await.status, StatusCode::OK);
    let mut long = question("tiny+poet");
    long["max_tokens"] = json!(400);
    let whole = app.post("/v1/chat/completions", long.to_string()).await.json();
    long["stream"] = json!(true);
    let asked =
        request(Method::POST, "/v1/chat/completions").header(header::CONTENT_TYPE, "application/json");
    let asked = asked.body(Body::from(long.to_string())).expect("valid");
    let running = app.router.clone().oneshot(asked).await.expect("infallible");
    assert_eq!(put(&app, "tiny+poet", json!({ "folder": "clerk" })).await.status, StatusCode::OK);
    assert_eq!(delete(&app, "tiny+poet").await.status, StatusCode::NO_CONTENT);
    let events = running.into_body().collect().await.expect("a body").to_bytes();
    let events = String::from_utf8(events.to_vec()).expect("UTF-8");
    let pieces = events
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<Value>(event.strip_prefix("data: ")?).ok());
    let streamed: String = pieces
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(streamed, whole["choices"][0]["message"]["content"].as_str().expect("a text"));
}

#[tokio::test]
async fn only_folders_of_the_adapter_folder_are_opened() {
    let app = application().await;
    let long = "a".repeat(65);
    let names = [
        "",
        ".",
        "..",
        "../outside",
        "..\\outside",
        "poet/../../outside",
        "poet/",
        "/etc",
        "C:\\poet",
        "c:poet",
        ".hidden",
        "poet\0",
        "po et",
        "%2e%2e%2foutside",
        &long,
    ]; // What stands for a folder is one name.
    for folder in names {
        let answer = put(&app, "tiny+poet", json!({ "folder": folder })).await;
        assert_eq!(
            (answer.status, answer.error().2.as_str()),
            (StatusCode::BAD_REQUEST, "folder"),
            "{folder:?}"
        );
    }
    // The adapter's own name stands for a folder where none is named.
    for name in ["tiny+..%2Foutside", "tiny+..", "tiny+%2Fetc", "tiny+", "tiny+..%5Coutside"] {
        let answer = put(&app, name, json!({})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {}", answer.text);
    }
    assert_eq!(models(&app).await, ["tiny"]);
}

#[tokio::test]
async fn what_cannot_be_loaded_is_refused_with_its_reason() {
    let app = application().await;
    for (name, body, status, field, part) in [
        ("tiny", json!({}), StatusCode::BAD_REQUEST, "name", "MODEL+ADAPTER"),
        ("other+poet", json!({}), StatusCode::NOT_FOUND, "model", "served: tiny"),
        ("tiny+gone", json!({}), StatusCode::NOT_FOUND, "folder", "there are: broken, clerk, poet"),
        (
            "tiny+x",
            json!({ "folder": "empty" }),
            StatusCode::NOT_FOUND,
            "folder",
            "no adapter in the folder `empty`",
        ),
        ("tiny+x", json!({ "folder": "broken" }), StatusCode::BAD_REQUEST, "folder", "adapter_config.json"),
        (
            "tiny+a%20b",
            json!({ "folder": "poet" }),
            StatusCode::BAD_REQUEST,
            "name",
            "is not a name for an adapter",
        ),
        ("tiny+x", json!({ "folder": 1 }), StatusCode::BAD_REQUEST, "folder", "folder"),
        ("tiny+x", json!({ "path": "/etc" }), StatusCode::BAD_REQUEST, "path", "path"),
    ] {
        let answer = put(&app, name, body).await;
        let (message, _, param) = answer.error();
        assert_eq!((answer.status, param.as_str()), (status, field), "{name}: {}", answer.text);
        assert!(message.contains(part), "{name}: {message}");
    }
    assert_eq!(models(&app).await, ["tiny"]);
}

#[tokio::test]
async fn adapters_need_the_key_that_models_need() {
    let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    assert_eq!(app.get("/api/adapters").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(put(&app, "tiny+poet", json!({})).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(delete(&app, "tiny+poet").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_cached_prompt_serves_only_the_key_that_sent_it() {
    let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let mut keys = Vec::new();
    for name in ["one", "two"] {
        let (_, secret) =
            app.state.store.create_api_key(zhenjin_store::NewApiKey::named(name)).await.expect("a key");
        keys.push(format!("Bearer {}", secret.expose()));
    }
    let mut long = question("tiny");
    long["max_tokens"] = json!(2);
    long["messages"][0]["content"] = json!("A long question about the sea and its fishes. ".repeat(12));
    let mut cached = Vec::new();
    for key in [&keys[0], &keys[0], &keys[1], &keys[1]] {
        let asked =
            request(Method::POST, "/v1/chat/completions").header(header::CONTENT_TYPE, "application/json");
        let asked =
            asked.header(header::AUTHORIZATION, key).body(Body::from(long.to_string())).expect("valid");
        let answer = app.send(asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let usage = &answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.push(usage.as_u64().expect("a number"));
    }
    assert!(cached[0] == 0 && cached[1] > 0, "{cached:?}");
    assert_eq!(cached[2], 0, "another key's: {cached:?}");
    assert_eq!(cached[3], cached[1], "{cached:?}");
}
