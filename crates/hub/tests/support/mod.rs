//! A server that speaks the hubs' protocols over real sockets, with faults on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zhenjin_hub::{Catalogue, PullEvent, PullObserver, PullOptions, Timeouts};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer, possibly a faulty one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut_after: Option<usize>,
    /// Wait before every 16 KB.
    pub(crate) delay: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn json(json: &serde_json::Value) -> Reply {
        Reply { status: 200, body: json.to_string().into_bytes(), ..Reply::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// A file, or the rest of it when the request has a range.
    pub(crate) fn file(request: &Request, bytes: &[u8]) -> Reply {
        match request.range_start() {
            Some(start) if start < bytes.len() => {
                Reply { status: 206, body: bytes[start..].to_vec(), ..Reply::default() }
                    .header("content-range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
            }
            Some(_) => Reply::status(416),
            None => Reply { status: 200, body: bytes.to_vec(), ..Reply::default() },
        }
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server on a port of its own until the test ends.
pub(crate) struct TestServer {
    pub(crate) port: u16,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

impl TestServer {
    /// Starts a server; the handler also gets the number of earlier requests for the same method and path.
    pub(crate) fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let handler: Arc<Handler> = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                thread::spawn(move || serve(stream, &handler, &log));
            }
        });
        TestServer { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests so far whose path contains `part`.
    pub(crate) fn requests_for(&self, part: &str) -> Vec<Request> {
        self.requests.lock().unwrap().iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

fn serve(mut stream: TcpStream, handler: &Arc<Handler>, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(request) = read_request(&mut reader) else { return };
    // Every hub says which commit its branch is; tests count what follows.
    let reply = if request.path.ends_with("/revision/main") {
        Reply::json(&serde_json::json!({ "sha": COMMIT }))
    } else {
        let earlier = {
            let mut log = log.lock().unwrap();
            let same = |other: &&Request| other.method == request.method && other.path == request.path;
            let earlier = log.iter().filter(same).count();
            log.push(request.clone());
            earlier
        };
        handler(&request, earlier)
    };
    let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", reply.status);
    let has_length = reply.headers.iter().any(|(name, _)| name == "content-length");
    if !has_length {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).is_err() || request.method == "HEAD" {
        return;
    }
    let body = &reply.body[..reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len())];
    for chunk in body.chunks(16 * 1024) {
        thread::sleep(reply.delay);
        if stream.write_all(chunk).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(Request { method, path, headers });
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// Bytes without a pattern that compression or chance could repair.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 2 * seed + 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) const FILE: &str = "tiny.Q4_0.gguf";
pub(crate) const REPOSITORY: &str = "owner/tiny-GGUF";
/// The commit that the test hubs' branches are.
pub(crate) const COMMIT: &str = "00112233445566778899aabbccddeeff00112233";

/// The hub's answer to a request for a file's head or contents: size, digest, and a redirect to `contents_url`.
pub(crate) fn hub_redirect(bytes: &[u8], contents_url: &str) -> Reply {
    Reply::status(302)
        .header("location", contents_url)
        .header("x-linked-size", bytes.len())
        .header("x-linked-etag", format!("\"{}\"", sha256(bytes)))
}

/// A hub with one repository and one file, whose contents come from another server.
pub(crate) fn plain_hub(bytes: &[u8], contents_url: String) -> TestServer {
    let bytes = bytes.to_vec();
    TestServer::start(move |request, _| {
        if request.path == format!("/{REPOSITORY}/resolve/{COMMIT}/{FILE}") {
            hub_redirect(&bytes, &contents_url)
        } else {
            Reply::status(404)
        }
    })
}

/// A catalogue with the model `tiny:1m`.
pub(crate) fn catalogue(sources: serde_json::Value, file: serde_json::Value) -> Catalogue {
    let mut file = file;
    file["file"] = FILE.into();
    let json = serde_json::json!({ "models": [{
        "name": "tiny:1m", "title": "Tiny", "parameters": "1M", "quantisation": "Q4_0",
        "licence": { "name": "Apache-2.0", "url": "https://example.org" },
        "languages": ["en"], "context_length": 64, "good_for": { "en": "tests", "zh": "测试" },
        "sampling": { "temperature": 0.5 }, "files": [file], "sources": sources
    }]});
    Catalogue::from_json(&json.to_string()).unwrap()
}

pub(crate) fn hugging_face_only() -> Catalogue {
    catalogue(
        serde_json::json!([{ "hugging_face": { "repository": REPOSITORY } }]),
        serde_json::json!({ "approximate_bytes": 1000 }),
    )
}

/// Options that talk to local servers and lose no time.
pub(crate) fn options(hub: &str, catalogue: Catalogue) -> PullOptions {
    PullOptions {
        hugging_face_endpoint: hub.to_owned(),
        model_scope_endpoint: "http://127.0.0.1:9".to_owned(),
        package_index: "http://127.0.0.1:9/simple".to_owned(),
        catalogue: Some(catalogue),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(5),
            retries: 3,
            retry_wait: Duration::from_millis(10),
            longest_wait: Duration::from_secs(3),
        },
        ..PullOptions::default()
    }
}

/// Writes everything down, and cancels after a number of bytes when told so.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) cancel_after: Option<u64>,
    pub(crate) resumed_at: AtomicU64,
    cancelled: AtomicBool,
}

impl Recorder {
    pub(crate) fn cancelling_after(bytes: u64) -> Recorder {
        Recorder { cancel_after: Some(bytes), ..Recorder::default() }
    }

    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

impl PullObserver for Recorder {
    fn on_event(&self, event: PullEvent<'_>) {
        match event {
            PullEvent::Progress { done_bytes, .. }
                if self.cancel_after.is_some_and(|limit| done_bytes >= limit) =>
            {
                self.cancelled.store(true, Ordering::SeqCst);
            }
            PullEvent::FileStarted { resumed_at, .. } => self.resumed_at.store(resumed_at, Ordering::SeqCst),
            _ => {}
        }
        self.lines.lock().unwrap().push(format!("{event:?}"));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}
