//! Whose data is it? One owner's conversations are not there for another, and only an operator administers models.

use crate::support::{Answer, Application, request};
use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use zhenjin_server::{ServerOptions, openapi_document};
use zhenjin_store::NewApiKey;

/// An application that asks for keys: the operator's, and two users'.
struct Shared {
    app: Application,
    keys: [String; 3],
}

const OPERATOR: usize = 0;
const ANNA: usize = 1;
const BEN: usize = 2;

impl Shared {
    async fn new() -> Shared {
        let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
        let mut keys = Vec::new();
        for name in ["operator", "anna", "ben"] {
            let (_, secret) = app.state.store.create_api_key(NewApiKey::named(name)).await.expect("a key");
            keys.push(secret.expose().to_owned());
        }
        Shared { app, keys: keys.try_into().expect("three") }
    }

    async fn call(&self, who: usize, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = request(method, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.keys[who]));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.app.send(request.body(body).expect("valid")).await
    }

    /// A conversation with one answered question: its id, the question's and the answer's.
    async fn exchange(&self, who: usize, content: &str) -> (String, String, String) {
        let made = self.call(
            who,
            Method::POST,
            "/api/conversations",
            Some(json!({ "settings": { "max_tokens": 2 } })),
        );
        let id = text(&made.await.json()["id"]);
        let path = format!("/api/conversations/{id}/messages");
        let asked = self.call(who, Method::POST, &path, Some(json!({ "content": content }))).await.json();
        let (question, answer) = (text(&asked["user"]["id"]), text(&asked["answer"]["id"]));
        let followed = self.call(who, Method::GET, &format!("/api/messages/{answer}/stream"), None).await;
        assert!(followed.text.contains("event: done"), "{}", followed.text);
        (id, question, answer)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Every documented operation under `/api`, with the body that it needs.
fn operations() -> Vec<(Method, String)> {
    let document = openapi_document();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            found.push((method.to_uppercase().parse().expect("a method"), path.clone()));
        }
    }
    found
}

#[tokio::test]
async fn another_owners_conversations_and_messages_are_not_there() {
    let shared = Shared::new().await;
    let (conversation, _, answer) = shared.exchange(ANNA, "a secret of Anna's").await;
    // Improvements belong to no owner: they are the operator's.
    let is_owned = |path: &str| path.contains("{id}") && !path.starts_with("/api/improvements/");
    let with_ids: Vec<_> = operations().into_iter().filter(|(_, path)| is_owned(path)).collect();
    assert!(with_ids.len() >= 8, "{with_ids:?}");
    // The operator administers models, but other people's chats are not the operator's either.
    for who in [OPERATOR, BEN] {
        for (method, path) in &with_ids {
            let id = if path.contains("/conversations/") { &conversation } else { &answer };
            let body = match (method, path.ends_with("/messages")) {
                (&Method::PATCH, _) => Some(json!({ "title": "taken" })),
                (&Method::POST, true) => Some(json!({ "content": "taken" })),
                (&Method::POST, _) if path.ends_with("/continue") => {
                    Some(json!({ "from_id": answer, "parent_id": answer }))
                }
                (&Method::PUT, _) if path.ends_with("/feedback") => Some(json!({ "rating": "up" })),
                (&Method::PUT, _) if path.ends_with("/choice") => Some(json!({ "rejected": [answer] })),
                _ => None,
            };
            let answered = shared.call(who, method.clone(), &path.replace("{id}", id), body).await;
            assert_eq!(answered.status.as_u16(), 404, "{method} {path}: {}", answered.text);
            assert!(!answered.text.contains("secret"), "{}", answered.text);
        }
        let measured = json!({ "conversation_id": conversation, "content": "?" });
        assert_eq!(shared.call(who, Method::POST, "/api/context", Some(measured)).await.status, 404);
        assert_eq!(shared.call(who, Method::GET, "/api/conversations", None).await.json(), json!([]));
        assert_eq!(
            shared
                .call(who, Method::GET, &format!("/api/conversations?before={conversation}"), None)
                .await
                .status,
            404
        );
        assert_eq!(shared.call(who, Method::GET, "/api/search?q=secret", None).await.json(), json!([]));
    }
    let kept =
        shared.call(ANNA, Method::GET, &format!("/api/conversations/{conversation}"), None).await.json();
    assert_eq!(
        (kept["title"].as_str(), kept["messages"].as_array().map(Vec::len)),
        (Some("a secret of Anna's"), Some(2))
    );
    assert_eq!(
        shared.call(ANNA, Method::GET, "/api/search?q=secret", None).await.json()[0]["conversation_id"],
        *conversation
    );
}

#[tokio::test]
async fn a_question_cannot_follow_another_owners_answer() {
    let shared = Shared::new().await;
    let (_, _, answer) = shared.exchange(ANNA, "a secret of Anna's").await;
    let (conversation, ..) = shared.exchange(BEN, "mine").await;
    let body = json!({ "content": "continue", "parent_id": answer });
    let path = format!("/api/conversations/{conversation}/messages");
    let refused = shared.call(BEN, Method::POST, &path, Some(body)).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    let leaf = json!({ "current_leaf": answer });
    let refused =
        shared.call(BEN, Method::PATCH, &format!("/api/conversations/{conversation}"), Some(leaf)).await;
    assert_eq!(refused.status, 404, "{}", refused.text);
}

#[tokio::test]
async fn an_answer_that_is_being_written_is_its_owners_too() {
    let shared = Shared::new().await;
    let settings = json!({ "settings": { "max_tokens": 8_000, "seed": 1 } });
    let made = shared.call(ANNA, Method::POST, "/api/conversations", Some(settings)).await.json();
    let (id, path) = (text(&made["id"]), format!("/api/conversations/{}/messages", text(&made["id"])));
    let asked = shared.call(ANNA, Method::POST, &path, Some(json!({ "content": "go on" }))).await.json();
    let answer = text(&asked["answer"]["id"]);
    for (method, path) in [
        (Method::GET, format!("/api/messages/{answer}/stream")),
        (Method::POST, format!("/api/messages/{answer}/stop")),
        (Method::DELETE, format!("/api/conversations/{id}")),
    ] {
        assert_eq!(shared.call(BEN, method, &path, None).await.status, 404, "{path}");
    }
    let stopped = shared.call(ANNA, Method::POST, &format!("/api/messages/{answer}/stop"), None).await.json();
    assert!(matches!(stopped["status"].as_str(), Some("stopped" | "complete")), "{stopped}");
}

#[tokio::test]
async fn only_an_operator_administers_models_and_adapters() {
    let shared = Shared::new().await;
    let administering = [
        (Method::POST, "/api/models/no-such-model/pull"),
        (Method::DELETE, "/api/models/no-such-model/pull"),
        (Method::DELETE, "/api/models/no-such-model"),
        (Method::PUT, "/api/adapters/tiny+none"),
        (Method::DELETE, "/api/adapters/tiny+none"),
    ];
    for (method, path) in administering {
        let body = (method == Method::PUT).then(|| json!({}));
        let refused = shared.call(ANNA, method.clone(), path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.error().1.as_str()),
            (403, "operator_only"),
            "{method} {path}"
        );
        let reached = shared.call(OPERATOR, method.clone(), path, body).await;
        assert_eq!(reached.status, 404, "{method} {path}: {}", reached.text);
    }
    let counts = "/api/feedback/statistics";
    assert_eq!(shared.call(ANNA, Method::GET, counts, None).await.error().1, "operator_only");
    assert_eq!(shared.call(OPERATOR, Method::GET, counts, None).await.status, 200);
    for path in ["/api/models", "/api/adapters", "/v1/models"] {
        assert_eq!(shared.call(ANNA, Method::GET, path, None).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_status_says_what_the_caller_may_do() {
    let shared = Shared::new().await;
    let status = shared.app.get("/api/status").await.json();
    assert_eq!((&status["needs_key"], &status["role"]), (&json!(true), &Value::Null));
    for (who, role) in [(OPERATOR, "operator"), (ANNA, "user")] {
        assert_eq!(shared.call(who, Method::GET, "/api/status", None).await.json()["role"], role);
    }
    let open = Application::new().await;
    assert_eq!(open.get("/api/status").await.json()["role"], "operator");
}

#[tokio::test]
async fn the_operators_key_opens_what_was_made_without_keys() {
    let app = Application::new().await;
    let made = app.post("/api/conversations", "{}").await.json();
    let store = app.state.store.clone();
    let (first, _) = store.create_api_key(NewApiKey::named("first")).await.expect("a key");
    let (second, _) = store.create_api_key(NewApiKey::named("second")).await.expect("a key");
    let of_first = store.conversations(&first.owner, 10, None).await.expect("listed");
    assert_eq!(
        of_first.iter().map(|chat| chat.id.as_str()).collect::<Vec<_>>(),
        [made["id"].as_str().expect("an id")]
    );
    assert!(store.conversations(&second.owner, 10, None).await.expect("listed").is_empty());
}
