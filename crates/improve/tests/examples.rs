//! The examples that judgements make: what contradicts itself, what breaks off, and what becomes of thoughts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use zhenjin_improve::{Answer, Example, Judged, Judgement, Method, Turn, examples};

const BOTH_WAYS: &str = "the same person judged the same both ways";
const BREAKS_OFF: &str = "the answer that is liked breaks off";
const NOT_ALLOWED: &str = "whoever judged does not allow that models learn from it";
const REPEATED: &str = "the same judgement twice";
const NO_WORDS: &str = "an answer without words, here or earlier in the chat";

fn row(owner: &str, question: &str, judgement: Judgement) -> Judged {
    Judged {
        id: format!("{owner} {question} {judgement:?}"),
        owner: owner.to_owned(),
        is_operator: false,
        conversation: "chat".to_owned(),
        question: question.to_owned(),
        at: 0,
        model: "tiny".to_owned(),
        consents: true,
        breaks_off: false,
        prompt: [Turn::new("user", question)].into(),
        judgement,
    }
}

fn choice(chosen: &str, rejected: &str) -> Judgement {
    Judgement::Choice { chosen: chosen.into(), rejected: rejected.into() }
}

fn rating(answer: &str, up: bool) -> Judgement {
    Judgement::Rating { answer: answer.into(), up }
}

fn correction(answer: &str, correction: &str) -> Judgement {
    Judgement::Correction { answer: answer.into(), correction: correction.to_owned() }
}

/// Each example in a few signs: `A>B` for pairs, `+A` and `-A` for thumbs, `A` for answers.
fn made(rows: &[Judged], method: Method) -> (String, BTreeMap<String, usize>) {
    let numbered: Vec<Judged> =
        rows.iter().enumerate().map(|(at, row)| Judged { at: at as i64, ..row.clone() }).collect();
    let (items, left_out) = examples(&numbered, method);
    let signs: Vec<String> = items
        .iter()
        .map(|item| match &item.example {
            Example::Pair { chosen, rejected } => format!("{}>{}", chosen.text, rejected.text),
            Example::Thumb { answer, liked } => format!("{}{}", if *liked { "+" } else { "-" }, answer.text),
            Example::Answer(answer) => answer.text.to_string(),
        })
        .collect();
    (signs.join(" "), left_out)
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}

#[test]
fn pairs_come_from_choices_corrections_and_ratings_of_siblings() {
    let rows = [
        row("anna", "q", choice("A", "B")),
        row("anna", "q", correction("B", "C")),
        row("anna", "q", rating("D", true)),
        row("anna", "q", rating("E", false)),
        row("anna", "other", rating("F", false)),
        row("ben", "q", rating("G", false)),
        row("anna", "q", rating("H", true)),
    ];
    assert_eq!(made(&rows, Method::Dpo), ("A>B C>B D>E H>E".to_owned(), counts(&[])));
    assert_eq!(
        made(&rows, Method::Sft),
        ("C D H".to_owned(), counts(&[])),
        "a chosen answer need not be good"
    );
    let thumbs = "+A -B +C +D -E -F -G +H".to_owned();
    assert_eq!(made(&rows, Method::Kto), (thumbs, counts(&[(REPEATED, 1)])));
}

#[test]
fn what_one_owner_says_both_ways_is_left_out_and_another_owner_does_not_contradict() {
    let rows = [
        row("anna", "q", choice("A", "B")),
        row("ben", "q", choice("B", "A")),
        row("anna", "q", choice("B ", "A")),
        row("anna", "q", choice("A", "C")),
    ];
    assert_eq!(made(&rows, Method::Dpo), ("B>A A>C".to_owned(), counts(&[(BOTH_WAYS, 2)])));
    let indented = [row("anna", "q", choice("  A", "B"))];
    assert_eq!(made(&indented, Method::Dpo).0, "  A>B", "texts stay as they are");

    let rows = [
        row("anna", "q", rating("A", true)),
        row("anna", "q", correction("A", "B")),
        row("anna", "elsewhere", rating("A", false)),
        row("anna", "q", rating("same", true)),
        row("anna", "q", rating("same", false)),
    ];
    assert_eq!(made(&rows, Method::Kto), ("+B -A".to_owned(), counts(&[(BOTH_WAYS, 4)])));
    assert_eq!(made(&rows, Method::Sft), ("B".to_owned(), counts(&[(BOTH_WAYS, 2)])));
    let (pairs, left_out) = made(&rows, Method::Dpo);
    assert_eq!((pairs.as_str(), left_out), ("B>A A>same", counts(&[(BOTH_WAYS, 1)])));
}

#[test]
fn what_may_not_or_should_not_be_learned_is_counted() {
    let refused = Judged { consents: false, ..row("anna", "q", choice("A", "B")) };
    let cut = Judged { breaks_off: true, ..row("ben", "q", choice("A", "B")) };
    let liked = Judged { breaks_off: true, ..row("ben", "p", rating("C", true)) };
    let disliked = row("ben", "p", rating("D", false));
    let empty = row("ben", "e", choice("E", "\n"));
    let mut earlier = row("ben", "f", choice("F", "G"));
    earlier.prompt = [Turn::new("assistant", " "), earlier.prompt[0].clone()].into();
    let rows = [refused, cut, liked, disliked.clone(), disliked, empty, earlier];
    let always = [(NOT_ALLOWED, 1), (BREAKS_OFF, 3), (NO_WORDS, 2)];
    assert_eq!(made(&rows, Method::Dpo), (String::new(), counts(&always)));
    let thumbs = [(NOT_ALLOWED, 1), (BREAKS_OFF, 2), (NO_WORDS, 3), (REPEATED, 1)];
    assert_eq!(made(&rows, Method::Kto), ("-B -D +E".to_owned(), counts(&thumbs)));
    let answers = [(NOT_ALLOWED, 1), (BREAKS_OFF, 1)];
    assert_eq!(made(&rows, Method::Sft), (String::new(), counts(&answers)));
}

#[test]
fn thoughts_are_no_part_of_what_is_compared_and_stay_apart_in_what_is_learned() {
    let thought = |thought: &str, text: &str| Answer { thought: Some(thought.into()), ..Answer::from(text) };
    let judged = |judgement| Judged {
        prompt: [
            Turn::new("user", "hi"),
            Turn { thought: Some("greet".into()), ..Turn::new("assistant", "hello") },
            Turn::new("user", "why?"),
        ]
        .into(),
        ..row("anna", "why?", judgement)
    };
    let corrected = judged(Judgement::Correction {
        answer: thought("I guess", "No."),
        correction: "Because.".to_owned(),
    });
    let alike =
        judged(Judgement::Choice { chosen: thought("one", "Yes."), rejected: thought("two", "Yes.") });
    let (items, left_out) = examples(&[corrected.clone(), alike], Method::Dpo);
    assert_eq!(left_out, counts(&[(BOTH_WAYS, 1)]), "nobody sees a difference between them");
    let prompt = json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "hello", "reasoning_content": "greet" },
        { "role": "user", "content": "why?" },
    ]);
    let message =
        |text: &str| json!([{ "role": "assistant", "content": text, "reasoning_content": "I guess" }]);
    let expected = json!({ "prompt": prompt, "chosen": message("Because."), "rejected": message("No.") });
    assert_eq!(items[0].to_json(), expected, "a corrected answer keeps the thought");
    let (items, _) = examples(&[corrected], Method::Sft);
    assert_eq!(items[0].to_json()["messages"][1]["weight"], 0, "only the judged answer is imitated");
    assert_eq!(items[0].to_json()["messages"][3], message("Because.")[0]);
}

/// Regression: each example had a copy of its own of the chat before it and of its answers: three of each choice, and of one question with
/// many ratings hundreds.
#[test]
fn examples_share_what_was_said_before_them_and_their_answers() {
    let prompt: Arc<[Turn]> = [Turn::new("user", "a long chat")].into();
    let answer = |name: &str| Answer { thought: Some(format!("of {name}").into()), ..Answer::from(name) };
    let [good, bad] = [answer("good"), answer("bad")];
    let judged = |id: &str, judgement: Judgement| Judged {
        id: id.to_owned(),
        prompt: Arc::clone(&prompt),
        ..row("anna", "q", judgement)
    };
    let choice = Judgement::Choice { chosen: good.clone(), rejected: bad.clone() };
    let rated = |name: &str, up: bool| judged(name, Judgement::Rating { answer: answer(name), up });
    let rows = [judged("a choice", choice), rated("A", true), rated("B", true), rated("C", false)];
    for (method, count) in [(Method::Dpo, 3), (Method::Kto, 5), (Method::Sft, 2)] {
        let (items, _) = examples(&rows, method);
        assert_eq!(items.len(), count, "{method}");
        assert!(items.iter().all(|item| Arc::ptr_eq(&item.prompt, &prompt)), "{method}");
    }
    let (items, _) = examples(&rows, Method::Dpo);
    let shared = items.iter().find_map(|item| match &item.example {
        Example::Pair { chosen, rejected } if *chosen == good => Some((chosen, rejected)),
        _ => None,
    });
    let (chosen, rejected) = shared.expect("the choice's pair");
    assert!(Arc::ptr_eq(&chosen.text, &good.text) && Arc::ptr_eq(&rejected.text, &bad.text));
}

/// What was said before is compared by its words, whether it is shared or not.
#[test]
fn the_same_chat_twice_in_memory_is_one() {
    let spaced = Judged { prompt: [Turn::new("user", " q\n")].into(), ..row("anna", "q", choice("A", "B")) };
    let rows = [row("anna", "q", choice("A", "B")), spaced, row("anna", "other", choice("A", "B"))];
    assert_eq!(made(&rows, Method::Dpo), ("A>B A>B".to_owned(), counts(&[(REPEATED, 1)])));
}
