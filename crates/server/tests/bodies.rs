//! One limit for all bodies, whatever the route, before and after authentication, encoded or not.

use std::convert::Infallible;
use std::io::Write;

use crate::support::{Answer, Application, request};
use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use zhenjin_server::{ServerOptions, openapi_document};
use zhenjin_store::NewApiKey;

const LIMIT: usize = 8 << 20;
const CHAT: &str = "/v1/chat/completions";
const OPEN: [&str; 5] = ["/api/login", "/api/status", "/health", "/healthz", "/readyz"];

/// Every documented route, its parameters filled in.
fn routes() -> Vec<(Method, String)> {
    let document = openapi_document();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let parts: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "01ARZ3NDEKTSV4RRFFQ69G5FAV" } else { part })
            .collect();
        for method in methods.as_object().expect("methods").keys() {
            found.push((method.to_uppercase().parse().expect("a method"), parts.join("/")));
        }
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// `{}` with so many spaces that it has `length` bytes.
fn object(length: usize) -> Bytes {
    let mut text = vec![b' '; length];
    text[0] = b'{';
    text[length - 1] = b'}';
    text.into()
}

struct Asked<'a> {
    app: &'a Application,
    key: Option<&'a str>,
}

impl Asked<'_> {
    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
        announced: bool,
    ) -> Answer {
        let mut builder = request(method.clone(), path).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        if let Some(key) = self.key {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = if announced {
            builder = builder.header(header::CONTENT_LENGTH, body.len());
            Body::from(body)
        } else {
            let pieces: Vec<_> = body
                .chunks(1 << 20)
                .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
                .collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        self.app.send(builder.body(body).expect("valid")).await
    }

    /// A request whose body is announced with this length, and never sent.
    fn never_sent(&self, length: usize) -> Request<Body> {
        let mut builder = request(Method::POST, CHAT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, length);
        if let Some(key) = self.key {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let nothing = futures_util::stream::pending::<Result<Bytes, Infallible>>();
        builder.body(Body::from_stream(nothing)).expect("valid")
    }

    /// Announces bodies of this length, which never come, until one is refused. Gives the requests that wait, and what the refused one got.
    async fn announce_until_refused(&self, length: usize) -> (Vec<Waiting>, Answer) {
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            assert!(waiting.len() < 10_000, "none is refused");
            waiting.push(tokio::spawn(self.app.router.clone().oneshot(self.never_sent(length))));
            tokio::task::yield_now().await;
            // What was let in waits for ever.
            if let Some(place) = waiting.iter().position(JoinHandle::is_finished) {
                let response = waiting.swap_remove(place).await.expect("no panic").expect("infallible");
                return (waiting, Answer::of(response).await);
            }
        }
    }
}

/// A request that was sent.
type Waiting = JoinHandle<Result<Response, Infallible>>;

#[tokio::test]
async fn every_route_has_the_one_limit_after_authentication_and_almost_none_before() {
    let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let (_, secret) = app.state.store.create_api_key(NewApiKey::named("operator")).await.expect("a key");
    let holder = Asked { app: &app, key: Some(secret.expose()) };
    let stranger = Asked { app: &app, key: None };
    let (largest, beyond) = (object(LIMIT), object(LIMIT + 1));
    for (method, path) in routes() {
        if path.ends_with("/events") {
            continue;
        }
        let is_open = OPEN.contains(&path.as_str());
        for announced in [true, false] {
            let place = format!("{method} {path}, announced: {announced}");
            let answer = holder.send(&method, &path, beyond.clone(), &[], announced).await;
            assert_eq!(answer.status.as_u16(), 413, "{place}");
            assert!(
                method == Method::HEAD || answer.text.contains("larger than this server's limit of "),
                "{place}: {}",
                answer.text
            );
            let expected = if is_open { 413 } else { 401 };
            for body in [&beyond, &largest, &object(20 << 10)] {
                let answer = stranger.send(&method, &path, body.clone(), &[], announced).await;
                assert_eq!(answer.status.as_u16(), expected, "{place}: {}", body.len());
            }
        }
        if !is_open {
            let answer = holder.send(&method, &path, largest.clone(), &[], false).await;
            assert!(!matches!(answer.status.as_u16(), 413 | 500..), "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_gzipped_body_is_decoded_within_the_limit_and_nothing_else_is() {
    let app = Application::new().await;
    let asked = Asked { app: &app, key: None };
    let path = CHAT;
    let chat = br#"{"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}"#;
    for name in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        let answer =
            asked.send(&Method::POST, path, gzip(chat).into(), &[("content-encoding", name)], true).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    let bomb = gzip(&vec![b' '; LIMIT + 1]);
    assert!(bomb.len() < LIMIT / 50);
    let cases: [(&str, Vec<u8>, u16, &str); 5] = [
        ("gzip", bomb, 413, "request_too_large"),
        ("gzip", chat.to_vec(), 400, "invalid_gzip"),
        ("gzip", gzip(chat)[..20].to_vec(), 400, "invalid_gzip"),
        ("br", chat.to_vec(), 415, "unsupported_content_encoding"),
        ("gzip, gzip", gzip(&gzip(chat)), 415, "unsupported_content_encoding"),
    ];
    for (name, body, status, code) in cases {
        let answer = asked.send(&Method::POST, path, body.into(), &[("content-encoding", name)], true).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (status, code), "{name}");
    }
    let plain = asked
        .send(&Method::POST, path, Bytes::from_static(chat), &[("content-encoding", "identity")], true)
        .await;
    assert_eq!(plain.status, 200);
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_skipped() {
    let app = Application::new().await;
    let body = "\u{feff}{\"model\": \"tiny\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 1}";
    for path in ["/v1/chat/completions", "/api/conversations"] {
        let body = if path.starts_with("/api") { "\u{feff}{}" } else { body };
        let answer = app.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
    }
}

/// Regression: as many bodies of the largest size as there are connections were held at once, 8 GiB of them.
#[tokio::test]
async fn all_large_bodies_together_have_a_limit() {
    const LARGE: usize = 128 << 10;
    let app = Application::with(ServerOptions { body_limit: LARGE, ..ServerOptions::default() }).await;
    let asked = Asked { app: &app, key: None };
    let path = CHAT;
    let (waiting, refused) = asked.announce_until_refused(LARGE).await;
    assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    let unannounced = asked.send(&Method::POST, path, object(LARGE), &[], false).await;
    assert_eq!(unannounced.status, 429, "{}", unannounced.text);
    let bomb = gzip(&object(LARGE));
    assert!(bomb.len() < 64 << 10);
    let zipped = asked.send(&Method::POST, path, bomb.into(), &[("content-encoding", "gzip")], true).await;
    assert_eq!(zipped.status, 429, "{}", zipped.text);
    // Small ones get in, and so do large ones once the others are gone.
    let small = asked.send(&Method::POST, path, object(64 << 10), &[], true).await;
    assert_eq!(small.status, 400, "{}", small.text);
    for task in waiting {
        task.abort();
        // Some were refused as well, and the others were never sent.
        let _ended = task.await;
    }
    for announced in [true, false] {
        let large = asked.send(&Method::POST, path, object(LARGE), &[], announced).await;
        assert_eq!(large.status, 400, "{}", large.text);
    }
}

/// Regression: the holder of one key could take the memory for all bodies by announcing some, and strangers must not.
#[tokio::test]
async fn one_key_does_not_take_the_memory_of_all_bodies() {
    const LARGE: usize = 128 << 10;
    let options = ServerOptions { require_key: true, body_limit: LARGE, ..ServerOptions::default() };
    let app = Application::with(options).await;
    let mut keys = Vec::new();
    for name in ["operator", "user"] {
        let (_, secret) = app.state.store.create_api_key(NewApiKey::named(name)).await.expect("a key");
        keys.push(secret.expose().to_owned());
    }
    let stranger = Asked { app: &app, key: None };
    for _ in 0..64 {
        assert_eq!(app.send(stranger.never_sent(LARGE)).await.status, 401);
    }
    for (greedy, other) in [(0, 1), (1, 0)] {
        let [greedy, other] = [greedy, other].map(|key: usize| Asked { app: &app, key: Some(&keys[key]) });
        let (waiting, refused) = greedy.announce_until_refused(LARGE).await;
        assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (429, "rate_limit_exceeded"));
        assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        assert!(refused.error().0.contains("your other requests with large bodies"), "{}", refused.text);
        for announced in [true, false] {
            let large = other.send(&Method::POST, CHAT, object(LARGE), &[], announced).await;
            assert_eq!(large.status, 400, "{}", large.text);
        }
        for task in waiting {
            task.abort();
            // Some were refused, and the others were never sent.
            let _ended = task.await;
        }
        let large = greedy.send(&Method::POST, CHAT, object(LARGE), &[], true).await;
        assert_eq!(large.status, 400, "{}", large.text);
    }
}

#[tokio::test]
async fn a_long_body_is_read_like_a_short_one() {
    let app = Application::new().await;
    for length in [2, (256 << 10) + 1] {
        let padding = " ".repeat(length);
        let body = format!(
            r#"{{"model": "tiny", {padding} "messages": [{{"role": "user", "content": "hi"}}], "max_tokens": 1}}"#
        );
        let answer = app.post("/v1/chat/completions", body.clone()).await;
        assert_eq!(answer.status, 200, "{length}: {}", answer.text);
        let answer = app.post("/v1/chat/completions", format!("{body}}}")).await;
        assert_eq!((answer.status.as_u16(), answer.error().1.as_str()), (400, "invalid_json"), "{length}");
    }
}
