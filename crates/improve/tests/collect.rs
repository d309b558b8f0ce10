//! Which judgements count, how a model learns from them, and which are held out.

use std::collections::BTreeSet;

use proptest::prelude::*;
use zhenjin_improve::{Collection, Example, Item, Judged, Judgement, Limits, Method, Turn, collect};

const MODEL: &str = "smollm2";

/// The names of judgements sort by age, as those of the store do.
fn judged(number: usize, owner: &str, judgement: Judgement) -> Judged {
    Judged {
        id: format!("{owner}-{number:04}"),
        owner: owner.to_owned(),
        is_operator: owner == "operator",
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
    judged(number, owner, choose(&format!("good {number}"), &format!("bad {number}")))
}

fn choose(chosen: &str, rejected: &str) -> Judgement {
    Judgement::Choice { chosen: chosen.into(), rejected: rejected.into() }
}

fn rating(number: usize, owner: &str, answer: &str, up: bool) -> Judged {
    judged(number, owner, Judgement::Rating { answer: answer.into(), up })
}

fn choices(count: usize, owner: &str) -> Vec<Judged> {
    (0..count).map(|number| choice(number, owner)).collect()
}

fn collected(rows: &[Judged]) -> Collection {
    collect(rows, MODEL, None, &Limits::default()).expect("enough")
}

/// Of however few.
fn collected_of_few(rows: &[Judged], limits: &Limits) -> Collection {
    let limits = Limits { least_train: 0, least_held_out: 0, ..*limits };
    collect(rows, MODEL, None, &limits).expect("nothing is too few")
}

fn left_out(collection: &Collection, part: &str) -> usize {
    let found = collection.counts.left_out.iter().filter(|left_out| left_out.reason.contains(part));
    found.map(|left_out| left_out.count).sum()
}

#[test]
fn choices_and_corrections_become_pairs() {
    let mut rows = choices(100, "a");
    rows.push(judged(
        200,
        "a",
        Judgement::Correction { answer: "wrong".into(), correction: "right".to_owned() },
    ));
    let collection = collected(&rows);
    assert_eq!(collection.method, Method::Dpo);
    assert_eq!(
        (collection.counts.pairs, collection.counts.corrections, collection.counts.ratings),
        (100, 1, 0)
    );
    assert_eq!(collection.train.len() + collection.held_out.len(), 101);
    assert!((5..45).contains(&collection.held_out.len()), "{}", collection.held_out.len());
    let all = collection.train.iter().chain(&collection.held_out);
    let corrected = all.clone().find(|item| item.rows == ["a-0200"]).expect("the correction");
    assert_eq!(corrected.example, Example::Pair { chosen: "right".into(), rejected: "wrong".into() });
    assert_eq!(
        corrected.to_json().to_string(),
        r#"{"prompt":[{"role":"user","content":"question 200"}],"chosen":[{"role":"assistant","content":"right"}],"rejected":[{"role":"assistant","content":"wrong"}]}"#
    );
}

#[test]
fn no_conversation_is_learned_from_and_held_out() {
    let mut rows = Vec::new();
    for number in 0..200 {
        let turn = |role, text: &str, number: usize| Turn::new(role, format!("{text} {number}"));
        rows.push(Judged {
            conversation: format!("conversation {}", number / 4),
            prompt: [
                turn("user", "opening", number / 4),
                turn("assistant", "answer", number / 4),
                turn("user", "question", number),
            ]
            .into(),
            ..choice(number, "a")
        });
    }
    let collection = collected_of_few(&rows, &Limits::default());
    let of = |items: &[Item]| items.iter().map(|item| item.conversation.clone()).collect::<BTreeSet<_>>();
    assert!(of(&collection.train).is_disjoint(&of(&collection.held_out)));
    // What was held out once stays so when more judgements come.
    let mut more = choices(300, "b");
    more.extend(rows);
    let later = collected(&more);
    assert!(of(&later.train).is_disjoint(&of(&collection.held_out)));
}

#[test]
fn thumbs_on_answers_to_one_question_become_a_pair_and_others_are_learned_one_by_one() {
    let mut rows = Vec::new();
    for number in 0..60 {
        rows.push(rating(number, "a", &format!("answer {number}"), number.is_multiple_of(2)));
    }
    let collection = collected_of_few(&rows, &Limits::default());
    assert_eq!((collection.method, collection.counts.ratings), (Method::Kto, 60));
    let beside: Vec<Judged> = (0..60)
        .map(|number| {
            let mut row = rating(number / 2, "a", &format!("answer {number}"), number.is_multiple_of(2));
            row.id = format!("row {number}");
            row
        })
        .collect();
    let collection = collected_of_few(&beside, &Limits::default());
    assert_eq!((collection.method, collection.train.len() + collection.held_out.len()), (Method::Dpo, 30));
    let liked: Vec<Judged> = (0..60).map(|number| rating(number, "a", &number.to_string(), true)).collect();
    assert_eq!(collected_of_few(&liked, &Limits::default()).method, Method::Sft);
}

#[test]
fn nobody_learns_from_what_was_not_allowed_or_is_of_another_model() {
    let mut rows = choices(100, "operator");
    rows.extend(choices(30, "b").into_iter().map(|row| Judged { consents: false, ..row }));
    rows.extend(choices(20, "c").into_iter().map(|row| Judged { model: "other".to_owned(), ..row }));
    rows.extend(choices(10, "d").into_iter().map(|row| Judged { model: "smollm2+tuned".to_owned(), ..row }));
    let collection = collected(&rows);
    assert_eq!(collection.counts.pairs, 110);
    assert_eq!((left_out(&collection, "does not allow"), left_out(&collection, "another model")), (30, 20));
}

#[test]
fn one_person_who_contradicts_themselves_a_thousand_times_has_no_say() {
    let honest = choices(100, "honest");
    let mut rows = honest.clone();
    for number in 0..500 {
        let pair = |id: &str, chosen: &str, rejected: &str| Judged {
            id: id.to_owned(),
            ..judged(number, "troll", choose(chosen, rejected))
        };
        rows.push(pair(&format!("{number} one way"), "x", "y"));
        rows.push(pair(&format!("{number} other way"), "y", "x"));
    }
    let collection = collected(&rows);
    assert_eq!(left_out(&collection, "both ways"), 1000);
    assert_eq!(collection.train, collected(&honest).train);
    assert_eq!(collection.held_out, collected(&honest).held_out);
}

/// The troll's thousand thumbs once made the honest people's choices be learned as thumbs.
#[test]
fn what_does_not_count_does_not_choose_the_method() {
    let honest = choices(100, "honest");
    let mut rows = honest.clone();
    for number in 0..500 {
        rows.push(Judged { id: format!("{number} up"), ..rating(number, "troll", "x", true) });
        rows.push(Judged { id: format!("{number} down"), ..rating(number, "troll", "x", false) });
    }
    let collection = collected(&rows);
    assert_eq!(collection.method, Method::Dpo);
    assert_eq!(collection.train, collected(&honest).train);
    assert_eq!(collection.held_out, collected(&honest).held_out);
    // Nor do thumbs beyond a person's share.
    let mut rows = honest;
    rows.extend(
        (0..1000)
            .map(|number| rating(number, "troll", &format!("answer {number}"), number.is_multiple_of(2))),
    );
    let collection = collected(&rows);
    assert_eq!(collection.method, Method::Dpo, "{:?}", collection.counts);
}

#[test]
fn whoever_contradicts_all_others_is_outvoted() {
    let mut rows: Vec<Judged> = ["a", "b", "c"].iter().flat_map(|owner| choices(20, owner)).collect();
    rows.extend(choices(1000, "troll"));
    let collection = collected_of_few(&rows, &Limits::default());
    let count = |items: &[Item], owner: &str| items.iter().filter(|item| item.owner == owner).count();
    let of = |owner: &str| [count(&collection.train, owner), count(&collection.held_out, owner)];
    // A fifth of what everybody may contribute is of what is held out.
    assert_eq!((of("a"), of("b"), of("c"), of("troll")), ([18, 2], [18, 2], [18, 2], [20, 4]));
    // The newest ones count.
    let newest =
        |items: &[Item]| items.iter().filter(|item| item.owner == "troll").all(|item| item.at >= 960);
    assert!(newest(&collection.train) && newest(&collection.held_out));
    assert_eq!(left_out(&collection, "share: the newest 20 of `troll` count"), 791);
    assert_eq!(left_out(&collection, "what is held out: the newest 4 of `troll` count"), 185);
    // Few others do not silence the person whose machine it is, nor anybody wholly.
    let counted = |rows: &[Judged], limits: &Limits| {
        let collection = collected_of_few(rows, limits);
        (collection.counts.train + collection.counts.held_out, collection.counts.owners)
    };
    let with_operator: Vec<Judged> = [choices(300, "operator"), choices(20, "guest")].concat();
    assert_eq!(counted(&with_operator, &Limits::default()), (260, 2));
    let with_user: Vec<Judged> = [choices(300, "user"), choices(20, "guest")].concat();
    assert_eq!(counted(&with_user, &Limits::default()), (260, 2), "against one other nobody can be outvoted");
    let thumbs = |count: usize, owner: &'static str| {
        (0..count)
            .map(move |number| rating(number, owner, &format!("answer {number}"), number.is_multiple_of(2)))
    };
    let rated: Vec<Judged> = thumbs(300, "user").chain(thumbs(20, "guest")).collect();
    assert_eq!(counted(&rated, &Limits::default()), (44, 2), "thumbs are cheap");
    let limits = Limits { of_a_person: Some(400), ..Limits::default() };
    assert_eq!(counted(&rows, &limits), (400 + 80 + 60, 4));
    let alone = collected(&choices(1000, "alone"));
    assert_eq!((alone.train.len(), alone.held_out.len()), (Limits::MOST_OF_A_PERSON, 100));
}

/// A person's share was once bounded before the examples were divided: with all of it in one chat, 100 of the 140 examples that were held out
/// were of one question.
#[test]
fn whoever_says_much_about_one_question_has_no_greater_share_of_what_is_held_out() {
    let divided = collected(&choices(200, "a"));
    let held_out = divided.held_out.len();
    let rated = |prompt: &[Turn]| -> Vec<Judged> {
        let of_chat = |number: usize| Judged {
            question: "the only one".to_owned(),
            prompt: prompt.into(),
            ..rating(number, "troll", &format!("answer {number}"), number.is_multiple_of(2))
        };
        (0..32).map(of_chat).collect()
    };
    for prompt in [&divided.held_out[0].prompt, &divided.train[0].prompt] {
        // 16 liked answers beside 16 others are 256 pairs.
        let rows = [choices(200, "a"), rated(prompt)].concat();
        let collection = collect(&rows, MODEL, Some(Method::Dpo), &Limits::default()).expect("enough");
        for (items, others) in [(&collection.held_out, held_out), (&collection.train, 200 - held_out)] {
            let of_troll = items.iter().filter(|item| item.owner == "troll").count();
            assert_eq!(items.len() - of_troll, others, "nobody else has less");
            assert!(of_troll <= others / 2, "{of_troll} beside {others}");
        }
    }
}

/// Where many ask the same, what they say is of few questions, each of which weighs the same: one person with as many questions of their own
/// would outvote them all.
#[test]
fn whoever_asks_other_questions_than_all_others_is_outvoted() {
    let mut rows: Vec<Judged> =
        ["a", "b", "c", "d", "e"].iter().flat_map(|owner| choices(50, owner)).collect();
    let of_others = collected(&rows).held_out_units();
    rows.extend((500..1000).map(|number| choice(number, "troll")));
    let collection = collected(&rows);
    let of_troll = collection.held_out.iter().filter(|item| item.owner == "troll").count();
    assert_eq!((of_troll, collection.held_out_units()), (4, of_others + 4));
    assert_eq!(collection.held_out.len(), 5 * of_others + 4, "the others keep all that they said");
}

/// A question counted a tenth where ten choices were made on it, and wholly in the gate although nine of them were left out.
#[test]
fn whoever_judges_many_questions_in_rounds_has_no_more_of_them_held_out() {
    let mut rows: Vec<Judged> = ["a", "b"].iter().flat_map(|owner| choices(50, owner)).collect();
    let of_others = collected(&rows).held_out_units();
    rows.extend((0..2000).map(|number| Judged {
        prompt: [Turn::new("user", format!("question {}", 500 + number % 200))].into(),
        ..choice(number, "busy")
    }));
    let collection = collected(&rows);
    let of_busy = collection.held_out.iter().filter(|item| item.owner == "busy");
    let questions: BTreeSet<String> = of_busy.map(Item::opening).collect();
    assert_eq!(questions.len(), of_others / 2, "half as many as all others have together");
}

/// A person of whom nothing is held out is there all the same: between the other two, numbers would else decide what is measured and not what
/// is learned.
#[test]
fn a_third_person_of_whom_nothing_is_held_out_counts_as_one() {
    let all: Vec<Judged> = (0..1000).map(|number| choice(number, "a")).collect();
    let limits = Limits { of_a_person: Some(usize::MAX), ..Limits::default() };
    let learned = collected_of_few(&all, &limits).train;
    let mut rows = choices(200, "a");
    rows.extend((200..300).map(|number| choice(number, "b")));
    let of_third = learned.iter().filter(|item| item.at >= 300).take(5);
    rows.extend(of_third.map(|item| choice(usize::try_from(item.at).expect("a number"), "c")));
    let held_out = collected(&rows).held_out;
    let count = |owner: &str| held_out.iter().filter(|item| item.owner == owner).count();
    assert_eq!(count("c"), 0);
    assert!(count("b") > 4 && count("a") <= count("b"), "{} beside {}", count("a"), count("b"));
}

#[test]
fn a_plus_in_a_models_own_name_is_part_of_it() {
    let model = "/opt/c++/m.gguf";
    let of = |names: &[&str], model: &str| {
        let rows: Vec<Judged> = names
            .iter()
            .enumerate()
            .map(|(number, name)| Judged { model: (*name).to_owned(), ..choice(number, "a") })
            .collect();
        let limits = Limits { least_train: 0, least_held_out: 0, ..Limits::default() };
        collect(&rows, model, None, &limits).expect("nothing is too few").counts.pairs
    };
    assert_eq!(of(&[model, "/opt/c++/m.gguf+tuned", "/opt/c++/m.gguf+base"], model), 3);
    assert_eq!(of(&[model, "/opt/c+tuned"], "/opt/c"), 1);
    assert_eq!(of(&["smollm2:135m", "smollm2", "smollm"], "smollm2"), 1);
}

#[test]
fn a_thousand_thumbs_on_answers_to_one_question_do_not_make_a_quarter_million_pairs() {
    let mut rows = choices(30, "honest");
    for number in 0..1000 {
        let row = rating(number, "busy", &format!("answer {number}"), number.is_multiple_of(2));
        rows.push(Judged {
            question: "the only one".to_owned(),
            prompt: [Turn::new("user", "?")].into(),
            ..row
        });
    }
    let of_a_person = Some(usize::MAX);
    let limits = Limits { of_a_person, least_train: 0, least_held_out: 0, ..Limits::default() };
    let collection = collect(&rows, MODEL, Some(Method::Dpo), &limits).expect("nothing is too few");
    assert_eq!(collection.counts.train + collection.counts.held_out, 30 + 16 * 16);
    let all = collection.train.iter().chain(&collection.held_out).filter(|item| item.owner == "busy");
    assert!(all.clone().count() == 256 && all.clone().all(|item| item.at >= 968));
}

#[test]
fn too_few_judgements_are_counted_in_the_error() {
    let mut rows = choices(10, "a");
    rows.extend(choices(30, "b").into_iter().map(|row| Judged { consents: false, ..row }));
    let error = collect(&rows, MODEL, None, &Limits::default()).expect_err("too few").to_string();
    assert!(error.contains("at least 20") && error.contains("30 (whoever judged does not allow"), "{error}");
    assert!(collect(&[], MODEL, None, &Limits::default()).is_err());
}

proptest! {
    #[test]
    fn the_order_of_judgements_and_repetitions_do_not_matter(
        kinds in proptest::collection::vec((0_usize..40, 0_usize..3, 0_usize..4, any::<bool>(), any::<bool>()), 0..120),
    ) {
        let rows: Vec<Judged> = kinds
            .iter()
            .enumerate()
            .map(|(index, (number, owner, kind, up, consents))| {
                let owner = ["a", "b", "c"][*owner];
                let answers = [format!("one {number}"), format!("two {number}")];
                let [chosen, rejected] = if *up { answers } else { let [one, two] = answers; [two, one] };
                let judgement = match kind {
                    0 => choose(&chosen, &rejected),
                    1 => Judgement::Correction { answer: rejected.as_str().into(), correction: chosen },
                    _ => Judgement::Rating { answer: chosen.as_str().into(), up: *up },
                };
                Judged { id: format!("row {index}"), consents: *consents, ..judged(*number, owner, judgement) }
            })
            .collect();
        let limits = Limits { least_train: 0, least_held_out: 0, ..Limits::default() };
        let collection = collect(&rows, MODEL, None, &limits).expect("no least");
        let backwards: Vec<Judged> = rows.iter().rev().cloned().collect();
        prop_assert_eq!(&collect(&backwards, MODEL, None, &limits).expect("no least"), &collection);
        for item in collection.train.iter().chain(&collection.held_out) {
            for id in &item.rows {
                let row = rows.iter().find(|row| row.id == *id).expect("a judgement");
                prop_assert!(row.consents && row.owner == item.owner);
            }
        }
    }
}
