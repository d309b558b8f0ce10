//! Pulling from servers that behave, and from servers that do not. New faults of hubs go here.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::json;
use zhenjin_hub::{Catalogue, ModelStore, PullError, PullOptions, Secret, SilentObserver, pull};

const LENGTH: usize = 3 << 20;

struct Folder {
    _temporary: tempfile::TempDir,
    store: ModelStore,
}

impl Folder {
    fn new() -> Folder {
        let temporary = tempfile::tempdir().unwrap();
        let store = ModelStore::new(temporary.path().join("models"));
        Folder { _temporary: temporary, store }
    }

    fn file(&self) -> std::path::PathBuf {
        self.store.root().join("tiny--1m").join(FILE)
    }

    fn partial(&self) -> std::path::PathBuf {
        self.store.root().join("tiny--1m").join(format!("{FILE}.partial"))
    }
}

fn contents_server(bytes: &[u8]) -> TestServer {
    let bytes = bytes.to_vec();
    TestServer::start(move |request, _| Reply::file(request, &bytes))
}

#[test]
fn a_model_comes_through_redirects_and_the_token_stays_with_the_hub() {
    let bytes = noise(LENGTH, 1);
    let contents = contents_server(&bytes);
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let mut options = options(&hub.url(), hugging_face_only());
    options.hugging_face_token = Some(Secret::new("hf_secret\n"));
    let recorder = Recorder::default();
    let model = pull(&folder.store, "tiny:1m", &recorder, &options).unwrap();
    assert_eq!(fs::read(&model.path).unwrap(), bytes);
    let manifest = model.manifest.clone().unwrap();
    assert_eq!(manifest.files[0].sha256, sha256(&bytes));
    assert_eq!(manifest.sampling.temperature, Some(0.5));
    assert_eq!(folder.store.resolve("tiny:1m").unwrap(), model);
    assert_eq!(folder.store.list().unwrap(), [model]);
    assert!(
        hub.requests_for("resolve")
            .iter()
            .all(|request| request.headers["authorization"] == "Bearer hf_secret")
    );
    assert!(
        contents.requests_for("blob").iter().all(|request| !request.headers.contains_key("authorization"))
    );
    assert!(!folder.partial().exists());
    assert!(recorder.text().contains("SourceTried"), "{}", recorder.text());
    assert!(!format!("{options:?}").contains("hf_secret"));

    let before = hub.requests.lock().unwrap().len();
    pull(&folder.store, "tiny:1m", &SilentObserver, &options).unwrap();
    assert_eq!(hub.requests.lock().unwrap().len(), before, "a model that is there is not asked for again");
}

#[test]
fn the_model_that_the_program_carries_needs_no_network() {
    let folder = Folder::new();
    // Nothing answers there.
    let options =
        PullOptions { hugging_face_endpoint: "http://127.0.0.1:9".to_owned(), ..PullOptions::default() };
    let recorder = Recorder::default();
    let model = pull(&folder.store, "poet", &recorder, &options).unwrap();
    assert!(recorder.text().contains("digest_was_known: true"), "{}", recorder.text());
    let opened = zhenjin_hub::open(&model.path).unwrap();
    assert!(opened.template.is_some(), "a title becomes a poem through the model's template");
    assert_eq!(folder.store.resolve("poet").unwrap(), model);
}

#[test]
fn the_model_that_the_program_carries_can_be_cancelled_and_pulled_again() {
    let folder = Folder::new();
    let cancelled = pull(&folder.store, "poet", &Recorder::cancelling_after(0), &PullOptions::default());
    assert!(matches!(cancelled, Err(PullError::Cancelled)), "{cancelled:?}");
    assert!(folder.store.resolve("poet").is_err());
    pull(&folder.store, "poet", &SilentObserver, &PullOptions::default()).unwrap();
}

#[test]
fn a_catalogue_that_expects_another_file_of_the_program_gets_none() {
    let folder = Folder::new();
    for (key, value) in
        [("sha256", json!("0".repeat(64))), ("bytes", json!(10)), ("file", json!("missing.gguf"))]
    {
        let mut models: serde_json::Value = serde_json::from_str(include_str!("../catalogue.json")).unwrap();
        let entries = models["models"].as_array_mut().unwrap();
        entries.iter_mut().find(|entry| entry["name"] == "poet").unwrap()["files"][0][key] = value;
        let catalogue = Some(Catalogue::from_json(&models.to_string()).unwrap());
        let options = PullOptions { catalogue, ..PullOptions::default() };
        let refused = pull(&folder.store, "poet", &SilentObserver, &options);
        assert!(matches!(refused, Err(PullError::AllSourcesFailed { .. })), "{refused:?}");
        assert!(folder.store.list().unwrap().is_empty());
    }
}

#[test]
fn a_relative_redirect_of_a_renamed_repository_is_followed_with_the_token() {
    let bytes = noise(1000, 2);
    let contents = contents_server(&bytes);
    let url = format!("{}/blob", contents.url());
    let expected = bytes.clone();
    let hub = TestServer::start(move |request, _| match request.path.as_str() {
        path if path.starts_with("/owner/tiny-GGUF/") => Reply::status(307)
            .header("location", format!("/new-owner/tiny-GGUF/resolve/{COMMIT}/tiny.Q4_0.gguf")),
        path if path.starts_with("/new-owner/") => {
            assert_eq!(request.headers["authorization"], "Bearer hf_secret");
            hub_redirect(&bytes, &url)
        }
        _ => Reply::status(404),
    });
    let folder = Folder::new();
    let mut options = options(&hub.url(), hugging_face_only());
    options.hugging_face_token = Some(Secret::new("hf_secret"));
    let model = pull(&folder.store, "tiny:1m", &SilentObserver, &options).unwrap();
    assert_eq!(fs::read(model.path).unwrap(), expected);
}

#[test]
fn a_connection_cut_in_the_middle_is_continued() {
    let bytes = noise(LENGTH, 3);
    let served = bytes.clone();
    let contents = TestServer::start(move |request, earlier| {
        let mut reply = Reply::file(request, &served);
        reply.cut_after = (earlier < 3).then_some(700_000);
        reply
    });
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let recorder = Recorder::default();
    let model = pull(&folder.store, "tiny:1m", &recorder, &options(&hub.url(), hugging_face_only())).unwrap();
    assert_eq!(fs::read(model.path).unwrap(), bytes);
    let starts: Vec<_> = contents.requests_for("blob").iter().map(Request::range_start).collect();
    assert_eq!(starts, [None, Some(700_000), Some(1_400_000), Some(2_100_000)]);
    assert!(recorder.text().contains("broke in the middle") || recorder.text().contains("connection"));
}

#[test]
fn a_server_that_always_cuts_at_the_same_place_is_given_up() {
    let bytes = noise(LENGTH, 4);
    let served = bytes.clone();
    let contents = TestServer::start(move |request, _| {
        let mut reply = Reply::file(request, &served);
        reply.cut_after = Some(if request.range_start().is_some() { 0 } else { 1000 });
        reply
    });
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let error = pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
        .unwrap_err();
    assert!(error.to_string().contains("the connection to"), "{error}");
    assert!(folder.partial().exists() && !folder.file().exists());
}

#[test]
fn a_cancelled_pull_keeps_its_bytes_and_the_next_one_goes_on() {
    let bytes = noise(LENGTH, 5);
    let contents = contents_server(&bytes);
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let options = options(&hub.url(), hugging_face_only());
    let recorder = Recorder::cancelling_after(1 << 20);
    let error = pull(&folder.store, "tiny:1m", &recorder, &options).unwrap_err();
    assert!(matches!(error, PullError::Cancelled), "{error}");
    let kept = fs::metadata(folder.partial()).unwrap().len();
    assert!(kept >= 1 << 20 && kept < LENGTH as u64, "{kept}");
    assert!(!folder.file().exists());
    assert!(folder.store.list().unwrap().is_empty());
    assert!(folder.store.resolve("tiny:1m").is_err());

    let recorder = Recorder::default();
    let model = pull(&folder.store, "tiny:1m", &recorder, &options).unwrap();
    assert_eq!(recorder.resumed_at.load(Ordering::SeqCst), kept);
    assert_eq!(contents.requests_for("blob").last().unwrap().range_start(), Some(kept as usize));
    assert_eq!(fs::read(model.path).unwrap(), bytes);
}

#[test]
fn a_server_that_ignores_ranges_delivers_from_the_beginning() {
    let bytes = noise(LENGTH, 6);
    let served = bytes.clone();
    let contents = TestServer::start(move |_, earlier| Reply {
        status: 200,
        body: served.clone(),
        cut_after: (earlier == 0).then_some(900_000),
        ..Reply::default()
    });
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let model =
        pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only())).unwrap();
    assert_eq!(contents.requests_for("blob").len(), 2);
    assert_eq!(fs::read(model.path).unwrap(), bytes);
}

#[test]
fn bytes_of_an_older_version_are_not_continued() {
    let (old, new) = (noise(LENGTH, 7), noise(LENGTH, 8));
    let folder = Folder::new();
    let contents = contents_server(&old);
    let hub = plain_hub(&old, format!("{}/blob", contents.url()));
    let recorder = Recorder::cancelling_after(1 << 20);
    pull(&folder.store, "tiny:1m", &recorder, &options(&hub.url(), hugging_face_only())).unwrap_err();
    assert!(folder.partial().exists());

    let contents = contents_server(&new);
    let hub = plain_hub(&new, format!("{}/blob", contents.url()));
    let model =
        pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only())).unwrap();
    assert_eq!(contents.requests_for("blob")[0].range_start(), None);
    assert_eq!(fs::read(model.path).unwrap(), new);
}

#[test]
fn an_unfinished_file_that_was_damaged_is_downloaded_again() {
    let bytes = noise(LENGTH, 9);
    let contents = contents_server(&bytes);
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let options = options(&hub.url(), hugging_face_only());
    pull(&folder.store, "tiny:1m", &Recorder::cancelling_after(1 << 20), &options).unwrap_err();
    let mut partial = fs::read(folder.partial()).unwrap();
    partial[1000..2000].fill(0);
    fs::write(folder.partial(), partial).unwrap();
    let model = pull(&folder.store, "tiny:1m", &SilentObserver, &options).unwrap();
    assert_eq!(fs::read(model.path).unwrap(), bytes);
}

#[test]
fn a_file_with_the_wrong_digest_is_not_kept() {
    let (announced, delivered) = (noise(LENGTH, 10), noise(LENGTH, 11));
    let contents = contents_server(&delivered);
    let hub = plain_hub(&announced, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let error = pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&sha256(&announced)) && text.contains(&sha256(&delivered)), "{text}");
    assert!(!folder.file().exists() && !folder.partial().exists());
    assert!(folder.store.list().unwrap().is_empty());
}

#[test]
fn a_file_that_is_longer_than_announced_is_stopped() {
    let bytes = noise(LENGTH, 12);
    let contents = contents_server(&noise(2 * LENGTH, 12));
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let error = pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
        .unwrap_err();
    assert!(error.to_string().contains("more than the"), "{error}");
    assert!(!folder.file().exists() && !folder.partial().exists());
}

#[test]
fn a_hub_whose_digest_contradicts_the_catalogue_is_passed_over() {
    let (ours, theirs) = (noise(5000, 13), noise(5000, 14));
    let contents = contents_server(&theirs);
    let hub = plain_hub(&theirs, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let catalogue = catalogue(
        serde_json::json!([{ "hugging_face": { "repository": REPOSITORY } }]),
        serde_json::json!({ "bytes": 5000, "sha256": sha256(&ours) }),
    );
    let error = pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), catalogue)).unwrap_err();
    assert!(error.to_string().contains("the catalogue expects"), "{error}");
    assert!(contents.requests_for("blob").is_empty(), "nothing is downloaded in vain");
}

#[test]
fn weights_without_any_digest_are_refused() {
    let hub = TestServer::start(|request, _| Reply::file(request, b"weights").header("etag", "\"abc\""));
    let folder = Folder::new();
    let error = pull(&folder.store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
        .unwrap_err();
    assert!(error.to_string().contains("does not say the digest"), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let cases: [(u16, bool, &[&str]); 4] = [
        (401, false, &["HF_TOKEN", "licence", REPOSITORY]),
        (403, true, &["HF_TOKEN", "licence", REPOSITORY]),
        (404, false, &["no file", FILE]),
        (418, false, &["status 418"]),
    ];
    for (status, with_token, expected) in cases {
        let hub = TestServer::start(move |_, _| Reply::status(status));
        let mut options = options(&hub.url(), hugging_face_only());
        options.hugging_face_token = with_token.then(|| Secret::new("hf_x"));
        let error = pull(&Folder::new().store, "tiny:1m", &SilentObserver, &options).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{status}: {error}");
        }
        assert_eq!(hub.requests.lock().unwrap().len(), 1, "a refusal is not asked again");
    }
}

#[test]
fn a_busy_hub_is_asked_again_after_the_time_it_names() {
    let bytes = noise(10_000, 15);
    let served = bytes.clone();
    let contents = TestServer::start(move |request, earlier| match earlier {
        0 => Reply::status(429).header("retry-after", 1),
        1 => Reply::status(502),
        _ => Reply::file(request, &served),
    });
    let url = format!("{}/blob", contents.url());
    let head = bytes.clone();
    let hub = TestServer::start(move |request, earlier| match (request.method.as_str(), earlier) {
        ("HEAD", 0) => Reply::status(429).header("retry-after", 0),
        _ => hub_redirect(&head, &url),
    });
    let folder = Folder::new();
    let recorder = Recorder::default();
    let started = Instant::now();
    let model = pull(&folder.store, "tiny:1m", &recorder, &options(&hub.url(), hugging_face_only())).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(recorder.text().contains("status 429"), "{}", recorder.text());
    assert_eq!(fs::read(model.path).unwrap(), bytes);
}

#[test]
fn a_wait_that_is_too_long_is_not_waited_for() {
    let hub = TestServer::start(|_, _| Reply::status(429).header("retry-after", 3600));
    let started = Instant::now();
    let error =
        pull(&Folder::new().store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
            .unwrap_err();
    assert!(error.to_string().contains("3600 seconds"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn cancelling_interrupts_a_wait() {
    let hub = TestServer::start(|_, _| Reply::status(429).header("retry-after", 2));
    struct CancelWhileWaiting(std::sync::atomic::AtomicBool);
    impl zhenjin_hub::PullObserver for CancelWhileWaiting {
        fn on_event(&self, event: zhenjin_hub::PullEvent<'_>) {
            if matches!(event, zhenjin_hub::PullEvent::Waiting { .. }) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        fn is_cancelled(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let started = Instant::now();
    let observer = CancelWhileWaiting(false.into());
    let error = pull(&Folder::new().store, "tiny:1m", &observer, &options(&hub.url(), hugging_face_only()))
        .unwrap_err();
    assert!(matches!(error, PullError::Cancelled), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn two_pulls_of_one_model_do_not_collide() {
    let bytes = noise(LENGTH, 16);
    let served = bytes.clone();
    let contents = TestServer::start(move |request, _| Reply {
        delay: Duration::from_millis(2),
        ..Reply::file(request, &served)
    });
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let folder = Folder::new();
    let options = options(&hub.url(), hugging_face_only());
    let (first, second) = std::thread::scope(|scope| {
        let start = || pull(&folder.store, "tiny:1m", &SilentObserver, &options);
        let (first, second) = (scope.spawn(start), scope.spawn(start));
        (first.join().unwrap(), second.join().unwrap())
    });
    let failed =
        [&first, &second].into_iter().filter_map(|outcome| outcome.as_ref().err()).collect::<Vec<_>>();
    assert!(failed.len() <= 1 && (first.is_ok() || second.is_ok()));
    assert!(failed.iter().all(|error| error.to_string().contains("in use by another")), "{failed:?}");
    assert_eq!(fs::read(folder.file()).unwrap(), bytes);
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = TestServer::start(|request, _| Reply::status(302).header("location", &request.path));
    let error =
        pull(&Folder::new().store, "tiny:1m", &SilentObserver, &options(&hub.url(), hugging_face_only()))
            .unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = pull(
        &Folder::new().store,
        "gpt:5",
        &SilentObserver,
        &options("http://127.0.0.1:9", hugging_face_only()),
    )
    .unwrap_err();
    assert!(error.to_string().contains("tiny:1m"), "{error}");
}
