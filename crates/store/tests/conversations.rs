//! Conversations, messages and answers through the public interface.

use crate::common::{exchange, fresh_store, new_conversation, question};
use zhenjin_store::{
    AnswerEnd, ConversationChange, GenerationRecord, NewConversation, Owner, Role, Status, Store, StoreError,
    Timestamp,
};

#[tokio::test]
async fn a_conversation_keeps_what_it_was_given() {
    let (_folder, store) = fresh_store().await;
    let settings = serde_json::json!({ "temperature": 0.3, "seed": null });
    let new = NewConversation {
        title: "标题".to_owned(),
        model: "qwen3:0.6b".to_owned(),
        system_prompt: "Be brief.".to_owned(),
        settings: settings.clone(),
    };
    let made = store.create_conversation(&Owner::Local, new).await.unwrap();
    assert_eq!(store.conversation(&Owner::Local, &made.id).await.unwrap(), made);

    let change = ConversationChange { title: Some("Renamed".to_owned()), ..ConversationChange::default() };
    let renamed = store.update_conversation(&Owner::Local, &made.id, change).await.unwrap();
    assert_eq!((renamed.title.as_str(), &renamed.settings), ("Renamed", &settings));
    assert_eq!(renamed.system_prompt, "Be brief.");
}

#[tokio::test]
async fn the_list_goes_from_the_latest_use_backwards_in_pages() {
    let (_folder, store) = fresh_store().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(new_conversation(&store).await.id);
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    exchange(&store, &made[2], None, "again", "yes").await;

    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = store.conversations(&Owner::Local, 3, before.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        listed.extend(page.into_iter().map(|conversation| conversation.id));
    }
    assert_eq!(listed[0], made[2]);
    let mut sorted = listed.clone();
    sorted.sort();
    made.sort();
    assert_eq!(sorted, made, "every conversation is listed once");
}

#[tokio::test]
async fn the_first_question_gives_the_title_and_a_later_one_does_not() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (_, answer) = exchange(&store, &id, None, "first", "one").await;
    exchange(&store, &id, Some(&answer.id), "second", "two").await;
    assert_eq!(store.conversation(&Owner::Local, &id).await.unwrap().title, "first");
}

#[tokio::test]
async fn editing_and_regenerating_make_branches() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (first, answer) = exchange(&store, &id, None, "question", "answer").await;
    let (_, follow_up) = exchange(&store, &id, Some(&answer.id), "more", "text").await;
    let (edited, _) = exchange(&store, &id, None, "question, edited", "another answer").await;
    let sibling = store.answer_again(&Owner::Local, &first.id, "other".to_owned()).await.unwrap();
    store.end_answer(&Owner::Local, &sibling.id, AnswerEnd::new(Status::Complete)).await.unwrap();

    assert_eq!(
        store.conversation(&Owner::Local, &id).await.unwrap().current_leaf.as_ref(),
        Some(&sibling.id)
    );
    assert_eq!((sibling.parent_id.as_ref(), sibling.role), (Some(&first.id), Role::Assistant));
    assert_eq!(edited.parent_id, None);
    assert_eq!(store.messages(&Owner::Local, &id).await.unwrap().len(), 7);
    let branch = store.branch(&Owner::Local, &follow_up.id).await.unwrap();
    let texts: Vec<&str> = branch.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(texts, ["question", "answer", "more", "text"]);

    let change =
        ConversationChange { current_leaf: Some(follow_up.id.clone()), ..ConversationChange::default() };
    assert_eq!(
        store.update_conversation(&Owner::Local, &id, change).await.unwrap().current_leaf,
        Some(follow_up.id)
    );
}

#[tokio::test]
async fn a_parent_must_be_a_finished_answer_of_the_same_conversation() {
    let (_folder, store) = fresh_store().await;
    let (id, other) = (new_conversation(&store).await.id, new_conversation(&store).await.id);
    let (asked, answer) = exchange(&store, &id, None, "question", "answer").await;
    let (_, unfinished) = store.ask(&Owner::Local, question(&id, Some(&answer.id), "and?")).await.unwrap();

    for (conversation, parent) in [(&id, &asked.id), (&other, &answer.id), (&id, &unfinished.id)] {
        let refused = store.ask(&Owner::Local, question(conversation, Some(parent), "x")).await;
        assert!(matches!(refused, Err(StoreError::InvalidParent { .. })), "{refused:?}");
    }
    let refused = store.answer_again(&Owner::Local, &answer.id, "tiny".to_owned()).await;
    assert!(matches!(refused, Err(StoreError::InvalidParent { .. })), "{refused:?}");
    let leaf = ConversationChange { current_leaf: Some(answer.id), ..ConversationChange::default() };
    assert!(matches!(
        store.update_conversation(&Owner::Local, &other, leaf).await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(
        store.messages(&Owner::Local, &id).await.unwrap().len(),
        4,
        "a refused question leaves nothing behind"
    );
}

#[tokio::test]
async fn an_answer_grows_ends_once_and_never_changes_again() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    let (_, answer) = store.ask(&Owner::Local, question(&id, None, "question")).await.unwrap();
    store.append_to_answer(&Owner::Local, &answer.id, "真").await.unwrap();
    store.append_to_answer(&Owner::Local, &answer.id, "金").await.unwrap();
    assert_eq!(store.message(&Owner::Local, &answer.id).await.unwrap().content, "真金");

    let generation = GenerationRecord {
        model: "tiny".to_owned(),
        fingerprint: Some("fp_1".to_owned()),
        seed: Some(u64::MAX),
        settings: serde_json::json!({ "temperature": 0 }),
        prompt_tokens: vec![1, 2, u32::MAX],
        sampled_tokens: vec![7],
        logprobs: Some(vec![-0.25]),
        template: Some("5e1f".to_owned()),
        system_prompt: Some("Be brief.".to_owned()),
    };
    let end = AnswerEnd {
        text: "。".to_owned(),
        finish_reason: Some("stop".to_owned()),
        prompt_tokens: Some(3),
        completion_tokens: Some(1),
        cached_tokens: Some(0),
        time_to_first_token_ms: Some(12.5),
        tokens_per_second: Some(80.0),
        context_length: Some(2048),
        generation: Some(generation.clone()),
        ..AnswerEnd::new(Status::Complete)
    };
    let ended = store.end_answer(&Owner::Local, &answer.id, end).await.unwrap();
    assert_eq!(
        (ended.content.as_str(), ended.status, ended.prompt_tokens),
        ("真金。", Status::Complete, Some(3))
    );
    assert_eq!(store.message(&Owner::Local, &answer.id).await.unwrap(), ended);
    assert_eq!(store.generation(&Owner::Local, &answer.id).await.unwrap(), Some(generation));

    let late = store.append_to_answer(&Owner::Local, &answer.id, "!").await;
    assert!(matches!(late, Err(StoreError::NotGenerating { status: Status::Complete, .. })), "{late:?}");
    let again = store.end_answer(&Owner::Local, &answer.id, AnswerEnd::new(Status::Stopped)).await;
    assert!(matches!(again, Err(StoreError::NotGenerating { .. })), "{again:?}");
    assert_eq!(store.message(&Owner::Local, &answer.id).await.unwrap(), ended);
}

#[tokio::test]
async fn deleting_can_be_undone_until_the_purge() {
    let (_folder, store) = fresh_store().await;
    let (kept, gone) = (new_conversation(&store).await.id, new_conversation(&store).await.id);
    let (_, answer) = exchange(&store, &kept, None, "undo me", "done").await;
    let (_, lost) = exchange(&store, &gone, None, "erase me", "done").await;

    store.delete_conversation(&Owner::Local, &kept).await.unwrap();
    store.delete_conversation(&Owner::Local, &gone).await.unwrap();
    assert!(store.conversations(&Owner::Local, 10, None).await.unwrap().is_empty());
    assert!(matches!(store.message(&Owner::Local, &answer.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(
        store.delete_conversation(&Owner::Local, &kept).await,
        Err(StoreError::NotFound { .. })
    ));

    assert_eq!(store.restore_conversation(&Owner::Local, &kept).await.unwrap().current_leaf, Some(answer.id));
    assert_eq!(store.purge_deleted(Timestamp::from_milliseconds(0)).await.unwrap(), 0);
    let later = Timestamp::from_milliseconds(Timestamp::now().milliseconds() + 1);
    assert_eq!(store.purge_deleted(later).await.unwrap(), 1);
    assert!(matches!(
        store.restore_conversation(&Owner::Local, &gone).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(store.message(&Owner::Local, &lost.id).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.messages(&Owner::Local, &kept).await.unwrap().len(), 2);
    assert!(store.search(&Owner::Local, "erase", 0, 10).await.unwrap().is_empty());
}

/// Regression: the index of the search kept three characters at a time, and the write-ahead log whole texts, while the server ran.
#[tokio::test]
async fn purged_text_is_in_no_file() {
    // In the index a word of three characters may stand without what it has in common with the one before it.
    const SECRET: &str = "SECRET-龘靐齉爩鱻";
    let pieces = ["SECRET-", "ret-", "靐齉", "齉爩", "爩鱻"];
    let (folder, store) = fresh_store().await;
    let found = || -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let file = std::fs::read(&path).unwrap();
            let is_there = |piece: &&&str| file.windows(piece.len()).any(|window| window == piece.as_bytes());
            found
                .extend(pieces.iter().filter(is_there).map(|piece| format!("{piece} in {}", path.display())));
        }
        found
    };
    let other = new_conversation(&store).await.id;
    for number in 0..100 {
        exchange(&store, &other, None, &format!("question {number}"), &format!("answer {}", number * 7))
            .await;
    }
    let id = new_conversation(&store).await.id;
    exchange(&store, &id, None, SECRET, SECRET).await;
    for number in 0..100 {
        exchange(&store, &other, None, &format!("more {number}"), &format!("an answer {}", number * 9)).await;
    }
    assert!(!found().is_empty());
    store.delete_conversation(&Owner::Local, &id).await.unwrap();
    store.purge_deleted(Timestamp::from_milliseconds(i64::MAX)).await.unwrap();
    assert_eq!(found(), [""; 0]);
    store.close().await;
    assert_eq!(found(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_answers_grow_at_once() {
    let (_folder, store) = fresh_store().await;
    let mut writers = Vec::new();
    for number in 0..16 {
        let store: Store = store.clone();
        writers.push(tokio::spawn(async move {
            let id = new_conversation(&store).await.id;
            let (_, answer) = store.ask(&Owner::Local, question(&id, None, "count")).await.unwrap();
            for piece in 0..25 {
                store
                    .append_to_answer(&Owner::Local, &answer.id, &format!("{number}.{piece} "))
                    .await
                    .unwrap();
            }
            store.end_answer(&Owner::Local, &answer.id, AnswerEnd::new(Status::Complete)).await.unwrap()
        }));
    }
    for (number, writer) in writers.into_iter().enumerate() {
        let expected: String = (0..25).map(|piece| format!("{number}.{piece} ")).collect();
        assert_eq!(writer.await.unwrap().content, expected);
    }
}
