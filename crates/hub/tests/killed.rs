//! A pull whose program is killed: what is left, and that the next pull goes on from there.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use zhenjin_hub::{ModelStore, SilentObserver, pull};

const CHILD: &str = "ZHENJIN_HUB_TEST_CHILD";
const LENGTH: usize = 4 << 20;

#[test]
fn a_killed_pull_leaves_no_model_and_the_next_one_continues() {
    if let Ok(arguments) = std::env::var(CHILD) {
        let (root, hub) = arguments.split_once('|').unwrap();
        let _ = pull(&ModelStore::new(root), "tiny:1m", &SilentObserver, &options(hub, hugging_face_only()));
        return;
    }
    let bytes = noise(LENGTH, 20);
    let served = bytes.clone();
    let contents = TestServer::start(move |request, earlier| Reply {
        delay: if earlier == 0 { Duration::from_millis(20) } else { Duration::ZERO },
        ..Reply::file(request, &served)
    });
    let hub = plain_hub(&bytes, format!("{}/blob", contents.url()));
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("models");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_killed_pull_leaves_no_model_and_the_next_one_continues"])
        .env(CHILD, format!("{}|{}", root.display(), hub.url()))
        .spawn()
        .unwrap();
    let folder = root.join("tiny--1m");
    let partial = folder.join(format!("{FILE}.partial"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::metadata(&partial).map(|metadata| metadata.len()).unwrap_or(0) < 1 << 20 {
        assert!(Instant::now() < deadline, "the child made no progress");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = fs::metadata(&partial).unwrap().len();
    assert!(kept < LENGTH as u64);
    assert!(!folder.join(FILE).exists());
    let store = ModelStore::new(&root);
    assert!(store.list().unwrap().is_empty());

    let recorder = Recorder::default();
    let model = pull(&store, "tiny:1m", &recorder, &options(&hub.url(), hugging_face_only())).unwrap();
    assert_eq!(recorder.resumed_at.load(std::sync::atomic::Ordering::SeqCst), kept);
    assert_eq!(fs::read(model.path).unwrap(), bytes);
    assert!(!partial.exists());
}
