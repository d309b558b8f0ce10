//! Feedback over HTTP: what people say of answers is kept, shown, counted, taken along and erased, each owner's by itself.

use crate::support::{Answer, Application, CONTEXT, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use zhenjin_promotions::{Improvement, ImprovementState, Improvements, Recipe, TRAIN_FILE};
use zhenjin_server::ServerOptions;
use zhenjin_store::{AnswerEnd, NewApiKey, Owner, Status};

/// Somebody who asks, with a key or without.
struct Person<'a> {
    app: &'a Application,
    key: Option<String>,
}

impl Person<'_> {
    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let mut request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.app.send(request.body(body).expect("valid")).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.json()
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, body).await
    }

    async fn ended(&self, answer: &Value) -> Value {
        let stream =
            self.call(Method::GET, &format!("/api/messages/{}/stream", id(answer)), Value::Null).await;
        let done = stream.text.split("event: done").nth(1).expect("an end");
        let data = done.lines().find_map(|line| line.strip_prefix("data:")).expect("data");
        serde_json::from_str(data).expect("a message")
    }

    /// A chat with a question that has two different answers: its id, the question and the answers.
    async fn two_answers(&self) -> (String, Value, Value, Value) {
        let settings = json!({ "max_tokens": 4, "temperature": 1, "seed": 7 });
        let new = json!({ "settings": settings, "system_prompt": "Be brief." });
        let made = self.call(Method::POST, "/api/conversations", new).await.json();
        let path = format!("/api/conversations/{}", id(&made));
        let asked = self.call(Method::POST, &format!("{path}/messages"), json!({ "content": "Why?" })).await;
        let first = self.ended(&asked.json()["answer"]).await;
        let other = json!({ "settings": { "max_tokens": 4, "temperature": 1, "seed": 8 } });
        self.call(Method::PATCH, &path, other).await;
        let again = format!("/api/messages/{}/regenerate", id(&first));
        let again = self.call(Method::POST, &again, Value::Null).await;
        assert_eq!(again.status, StatusCode::CREATED, "{}", again.text);
        let second = self.ended(&again.json()["answer"]).await;
        assert_ne!(first["content"], second["content"], "two seeds give two answers");
        (id(&made).to_owned(), asked.json()["user"].clone(), first, second)
    }
}

fn id(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

fn feedback_of(answer: &Value) -> String {
    format!("/api/messages/{}/feedback", id(answer))
}

fn choice_of(answer: &Value) -> String {
    format!("/api/messages/{}/choice", id(answer))
}

async fn alone() -> Application {
    Application::new().await
}

#[tokio::test]
async fn feedback_stays_with_its_answer_wherever_the_answer_is_shown() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, question, first, second) = me.two_answers().await;
    assert_eq!((&first["feedback"], &question["feedback"]), (&Value::Null, &Value::Null));
    let said = json!({ "rating": "down", "reasons": ["wrong", "too_long"], "comment": "不对", "correction": "Because." });
    let kept = me.put(&feedback_of(&first), said.clone()).await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text);
    let kept = kept.json();
    for (name, value) in said.as_object().expect("an object") {
        assert_eq!(&kept[name], value, "{name}");
    }
    assert!(kept["created_at"].is_i64() && kept["updated_at"].is_i64());

    assert_eq!(me.ended(&first).await["feedback"], kept, "in the stream of an answer that has ended");
    let stop = format!("/api/messages/{}/stop", id(&first));
    assert_eq!(me.call(Method::POST, &stop, Value::Null).await.json()["feedback"], kept);
    let shown = me.get(&format!("/api/conversations/{chat}")).await;
    let messages = shown["messages"].as_array().expect("messages");
    let judged: Vec<&Value> = messages.iter().map(|message| &message["feedback"]).collect();
    assert_eq!(judged, [&Value::Null, &kept, &Value::Null]);

    let replaced = me.put(&feedback_of(&first), json!({ "rating": "up" })).await.json();
    assert_eq!((&replaced["reasons"], &replaced["correction"]), (&json!([]), &Value::Null));
    assert_eq!(replaced["created_at"], kept["created_at"]);
    for _ in 0..2 {
        let forgotten = me.call(Method::DELETE, &feedback_of(&first), Value::Null).await;
        assert_eq!((forgotten.status, forgotten.text.as_str()), (StatusCode::NO_CONTENT, ""));
    }
    assert_eq!(me.ended(&first).await["feedback"], Value::Null);
    assert_eq!(me.ended(&second).await["feedback"], Value::Null);
}

#[tokio::test]
async fn what_feedback_cannot_be_is_refused_by_name() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (_, question, first, second) = me.two_answers().await;
    let path = feedback_of(&first);
    let own_words = first["content"].as_str().expect("text");
    for (body, field) in [
        (json!({}), "rating"),
        (json!({ "rating": null, "reasons": [] }), "rating"),
        (json!({ "rating": "sideways" }), "rating"),
        (json!({ "rating": 1 }), "rating"),
        (json!({ "rating": "up", "reasons": "clear" }), "reasons"),
        (json!({ "rating": "up", "reasons": [5] }), "reasons[0]"),
        (json!({ "rating": "up", "reasons": ["wrong"] }), "reasons"),
        (json!({ "rating": "up", "reasons": ["clear", "clear"] }), "reasons"),
        (json!({ "reasons": ["clear"], "comment": "x" }), "reasons"),
        (json!({ "comment": "" }), "comment"),
        (json!({ "comment": "x".repeat(2_001) }), "comment"),
        (json!({ "correction": " " }), "correction"),
        (json!({ "correction": own_words }), "correction"),
        (json!({ "correction": "x".repeat(1_000_001) }), "correction"),
        (json!({ "ratings": "up" }), "ratings"),
        (json!([]), ""),
    ] {
        let refused = me.put(&path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.error().2.as_str()),
            (400, field),
            "{body}: {}",
            refused.text
        );
    }
    let longest = json!({ "comment": "字".repeat(2_000) });
    assert_eq!(me.put(&path, longest).await.status, StatusCode::OK);
    let of_question = me.put(&feedback_of(&question), json!({ "rating": "up" })).await;
    assert_eq!((of_question.status.as_u16(), of_question.error().2.as_str()), (400, "id"));
    for body in [
        json!({}),
        json!({ "rejected": [] }),
        json!({ "rejected": [id(&first)] }),
        json!({ "rejected": [id(&second), id(&second)] }),
        json!({ "rejected": vec![id(&second); 65] }),
        json!({ "rejected": id(&second) }),
    ] {
        let refused = me.put(&choice_of(&first), body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.error().2.as_str()), (400, "rejected"), "{body}");
    }
    let missing = json!({ "rejected": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"] });
    assert_eq!(me.put(&choice_of(&first), missing).await.status, StatusCode::NOT_FOUND);
    for body in [json!({}), json!({ "allowed": null }), json!({ "allowed": "yes" })] {
        let refused = me.put("/api/feedback/consent", body).await;
        assert_eq!((refused.status.as_u16(), refused.error().2.as_str()), (400, "allowed"));
    }
}

#[tokio::test]
async fn an_answer_that_is_being_written_cannot_be_judged() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, question, first, _) = me.two_answers().await;
    let long = json!({ "settings": { "max_tokens": CONTEXT / 2, "temperature": 1, "seed": 3 } });
    me.call(Method::PATCH, &format!("/api/conversations/{chat}"), long).await;
    // The row of an answer whose model has not begun: it stays unfinished for as long as the test looks.
    let parent = id(&question).parse().expect("an id");
    let store = &app.state.store;
    let waiting = store.answer_again(&Owner::Local, &parent, "tiny".to_owned()).await.expect("a row");
    let waiting = json!({ "id": waiting.id.as_str() });
    let early = me.put(&feedback_of(&waiting), json!({ "rating": "up" })).await;
    assert_eq!((early.status, early.error().1.as_str()), (StatusCode::CONFLICT, "conflict"));
    for (chosen, rejected) in [(&first, &waiting), (&waiting, &first)] {
        let early = me.put(&choice_of(chosen), json!({ "rejected": [id(rejected)] })).await;
        assert_eq!(early.status, StatusCode::CONFLICT, "{}", early.text);
    }
}

#[tokio::test]
async fn choices_are_shown_with_their_chat() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, question, first, second) = me.two_answers().await;
    let path = format!("/api/conversations/{chat}");
    assert_eq!(me.get(&path).await["choices"], json!([]));
    let chosen = me.put(&choice_of(&second), json!({ "rejected": [id(&first)] })).await;
    assert_eq!(chosen.status, StatusCode::OK, "{}", chosen.text);
    let chosen = chosen.json();
    assert_eq!(chosen["question_id"], question["id"]);
    assert_eq!((&chosen["chosen"], &chosen["rejected"]), (&second["id"], &json!([first["id"]])));
    assert_eq!(me.get(&path).await["choices"], json!([chosen]));
    let turned = me.put(&choice_of(&first), json!({ "rejected": [id(&second)] })).await.json();
    assert_eq!(me.get(&path).await["choices"], json!([turned]));
    let forgotten = me.call(Method::DELETE, &choice_of(&first), Value::Null).await;
    assert_eq!(forgotten.status, StatusCode::NO_CONTENT);
    assert_eq!(me.get(&path).await["choices"], json!([]));
}

#[tokio::test]
async fn another_model_can_be_asked_once() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, _, first, _) = me.two_answers().await;
    let path = format!("/api/messages/{}/regenerate", id(&first));
    for body in [Value::Null, json!({}), json!({ "model": null }), json!({ "model": "tiny" })] {
        let again = me.call(Method::POST, &path, body.clone()).await;
        assert_eq!(
            (again.status.as_u16(), &again.json()["answer"]["model"]),
            (201, &json!("tiny")),
            "{body}"
        );
        me.ended(&again.json()["answer"]).await;
    }
    let before = me.get(&format!("/api/conversations/{chat}")).await;
    let absent = me.call(Method::POST, &path, json!({ "model": "absent" })).await;
    assert_eq!((absent.status.as_u16(), absent.error().1.as_str()), (404, "model_not_found"));
    for (body, field) in
        [(json!({ "model": "" }), "model"), (json!({ "modle": "tiny" }), "modle"), (json!([]), "")]
    {
        let refused = me.call(Method::POST, &path, body).await;
        assert_eq!((refused.status.as_u16(), refused.error().2.as_str()), (400, field));
    }
    assert_eq!(
        me.get(&format!("/api/conversations/{chat}")).await,
        before,
        "what was refused changed nothing"
    );
    let as_text = request(Method::POST, &path).header(header::CONTENT_TYPE, "text/plain");
    let as_text = app.send(as_text.body(Body::from("{}")).expect("valid")).await;
    assert_eq!(as_text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn everything_about_an_answer_is_exported_and_erased() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, question, first, second) = me.two_answers().await;
    me.put(&feedback_of(&first), json!({ "rating": "up", "reasons": ["clear"] })).await;
    me.put(&choice_of(&second), json!({ "rejected": [id(&first)] })).await;
    // The model had read another system prompt than the one that the chat has now.
    me.call(Method::PATCH, &format!("/api/conversations/{chat}"), json!({ "system_prompt": "Be rude." }))
        .await;
    let exported = me.get("/api/feedback").await;
    assert_eq!(exported["consent"], json!({ "allowed": false, "changed_at": null }));
    let mut rows = exported["rows"].as_array().expect("rows").clone();
    // What is said within one millisecond comes in the order of its ids, which is random.
    rows.sort_by_key(|row| row["kind"] == "choice");
    assert_eq!(
        rows.iter().map(|row| row["kind"].as_str()).collect::<Vec<_>>(),
        [Some("feedback"), Some("choice")]
    );
    for row in &rows {
        assert_eq!((&row["conversation_id"], &row["question_id"]), (&json!(chat), &question["id"]));
        assert_eq!(row["turns"], json!([{ "role": "user", "content": "Why?" }]));
        assert_eq!((&row["system_prompt"], &row["in_trash"]), (&json!("Be brief."), &json!(false)));
    }
    assert_eq!((&rows[0]["rating"], &rows[0]["reasons"]), (&json!("up"), &json!(["clear"])));
    assert_eq!((&rows[1]["answer"]["id"], &rows[1]["rejected"]["id"]), (&second["id"], &first["id"]));
    let answer = &rows[0]["answer"];
    assert_eq!((&answer["content"], &answer["model"]), (&first["content"], &json!("tiny")));
    let sampling = &answer["sampling"];
    let sampled = sampling["sampled_tokens"].as_array().expect("tokens");
    assert_eq!(Some(sampled.len() as u64), first["completion_tokens"].as_u64());
    let logprobs =
        sampling["logprobs"].as_array().expect("the answers of chats keep their log-probabilities");
    assert!(logprobs.len() == sampled.len() && logprobs.iter().all(|p| p.as_f64().is_some_and(|p| p <= 0.0)));
    assert!(sampling["prompt_tokens"].as_array().is_some_and(|tokens| !tokens.is_empty()));
    assert_eq!((&sampling["seed"], &sampling["settings"]["temperature"]), (&json!("7"), &json!(1.0)));
    assert!(sampling["fingerprint"].is_string());
    assert_eq!(sampling["template"].as_str().map(str::len), Some(64), "{sampling}");

    let training = app.state.store.training_feedback().await.expect("read");
    assert!(
        training.len() == 2 && training.iter().all(|row| &*row.system_prompt == "Be brief."),
        "{training:?}"
    );

    let erased = me.call(Method::DELETE, "/api/feedback", Value::Null).await.json();
    assert_eq!(erased, json!({ "erased": 2, "trained": [] }));
    assert_eq!(me.get("/api/feedback").await["rows"], json!([]));
    let shown = me.get(&format!("/api/conversations/{chat}")).await;
    assert_eq!((shown["messages"].as_array().map(Vec::len), &shown["choices"]), (Some(3), &json!([])));
}

/// Regression: an export of many judgements was in memory as a whole, with the chat once for each of them.
#[tokio::test]
async fn an_export_is_written_one_judgement_after_the_other() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    assert_eq!(me.get("/api/feedback").await["rows"], json!([]));
    let (_, _, first, second) = me.two_answers().await;
    me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
    me.put(&feedback_of(&second), json!({ "rating": "down" })).await;
    me.put(&choice_of(&first), json!({ "rejected": [id(&second)] })).await;
    let asked = request(Method::GET, "/api/feedback").body(Body::empty()).expect("valid");
    let answer = app.router.clone().oneshot(asked).await.expect("infallible");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    let (mut body, mut pieces) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.expect("a frame").into_data().expect("data");
        pieces.push(String::from_utf8(data.to_vec()).expect("UTF-8"));
    }
    let records: Vec<_> = pieces.iter().filter(|piece| piece.contains("\"question_id\"")).collect();
    assert_eq!(records.len(), 3, "{pieces:?}");
    let whole: Value = serde_json::from_str(&pieces.concat()).expect("JSON");
    assert_eq!(whole["rows"].as_array().map(Vec::len), Some(3));
}

/// Regression: a question could be answered again without an end, and each pair of its answers be judged.
#[tokio::test]
async fn a_question_with_two_hundred_answers_gets_no_more() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (_, question, first, _) = me.two_answers().await;
    let parent = id(&question).parse().expect("an id");
    for _ in 2..200 {
        app.state.store.answer_again(&Owner::Local, &parent, "tiny".to_owned()).await.expect("a row");
    }
    let path = format!("/api/messages/{}/regenerate", id(&first));
    // Neither is its model asked: one that is not there is not even missed.
    let refused = me.call(Method::POST, &path, json!({ "model": "absent" })).await;
    let (message, _, field) = refused.error();
    assert_eq!((refused.status.as_u16(), field.as_str()), (400, "id"), "{message}");
    assert!(message.contains("at most 200"), "{message}");
}

#[tokio::test]
async fn what_learned_from_a_chat_is_said_before_and_after_its_end() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (chat, _, first, _) = me.two_answers().await;
    let path = format!("/api/conversations/{chat}/trained");
    assert_eq!(me.get(&path).await, json!({ "improvements": [] }));
    me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
    let rows = app.state.store.training_feedback().await.expect("read");
    app.state.store.note_training("tiny-1", &[rows[0].id.clone()]).await.expect("noted");
    let learned = json!({ "improvements": ["tiny-1"] });
    assert_eq!(me.get(&path).await, learned);
    let counted = me.get("/api/feedback/statistics").await;
    assert_eq!((&counted["all"]["trained"], &counted["all"]["new"]), (&json!(1), &json!(0)));
    me.call(Method::DELETE, &format!("/api/conversations/{chat}"), Value::Null).await;
    assert_eq!(me.get(&path).await, learned);
    let counted = me.get("/api/feedback/statistics").await;
    assert_eq!((&counted["all"]["judgements"], &counted["in_trash"]), (&json!(0), &json!(1)));
    let erased = me.call(Method::DELETE, &format!("/api/trash/{chat}"), Value::Null).await;
    assert_eq!(erased.status, StatusCode::NO_CONTENT);
    assert_eq!(me.get(&path).await, learned);
    assert_eq!(me.get("/api/feedback/statistics").await["in_trash"], 0);
    let erased = me.call(Method::DELETE, "/api/feedback", Value::Null).await.json();
    assert_eq!(erased, json!({ "erased": 0, "trained": ["tiny-1"] }));
}

/// An improvement that was interrupted, and the copy of what it learned from.
fn interrupted(improvements: &Improvements, id: &str, rows: Vec<String>) -> std::path::PathBuf {
    let recipe = Recipe { rows, ..Recipe::default() };
    let record = Improvement { recipe, ..Improvement::begun(id, "tiny", "kto", 1) };
    improvements.write(&record).expect("written");
    let copy = improvements.folder_of(id).expect("a folder").join(TRAIN_FILE);
    std::fs::write(&copy, "words").expect("a file");
    copy
}

/// A copy of what was erased or withdrawn once stayed in the folder of an improvement that was interrupted.
#[tokio::test]
async fn what_is_erased_or_withdrawn_does_not_stay_in_interrupted_improvements() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let improvements = Improvements::new(app.folder.path().join("improvements"));
    let of_others = interrupted(&improvements, "others", Vec::new());
    for case in ["erase", "opt-out", "delete", "forget"] {
        me.put("/api/feedback/consent", json!({ "allowed": true })).await;
        let (chat, _, first, _) = me.two_answers().await;
        me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
        let rows = app.state.store.training_feedback().await.expect("read");
        let row = rows.iter().find(|row| row.conversation.as_str() == chat).expect("a judgement").id.clone();
        app.state.store.note_training(case, std::slice::from_ref(&row)).await.expect("noted");
        let copy = interrupted(&improvements, case, vec![row.to_string()]);
        let done = match case {
            "erase" => me.call(Method::DELETE, "/api/feedback", Value::Null).await,
            "opt-out" => me.put("/api/feedback/consent", json!({ "allowed": false })).await,
            "delete" => me.call(Method::DELETE, &format!("/api/conversations/{chat}"), Value::Null).await,
            _ => me.call(Method::DELETE, &feedback_of(&first), Value::Null).await,
        };
        assert!(done.status.is_success(), "{case}: {}", done.text);
        if case == "erase" {
            assert_eq!(done.json()["trained"], json!([]), "nothing is left that learned from it");
        }
        assert!(!copy.exists(), "{case}");
        let record = improvements.read(case).expect("a record");
        assert_eq!(record.state, ImprovementState::Failed, "{case}");
        assert!(record.error.is_some_and(|error| error.contains("no longer allowed")), "{case}");
    }
    assert!(of_others.exists() && improvements.read("others").expect("a record").error.is_none());
}

/// Regression: the record of what was given up said so before the note of what it had learned from was gone. After a crash in between, the note
/// stayed, and whoever erased their feedback was told that the improvement had learned from it.
#[tokio::test]
async fn what_a_crash_left_half_withdrawn_is_found_again() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let improvements = Improvements::new(app.folder.path().join("improvements"));
    let (_, _, first, _) = me.two_answers().await;
    me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
    let rows = app.state.store.training_feedback().await.expect("read");
    let row = rows[0].id.clone();
    app.state.store.note_training("half", std::slice::from_ref(&row)).await.expect("noted");
    interrupted(&improvements, "half", vec![row.to_string()]);
    // A program that ends right after it has removed what was copied.
    let making = improvements.begin().expect("nobody else");
    let given_up = improvements.forget_withdrawn(&making, &|_| false).expect("removed");
    assert_eq!(given_up.len(), 1);
    drop(making);
    let erased = me.call(Method::DELETE, "/api/feedback", Value::Null).await.json();
    assert_eq!(erased, json!({ "erased": 1, "trained": [] }));
    assert_eq!(improvements.read("half").expect("a record").state, ImprovementState::Failed);
    let erased = me.call(Method::DELETE, "/api/feedback", Value::Null).await.json();
    assert_eq!(erased, json!({ "erased": 0, "trained": [] }), "no note is left");
}

/// What was judged anew once stayed in interrupted improvements for up to an hour, as it had been judged before.
#[tokio::test]
async fn what_is_judged_anew_does_not_stay_in_interrupted_improvements() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let improvements = Improvements::new(app.folder.path().join("improvements"));
    me.put("/api/feedback/consent", json!({ "allowed": true })).await;
    let (_, _, first, second) = me.two_answers().await;
    let corrected = |correction: &str, comment: Option<&str>| {
        (feedback_of(&first), json!({ "correction": correction, "comment": comment }))
    };
    let chosen = |best: &Value, other: &Value| (choice_of(best), json!({ "rejected": [id(other)] }));
    let correction =
        [corrected("Because.", None), corrected("Because.", Some("x")), corrected("Since.", None)];
    let choice = [chosen(&first, &second), chosen(&first, &second), chosen(&second, &first)];
    for (case, [said, again, anew]) in [("correction", correction), ("choice", choice)] {
        let put = async |(path, body): (String, Value)| {
            let kept = me.put(&path, body).await;
            assert_eq!(kept.status, StatusCode::OK, "{case}: {}", kept.text);
        };
        put(said).await;
        let rows = app.state.store.training_feedback().await.expect("read");
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        app.state.store.note_training(case, &ids).await.expect("noted");
        let copy = interrupted(&improvements, case, ids.iter().map(ToString::to_string).collect());
        put(again).await;
        assert!(copy.exists(), "{case}: it is the same judgement");
        put(anew).await;
        assert!(!copy.exists(), "{case}");
    }
}

/// Answers that differ in their thoughts alone count as the same, but could be chosen between.
#[tokio::test]
async fn answers_that_read_the_same_cannot_be_chosen_between() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (_, question, ..) = me.two_answers().await;
    let (store, owner) = (&app.state.store, Owner::Local);
    let parent = id(&question).parse().expect("an id");
    let mut answers = Vec::new();
    for text in [
        "<think>\nOne\n</think>\n\nYes.",
        "<think>\nTwo\n</think>\n\nYes.",
        "Yes.\n",
        "<think>\nOne\n</think>\n\nNo.",
    ] {
        let begun = store.answer_again(&owner, &parent, "tiny".to_owned()).await.expect("a row");
        let end = AnswerEnd { text: text.to_owned(), ..AnswerEnd::new(Status::Complete) };
        let ended = store.end_answer(&owner, &begun.id, end).await.expect("an end");
        answers.push(json!({ "id": ended.id.as_str() }));
    }
    let [one, two, bare, other] = &answers[..] else { panic!("four") };
    for rejected in [two, bare] {
        let refused = me.put(&choice_of(one), json!({ "rejected": [id(other), id(rejected)] })).await;
        let (message, _, field) = refused.error();
        assert_eq!((refused.status.as_u16(), field.as_str()), (400, "rejected"), "{message}");
        assert!(message.contains("reads the same"), "{message}");
    }
    let kept = me.put(&choice_of(one), json!({ "rejected": [id(other)] })).await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text);
}

/// While a program makes an improvement, nobody takes its examples away; that program looks itself when it ends.
#[tokio::test]
async fn what_is_erased_while_an_improvement_is_made_is_said() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (_, _, first, _) = me.two_answers().await;
    me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
    let rows = app.state.store.training_feedback().await.expect("read");
    app.state.store.note_training("now", &[rows[0].id.clone()]).await.expect("noted");
    let improvements = Improvements::new(app.folder.path().join("improvements"));
    let copy = interrupted(&improvements, "now", vec![rows[0].id.to_string()]);
    let making = improvements.begin().expect("nobody else");
    let erased = me.call(Method::DELETE, "/api/feedback", Value::Null).await.json();
    assert_eq!(erased, json!({ "erased": 1, "trained": ["now"] }));
    assert!(copy.exists());
    drop(making);
}

#[tokio::test]
async fn each_owners_feedback_and_consent_are_their_own() {
    let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let mut people = Vec::new();
    for name in ["operator", "anna", "ben"] {
        let (_, secret) = app.state.store.create_api_key(NewApiKey::named(name)).await.expect("a key");
        people.push(Person { app: &app, key: Some(secret.expose().to_owned()) });
    }
    let [operator, anna, ben] = &people[..] else { panic!("three") };
    let (chat, _, first, second) = anna.two_answers().await;
    anna.put(&feedback_of(&first), json!({ "rating": "down", "comment": "a secret of Anna's" })).await;
    anna.put(&choice_of(&second), json!({ "rejected": [id(&first)] })).await;
    let allowed = anna.put("/api/feedback/consent", json!({ "allowed": true })).await.json();
    assert!(allowed["changed_at"].is_i64());
    assert_eq!(anna.get("/api/feedback/consent").await, allowed);
    let (_, _, theirs, _) = ben.two_answers().await;
    ben.put(&feedback_of(&theirs), json!({ "rating": "up" })).await;

    for other in [operator, ben] {
        let mine = other.get("/api/feedback").await;
        assert_eq!(mine["consent"]["allowed"], false);
        assert!(!mine.to_string().contains("secret"), "{mine}");
        assert_eq!(other.put(&feedback_of(&first), json!({ "rating": "up" })).await.status, 404);
        assert_eq!(other.put(&choice_of(&first), json!({ "rejected": [id(&second)] })).await.status, 404);
        assert_eq!(other.put(&choice_of(&theirs), json!({ "rejected": [id(&second)] })).await.status, 404);
        for path in [feedback_of(&first), choice_of(&second)] {
            assert_eq!(other.call(Method::DELETE, &path, Value::Null).await.status, 404, "{path}");
        }
    }
    assert_eq!(ben.call(Method::DELETE, "/api/feedback", Value::Null).await.json()["erased"], 1);
    assert_eq!(operator.call(Method::DELETE, "/api/feedback", Value::Null).await.json()["erased"], 0);
    ben.put(&feedback_of(&theirs), json!({ "rating": "up" })).await;
    assert_eq!(anna.get("/api/feedback").await["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        anna.get(&format!("/api/conversations/{chat}")).await["choices"].as_array().map(Vec::len),
        Some(1)
    );

    let counted = operator.get("/api/feedback/statistics").await;
    assert!(!counted.to_string().contains("secret"), "{counted}");
    assert_eq!(counted["models"], json!({ "tiny": 3 }));
    assert_eq!((&counted["with_consent"], &counted["without_consent"]), (&json!(2), &json!(1)));
    let all = json!({ "judgements": 3, "up": 1, "down": 1, "corrections": 0, "choices": 1, "comments": 1, "trained": 0, "new": 2 });
    assert_eq!(counted["all"], all);
    let owners = counted["owners"].as_array().expect("owners");
    let mut of: Vec<_> = owners
        .iter()
        .map(|owner| (owner["allowed"].as_bool(), owner["counts"]["judgements"].as_u64()))
        .collect();
    // Keys that are made within one millisecond have ids in any order.
    of.sort_unstable();
    assert_eq!(of, [(Some(false), Some(1)), (Some(true), Some(2))]);
    assert_eq!(counted["limits"]["comment_characters"], 2_000);
    for user in [anna, ben] {
        let refused = user.call(Method::GET, "/api/feedback/statistics", Value::Null).await;
        assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (403, "operator_only"));
    }
}

/// A preview counts what whoever does not consent said, and shows and uses nothing of it.
#[tokio::test]
async fn a_preview_counts_what_may_not_be_learned() {
    let app = alone().await;
    let me = Person { app: &app, key: None };
    let (_, _, first, second) = me.two_answers().await;
    me.put(&feedback_of(&first), json!({ "rating": "up" })).await;
    me.put(&choice_of(&second), json!({ "rejected": [id(&first)] })).await;
    let path = "/api/improvements/preview?model=tiny&method=dpo";
    let refused = me.get(path).await;
    let reason = "whoever judged does not allow that models learn from it";
    assert_eq!(refused["data"]["left_out"], json!([{ "reason": reason, "count": 2 }]));
    assert_eq!((&refused["data"]["pairs"], &refused["data"]["owners"]), (&json!(0), &json!(0)));
    me.put("/api/feedback/consent", json!({ "allowed": true })).await;
    let allowed = me.get(path).await;
    assert_eq!(allowed["enough"], false, "{allowed}");
    assert!(!allowed["data"]["left_out"].to_string().contains(reason), "{allowed}");
}
