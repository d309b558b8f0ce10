//! Search in Chinese, English and emoji, with every character that has a meaning in FTS5 or LIKE.

use crate::common::{exchange, fresh_store, new_conversation, question};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use zhenjin_store::{
    AnswerEnd, ConversationChange, ConversationId, NewConversation, Owner, Question, SearchHit, Status,
    Store, StoreError,
};

async fn found(store: &Store, query: &str) -> Vec<String> {
    let hits =
        store.search(&Owner::Local, query, 0, 50).await.unwrap_or_else(|error| panic!("{query:?}: {error}"));
    hits.into_iter().map(|hit| hit.snippet.text).collect()
}

fn marked(hit: &SearchHit) -> Vec<String> {
    let characters: Vec<char> = hit.snippet.text.chars().collect();
    hit.snippet.matches.iter().map(|range| characters[range.clone()].iter().collect()).collect()
}

#[tokio::test]
async fn words_are_found_in_every_script_and_length() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let chinese = "俗话说真金不怕火炼，你怎么看？";
    let english = "True gold fears no fire, they say 👍🏽🔥";
    exchange(&store, &id, None, chinese, english).await;
    store
        .update_conversation(
            &Owner::Local,
            &id,
            ConversationChange { title: Some("谚语 Proverbs".to_owned()), ..Default::default() },
        )
        .await
        .unwrap();

    for query in ["真金不怕火炼", "真金", "金", "怕火炼", "真金 怎么看", "你 火"] {
        assert_eq!(found(&store, query).await, [chinese], "{query}");
    }
    for query in ["gold", "GOLD", "true FIRE", "no", "o", "👍🏽", "🔥", "say 👍🏽🔥", "ears n"] {
        let hits = found(&store, query).await;
        assert!(hits.contains(&english.to_owned()), "{query}: {hits:?}");
    }
    for query in ["silver", "真银", "gold silver", "💧"] {
        assert!(found(&store, query).await.is_empty(), "{query}");
    }
    let hits = store.search(&Owner::Local, "谚语", 0, 10).await.unwrap();
    assert_eq!((hits.len(), marked(&hits[0])), (1, vec!["谚语".to_owned()]));
    assert!(hits[0].message_id.is_some(), "a title leads to the end of its conversation");
    assert!(store.search(&Owner::Local, "", 0, 10).await.unwrap().is_empty());
    assert!(store.search(&Owner::Local, " \u{0}\n ", 0, 10).await.unwrap().is_empty());
}

async fn titled(store: &Store, title: &str) {
    let id = new_conversation(store).await.id;
    titled_as(store, &id, title).await;
}

async fn titled_as(store: &Store, id: &ConversationId, title: &str) {
    let change = ConversationChange { title: Some(title.to_owned()), ..Default::default() };
    store.update_conversation(&Owner::Local, id, change).await.unwrap();
}

/// Regression: in titles, and for short words in messages, only the case of ASCII letters was ignored.
#[tokio::test]
async fn case_is_ignored_in_every_script_in_titles_and_messages() {
    let (_folder, store) = fresh_store().await;
    let text = "Ärzte in МОСКВА, ΛΌΓΟΣ";
    titled(&store, text).await;
    for query in ["ärzte", "ÄRZTE", "москва", "Москва", "мо", "Ä", "är", "λόγος", "ärzte москва"]
    {
        assert_eq!(found(&store, query).await, [text], "a title: {query}");
    }
    let id = new_conversation(&store).await.id;
    exchange(&store, &id, None, text, "no").await;
    for query in ["ärzte", "ÄRZTE", "москва", "Москва", "мо", "Ä", "är", "ärzte мо"] {
        let hits = found(&store, query).await;
        assert_eq!(hits, [text; 2], "a title and a question, which is the title of its chat: {query}");
    }
    let hits = store.search(&Owner::Local, "МОСква", 0, 10).await.unwrap();
    assert!(hits.iter().all(|hit| marked(hit) == ["МОСКВА"]), "{hits:?}");
}

/// Regression: a letter whose accent is a character of its own was another letter.
#[tokio::test]
async fn composed_and_decomposed_letters_are_the_same() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (composed, decomposed) = ("l\u{e9}t\u{e9} \u{c9}TUDE", "le\u{301}te\u{301} E\u{301}TUDE");
    exchange(&store, &id, None, composed, decomposed).await;
    for query in [
        "\u{e9}t\u{e9}",
        "e\u{301}te\u{301}",
        "\u{e9}",
        "e\u{301}",
        "\u{e9}t",
        "\u{e9}tude",
        "e\u{301}tude t\u{e9}",
    ] {
        let hits = found(&store, query).await;
        for text in [composed, decomposed] {
            assert!(hits.contains(&text.to_owned()), "{query}: {hits:?}");
        }
    }
    let hits = store.search(&Owner::Local, "l\u{e9}t", 0, 10).await.unwrap();
    let marks: Vec<String> = hits.iter().flat_map(marked).collect();
    assert!(marks.contains(&"l\u{e9}t".to_owned()) && marks.contains(&"le\u{301}t".to_owned()), "{marks:?}");

    titled(&store, "Cafe\u{301}").await;
    for query in ["CAF\u{c9}", "cafe\u{301}", "f\u{e9}"] {
        assert_eq!(found(&store, query).await, ["Cafe\u{301}"], "{query}");
    }
}

/// Every way in which the Vietnamese word can be written: a horn and a tone each in the letter or behind it, in either order.
fn written_words() -> Vec<String> {
    let letters = ["\u{1EDD}", "\u{1A1}\u{300}", "\u{F2}\u{31B}", "o\u{31B}\u{300}", "o\u{300}\u{31B}"];
    let word = |horn: &str, letter: &str| format!("ng{horn}{letter}i");
    ["\u{1B0}", "u\u{31B}"].iter().flat_map(|horn| letters.map(|letter| word(horn, letter))).collect()
}

/// Regression: a letter with two accents, one of them in it and one behind it, was found neither by the composed letter nor by the decomposed one.
#[tokio::test]
async fn letters_with_several_accents_are_found_in_every_spelling() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let words = written_words();
    assert_eq!(words.len(), 10);
    for word in &words {
        exchange(&store, &id, None, &format!("M\u{1ED9}t {word} kh\u{E1}c"), "ng\u{1B0}\u{1A1}i").await;
    }
    let letters = ["\u{1EDC}", "\u{1A1}\u{300}", "O\u{300}\u{31B}"].map(str::to_owned);
    for query in words.iter().chain(&letters) {
        let hits = store.search(&Owner::Local, query, 0, 50).await.unwrap();
        let marks: Vec<String> = hits.iter().flat_map(marked).collect();
        assert_eq!((hits.len(), marks.len()), (10, 10), "{query}");
        if words.contains(query) {
            let newest_first: Vec<&String> = words.iter().rev().collect();
            assert_eq!(marks.iter().collect::<Vec<_>>(), newest_first, "{query}");
        }
    }
    assert_eq!(found(&store, "ng\u{1B0}o\u{31B}i").await.len(), 10, "another word is another word");
}

/// Regression: the same of answers that came in pieces, or whose server went away.
#[tokio::test]
async fn answers_that_come_in_pieces_are_found_in_every_spelling() {
    let (folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (_, ended) = store.ask(&Owner::Local, question(&id, None, "?")).await.unwrap();
    store.append_to_answer(&Owner::Local, &ended.id, "ngu\u{31B}\u{1A1}").await.unwrap();
    let end = AnswerEnd { text: "\u{300}i".to_owned(), ..AnswerEnd::new(Status::Complete) };
    store.end_answer(&Owner::Local, &ended.id, end).await.unwrap();
    let (_, interrupted) = store.ask(&Owner::Local, question(&id, None, "?")).await.unwrap();
    store.append_to_answer(&Owner::Local, &interrupted.id, "ng\u{1B0}o\u{300}\u{31B}i").await.unwrap();
    store.close().await;
    drop(store);
    let store = Store::open(&folder.path().join("zhenjin.db")).await.unwrap();
    for query in written_words() {
        let texts = found(&store, &query).await;
        assert_eq!(texts, ["ng\u{1B0}o\u{300}\u{31B}i", "ngu\u{31B}\u{1A1}\u{300}i"], "{query}");
    }
}

/// Regression: every search folded all titles. They are kept folded, and follow the title.
#[tokio::test]
async fn titles_are_compared_as_they_are_kept() {
    let (folder, store) = fresh_store().await;
    let new = NewConversation {
        title: "\u{C9}TUDE".to_owned(),
        model: "tiny".to_owned(),
        ..NewConversation::default()
    };
    let id = store.create_conversation(&Owner::Local, new).await.unwrap().id;
    assert_eq!(found(&store, "e\u{301}tude").await, ["\u{C9}TUDE"]);
    let change = ConversationChange { title: Some("МОСКВА".to_owned()), ..Default::default() };
    store.update_conversation(&Owner::Local, &id, change).await.unwrap();
    let change = ConversationChange { model: Some("other".to_owned()), ..Default::default() };
    store.update_conversation(&Owner::Local, &id, change).await.unwrap();
    assert_eq!(found(&store, "москва").await, ["МОСКВА"]);
    assert!(found(&store, "\u{E9}tude").await.is_empty());
    let untitled = new_conversation(&store).await.id;
    let asked = Question { title_if_untitled: "ЛЕНА".to_owned(), ..question(&untitled, None, "?") };
    store.ask(&Owner::Local, asked).await.unwrap();
    assert_eq!(found(&store, "лена").await, ["ЛЕНА"], "the first question gives a title");
    let path = folder.path().join("zhenjin.db");
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("UPDATE conversations SET folded_title = 'волга' WHERE title = 'МОСКВА'")
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();
    assert_eq!(found(&store, "волга").await, ["МОСКВА"]);
    assert!(found(&store, "москва").await.is_empty());
}

#[tokio::test]
async fn characters_with_a_meaning_in_sql_are_plain_text() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let texts = [
        r#"she said "hello" and left"#,
        "it's 100% sure_thing",
        r"C:\temp\file",
        "a AND b NOT c NEAR(d) col:umn * ^x -y +z {w} (v)",
        "'; DROP TABLE messages; --",
        "plain words only",
    ];
    for text in texts {
        exchange(&store, &id, None, text, "").await;
    }
    let queries = [
        (r#""hello""#, 0),
        (r#"""#, 0),
        ("100%", 1),
        ("0%", 1),
        ("e_t", 1),
        ("_", 1),
        ("%", 1),
        (r"\temp\", 2),
        (r"\", 2),
        ("NEAR(d)", 3),
        ("col:umn", 3),
        ("NOT AND", 3),
        ("*", 3),
        ("^x", 3),
        ("-y", 3),
        ("{w}", 3),
        ("'; DROP", 4),
        ("--", 4),
    ];
    for (query, place) in queries {
        let hits = store.search(&Owner::Local, query, 0, 50).await.unwrap();
        let hits: Vec<String> = hits.into_iter().map(|hit| hit.snippet.text).collect();
        assert!(hits.contains(&texts[place].to_owned()), "{query}: {hits:?}");
        assert!(!hits.contains(&texts[5].to_owned()), "{query}: {hits:?}");
    }
    assert!(found(&store, "\"unclosed").await.is_empty());
}

#[tokio::test]
async fn a_query_is_bounded() {
    let (_folder, store) = fresh_store().await;
    for query in ["字".repeat(2_001), (0..129).map(|term| format!("{term} ")).collect()] {
        assert!(matches!(
            store.search(&Owner::Local, &query, 0, 10).await,
            Err(StoreError::Invalid { field: "q", .. })
        ));
    }
}

#[tokio::test]
async fn an_answer_is_found_when_it_ends_and_deleted_chats_are_not_found() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (_, answer) = store.ask(&Owner::Local, question(&id, None, "?")).await.unwrap();
    store.append_to_answer(&Owner::Local, &answer.id, "unfinished").await.unwrap();
    for query in ["unfinished", "un"] {
        assert!(found(&store, query).await.is_empty(), "{query}");
    }
    store.end_answer(&Owner::Local, &answer.id, AnswerEnd::new(Status::Stopped)).await.unwrap();
    assert_eq!(found(&store, "unfinished").await.len(), 1);
    store.delete_conversation(&Owner::Local, &id).await.unwrap();
    assert!(found(&store, "unfinished").await.is_empty());
    store.restore_conversation(&Owner::Local, &id).await.unwrap();
    assert_eq!(found(&store, "un").await.len(), 1);
}

#[tokio::test]
async fn words_in_quotation_marks_are_one_term() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    exchange(&store, &id, None, "true gold fears no fire", "gold is true").await;
    exchange(&store, &id, None, "他说真金 不怕火炼", "不怕真金").await;
    for (query, texts) in [
        ("true gold", vec!["gold is true", "true gold fears no fire"]),
        ("\"true gold\"", vec!["true gold fears no fire"]),
        ("“true gold” fire", vec!["true gold fears no fire"]),
        ("\"gold is\" true", vec!["gold is true"]),
        ("\"no fire\"\"true gold\"", vec!["true gold fears no fire"]),
        ("\"真金 不怕\"", vec!["他说真金 不怕火炼"]),
        ("\"is\"", vec!["gold is true"]),
        ("\"gold true\"", vec![]),
    ] {
        assert_eq!(found(&store, query).await, texts, "{query}");
    }
    let marks = store.search(&Owner::Local, "\"true gold\"", 0, 10).await.unwrap();
    assert_eq!(marked(&marks[0]), ["true gold"]);
}

#[tokio::test]
async fn hits_come_in_pages_without_a_gap_or_a_hit_twice() {
    let (_folder, store) = fresh_store().await;
    for number in 0..23 {
        let id = new_conversation(&store).await.id;
        exchange(&store, &id, None, &format!("needle {number}"), "a needle too").await;
        if number % 2 == 0 {
            titled_as(&store, &id, "Of needles").await;
        }
    }
    let mut seen = Vec::new();
    loop {
        let offset = u32::try_from(seen.len()).unwrap();
        let page = store.search(&Owner::Local, "needle", offset, 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|hit| (hit.conversation_id, hit.message_id, hit.snippet.text)));
    }
    assert_eq!(
        seen.len(),
        12 + 2 * 23,
        "the titles of every other one, and a question and an answer of each"
    );
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 12 + 2 * 23);
}

/// Regression: the first question was found twice, once as the title that is taken from it, and the title's hit opened the answer.
#[tokio::test]
async fn a_title_that_is_taken_from_the_first_question_is_found_once_and_opens_the_question() {
    let (_folder, store) = fresh_store().await;
    let long = format!("真金  不怕火炼 GOLD {}", "x".repeat(80));
    let id = new_conversation(&store).await.id;
    let cut = "真金 不怕火炼 GOLD xxx…".to_owned();
    let asked = Question { title_if_untitled: cut.clone(), ..question(&id, None, &long) };
    let (asked, answer) = store.ask(&Owner::Local, asked).await.unwrap();
    for query in ["真金", "火", "gold", "gold 不怕火炼", "Go"] {
        let hits = store.search(&Owner::Local, query, 0, 10).await.unwrap();
        let opened: Vec<_> = hits.iter().map(|hit| hit.message_id.as_ref()).collect();
        assert_eq!(opened, [Some(&asked.id)], "{query}");
        assert_eq!((&hits[0].conversation_id, &hits[0].title), (&id, &cut), "{query}");
        assert!(store.search(&Owner::Local, query, 1, 10).await.unwrap().is_empty(), "{query}");
    }
    // A title that somebody gave says something of its own.
    titled_as(&store, &id, "Gold and fire").await;
    let hits = store.search(&Owner::Local, "gold", 0, 10).await.unwrap();
    let opened: Vec<_> = hits.iter().map(|hit| hit.message_id.as_ref()).collect();
    assert_eq!(opened, [Some(&answer.id), Some(&asked.id)]);
}

#[tokio::test]
async fn a_pasted_paragraph_is_a_query() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let paragraph = (0..100).map(|word| format!("word{word} a bc")).collect::<Vec<_>>().join(" ");
    exchange(&store, &id, None, &paragraph, "no").await;
    assert_eq!(store.search(&Owner::Local, &paragraph, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.search(&Owner::Local, &format!("{paragraph} absent"), 0, 10).await.unwrap().len(), 0);
}
