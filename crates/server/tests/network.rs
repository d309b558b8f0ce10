//! A real socket: slow clients, clients that leave, and a server that is told to stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zhenjin_server::{AppState, ServeError, Server, ServerOptions};

struct Running {
    address: SocketAddr,
    state: AppState,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _folder: TempDir,
}

async fn start(options: ServerOptions) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ServerOptions { address: ([127, 0, 0, 1], 0).into(), ..options };
    let server = Server::bind(options, support::services(&folder).await).await.expect("a free port");
    let (address, state) = (server.address(), server.state().clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async move {
        // Dropping the sender stops the server too.
        let _ = stopped.await;
    }));
    Running { address, state, stop, task, _folder: folder }
}

fn chat(more: &str) -> String {
    let body = format!(
        r#"{{"model": "tiny", "messages": [{{"role": "user", "content": "hi"}}], "logit_bias": {{"258": -100, "256": -100}}, {more}}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn ask(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    stream.write_all(request.as_bytes()).await.expect("taken");
    stream
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the first token's event has come.
async fn first_event(stream: &mut TcpStream) -> String {
    let (mut seen, mut buffer) = (String::new(), [0; 1024]);
    while !seen.contains("\"delta\"") {
        let count = stream.read(&mut buffer).await.expect("readable");
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let running = start(ServerOptions::default()).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ServerOptions { address: running.address, ..ServerOptions::default() };
    let error = Server::bind(options, support::services(&folder).await).await.err().expect("taken");
    assert!(
        matches!(error, ServeError::Bind { .. }) && error.to_string().contains("another address"),
        "{error}"
    );
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let running =
        start(ServerOptions { read_timeout: Duration::from_millis(200), ..ServerOptions::default() }).await;
    let start = Instant::now();
    let mut half_head = ask(running.address, "GET /healthz HTTP/1.1\r\nhost: loc").await;
    let mut half_body = ask(
        running.address,
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{",
    )
    .await;
    rest(&mut half_head).await;
    let answer = rest(&mut half_body).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// The answer comes though the client sends on, as Python's clients do: it is neither lost in a reset connection nor late.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let size = 24 << 20;
    let running = start(ServerOptions::default()).await;
    for (header, expected) in [("accept: */*", "HTTP/1.1 413"), ("via: 1.1 proxy", "HTTP/1.1 401")] {
        for length in [format!("content-length: {size}"), "transfer-encoding: chunked".to_owned()] {
            let chunked = length.starts_with("transfer");
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{header}\r\n{length}\r\n\r\n"
            );
            let (mut reading, mut writing) = ask(running.address, &head).await.into_split();
            let sending = async {
                let piece = vec![b' '; 1 << 20];
                for _ in 0..size >> 20 {
                    if chunked {
                        writing.write_all(b"100000\r\n").await?;
                    }
                    writing.write_all(&piece).await?;
                    if chunked {
                        writing.write_all(b"\r\n").await?;
                    }
                }
                if chunked { writing.write_all(b"0\r\n\r\n").await } else { Ok(()) }
            };
            // All of it is sent before a byte of the answer is read.
            tokio::time::timeout(Duration::from_secs(10), sending)
                .await
                .expect("in time")
                .expect("not reset");
            let mut answer = vec![0; 12];
            reading.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&answer), expected, "{length}");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_refused_without_it() {
    let running = start(ServerOptions::default()).await;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
         content-length: {}\r\n\r\n",
        9 << 20
    );
    let answer = rest(&mut ask(running.address, &head).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn what_an_old_proxy_passes_on_needs_a_key() {
    let running = start(ServerOptions::default()).await;
    let request = "GET /v1/models HTTP/1.0\r\nhost: 127.0.0.1:8080\r\nconnection: close\r\n\r\n";
    let answer = rest(&mut ask(running.address, request).await).await;
    assert!(answer.starts_with("HTTP/1.0 401") || answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_answer() {
    let running = start(ServerOptions::default()).await;
    let mut stream = ask(running.address, &chat(r#""stream": true, "n": 8, "max_tokens": 8000"#)).await;
    first_event(&mut stream).await;
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = running.state.models.list()[0].stats.expect("loaded");
        if stats.running == 0 && stats.cancelled == 8 {
            assert_eq!(stats.pages_used, 0);
            return;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_a_whole_answer_cancels_it_too() {
    let running = start(ServerOptions::default()).await;
    let stream = ask(running.address, &chat(r#""n": 8, "max_tokens": 8000"#)).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while running.state.models.list()[0].stats.is_none_or(|stats| stats.running == 0) {
        assert!(Instant::now() < deadline, "never began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while running.state.models.list()[0].stats.is_none_or(|stats| stats.cancelled < 8) {
        assert!(Instant::now() < deadline, "{:?}", running.state.models.list());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stopped_server_finishes_what_runs_and_takes_nothing_new() {
    let running = start(ServerOptions::default()).await;
    let mut stream = ask(running.address, &chat(r#""stream": true, "max_tokens": 300"#)).await;
    first_event(&mut stream).await;
    running.stop.send(()).expect("running");
    let text = rest(&mut stream).await;
    assert!(text.trim_end().trim_end_matches("\r\n0").trim_end().ends_with("data: [DONE]"), "{text}");
    running.task.await.expect("a clean end");
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

/// Regression: nobody could learn that a server stops, as it took no connection from then on, although `/readyz` was said to tell.
#[tokio::test]
async fn whoever_comes_while_a_server_stops_is_told_so() {
    let running = start(ServerOptions::default()).await;
    let mut stream = ask(running.address, &chat(r#""stream": true, "n": 8, "max_tokens": 8000"#)).await;
    first_event(&mut stream).await;
    running.stop.send(()).expect("running");
    while !running.state.shutdown.is_draining() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    for (request, status) in [
        (get("/readyz"), 503),
        (get("/healthz"), 200),
        (get("/health"), 200),
        (get("/v1/models"), 503),
        (get("/"), 503),
        (chat(r#""max_tokens": 1"#), 503),
    ] {
        let answer = rest(&mut ask(running.address, &request).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(answer.contains("\"shutting_down\""), status == 503, "{request}: {answer}");
    }
    // One that says nothing is not waited for.
    let silent = ask(running.address, "").await;
    drop(stream);
    running.task.await.expect("a clean end");
    drop(silent);
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn answers_beyond_the_limit_end_with_an_error_event() {
    let limit = Duration::from_millis(50);
    let running = start(ServerOptions { shutdown_limit: limit, ..ServerOptions::default() }).await;
    let mut stream = ask(running.address, &chat(r#""stream": true, "n": 8, "max_tokens": 8000"#)).await;
    first_event(&mut stream).await;
    running.stop.send(()).expect("running");
    let text = rest(&mut stream).await;
    assert!(
        text.contains("shutting_down") && !text.contains("[DONE]"),
        "{}",
        &text[text.len().saturating_sub(500)..]
    );
    tokio::time::timeout(Duration::from_secs(5), running.task).await.expect("in time").expect("a clean end");
}
