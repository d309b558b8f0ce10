//! Improvements over HTTP that no program of this server makes: left by a server that was killed, made by a person, or interrupted; and how the
//! list of models describes a model without its improvement.

use std::path::Path;

use crate::promotions::{copy_adapter, judged, send};
use crate::support::{Answer, Application, write_tiny_model};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use zhenjin_promotions::{Improvement, ImprovementState, Improvements};
use zhenjin_store::Owner;

fn improvements_in(home: &Path) -> Improvements {
    Improvements::new(home.join("improvements"))
}

async fn discard(app: &Application, id: &str) -> Answer {
    send(app, Method::POST, &format!("/api/improvements/{id}/discard"), json!({})).await
}

/// Programs that this server did not start.
#[cfg(target_os = "linux")]
mod left {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::support;
    use zhenjin_promotions::{Maker, Progress};
    use zhenjin_server::{Server, ServerOptions};

    /// A program that has the right to make improvements; `for_server` is the one that it makes for a server.
    fn program_that_makes(home: &Path, for_server: Option<&str>) -> Child {
        let improvements = improvements_in(home);
        let making = improvements.begin().expect("nobody else");
        let mut program = Command::new("sh");
        program.args(["-c", r#"exec 9>>"$0"; flock 9; echo ready; exec sleep 600"#]);
        program.arg(home.join("improvements/running.lock")).stdout(Stdio::piped());
        let mut program = program.spawn().expect("a shell");
        let maker = Maker::of(program.id(), for_server.map(str::to_owned));
        improvements.tell_maker(&making, &maker).expect("written");
        drop(making);
        let mut line = String::new();
        BufReader::new(program.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        program
    }

    async fn stop(app: &Application, id: &str) -> Answer {
        send(app, Method::DELETE, &format!("/api/improvements/{id}"), json!({})).await
    }

    /// Regression: after a server was killed, the next one showed what it had begun, and refused to end it.
    #[tokio::test]
    async fn what_a_killed_server_had_begun_is_ended_by_request() {
        let app = Application::with_library(|library| {
            for (id, at) in [("left", 1), ("newer", 2)] {
                let record = Improvement::begun(id, "tiny", "dpo", at);
                library.improvements.write(&record).expect("written");
            }
        })
        .await;
        let mut program = program_that_makes(app.folder.path(), Some("left"));
        let progress =
            Progress { phase: "training".to_owned(), step: Some(3), steps: Some(40), seconds_left: Some(90) };
        improvements_in(app.folder.path()).tell("left", &progress).expect("told");
        let list = app.get("/api/improvements").await.json();
        assert_eq!((&list["running"]["id"], &list["running"]["seconds_left"]), (&json!("left"), &json!(90)));
        let other = stop(&app, "newer").await;
        assert_eq!(other.status, StatusCode::NOT_FOUND, "{}", other.text);
        assert!(program.try_wait().expect("a status").is_none(), "it makes another one");
        let stopped = stop(&app, "left").await;
        assert_eq!(stopped.status, StatusCode::NO_CONTENT, "{}", stopped.text);
        assert_eq!(program.wait().expect("its end").signal(), Some(9));
        let list = app.get("/api/improvements").await.json();
        assert_eq!(list["running"], Value::Null);
        for improvement in list["improvements"].as_array().expect("a list") {
            assert_eq!(improvement["state"], "interrupted", "{list}");
        }
        assert_eq!(stop(&app, "left").await.status, StatusCode::NOT_FOUND);
    }

    /// A person sees what the program does and may end it; over HTTP nothing said which program that is.
    #[tokio::test]
    async fn what_a_person_had_begun_is_left_alone_and_named() {
        let app = Application::with_library(|library| {
            library.improvements.write(&Improvement::begun("own", "tiny", "dpo", 1)).expect("written");
        })
        .await;
        let mut program = program_that_makes(app.folder.path(), None);
        let refused = stop(&app, "own").await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        let (message, code, _) = refused.error();
        assert_eq!(code, "made_elsewhere");
        assert!(message.contains(&format!("`kill {}`", program.id())), "{message}");
        assert!(program.try_wait().expect("a status").is_none());
        program.kill().and_then(|()| program.wait()).expect("its end");
    }

    /// Regression: it went on for hours after the next server had been told to end.
    #[tokio::test]
    async fn what_a_killed_server_had_begun_ends_with_the_next_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = ServerOptions { address: ([127, 0, 0, 1], 0).into(), ..ServerOptions::default() };
        let server = Server::bind(options, support::services(&folder).await).await.expect("a free port");
        let mut program = program_that_makes(folder.path(), Some("left"));
        server.run(std::future::ready(())).await;
        assert_eq!(program.wait().expect("its end").signal(), Some(9));
    }
}

/// There was no way to have an interrupted improvement's copies of what people wrote removed but to let it go on.
#[tokio::test]
async fn an_interrupted_improvement_is_discarded_with_its_copies_and_its_note() {
    let app = Application::with_library(|library| {
        for (id, state) in [("left", ImprovementState::Running), ("good", ImprovementState::Passed)] {
            let record = Improvement { state, ..Improvement::begun(id, "tiny", "dpo", 1) };
            library.improvements.write(&record).expect("written");
        }
    })
    .await;
    let improvements = improvements_in(app.folder.path());
    let folder = improvements.folder_of("left").expect("a path");
    copy_adapter("llama-every", &folder.join("adapter"));
    std::fs::write(folder.join("train.jsonl"), "words").expect("a file");
    let store = &app.state.store;
    let (chat, row) = judged(store).await;
    store.note_training("left", &[row]).await.expect("noted");
    let learned = async || store.improvements_of_conversation(&Owner::Local, &chat).await.expect("a chat");

    let making = improvements.begin().expect("nobody else");
    let refused = discard(&app, "left").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "one is under way: {}", refused.text);
    drop(making);
    assert_eq!(discard(&app, "nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(discard(&app, "good").await.status, StatusCode::CONFLICT);
    assert!(folder.join("train.jsonl").is_file());
    assert_eq!(learned().await, ["left"]);

    let discarded = discard(&app, "left").await;
    assert_eq!(discarded.status, StatusCode::NO_CONTENT, "{}", discarded.text);
    let record = improvements.read("left").expect("a record");
    assert_eq!(record.state, ImprovementState::Failed);
    assert!(record.error.expect("a reason").contains("discarded"));
    assert!(!folder.join("train.jsonl").exists() && !folder.join("adapter").exists());
    assert_eq!(learned().await, Vec::<String>::new());
    assert_eq!(discard(&app, "left").await.status, StatusCode::CONFLICT, "it has ended");
}

/// A catalogue that knows the tiny model.
const CATALOGUE: &str = r#"{ "models": [{
    "name": "tiny", "title": "Tiny Thing", "parameters": "1 B", "quantisation": "Q4_1",
    "licence": { "name": "Apache-2.0", "url": "https://example.org/licence" }, "languages": ["en", "zh"],
    "context_length": 2048, "good_for": { "en": "tests", "zh": "测试" }, "sampling": {},
    "files": [{ "file": "tiny.gguf", "bytes": null, "approximate_bytes": 600000000, "sha256": null }],
    "sources": [{ "hugging_face": { "repository": "nobody/tiny", "revision": null } }] }] }"#;

/// Regression: the list had it under its bare name, as a file of one's own that takes no memory.
#[tokio::test]
async fn a_model_without_its_improvement_is_described_as_the_model_is() {
    let app = Application::with_library(|library| {
        copy_adapter("llama-every", &library.adapters.join("poet"));
        write_tiny_model(&library.adapters.join("whole"));
        library.pull.catalogue = Some(serde_json::from_str(CATALOGUE).expect("a catalogue"));
    })
    .await;
    for folder in ["poet", "whole"] {
        let promoted = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": folder })).await;
        assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
        let question = json!({
            "model": "tiny", "max_tokens": 1, "messages": [{ "role": "user", "content": "Who?" }]
        });
        let answer = app.post("/v1/chat/completions", question.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let models = app.get("/api/models").await.json();
        let named = |name: &str| {
            let mut models = models.as_array().expect("a list").iter();
            models.find(|model| model["name"] == name).expect(name).clone()
        };
        let (whole, alone) = (named("tiny"), named("tiny+base"));
        assert_eq!(
            (&whole["title"], &alone["title"]),
            (&json!("Tiny Thing"), &json!("Tiny Thing without the improvement"))
        );
        for field in ["source", "licence", "languages", "installed", "served"] {
            assert_eq!(alone[field], whole[field], "{folder}: {field}");
        }
        assert_eq!(alone["source"], "catalogue");
        assert!(alone["planned_memory_bytes"].as_u64() > Some(0), "{folder}: {alone}");
        assert_eq!((&alone["promoted"], &alone["removable"]), (&Value::Null, &json!(false)));
    }
}
