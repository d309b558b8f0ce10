//! Every format in which people write examples, and every way in which a record can be bad.

use crate::support::*;
use serde_json::{Value, json};
use zhenjin_align::data::{BadKind, BadPolicy, Body, DataError, Dataset, Kind, ReadOptions};
use zhenjin_conversation::Message;

fn read(records: &[Value]) -> Result<Dataset, DataError> {
    let files = Files::new();
    Dataset::read(&[files.lines("data.jsonl", records)], &ReadOptions::default())
}

/// Role and content of messages.
fn said(messages: &[Message]) -> Vec<(&str, &str)> {
    messages.iter().map(|message| (message.role.name(), message.content.as_str())).collect()
}

fn conversation(record: Value) -> Vec<(String, String)> {
    let data = read(&[record]).unwrap();
    let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
    let owned = |(role, content): (&str, &str)| (role.to_owned(), content.to_owned());
    said(&conversation.messages).into_iter().map(owned).collect()
}

fn expect(record: Value, expected: &[(&str, &str)]) {
    let read = conversation(record);
    let read: Vec<(&str, &str)> =
        read.iter().map(|(role, content)| (role.as_str(), content.as_str())).collect();
    assert_eq!(read, expected);
}

#[test]
fn conversations_are_read_in_every_spelling() {
    let expected = [("system", "s"), ("user", "问"), ("assistant", "答")];
    let plain = json!([message("system", "s"), message("user", "问"), message("assistant", "答")]);
    expect(json!({ "messages": plain }), &expected);
    expect(plain.clone(), &expected);
    let parts = json!([{"type": "text", "text": "问"}]);
    let messages = json!([{"role": "developer", "content": "s"}, {"role": "user", "content": parts}, message("assistant", "答")]);
    expect(json!({ "messages": messages, "id": 7 }), &expected);
    for (human, gpt) in
        [("human", "gpt"), ("user", "assistant"), ("Human", "ChatGPT"), ("用户", "助手"), ("prompter", "bot")]
    {
        let conversations = json!([{"from": human, "value": "问"}, {"from": gpt, "value": "答"}]);
        expect(json!({ "conversations": conversations, "system": "s" }), &expected);
    }
    expect(json!({"instruction": "问", "input": "", "output": "答", "system": "s"}), &expected);
    expect(json!({"prompt": "问", "completion": "答", "system": "s"}), &expected);
    expect(
        json!({"prompt": [message("system", "s"), message("user", "问")], "completion": [message("assistant", "答")]}),
        &expected,
    );
    expect(json!({"text": "\n\nHuman: 问\n\nAssistant: 答"}), &expected[1..]);
    expect(
        json!({"instruction": "Add.", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]]}),
        &[("user", "Hi"), ("assistant", "Hello"), ("user", "Add.\n1 2"), ("assistant", "3")],
    );
}

/// The place of an empty system message with a weight was once counted to below 0 when the message was left out.
#[test]
fn an_empty_system_message_with_a_weight_is_left_out_with_its_weight() {
    let system = json!({"role": "system", "content": "", "weight": 0});
    let earlier = json!({"role": "assistant", "content": "b", "weight": 0});
    let messages =
        json!([system, message("user", "a"), earlier, message("user", "c"), message("assistant", "d")]);
    let data = read(&[json!({ "messages": messages })]).unwrap();
    let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
    assert_eq!(said(&conversation.messages)[0], ("user", "a"));
    assert_eq!(conversation.unlearnt, [1]);
}

/// Earlier answers in a prompt were learnt beside the completion.
#[test]
fn of_a_prompt_nothing_is_learnt() {
    let prompt = json!([message("user", "a"), message("assistant", "b"), message("user", "c")]);
    let dialogue = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:";
    for record in [
        json!({"prompt": prompt, "completion": [message("assistant", "d")]}),
        json!({"prompt": dialogue, "completion": "d"}),
    ] {
        let data = read(&[record]).unwrap();
        let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
        assert_eq!((conversation.messages.len(), &conversation.unlearnt[..]), (4, &[1][..]));
    }
    // Alpaca's earlier turns are examples as well.
    let data = read(&[json!({"instruction": "c", "output": "d", "history": [["a", "b"]]})]).unwrap();
    let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
    assert!(conversation.unlearnt.is_empty());
}

/// A weight of 0 in an answer that was compared or judged was ignored.
#[test]
fn a_weight_of_0_counts_in_prompts_and_is_refused_in_judged_answers() {
    let (question, other) = (message("user", "a"), message("assistant", "other"));
    let unlearnt = json!({"role": "assistant", "content": "b", "weight": 0});
    let prompt = json!([question, unlearnt, message("user", "c")]);
    let followed = |last: Value| json!([question, unlearnt, message("user", "c"), last]);
    for record in [
        json!({"prompt": prompt, "chosen": [message("assistant", "d")], "rejected": [other]}),
        json!({"chosen": followed(message("assistant", "d")), "rejected": followed(other.clone())}),
        json!({"prompt": prompt, "completion": [message("assistant", "d")], "label": true}),
    ] {
        read(&[record]).unwrap();
    }
    for (record, what) in [
        (json!({"prompt": "a", "chosen": [unlearnt], "rejected": [other]}), "message 1 of `chosen`"),
        (json!({"prompt": "a", "chosen": other, "rejected": unlearnt}), "message 1 of `rejected`"),
        (
            json!({"chosen": followed(unlearnt.clone()), "rejected": followed(other.clone())}),
            "message 4 of `chosen`",
        ),
        (json!({"prompt": "a", "completion": [unlearnt], "label": true}), "message 2 of `messages`"),
        (json!({"messages": [question, unlearnt], "label": false}), "message 2 of `messages`"),
        (
            json!({"prompt": "a", "answers": [{"message": unlearnt, "score": 1}, {"text": "e", "score": 2}]}),
            "message 1 of `answers[0].message`",
        ),
    ] {
        match read(std::slice::from_ref(&record)) {
            Err(DataError::Bad(bad)) => {
                assert_eq!(bad.kind, BadKind::WrongField, "{record}");
                assert!(bad.reason.contains(what) && bad.reason.contains("weight 0"), "{}", bad.reason);
            }
            other => panic!("{record}: {other:?}"),
        }
    }
}

#[test]
fn tools_and_calls_are_read_in_both_shapes() {
    let tool = json!({"name": "add", "description": "Adds.", "parameters": {"type": "object"}});
    let call = json!({"name": "add", "arguments": {"a": 1}});
    let openai = json!({
        "messages": [
            message("user", "1+1?"),
            {"role": "assistant", "content": "", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "add", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "x", "content": "2"}, message("assistant", "2")
        ],
        "tools": [{"type": "function", "function": tool}]
    });
    let sharegpt = json!({
        "conversations": [
            {"from": "human", "value": "1+1?"}, {"from": "function_call", "value": call.to_string()},
            {"from": "observation", "value": "2"}, {"from": "gpt", "value": "2"}
        ],
        "tools": json!([tool]).to_string()
    });
    for record in [openai, sharegpt] {
        let data = read(&[record]).unwrap();
        let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
        assert_eq!(
            said(&conversation.messages),
            [("user", "1+1?"), ("assistant", ""), ("tool", "2"), ("assistant", "2")]
        );
        let call = &conversation.messages[1].tool_calls[0];
        assert_eq!((call.name.as_str(), call.arguments.as_str()), ("add", "{\"a\":1}"));
        assert_eq!((conversation.tools[0].name.as_str(), conversation.tools.len()), ("add", 1));
    }
}

fn pair_of(record: Value) -> (Vec<(String, String)>, String, String, Option<f32>) {
    let data = read(&[record]).unwrap();
    let Body::Pair(pair) = &data.examples[0].body else { panic!("a pair") };
    let owned = |(role, content): (&str, &str)| (role.to_owned(), content.to_owned());
    let last = |side: &[Message]| side.last().map(|message| message.content.clone()).unwrap();
    (
        said(&pair.prompt).into_iter().map(owned).collect(),
        last(&pair.chosen),
        last(&pair.rejected),
        pair.margin,
    )
}

#[test]
fn preferences_have_a_prompt_of_their_own_or_a_common_beginning() {
    let ask = json!([message("user", "q")]);
    let with = |answer: &str| json!([message("user", "q"), message("assistant", answer)]);
    let share = |from: &str, value: &str| json!({"from": from, "value": value});
    for record in [
        json!({"prompt": "q", "chosen": "good", "rejected": "bad"}),
        json!({"prompt": ask, "chosen": [message("assistant", "good")], "rejected": [message("assistant", "bad")]}),
        json!({"prompt": "q", "chosen": with("good"), "rejected": with("bad")}),
        json!({"chosen": with("good"), "rejected": with("bad")}),
        json!({"messages": ask, "chosen": message("assistant", "good"), "rejected": message("assistant", "bad")}),
        json!({"conversations": [share("human", "q")], "chosen": share("gpt", "good"), "rejected": share("gpt", "bad")}),
        json!({"conversations": [share("human", "q")], "chosen": "good", "rejected": "bad"}),
        json!({"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"}),
        json!({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "good", "rejected": "bad"}),
        json!({"question": "q", "response_chosen": "good", "response_rejected": "bad"}),
        json!({"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"}),
    ] {
        let (prompt, chosen, rejected, margin) = pair_of(record.clone());
        assert_eq!(prompt, [("user".to_owned(), "q".to_owned())], "{record}");
        assert_eq!((chosen.as_str(), rejected.as_str(), margin), ("good", "bad", None), "{record}");
    }
}

/// Differences of scores, which may be from 0 to 100, were once a reward model's margins, unasked and unsaid.
#[test]
fn only_a_field_of_that_name_is_a_margin() {
    for (chosen, rejected) in [("score_chosen", "score_rejected"), ("chosen_score", "rejected_score")] {
        let mut scored = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
        (scored[chosen], scored[rejected]) = (json!(95), json!(5.5));
        let data = read(std::slice::from_ref(&scored)).unwrap();
        let unread: Vec<(&str, u64)> =
            data.unread_fields.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(unread, [(chosen, 1), (rejected, 1)]);
        assert_eq!(pair_of(scored.clone()).3, None);
        scored["margin"] = json!(0.5);
        assert_eq!(pair_of(scored).3, Some(0.5));
    }
    let endless = json!({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1e300});
    assert!(matches!(read(&[endless]), Err(DataError::Bad(bad)) if bad.kind == BadKind::WrongField));
}

/// A prompt that both sides repeat: its messages, or why it is none.
fn repeated(given: &Value, before: &[Value]) -> Result<Vec<(String, String)>, String> {
    let with = |answer: &str| [before, &[message("assistant", answer)]].concat();
    let mut record = given.clone();
    (record["chosen"], record["rejected"]) = (json!(with("good")), json!(with("bad")));
    match read(std::slice::from_ref(&record)) {
        Ok(_) => Ok(pair_of(record).0),
        Err(DataError::Bad(bad)) if bad.kind == BadKind::NoCommonPrompt => Err(bad.reason),
        Err(other) => panic!("{record}: {other}"),
    }
}

/// Of a prompt that is given beside sides that repeat it, everything but its last message was once dropped unseen.
#[test]
fn a_prompt_that_both_sides_repeat_is_compared_as_a_whole() {
    let prompt = [message("user", "p"), message("assistant", "a"), message("user", "q")];
    let given = |prompt: &[Value]| json!({ "prompt": prompt });
    let same = repeated(&given(&prompt), &prompt).unwrap();
    assert_eq!(same.len(), 3);
    let spaced = [message("user", " p\n"), message("assistant", "a"), message("user", "q ")];
    assert_eq!(repeated(&given(&spaced), &prompt).unwrap(), same);
    // Records of longer dialogues often give only the first or the last question beside them.
    for given in [given(&prompt[2..]), given(&prompt[..1]), json!({"prompt": "q"}), json!({"prompt": "p"})] {
        assert_eq!(repeated(&given, &prompt).unwrap(), same, "{given}");
    }
    let other = [message("user", "p"), message("assistant", "apples"), message("user", "q")];
    for (given, expected) in [
        (given(&other), "from character 2 on, message 2 (assistant) is the text `pples` in the prompt"),
        (given(&prompt[1..2]), "message 1 is the assistant's in the prompt and the user's in the dialogues"),
        (json!({"prompt": "r"}), "and the text `p` in the dialogues"),
    ] {
        let reason = repeated(&given, &prompt).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
}

/// A system message that stands beside the sides was once dropped where they repeat the prompt, or unread where there is none.
#[test]
fn a_system_message_may_stand_beside_the_sides_or_in_them() {
    let prompt = &[message("user", "q")][..];
    let own = &[message("system", "s"), message("user", "q")][..];
    let expected = Ok(vec![("system".to_owned(), "s".to_owned()), ("user".to_owned(), "q".to_owned())]);
    for (given, before) in [
        (json!({"prompt": own}), prompt),
        (json!({"prompt": "q", "system": "s"}), prompt),
        (json!({"system_prompt": "s"}), prompt),
        (json!({"prompt": "q"}), own),
        (json!({"prompt": own}), own),
        (json!({"prompt": "q", "system": " s "}), own),
        (json!({"system": "s"}), own),
    ] {
        assert_eq!(repeated(&given, before), expected, "{given}");
    }
    for given in [json!({"prompt": "q", "system": "another"}), json!({"system": "another"})] {
        let reason = repeated(&given, own).unwrap_err();
        assert!(reason.contains("message 1 (system) is the text `another` in the prompt"), "{reason}");
    }
}

#[test]
fn ranked_answers_become_a_pair_of_every_two_that_differ() {
    let pairs = |record: Value| -> Vec<(String, String)> {
        let data = read(&[record]).unwrap();
        let bodies = data.examples.iter().map(|example| &example.body);
        bodies
            .map(|body| {
                let Body::Pair(pair) = body else { panic!("a pair") };
                assert_eq!(pair.margin, None, "scores are no margins");
                (pair.chosen[0].content.clone(), pair.rejected[0].content.clone())
            })
            .collect()
    };
    let pair = |chosen: &str, rejected: &str| (chosen.to_owned(), rejected.to_owned());
    assert_eq!(
        pairs(json!({"prompt": "q", "answers": ["a", "b", "c"], "scores": [1, 3, 1]})),
        [pair("b", "a"), pair("b", "c")]
    );
    assert_eq!(pairs(json!({"prompt": "q", "responses": ["a", "b"], "ranks": [2, 1]})), [pair("b", "a")]);
    let answers = json!([{"text": "a", "score": 0.5}, {"text": "b", "score": 0.25, "model": "m"}]);
    assert_eq!(pairs(json!({"messages": [message("user", "q")], "answers": answers})), [pair("a", "b")]);
}

#[test]
fn thumbs_and_prompts_for_rewards_are_told_from_conversations() {
    let messages = json!([message("user", "q"), message("assistant", "a")]);
    for record in [
        json!({"messages": messages, "label": false}),
        json!({"conversations": messages, "kto_tag": false}),
        json!({"prompt": "q", "completion": "a", "label": false}),
        json!({"instruction": "q", "input": "", "output": "a", "kto_tag": false}),
    ] {
        let data = read(&[record]).unwrap();
        let Body::Thumb(thumb) = &data.examples[0].body else { panic!("a thumb") };
        assert_eq!(
            (said(&thumb.prompt), said(&thumb.answer)),
            (vec![("user", "q")], vec![("assistant", "a")])
        );
        assert!(!thumb.liked);
    }
    for record in [
        json!({"messages": [message("user", "q")], "answer": 7}),
        json!({"prompt": "q", "answer": 7}),
        json!({"question": "q", "answer": 7}),
        json!({"turns": ["q", "r"], "answer": 7}),
    ] {
        let data = read(&[record]).unwrap();
        let Body::Task(task) = &data.examples[0].body else { panic!("a prompt") };
        assert_eq!((said(&task.messages), &task.fields["answer"]), (vec![("user", "q")], &json!(7)));
    }
}

#[test]
fn a_record_of_no_format_is_an_error_with_its_place_and_what_was_meant() {
    let files = Files::new();
    let path = files.lines(
        "x.jsonl",
        &[json!({"messages": [message("user", "a"), message("assistant", "b")]}), json!({"mesages": []})],
    );
    let error = Dataset::read(std::slice::from_ref(&path), &ReadOptions::default()).unwrap_err().to_string();
    let place = format!("{}:2: ", path.display());
    assert!(error.starts_with(&place) && error.contains("did you mean `messages` by `mesages`?"), "{error}");
    // A file that is one array has its members as records.
    for other in [json!("text"), json!(5), Value::Null, json!([1])] {
        assert!(matches!(read(&[other]), Err(DataError::Bad(bad)) if bad.kind == BadKind::NoRecord));
    }
    for other in [json!({"text": "only text"}), json!({})] {
        assert!(matches!(read(&[other]), Err(DataError::Unrecognised { line: 1, .. })));
    }
}

#[test]
fn two_formats_in_one_file_are_an_error_that_names_both_lines() {
    let conversation = json!({"messages": [message("user", "a"), message("assistant", "b")]});
    let pair = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let error = read(&[conversation.clone(), conversation.clone(), pair]).unwrap_err();
    assert!(matches!(error, DataError::Mixed { first_line: 1, line: 3, .. }), "{error}");
    let task = json!({"messages": [message("user", "a")], "answer": 1});
    let error = read(&[task.clone(), json!({"prompt": "a", "completion": "b"})]).unwrap_err();
    assert!(matches!(error, DataError::Mixed { first_line: 1, line: 2, .. }), "{error}");
    // Among conversations, one that ends without an answer is one that was cut short.
    let cut = json!({"messages": [message("user", "a"), message("assistant", "b"), message("user", "c")]});
    let data = read(&[cut, conversation]).unwrap();
    assert_eq!(data.kinds().into_iter().collect::<Vec<_>>(), [(Kind::Conversations, 2)]);
    assert_eq!(data.notes.values().sum::<u64>(), 1);
    // Prompts for rewards in two spellings were once two formats of one name.
    let data = read(&[json!({"prompt": "a", "answer": 1}), task]).unwrap();
    assert_eq!(data.kinds().into_iter().collect::<Vec<_>>(), [(Kind::Tasks, 2)]);
}

/// A kind of bad records, how many there are, and the line of the first.
type Counted = (BadKind, u64, u64);

/// Reads records of which bad ones are left out: how many examples there are, and the bad kinds.
fn read_dropping(records: &[Value]) -> Result<(usize, Vec<Counted>), DataError> {
    let files = Files::new();
    let options = ReadOptions { bad: BadPolicy::Drop, ..ReadOptions::default() };
    let data = Dataset::read(&[files.lines("data.jsonl", records)], &options)?;
    let bad = data.bad.by_kind().map(|(kind, bad)| (kind, bad.count, bad.first.line));
    Ok((data.examples.len(), bad.collect()))
}

/// One record of no known or of another format once ended the command, whatever was to happen to bad ones.
#[test]
fn records_of_other_formats_are_left_out_as_bad_ones_are() {
    let talk = json!({"messages": [message("user", "a"), message("assistant", "b")]});
    let pair = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let unknown = json!({"mesages": []});
    let [other, none] = [BadKind::OtherFormat, BadKind::Unrecognised];
    for (records, expected) in [
        (vec![&talk, &pair, &unknown, &talk, &unknown], (2, vec![(none, 2, 3), (other, 1, 2)])),
        // The first record alone does not decide what the others are, but where there are as many of each.
        (vec![&unknown, &pair, &talk, &talk], (2, vec![(none, 1, 1), (other, 1, 2)])),
        (vec![&pair, &talk], (1, vec![(other, 1, 2)])),
    ] {
        let records: Vec<Value> = records.into_iter().cloned().collect();
        assert_eq!(read_dropping(&records).unwrap(), expected);
        assert!(matches!(read(&records), Err(DataError::Mixed { .. } | DataError::Unrecognised { .. })));
    }
    // Among pairs, a conversation without an answer is a prompt; among conversations, one that was cut short.
    let cut = json!({"messages": [message("user", "a"), message("assistant", "b"), message("user", "c")]});
    assert_eq!(
        read_dropping(&[cut.clone(), pair.clone(), pair]).unwrap(),
        (2, vec![(BadKind::OtherFormat, 1, 1)])
    );
    assert_eq!(read_dropping(&[cut, talk]).unwrap(), (2, Vec::new()));
    let error = read_dropping(&[unknown.clone(), json!({"messages": []}), unknown]).unwrap_err();
    assert!(matches!(error, DataError::NoneGood { records: 3, .. }), "{error}");
    let error = error.to_string();
    for expected in ["data.jsonl:1: of no known format", "did you mean `messages`", "2 of no known format"] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn bad_records_are_counted_by_kind_with_the_first_line_of_each() {
    let bad = |kind, record: Value| (kind, record);
    let talk = |messages: Value| json!({ "messages": messages });
    let cases = [
        bad(BadKind::UnknownRole, talk(json!([message("usr", "a"), message("assistant", "b")]))),
        bad(
            BadKind::RolesOutOfOrder,
            talk(json!([message("user", "a"), message("user", "b"), message("assistant", "c")])),
        ),
        bad(BadKind::RolesOutOfOrder, talk(json!([message("assistant", "a"), message("assistant", "b")]))),
        bad(
            BadKind::RolesOutOfOrder,
            talk(json!([message("assistant", "a"), message("user", "b"), message("assistant", "c")])),
        ),
        bad(BadKind::RolesOutOfOrder, talk(json!([message("system", "a"), message("assistant", "b")]))),
        bad(
            BadKind::RolesOutOfOrder,
            talk(json!([message("user", "a"), message("system", "b"), message("assistant", "c")])),
        ),
        bad(
            BadKind::RolesOutOfOrder,
            talk(json!([message("user", "a"), message("tool", "b"), message("assistant", "c")])),
        ),
        bad(BadKind::EmptyAnswer, talk(json!([message("user", "a"), message("assistant", " \n")]))),
        bad(
            BadKind::EmptyAnswer,
            talk(json!([message("user", "a"), {"role": "assistant", "content": null}])),
        ),
        bad(BadKind::EmptyMessage, talk(json!([message("user", "　"), message("assistant", "b")]))),
        bad(BadKind::WrongField, talk(json!([message("user", "a"), {"role": "assistant", "content": 5}]))),
        bad(
            BadKind::WrongField,
            talk(json!([message("user", "a"), {"role": "assistant", "content": [{"type": "image_url"}]}])),
        ),
        bad(
            BadKind::WrongField,
            talk(json!([message("user", "a"), {"role": "assistant", "content": "b", "weight": 2}])),
        ),
    ];
    let good = talk(json!([message("user", "a"), message("assistant", "b")]));
    for (kind, record) in &cases {
        match read(&[good.clone(), record.clone()]) {
            Err(DataError::Bad(bad)) => assert_eq!((bad.kind, bad.line), (*kind, 2), "{record}"),
            other => panic!("{record}: {other:?}"),
        }
    }
    let files = Files::new();
    let records: Vec<Value> = cases.iter().flat_map(|(_, record)| [record.clone(), good.clone()]).collect();
    let lines: Vec<String> = records.iter().map(Value::to_string).chain(["{".to_owned()]).collect();
    let path = files.write("bad.jsonl", lines.join("\n"));
    let options = ReadOptions { bad: BadPolicy::Drop, ..ReadOptions::default() };
    let data = Dataset::read(&[path], &options).unwrap();
    let counted: Vec<(BadKind, u64, u64)> =
        data.bad.by_kind().map(|(kind, bad)| (kind, bad.count, bad.first.line)).collect();
    assert_eq!(
        counted,
        [
            (BadKind::NotJson, 1, 27),
            (BadKind::WrongField, 3, 21),
            (BadKind::UnknownRole, 1, 1),
            (BadKind::RolesOutOfOrder, 6, 3),
            (BadKind::EmptyAnswer, 2, 15),
            (BadKind::EmptyMessage, 1, 19)
        ]
    );
    assert_eq!((data.examples.len(), data.bad.total()), (13, 14));
}

#[test]
fn bad_preferences_are_named() {
    let dialogue = |question: &str, answer: &str| format!("\n\nHuman: {question}\n\nAssistant: {answer}");
    let talk = json!([message("user", "q"), message("assistant", "a")]);
    for (kind, record) in [
        (BadKind::SameAnswers, json!({"prompt": "q", "chosen": "a", "rejected": " a "})),
        (BadKind::SameAnswers, json!({"chosen": dialogue("q", "a"), "rejected": dialogue("q", "a")})),
        (BadKind::EmptyAnswer, json!({"prompt": "q", "chosen": "a", "rejected": ""})),
        (BadKind::EmptyAnswer, json!({"chosen": dialogue("q", ""), "rejected": dialogue("q", "b")})),
        (BadKind::NoCommonPrompt, json!({"chosen": dialogue("q", "a"), "rejected": dialogue("r", "b")})),
        (
            BadKind::NoCommonPrompt,
            json!({"prompt": "p", "chosen": [message("user", "q"), message("assistant", "a")], "rejected": [message("user", "q"), message("assistant", "b")]}),
        ),
        // A dialogue without a message once ended the program.
        (BadKind::NoAnswer, json!({"chosen": [], "rejected": talk})),
        (BadKind::NoAnswer, json!({"chosen": talk, "rejected": []})),
        (BadKind::NoAnswer, json!({"chosen": [], "rejected": []})),
        (BadKind::NoAnswer, json!({"prompt": "q", "chosen": [], "rejected": [message("assistant", "a")]})),
        (BadKind::NoAnswer, json!({"prompt": "q", "chosen": "a", "rejected": []})),
        (BadKind::NoAnswer, json!({"prompt": "q", "chosen": [], "rejected": []})),
        (BadKind::WrongField, json!({"chosen": "no dialogue", "rejected": "b"})),
        (BadKind::WrongField, json!({"prompt": "q", "chosen": 5, "rejected": "b"})),
        (BadKind::NoPreference, json!({"prompt": "q", "answers": ["a", "b"], "scores": [1, 1]})),
        (BadKind::WrongField, json!({"prompt": "q", "answers": ["a", "b"]})),
        (BadKind::WrongField, json!({"prompt": "q", "answers": ["a", "b"], "scores": [1]})),
    ] {
        match read(std::slice::from_ref(&record)) {
            Err(DataError::Bad(bad)) => assert_eq!(bad.kind, kind, "{record}: {bad}"),
            other => panic!("{record}: {other:?}"),
        }
    }
}

#[test]
fn examples_of_one_kind_serve_as_others_and_it_is_said() {
    let pairs = || data(&[json!({"prompt": "q", "chosen": "a", "rejected": "b"})]);
    let kinds = |data: Dataset| data.examples.into_iter().map(|example| example.body).collect::<Vec<_>>();
    let conversations = pairs().for_kind(Kind::Conversations).unwrap();
    assert_eq!(conversations.notes.values().sum::<u64>(), 1);
    let Body::Conversation(chosen) = &conversations.examples[0].body else { panic!("a conversation") };
    assert_eq!(said(&chosen.messages), [("user", "q"), ("assistant", "a")]);
    let thumbs = kinds(pairs().for_kind(Kind::Thumbs).unwrap());
    let liked = thumbs.iter().map(|body| matches!(body, Body::Thumb(thumb) if thumb.liked));
    assert_eq!(liked.collect::<Vec<_>>(), [true, false]);
    assert!(matches!(kinds(pairs().for_kind(Kind::Tasks).unwrap())[..], [Body::Task(_)]));
    let error = data(&[json!({"prompt": "q"})]).for_kind(Kind::Pairs).unwrap_err().to_string();
    assert!(error.contains("these are prompts for rewards; preference pairs are needed"), "{error}");
    let disliked = data(&[json!({"prompt": "q", "completion": "a", "label": false})]);
    assert!(matches!(disliked.for_kind(Kind::Conversations), Err(DataError::Empty(_))));
}

#[test]
fn duplicates_of_a_question_are_never_on_both_sides_of_the_split() {
    let record = |number: usize| {
        let question = format!("question {}", number % 40);
        json!({"prompt": question, "chosen": format!("a{number}"), "rejected": format!("b{number}")})
    };
    let records: Vec<Value> = (0..200).map(record).collect();
    let openings = |data: &Dataset| {
        let openings = data.examples.iter().map(|example| example.body.opening_hash());
        openings.collect::<std::collections::BTreeSet<_>>()
    };
    let (train, test) = data(&records).split(0.25, 3).unwrap();
    assert_eq!(train.examples.len() + test.examples.len(), 200);
    assert!((10..90).contains(&test.examples.len()), "{}", test.examples.len());
    assert!(openings(&train).is_disjoint(&openings(&test)));
    // The same whatever stands beside it and in whatever order; another seed divides otherwise.
    let reversed: Vec<Value> = records.iter().rev().take(100).cloned().collect();
    let (_, of_half) = data(&reversed).split(0.25, 3).unwrap();
    assert!(openings(&of_half).is_subset(&openings(&test)));
    let (_, other) = data(&records).split(0.25, 4).unwrap();
    assert_ne!(openings(&other), openings(&test));
    assert!(data(&records).split(1.0, 3).is_err());
}

#[test]
fn the_fingerprint_is_of_the_contents() {
    let record = |answer: &str| json!({"prompt": "q", "chosen": answer, "rejected": "b"});
    let fingerprint = |records: &[Value]| data(records).fingerprint();
    let files = Files::new();
    let array = files.write("a.json", serde_json::to_string_pretty(&[record("a")]).unwrap());
    let of_array = Dataset::read(&[array], &ReadOptions::default()).unwrap().fingerprint();
    assert_eq!(fingerprint(&[record("a")]), of_array);
    assert_ne!(fingerprint(&[record("a")]), fingerprint(&[record("c")]));
    assert_ne!(fingerprint(&[record("a"), record("c")]), fingerprint(&[record("c"), record("a")]));
}
