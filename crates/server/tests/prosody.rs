//! `POST /api/prosody`, in process: tones and rhymes of poems, and texts that are none.

use crate::support::Application;
use serde_json::{Value, json};

impl Application {
    async fn prosody(&self, text: &str) -> Value {
        let answer = self.post("/api/prosody", json!({ "text": text }).to_string()).await;
        assert_eq!(answer.status, 200, "{text}: {}", answer.text);
        answer.json()
    }
}

#[tokio::test]
async fn a_regulated_poem_is_shown_character_by_character() {
    let app = Application::new().await;
    let answer = app.prosody("白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。").await;
    assert_eq!(answer["problem"], Value::Null);
    let verse = &answer["verse"];
    assert_eq!(verse["form"], "五言絕句");
    let lines = verse["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[1]["characters"][4],
        json!({ "text": "流", "pattern": "level", "groups": ["下平聲十一尤"], "modern_pattern": "level", "readings": ["liú"] })
    );
    let white = &lines[0]["characters"][0];
    assert_eq!((&white["pattern"], &white["modern_pattern"]), (&json!("oblique"), &json!("level")));
    assert_eq!(
        verse["rhyme_book"],
        json!({ "rhyme": "下平聲十一尤", "rhyming": [1, 3], "missing": [], "rules": { "kept": 11, "total": 11, "broken": [] } })
    );
    assert_eq!(
        (&verse["modern"]["rhyme"], &verse["modern"]["rhyming"]),
        (&json!("七尤平聲"), &json!([1, 3]))
    );
}

#[tokio::test]
async fn what_breaks_the_rules_is_named_with_its_places() {
    let app = Application::new().await;
    let answer = app.prosody("白日依山高，黃河入天流。欲窮千里目，更上一層山。").await;
    let judged = &answer["verse"]["rhyme_book"];
    assert_eq!(
        (&judged["rhyme"], &judged["rhyming"], &judged["missing"]),
        (&Value::Null, &json!([]), &json!([1, 3]))
    );
    assert_eq!(
        judged["rules"],
        json!({ "kept": 9, "total": 11, "broken": [
            { "rule": "oblique_end", "places": [{ "line": 0, "character": 4 }] },
            { "rule": "alternation", "places": [{ "line": 1, "character": 1 }, { "line": 1, "character": 3 }] },
        ] })
    );
}

#[tokio::test]
async fn a_simplified_poem_has_its_names_in_simplified_characters() {
    let app = Application::new().await;
    let verse = app.prosody("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。").await["verse"].clone();
    assert_eq!((&verse["form"], &verse["rhyme_book"]["rhyme"]), (&json!("五言绝句"), &json!("下平声十一尤")));
    assert_eq!(verse["lines"][3]["characters"][4]["text"], "楼");
    assert_eq!(verse["rhyme_book"]["rules"]["kept"], 11);
}

#[tokio::test]
async fn a_ci_has_rhymes_and_no_rules_of_regulated_verse() {
    let app = Application::new().await;
    let verse =
        app.prosody("簾外雨潺潺，春意闌珊。羅衾不耐五更寒。夢裏不知身是客，一晌貪歡。").await["verse"]
            .clone();
    assert_eq!((&verse["form"], &verse["rhyme_book"]["rules"]), (&Value::Null, &Value::Null));
    assert_eq!(verse["rhyme_book"]["rhyme"], "詞林正韻第7部");
    assert_eq!(
        (&verse["rhyme_book"]["rhyming"], &verse["modern"]["rhyme"]),
        (&json!([1, 2, 4]), &json!("八寒"))
    );
}

#[tokio::test]
async fn texts_that_are_no_verse_are_said_to_be_none() {
    let app = Application::new().await;
    let longest = format!("{},{}", "平".repeat(16), "仄".repeat(16));
    let too_long = format!("{},{}", "平".repeat(17), "仄".repeat(16));
    // As many lines as fit.
    let many = "春\n".repeat(2_000);
    for (text, problem) in [
        ("hello", json!("too_few_lines")),
        ("。，！", json!("too_few_lines")),
        ("白日依山盡", json!("too_few_lines")),
        ("白日依山盡 黃河入海流", json!("too_few_lines")),
        ("\u{202E}\u{0}\u{FFFD}👩\u{200D}🚀", json!("too_few_lines")),
        (&too_long, json!("line_too_long")),
        ("The river 黃河 flows into the sea 海 and on.", json!("other_script")),
        ("春は、あけぼの。夏は、よる。", json!("other_script")),
        (&longest, Value::Null),
        (&many, Value::Null),
        ("一，二", Value::Null),
        // In no table.
        ("\u{2A6D6}，\u{2A6D5}", Value::Null),
    ] {
        let answer = app.prosody(text).await;
        assert_eq!((&answer["problem"], answer["verse"].is_null()), (&problem, !problem.is_null()), "{text}");
    }
}

#[tokio::test]
async fn the_field_is_checked_and_named() {
    let app = Application::new().await;
    let longest = json!({ "text": "春，".repeat(2_000) }).to_string();
    assert_eq!(app.post("/api/prosody", longest).await.status, 200);
    for (body, parameter, words) in [
        (json!({}), "text", "`text` is missing"),
        (json!({ "text": null }), "text", "`text` is missing"),
        (json!({ "text": "" }), "text", "must not be empty"),
        (json!({ "text": " \n" }), "text", "must not be empty"),
        (json!({ "text": 5 }), "text", "must be a string"),
        (json!({ "text": ["春"] }), "text", "must be a string"),
        (json!({ "text": "春".repeat(4_001) }), "text", "at most 4000 characters, not 4001"),
        (json!({ "text": "春，秋。", "txet": "" }), "txet", "did you mean `text`?"),
        (json!([]), "", "must be a JSON object"),
    ] {
        let answer = app.post("/api/prosody", body.to_string()).await;
        let (message, _, param) = answer.error();
        assert_eq!((answer.status.as_u16(), param.as_str()), (400, parameter), "{body}: {message}");
        assert!(message.contains(words), "{body}: {message}");
    }
}
