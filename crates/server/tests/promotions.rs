//! Promotions and improvements over HTTP: trained weights answer under the model's own name, and what answered before comes back.

use std::path::{Path, PathBuf};

use crate::support::{Answer, Application, request, write_tiny_model};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};
use zhenjin_promotions::{DataCounts, Improvement, ImprovementState, Origin, Promotions};
use zhenjin_server::ImproveCommand;
use zhenjin_store::{
    AnswerEnd, ConversationId, FeedbackId, NewConversation, NewFeedback, Owner, Question, Rating, Status,
    Store,
};

/// An application whose adapter folder holds the folders `poet` and `clerk`, for its tiny model.
async fn application() -> Application {
    Application::with_library(|library| {
        copy_adapter("llama-every", &library.adapters.join("poet"));
        copy_adapter("llama-attention", &library.adapters.join("clerk"));
    })
    .await
}

pub(crate) fn copy_adapter(name: &str, to: &Path) {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/golden/adapters").join(name);
    std::fs::create_dir_all(to).expect("a folder");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(from.join(file), to.join(file)).expect(file);
    }
}

pub(crate) async fn send(app: &Application, method: Method, path: &str, body: Value) -> Answer {
    let asked = request(method, path).header(header::CONTENT_TYPE, "application/json");
    app.send(asked.body(Body::from(body.to_string())).expect("valid")).await
}

/// What answers, and with which weights.
async fn answer(app: &Application, model: &str) -> (String, String) {
    let question = json!({
        "model": model, "temperature": 0, "max_tokens": 40, "messages": [{ "role": "user", "content": "Who?" }]
    });
    let answer = app.post("/v1/chat/completions", question.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = answer.json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&answer["system_fingerprint"]), text(&answer["choices"][0]["message"]["content"]))
}

#[tokio::test]
async fn weights_are_promoted_replaced_and_rolled_back_while_serving() {
    let app = application().await;
    let base = answer(&app, "tiny").await;
    let promote = async |folder: &str| {
        send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": folder })).await
    };
    let promoted = promote("poet").await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
    let described = promoted.json();
    assert_eq!((&described["model"], &described["earlier"]), (&json!("tiny"), &json!(["base"])));
    assert_eq!(described["promoted"]["kind"], "adapter");
    // Where it came from was once dropped.
    assert_eq!(described["promoted"]["source"], "poet");
    assert_eq!((&described["unloaded_adapters"], &described["loaded_adapters"]), (&json!([]), &json!([])));
    let poet = answer(&app, "tiny").await;
    assert!(poet.0 != base.0 && poet.1 != base.1, "{poet:?}");
    assert_eq!(answer(&app, "tiny+base").await, base);
    let listed = app.get("/api/models").await.json();
    let tiny = listed.as_array().expect("a list").iter().find(|model| model["name"] == "tiny").expect("tiny");
    assert_eq!(tiny["promoted"]["id"], described["promoted"]["id"]);

    assert_eq!(promote("clerk").await.status, StatusCode::OK);
    let clerk = answer(&app, "tiny").await;
    assert!(clerk.0 != poet.0 && clerk.0 != base.0, "{clerk:?}");
    let back = async || send(&app, Method::POST, "/api/promotions/tiny/rollback", json!({})).await;
    assert_eq!(back().await.json()["promoted"]["id"], described["promoted"]["id"]);
    assert_eq!(answer(&app, "tiny").await, poet);
    assert_eq!(back().await.json()["promoted"], Value::Null);
    assert_eq!(answer(&app, "tiny").await, base);
    // It was once said with the code for something that is under way.
    let refused = back().await;
    assert_eq!((refused.status, refused.error().1.as_str()), (StatusCode::CONFLICT, "nothing_earlier"));

    let nowhere = promote("nowhere").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND, "{}", nowhere.text);
    let other = send(&app, Method::PUT, "/api/promotions/other", json!({ "folder": "poet" })).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "{}", other.text);
    assert_eq!(answer(&app, "tiny").await, base);
}

/// Adapters to the weights that answered before once went in silence, and did not come back with them.
#[tokio::test]
async fn adapters_go_and_come_back_with_their_weights_and_the_answer_names_them() {
    let app = application().await;
    let load = async |name: &str, folder: &str| {
        let path = format!("/api/adapters/{name}");
        let loaded = send(&app, Method::PUT, &path, json!({ "folder": folder })).await;
        assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
    };
    load("tiny+poet", "poet").await;
    let poet = answer(&app, "tiny+poet").await;
    // Whole weights are promoted as adapters are.
    write_tiny_model(&app.folder.path().join("adapters/whole"));
    let whole = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": "whole" })).await;
    assert_eq!(whole.status, StatusCode::OK, "{}", whole.text);
    assert_eq!(whole.json()["promoted"]["kind"], "model");
    assert_eq!(whole.json()["unloaded_adapters"], json!(["tiny+poet"]));
    assert_eq!(app.get("/api/adapters").await.json()["served"], json!([]));
    load("tiny+clerk", "clerk").await;
    let back = send(&app, Method::POST, "/api/promotions/tiny/rollback", json!({})).await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text);
    let back = back.json();
    assert_eq!(back["promoted"], Value::Null);
    assert_eq!(back["unloaded_adapters"], json!(["tiny+clerk"]));
    assert_eq!(back["loaded_adapters"], json!(["tiny+poet"]));
    assert_eq!(answer(&app, "tiny+poet").await, poet);
}

/// The list once changed before it was known that the weights can be served, and back afterwards: a server that was killed in between did not
/// start any more.
#[tokio::test]
async fn what_cannot_be_served_is_not_promoted() {
    let app = Application::with_library(|library| {
        let broken = library.adapters.join("broken");
        std::fs::create_dir_all(&broken).expect("a folder");
        std::fs::write(broken.join("adapter_config.json"), "{").expect("a file");
        std::fs::write(broken.join("adapter_model.safetensors"), "no").expect("a file");
    })
    .await;
    let base = answer(&app, "tiny").await;
    let refused = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": "broken" })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(answer(&app, "tiny").await, base);
    assert_eq!(app.get("/api/improvements").await.json()["promotions"], json!([]));
    let promotions = Promotions::new(app.folder.path().join("promoted"));
    assert_eq!(promotions.version(), None, "the list was never written");
}

/// Regression: adapters and promotions of `MODEL+base` were taken, and nobody could reach them once it had gone with the promotion.
#[tokio::test]
async fn a_model_without_what_is_promoted_takes_nothing_of_its_own() {
    let app = Application::with_library(|library| {
        copy_adapter("llama-every", &library.adapters.join("poet"));
        write_tiny_model(&library.adapters.join("whole"));
        library.improve = Some(ImproveCommand::new(|_, _, _| std::process::Command::new("true")));
    })
    .await;
    for promoted in [None, Some("poet"), Some("whole")] {
        if let Some(folder) = promoted {
            let done = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": folder })).await;
            assert_eq!(done.status, StatusCode::OK, "{}", done.text);
        }
        let folder = json!({ "folder": "poet" });
        for (method, path, body) in [
            (Method::PUT, "/api/adapters/tiny+base+poet", folder.clone()),
            (Method::PUT, "/api/promotions/tiny+base", folder),
            (Method::POST, "/api/improvements", json!({ "model": "tiny+base" })),
        ] {
            let refused = send(&app, method, path, body).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}: {}", refused.text);
            assert!(refused.error().0.contains("name `tiny`"), "{path}: {}", refused.text);
        }
    }
    let promotions = Promotions::new(app.folder.path().join("promoted"));
    assert_eq!(promotions.read().expect("a list").keys().collect::<Vec<_>>(), ["tiny"]);
}

/// An adapter to the model's own weights cannot be compared with other weights; that was found after it had been trained.
#[tokio::test]
async fn no_improvement_is_begun_while_whole_weights_answer() {
    let app = Application::with_library(|library| {
        write_tiny_model(&library.adapters.join("whole"));
        library.improve = Some(ImproveCommand::new(|_, _, _| std::process::Command::new("true")));
    })
    .await;
    let whole = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": "whole" })).await;
    assert_eq!(whole.status, StatusCode::OK, "{}", whole.text);
    let refused = app.post("/api/improvements", "{}").await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(refused.error().0.contains("whole weights were promoted for `tiny`"), "{}", refused.text);
    let back = send(&app, Method::POST, "/api/promotions/tiny/rollback", json!({})).await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text);
    let begun = app.post("/api/improvements", "{}").await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
}

/// The list once changed before it was known that the earlier weights can be served: the server did not start with it any more.
#[tokio::test]
async fn what_cannot_be_served_any_more_is_not_rolled_back_to() {
    let app = application().await;
    for folder in ["poet", "clerk"] {
        let promoted = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": folder })).await;
        assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
    }
    let clerk = answer(&app, "tiny").await;
    let promotions = zhenjin_promotions::Promotions::new(app.folder.path().join("promoted"));
    let source = app.folder.path().join("adapters/poet");
    promotions.promote("other", &source, 1, Origin::default()).expect("promoted");
    let before = promotions.read().expect("a list");
    // A model that this server does not have is another server's.
    let other = send(&app, Method::POST, "/api/promotions/other/rollback", json!({})).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND, "{}", other.text);
    assert_eq!(promotions.read().expect("a list"), before);

    let poet = before["tiny"].earlier[1].as_ref().expect("the poet");
    std::fs::remove_dir_all(poet.path(promotions.folder())).expect("removed");
    let refused = send(&app, Method::POST, "/api/promotions/tiny/rollback", json!({})).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(promotions.read().expect("a list"), before);
    assert_eq!(answer(&app, "tiny").await, clerk);
}

#[tokio::test]
async fn an_improvement_is_promoted_if_it_passed() {
    let record = |id: &str, state| Improvement {
        finished_at: Some(2),
        state,
        data: DataCounts { train: 30, held_out: 8, owners: 2, ..DataCounts::default() },
        ..Improvement::begun(id, "tiny", "dpo", 1)
    };
    let app = Application::with_library(|library| {
        let improvements = &library.improvements;
        for (id, state) in [("good", ImprovementState::Passed), ("bad", ImprovementState::Refused)] {
            improvements.write(&record(id, state)).expect("written");
            copy_adapter("llama-every", &improvements.adapter_of(id).expect("a path"));
        }
        improvements.write(&record("half", ImprovementState::Running)).expect("written");
    })
    .await;
    let base = answer(&app, "tiny").await;
    let refused = send(&app, Method::POST, "/api/improvements/bad/promote", json!({})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    let unknown = send(&app, Method::POST, "/api/improvements/none/promote", json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.text);
    let promoted = send(&app, Method::POST, "/api/improvements/good/promote", json!({})).await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
    assert_eq!(
        (&promoted.json()["improvement"], &promoted.json()["method"]),
        (&json!("good"), &json!("dpo"))
    );
    assert_ne!(answer(&app, "tiny").await, base);
    let list = app.get("/api/improvements").await.json();
    let states: Vec<_> = list["improvements"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| (record["id"].as_str(), record["state"].as_str(), record["promoted"].as_bool()))
        .collect();
    assert_eq!(
        states,
        [
            (Some("half"), Some("interrupted"), Some(false)),
            (Some("good"), Some("passed"), Some(true)),
            (Some("bad"), Some("refused"), Some(false)),
        ]
    );
    // Nobody told this server how improvements are made.
    let begun = app.post("/api/improvements", "{}").await;
    assert_eq!(begun.status, StatusCode::CONFLICT, "{}", begun.text);
}

/// Regression: where the same weights had been promoted from a folder, the promotion of the improvement succeeded and the improvement was still
/// listed as one that does not answer.
#[tokio::test]
async fn an_improvement_whose_weights_answer_already_is_listed_as_promoted() {
    let app = Application::with_library(|library| {
        let record = Improvement {
            finished_at: Some(2),
            state: ImprovementState::Passed,
            ..Improvement::begun("good", "tiny", "dpo", 1)
        };
        library.improvements.write(&record).expect("written");
        copy_adapter("llama-every", &library.improvements.adapter_of("good").expect("a path"));
        copy_adapter("llama-every", &library.adapters.join("mine"));
    })
    .await;
    let of_folder = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": "mine" })).await;
    assert_eq!(of_folder.json()["promoted"]["source"], "mine", "{}", of_folder.text);
    let promoted = send(&app, Method::POST, "/api/improvements/good/promote", json!({})).await;
    assert_eq!(promoted.status, StatusCode::OK, "{}", promoted.text);
    assert_eq!(promoted.json()["promoted"]["id"], of_folder.json()["promoted"]["id"]);
    assert_eq!(promoted.json()["improvement"], "good");
    let list = app.get("/api/improvements").await.json();
    assert_eq!(list["improvements"][0]["promoted"], true);
    assert_eq!(list["promotions"][0]["earlier"], json!(["base"]));
}

/// Regression: over HTTP nothing said with what an improvement had been compared, and it was promoted in the place of whatever answered by then.
#[tokio::test]
async fn what_was_compared_with_something_else_is_promoted_by_force_alone() {
    let app = Application::with_library(|library| {
        copy_adapter("llama-attention", &library.adapters.join("clerk"));
        let record = Improvement {
            finished_at: Some(2),
            state: ImprovementState::Passed,
            compared_with: Some(Improvement::word_of(None).to_owned()),
            ..Improvement::begun("good", "tiny", "dpo", 1)
        };
        library.improvements.write(&record).expect("written");
        copy_adapter("llama-every", &library.improvements.adapter_of("good").expect("a path"));
    })
    .await;
    let listed = async || {
        let good = app.get("/api/improvements").await.json()["improvements"][0].clone();
        (good["compared_with"].clone(), good["compared_with_other"].clone(), good["promoted"].clone())
    };
    assert_eq!(listed().await, (json!("base"), json!(false), json!(false)));
    let clerk = send(&app, Method::PUT, "/api/promotions/tiny", json!({ "folder": "clerk" })).await;
    assert_eq!(clerk.status, StatusCode::OK, "{}", clerk.text);
    let answering = answer(&app, "tiny").await;
    assert_eq!(listed().await, (json!("base"), json!(true), json!(false)));
    let path = "/api/improvements/good/promote";
    for body in ["", "{}", r#"{ "force": false }"#] {
        let refused = app.post(path, body).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{body}: {}", refused.text);
        let (message, code, field) = refused.error();
        assert_eq!((code.as_str(), field.as_str()), ("compared_with_other", "force"));
        assert!(message.contains("was compared with the model itself, but the promotion"), "{message}");
    }
    let unknown = app.post(path, r#"{ "forced": true }"#).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST, "{}", unknown.text);
    assert_eq!(answer(&app, "tiny").await, answering);
    let forced = app.post(path, r#"{ "force": true }"#).await;
    assert_eq!(forced.status, StatusCode::OK, "{}", forced.text);
    assert_ne!(answer(&app, "tiny").await, answering);
    assert_eq!(listed().await, (json!("base"), json!(false), json!(true)), "it answers itself");
    let again = app.post(path, "").await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
}

#[tokio::test]
async fn a_server_follows_what_other_programs_promote() {
    let app = application().await;
    let base = answer(&app, "tiny").await;
    let promotions = zhenjin_promotions::Promotions::new(app.folder.path().join("promoted"));
    let source = app.folder.path().join("adapters/poet");
    promotions.promote("tiny", &source, 1, Origin::default()).expect("promoted");
    let failed = zhenjin_server::apply_promotions(&app.state.models, &promotions).expect("a list");
    assert!(failed.is_empty(), "{failed:?}");
    let poet = answer(&app, "tiny").await;
    assert_ne!(poet, base);
    promotions.roll_back("tiny").expect("rolled back");
    zhenjin_server::apply_promotions(&app.state.models, &promotions).expect("a list");
    assert_eq!(answer(&app, "tiny").await, base);
}

/// Ctrl-C in the server's terminal once reached the program too, which saved and ended, and the improvement was marked as failed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_improvement_that_was_asked_to_stop_can_go_on() {
    let seen = tempfile::tempdir().expect("a folder");
    let group = seen.path().join("group");
    let (script, made) = (
        "read -r pid name state parent group rest < /proc/$$/stat; echo $pid $group > $0; exit 75",
        group.clone(),
    );
    let app = Application::with_library(|library| {
        let improvements = library.improvements.clone();
        library.improve = Some(zhenjin_server::ImproveCommand::new(move |id, model, _| {
            improvements.write(&Improvement::begun(id, model, "dpo", 1)).expect("written");
            let mut program = std::process::Command::new("sh");
            program.args(["-c", script]).arg(&made);
            program
        }));
    })
    .await;
    let begun = app.post("/api/improvements", "{}").await;
    assert!(begun.status.is_success(), "{}", begun.text);
    let is_running = async || !app.get("/api/improvements").await.json()["running"].is_null();
    for _ in 0..500 {
        if !is_running().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let list = app.get("/api/improvements").await.json();
    assert_eq!(list["improvements"][0]["state"], "interrupted", "{list}");
    let numbers = std::fs::read_to_string(&group).expect("the program ran");
    let (process, group) = numbers.trim().split_once(' ').expect("two numbers");
    assert_eq!(process, group, "the program has a group of its own");
}

/// A program that was killed, for want of memory for example, was marked as failed, and what it had computed was thrown away.
#[cfg(unix)]
#[tokio::test]
async fn an_improvement_that_was_killed_can_go_on_and_one_that_broke_has_failed() {
    for (end, expected) in [("kill -9 $$", "interrupted"), ("kill -SEGV $$", "failed"), ("exit 1", "failed")]
    {
        let app = Application::with_library(|library| {
            let improvements = library.improvements.clone();
            library.improve = Some(zhenjin_server::ImproveCommand::new(move |id, model, _| {
                improvements.write(&Improvement::begun(id, model, "dpo", 1)).expect("written");
                let mut program = std::process::Command::new("sh");
                program.args(["-c", &format!("echo step 1; {end}")]);
                program
            }));
        })
        .await;
        let begun = app.post("/api/improvements", "{}").await;
        assert!(begun.status.is_success(), "{}", begun.text);
        let list = async || app.get("/api/improvements").await.json();
        let has_ended = |list: &serde_json::Value| {
            list["running"].is_null() && list["improvements"][0]["state"] != "running"
        };
        for _ in 0..500 {
            if has_ended(&list().await) && list().await["improvements"][0]["state"] == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let ended = list().await;
        assert_eq!(ended["improvements"][0]["state"], expected, "{end}: {ended}");
        let error = ended["improvements"][0]["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(error.contains("step 1"), expected == "failed", "{end}: {ended}");
        assert_eq!(error.contains("signal 11"), end.contains("SEGV"), "{end}: {ended}");
    }
}

/// A chat with an answer that is liked, and the name of that judgement.
pub(crate) async fn judged(store: &Store) -> (ConversationId, FeedbackId) {
    let new = NewConversation { model: "tiny".to_owned(), ..NewConversation::default() };
    let chat = store.create_conversation(&Owner::Local, new).await.expect("a chat").id;
    let question = Question {
        conversation_id: chat.clone(),
        parent_id: None,
        content: "Why?".to_owned(),
        model: "tiny".to_owned(),
        title_if_untitled: "Why?".to_owned(),
    };
    let (_, answer) = store.ask(&Owner::Local, question).await.expect("a question");
    let end = AnswerEnd { text: "Because.".to_owned(), ..AnswerEnd::new(Status::Complete) };
    store.end_answer(&Owner::Local, &answer.id, end).await.expect("an answer");
    let liked = NewFeedback { rating: Some(Rating::Up), ..NewFeedback::default() };
    let kept = store.set_feedback(&Owner::Local, &answer.id, liked).await.expect("kept");
    (chat, kept.id)
}

/// Regression: the adapter of an improvement that failed after it was trained stayed, and the note of what it had learned from did not.
#[tokio::test]
async fn what_a_failed_improvement_has_computed_goes_with_its_note() {
    for state in [ImprovementState::Running, ImprovementState::Failed] {
        let seen = tempfile::tempdir().expect("a folder");
        let end = seen.path().join("end");
        let app = Application::with_library(|library| {
            let (improvements, end) = (library.improvements.clone(), end.clone());
            library.improve = Some(ImproveCommand::new(move |id, model, _| {
                let record = Improvement { state, ..Improvement::begun(id, model, "dpo", 1) };
                improvements.write(&record).expect("written");
                let folder = improvements.folder_of(id).expect("a path");
                copy_adapter("llama-every", &folder.join("adapter"));
                std::fs::create_dir_all(folder.join("run/checkpoints")).expect("a folder");
                let mut program = std::process::Command::new("sh");
                program.args(["-c", "while [ ! -e \"$0\" ]; do sleep 0.05; done; exit 1"]).arg(&end);
                program
            }));
        })
        .await;
        let store = &app.state.store;
        let (chat, row) = judged(store).await;
        let begun = app.post("/api/improvements", "{}").await;
        assert!(begun.status.is_success(), "{}", begun.text);
        let id = begun.json()["id"].as_str().expect("its name").to_owned();
        store.note_training(&id, &[row]).await.expect("noted");
        std::fs::write(&end, "").expect("a file");
        let learned =
            async || store.improvements_of_conversation(&Owner::Local, &chat).await.expect("a chat");
        for _ in 0..500 {
            let list = app.get("/api/improvements").await.json();
            // One whose program broke says that it failed once nothing is left of it.
            let has_ended = match state {
                ImprovementState::Running => list["improvements"][0]["state"] == "failed",
                _ => learned().await.is_empty(),
            };
            if has_ended {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let list = app.get("/api/improvements").await.json();
        assert_eq!(list["improvements"][0]["state"], "failed", "{list}");
        assert_eq!(learned().await, Vec::<String>::new());
        let folder = app.folder.path().join("improvements").join(&id);
        assert!(!folder.join("adapter").exists() && !folder.join("run").exists());
    }
}

/// Regression: a second click came before the program could be seen to run. Its program took the first one's place, which nobody could stop then.
#[cfg(unix)]
#[tokio::test]
async fn a_second_improvement_waits_for_the_first() {
    let app = Application::with_library(|library| {
        library.improve = Some(zhenjin_server::ImproveCommand::new(|_, _, _| {
            let mut program = std::process::Command::new("sleep");
            program.arg("600");
            program
        }));
    })
    .await;
    let first = app.post("/api/improvements", "{}").await;
    assert!(first.status.is_success(), "{}", first.text);
    let second = app.post("/api/improvements", "{}").await;
    assert_eq!(second.status, StatusCode::CONFLICT, "{}", second.text);
    let id = first.json()["id"].as_str().expect("its name").to_owned();
    // It was once in no list until its program had written its record, and stayed as an empty folder where that was ended before.
    let list = app.get("/api/improvements").await.json();
    let [listed] = &list["improvements"].as_array().expect("a list")[..] else { panic!("{list}") };
    assert_eq!((&listed["id"], &listed["model"]), (&json!(id), &json!("tiny")), "{list}");
    assert_eq!((&listed["state"], &list["running"]["id"]), (&json!("running"), &json!(id)), "{list}");
    let improvements = app.folder.path().join("improvements");
    assert!(improvements.join(&id).join("log.txt").is_file());
    let stop = async |id: &str| {
        let request =
            axum::http::Request::delete(format!("/api/improvements/{id}")).header("host", "localhost");
        app.send(request.body(axum::body::Body::empty()).expect("a request")).await
    };
    let stopped = stop(&id).await;
    assert_eq!(stopped.status, StatusCode::NO_CONTENT, "{}", stopped.text);
    let list = app.get("/api/improvements").await.json();
    assert_eq!((&list["improvements"], &list["running"]), (&json!([]), &Value::Null));
    assert!(!improvements.join(&id).exists());
    // What a machine that stopped has left goes before the next one begins.
    std::fs::create_dir(improvements.join("left")).expect("a folder");
    std::fs::write(improvements.join("left/log.txt"), "").expect("a file");
    let third = app.post("/api/improvements", "{}").await;
    assert!(third.status.is_success(), "{}", third.text);
    assert!(!improvements.join("left").exists());
    let id = third.json()["id"].as_str().expect("its name").to_owned();
    stop(&id).await;
}

/// Regression: a program that broke at once was in no list for a moment, before its failure was written down.
#[cfg(unix)]
#[tokio::test]
async fn what_was_asked_for_stays_in_the_list_until_its_end_is_written_down() {
    let app = Application::with_library(|library| {
        library.improve = Some(ImproveCommand::new(|_, _, _| std::process::Command::new("false")));
    })
    .await;
    let begun = app.post("/api/improvements", "{}").await;
    assert!(begun.status.is_success(), "{}", begun.text);
    loop {
        let list = app.get("/api/improvements").await.json();
        assert_eq!(list["improvements"][0]["id"], begun.json()["id"], "{list}");
        if list["running"].is_null() {
            assert_eq!(list["improvements"][0]["state"], "failed", "{list}");
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
