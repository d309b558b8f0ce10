//! What is trained on is what is served: the tokens of an example are a request's prompt, the answer behind it, and its end.

use std::num::NonZeroUsize;

use crate::support;
use crate::support::*;
use serde_json::{Value, json};
use zhenjin_align::data::{
    BadKind, BadPolicy, Body, DataError, Dataset, EncodeOptions, Encoder, Kind, LearntAnswers, Overlong,
    WrittenFault,
};
use zhenjin_conversation::Role;
use zhenjin_tokenizer::{ChatTemplate, ControlText, EncodedDialogue, RenderInput, Specials, Tokenizer};

fn options() -> EncodeOptions {
    EncodeOptions {
        context: 1 << 20,
        overlong: Overlong::Error,
        bad: BadPolicy::Stop,
        learnt: LearntAnswers::All,
        threads: NonZeroUsize::MIN,
    }
}

/// The texts that an example learns, and the whole text.
fn learnt(tokenizer: &Tokenizer, example: &EncodedDialogue) -> Vec<String> {
    let mut texts: Vec<Vec<u32>> = Vec::new();
    let mut before = false;
    for (&id, &is_learnt) in example.ids.iter().zip(&example.assistant_mask) {
        if is_learnt && !before {
            texts.push(Vec::new());
        }
        if is_learnt {
            texts.last_mut().unwrap().push(id);
        }
        before = is_learnt;
    }
    texts.iter().map(|ids| tokenizer.decode(ids, ControlText::Show).unwrap()).collect()
}

fn learnt_texts(template_name: &str, record: &Value) -> Vec<Vec<String>> {
    let tokenizer = tokenizer();
    let template = template(template_name, &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let encoded = encoder.encode_conversations(&data(std::slice::from_ref(record)), &options()).unwrap();
    encoded.examples.iter().map(|example| learnt(&tokenizer, example)).collect()
}

fn conversations() -> Vec<Value> {
    let long = "一行白鷺上青天。\n".repeat(20);
    vec![
        json!([message("user", "Hi"), message("assistant", "Hello!")]),
        json!([message("user", "你好"), message("assistant", "你好，我是助手。\n\n有什么可以帮你？")]),
        json!([
            message("system", "Be brief."),
            message("user", "1+1?"),
            message("assistant", "2"),
            message("user", "And <|im_end|> plus one?"),
            message("assistant", "  3 </s> is text"),
            message("user", "谢谢"),
            message("assistant", "不客气")
        ]),
        json!([
            message("system", "你是诗人。"),
            message("user", "写一首诗"),
            message("assistant", &long),
            message("user", "再写一首"),
            message("assistant", "\n\n春眠不覺曉")
        ]),
        json!([
            message("user", "é 😀"),
            message("assistant", "\n<|im_start|>assistant\n"),
            message("user", "?"),
            message("assistant", "!")
        ]),
    ]
}

#[test]
fn training_tokens_are_the_served_prompt_and_the_answer_with_its_end_in_every_turn() {
    let tokenizer = tokenizer();
    for (name, _) in TEMPLATES {
        let template = template(name, &tokenizer);
        let encoder = encoder(&tokenizer, &template);
        for messages in conversations() {
            let data = data(&[json!({ "messages": messages })]);
            let encoded = encoder.encode_conversations(&data, &options()).unwrap();
            let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
            let places = (0..conversation.messages.len())
                .filter(|&place| conversation.messages[place].role == Role::Assistant);
            let mut learnt_tokens = 0;
            for place in places {
                let served = encoder.prompt(&conversation.messages[..place], &[]).unwrap().tokens;
                let input = RenderInput {
                    messages: &messages.as_array().unwrap()[..place],
                    add_generation_prompt: true,
                    now: Some(settings().now),
                    ..RenderInput::default()
                };
                let rendered = template.render(&input).unwrap();
                assert_eq!(served, tokenizer.encode_rendered(&rendered).unwrap(), "{name}");
                let example = encoded.examples.iter().find(|example| {
                    example.ids.starts_with(&served)
                        && example.assistant_mask.get(served.len()) == Some(&true)
                });
                let example = example.unwrap_or_else(|| panic!("{name}: no example learns message {place}"));
                let answer = example.ids[served.len()..].iter().zip(&example.assistant_mask[served.len()..]);
                let answer: Vec<u32> = answer.take_while(|(_, learnt)| **learnt).map(|(&id, _)| id).collect();
                assert!(
                    !example.assistant_mask[served.len() - 1],
                    "{name}: the prompt's last token is learnt"
                );
                let (end, words) = answer.split_last().unwrap();
                assert!(tokenizer.end_of_turn().contains(end), "{name}");
                assert!(words.iter().all(|id| !tokenizer.end_of_turn().contains(id)), "{name}");
                let text = tokenizer.decode(words, ControlText::Show).unwrap();
                let content = &conversation.messages[place].content;
                assert!(text.contains(content.trim()), "{name}: {text:?} without {content:?}");
                learnt_tokens += answer.len();
            }
            let marked = encoded.examples.iter().flat_map(|example| &example.assistant_mask);
            assert_eq!(marked.filter(|learnt| **learnt).count(), learnt_tokens, "{name}");
        }
    }
}

#[test]
fn masks_cover_what_the_assistant_wrote_and_nothing_else() {
    let record = json!({"messages": [
        message("system", "S"), message("user", "U"), message("assistant", " A "), message("user", "V"),
        message("assistant", "B")
    ]});
    for (name, expected) in [
        ("plain", vec![vec![" A <|im_end|>", "B<|im_end|>"]]),
        ("hermes_tools", vec![vec![" A <|im_end|>", "B<|im_end|>"]]),
        ("headers", vec![vec!["A<|eot_id|>", "B<|eot_id|>"]]),
        // This template writes a new line behind the prompt that it makes, which a model then has to write. In what was said
        // before, the two new lines are one token: the turns are examples of their own.
        ("generation_tag", vec![vec!["\n A <|im_end|>"], vec!["\nB<|im_end|>"]]),
        ("always", vec![vec!["\n A <|im_end|>", "\nB<|im_end|>"]]),
        // The system message moves to the last question: each turn is an example of its own.
        ("instruct", vec![vec![" A</s>"], vec![" B</s>"]]),
        // The last answer has a thought, which is gone when it is no longer the last.
        (
            "thinking",
            vec![vec!["<think>\n\n</think>\n\n A <|im_end|>"], vec!["<think>\n\n</think>\n\nB<|im_end|>"]],
        ),
    ] {
        assert_eq!(learnt_texts(name, &record), expected, "{name}");
    }
}

#[test]
fn tools_are_learnt_as_they_are_served() {
    let call = json!({"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"北京\"}"}});
    let record = json!({
        "messages": [
            message("user", "天气？"),
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "21"},
            message("assistant", "21 度。")
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "description": "Tells it."}}]
    });
    let hermes =
        "\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"北京\"}}\n</tool_call><|im_end|>";
    assert_eq!(learnt_texts("plain", &record), [[&hermes[1..], "21 度。<|im_end|>"]]);
    let llama = "{\"name\": \"weather\", \"parameters\": {\"city\": \"北京\"}}<|eot_id|>";
    assert_eq!(learnt_texts("headers", &record), [[llama, "21 度。<|eot_id|>"]]);
    // This template begins a call with the new line that also ends the prompt.
    assert_eq!(learnt_texts("hermes_tools", &record), [[&hermes[1..], "21 度。<|im_end|>"]]);
}

#[test]
fn thoughts_are_learnt_where_the_template_writes_them() {
    let record = json!({"messages": [
        message("user", "1+1?"),
        {"role": "assistant", "content": "Two", "reasoning_content": "Add."},
        message("user", "2+2?"),
        {"role": "assistant", "content": "四", "reasoning_content": "再加。"},
    ]});
    let both = [["<think>\nAdd.\n</think>\n\nTwo<|im_end|>"], ["<think>\n再加。\n</think>\n\n四<|im_end|>"]];
    assert_eq!(learnt_texts("thinking", &record), both);
    let opened = [["Add.\n</think>\n\nTwo<|im_end|>"], ["再加。\n</think>\n\n四<|im_end|>"]];
    assert_eq!(learnt_texts("opening", &record), opened);
    let tokenizer = tokenizer();
    for (name, record, expected) in [
        ("plain", record, "the template knows no thoughts"),
        (
            "opening",
            json!({"messages": [message("user", "a"), message("assistant", "b")]}),
            "opens a thought",
        ),
    ] {
        let template = template(name, &tokenizer);
        let encoder = encoder(&tokenizer, &template);
        let error = encoder.encode_conversations(&data(&[record]), &options()).unwrap_err();
        assert!(matches!(&error, DataError::Bad(bad) if bad.kind == BadKind::NotWritable), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_template_without_an_end_of_turn_is_refused() {
    let tokenizer = tokenizer();
    let template = template("endless", &tokenizer);
    let error = Encoder::new(&tokenizer, Some(&template), settings()).unwrap_err().to_string();
    assert!(error.contains("the end of the answer would never be learnt"), "{error}");
    let template = support::template("signed", &tokenizer);
    let error = Encoder::new(&tokenizer, Some(&template), settings()).unwrap_err().to_string();
    assert!(error.contains("more behind the token that ends the turn"), "{error}");
    let error = Encoder::new(&tokenizer, None, settings()).unwrap_err().to_string();
    assert!(error.contains("no chat template"), "{error}");
}

#[test]
fn both_sides_of_a_pair_begin_with_the_prompt() {
    let tokenizer = tokenizer();
    let records = [
        json!({"prompt": "天空为什么是蓝的？", "chosen": "因为瑞利散射。", "rejected": "\n\n不知道", "margin": 0.5}),
        json!({
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: bad"
        }),
    ];
    for (name, _) in TEMPLATES {
        let template = template(name, &tokenizer);
        let encoder = encoder(&tokenizer, &template);
        let data = data(&records);
        let pairs = encoder.encode_pairs(&data, &options()).unwrap();
        for (pair, example) in pairs.examples.iter().zip(&data.examples) {
            let Body::Pair(written) = &example.body else { panic!("a pair") };
            let prompt = encoder.prompt(&written.prompt, &[]).unwrap().tokens;
            for side in [&pair.chosen, &pair.rejected] {
                assert!(side.ids.starts_with(&prompt), "{name}");
                assert_eq!(
                    side.assistant_mask.iter().position(|learnt| *learnt),
                    Some(prompt.len()),
                    "{name}"
                );
                assert_eq!(side.assistant_mask.last(), Some(&true), "{name}");
            }
        }
        assert_eq!(pairs.examples[0].margin, Some(0.5));
    }
}

#[test]
fn nothing_is_cut_in_silence() {
    let tokenizer = tokenizer();
    let template = template("plain", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let turn = |number: usize| {
        [message("user", &format!("question {number}")), message("assistant", &format!("answer {number}"))]
    };
    let mut messages = vec![message("system", "Be brief.")];
    messages.extend((0..6).flat_map(turn));
    messages.extend([message("user", &"long ".repeat(200)), message("assistant", "short")]);
    messages.extend(turn(7));
    let data = data(&[json!({ "messages": messages })]);
    let within = |overlong, context| {
        let options = EncodeOptions { overlong, context, ..options() };
        encoder.encode_conversations(&data, &options)
    };
    let error = within(Overlong::Error, 100).unwrap_err();
    assert!(matches!(error, DataError::TooLong { context: 100, can_split: true, .. }), "{error}");
    let dropped = within(Overlong::Drop, 100).unwrap();
    assert_eq!((dropped.examples.len(), dropped.counts.too_long), (0, 1));
    let split = within(Overlong::Split, 100).unwrap();
    assert_eq!((split.counts.split, split.counts.too_long), (1, 1));
    assert!(split.examples.len() > 1 && split.counts.parts == split.examples.len() as u64);
    let texts: Vec<String> = split.examples.iter().flat_map(|example| learnt(&tokenizer, example)).collect();
    let expected: Vec<String> =
        [0, 1, 2, 3, 4, 5, 7].map(|number| format!("answer {number}<|im_end|>")).into();
    assert_eq!(texts, expected);
    for example in &split.examples {
        assert!(example.ids.len() <= 100);
        let text = tokenizer.decode(&example.ids, ControlText::Show).unwrap();
        assert!(text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"), "{text}");
    }
    let options = EncodeOptions { overlong: Overlong::Split, ..options() };
    let pairs = support::data(&[json!({"prompt": "a", "chosen": "b", "rejected": "c"})]);
    assert!(matches!(
        encoder.encode_pairs(&pairs, &options),
        Err(DataError::Setting { field: "overlong", .. })
    ));
    let options = EncodeOptions { overlong: Overlong::Drop, context: 5, ..options };
    let dropped = encoder.encode_pairs(&pairs, &options).unwrap();
    assert_eq!((dropped.examples.len(), dropped.counts.too_long), (0, 1));
}

#[test]
fn only_the_last_answer_or_those_with_a_weight_can_be_learnt() {
    let tokenizer = tokenizer();
    let template = template("plain", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let messages = json!([
        message("user", "a"), {"role": "assistant", "content": "b", "weight": 0}, message("user", "c"),
        message("assistant", "d"), message("user", "e"), message("assistant", "f")
    ]);
    let data = data(&[json!({ "messages": messages })]);
    let texts = |learnt_answers| {
        let options = EncodeOptions { learnt: learnt_answers, ..options() };
        let encoded = encoder.encode_conversations(&data, &options).unwrap();
        encoded.examples.iter().flat_map(|example| learnt(&tokenizer, example)).collect::<Vec<_>>()
    };
    assert_eq!(texts(LearntAnswers::All), ["d<|im_end|>", "f<|im_end|>"]);
    assert_eq!(texts(LearntAnswers::Last), ["f<|im_end|>"]);
}

/// An answer of weight 0 in a list beside its prompt or completion was once learnt.
#[test]
fn weights_count_in_the_lists_of_a_prompt_and_of_a_completion() {
    let unlearnt = json!({"role": "assistant", "content": "b", "weight": 0});
    let last = json!([message("user", "a"), unlearnt, message("user", "c")]);
    let record = json!({"system": "s", "prompt": last, "completion": "d"});
    assert_eq!(learnt_texts("plain", &record), [["d<|im_end|>"]]);
    let completion = json!([unlearnt, message("user", "c"), message("assistant", "d")]);
    let record = json!({"prompt": "a", "completion": completion});
    assert_eq!(learnt_texts("plain", &record), [["d<|im_end|>"]]);
}

/// Of a conversation that was divided, the last answer of every part was once learnt where it was to be the last one alone.
#[test]
fn of_a_divided_conversation_the_last_answer_of_all_is_learnt_and_of_no_part_its_own() {
    let tokenizer = tokenizer();
    let template = template("plain", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let talk = |weight: u8, last: &str| -> Dataset {
        let mut messages = vec![message("system", "Be brief.")];
        for turn in 0..19 {
            let answer = format!("answer {turn}");
            messages.push(message("user", &format!("question {turn}")));
            messages.push(json!({"role": "assistant", "content": answer, "weight": weight}));
        }
        messages.extend([message("user", last), message("assistant", "the last answer")]);
        data(&[json!({ "messages": messages })])
    };
    let split = |data: &Dataset, learnt: LearntAnswers| {
        let options = EncodeOptions { overlong: Overlong::Split, context: 130, learnt, ..options() };
        encoder.encode_conversations(data, &options).unwrap()
    };
    let long = "long ".repeat(200);
    let divided = split(&talk(1, "a question"), LearntAnswers::Last);
    assert_eq!((divided.counts.split, divided.counts.parts, divided.counts.too_long), (1, 1, 0));
    let [part] = &divided.examples[..] else { panic!("{} examples", divided.examples.len()) };
    assert_eq!(learnt(&tokenizer, part), ["the last answer<|im_end|>"]);
    assert!(part.ids.len() <= 130, "{} tokens", part.ids.len());
    // What fits of the turns before it is what it answers, behind the system message.
    let text = tokenizer.decode(&part.ids, ControlText::Show).unwrap();
    assert!(text.contains("Be brief.") && text.contains("question 18<"), "{text}");
    assert!(!text.contains("question 0<"), "{text}");
    // Weights say the same.
    assert_eq!(split(&talk(0, "a question"), LearntAnswers::All).examples, divided.examples);
    // Where the turn of the last answer is too long, there is no part with anything to learn.
    let too_long = split(&talk(1, &long), LearntAnswers::Last);
    assert_eq!((too_long.examples.len(), too_long.counts.too_long, too_long.counts.split), (0, 1, 0));
    // Where all answers are learnt, every part learns some.
    let all = split(&talk(1, &long), LearntAnswers::All);
    assert_eq!((all.counts.too_long, all.counts.parts), (1, all.examples.len() as u64));
    assert!(all.examples.len() > 1);
    assert!(all.examples.iter().all(|example| example.assistant_mask.contains(&true)));
}

/// No test had a tokenizer that begins texts with a token by itself: beside the one that a template writes it would be the second.
#[test]
fn a_tokenizer_that_begins_texts_adds_nothing_to_conversations_served_or_trained_on() {
    let tokenizers = [tokenizer_with_bos(false), tokenizer_with_bos(true)];
    assert_eq!([tokenizers[0].adds_bos(), tokenizers[1].adds_bos()], [false, true]);
    let bos = tokenizers[1].bos().unwrap();
    let literal = format!("<s>{}", TEMPLATES[0].1);
    let mut messages = conversations();
    messages.push(json!([message("user", "<s> is text"), message("assistant", "So is <s>.")]));
    for (name, source) in TEMPLATES.into_iter().chain([("literal", literal.as_str())]) {
        // As many as the template writes, which is one where it writes any.
        let expected = usize::from(["headers", "instruct", "literal"].contains(&name));
        for messages in &messages {
            let data = data(&[json!({ "messages": messages })]);
            let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
            let (_, before) = conversation.messages.split_last().unwrap();
            let encoded = tokenizers.each_ref().map(|tokenizer| {
                let template = ChatTemplate::new(source, tokenizer).unwrap();
                let encoder = encoder(tokenizer, &template);
                let served = encoder.prompt(before, &[]).unwrap().tokens;
                let examples = encoder.encode_conversations(&data, &options()).unwrap().examples;
                let last = examples.last().unwrap();
                assert!(last.ids.starts_with(&served) && last.ids.len() > served.len(), "{name}");
                assert!(last.assistant_mask[served.len()..].iter().all(|learnt| *learnt), "{name}");
                for ids in examples.iter().map(|example| &example.ids).chain([&served]) {
                    assert_eq!(ids.iter().filter(|id| **id == bos).count(), expected, "{name}: {messages}");
                    assert_eq!(ids.first() == Some(&bos), expected == 1, "{name}: {messages}");
                }
                examples
            });
            assert_eq!(encoded[0], encoded[1], "{name}");
        }
    }
}

#[test]
fn threads_do_not_change_tokens_and_fingerprints_change_with_them() {
    let tokenizer = tokenizer();
    let template = template("thinking", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let record = |number: usize| {
        let turn = |turn: usize| [message("user", &format!("{number}.{turn}?")), message("assistant", "是")];
        json!({ "messages": (0..1 + number % 3).flat_map(turn).collect::<Vec<_>>() })
    };
    let data = data(&(0..50).map(record).collect::<Vec<_>>());
    let encode = |threads: usize, data| {
        let options = EncodeOptions { threads: NonZeroUsize::new(threads).unwrap(), ..options() };
        encoder.encode_conversations(data, &options).unwrap()
    };
    let alone = encode(1, &data);
    for threads in [2, 7, 100] {
        let together = encode(threads, &data);
        assert_eq!((&together.examples, &together.origins), (&alone.examples, &alone.origins));
        assert_eq!(together.fingerprint(), alone.fingerprint());
    }
    assert_eq!(alone.counts.turns_apart, 33);
    let mut other = data.clone();
    other.examples.pop();
    assert_ne!(encode(1, &other).fingerprint(), alone.fingerprint());
}

/// Where only other tokens stand for the same text, it was once said that the template rewrites what was said before.
#[test]
fn it_is_counted_apart_why_answers_are_examples_of_their_own() {
    let tokenizer = tokenizer();
    let data = data(&[json!({"messages": [
        message("user", "U"), message("assistant", " A "), message("user", "V"), message("assistant", "B")
    ]})]);
    for (name, expected) in [("plain", (0, 0, 1)), ("thinking", (1, 0, 2)), ("generation_tag", (0, 1, 2))] {
        let template = template(name, &tokenizer);
        let encoder = encoder(&tokenizer, &template);
        let encoded = encoder.encode_conversations(&data, &options()).unwrap();
        let counts = (encoded.counts.turns_apart, encoded.counts.boundaries_apart, encoded.examples.len());
        assert_eq!(counts, expected, "{name}");
    }
}

#[test]
fn prompts_for_rewards_keep_their_fields() {
    let tokenizer = tokenizer();
    let template = template("plain", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let data = data(&[json!({"question": "三加四？", "answer": "#### 7", "level": 2})]);
    let tasks = encoder.encode_tasks(&data, &options()).unwrap();
    assert_eq!(json!(tasks.examples[0].fields), json!({"answer": "#### 7", "level": 2}));
    assert_eq!(tasks.examples[0].messages, [message("user", "三加四？")]);
    let text = tokenizer.decode(&tasks.examples[0].prompt, ControlText::Show).unwrap();
    assert!(text.ends_with("三加四？<|im_end|>\n<|im_start|>assistant\n"), "{text}");
    let as_conversations = data.for_kind(Kind::Conversations).unwrap();
    let encoded = encoder.encode_conversations(&as_conversations, &options()).unwrap();
    assert_eq!(learnt(&tokenizer, &encoded.examples[0]), ["#### 7<|im_end|>"]);
}

#[test]
fn where_a_template_writes_prompts_alone_the_answer_is_its_text_and_the_end_of_the_sequence() {
    let tokenizer = tokenizer();
    let template = template("prompts", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let record = json!({"messages": [message("user", "春夜"), message("assistant", "春眠不覺曉<|im_end|>")]});
    let encoded = encoder.encode_conversations(&data(std::slice::from_ref(&record)), &options()).unwrap();
    let [example] = &encoded.examples[..] else { panic!("one example") };
    let end = *tokenizer.end_of_turn().first().unwrap();
    assert_eq!(example.ids.last(), Some(&end));
    // What looks like a token in an answer is text.
    assert_eq!(example.ids.iter().filter(|id| tokenizer.end_of_turn().contains(id)).count(), 1);
    let Body::Conversation(read) = &data(&[record]).examples[0].body else { panic!("a conversation") };
    let prompt = encoder.prompt(&read.messages[..1], &[]).unwrap().tokens;
    assert!(example.ids.starts_with(&prompt));
    assert_eq!(example.assistant_mask.iter().position(|learnt| *learnt), Some(prompt.len()));
}

#[test]
fn what_a_model_wrote_becomes_a_message_if_the_template_writes_it_back() {
    let tokenizer = tokenizer();
    let written = |name: &str, ids: &[u32]| -> Result<(Option<String>, String), WrittenFault> {
        let template = template(name, &tokenizer);
        let encoder = Encoder::for_prompts(&tokenizer, Some(&template), settings()).unwrap();
        let prompts = data(&[json!({"prompt": "Why?", "answer": "."})]).for_kind(Kind::Tasks).unwrap();
        let Body::Task(task) = &prompts.examples[0].body else { panic!("no prompt") };
        encoder.written_answer(task, ids).map(|message| (message.thought, message.content))
    };
    let text = |text: &str| tokenizer.encode(text, Specials::AsText).unwrap();
    let said = |thought: Option<&str>, content: &str| Ok((thought.map(str::to_owned), content.to_owned()));
    assert_eq!(written("plain", &text("Yes, 青天。")), said(None, "Yes, 青天。"));
    assert_eq!(written("plain", &text(" \n ")), Err(WrittenFault::Empty));
    let thought = text("<think>\nShort.\n</think>\n\nYes.");
    assert_eq!(written("thinking", &thought), said(Some("Short."), "Yes."));
    assert_eq!(written("opening", &text("Short.\n</think>\n\nYes.")), said(Some("Short."), "Yes."));
    // The template would write an empty thought before it; and a thought without an end has no answer.
    assert_eq!(written("thinking", &text("Yes.")), Err(WrittenFault::Rewritten));
    assert_eq!(written("thinking", &text("<think>\nShort.")), Err(WrittenFault::Empty));
    // A control token is none once it is text, and half a character is no text.
    let control = tokenizer.encode("a<|im_start|>b", Specials::Parse).unwrap();
    assert_eq!(written("plain", &control), Err(WrittenFault::Rewritten));
    assert_eq!(written("plain", &text("<|im_start|>")), said(None, "<|im_start|>"));
    let half = text("青");
    assert!(half.len() > 1);
    assert_eq!(written("plain", &half[..1]), Err(WrittenFault::Rewritten));
}
