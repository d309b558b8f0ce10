//! Which examples are held out, how many of them count, and that the same ones are made again of the judgements behind them.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use zhenjin_improve::{
    Again, Collection, Division, Item, Judged, Judgement, Limits, Method, Order, Turn, collect, collect_again,
};

const MODEL: &str = "smollm2";

/// A judgement of an answer to a question of its own, in a chat of its own.
fn judged(number: usize, owner: &str, judgement: Judgement) -> Judged {
    Judged {
        id: format!("{owner}-{number}"),
        owner: owner.to_owned(),
        is_operator: false,
        conversation: format!("{owner}-conversation-{number}"),
        question: format!("{owner}-question-{number}"),
        at: number as i64,
        model: MODEL.to_owned(),
        consents: true,
        breaks_off: false,
        prompt: [Turn::new("user", format!("question {number}"))].into(),
        judgement,
    }
}

fn choice(number: usize, owner: &str) -> Judged {
    let judgement =
        Judgement::Choice { chosen: format!("good {number}").as_str().into(), rejected: "bad".into() };
    judged(number, owner, judgement)
}

fn choices(count: usize, owner: &str) -> Vec<Judged> {
    (0..count).map(|number| choice(number, owner)).collect()
}

/// So many likes and then so many dislikes of answers to one question.
fn rated(likes: usize, dislikes: usize, prompt: &[Turn]) -> Vec<Judged> {
    let rating = |number: usize| Judged {
        conversation: "one chat".to_owned(),
        question: "one question".to_owned(),
        prompt: prompt.into(),
        ..judged(
            number,
            "rater",
            Judgement::Rating { answer: format!("answer {number}").as_str().into(), up: number < likes },
        )
    };
    (0..likes + dislikes).map(rating).collect()
}

fn few() -> Limits {
    Limits { least_train: 0, least_held_out: 0, ..Limits::default() }
}

fn collected(rows: &[Judged], limits: &Limits) -> Collection {
    collect(rows, MODEL, Some(Method::Dpo), limits).expect("nothing is too few")
}

fn questions(items: &[Item]) -> BTreeSet<String> {
    items.iter().map(|item| item.prompt.last().expect("a question").content.trim().to_owned()).collect()
}

/// Made of the judgements behind a collection alone, as a recipe names them.
fn again(rows: &[Judged], collection: &Collection, without: &[Vec<String>]) -> Collection {
    let items = collection.train.iter().chain(&collection.held_out);
    let names: BTreeSet<&String> = items.flat_map(|item| &item.rows).collect();
    let rows: Vec<Judged> = rows.iter().filter(|row| names.contains(&row.id)).cloned().collect();
    // As a recipe says it.
    let division = Division::of_recipe(&collection.division.to_string()).expect("a division");
    collect_again(&rows, MODEL, &Again { method: collection.method, division, order: Order::Name, without })
}

/// Two people who asked the same in two chats were once learned from and held out.
#[test]
fn what_two_people_ask_is_on_one_side() {
    let mut rows = choices(100, "a");
    rows.extend(choices(100, "b").into_iter().map(|row| {
        let question = format!("  {}\n", row.prompt[0].content);
        Judged { prompt: [Turn::new("system", "be brief"), Turn::new("user", question)].into(), ..row }
    }));
    let collection = collected(&rows, &few());
    assert_eq!(collection.train.len() + collection.held_out.len(), 200);
    let [train, held_out] = [&collection.train, &collection.held_out].map(|items| questions(items));
    assert!(!held_out.is_empty() && train.is_disjoint(&held_out), "{held_out:?}");
    assert_eq!(collection.held_out_units(), held_out.len());
    // What follows the first answer does not matter.
    let prompt = |number: usize| -> Arc<[Turn]> {
        let texts = ["first".to_owned(), format!("answer {number}"), format!("question {number}")];
        let roles = ["user", "assistant", "user"];
        roles.into_iter().zip(texts).map(|(role, text)| Turn::new(role, text)).collect()
    };
    let rows: Vec<Judged> =
        (0..100).map(|number| Judged { prompt: prompt(number), ..choice(number, "a") }).collect();
    let collection = collected(&rows, &few());
    assert!(collection.train.is_empty() || collection.held_out.is_empty());
}

/// With the tenth conversation, what had been learned from was once held out.
#[test]
fn more_conversations_change_no_side() {
    let rows: Vec<Judged> = choices(100, "a")
        .into_iter()
        .enumerate()
        .map(|(number, row)| Judged { conversation: format!("chat {}", number / 10), ..row })
        .collect();
    let before = collected(&rows[..90], &few());
    let after = collected(&rows, &few());
    assert_eq!((before.counts.conversations, after.counts.conversations), (9, 10));
    assert!(questions(&before.train).is_subset(&questions(&after.train)));
    assert!(questions(&before.held_out).is_subset(&questions(&after.held_out)));
}

#[test]
fn recipes_of_earlier_versions_divide_by_names() {
    assert_eq!(Division::of_recipe(""), Ok(Division::Names));
    for division in [Division::Opening, Division::UpTo(7), Division::UpTo(u32::MAX), Division::Names] {
        assert_eq!(Division::of_recipe(&division.to_string()), Ok(division));
    }
    for word in ["stars", "opening up to", "opening up to 4294967296", "opening up to -1"] {
        let error = Division::of_recipe(word).expect_err("unknown");
        assert!(error.contains(&format!("`{word}`")), "{error}");
    }
    let prompt: Arc<[Turn]> = [Turn::new("user", "the same")].into();
    let rows: Vec<Judged> =
        choices(100, "a").into_iter().map(|row| Judged { prompt: prompt.clone(), ..row }).collect();
    let earlier = collected(&rows, &Limits { division: Division::Names, ..few() });
    assert!(!earlier.train.is_empty() && !earlier.held_out.is_empty());
    let again = Again { method: Method::Dpo, division: Division::Names, order: Order::Name, without: &[] };
    let made = collect_again(&rows, MODEL, &again);
    assert_eq!((made.train, made.held_out), (earlier.train, earlier.held_out));
}

/// Earlier versions bounded people's shares and then divided what was left, where ten questions were enough to hold out five. Their records
/// say how, and it is done so again.
#[test]
fn recipes_of_earlier_versions_divide_what_was_used() {
    let rows = choices(10, "a");
    let division = Division::of_recipe("opening").expect("a division");
    let again = Again { method: Method::Dpo, division, order: Order::Time, without: &[] };
    let made = collect_again(&rows, MODEL, &again);
    assert_eq!((made.train.len(), made.held_out.len()), (5, 5));
    let division = made.division;
    let of_five = collect_again(&rows[..5], MODEL, &Again { division, ..again });
    assert!(questions(&of_five.held_out).is_subset(&questions(&made.held_out)));
    assert!(questions(&of_five.train).is_subset(&questions(&made.train)));
}

/// The side of an example once depended on which others were used, and a comment, which changes when something was said last, changed the
/// order of the examples and so every bit of what learned from them.
#[test]
fn what_is_said_besides_changes_neither_the_order_nor_the_sides() {
    let mut rows = [choices(30, "a"), choices(12, "b"), rated(5, 5, &[Turn::new("user", "?")])].concat();
    let collection = collected(&rows, &Limits { of_a_person: Some(15), ..few() });
    let count = rows.len() as i64;
    for (number, row) in rows.iter_mut().enumerate() {
        row.at = (number as i64 * 7) % count;
    }
    let made = again(&rows, &collection, &collection.without);
    let names = |items: &[Item]| items.iter().map(|item| item.rows.clone()).collect::<Vec<_>>();
    assert_eq!(names(&made.train), names(&collection.train));
    assert_eq!(names(&made.held_out), names(&collection.held_out));
    assert!(names(&made.train).is_sorted() && names(&made.held_out).is_sorted());
}

/// Records of earlier versions say no order, and keep that of the times.
#[test]
fn recipes_of_earlier_versions_order_by_time() {
    assert_eq!((Order::of_recipe(""), Order::of_recipe("time")), (Ok(Order::Time), Ok(Order::Time)));
    assert_eq!(Order::of_recipe(Order::default().as_str()), Ok(Order::Name));
    let error = Order::of_recipe("chance").expect_err("unknown");
    assert!(error.contains("`chance`"), "{error}");
    let rows: Vec<Judged> =
        choices(40, "a").into_iter().map(|row| Judged { at: 100 - row.at, ..row }).collect();
    let again = Again { method: Method::Dpo, division: Division::Opening, order: Order::Time, without: &[] };
    let times = |order: Order| -> Vec<i64> {
        collect_again(&rows, MODEL, &Again { order, ..again }).train.iter().map(|item| item.at).collect()
    };
    let (of_time, of_name) = (times(Order::Time), times(Order::Name));
    assert!(of_time.is_sorted() && !of_name.is_sorted(), "{of_time:?} {of_name:?}");
}

/// Four liked and four disliked answers to one question once counted as sixteen held-out examples.
#[test]
fn sixteen_pairs_of_one_question_are_not_enough_to_hold_out() {
    let divided = collected(&choices(200, "a"), &few());
    let train: BTreeSet<String> = divided.train.iter().flat_map(|item| item.rows.clone()).collect();
    let learned = choices(200, "a").into_iter().filter(|row| train.contains(&row.id));
    let mut rows: Vec<Judged> = learned.take(8).collect();
    rows.extend(rated(4, 4, &divided.held_out[0].prompt));
    let too_few = collect(&rows, MODEL, Some(Method::Dpo), &Limits::default()).expect_err("one question");
    assert_eq!((too_few.held_out, too_few.held_out_units), (16, 1));
    let text = too_few.to_string();
    assert!(text.contains("held out: 16, of 1 first questions"), "{text}");
}

/// Of twenty questions, a fifth by their hashes is often fewer than a gate needs.
#[test]
fn of_few_questions_as_many_are_held_out_as_a_gate_needs() {
    for first in (0..400).step_by(20) {
        let rows: Vec<Judged> = choices(first + 20, "a").split_off(first);
        let collection = collected(&rows, &few());
        let held_out = collection.held_out_units();
        assert!((Limits::LEAST_HELD_OUT..=12).contains(&held_out), "{held_out} of 20, from {first} on");
        let made = again(&rows, &collection, &collection.without);
        assert_eq!((&made.train, &made.held_out), (&collection.train, &collection.held_out));
        // Whatever is judged later, nothing that was learned from is held out.
        let more: Vec<Judged> = choices(first + 60, "a").split_off(first);
        let later = collected(&more, &few());
        assert!(questions(&collection.train).is_disjoint(&questions(&later.held_out)));
    }
}

/// The judgements behind the pairs that were left make all pairs, so the same adapter could once not be trained again.
#[test]
fn pairs_beyond_a_persons_share_are_not_made_again() {
    let rows = rated(6, 4, &[Turn::new("user", "?")]);
    let collection = collected(&rows, &Limits { of_a_person: Some(20), ..few() });
    assert_eq!((collection.counts.train + collection.counts.held_out, collection.without.len()), (20, 4));
    let made = again(&rows, &collection, &collection.without);
    assert_eq!((&made.train, &made.held_out), (&collection.train, &collection.held_out));
    let all = again(&rows, &collection, &[]);
    assert_eq!(all.train.len() + all.held_out.len(), 24);
}

/// A choice is two thumbs. Where another judgement contradicts one of them, the other is left, and the choice alone says both.
#[test]
fn what_was_contradicted_is_not_made_again() {
    let prompt: Arc<[Turn]> = [Turn::new("user", "?")].into();
    let choice = Judgement::Choice { chosen: "x".into(), rejected: "y".into() };
    let rows = [
        Judged { prompt: prompt.clone(), ..judged(0, "a", choice) },
        Judged { prompt, ..judged(1, "a", Judgement::Rating { answer: "x".into(), up: false }) },
    ];
    let collection = collect(&rows, MODEL, Some(Method::Kto), &few()).expect("nothing is too few");
    assert_eq!(collection.without, [["a-0".to_owned(), "liked".to_owned()]]);
    let made = again(&rows, &collection, &collection.without);
    assert_eq!((made.train, made.held_out), (collection.train, collection.held_out));
}

proptest! {
    #[test]
    fn examples_are_made_again_of_the_judgements_behind_them(
        kinds in proptest::collection::vec((0_usize..6, 0_usize..2, 0_usize..4, 0_usize..3, any::<bool>()), 0..60),
        method in proptest::sample::select(vec![Method::Dpo, Method::Kto, Method::Sft]),
        limit in 1_usize..30,
    ) {
        let rows: Vec<Judged> = kinds
            .iter()
            .enumerate()
            .map(|(index, (number, owner, kind, answer, up))| {
                let [one, other] = [format!("answer {answer}"), format!("answer {}", answer + 1)];
                let judgement = match kind {
                    0 => Judgement::Choice { chosen: one.as_str().into(), rejected: other.as_str().into() },
                    1 => Judgement::Correction { answer: one.as_str().into(), correction: other },
                    _ => Judgement::Rating { answer: one.as_str().into(), up: *up },
                };
                let row = judged(*number, ["a", "b"][*owner], judgement);
                Judged { id: format!("row {index}"), at: index as i64 / 3, ..row }
            })
            .collect();
        let limits = Limits { of_a_person: Some(limit), ..few() };
        let collection = collect(&rows, MODEL, Some(method), &limits).expect("nothing is too few");
        let made = again(&rows, &collection, &collection.without);
        prop_assert_eq!(&made.train, &collection.train);
        prop_assert_eq!(&made.held_out, &collection.held_out);
    }
}
