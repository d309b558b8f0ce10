//! The commonest mistakes in files of examples, and what is said of them.

use crate::support::*;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use zhenjin_align::data::{
    BadPolicy, Body, CheckOptions, DataError, Dataset, Encoder, LearntAnswers, ReadOptions, Report, check,
};
use zhenjin_conversation::Message;

fn read_text(text: &str, bad: BadPolicy) -> Result<Dataset, DataError> {
    let files = Files::new();
    let options = ReadOptions { bad, ..ReadOptions::default() };
    Dataset::read(&[files.write("data.json", text)], &options)
}

/// What is said of a text, whatever happens to bad records.
fn refused(text: &str) -> [String; 2] {
    let said = |bad| read_text(text, bad).expect_err(text).to_string();
    [said(BadPolicy::Stop), said(BadPolicy::Drop)]
}

fn said(messages: &[Message]) -> Vec<(&str, &str)> {
    messages.iter().map(|message| (message.role.name(), message.content.as_str())).collect()
}

fn report(data: &Dataset, encoder: Option<&Encoder<'_>>) -> Report {
    let options = CheckOptions { context: None, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
    check(data, None, encoder, &options).unwrap()
}

fn talk(answer: &str) -> Value {
    json!({"messages": [message("user", "q"), message("assistant", answer)]})
}

/// A line within an indented record decided what was said of the file, and a list in a field was an object of no known format.
#[test]
fn indented_and_wrapped_records_are_told_how_to_stand() {
    let record = talk("a");
    let indented = format!("{record:#}");
    assert_eq!(read_text(&indented, BadPolicy::Stop).unwrap().examples.len(), 1);
    let with_whole_line = "{\"messages\": [\n{\"role\": \"user\", \"content\": \"q\"}\n]}\n{}";
    for text in [format!("{indented}\n{indented}"), with_whole_line.to_owned()] {
        let [stop, _] = refused(&text);
        assert!(stop.contains(":1: ") && stop.contains("a record must stand on one line"), "{stop}");
    }
    for message in refused(&format!("{record},\n{record},\n")) {
        assert!(message.contains("a comma stands behind the record"), "{message}");
    }
    let wrapped = json!({"data": [record, record]});
    for text in [wrapped.to_string(), format!("{wrapped:#}")] {
        for message in refused(&text) {
            assert!(message.contains("take the list out of `data`"), "{message}");
        }
    }
}

/// Such pairs had "no common prompt", and such texts no known format.
#[test]
fn a_dialogue_whose_turns_single_line_breaks_divide_is_told_so() {
    let whole = |answer: &str| format!("Human: q\nAssistant: {answer}");
    let later = |answer: &str| format!("Human: q\n\nAssistant: b\n\nHuman: c\nAssistant: {answer}");
    let chinese = |answer: &str| format!("用户：q\n助手：{answer}");
    for record in [
        json!({"chosen": whole("a"), "rejected": whole("b")}),
        json!({"chosen": later("a"), "rejected": later("b")}),
        json!({"chosen": chinese("a"), "rejected": chinese("b")}),
        json!({"text": whole("a")}),
    ] {
        for message in refused(&record.to_string()) {
            assert!(message.contains("no empty line before it"), "{message}");
        }
    }
    // What a user asks may look so.
    let asked = data(&[json!({"prompt": "Go on:\nHuman: a\nAssistant: b", "completion": "c"})]);
    assert_eq!(asked.examples.len(), 1);
}

/// They were learnt as a part of the answer without a word.
#[test]
fn answers_that_hold_turns_are_counted() {
    let dialogue = |answer: &str| format!("\n\nHuman: q\n\nAssistant: {answer}");
    let counted = |records: &[Value]| data(records).notes.values().sum::<u64>();
    let turns = "a\nHuman: x\nAssistant: z";
    assert_eq!(counted(&[json!({"text": dialogue(turns)}), json!({"text": dialogue("a")})]), 1);
    assert_eq!(counted(&[json!({"chosen": dialogue(turns), "rejected": dialogue("b")})]), 1);
    assert_eq!(counted(&[json!({"prompt": "q", "completion": "a\n用户：x\n助手：z"})]), 1);
    assert_eq!(counted(&[json!({"prompt": "q", "completion": "a\nHuman: x"})]), 0);
}

/// Dialogues in one text with Chinese marks were refused, though messages may have these roles.
#[test]
fn chinese_marks_divide_dialogues_in_one_text() {
    for (user, assistant) in
        [("人类：", "助手："), ("用户：", "助手："), ("人类:", "助手:"), ("用户:", "助手：")]
    {
        let dialogue = |answer: &str| format!("{user}问\n\n{assistant}{answer}");
        let of_text = data(&[json!({"text": dialogue("答")})]);
        let Body::Conversation(read) = &of_text.examples[0].body else { panic!("a conversation") };
        assert_eq!(said(&read.messages), [("user", "问"), ("assistant", "答")]);
        let prompt = format!("{user}问\n\n{assistant}");
        for record in [
            json!({"chosen": dialogue("好"), "rejected": dialogue("坏")}),
            json!({"prompt": prompt, "chosen": "好", "rejected": "坏"}),
            json!({"prompt": prompt, "chosen": dialogue("好"), "rejected": dialogue("坏")}),
        ] {
            let pairs = data(std::slice::from_ref(&record));
            let Body::Pair(pair) = &pairs.examples[0].body else { panic!("a pair") };
            assert_eq!(said(&pair.prompt), [("user", "问")], "{record}");
            assert_eq!(said(&pair.chosen), [("assistant", "好")], "{record}");
            assert_eq!(said(&pair.rejected), [("assistant", "坏")], "{record}");
        }
    }
    let plain = data(&[json!({"prompt": "用户：是什么意思？", "completion": "答"})]);
    let Body::Conversation(plain) = &plain.examples[0].body else { panic!("a conversation") };
    assert_eq!(plain.messages[0].content, "用户：是什么意思？");
}

/// Left over from another template, they were learnt as letters, and nothing said so.
#[test]
fn answers_with_the_letters_of_a_control_token_are_counted_with_a_model() {
    let records = [talk("bar<|im_end|>"), talk("<|im_end|> foo"), talk("bar")];
    let data = data(&records);
    assert!(report(&data, None).notes.is_empty());
    let tokenizer = tokenizer();
    let template = template("plain", &tokenizer);
    let notes = report(&data, Some(&encoder(&tokenizer, &template))).notes;
    let [(note, 2)] = notes.iter().map(|(note, count)| (note.as_str(), *count)).collect::<Vec<_>>()[..]
    else {
        panic!("{notes:?}");
    };
    assert!(note.contains("the control token <|im_end|>"), "{note}");
}

/// A list's own pairs were near-duplicates of one another: "first ranked:1, like ranked:1".
#[test]
fn pairs_of_one_list_are_not_compared_with_one_another() {
    let question: String = (0..60).map(|number| format!("word {number} ")).collect();
    let list = |answers: [&str; 3]| json!({"prompt": question, "answers": answers, "scores": [3, 2, 1]});
    let records = [list(["one", "two", "three"]), list(["one", "two", "four"])];
    let alone = report(&data(&records[..1]), None);
    assert_eq!((alone.duplicates.count, alone.near_duplicates.count), (0, 0), "{:?}", alone.near_duplicates);
    // Another list is compared: one of its pairs is the same, and two are nearly so.
    let both = report(&data(&records), None);
    assert_eq!((both.duplicates.count, both.near_duplicates.count), (1, 2), "{:?}", both.near_duplicates);
    let (here, there) = both.near_duplicates.first.unwrap();
    assert!(here.ends_with(":2") && there.ends_with(":1"), "{here} {there}");
}
