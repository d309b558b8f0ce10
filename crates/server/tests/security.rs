//! Who gets in, from where, and what every answer carries.

use std::collections::BTreeMap;

use crate::support::{Answer, Application, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use tower::ServiceExt;
use zhenjin_server::{OptionsError, ServerOptions};
use zhenjin_store::{NewApiKey, Owner};

async fn send(application: &Application, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut builder = request(method, path);
    for (name, value) in headers {
        builder.headers_mut().expect("valid").insert(
            header::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            value.parse().expect("a value"),
        );
    }
    application.send(builder.body(Body::empty()).expect("valid")).await
}

#[tokio::test]
async fn a_rebound_name_gets_nothing() {
    let application = Application::new().await;
    for path in ["/", "/v1/models", "/api/status", "/metrics", "/openapi.json", "/healthz"] {
        let answer = send(&application, Method::GET, path, &[("host", "evil.example")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.error().1, "host_not_allowed", "{path}");
    }
    for host in ["localhost", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7"] {
        assert_eq!(
            send(&application, Method::GET, "/healthz", &[("host", host)]).await.status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn an_allowed_name_gets_in() {
    let options =
        ServerOptions { allowed_hosts: vec!["chat.example".to_owned()], ..ServerOptions::default() };
    assert!(matches!(options.check(false), Err(OptionsError::NoKey { .. })), "a name is for others");
    let application = Application::with(options).await;
    assert_eq!(send(&application, Method::GET, "/healthz", &[("host", "chat.example:80")]).await.status, 200);
    assert_eq!(send(&application, Method::GET, "/v1/models", &[("host", "chat.example")]).await.status, 401);
}

#[tokio::test]
async fn where_a_key_protects_any_name_will_do_except_for_cookies() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let store = &application.state.store;
    let (key, secret) = store.create_api_key(NewApiKey::named("test")).await.expect("a key");
    let session = store.create_session(&key.id, std::time::Duration::from_secs(60)).await.expect("a session");
    let (bearer, cookie) =
        (format!("Bearer {}", secret.expose()), format!("zhenjin_session={}", session.expose()));
    let name = ("host", "gpu-box.lan:8080");
    let models = async |headers: &[(&str, &str)]| {
        send(&application, Method::GET, "/v1/models", headers).await.status.as_u16()
    };
    assert_eq!(models(&[name, ("authorization", &bearer)]).await, 200);
    assert_eq!(models(&[name, ("authorization", "Bearer wrong")]).await, 401);
    assert_eq!(models(&[name]).await, 401);
    assert_eq!(models(&[name, ("cookie", &cookie)]).await, 403);
    assert_eq!(models(&[("cookie", &cookie)]).await, 200);
    assert_eq!(send(&application, Method::GET, "/", &[name]).await.status, 200);
    let login = send(&application, Method::POST, "/api/login", &[name]).await;
    assert_eq!((login.status.as_u16(), login.error().1.as_str()), (403, "host_not_allowed"));
}

#[tokio::test]
async fn what_a_proxy_passes_on_needs_a_key_though_the_address_is_loopback() {
    let application = Application::new().await;
    let (_, secret) =
        application.state.store.create_api_key(NewApiKey::named("operator")).await.expect("a key");
    let bearer = format!("Bearer {}", secret.expose());
    assert_eq!(send(&application, Method::GET, "/api/conversations", &[]).await.status, 200);
    for header in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "chat.example"),
        ("x-real-ip", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("via", "1.1 proxy"),
    ] {
        for path in ["/api/conversations", "/v1/models", "/metrics"] {
            let answer = send(&application, Method::GET, path, &[header]).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header:?} {path}");
            assert!(answer.error().0.contains("proxy"), "{}", answer.text);
            let answer = send(&application, Method::GET, path, &[header, ("authorization", &bearer)]).await;
            assert_eq!(answer.status, StatusCode::OK, "{header:?} {path}");
        }
        let status = send(&application, Method::GET, "/api/status", &[header]).await.json();
        assert_eq!((&status["needs_key"], &status["role"]), (&true.into(), &serde_json::Value::Null));
    }
    // nginx adds no header unless told to, but speaks HTTP/1.0.
    let mut old = request(Method::GET, "/v1/models").body(Body::empty()).expect("valid");
    *old.version_mut() = axum::http::Version::HTTP_10;
    assert_eq!(application.send(old).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_allowed_origin_may_send_what_its_client_library_sends() {
    let origins = [
        "app://obsidian.md",
        "tauri://localhost",
        "chrome-extension://abcdefgh",
        "null",
        "https://example.org",
    ];
    let options = ServerOptions {
        cors_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        ..ServerOptions::default()
    };
    options.check(false).expect("origins of every scheme");
    let application = Application::with(options).await;
    let asked = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-anything-new";
    for origin in origins {
        let question = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", asked),
        ];
        let preflight = send(&application, Method::OPTIONS, "/v1/chat/completions", &question).await;
        assert!(preflight.status.is_success(), "{origin}");
        assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
        assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_HEADERS], asked);
        assert!(!preflight.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let refused = send(&application, Method::GET, "/v1/nothing", &[("origin", origin)]).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN]),
            (404, &origin.parse().expect("valid")),
            "errors are readable too"
        );
    }
    for origin in ["app://other", "http://example.org", "https://example.org.evil.example"] {
        let answer = send(&application, Method::GET, "/v1/models", &[("origin", origin)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_no_page() {
    let application = Application::new().await;
    for path in [
        "/.git/config",
        "/.env",
        "/.git/HEAD",
        "/.aws/credentials",
        "/wp-login.php",
        "/admin",
        "/server-status",
        "/c/1",
        "/.well-known/security",
        "/index.html/",
        "/%2e%2e/etc/passwd",
        "/assets/",
        "/v1",
        "/api",
    ] {
        let answer = application.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (404, "unknown_url"), "{path}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json", "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
    assert!(application.get("/").await.text.contains("<html"));
}

#[tokio::test]
async fn logins_that_fail_too_often_have_to_wait() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let (_, secret) = application.state.store.create_api_key(NewApiKey::named("a")).await.expect("a key");
    let right = format!(r#"{{"key": "{}"}}"#, secret.expose());
    assert_eq!(application.post("/api/login", right.clone()).await.status, 204);
    for _ in 0..10 {
        assert_eq!(application.post("/api/login", r#"{"key": "wrong"}"#).await.status, 401);
    }
    for body in [r#"{"key": "wrong"}"#.to_owned(), right] {
        let answer = application.post("/api/login", body).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (429, "too_many_logins"));
        let wait: u64 = answer.headers[header::RETRY_AFTER].to_str().expect("text").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn other_sites_pages_get_nothing() {
    let application = Application::new().await;
    for origin in ["https://evil.example", "null", "http://localhost:9999", "file://"] {
        for (method, path) in [
            (Method::POST, "/v1/chat/completions"),
            (Method::GET, "/v1/models"),
            (Method::OPTIONS, "/v1/models"),
        ] {
            let answer = send(&application, method, path, &[("origin", origin)]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin} {path}");
            assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }
    let own = send(&application, Method::GET, "/v1/models", &[("origin", "http://localhost:8080")]).await;
    assert_eq!(own.status, 200);
}

#[tokio::test]
async fn an_allowed_origin_is_answered_for_the_browser() {
    let origin = "http://localhost:5173";
    let options = ServerOptions { cors_origins: vec![origin.to_owned()], ..ServerOptions::default() };
    let application = Application::with(options).await;
    let question = [("origin", origin), ("access-control-request-method", "POST")];
    let preflight = send(&application, Method::OPTIONS, "/v1/chat/completions", &question).await;
    assert!(preflight.status.is_success(), "{}", preflight.status);
    assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
    let answer = send(&application, Method::GET, "/v1/models", &[("origin", origin)]).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN]),
        (200, &origin.parse().expect("valid"))
    );
}

#[tokio::test]
async fn a_plain_text_body_cannot_slip_past_the_browsers_questions() {
    let application = Application::new().await;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer =
            send(&application, Method::POST, "/v1/chat/completions", &[("content-type", content_type)]).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
}

#[tokio::test]
async fn where_a_key_is_needed_only_a_known_one_gets_in() {
    let application =
        Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let (key, secret) =
        application.state.store.create_api_key(NewApiKey::named("test")).await.expect("a key");
    let bearer = format!("Bearer {}", secret.expose());
    for path in ["/v1/models", "/api/conversations", "/metrics"] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer wrong")],
            &[("authorization", "Basic x")],
            &[("authorization", "Bearer ")],
        ] {
            let answer = send(&application, Method::GET, path, headers).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {headers:?}");
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
            assert_eq!(answer.error().1, "invalid_api_key");
        }
        assert_eq!(
            send(&application, Method::GET, path, &[("authorization", &bearer)]).await.status,
            200,
            "{path}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(send(&application, Method::GET, path, &[]).await.status, 200, "{path}");
    }
    application.state.store.revoke_api_key(&key.id).await.expect("revoked");
    assert_eq!(
        send(&application, Method::GET, "/v1/models", &[("authorization", &bearer)]).await.status,
        401
    );
}

#[test]
fn an_open_address_without_a_key_does_not_start() {
    let options = ServerOptions { address: ([0, 0, 0, 0], 8080).into(), ..ServerOptions::default() };
    let error = options.check(false).expect_err("open to strangers");
    assert!(matches!(error, OptionsError::NoKey { .. }));
    assert!(
        error.to_string().contains("needs an API key") && error.to_string().contains("Make one first"),
        "{error}"
    );
    assert!(options.check(true).is_ok());
    assert!(options.needs_key());
    assert!(ServerOptions::default().check(false).is_ok());
    for origin in ["*", "example.org", "https://", "https://example.org/path"] {
        let options = ServerOptions { cors_origins: vec![origin.to_owned()], ..ServerOptions::default() };
        assert!(matches!(options.check(true), Err(OptionsError::Origin { .. })), "{origin}");
    }
}

/// A content security policy's directives with their sources, in whatever order it has them.
fn directives(policy: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for directive in policy.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
        let mut words = directive.split_whitespace().map(str::to_owned);
        let name = words.next().expect("a name").to_ascii_lowercase();
        // Browsers take the first of two directives with one name.
        assert!(found.insert(name, words.collect()).is_none(), "twice: {directive}");
    }
    found
}

#[tokio::test]
async fn every_answer_narrows_what_a_browser_does_with_it() {
    let application = Application::new().await;
    for path in ["/", "/docs", "/v1/models", "/no/such/page.html", "/v1/nothing"] {
        let answer = application.get(path).await;
        let policy = directives(answer.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text"));
        for (directive, sources) in [("default-src", "'none'"), ("frame-ancestors", "'none'")] {
            assert_eq!(policy.get(directive).map(Vec::as_slice), Some(&[sources.to_owned()][..]), "{path}");
        }
        for (directive, sources) in &policy {
            let known = ["'none'", "'self'"];
            assert!(
                sources.iter().all(|source| known.contains(&source.as_str())),
                "{path}: {directive} {sources:?}"
            );
        }
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(answer.headers[header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_answer_in_the_apis_shape() {
    let application = Application::new().await;
    for (method, path, status, code) in [
        (Method::GET, "/v1/nothing", 404, "unknown_url"),
        (Method::GET, "/api/nothing", 404, "unknown_url"),
        (Method::POST, "/v1/audio/speech", 404, "unknown_url"),
        (Method::GET, "/v1/chat/completions", 405, "method_not_allowed"),
        (Method::DELETE, "/v1/models", 405, "method_not_allowed"),
    ] {
        let answer = send(&application, method.clone(), path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (status, code), "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_keeps_its_name_unless_it_could_break_the_log() {
    let application = Application::new().await;
    let named = send(&application, Method::GET, "/healthz", &[("x-request-id", "mine-1.2_3")]).await;
    assert_eq!(named.headers["x-request-id"], "mine-1.2_3");
    let odd = send(&application, Method::GET, "/healthz", &[("x-request-id", "a b\tc")]).await;
    assert_eq!(odd.headers["x-request-id"].len(), 32);
}

#[tokio::test]
async fn more_streams_than_allowed_are_told_when_to_come_again() {
    let application = Application::with(ServerOptions { stream_limit: 1, ..ServerOptions::default() }).await;
    let held = application.state.streams.permit(&Owner::Local).expect("the first");
    let body = r#"{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}"#;
    let answer = application.post("/v1/chat/completions", body).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    drop(held);
    assert_eq!(application.post("/v1/chat/completions", body).await.status, 200);
}

/// Regression: idle streams of events, which one user could open by the hundred, took the places of everybody's answers.
#[tokio::test]
async fn streams_that_only_follow_shut_out_nobody() {
    let options = ServerOptions { require_key: true, stream_limit: 1, ..ServerOptions::default() };
    let application = Application::with(options).await;
    let mut keys = Vec::new();
    for name in ["first", "second"] {
        let (_, secret) =
            application.state.store.create_api_key(NewApiKey::named(name)).await.expect("a key");
        keys.push(secret.expose().to_owned());
    }
    let [others, own] = &keys[..] else { panic!("two keys") };
    // The streams have no end: only their beginnings are waited for.
    let open = async |key: &str| {
        let request = request(Method::GET, "/api/models/events")
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .body(Body::empty())
            .expect("valid");
        application.router.clone().oneshot(request).await.expect("infallible")
    };
    let mut streams = Vec::new();
    let refused = loop {
        let response = open(own).await;
        if response.status() != StatusCode::OK {
            break response;
        }
        streams.push(response);
        assert!(streams.len() < 1000, "there is a limit");
    };
    assert_eq!((refused.status(), streams.len()), (StatusCode::TOO_MANY_REQUESTS, 16));
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(open(others).await.status(), StatusCode::OK);
    let body = r#"{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}"#;
    for key in &keys {
        let request = request(Method::POST, "/v1/chat/completions")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        let answer = application.send(request.body(Body::from(body)).expect("valid")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    drop(streams.pop());
    assert_eq!(open(own).await.status(), StatusCode::OK);
}

/// Regression: on a server without keys everybody is one owner, whose share of the streams was a quarter: the page of the seventeenth visitor
/// gave up.
#[tokio::test]
async fn where_no_key_is_asked_for_everybody_follows() {
    let application = Application::with(ServerOptions { stream_limit: 1, ..ServerOptions::default() }).await;
    let open = async || {
        let request = request(Method::GET, "/api/models/events").body(Body::empty()).expect("valid");
        application.router.clone().oneshot(request).await.expect("infallible")
    };
    let mut streams = Vec::new();
    for count in 0..64 {
        let response = open().await;
        assert_eq!(response.status(), StatusCode::OK, "{count} are open");
        streams.push(response);
    }
    assert_eq!(open().await.status(), StatusCode::TOO_MANY_REQUESTS);
}

/// Regression: the holder of one key could take the places of all answers for as long as these lasted.
#[tokio::test]
async fn one_key_does_not_take_the_places_of_all_answers() {
    let options = ServerOptions { require_key: true, stream_limit: 8, ..ServerOptions::default() };
    let application = Application::with(options).await;
    let mut keys = Vec::new();
    for name in ["operator", "user"] {
        keys.push(application.state.store.create_api_key(NewApiKey::named(name)).await.expect("a key"));
    }
    let body = r#"{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}"#;
    let ask = async |key: usize| {
        let request = request(Method::POST, "/v1/chat/completions")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", keys[key].1.expose()));
        application.send(request.body(Body::from(body)).expect("valid")).await
    };
    let streams = &application.state.streams;
    for (greedy, other) in [(0, 1), (1, 0)] {
        let owner = &keys[greedy].0.owner;
        let held: Vec<_> = std::iter::from_fn(|| streams.permit(owner).ok()).take(100).collect();
        assert_eq!(held.len(), 6, "three quarters");
        let refused = ask(greedy).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        assert!(refused.error().0.contains("6 answers are being written for you"), "{}", refused.text);
        assert_eq!(ask(other).await.status, StatusCode::OK);
        drop(held);
        assert_eq!(ask(greedy).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn without_keys_one_owner_may_have_all_answers() {
    let application = Application::with(ServerOptions { stream_limit: 8, ..ServerOptions::default() }).await;
    let streams = &application.state.streams;
    let held: Vec<_> = std::iter::from_fn(|| streams.permit(&Owner::Local).ok()).take(100).collect();
    assert_eq!(held.len(), 8);
}

/// Regression: questions of the page that waited for a model to be loaded, and requests that only tokenise, were counted nowhere.
#[tokio::test]
async fn whatever_prepares_a_prompt_counts_as_an_answer() {
    let application = Application::with(ServerOptions { stream_limit: 1, ..ServerOptions::default() }).await;
    let settings = r#""model": "tiny", "settings": {"max_tokens": 2}"#;
    let made = application.post("/api/conversations", format!("{{{settings}}}")).await.json();
    let question = format!("/api/conversations/{}/messages", made["id"].as_str().expect("an id"));
    let first = format!(r#"{{"content": "hi", {settings}}}"#);
    let preparing = [
        ("/tokenize", r#"{"content": "hi"}"#),
        ("/detokenize", r#"{"tokens": [104]}"#),
        ("/api/context", r#"{"content": "hi", "model": "tiny"}"#),
        ("/api/questions", first.as_str()),
        (question.as_str(), r#"{"content": "hi"}"#),
    ];
    let held = application.state.streams.permit(&Owner::Local).expect("the only one");
    for (path, body) in preparing {
        let refused = application.post(path, body.to_owned()).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path}: {}", refused.text);
        assert_eq!(refused.headers[header::RETRY_AFTER], "1", "{path}");
    }
    drop(held);
    // The page's answers go on by themselves: their questions hold no place any longer.
    for (path, body) in preparing {
        let answer = application.post(path, body.to_owned()).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
}
