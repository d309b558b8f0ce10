//! Requests for more answers than a server takes, and for prompts that are none.

use crate::support::{Answer, Application, CONTEXT};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = "/v1/completions";

async fn ask(application: &Application, path: &str, more: &Value) -> Answer {
    let mut body = json!({ "model": "tiny", "max_tokens": 1 });
    match path {
        CHAT => body["messages"] = json!([{ "role": "user", "content": "hi" }]),
        _ => body["prompt"] = json!("hi"),
    }
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    application.post(path, body.to_string()).await
}

/// Regression: what can never get its places was told on an idle server to try again in a second.
#[tokio::test]
async fn what_can_never_fit_is_refused_by_its_name() {
    let application = Application::with_places(2, 3).await;
    for (path, more, field) in [
        (CHAT, json!({ "n": 6 }), "n"),
        (COMPLETION, json!({ "n": 6 }), "n"),
        (COMPLETION, json!({ "prompt": ["a", "b"], "n": 3 }), "n"),
        (COMPLETION, json!({ "best_of": 6 }), "best_of"),
        (COMPLETION, json!({ "prompt": ["a", "b", "c", "d", "e", "f"] }), "prompt"),
    ] {
        let answer = ask(&application, path, &more).await;
        let (message, _, param) = answer.error();
        assert_eq!((answer.status.as_u16(), param.as_str()), (400, field), "{more}: {message}");
        assert!(
            message.starts_with(&format!("`{field}`: 6 answers at once are more than the 5 ")),
            "{message}"
        );
    }
    for (path, more) in [
        (CHAT, json!({ "n": 5 })),
        (COMPLETION, json!({ "best_of": 5 })),
        (COMPLETION, json!({ "prompt": ["a", "b", "c", "d", "e"] })),
    ] {
        let answer = ask(&application, path, &more).await;
        assert_eq!(answer.status, 200, "{more}: {}", answer.text);
    }
}

/// Regression: `n` was named, which the request did not have.
#[tokio::test]
async fn too_many_answers_to_all_prompts_are_refused_by_the_field_that_asks_for_them() {
    let application = Application::new().await;
    for (more, field) in [
        (json!({ "prompt": ["a", "b", "c"], "best_of": 32 }), "best_of"),
        (json!({ "prompt": ["a", "b", "c"], "best_of": 32, "n": 1 }), "best_of"),
        (json!({ "prompt": ["a", "b", "c"], "n": 32 }), "n"),
        (json!({ "prompt": ["a", "b", "c"], "n": 32, "best_of": 32 }), "n"),
    ] {
        let answer = ask(&application, COMPLETION, &more).await;
        let (message, _, param) = answer.error();
        assert_eq!((answer.status.as_u16(), param.as_str()), (400, field), "{more}: {message}");
        assert!(message.contains("are 96, more than 64"), "{message}");
    }
}

/// Regression: of several prompts, the one at fault was not named.
#[tokio::test]
async fn the_prompt_at_fault_is_named_by_its_place() {
    let application = Application::new().await;
    let long = "a".repeat(CONTEXT);
    for (prompt, place, is_named) in [
        (json!(""), "prompt", true),
        (json!(["a", ""]), "prompt[1]", true),
        (json!([[97], [97], [4_000_000]]), "prompt[2]", true),
        (json!(["a", long]), "prompt[1]", false),
    ] {
        let answer = ask(&application, COMPLETION, &json!({ "prompt": prompt })).await;
        let (message, _, param) = answer.error();
        assert_eq!((answer.status.as_u16(), param.as_str()), (400, place), "{message}");
        assert!(!is_named || message.starts_with(&format!("`{place}`")), "{place}: {message}");
    }
}

/// Regression: templates were run with hundreds of thousands of messages, of which no context has room for.
#[tokio::test]
async fn more_messages_than_the_context_has_tokens_are_refused_before_a_template_runs() {
    let application = Application::new().await;
    let messages = vec![json!({ "role": "user", "content": "" }); CONTEXT + 1];
    let answer = ask(&application, CHAT, &json!({ "messages": messages })).await;
    let (message, code, param) = answer.error();
    assert_eq!((answer.status.as_u16(), param.as_str()), (400, "messages"), "{message}");
    assert_eq!(code, "context_length_exceeded");
    assert!(message.contains("8193 messages do not fit the context of 8192 tokens"), "{message}");
}
