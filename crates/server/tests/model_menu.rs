//! The model menu: listing, downloading with progress and cancel, removing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::support::{self, Application, request};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use zhenjin_assistant::ModelSpec;

/// A catalogue with one model that only a hub at a closed port has.
const CATALOGUE: &str = r#"{ "models": [{
    "name": "lost:1b", "title": "Lost", "parameters": "1 B", "quantisation": "Q4_1",
    "licence": { "name": "Apache-2.0", "url": "https://example.org/licence" }, "languages": ["en", "zh"],
    "context_length": 2048, "good_for": { "en": "tests", "zh": "测试" }, "sampling": {},
    "files": [{ "file": "lost.gguf", "bytes": null, "approximate_bytes": 600000000, "sha256": null }],
    "sources": [{ "hugging_face": { "repository": "nobody/lost", "revision": null } }] }] }"#;

/// An application whose only hub is at that address.
async fn application(hub: &str) -> Application {
    Application::with_library(|library| {
        library.pull.catalogue = Some(serde_json::from_str(CATALOGUE).expect("a catalogue"));
        library.pull.hugging_face_endpoint = hub.to_owned();
        library.pull.timeouts.retries = if hub == NOBODY { 0 } else { 5 };
    })
    .await
}

/// A port where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

/// A hub that asks everybody to come again in a minute.
fn busy_hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        }
    });
    format!("http://{address}")
}

async fn call(app: &Application, method: Method, path: &str) -> support::Answer {
    app.send(request(method, path).body(Body::empty()).expect("valid")).await
}

/// The first event with that state.
async fn event(app: &Application, state: &str) -> Value {
    let asked = request(Method::GET, "/api/models/events").body(Body::empty()).expect("valid");
    let mut body = app.router.clone().oneshot(asked).await.expect("infallible").into_body();
    let mut text = String::new();
    let found = async {
        loop {
            let frame = body.frame().await.expect("the stream goes on").expect("a frame");
            text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            let mut events = data.filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok());
            if let Some(found) = events.find(|event| event["state"] == state) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the event comes")
}

#[tokio::test]
async fn models_are_listed_with_what_they_need() {
    let app = application(NOBODY).await;
    let models = app.get("/api/models").await.json();
    let find = |name: &str| {
        models.as_array().and_then(|list| list.iter().find(|model| model["name"] == name).cloned())
    };
    let lost = find("lost:1b").expect("the catalogue's");
    assert_eq!(
        (&lost["source"], &lost["installed"], &lost["fits"]),
        (&"catalogue".into(), &false.into(), &false.into())
    );
    assert_eq!((&lost["size_bytes"], &lost["good_for"]["zh"]), (&600_000_000.into(), &"测试".into()));
    assert!(lost["least_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 600_000_000));
    let tiny = find("tiny").expect("the served one");
    assert_eq!(
        (&tiny["source"], &tiny["served"], &tiny["fits"]),
        (&"local".into(), &true.into(), &true.into())
    );
    let bytes = |field: &str| tiny[field].as_u64().unwrap_or(0);
    assert!(0 < bytes("least_memory_bytes") && bytes("least_memory_bytes") <= bytes("planned_memory_bytes"));
    assert_eq!(tiny["pull"], Value::Null);
    assert_eq!((&lost["removable"], &tiny["removable"]), (&false.into(), &false.into()));

    let status = app.get("/api/status").await.json();
    assert_eq!((&status["default_model"], &status["needs_key"]), (&"tiny".into(), &false.into()));
    assert_eq!((&status["memory_total"], &status["threads"]), (&(1_u64 << 30).into(), &1.into()));
}

#[tokio::test]
async fn a_download_that_fails_says_why() {
    let app = application(NOBODY).await;
    let begun = call(&app, Method::POST, "/api/models/lost%3A1b/pull").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    let failed = event(&app, "failed").await;
    assert_eq!(failed["name"], "lost:1b");
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("127.0.0.1")), "{failed}");
    let models = app.get("/api/models").await.json();
    assert_eq!(models[0]["pull"]["state"], "failed");
    assert_eq!(call(&app, Method::DELETE, "/api/models/lost%3A1b/pull").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_download_is_cancelled() {
    let app = application(&busy_hub()).await;
    for _ in 0..2 {
        let begun = call(&app, Method::POST, "/api/models/lost%3A1b/pull").await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "a second click changes nothing");
    }
    assert_eq!(event(&app, "running").await["name"], "lost:1b");
    assert_eq!(call(&app, Method::DELETE, "/api/models/lost%3A1b/pull").await.status, StatusCode::NO_CONTENT);
    assert_eq!(event(&app, "cancelled").await["error"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_downloaded_or_removed_is_refused() {
    let app = application(NOBODY).await;
    let cases = [
        (Method::POST, "/api/models/absent%3A7b/pull", StatusCode::NOT_FOUND),
        (Method::POST, "/api/models/..%2F..%2Fetc/pull", StatusCode::BAD_REQUEST),
        (Method::DELETE, "/api/models/lost%3A1b", StatusCode::NOT_FOUND),
        // Served from a path outside the model folder.
        (Method::DELETE, "/api/models/tiny", StatusCode::BAD_REQUEST),
        (Method::DELETE, "/api/models/own.gguf", StatusCode::BAD_REQUEST),
    ];
    // Regression: a person's own file with a plain name was offered for removal.
    let own = ModelSpec { name: "own.gguf".to_owned(), path: app.folder.path().join("tiny") };
    app.state.models.add(own).expect("a new name");
    let models = app.get("/api/models").await.json();
    let own = models.as_array().and_then(|list| list.iter().find(|model| model["name"] == "own.gguf"));
    let own = own.expect("it is listed");
    assert_eq!((&own["installed"], &own["removable"]), (&true.into(), &false.into()));
    for (method, path, status) in cases {
        let answer = call(&app, method.clone(), path).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert!(!answer.error().0.is_empty());
        assert_eq!(
            answer.error().1 == "outside_model_folder",
            method == Method::DELETE && status == StatusCode::BAD_REQUEST,
            "{path}: {}",
            answer.text
        );
    }
}

/// Puts a model on this machine, as one that was fetched under the name `here:1b`.
fn fetch_here(library: &zhenjin_server::Library) {
    let folder = library.models.root().join("here--1b");
    support::write_tiny_model(&folder);
    let manifest = r#"{ "name": "here:1b", "source": "a test", "open": ".", "files": [] }"#;
    std::fs::write(folder.join("model.json"), manifest).expect("a manifest");
}

#[tokio::test]
async fn a_model_on_this_machine_answers_and_can_be_removed() {
    let app = Application::with_library(|library| {
        fetch_here(library);
    })
    .await;
    let listed = |models: Value| {
        models.as_array().and_then(|list| list.iter().find(|model| model["name"] == "here:1b").cloned())
    };
    let before = listed(app.get("/api/models").await.json()).expect("it is listed");
    assert_eq!((&before["installed"], &before["served"]), (&true.into(), &false.into()));
    assert_eq!(before["removable"], true);
    assert_eq!(call(&app, Method::POST, "/api/models/here%3A1b/pull").await.status, StatusCode::CONFLICT);

    let made =
        app.post("/api/conversations", r#"{ "model": "here:1b", "settings": { "max_tokens": 3 } }"#).await;
    let path = format!("/api/conversations/{}/messages", made.json()["id"].as_str().expect("an id"));
    let asked = app.post(&path, r#"{ "content": "Are you there?" }"#).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
    let answer = asked.json()["answer"]["id"].as_str().expect("an id").to_owned();
    let stream = app.get(&format!("/api/messages/{answer}/stream")).await;
    assert!(stream.text.contains("event: done"), "{}", stream.text);
    let after = listed(app.get("/api/models").await.json()).expect("it is listed");
    assert_eq!((&after["served"], &after["loaded"]), (&true.into(), &true.into()));
    // Regression: the menu named the least memory before a model was loaded, and all of it afterwards.
    for field in ["least_memory_bytes", "planned_memory_bytes", "context_length"] {
        assert!(before[field].is_u64() && before[field] == after[field], "{field}: {before} {after}");
    }

    // Regression: a reference that was held for a moment after the answer's end counted as a use.
    let removed = call(&app, Method::DELETE, "/api/models/here%3A1b").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text);
    assert_eq!(listed(app.get("/api/models").await.json()), None);
    let asked = app.post(&path, r#"{ "content": "And now?" }"#).await;
    assert_eq!((asked.status, asked.error().1.as_str()), (StatusCode::NOT_FOUND, "model_not_found"));
}

/// Regression: only the requests to the model counted as uses, and not those to `MODEL+base`, which is a model of its own in memory while whole
/// weights answer.
#[tokio::test]
async fn a_model_is_not_removed_while_it_answers_without_what_is_promoted() {
    let app = Application::with_library(|library| {
        fetch_here(library);
        support::write_tiny_model(&library.adapters.join("whole"));
    })
    .await;
    let path = app.folder.path().join("models/here--1b");
    app.state.models.add(ModelSpec { name: "here:1b".to_owned(), path: path.clone() }).expect("a new name");
    let promoted =
        request(Method::PUT, "/api/promotions/here%3A1b").header("content-type", "application/json");
    let promoted = app.send(promoted.body(Body::from(r#"{ "folder": "whole" }"#)).expect("valid")).await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
    let users = |name: &str| {
        let served = app.state.models.list().into_iter().find(|served| served.name == name);
        served.map(|served| served.users)
    };
    let alone = app.state.models.get("here:1b+base").await.expect("its own weights");
    assert_eq!((users("here:1b"), users("here:1b+base")), (Some(0), Some(1)));
    assert_eq!(app.state.models.users_of("here:1b"), 1);
    let refused = call(&app, Method::DELETE, "/api/models/here%3A1b").await;
    assert_eq!((refused.status, refused.error().1.as_str()), (StatusCode::CONFLICT, "model_in_use"));
    assert!(path.join("model.safetensors").is_file() && users("here:1b").is_some());
    drop(alone);
    let removed = call(&app, Method::DELETE, "/api/models/here%3A1b").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text);
    assert!(!path.exists());
}
