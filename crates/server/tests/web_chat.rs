//! The web chat's own API, in process, with a tiny random model that really answers.

use crate::support::{Answer, Application, CONTEXT, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};
use zhenjin_server::ServerOptions;

impl Application {
    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("valid")).await
    }

    /// A conversation whose answers have so many tokens at most.
    async fn conversation(&self, max_tokens: usize) -> String {
        let settings = json!({ "max_tokens": max_tokens, "seed": 7, "temperature": 1 });
        let made = self.call(Method::POST, "/api/conversations", json!({ "settings": settings })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        made.json()["id"].as_str().expect("an id").to_owned()
    }

    async fn ask(&self, conversation: &str, parent: Option<&str>, content: &str) -> (Value, Value) {
        let body = json!({ "parent_id": parent, "content": content });
        let asked =
            self.call(Method::POST, &format!("/api/conversations/{conversation}/messages"), body).await;
        assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
        let asked = asked.json();
        (asked["user"].clone(), asked["answer"].clone())
    }

    /// Follows an answer from a code point on: the text, and the message as it ended.
    async fn follow(&self, message: &str, offset: usize) -> (String, Value) {
        let stream = self.get(&format!("/api/messages/{message}/stream?offset={offset}")).await;
        assert_eq!(stream.status, StatusCode::OK, "{}", stream.text);
        assert_eq!(stream.headers[header::CONTENT_TYPE], "text/event-stream");
        let mut text = String::new();
        let mut done = None;
        for (name, data) in events(&stream.text) {
            match name.as_str() {
                "delta" => {
                    assert_eq!(data["offset"].as_u64(), Some((offset + text.chars().count()) as u64));
                    text.push_str(data["text"].as_str().expect("text"));
                }
                "done" => done = Some(data),
                other => panic!("an event {other}"),
            }
        }
        (text, done.expect("the stream ends with the message"))
    }

    /// Asks and waits for the end.
    async fn exchange(&self, conversation: &str, parent: Option<&str>, content: &str) -> (Value, Value) {
        let (user, answer) = self.ask(conversation, parent, content).await;
        let (_, ended) = self.follow(id(&answer), 0).await;
        (user, ended)
    }
}

fn events(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty() && !block.starts_with(':'));
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    blocks
        .map(|block| (field(block, "event:"), serde_json::from_str(&field(block, "data:")).expect("JSON")))
        .collect()
}

fn id(message: &Value) -> &str {
    message["id"].as_str().expect("an id")
}

#[tokio::test]
async fn an_answer_streams_resumes_and_is_kept() {
    let app = Application::new().await;
    let conversation = app.conversation(60).await;
    let (user, answer) = app.ask(&conversation, None, "Why is the sky blue?\nPlease.").await;
    assert_eq!((user["status"].as_str(), answer["status"].as_str()), (Some("complete"), Some("generating")));
    assert_eq!(answer["parent_id"], user["id"]);

    // Two tabs, one of which joins later and in the middle.
    let (first, second) = tokio::join!(app.follow(id(&answer), 0), app.follow(id(&answer), 3));
    let (text, done) = first;
    assert_eq!(second.0, text.chars().skip(3).collect::<String>());
    assert_eq!(second.1, done);
    assert_eq!(done["content"].as_str(), Some(text.as_str()));
    assert_eq!(done["status"], "complete");
    assert!(matches!(done["finish_reason"].as_str(), Some("stop" | "length")));
    assert!(done["completion_tokens"].as_u64().is_some_and(|tokens| tokens <= 60));
    assert!(done["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
    assert!(done["time_to_first_token_ms"].is_number());
    assert_eq!(done["context_length"].as_u64(), Some(CONTEXT as u64));

    let length = text.chars().count();
    for offset in [0, 1, length / 2, length] {
        let (rest, again) = app.follow(id(&answer), offset).await;
        assert_eq!((rest, &again), (text.chars().skip(offset).collect(), &done));
    }
    let beyond = app.get(&format!("/api/messages/{}/stream?offset={}", id(&answer), length + 1)).await;
    assert_eq!((beyond.status, beyond.error().2.as_str()), (StatusCode::BAD_REQUEST, "offset"));

    let kept = app.get(&format!("/api/conversations/{conversation}")).await.json();
    assert_eq!(kept["title"], "Why is the sky blue?");
    assert_eq!(kept["messages"], json!([user, done]));
    assert_eq!(kept["current_leaf"], done["id"]);
}

#[tokio::test]
async fn nobody_needs_to_listen() {
    let app = Application::new().await;
    let conversation = app.conversation(40).await;
    let (_, answer) = app.ask(&conversation, None, "Go on without me").await;
    for _ in 0..500 {
        let kept = app.get(&format!("/api/conversations/{conversation}")).await.json();
        if kept["messages"][1]["status"] == "complete" {
            let (text, _) = app.follow(id(&answer), 0).await;
            assert_eq!(kept["messages"][1]["content"].as_str(), Some(text.as_str()));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the answer did not end");
}

#[tokio::test]
async fn editing_and_regenerating_make_branches() {
    let app = Application::new().await;
    let conversation = app.conversation(5).await;
    let (first, answer) = app.exchange(&conversation, None, "one").await;
    let (_, follow_up) = app.exchange(&conversation, Some(id(&answer)), "two").await;
    let (edited, _) = app.exchange(&conversation, None, "one, edited").await;
    assert_eq!(edited["parent_id"], Value::Null);

    let again =
        app.call(Method::POST, &format!("/api/messages/{}/regenerate", id(&answer)), Value::Null).await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.text);
    let (_, sibling) = app.follow(id(&again.json()["answer"]), 0).await;
    assert_eq!(sibling["parent_id"], first["id"]);
    assert_eq!(sibling["content"], answer["content"], "the same prompt and seed give the same answer");

    let kept = app.get(&format!("/api/conversations/{conversation}")).await.json();
    assert_eq!(kept["messages"].as_array().map(Vec::len), Some(7));
    let back = json!({ "current_leaf": follow_up["id"] });
    let changed = app.call(Method::PATCH, &format!("/api/conversations/{conversation}"), back).await.json();
    assert_eq!(changed["current_leaf"], follow_up["id"]);

    let question =
        app.call(Method::POST, &format!("/api/messages/{}/regenerate", id(&first)), Value::Null).await;
    assert_eq!(question.status, StatusCode::BAD_REQUEST);
    let astray = json!({ "parent_id": first["id"], "content": "after a question" });
    let astray = app.call(Method::POST, &format!("/api/conversations/{conversation}/messages"), astray).await;
    assert_eq!((astray.status, astray.error().2.as_str()), (StatusCode::BAD_REQUEST, "parent_id"));
}

#[tokio::test]
async fn a_stopped_answer_keeps_its_text() {
    let app = Application::new().await;
    let conversation = app.conversation(CONTEXT / 2).await;
    let (_, answer) = app.ask(&conversation, None, "Talk").await;
    let stopped =
        app.call(Method::POST, &format!("/api/messages/{}/stop", id(&answer)), Value::Null).await.json();
    // The tiny model may have come to its end before.
    assert!(matches!(stopped["status"].as_str(), Some("stopped" | "complete")), "{stopped}");
    let (text, done) = app.follow(id(&answer), 0).await;
    assert_eq!((stopped["content"].as_str(), &stopped), (Some(text.as_str()), &done));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_numbers_and_not_saved() {
    let app = Application::new().await;
    let conversation = app.conversation(5).await;
    let long = json!({ "content": "far too long ".repeat(CONTEXT) });
    let refused =
        app.call(Method::POST, &format!("/api/conversations/{conversation}/messages"), long.clone()).await;
    let (message, code, _) = refused.error();
    assert_eq!((refused.status, code.as_str()), (StatusCode::BAD_REQUEST, "context_length_exceeded"));
    assert!(message.contains(&CONTEXT.to_string()), "{message}");
    let kept = app.get(&format!("/api/conversations/{conversation}")).await.json();
    assert_eq!((&kept["messages"], &kept["title"]), (&json!([]), &Value::Null));

    let (_, answer) = app.exchange(&conversation, None, "short").await;
    let meter = |content: &str| json!({ "conversation_id": conversation, "parent_id": answer["id"], "content": content });
    let empty = app.call(Method::POST, "/api/context", meter("")).await.json();
    let more = app.call(Method::POST, "/api/context", meter("and some more words")).await.json();
    assert_eq!(empty["context_length"].as_u64(), Some(CONTEXT as u64));
    assert!(more["prompt_tokens"].as_u64() > empty["prompt_tokens"].as_u64());
    let body = json!({ "conversation_id": conversation, "content": null });
    assert_eq!(app.call(Method::POST, "/api/context", body).await.json()["prompt_tokens"], 0);
}

/// Regression: what is kept with an answer said that it could have had as many tokens as were asked for, where the context had no room for them.
#[tokio::test]
async fn the_settings_that_are_kept_with_an_answer_were_in_force() {
    let app = Application::new().await;
    let long = "a".repeat(CONTEXT - 300);
    for (content, asked) in
        [("Why?", json!(5)), (long.as_str(), json!(CONTEXT)), (long.as_str(), Value::Null)]
    {
        let settings = json!({ "max_tokens": asked, "seed": 7, "temperature": 1 });
        let made = app.call(Method::POST, "/api/conversations", json!({ "settings": settings })).await.json();
        let (_, answer) = app.exchange(id(&made), None, content).await;
        let answer = id(&answer).parse().expect("an id");
        let kept = app.state.store.generation(&zhenjin_store::Owner::Local, &answer).await;
        let kept = kept.expect("read").expect("a record");
        let room = CONTEXT - kept.prompt_tokens.len();
        let in_force = if asked == json!(5) { 5 } else { room };
        assert_eq!(kept.settings["max_tokens"], json!(in_force), "{asked} of {room}");
        assert!(kept.sampled_tokens.len() <= in_force);
    }
}

#[tokio::test]
async fn fields_are_checked_and_named() {
    let app = Application::new().await;
    let conversation = app.conversation(5).await;
    let path = format!("/api/conversations/{conversation}");
    let messages = format!("{path}/messages");
    let missing = "/api/conversations/01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let cases = [
        (Method::POST, "/api/conversations", json!({ "modle": "tiny" }), 400, "modle"),
        (Method::POST, "/api/conversations", json!({ "model": "" }), 400, "model"),
        (Method::POST, "/api/conversations", json!({ "settings": { "top_p": 1.5 } }), 400, "settings.top_p"),
        (
            Method::POST,
            "/api/conversations",
            json!({ "settings": { "nucleus": 1 } }),
            400,
            "settings.nucleus",
        ),
        (Method::POST, "/api/conversations", json!([]), 400, ""),
        (Method::PATCH, &path, json!({ "title": "x".repeat(201) }), 400, "title"),
        (Method::PATCH, &path, json!({ "title": " " }), 400, "title"),
        (Method::PATCH, &path, json!({ "current_leaf": "nonsense" }), 404, ""),
        (Method::PATCH, missing, json!({ "title": "x" }), 404, ""),
        (Method::POST, &messages, json!({}), 400, "content"),
        (Method::POST, &messages, json!({ "content": "\n " }), 400, "content"),
        (Method::POST, &messages, json!({ "content": 5 }), 400, "content"),
        (Method::POST, "/api/context", json!({ "content": 5 }), 400, "content"),
        (Method::POST, "/api/context", json!({ "content": "x", "parent_id": "x" }), 400, "parent_id"),
        (Method::POST, "/api/context", json!({ "content": "x", "from_id": "x" }), 400, "from_id"),
        (Method::POST, "/api/login", json!({ "key": "zj-wrong" }), 401, "key"),
        (Method::DELETE, missing, Value::Null, 404, ""),
    ];
    for (method, path, body, status, field) in cases {
        let answer = app.call(method.clone(), path, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().2.as_str()),
            (status, field),
            "{method} {path} {body}"
        );
    }
    for path in [
        "/api/conversations?limit=0",
        "/api/conversations?limit=201",
        "/api/conversations?page=2",
        "/api/search",
    ] {
        assert_eq!(app.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    for path in ["/api/conversations/x", "/api/messages/x/stream", "/api/conversations/%FF"] {
        let status = app.get(path).await.status;
        assert!(matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST), "{path}: {status}");
    }
    let unknown = json!({ "model": "absent" });
    let made = app.call(Method::POST, "/api/conversations", unknown).await.json();
    let asked = json!({ "content": "anybody there?" });
    let answer = app.call(Method::POST, &format!("/api/conversations/{}/messages", id(&made)), asked).await;
    assert_eq!((answer.status, answer.error().1.as_str()), (StatusCode::NOT_FOUND, "model_not_found"));
}

#[tokio::test]
async fn conversations_are_listed_changed_deleted_and_brought_back() {
    let app = Application::new().await;
    let (first, second) = (app.conversation(5).await, app.conversation(5).await);
    app.exchange(&first, None, "真金不怕火炼").await;
    let listed = app.get("/api/conversations?limit=1").await.json();
    assert_eq!((listed[0]["id"].as_str(), listed.as_array().map(Vec::len)), (Some(first.as_str()), Some(1)));
    let rest = app.get(&format!("/api/conversations?before={first}")).await.json();
    assert_eq!(rest[0]["id"].as_str(), Some(second.as_str()));

    let path = format!("/api/conversations/{first}");
    let change = json!({ "title": " 谚语 ", "system_prompt": "Be brief.", "settings": { "temperature": 0 } });
    let changed = app.call(Method::PATCH, &path, change).await.json();
    assert_eq!((&changed["title"], &changed["system_prompt"]), (&json!("谚语"), &json!("Be brief.")));
    assert_eq!(
        (&changed["settings"]["temperature"], &changed["settings"]["seed"]),
        (&json!(0), &Value::Null)
    );
    let emptied =
        app.call(Method::PATCH, &path, json!({ "system_prompt": null, "settings": null })).await.json();
    assert_eq!(
        (&emptied["system_prompt"], &emptied["settings"]["temperature"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(emptied["title"], "谚语");

    assert_eq!(app.call(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(app.get("/api/search?q=%E7%9C%9F%E9%87%91").await.json(), json!([]));
    assert_eq!(app.call(Method::POST, &format!("{path}/restore"), Value::Null).await.status, StatusCode::OK);
    let hits = app.get("/api/search?q=%E7%9C%9F%E9%87%91").await.json();
    assert_eq!((hits[0]["snippet"].as_str(), &hits[0]["ranges"]), (Some("真金不怕火炼"), &json!([[0, 2]])));
    assert_eq!(app.get("/api/search?q=%E8%B0%9A%E8%AF%AD").await.json()[0]["title"], "谚语");
}

#[tokio::test]
async fn a_browser_logs_in_with_a_key_and_out_again() {
    let app = Application::with(ServerOptions { require_key: true, ..ServerOptions::default() }).await;
    let (key, secret) =
        app.state.store.create_api_key(zhenjin_store::NewApiKey::named("browser")).await.expect("a key");
    assert_eq!(app.get("/api/status").await.json()["needs_key"], true);
    assert_eq!(app.get("/api/conversations").await.status, StatusCode::UNAUTHORIZED);

    let login = app.call(Method::POST, "/api/login", json!({ "key": secret.expose() })).await;
    assert_eq!(login.status, StatusCode::NO_CONTENT, "{}", login.text);
    let cookie = login.headers[header::SET_COOKIE].to_str().expect("text").to_owned();
    assert!(
        cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Strict")
            && !cookie.contains(secret.expose())
    );
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let with = |name, value: String| {
        request(Method::GET, "/api/conversations").header(name, value).body(Body::empty()).expect("valid")
    };
    assert_eq!(app.send(with(header::COOKIE, cookie.clone())).await.status, StatusCode::OK);
    let bearer = format!("Bearer {}", secret.expose());
    assert_eq!(app.send(with(header::AUTHORIZATION, bearer.clone())).await.status, StatusCode::OK);

    let logout = request(Method::POST, "/api/logout").header(header::COOKIE, cookie.clone());
    assert_eq!(app.send(logout.body(Body::empty()).expect("valid")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.send(with(header::COOKIE, cookie)).await.status, StatusCode::UNAUTHORIZED);
    app.state.store.revoke_api_key(&key.id).await.expect("revoked");
    assert_eq!(app.send(with(header::AUTHORIZATION, bearer)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_servers_end_marks_answers_as_interrupted() {
    let app = Application::new().await;
    let conversation = app.conversation(CONTEXT / 2).await;
    let (_, answer) = app.ask(&conversation, None, "Talk").await;
    app.state.shutdown.drain();
    app.state.shutdown.end();
    for _ in 0..500 {
        let message = app
            .state
            .store
            .message(&zhenjin_store::Owner::Local, &id(&answer).parse().expect("an id"))
            .await
            .expect("kept");
        if message.status != zhenjin_store::Status::Generating {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the answer was not ended");
}

#[tokio::test]
async fn no_two_operations_have_one_id() {
    let app = Application::new().await;
    let described = app.get("/openapi.json").await.json();
    let mut names = std::collections::BTreeSet::new();
    for route in described["paths"].as_object().into_iter().flat_map(|paths| paths.values()) {
        for operation in route.as_object().into_iter().flat_map(|route| route.values()) {
            let name = operation["operationId"].as_str().expect("a name").to_owned();
            assert!(names.insert(name.clone()), "two operations are called {name}");
        }
    }
    let body = &described["components"]["schemas"]["NewConversationBody"];
    assert_eq!(body["additionalProperties"], false, "{body}");
    assert_eq!(body["properties"]["settings"]["anyOf"][0]["properties"]["temperature"]["maximum"], 2.0);
}

#[tokio::test]
async fn a_first_question_that_is_refused_leaves_no_conversation() {
    let app = Application::new().await;
    let long = "word ".repeat(4 * CONTEXT);
    let refused = app.call(Method::POST, "/api/questions", json!({ "content": long })).await;
    assert_eq!(refused.error().1, "context_length_exceeded", "{}", refused.text);
    for body in [json!({ "content": " " }), json!({ "content": "?", "settings": { "temperature": 3 } })] {
        assert_eq!(app.call(Method::POST, "/api/questions", body).await.status, 400);
    }
    assert_eq!(app.get("/api/conversations").await.json(), json!([]));
    assert_eq!(app.get("/api/trash").await.json(), json!([]));

    let settings = json!({ "max_tokens": 3, "temperature": 0 });
    let body = json!({ "content": "What\u{202e} is\u{0} gold?", "system_prompt": "Be brief.", "settings": settings });
    let asked = app.call(Method::POST, "/api/questions", body).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
    let asked = asked.json();
    assert_eq!(asked["conversation"]["title"], "What is gold?");
    assert_eq!(asked["conversation"]["system_prompt"], "Be brief.");
    assert_eq!(asked["conversation"]["current_leaf"], asked["answer"]["id"]);
    assert_eq!(app.follow(id(&asked["answer"]), 0).await.1["finish_reason"], "length");
}

#[tokio::test]
async fn the_trash_is_listed_and_emptied() {
    let app = Application::new().await;
    let (first, second) = (app.conversation(3).await, app.conversation(3).await);
    for conversation in [&first, &second] {
        app.exchange(conversation, None, "gold").await;
        let path = format!("/api/conversations/{conversation}");
        assert_eq!(app.call(Method::DELETE, &path, Value::Null).await.status, StatusCode::NO_CONTENT);
    }
    let listed = app.get("/api/trash?limit=1").await.json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let days =
        listed[0]["erased_at"].as_i64().expect("a time") - listed[0]["deleted_at"].as_i64().expect("a time");
    assert_eq!(days, 30 * 24 * 60 * 60 * 1000);
    let latest = id(&listed[0]).to_owned();
    let rest = app.get(&format!("/api/trash?before={latest}")).await.json();
    assert_eq!(rest.as_array().map(Vec::len), Some(1), "{rest}");
    let erase = format!("/api/trash/{latest}");
    assert_eq!(app.call(Method::DELETE, &erase, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.call(Method::DELETE, &erase, Value::Null).await.status, StatusCode::NOT_FOUND);
    let restore = format!("/api/conversations/{latest}/restore");
    assert_eq!(app.call(Method::POST, &restore, Value::Null).await.status, StatusCode::NOT_FOUND);
    let emptied = app.call(Method::DELETE, "/api/trash", Value::Null).await;
    assert_eq!(emptied.json(), json!({ "erased": 1 }));
    assert_eq!(app.get("/api/trash").await.json(), json!([]));
}

#[tokio::test]
async fn a_conversation_continues_in_a_new_one_and_is_measured_before() {
    let app = Application::new().await;
    let old = app.conversation(3).await;
    let (_, one) = app.exchange(&old, None, "first").await;
    let (second, two) = app.exchange(&old, Some(id(&one)), "second").await;
    let measure = async |body: Value| {
        let measured = app.call(Method::POST, "/api/context", body).await;
        assert_eq!(measured.status, StatusCode::OK, "{}", measured.text);
        measured.json()["prompt_tokens"].as_u64().expect("tokens")
    };
    let whole = json!({ "conversation_id": old, "parent_id": two["id"] });
    let last = json!({ "conversation_id": old, "parent_id": two["id"], "from_id": second["id"] });
    let (whole, last) = (measure(whole).await, measure(last).await);
    assert!(0 < last && last < whole, "{last} of {whole}");
    // A chat that does not exist yet is measured as well.
    let short = measure(json!({ "content": "gold" })).await;
    let longer =
        measure(json!({ "content": "gold", "system_prompt": "Answer in the style of a pirate." })).await;
    assert!(0 < short && short < longer, "{short}, {longer}");

    let path = format!("/api/conversations/{old}/continue");
    let made =
        app.call(Method::POST, &path, json!({ "from_id": second["id"], "parent_id": two["id"] })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["title"], &made["settings"]["seed"]), (&json!("first"), &json!(7)));
    let copies = app.get(&format!("/api/conversations/{}", id(&made))).await.json();
    let texts: Vec<&Value> =
        copies["messages"].as_array().expect("messages").iter().map(|message| &message["content"]).collect();
    assert_eq!(texts, [&second["content"], &two["content"]]);
    let leaf = made["current_leaf"].as_str().expect("a leaf");
    app.exchange(id(&made), Some(leaf), "third").await;
    for body in [
        json!({ "from_id": one["id"], "parent_id": two["id"] }),
        json!({ "from_id": second["id"], "parent_id": second["id"] }),
        json!({ "from_id": second["id"] }),
    ] {
        assert_eq!(app.call(Method::POST, &path, body).await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn titles_are_one_line_that_turns_nothing_around_it() {
    let app = Application::new().await;
    let path = format!("/api/conversations/{}", app.conversation(3).await);
    let renamed =
        app.call(Method::PATCH, &path, json!({ "title": " safe\u{202e}gpj.exe\u{0}\n end " })).await;
    assert_eq!(renamed.json()["title"], "safe gpj.exe end");
    let refused = app.call(Method::PATCH, &path, json!({ "title": "\u{2067}\u{0}" })).await;
    assert_eq!((refused.status, refused.error().2.as_str()), (StatusCode::BAD_REQUEST, "title"));
    // Half of a surrogate pair is no text at all: the body is refused, and the connection lives on.
    let request = request(Method::PATCH, &path).header(header::CONTENT_TYPE, "application/json");
    let broken = app.send(request.body(Body::from(r#"{"title": "\ud800"}"#)).expect("valid")).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{}", broken.text);
}

#[tokio::test]
async fn pages_work_below_a_folder_of_a_proxy_and_stand_at_their_own_addresses_alone() {
    let app = Application::new().await;
    for path in ["/", "/docs"] {
        let page = app.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.headers[header::CONTENT_TYPE].to_str().expect("text").starts_with("text/html"));
        for absolute in ["href=\"/", "src=\"/"] {
            assert!(!page.text.contains(absolute), "{path} names a file by its whole path: {}", page.text);
        }
    }
    for path in ["/c/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/chat", "/settings/", "/.git/config", "/login"] {
        let missing = app.get(path).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(missing.error().1, "unknown_url", "{path}");
    }
}
