//! Conversations that are longer than the context: no more of them is rendered and encoded than is needed to know it, and what is counted is what
//! would be counted of all of it.

use std::num::NonZeroUsize;

use crate::support::*;
use serde_json::{Value, json};
use zhenjin_align::data::{
    BadKind, BadPolicy, Beginning, Body, CheckOptions, DataError, Dataset, EncodeOptions, Encoded,
    EncodedPair, Encoder, LearntAnswers, Overlong, check,
};
use zhenjin_tokenizer::{ChatTemplate, ControlText, EncodedDialogue, Tokenizer};

/// Refuses whatever has more messages than a few contexts could hold, so that a prompt behind them is not made unseen.
const FEW: &str = "{% if messages | length > 60 %}{{ raise_exception('so many messages') }}{% endif %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Keeps what the assistant wrote behind the latest question alone, as templates do with thoughts.
const FORGETFUL: &str = "{% set ns = namespace(last=0) %}\
    {% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n\
    {% if m.role != 'assistant' or loop.index0 > ns.last %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn options(overlong: Overlong, context: usize) -> EncodeOptions {
    EncodeOptions {
        context,
        overlong,
        bad: BadPolicy::Stop,
        learnt: LearntAnswers::All,
        threads: NonZeroUsize::MIN,
    }
}

fn of_template(source: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    ChatTemplate::new(source, tokenizer).unwrap()
}

fn turn(number: usize) -> [Value; 2] {
    [message("user", &format!("question {number}")), message("assistant", &format!("answer {number}"))]
}

fn talk(turns: usize) -> Value {
    let messages: Vec<Value> = (0..turns).flat_map(turn).collect();
    json!({ "messages": messages })
}

/// The texts that an example learns.
fn learnt(tokenizer: &Tokenizer, example: &EncodedDialogue) -> Vec<String> {
    let is_learnt = |place: usize| example.assistant_mask.get(place) == Some(&true);
    let begins = |place: &usize| is_learnt(*place) && (*place == 0 || !is_learnt(*place - 1));
    let text = |begin: usize| {
        let ids: Vec<u32> =
            (begin..).take_while(|place| is_learnt(*place)).map(|place| example.ids[place]).collect();
        tokenizer.decode(&ids, ControlText::Show).unwrap()
    };
    (0..example.ids.len()).filter(begins).map(text).collect()
}

/// Every answer of a conversation of thousands of messages was once written and encoded with all that was said before it, and only then compared
/// with the context.
#[test]
fn of_a_long_conversation_no_more_is_rendered_than_a_context_holds() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let data = data(&[talk(1000)]);
    let encode = |overlong| encoder.encode_conversations(&data, &options(overlong, 100));
    let error = encode(Overlong::Error).unwrap_err();
    let DataError::TooLong { tokens, is_whole: false, can_split: true, .. } = error else {
        panic!("{error}")
    };
    assert!(tokens > 100 && tokens < 300, "{error}");
    assert!(
        error.to_string().contains(&format!("has {tokens} tokens or more, the context has 100")),
        "{error}"
    );
    let dropped = encode(Overlong::Drop).unwrap();
    assert_eq!((dropped.examples.len(), dropped.counts.too_long, dropped.bad.total()), (0, 1, 0));
    let split = encode(Overlong::Split).unwrap();
    let texts: Vec<String> = split.examples.iter().flat_map(|example| learnt(&tokenizer, example)).collect();
    let expected: Vec<String> = (0..1000).map(|number| format!("answer {number}<|im_end|>")).collect();
    assert_eq!(texts, expected);
    assert!(split.examples.iter().all(|example| example.ids.len() <= 100));
    assert_eq!((split.counts.split, split.counts.too_long), (1, 0));
    assert_eq!(split.counts.parts, split.examples.len() as u64);
    // As many turns as fit are in each part.
    let turns = learnt(&tokenizer, &split.examples[0]).len();
    let one_more = tokens_of(&encoder, turns + 1);
    assert!(turns > 1 && one_more > 100, "{turns} turns fit, and {} have {one_more} tokens", turns + 1);
}

/// Tokens of a conversation of so many turns.
fn tokens_of(encoder: &Encoder<'_>, turns: usize) -> usize {
    all_of(encoder, &data(&[talk(turns)]))[0].ids.len()
}

/// Every example of the first conversation, encoded to its end.
fn all_of(encoder: &Encoder<'_>, data: &Dataset) -> Vec<EncodedDialogue> {
    encoder.encode_conversations(data, &options(Overlong::Error, usize::MAX)).unwrap().examples
}

/// A turn with a call: its second answer stands behind the first one and a tool's message.
fn turn_with_call(number: usize, thought: Option<&str>) -> [Value; 4] {
    let id = format!("call {number}");
    let call = json!({"id": id, "type": "function", "function": {"name": "weather", "arguments": "{}"}});
    let first = format!("first {number}");
    let mut called = json!({"role": "assistant", "content": first, "tool_calls": [call]});
    if let Some(thought) = thought {
        called["reasoning_content"] = json!(thought);
    }
    [
        message("user", &format!("question {number}")),
        called,
        json!({"role": "tool", "tool_call_id": id, "content": "21"}),
        message("assistant", &format!("second {number}")),
    ]
}

#[test]
fn what_is_left_out_is_counted_as_if_all_had_been_encoded() {
    let tokenizer = tokenizer();
    let long = |number: usize| [message("user", &"long ".repeat(40)), turn(number)[1].clone()];
    let talk_of = |turns: Vec<Value>| {
        let messages = [vec![message("system", "Be brief.")], turns].concat();
        json!({ "messages": messages })
    };
    let conversations = [
        talk_of((0..8).flat_map(turn).collect()),
        talk_of([turn(0), turn(1), turn(2), long(3), turn(4), turn(5)].concat()),
        talk_of([long(0), turn(1), turn(2)].concat()),
        talk_of([turn(0), long(1)].concat()),
    ];
    let with_calls =
        |thought: Option<&str>| talk_of((0..4).flat_map(|number| turn_with_call(number, thought)).collect());
    // What was thought is left out as soon as the user asks something new: prompts become shorter.
    let thought = "a long thought ".repeat(6);
    let names = ["plain", "hermes_tools", "thinking", "headers", "instruct", "generation_tag", "prompts"];
    let templates = names.map(|name| (name, template(name, &tokenizer)));
    let templates = templates.into_iter().chain([("forgetful", of_template(FORGETFUL, &tokenizer))]);
    for (name, template) in templates {
        let encoder = encoder(&tokenizer, &template);
        let with_calls = match name {
            "plain" | "forgetful" => Some(with_calls(None)),
            "thinking" => Some(with_calls(Some(thought.as_str()))),
            _ => None,
        };
        for conversation in conversations.iter().cloned().chain(with_calls) {
            let data = data(&[conversation]);
            let all = all_of(&encoder, &data);
            for context in (20..600).step_by(53) {
                let fits = |example: &&EncodedDialogue| example.ids.len() <= context;
                let fit: Vec<EncodedDialogue> = all.iter().filter(fits).cloned().collect();
                let too_long = (all.len() - fit.len()) as u64;
                let dropped = encoder.encode_conversations(&data, &options(Overlong::Drop, context)).unwrap();
                assert_eq!(dropped.examples, fit, "{name}, {context}");
                assert_eq!(dropped.counts.too_long, too_long, "{name}, {context}");
                let found = encoder.encode_conversations(&data, &options(Overlong::Error, context));
                assert_eq!(found.is_err(), too_long > 0, "{name}, {context}");
            }
        }
    }
}

/// A turn whose second answer does not fit any more is none of the part, and the part is as it was before.
#[test]
fn of_a_turn_with_several_answers_a_part_has_all_or_none() {
    let tokenizer = tokenizer();
    let turn = |number: usize| turn_with_call(number, None);
    let messages: Vec<Value> = (0..8).flat_map(turn).collect();
    let data = data(&[json!({ "messages": messages })]);
    let template = template("plain", &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let whole = all_of(&encoder, &data);
    let all = learnt(&tokenizer, &whole[0]);
    assert_eq!((whole.len(), all.len()), (1, 16));
    let mut parts = Vec::new();
    for context in (20..whole[0].ids.len() + 40).step_by(23) {
        let Encoded { examples, counts, .. } =
            encoder.encode_conversations(&data, &options(Overlong::Split, context)).unwrap();
        let texts: Vec<Vec<String>> = examples.iter().map(|example| learnt(&tokenizer, example)).collect();
        assert!(texts.iter().all(|texts| texts.len() % 2 == 0), "{context}: {texts:?}");
        assert!(examples.iter().all(|example| example.ids.len() <= context));
        if counts.too_long == 0 {
            assert_eq!(texts.concat(), all, "{context}");
            parts.push(examples.len());
        } else {
            assert_eq!(counts.too_long as usize, (all.len() - texts.concat().len()) / 2, "{context}");
        }
        assert_eq!(counts.split > 0, !(examples.is_empty() || examples == whole), "{context}");
    }
    assert!(parts.contains(&1) && parts.contains(&2) && parts.contains(&8), "{parts:?}");
}

/// A look at such data took as long as training on them would have, and longer: there was no context at all.
#[test]
fn a_check_encodes_conversations_up_to_the_models_context() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let data = data(&[talk(2), talk(1000), talk(3)]);
    let encoder = encoder(&tokenizer, &template).with_context(200);
    let [two, three] = [2, 3].map(|turns| tokens_of(&encoder, turns));
    assert!(two < three && three < 200, "{two} {three}");
    for (asked, too_long) in [(None, None), (Some(two), Some(2)), (Some(three), Some(1))] {
        let options = CheckOptions { context: asked, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
        let report = check(&data, None, Some(&encoder), &options).unwrap().tokens.unwrap();
        assert_eq!((report.bad.total(), report.counts.unfinished, report.counts.too_long), (0, 1, 0));
        assert_eq!((report.lengths.count, report.too_long), (3, too_long), "{:?}", report.lengths);
        assert!(report.lengths.most > 200 && report.lengths.most < 400, "{:?}", report.lengths);
        assert!(report.longest.as_ref().is_some_and(|place| place.ends_with(":2")), "{:?}", report.longest);
    }
}

/// Where answers are examples of their own, those that were not encoded are counted.
#[test]
fn a_check_counts_the_answers_behind_the_models_context() {
    let tokenizer = tokenizer();
    let template = template("thinking", &tokenizer);
    let encoder = encoder(&tokenizer, &template).with_context(200);
    let data = data(&[talk(40)]);
    let options = CheckOptions { context: Some(200), learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
    let report = check(&data, None, Some(&encoder), &options).unwrap().tokens.unwrap();
    assert_eq!((report.lengths.count + report.counts.too_long, report.counts.unfinished), (40, 1));
    assert!(report.counts.too_long > 20, "{:?}", report.counts);
    let too_long = all_of(&encoder, &data).iter().filter(|example| example.ids.len() > 200).count();
    assert_eq!(report.too_long, Some(too_long as u64));
}

/// Regression: only what was left unread was counted as longer than the model's context, so that examples of one long turn were not.
#[test]
fn a_check_counts_all_that_is_longer_than_the_models_context() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let encoder = encoder(&tokenizer, &template).with_context(200);
    let long = "word ".repeat(300);
    let said = |question: &str, answer: &str| [message("user", question), message("assistant", answer)];
    let of_turns = |turns: &[[Value; 2]]| json!({ "messages": turns.concat() });
    let of_turn = |question: &str, answer: &str| of_turns(&[said(question, answer)]);
    let pair = |prompt: &str, chosen: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": "bad"});
    let huge = of_turns(&[turn(0), turn(1), said(&long, &long)]);
    let of_task = |prompt: &str| json!({"prompt": prompt, "answer": "4"});
    let of_thumb = |prompt: &str| json!({"prompt": prompt, "completion": "yes", "label": true});
    for (records, expected) in [
        (vec![of_turn(&long, "short"), of_turn("short", "short")], 1),
        (vec![of_turn("short", &long), of_turn("short", "short")], 1),
        (vec![huge.clone()], 1),
        (vec![talk(1000), talk(2), of_turn(&long, &long), huge], 3),
        (vec![pair(&long, "good"), pair("short", &long), pair("short", "good")], 2),
        (vec![of_task(&long), of_task("short")], 1),
        (vec![of_thumb(&long), of_thumb("short")], 1),
        (vec![of_turn("short", "short")], 0),
    ] {
        let options = CheckOptions { context: None, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
        let report = check(&data(&records), None, Some(&encoder), &options).unwrap().tokens.unwrap();
        assert_eq!((report.beyond_context, report.context), (expected, Some(200)), "{records:?}");
        assert!(report.counts.unfinished <= report.beyond_context);
    }
    // A conversation whose answers are examples of their own counts once.
    let template = of_template(FORGETFUL, &tokenizer);
    let encoder = self::encoder(&tokenizer, &template).with_context(200);
    let apart = of_turns(&[said(&long, "a"), turn(1), turn(2)]);
    let options = CheckOptions { context: None, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
    let report = check(&data(&[apart]), None, Some(&encoder), &options).unwrap().tokens.unwrap();
    assert_eq!(report.beyond_context, 1);
}

/// A pair whose sides differ from the first answer on, and go on for so many turns.
fn long_pair(turns: usize) -> Value {
    let side = |first: &str| -> Vec<Value> {
        let begin = [message("user", "question 0"), message("assistant", first)];
        begin.into_iter().chain((1..turns).flat_map(turn)).collect()
    };
    json!({"chosen": side("good"), "rejected": side("bad")})
}

/// Regression: every answer of both sides of a pair was written and encoded with all that was said before it, whatever the context.
#[test]
fn of_a_long_pair_no_more_is_rendered_than_a_context_holds() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let data = data(&[long_pair(1000)]);
    let encode = |overlong| encoder.encode_pairs(&data, &options(overlong, 100));
    let error = encode(Overlong::Error).unwrap_err();
    let DataError::TooLong { tokens, is_whole: false, can_split: false, .. } = error else {
        panic!("{error}")
    };
    assert!(tokens > 100 && tokens < 300, "{error}");
    let dropped = encode(Overlong::Drop).unwrap();
    assert_eq!((dropped.examples.len(), dropped.counts.too_long, dropped.bad.total()), (0, 1, 0));
}

/// Regression: so did a look at the data.
#[test]
fn a_check_encodes_pairs_up_to_the_models_context() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let encoder = encoder(&tokenizer, &template).with_context(200);
    let data = data(&[long_pair(2), long_pair(1000)]);
    for (asked, too_long) in [(None, None), (Some(200), Some(1))] {
        let options = CheckOptions { context: asked, learnt: LearntAnswers::All, threads: NonZeroUsize::MIN };
        let report = check(&data, None, Some(&encoder), &options).unwrap().tokens.unwrap();
        assert_eq!((report.bad.total(), report.counts.unfinished, report.too_long), (0, 1, too_long));
        assert_eq!(report.lengths.count, 4);
        assert!(report.lengths.most > 200 && report.lengths.most < 400, "{:?}", report.lengths);
    }
}

/// Regression: that a template rewrites the earlier turns of a pair's answers was only said when all of them were encoded.
#[test]
fn a_pair_whose_turns_are_rewritten_is_refused_at_its_second_answer() {
    let tokenizer = tokenizer();
    let few = "{% if messages | length > 60 %}{{ raise_exception('so many messages') }}{% endif %}";
    let template = of_template(&format!("{few}{FORGETFUL}"), &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let data = data(&[long_pair(1000)]);
    match encoder.encode_pairs(&data, &options(Overlong::Drop, 1 << 20)) {
        Err(DataError::Bad(bad)) => {
            assert_eq!(bad.kind, BadKind::NotWritable, "{bad}");
            assert!(bad.reason.contains("the template rewrites earlier ones"), "{bad}");
        }
        other => panic!("{other:?}"),
    }
}

/// Regression: to show one example, all of it was encoded, however long.
#[test]
fn an_example_is_shown_up_to_the_models_context() {
    let tokenizer = tokenizer();
    let template = of_template(FEW, &tokenizer);
    let encoder = encoder(&tokenizer, &template).with_context(200);
    let data = data(&[talk(1000), talk(2)]);
    let shown: Vec<Beginning<Vec<EncodedDialogue>>> = data
        .examples
        .iter()
        .map(|example| match &example.body {
            Body::Conversation(conversation) => {
                encoder.conversation(conversation, LearntAnswers::All).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let [long, short] = &shown[..] else { panic!("{shown:?}") };
    let answers = learnt(&tokenizer, &long.example[0]).len();
    assert_eq!((long.example.len(), answers + long.unread), (1, 1000));
    assert!(long.example[0].ids.len() > 200 && long.example[0].ids.len() < 400);
    assert_eq!((short.example.len(), short.unread), (1, 0));

    let pairs = self::data(&[long_pair(1000)]);
    let Body::Pair(pair) = &pairs.examples[0].body else { panic!("a pair") };
    let Beginning { example: EncodedPair { chosen, rejected, .. }, unread } = encoder.pair(pair).unwrap();
    let answers = learnt(&tokenizer, &chosen).len() + learnt(&tokenizer, &rejected).len();
    assert_eq!(answers + unread, 2000);
    assert!(chosen.ids.len() < 400 && rejected.ids.len() < 400);
}

/// Where each answer is an example of its own, no more of them are shown than somebody could read.
#[test]
fn of_many_examples_no_more_are_shown_than_can_be_read() {
    let tokenizer = tokenizer();
    let template = of_template(FORGETFUL, &tokenizer);
    let encoder = encoder(&tokenizer, &template);
    let data = data(&[talk(1000)]);
    let Body::Conversation(conversation) = &data.examples[0].body else { panic!("a conversation") };
    let Beginning { example, unread } = encoder.conversation(conversation, LearntAnswers::All).unwrap();
    assert!(example.len() > 1 && example.len() <= 257, "{}", example.len());
    assert_eq!(example.len() + unread, 1000);
}
