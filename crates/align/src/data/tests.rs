//! Records that were once refused, or read as something else than they are, and what is like what.

use std::io::Write;
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use zhenjin_conversation::Message;

use super::{
    BadKind, BadPolicy, Body, CheckOptions, DataError, Dataset, Kind, Leaks, LearntAnswers, ReadOptions,
    Report, check,
};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("a write");
    file
}

fn lines(records: &[Value]) -> tempfile::NamedTempFile {
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    file(&lines.join("\n"))
}

fn read_with(records: &[Value], bad: BadPolicy) -> Result<Dataset, DataError> {
    Dataset::read(&[lines(records).path().to_owned()], &ReadOptions { bad, ..ReadOptions::default() })
}

fn read(records: &[Value]) -> Result<Dataset, DataError> {
    read_with(records, BadPolicy::Stop)
}

fn data(records: &[Value]) -> Dataset {
    read(records).unwrap_or_else(|error| panic!("{error}"))
}

/// Fields without effect, and in how many records they stand.
fn unread(data: &Dataset) -> Vec<(&str, u64)> {
    data.unread_fields.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

fn kinds(data: &Dataset) -> Vec<(Kind, u64)> {
    data.kinds().into_iter().collect()
}

/// The one record's fault.
fn fault(record: &Value) -> (BadKind, String) {
    match read(std::slice::from_ref(record)) {
        Err(DataError::Bad(bad)) => (bad.kind, bad.reason),
        other => panic!("{record}: {other:?}"),
    }
}

fn message(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

/// Role and content of messages.
fn said(messages: &[Message]) -> Vec<(&str, &str)> {
    messages.iter().map(|message| (message.role.name(), message.content.as_str())).collect()
}

fn pair(record: &Value) -> super::Pair {
    let data = data(std::slice::from_ref(record));
    let Body::Pair(pair) = &data.examples[0].body else { panic!("{record}: a pair") };
    pair.clone()
}

/// The pairs of UltraFeedback, which repeat the chosen dialogue in `messages`, were refused: it was taken for the prompt.
#[test]
fn a_prompt_of_a_pair_counts_before_messages_that_repeat_a_side() {
    let with = |answer: &str| json!([message("user", "q"), message("assistant", answer)]);
    let record = json!({
        "prompt": "q", "prompt_id": "h", "chosen": with("A"), "rejected": with("B"), "messages": with("A"),
        "score_chosen": 8.0, "score_rejected": 4.0
    });
    let of_file = data(std::slice::from_ref(&record));
    assert_eq!(of_file.notes.values().sum::<u64>(), 1, "{:?}", of_file.notes);
    assert_eq!(unread(&of_file), [("prompt_id", 1), ("score_chosen", 1), ("score_rejected", 1)]);
    let texts = json!({"prompt": "q", "chosen": "A", "rejected": "B", "messages": with("B")});
    let system = json!([message("system", "s"), message("user", "q")]);
    for record in [&record, &texts] {
        let pair = pair(record);
        assert_eq!(said(&pair.prompt), [("user", "q")]);
        assert_eq!(said(&pair.chosen), [("assistant", "A")]);
        assert_eq!(said(&pair.rejected), [("assistant", "B")]);
    }
    // A list that is a prompt may say more than the field.
    let longer = pair(&json!({"prompt": "q", "chosen": "A", "rejected": "B", "messages": system}));
    assert_eq!(said(&longer.prompt), [("system", "s"), ("user", "q")]);
    let with_system = json!([message("system", "s"), message("user", "q"), message("assistant", "A")]);
    for other in [with("C"), json!([message("user", "r")]), with_system] {
        let (kind, reason) =
            fault(&json!({"prompt": "q", "chosen": "A", "rejected": "B", "messages": other}));
        assert_eq!(kind, BadKind::WrongField);
        assert!(reason.contains("`messages` stands beside `prompt`"), "{reason}");
    }
}

/// Where sides in one text repeat their prompt, whole transcripts were learnt as the answers.
#[test]
fn a_prompt_in_one_text_that_answers_repeat_is_known_as_one_of_messages_is() {
    let prompt = "\n\nHuman: hi\n\nAssistant:";
    let whole = |answer: &str| format!("{prompt} {answer}");
    for record in [
        json!({"prompt": prompt, "chosen": whole("yo"), "rejected": whole("no")}),
        json!({"prompt": prompt, "chosen": whole("yo").trim_start(), "rejected": whole("no").trim_start()}),
        json!({"prompt": "hi", "chosen": whole("yo"), "rejected": whole("no")}),
        json!({"prompt": prompt, "chosen": " yo", "rejected": " no"}),
        json!({"prompt": prompt, "answers": [whole("no"), whole("yo")], "scores": [0, 1]}),
    ] {
        let pair = pair(&record);
        assert_eq!(said(&pair.prompt), [("user", "hi")], "{record}");
        let answers = [&pair.chosen, &pair.rejected].map(|side| side[0].content.trim());
        assert_eq!((answers, pair.chosen.len(), pair.rejected.len()), (["yo", "no"], 1, 1), "{record}");
    }
    for record in [
        json!({"prompt": prompt, "completion": whole("yo")}),
        json!({"instruction": prompt, "output": whole("yo")}),
        json!({"instruction": prompt, "output": "yo"}),
    ] {
        let data = data(std::slice::from_ref(&record));
        let Body::Conversation(conversation) = &data.examples[0].body else { panic!("{record}") };
        assert_eq!(said(&conversation.messages), [("user", "hi"), ("assistant", "yo")], "{record}");
    }
    let judged = data(&[json!({"prompt": prompt, "completion": whole("yo"), "label": true})]);
    let Body::Thumb(thumb) = &judged.examples[0].body else { panic!("a thumb") };
    assert_eq!((said(&thumb.prompt), said(&thumb.answer)), (vec![("user", "hi")], vec![("assistant", "yo")]));
    // What differs is refused, as for messages.
    let other = "\n\nHuman: hello\n\nAssistant:";
    let (kind, _) = fault(&json!({"prompt": other, "chosen": whole("yo"), "rejected": whole("no")}));
    assert_eq!(kind, BadKind::NoCommonPrompt);
    let (kind, reason) = fault(&json!({"prompt": other, "completion": whole("yo")}));
    assert_eq!(kind, BadKind::WrongField);
    assert!(reason.contains("`completion` is a dialogue that does not begin with the prompt"), "{reason}");
    // An answer to a plain question may begin with such a mark.
    let plain = data(&[json!({"prompt": "Write a dialogue.", "completion": "Human: a\n\nAssistant: b"})]);
    let Body::Conversation(plain) = &plain.examples[0].body else { panic!("a conversation") };
    assert_eq!(plain.messages[1].content, "Human: a\n\nAssistant: b");
}

/// The marks of a prompt without its first empty line were learnt as what the user says.
#[test]
fn a_prompt_in_one_text_may_lack_its_first_empty_line_and_no_other() {
    for prompt in [
        "\n\nHuman: hi\n\nAssistant:",
        "Human: hi\n\nAssistant:",
        "\nHuman: hi\n\nAssistant: \n",
        "\n\n\nHuman: hi\n\nAssistant:",
        "\n\nHuman: hi",
    ] {
        let data = data(&[json!({"prompt": prompt, "completion": "yo"})]);
        let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
        assert_eq!(said(&conversation.messages), [("user", "hi"), ("assistant", "yo")], "{prompt:?}");
    }
    for prompt in [
        "Human: hi\nAssistant:",
        "Human: hi\r\n\r\nAssistant:",
        "\n\nHuman: hi Assistant:",
        "Human: a\n\nAssistant: b\nHuman: c\nAssistant:",
    ] {
        let (kind, reason) = fault(&json!({"prompt": prompt, "chosen": "a", "rejected": "b"}));
        assert_eq!(kind, BadKind::WrongField, "{prompt:?}");
        assert!(reason.contains("before the latter there is no empty line"), "{reason}");
    }
    let plain = data(&[json!({"prompt": "Human: who is that?", "completion": "Somebody."})]);
    let Body::Conversation(plain) = &plain.examples[0].body else { panic!("a conversation") };
    assert_eq!(plain.messages[0].content, "Human: who is that?");
}

/// Such requests were divided at the marks that they quote, and then refused for their last message.
#[test]
fn what_a_user_asks_of_a_dialogue_is_no_dialogue() {
    for prompt in ["Human: a\n\nAssistant: b\n\nContinue this.", "Human: a\n\nAssistant: b"] {
        // An answer that begins with the same marks is then the answer, and no transcript.
        for answer in ["yo", "Human: c\n\nAssistant: d"] {
            let expected = [("user", prompt), ("assistant", answer)];
            for record in [
                json!({"prompt": prompt, "completion": answer}),
                json!({"instruction": prompt, "output": answer}),
            ] {
                let data = data(std::slice::from_ref(&record));
                let Body::Conversation(read) = &data.examples[0].body else { panic!("{record}") };
                assert_eq!(said(&read.messages), expected, "{record}");
                assert!(read.unlearnt.is_empty(), "{record}");
            }
            let pair = pair(&json!({"prompt": prompt, "chosen": answer, "rejected": "no"}));
            assert_eq!((said(&pair.prompt), said(&pair.chosen)), (vec![expected[0]], vec![expected[1]]));
        }
        let task = data(&[json!({"question": prompt, "answer": 1})]);
        let Body::Task(task) = &task.examples[0].body else { panic!("a prompt") };
        assert_eq!(said(&task.messages), [("user", prompt)]);
    }
    // With an empty line before it, it is a transcript, and this one was answered already.
    let (kind, _) = fault(&json!({"prompt": "\n\nHuman: a\n\nAssistant: b", "completion": "c"}));
    assert_eq!(kind, BadKind::RolesOutOfOrder);
}

/// Answers with a label of 0 or "false" were once conversations to imitate, the disliked ones too.
#[test]
fn a_label_beside_an_answer_is_a_thumb_or_refused() {
    let talk = json!([message("user", "q"), message("assistant", "a")]);
    let dialogue = "\n\nHuman: q\n\nAssistant: a";
    for (label, expected) in [
        (json!(true), true),
        (json!(1), true),
        (json!(0), false),
        (json!(1.0), true),
        (json!("true"), true),
        (json!("False"), false),
    ] {
        for record in [
            json!({"prompt": "q", "completion": "a", "label": label}),
            json!({"messages": talk, "label": label}),
            json!({"conversations": talk, "kto_tag": label}),
            json!({"instruction": "q", "output": "a", "label": label}),
            json!({"question": "q", "answer": "a", "label": label}),
            json!({"text": dialogue, "label": label}),
        ] {
            let data = data(std::slice::from_ref(&record));
            let Body::Thumb(thumb) = &data.examples[0].body else { panic!("{record}: a thumb") };
            assert_eq!(said(&thumb.prompt), [("user", "q")], "{record}");
            assert_eq!((said(&thumb.answer), thumb.liked), (vec![("assistant", "a")], expected), "{record}");
            assert_eq!(data.notes.values().sum::<u64>(), u64::from(!label.is_boolean()), "{record}");
        }
    }
    let mixed = data(&[
        json!({"prompt": "p", "completion": "c", "label": true}),
        json!({"prompt": "p", "completion": "d", "label": 0}),
    ]);
    assert_eq!(kinds(&mixed), [(Kind::Thumbs, 2)]);
    let judging = [json!("good"), json!("Thumbs-Down"), json!(0.5), json!(-1), json!("1")];
    let classes = [json!(2), json!("math"), json!([1])];
    let beside_answers = judging.iter().flat_map(|label| {
        [
            json!({"prompt": "q", "completion": "a", "label": label}),
            json!({"messages": talk, "label": label}),
            json!({"question": "q", "answer": "a", "label": label}),
        ]
    });
    let tags = judging
        .iter()
        .chain(&classes)
        .map(|label| json!({"prompt": "q", "completion": "a", "kto_tag": label}));
    for record in beside_answers.chain(tags) {
        let (kind, reason) = fault(&record);
        assert_eq!(kind, BadKind::WrongField, "{record}");
        let name = if record["label"].is_null() { "`kto_tag`" } else { "`label`" };
        assert!(reason.starts_with(name) && reason.contains("true or false, or 1 or 0"), "{reason}");
    }
    // Without an answer it is what a reward may read.
    assert_eq!(kinds(&data(&[json!({"prompt": "q", "label": 1})])), [(Kind::Tasks, 1)]);
}

/// Files of classes 0 to 3 were refused as of two formats, or lost the rarer one where bad records were dropped; topics were refused.
#[test]
fn labels_that_are_classes_are_fields_like_others() {
    let talk = json!([message("user", "q"), message("assistant", "a")]);
    for labels in [json!([0, 1, 2, 3]), json!(["math", "code"]), json!(["2", "0"]), json!([["math"], 1, 2])] {
        let labels = labels.as_array().expect("a list");
        let count = labels.len() as u64;
        for (record, kind) in [
            (json!({"prompt": "q", "completion": "a"}), Kind::Conversations),
            (json!({"messages": talk}), Kind::Conversations),
            (json!({"instruction": "q", "output": "a"}), Kind::Conversations),
            (json!({"text": "\n\nHuman: q\n\nAssistant: a"}), Kind::Conversations),
            (json!({"question": "q", "answer": "a"}), Kind::Tasks),
            (json!({"prompt": "q", "answer": "a"}), Kind::Tasks),
        ] {
            let with_label = |label: &Value| {
                let mut record = record.clone();
                record["label"] = label.clone();
                record
            };
            let records: Vec<Value> = labels.iter().map(with_label).collect();
            for bad in [BadPolicy::Stop, BadPolicy::Drop] {
                let read = read_with(&records, bad).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!((kinds(&read), read.bad.total()), (vec![(kind, count)], 0), "{records:?}");
                if kind == Kind::Tasks {
                    let of_tasks = read.examples.iter().map(|example| match &example.body {
                        Body::Task(task) => task.fields["label"].clone(),
                        other => panic!("{other:?}"),
                    });
                    assert_eq!(&of_tasks.collect::<Vec<Value>>(), labels);
                }
                let imitated = read.for_kind(Kind::Conversations).expect("answers");
                assert_eq!(
                    (unread(&imitated), imitated.examples.len() as u64),
                    (vec![("label", count)], count)
                );
            }
        }
    }
}

/// What one label does not say the others do: beside judgements, one that is none is a mistake, and not the name of a class.
#[test]
fn a_label_among_judgements_that_says_something_else_is_a_bad_record() {
    let answer = |label: &Value| json!({"question": "q", "answer": "a", "label": label});
    for labels in [[json!(true), json!(2)], [json!(false), json!("math")], [json!(0), json!("math")]] {
        let records = labels.each_ref().map(answer);
        match read(&records) {
            Err(DataError::Bad(bad)) => {
                assert_eq!((bad.line, bad.kind), (2, BadKind::WrongField), "{labels:?}")
            }
            other => panic!("{labels:?}: {other:?}"),
        }
        let rest = read_with(&records, BadPolicy::Drop).expect("one record");
        assert_eq!((kinds(&rest), rest.bad.total()), (vec![(Kind::Thumbs, 1)], 1), "{labels:?}");
    }
}

/// Rewards that read the right answer had a fault for every record with a label beside it: judged answers became prompts without fields.
#[test]
fn judged_answers_keep_for_rewards_what_stands_beside_them() {
    let talk = json!([message("user", "q"), message("assistant", "a")]);
    for (record, fields, without_effect) in [
        (
            json!({"id": 7, "question": "q", "answer": "4", "label": 1, "solution": "2+2"}),
            json!({"id": 7, "answer": "4", "label": 1, "solution": "2+2"}),
            vec![("id", 1), ("solution", 1)],
        ),
        (
            json!({"prompt": "q", "kto_tag": "true", "answer": "4"}),
            json!({"kto_tag": "true", "answer": "4"}),
            vec![],
        ),
        // What was judged elsewhere is no right answer.
        (
            json!({"prompt": "q", "completion": "4", "label": true, "solution": "5", "id": null}),
            json!({"solution": "5"}),
            vec![("solution", 1)],
        ),
        (
            json!({"messages": talk, "label": true, "answer": "5"}),
            json!({"answer": "5"}),
            vec![("answer", 1)],
        ),
    ] {
        let read = data(std::slice::from_ref(&record));
        assert_eq!(
            (kinds(&read), unread(&read)),
            (vec![(Kind::Thumbs, 1)], without_effect.clone()),
            "{record}"
        );
        let imitated = read.clone().for_kind(Kind::Conversations).expect("an answer");
        assert_eq!(unread(&imitated), without_effect, "{record}");
        let tasks = read.for_kind(Kind::Tasks).expect("a prompt");
        let Body::Task(task) = &tasks.examples[0].body else { panic!("{record}: a prompt") };
        // In the order of the record, as examples are compared by it.
        assert_eq!(Value::Object(task.fields.clone()).to_string(), fields.to_string());
        assert!(unread(&tasks).is_empty(), "{record}: {:?}", unread(&tasks));
    }
}

/// Whether a field has an effect depends on what the examples are for.
#[test]
fn fields_for_rewards_are_without_effect_where_answers_are_imitated() {
    let question = json!({"question": "q", "answer": "a", "level": 2});
    let imitated = data(&[question]).for_kind(Kind::Conversations).expect("an answer");
    assert_eq!(unread(&imitated), [("level", 1)]);
    let judged = lines(&[json!({"prompt": "q", "completion": "a", "label": true, "id": 1})]);
    let talk = json!([message("user", "q"), message("assistant", "a")]);
    let given = lines(&[json!({"messages": talk, "id": 2})]);
    let paths = [judged.path().to_owned(), given.path().to_owned()];
    let both = Dataset::read(&paths, &ReadOptions::default()).expect("two files");
    assert_eq!(unread(&both), [("id", 2)]);
    // A conversation keeps no other fields.
    assert_eq!(unread(&both.for_kind(Kind::Tasks).expect("prompts")), [("id", 1)]);
}

/// A good record with such a key in metadata that nobody reads was once a bad one.
#[test]
fn a_key_that_stands_twice_counts_where_somebody_reads_it() {
    let read = |fields: &str| {
        let file = file(&format!("{{\"prompt\": \"q\", \"completion\": \"a\", {fields}}}"));
        Dataset::read(&[file.path().to_owned()], &ReadOptions::default())
    };
    let with_metadata = read(r#""metadata": {"a": 1, "b": [{"c": 1, "c": 2}], "a": 2}"#).expect("a record");
    assert_eq!(unread(&with_metadata), [("metadata", 1)]);
    let notes: Vec<(&str, u64)> =
        with_metadata.notes.iter().map(|(note, count)| (note.as_str(), *count)).collect();
    assert!(matches!(notes[..], [(note, 1)] if note.starts_with("records with a key that stands twice")));
    for fields in [
        r#""label": true, "label": false"#,
        r#""id": 1, "id": 2"#,
        r#""tools": [{"name": "a", "name": "b"}]"#,
    ] {
        assert!(
            matches!(read(fields), Err(DataError::Bad(bad)) if bad.kind == BadKind::WrongField),
            "{fields}"
        );
    }
}

/// Names in other capitals were no suggestions, and a message with another field than `content` "said nothing".
#[test]
fn fields_with_other_names_are_read_or_named() {
    for (record, expected) in [
        (json!({"Messages": []}), "did you mean `messages` by `Messages`? "),
        (
            json!({"INSTRUCTION": "q", "RESPONSE": "a", "SOURCE": "x"}),
            "did you mean `instruction` by `INSTRUCTION`, `response` by `RESPONSE`? ",
        ),
    ] {
        let error = read(&[record]).expect_err("no format").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let prompts = data(&[json!({"prompt": "q", "RESPONSE": "a"})]);
    let error = prompts.for_kind(Kind::Conversations).expect_err("no answer").to_string();
    assert!(error.ends_with("; did you mean `response` by `RESPONSE`?"), "{error}");
    let talk =
        |name: &str| json!({"messages": [{"role": "user", name: "Hi"}, {"role": "assistant", name: "Yo"}]});
    let read = data(&[talk("text")]);
    let Body::Conversation(conversation) = &read.examples[0].body else { panic!("a conversation") };
    assert_eq!(said(&conversation.messages), [("user", "Hi"), ("assistant", "Yo")]);
    for name in ["Content", "contents", "message"] {
        let (kind, reason) = fault(&talk(name));
        assert_eq!(kind, BadKind::WrongField);
        let expected = format!("`messages[0]` has no `content`; did you mean it by `{name}`?");
        assert_eq!(reason, expected);
    }
}

fn talk(system: Option<&str>, question: &str, answer: &str) -> Value {
    let system = system.map(|system| message("system", system));
    let messages: Vec<Value> =
        system.into_iter().chain([message("user", question), message("assistant", answer)]).collect();
    json!({ "messages": messages })
}

fn report(records: &[Value], against: &[Value]) -> (Report, Leaks) {
    let options = CheckOptions { context: None, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
    let mut report =
        check(&data(records), Some(&data(against)), None, &options).unwrap_or_else(|error| panic!("{error}"));
    let leaks = report.leaks.take().expect("something to compare with");
    (report, leaks)
}

/// Under one long system message all questions were nearly the same, and under another system message the same question was another.
#[test]
fn questions_are_compared_without_system_messages() {
    let long =
        "You are a careful, friendly and thorough assistant of the company Acme. Never invent anything. "
            .repeat(4);
    let all = |questions: &[&str]| -> Vec<Value> {
        questions.iter().map(|question| talk(Some(&long), question, "I do not know.")).collect()
    };
    let train = all(&["What is the capital of Peru?", "How do I bake bread?", "Why is the sky blue?"]);
    let test = all(&["Who wrote Faust?", "How tall is Everest?"]);
    let (of_train, leaks) = report(&train, &test);
    assert_eq!((leaks.questions.count, leaks.near_questions.count), (0, 0));
    assert_eq!((of_train.duplicates.count, of_train.near_duplicates.count), (0, 0));
    let question = "What is the boiling point of water at the top of the mountain?";
    let (_, leaks) = report(&[talk(None, question, "x")], &[talk(Some("You know physics."), question, "y")]);
    assert_eq!((leaks.examples.count, leaks.questions.count, leaks.near_questions.count), (0, 1, 0));
    let nearly = question.replace("mountain", "mountains");
    let (_, leaks) = report(&[talk(Some(&long), &nearly, "x")], &[talk(None, question, "y")]);
    assert_eq!((leaks.questions.count, leaks.near_questions.count), (0, 1));
}

/// Of questions made by one pattern most copies were once not found, as the index kept one of the family alone.
#[test]
fn copies_of_questions_of_one_pattern_are_all_found() {
    let pattern = "Below is a review that a customer wrote about a product. Classify its sentiment as positive, negative or \
                   neutral, and explain your choice in one sentence. Write the label first, then the reason. Review:";
    let words = [
        "apple", "river", "stone", "cloud", "green", "quick", "bottle", "window", "paper", "music", "garden",
    ];
    // The digits of a multiple of the number: each question has other words.
    let question = |number: usize| {
        let mut rest = (number + 1) * 7_654_321;
        let mut text = pattern.to_owned();
        for _ in 0..8 {
            text = format!("{text} {}", words[rest % words.len()]);
            rest /= words.len();
        }
        text
    };
    let test: Vec<Value> = (0..600).map(|number| talk(None, &question(number), "x")).collect();
    let train: Vec<Value> =
        (200..500).map(|number| talk(None, &format!("{} ok", question(number)), "y")).collect();
    let (_, leaks) = report(&train, &test);
    assert_eq!((leaks.near_questions.count, leaks.near_questions.not_all_compared), (300, 0));
}

/// Regression: a list of answers was copied into a pair of every two of them with the whole prompt each, whatever memory that took.
#[test]
fn a_list_of_answers_whose_pairs_are_too_large_is_refused() {
    let with = |prompt: &str| {
        let answers: Vec<String> = (0..64).map(|number| format!("answer {number}")).collect();
        let scores: Vec<usize> = (0..64).collect();
        json!({"prompt": prompt, "answers": answers, "scores": scores})
    };
    let large = with(&"word ".repeat(40_000));
    let (kind, reason) = fault(&large);
    assert_eq!(kind, BadKind::TooLarge);
    assert!(reason.contains("every two of its 64 answers"), "{reason}");
    let both = read_with(&[large, with("q")], BadPolicy::Drop).expect("the other record");
    assert_eq!((both.examples.len(), both.bad.total()), (64 * 63 / 2, 1));
}

/// Regression: at every mark of a dialogue in one text the next one of the other speaker was looked for up to the end, and at every result of a
/// tool the call was looked for behind all others: the time was the square of the length.
#[test]
fn dialogues_of_very_many_turns_are_read_in_linear_time() {
    let marks = "\n\nHuman: x".repeat(200_000);
    let record =
        json!({"chosen": format!("{marks}\n\nAssistant: a"), "rejected": format!("{marks}\n\nAssistant: b")});
    let (kind, reason) = fault(&record);
    assert_eq!(kind, BadKind::RolesOutOfOrder, "{reason}");
    assert!(reason.starts_with("message 2 (user)"), "{reason}");

    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]});
    let results = std::iter::repeat_n(message("tool", "r"), 100_000);
    let begin = [message("user", "q"), call].into_iter().chain(results);
    let prompt: Vec<Value> = begin.collect();
    let of_prompt = pair(&json!({"prompt": prompt, "chosen": "a", "rejected": "b"})).prompt;
    assert_eq!(of_prompt.len(), 100_002);

    // Marks are found wherever they stand among empty lines.
    let text = "\n\n\nHuman: a\n\nb\n\n\n\nAssistant: c\n\nHuman: d\n\nAssistant:";
    let read = pair(&json!({"prompt": text, "chosen": "A", "rejected": "B"})).prompt;
    assert_eq!(said(&read), [("user", "a\n\nb"), ("assistant", "c"), ("user", "d")]);
}
