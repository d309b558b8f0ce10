//! What people say of answers: kept, replaced, forgotten, erased with its chat, and given to training as it was said.

use std::sync::Arc;

use crate::common::{exchange, fresh_store, new_conversation, question};
use zhenjin_store::{
    AnswerEnd, ConversationId, FeedbackId, FeedbackKind, Judgement, Message, MessageId, NewApiKey,
    NewConversation, NewFeedback, Owner, Rating, Role, Status, Store, StoreError, TrainingFeedback,
};

const MINE: Owner = Owner::Local;

fn rated(rating: Rating) -> NewFeedback {
    NewFeedback { rating: Some(rating), ..NewFeedback::default() }
}

fn corrected(correction: &str) -> NewFeedback {
    NewFeedback { correction: Some(correction.to_owned()), ..NewFeedback::default() }
}

async fn answer_again(store: &Store, asked: &MessageId, model: &str, text: &str) -> Message {
    let answer = store.answer_again(&MINE, asked, model.to_owned()).await.unwrap();
    end(store, &answer.id, text, Status::Complete, Some("stop")).await
}

async fn end(store: &Store, id: &MessageId, text: &str, status: Status, reason: Option<&str>) -> Message {
    let end = AnswerEnd {
        text: text.to_owned(),
        finish_reason: reason.map(str::to_owned),
        ..AnswerEnd::new(status)
    };
    store.end_answer(&MINE, id, end).await.unwrap()
}

/// A chat whose first question has two answers, `One.` and `Two.`.
async fn two_answers(store: &Store) -> (ConversationId, Message, Message, Message) {
    let new = NewConversation {
        model: "tiny".to_owned(),
        system_prompt: "Be brief.".to_owned(),
        ..NewConversation::default()
    };
    let id = store.create_conversation(&MINE, new).await.unwrap().id;
    let (asked, one) = exchange(store, &id, None, "Count.", "One.").await;
    let two = answer_again(store, &asked.id, "other", "Two.").await;
    (id, asked, one, two)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> &'static str {
    match result {
        Err(StoreError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn feedback_is_replaced_as_a_whole_and_forgotten() {
    let (_folder, store) = fresh_store().await;
    let (id, _, one, _) = two_answers(&store).await;
    let liked = NewFeedback {
        reasons: vec!["clear".to_owned(), "helpful".to_owned()],
        comment: Some("好".to_owned()),
        ..rated(Rating::Up)
    };
    let first = store.set_feedback(&MINE, &one.id, liked.clone()).await.unwrap();
    assert_eq!(store.feedback(&MINE, &one.id).await.unwrap(), Some(first.clone()));
    assert_eq!((first.said, first.created_at <= first.updated_at), (liked, true));

    let again = store.set_feedback(&MINE, &one.id, rated(Rating::Up)).await.unwrap();
    assert_eq!((again.id.clone(), again.created_at), (first.id, first.created_at), "the same judgement");
    assert_eq!(again.said, rated(Rating::Up), "reasons and comment are gone");
    let other = store.set_feedback(&MINE, &one.id, rated(Rating::Down)).await.unwrap();
    assert_ne!(other.id, again.id, "another judgement");
    assert_eq!(store.feedback_in(&MINE, &id).await.unwrap(), [other]);

    store.remove_feedback(&MINE, &one.id).await.unwrap();
    store.remove_feedback(&MINE, &one.id).await.unwrap();
    assert_eq!(store.feedback(&MINE, &one.id).await.unwrap(), None);
}

#[tokio::test]
async fn feedback_that_says_nothing_or_the_impossible_is_refused() {
    let (_folder, store) = fresh_store().await;
    let (id, asked, one, _) = two_answers(&store).await;
    let reasons = |reasons: &[&str]| reasons.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    for (said, field) in [
        (NewFeedback::default(), "rating"),
        (NewFeedback { reasons: reasons(&["clear"]), ..NewFeedback::default() }, "reasons"),
        (NewFeedback { reasons: reasons(&["wrong"]), ..rated(Rating::Up) }, "reasons"),
        (NewFeedback { reasons: reasons(&["clear"]), ..rated(Rating::Down) }, "reasons"),
        (NewFeedback { reasons: reasons(&["clear", "clear"]), ..rated(Rating::Up) }, "reasons"),
        (NewFeedback { comment: Some(" \n".to_owned()), ..rated(Rating::Up) }, "comment"),
        (corrected(""), "correction"),
        (corrected("One."), "correction"),
        (corrected(" One.\n"), "correction"),
    ] {
        assert_eq!(refusal(store.set_feedback(&MINE, &one.id, said.clone()).await), field, "{said:?}");
    }
    assert_eq!(refusal(store.set_feedback(&MINE, &asked.id, rated(Rating::Up)).await), "id");
    let (_, unfinished) = store.ask(&MINE, question(&id, None, "And?")).await.unwrap();
    let early = store.set_feedback(&MINE, &unfinished.id, rated(Rating::Up)).await;
    assert!(matches!(early, Err(StoreError::StillGenerating { .. })), "{early:?}");
    assert!(store.training_feedback().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_choice_is_kept_for_each_pair_and_turned_round() {
    let (_folder, store) = fresh_store().await;
    let (id, asked, one, two) = two_answers(&store).await;
    let three = answer_again(&store, &asked.id, "tiny", "Three.").await;
    let choice = store.choose(&MINE, &one.id, &[two.id.clone(), three.id.clone()]).await.unwrap();
    assert_eq!(
        (choice.question_id.clone(), choice.rejected.clone()),
        (asked.id, vec![two.id.clone(), three.id.clone()])
    );
    let before = store.training_feedback().await.unwrap();
    assert_eq!(store.choose(&MINE, &one.id, std::slice::from_ref(&two.id)).await.unwrap().rejected.len(), 2);
    let same: Vec<_> = store.training_feedback().await.unwrap().into_iter().map(|row| row.id).collect();
    assert!(before.iter().all(|row| same.contains(&row.id)), "the same choice is the same judgement");

    let turned = store.choose(&MINE, &two.id, std::slice::from_ref(&one.id)).await.unwrap();
    assert_eq!(turned.rejected, std::slice::from_ref(&one.id));
    let choices = store.choices_in(&MINE, &id).await.unwrap();
    assert_eq!(choices.len(), 2);
    assert_eq!((&choices[0].chosen, &choices[0].rejected), (&one.id, &vec![three.id.clone()]));
    store.remove_choice(&MINE, &one.id).await.unwrap();
    store.remove_choice(&MINE, &one.id).await.unwrap();
    assert_eq!(store.choices_in(&MINE, &id).await.unwrap(), [turned]);
}

#[tokio::test]
async fn choices_between_anything_but_two_answers_to_one_question_are_refused() {
    let (_folder, store) = fresh_store().await;
    let (id, asked, one, two) = two_answers(&store).await;
    let same = answer_again(&store, &asked.id, "tiny", "One. ").await;
    let (_, elsewhere) = exchange(&store, &id, None, "Count.", "Two!").await;
    for rejected in [
        vec![],
        vec![one.id.clone()],
        vec![same.id],
        vec![elsewhere.id],
        vec![two.id.clone(), two.id.clone()],
    ] {
        assert_eq!(refusal(store.choose(&MINE, &one.id, &rejected).await), "rejected", "{rejected:?}");
    }
    assert_eq!(refusal(store.choose(&MINE, &one.id, std::slice::from_ref(&asked.id)).await), "id");
    let unfinished = store.answer_again(&MINE, &asked.id, "tiny".to_owned()).await.unwrap();
    for (chosen, rejected) in [(&one.id, &unfinished.id), (&unfinished.id, &one.id)] {
        let early = store.choose(&MINE, chosen, &[two.id.clone(), rejected.clone()]).await;
        assert!(matches!(early, Err(StoreError::StillGenerating { .. })), "{early:?}");
    }
    assert!(store.choices_in(&MINE, &id).await.unwrap().is_empty(), "a refused choice keeps nothing");
}

#[tokio::test]
async fn training_gets_what_was_said_with_everything_before_it() {
    let (_folder, store) = fresh_store().await;
    let (id, _, one, two) = two_answers(&store).await;
    let (asked, more) = exchange(&store, &id, Some(&two.id), "Go on.", "Four.").await;
    store.choose(&MINE, &two.id, std::slice::from_ref(&one.id)).await.unwrap();
    let said = NewFeedback { reasons: vec!["wrong".to_owned()], ..corrected("Three.") };
    let said = NewFeedback { rating: Some(Rating::Down), ..said };
    let kept = store.set_feedback(&MINE, &more.id, said).await.unwrap();
    let comment = NewFeedback { comment: Some("hm".to_owned()), ..NewFeedback::default() };
    store.set_feedback(&MINE, &two.id, comment).await.unwrap();
    store.set_training_consent(&MINE, true).await.unwrap();

    let rows = store.training_feedback().await.unwrap();
    // What is said within one millisecond comes in the order of its ids, which is random.
    let found = |kind: fn(&Judgement) -> bool| rows.iter().find(|row| kind(&row.judgement)).unwrap();
    let choice = found(|said| matches!(said, Judgement::Choice { .. }));
    let rating = found(|said| matches!(said, Judgement::Rating { .. }));
    let correction = found(|said| matches!(said, Judgement::Correction { .. }));
    assert_eq!(rows.len(), 3, "a comment alone teaches nothing");
    assert_eq!(choice.judgement, Judgement::Choice { chosen: "Two.".into(), rejected: "One.".into() });
    assert_eq!((choice.model.as_str(), choice.rejected_model.as_deref()), ("other", Some("tiny")));
    assert_eq!(*choice.turns, [(Role::User, Arc::<str>::from("Count."))]);
    assert!(choice.consents && !choice.liked_is_cut_short && choice.trained_in.is_empty());
    assert_eq!((&rating.id, &correction.id), (&kept.id, &kept.id));
    assert_eq!(
        rating.judgement,
        Judgement::Rating {
            answer: "Four.".into(),
            up: false,
            reasons: vec!["wrong".to_owned()],
            comment: None,
        }
    );
    let better = Judgement::Correction { answer: "Four.".into(), correction: "Three.".to_owned() };
    assert_eq!(correction.judgement, better);
    assert_eq!((&*correction.system_prompt, &correction.question), ("Be brief.", &asked.id));
    let turns = [(Role::User, "Count."), (Role::Assistant, "Two."), (Role::User, "Go on.")];
    assert_eq!(*correction.turns, turns.map(|(role, text)| (role, Arc::<str>::from(text))));
}

/// Regression: every choice between two answers to a question held a copy of the chat before it.
#[tokio::test]
async fn judgements_share_the_texts_that_they_have_in_common() {
    let (_folder, store) = fresh_store().await;
    let (id, asked, one, two) = two_answers(&store).await;
    let three = answer_again(&store, &asked.id, "tiny", "Three.").await;
    store.choose(&MINE, &one.id, &[two.id.clone(), three.id.clone()]).await.unwrap();
    let (_, more) = exchange(&store, &id, Some(&one.id), "Go on.", "Four.").await;
    store.set_feedback(&MINE, &more.id, rated(Rating::Up)).await.unwrap();
    let rows = store.training_feedback().await.unwrap();
    let (choices, ratings): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| matches!(row.judgement, Judgement::Choice { .. }));
    let ([first, second], [rating]) = (&choices[..], &ratings[..]) else { panic!("{rows:?}") };
    assert!(Arc::ptr_eq(&first.turns, &second.turns));
    assert!(Arc::ptr_eq(&first.system_prompt, &rating.system_prompt));
    assert!(Arc::ptr_eq(&first.turns[0].1, &rating.turns[0].1), "of the question before too");
    let chosen = |row: &TrainingFeedback| match &row.judgement {
        Judgement::Choice { chosen, .. } => Arc::clone(chosen),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&chosen(first), &chosen(second)));
    assert!(Arc::ptr_eq(&chosen(first), &rating.turns[1].1), "an answer is a turn later");
}

/// Regression: the pairs of one question's answers grew with the square of their number, without an end.
#[tokio::test]
async fn the_judged_pairs_of_one_question_are_limited() {
    let (_folder, store) = fresh_store().await;
    let (id, asked, one, _) = two_answers(&store).await;
    let mut answers = vec![one.id];
    // 24 answers have 276 pairs.
    for number in 1..24 {
        answers.push(answer_again(&store, &asked.id, "tiny", &format!("{number}.")).await.id);
    }
    let mut refused = None;
    for (place, chosen) in answers.iter().enumerate().take(23) {
        if let Err(error) = store.choose(&MINE, chosen, &answers[place + 1..]).await
            && refused.is_none()
        {
            refused = Some((place, error));
        }
    }
    // 23 + 22 + ... + 7 pairs are 255.
    let (place, error) = refused.expect("a limit");
    assert_eq!(place, 17);
    assert!(matches!(error, StoreError::Invalid { field: "rejected", .. }), "{error}");
    assert!(error.to_string().contains("at most 256"), "{error}");
    let pairs = async || {
        let choices = store.choices_in(&MINE, &id).await.unwrap();
        choices.iter().map(|choice| choice.rejected.len()).sum::<usize>()
    };
    assert_eq!(pairs().await, 256, "and what was refused kept nothing of itself");
    // Whoever has judged them all can still judge anew.
    store.choose(&MINE, &answers[1], std::slice::from_ref(&answers[0])).await.unwrap();
    assert_eq!(pairs().await, 256);
    store.remove_choice(&MINE, &answers[2]).await.unwrap();
    store.choose(&MINE, &answers[20], &answers[21..]).await.unwrap();
    let (_, other, _, two) = two_answers(&store).await;
    let better = answer_again(&store, &other.id, "tiny", "Better.").await;
    store.choose(&MINE, &better.id, std::slice::from_ref(&two.id)).await.unwrap();
}

/// Regression: a question could have any number of answers, each of which can be judged beside each other.
#[tokio::test]
async fn the_answers_to_one_question_are_limited() {
    let (_folder, store) = fresh_store().await;
    let (_, asked, _, _) = two_answers(&store).await;
    for _ in 2..200 {
        store.answer_again(&MINE, &asked.id, "tiny".to_owned()).await.unwrap();
    }
    assert_eq!(refusal(store.expect_another_answer(&MINE, &asked.id).await), "id");
    let error = store.answer_again(&MINE, &asked.id, "tiny".to_owned()).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid { field: "id", .. }), "{error}");
    assert!(error.to_string().contains("at most 200"), "{error}");
    // Another question has its own answers.
    let (_, other, _, _) = two_answers(&store).await;
    store.expect_another_answer(&MINE, &other.id).await.unwrap();
    store.answer_again(&MINE, &other.id, "tiny".to_owned()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_marked_where_it_is_liked() {
    let (_folder, store) = fresh_store().await;
    let id = new_conversation(&store).await.id;
    for (status, reason, cut_short) in [
        (Status::Complete, Some("stop"), false),
        (Status::Complete, Some("length"), true),
        (Status::Complete, Some("repetition"), true),
        (Status::Stopped, None, true),
        (Status::Interrupted, None, true),
        (Status::Failed, None, true),
    ] {
        let (_, answer) = store.ask(&MINE, question(&id, None, "Why?")).await.unwrap();
        end(&store, &answer.id, "Because", status, reason).await;
        for (rating, expected) in [(Rating::Up, cut_short), (Rating::Down, false)] {
            store.set_feedback(&MINE, &answer.id, rated(rating)).await.unwrap();
            let rows = store.training_feedback().await.unwrap();
            let last = rows.last().unwrap();
            assert_eq!(last.liked_is_cut_short, expected, "{status} {reason:?} {rating}");
        }
        store.remove_feedback(&MINE, &answer.id).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_consents_who_has_not_said_so() {
    let (_folder, store) = fresh_store().await;
    let (_, _, one, _) = two_answers(&store).await;
    store.set_feedback(&MINE, &one.id, rated(Rating::Up)).await.unwrap();
    let consents = async |store: &Store| store.training_feedback().await.unwrap()[0].consents;
    assert_eq!(store.training_consent(&MINE).await.unwrap().changed_at, None);
    assert!(!consents(&store).await);
    let allowed = store.set_training_consent(&MINE, true).await.unwrap();
    assert!(allowed.allowed && allowed.changed_at.is_some() && consents(&store).await);
    assert_eq!(store.set_training_consent(&MINE, true).await.unwrap(), allowed, "nothing changed");
    let refused = store.set_training_consent(&MINE, false).await.unwrap();
    assert!(!refused.allowed && !consents(&store).await);
}

#[tokio::test]
async fn feedback_in_the_trash_does_not_count_comes_back_and_is_erased_with_its_chat() {
    let (_folder, store) = fresh_store().await;
    let (id, _, one, two) = two_answers(&store).await;
    store.set_feedback(&MINE, &one.id, rated(Rating::Down)).await.unwrap();
    store.choose(&MINE, &two.id, std::slice::from_ref(&one.id)).await.unwrap();
    let before = store.training_feedback().await.unwrap();
    assert_eq!(before.len(), 2);
    store.delete_conversation(&MINE, &id).await.unwrap();
    assert!(store.training_feedback().await.unwrap().is_empty());
    assert!(store.feedback_rows().await.unwrap().iter().all(|row| row.in_trash));
    assert!(store.export_feedback(&MINE).await.unwrap().all(|exported| exported.row.in_trash));
    store.restore_conversation(&MINE, &id).await.unwrap();
    assert_eq!(store.training_feedback().await.unwrap(), before);
    store.delete_conversation(&MINE, &id).await.unwrap();
    store.erase_conversation(&MINE, &id).await.unwrap();
    assert!(store.feedback_rows().await.unwrap().is_empty());
    assert_eq!(store.export_feedback(&MINE).await.unwrap().count(), 0);
}

/// The names of all judgements.
async fn all_now(store: &Store) -> Vec<FeedbackId> {
    store.training_feedback().await.unwrap().into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn what_was_learned_from_is_known_after_the_chat_and_its_feedback_are_gone() {
    let (_folder, store) = fresh_store().await;
    let (id, _, one, two) = two_answers(&store).await;
    assert!(store.improvements_of_conversation(&MINE, &id).await.unwrap().is_empty());
    let rated_one = store.set_feedback(&MINE, &one.id, rated(Rating::Down)).await.unwrap();
    store.choose(&MINE, &two.id, std::slice::from_ref(&one.id)).await.unwrap();
    let is_choice = |row: &TrainingFeedback| matches!(row.judgement, Judgement::Choice { .. });
    let rows = store.training_feedback().await.unwrap();
    let chosen = rows.iter().find(|row| is_choice(row)).unwrap().id.clone();
    let all: Vec<_> = rows.into_iter().map(|row| row.id).collect();
    store.note_training("b-2", &all).await.unwrap();
    store.note_training("b-2", &all).await.unwrap();
    store.note_training("a-1", std::slice::from_ref(&rated_one.id)).await.unwrap();
    for row in store.training_feedback().await.unwrap() {
        let expected: &[&str] = if is_choice(&row) { &["b-2"] } else { &["a-1", "b-2"] };
        assert_eq!(row.trained_in, expected);
    }
    assert_eq!(store.improvements_of_conversation(&MINE, &id).await.unwrap(), ["a-1", "b-2"]);

    store.set_feedback(&MINE, &one.id, rated(Rating::Up)).await.unwrap();
    let rows = store.training_feedback().await.unwrap();
    let changed = rows.iter().find(|row| matches!(row.judgement, Judgement::Rating { .. })).unwrap();
    assert!(changed.trained_in.is_empty(), "nobody learned from the new judgement");
    let gone = store.note_training("c-3", &[chosen, rated_one.id]).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    assert_eq!(
        store.improvements_of_conversation(&MINE, &id).await.unwrap(),
        ["a-1", "b-2"],
        "all or nothing"
    );
    store.note_training("given-up", &all_now(&store).await).await.unwrap();
    store.forget_training("given-up").await.unwrap();
    store.forget_training("never-noted").await.unwrap();
    assert_eq!(store.improvements_of_conversation(&MINE, &id).await.unwrap(), ["a-1", "b-2"]);

    let erased = store.erase_feedback(&MINE).await.unwrap();
    assert_eq!((erased.erased, erased.trained), (2, vec!["a-1".to_owned(), "b-2".to_owned()]));
    assert!(store.training_feedback().await.unwrap().is_empty());
    assert_eq!(store.erase_feedback(&MINE).await.unwrap().erased, 0);
    store.delete_conversation(&MINE, &id).await.unwrap();
    assert_eq!(store.improvements_of_conversation(&MINE, &id).await.unwrap(), ["a-1", "b-2"]);
    store.erase_conversation(&MINE, &id).await.unwrap();
    assert_eq!(store.improvements_of_conversation(&MINE, &id).await.unwrap(), ["a-1", "b-2"]);
}

#[tokio::test]
async fn owners_do_not_reach_each_others_feedback() {
    let (_folder, store) = fresh_store().await;
    store.create_api_key(NewApiKey::named("first")).await.unwrap();
    let other = store.create_api_key(NewApiKey::named("other")).await.unwrap().0.owner;
    let (id, _, one, two) = two_answers(&store).await;
    let said = store.set_feedback(&MINE, &one.id, corrected("Zero.")).await.unwrap();
    let choice = store.choose(&MINE, &one.id, std::slice::from_ref(&two.id)).await.unwrap();
    store.set_training_consent(&MINE, true).await.unwrap();
    store.note_training("a-1", std::slice::from_ref(&said.id)).await.unwrap();

    let missing = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::NotFound { .. })), "{result:?}")
    };
    missing(store.set_feedback(&other, &one.id, rated(Rating::Up)).await.map(drop));
    missing(store.remove_feedback(&other, &one.id).await);
    missing(store.choose(&other, &two.id, std::slice::from_ref(&one.id)).await.map(drop));
    missing(store.remove_choice(&other, &one.id).await);
    missing(store.improvements_of_conversation(&other, &id).await.map(drop));
    assert_eq!(store.feedback(&other, &one.id).await.unwrap(), None);
    assert!(store.feedback_in(&other, &id).await.unwrap().is_empty());
    assert!(store.choices_in(&other, &id).await.unwrap().is_empty());
    assert_eq!(store.export_feedback(&other).await.unwrap().count(), 0);
    assert!(!store.training_consent(&other).await.unwrap().allowed);
    let erased = store.erase_feedback(&other).await.unwrap();
    assert_eq!((erased.erased, erased.trained), (0, Vec::new()));

    assert_eq!(store.feedback_in(&MINE, &id).await.unwrap(), [said]);
    assert_eq!(store.choices_in(&MINE, &id).await.unwrap(), [choice]);
    let exported: Vec<_> = store.export_feedback(&MINE).await.unwrap().collect();
    assert_eq!(exported.len(), 2);
    assert!(exported.iter().all(|exported| exported.row.owner == MINE && exported.row.consents));
    let chosen =
        exported.iter().find(|exported| matches!(exported.row.kind, FeedbackKind::Choice { .. })).unwrap();
    assert_eq!(chosen.answer.message.content, "One.");
    assert_eq!(chosen.rejected.as_ref().unwrap().message.content, "Two.");
}
