//! What belongs to one owner is not there for another, whichever call asks for it.

use crate::common::{fresh_store, new_conversation, question};
use zhenjin_store::{
    AnswerEnd, ConversationChange, GenerationRecord, NewApiKey, NewConversation, Owner, Status, Store,
    StoreError,
};

/// The owner of a key of that name.
async fn owner(store: &Store, name: &str) -> Owner {
    store.create_api_key(NewApiKey::named(name)).await.unwrap();
    let (key, _) = store.create_api_key(NewApiKey::named(&format!("{name}'s own"))).await.unwrap();
    key.owner
}

fn is_missing<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(
        result,
        Err(StoreError::NotFound { .. }
            | StoreError::InvalidParent { reason: "there is no such message", .. })
    )
}

#[tokio::test]
async fn no_call_reaches_another_owners_conversation() {
    let (_folder, store) = fresh_store().await;
    let mine = Owner::Local;
    let other = owner(&store, "other").await;
    assert_ne!(mine, other);
    let id = new_conversation(&store).await.id;
    let (asked, answer) = store.ask(&mine, question(&id, None, "my secret question")).await.unwrap();
    let before = store.conversation(&mine, &id).await.unwrap();

    assert!(is_missing(&store.conversation(&other, &id).await));
    assert!(is_missing(&store.messages(&other, &id).await));
    assert!(is_missing(&store.message(&other, &asked.id).await));
    assert!(is_missing(&store.branch(&other, &answer.id).await));
    assert!(store.conversations(&other, 10, None).await.unwrap().is_empty());
    assert!(is_missing(&store.conversations(&other, 10, Some(&id)).await));
    assert!(store.search(&other, "secret", 0, 10).await.unwrap().is_empty());
    assert!(store.search(&other, "my", 0, 10).await.unwrap().is_empty());
    for leaf in [None, Some(asked.id.clone())] {
        let change =
            ConversationChange { title: Some("taken".to_owned()), current_leaf: leaf, ..Default::default() };
        assert!(is_missing(&store.update_conversation(&other, &id, change).await));
    }
    assert!(is_missing(&store.append_to_answer(&other, &answer.id, "theirs").await));
    assert!(is_missing(&store.end_answer(&other, &answer.id, AnswerEnd::new(Status::Stopped)).await));
    let generation = GenerationRecord {
        model: "tiny".to_owned(),
        fingerprint: None,
        seed: None,
        settings: serde_json::json!({}),
        prompt_tokens: vec![1],
        sampled_tokens: vec![2],
        logprobs: None,
        template: None,
        system_prompt: None,
    };
    let end = AnswerEnd { generation: Some(generation.clone()), ..AnswerEnd::new(Status::Complete) };
    store.end_answer(&mine, &answer.id, end).await.unwrap();
    assert_eq!(store.generation(&other, &answer.id).await.unwrap(), None);
    assert_eq!(store.generation(&mine, &answer.id).await.unwrap(), Some(generation));
    assert!(is_missing(&store.ask(&other, question(&id, None, "theirs")).await));
    assert!(is_missing(&store.ask(&other, question(&id, Some(&answer.id), "theirs")).await));
    assert!(is_missing(&store.answer_again(&other, &asked.id, "tiny".to_owned()).await));
    assert!(is_missing(&store.delete_conversation(&other, &id).await));
    store.delete_conversation(&mine, &id).await.unwrap();
    assert!(is_missing(&store.restore_conversation(&other, &id).await));
    store.restore_conversation(&mine, &id).await.unwrap();

    let after = store.conversation(&mine, &id).await.unwrap();
    assert_eq!((after.title, after.current_leaf), (before.title, before.current_leaf));
    assert_eq!(store.messages(&mine, &id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_parent_in_another_owners_conversation_is_no_parent() {
    let (_folder, store) = fresh_store().await;
    let other = owner(&store, "other").await;
    let mine = new_conversation(&store).await.id;
    let (_, answer) = store.ask(&Owner::Local, question(&mine, None, "mine")).await.unwrap();
    store.end_answer(&Owner::Local, &answer.id, AnswerEnd::new(Status::Complete)).await.unwrap();
    let theirs = store.create_conversation(&other, NewConversation::default()).await.unwrap().id;
    assert!(is_missing(&store.ask(&other, question(&theirs, Some(&answer.id), "theirs")).await));
    let leaf = ConversationChange { current_leaf: Some(answer.id), ..Default::default() };
    assert!(is_missing(&store.update_conversation(&other, &theirs, leaf).await));
}

#[tokio::test]
async fn each_owner_lists_and_finds_their_own() {
    let (_folder, store) = fresh_store().await;
    let other = owner(&store, "other").await;
    for (owner, text) in [(&Owner::Local, "local words"), (&other, "other words")] {
        let id = store.create_conversation(owner, NewConversation::default()).await.unwrap().id;
        store.ask(owner, question(&id, None, text)).await.unwrap();
    }
    for (owner, text) in [(&Owner::Local, "local words"), (&other, "other words")] {
        let listed = store.conversations(owner, 10, None).await.unwrap();
        assert_eq!((listed.len(), listed[0].title.as_str()), (1, text));
        let found = store.search(owner, "words", 0, 10).await.unwrap();
        assert!(found.len() == 1 && found.iter().all(|hit| hit.title == text), "{found:?}");
    }
}
