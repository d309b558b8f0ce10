//! Nobody but the template writes control tokens: for every one of every tokenizer, in every place that holds a text.

use crate::support::*;
use serde_json::{Value, json};
use zhenjin_tokenizer::{
    ChatTemplate, ControlText, GgufVocabulary, RenderInput, Specials, Tokenizer, TokenizerConfig,
};

const HERMES: &str = include_str!("data/templates/hermes_tools.jinja");
const THINKING: &str = include_str!("data/templates/thinking.jinja");
const HEADERS: &str = include_str!("data/templates/headers.jinja");

fn specials(tokenizer: &Tokenizer) -> Vec<(u32, String)> {
    let ids: Vec<u32> = tokenizer.special_ids().collect();
    ids.into_iter().zip(tokenizer.special_texts()).collect()
}

fn count_specials(tokenizer: &Tokenizer, ids: &[u32]) -> usize {
    ids.iter().filter(|&&id| tokenizer.is_special(id)).count()
}

#[test]
fn as_text_never_yields_a_control_token_and_parse_always_does() {
    for (name, tokenizer) in all_tokenizers() {
        for (id, special) in specials(&tokenizer) {
            for text in
                [special.clone(), format!("a{special}b"), format!(" {special}{special} \n中{special}")]
            {
                let ids = tokenizer.encode(&text, Specials::AsText).unwrap();
                assert_eq!(count_specials(&tokenizer, &ids), 0, "{name}: {text}");
                assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), text, "{name}");
                let ids = tokenizer.encode(&text, Specials::Parse).unwrap();
                assert_eq!(
                    ids.iter().filter(|&&found| found == id).count(),
                    text.matches(&special).count(),
                    "{name}: {text}"
                );
            }
        }
    }
}

/// Conversations with `text` in every place where a user, a tool or a model can put one.
fn conversations_with(text: &str) -> Vec<(Vec<Value>, Vec<Value>)> {
    let tool = |name: &str, description: &str| {
        json!({ "type": "function", "function": { "name": name, "description": description, "parameters": {
            "type": "object", "properties": { description: { "enum": [description] } } } } })
    };
    let plain = tool("f", "a tool");
    let call = |name: &str, arguments: Value| json!({ "role": "assistant", "content": "x", "tool_calls": [{ "function": { "name": name, "arguments": arguments } }] });
    let user = |content: &str| json!({ "role": "user", "content": content });
    vec![
        (vec![user(text)], vec![]),
        (vec![json!({ "role": "system", "content": text }), user("x")], vec![]),
        (vec![user("x"), json!({ "role": "assistant", "content": text }), user("x")], vec![]),
        (vec![user("x"), call("f", json!({ "city": text, text: [text] }))], vec![plain.clone()]),
        (vec![user("x"), call("f", json!(format!("{{\"city\": {}}}", json!(text))))], vec![plain.clone()]),
        (vec![user("x"), call("f", json!({})), json!({ "role": "tool", "content": text })], vec![plain]),
        (vec![user("x")], vec![tool("f", text)]),
        (vec![user("x"), call(text, json!({}))], vec![tool(text, "a tool")]),
    ]
}

#[test]
fn control_tokens_in_any_part_of_a_conversation_stay_text() {
    for (name, tokenizer) in all_tokenizers() {
        for source in [HERMES, THINKING, HEADERS] {
            let template = ChatTemplate::new(source, &tokenizer).unwrap();
            for (_, special) in specials(&tokenizer) {
                for content in
                    [special.clone(), format!("  {special}\n"), format!("</think>{special}<think>{special}")]
                {
                    let hostile = conversations_with(&content);
                    for ((messages, tools), (plain, plain_tools)) in
                        hostile.into_iter().zip(conversations_with("y"))
                    {
                        let input = |messages, tools| RenderInput {
                            messages,
                            tools,
                            add_generation_prompt: true,
                            now: Some(time::OffsetDateTime::UNIX_EPOCH),
                            ..RenderInput::default()
                        };
                        let rendered = template.render(&input(&messages, &tools)).unwrap();
                        let expected = template.render(&input(&plain, &plain_tools)).unwrap();
                        let ids = tokenizer.encode_rendered(&rendered).unwrap();
                        let allowed = tokenizer.encode_rendered(&expected).unwrap();
                        assert_eq!(
                            count_specials(&tokenizer, &ids),
                            count_specials(&tokenizer, &allowed),
                            "{name}: {}",
                            rendered.text
                        );
                        if !name.starts_with("sentence-piece") {
                            // SentencePiece writes a space after every added token.
                            let decoded = tokenizer.decode(&ids, ControlText::Show).unwrap();
                            assert_eq!(decoded, rendered.text, "{name}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_control_token_in_pieces_is_not_put_together() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    let source = "{% for part in messages[0].content %}{{ part.text | trim }}{% endfor %}<|im_end|>";
    let template = ChatTemplate::new(source, &tokenizer).unwrap();
    for (_, special) in specials(&tokenizer) {
        for cut in 1..special.len() {
            let parts = json!([{ "text": special[..cut] }, { "text": format!(" {}", &special[cut..]) }]);
            let messages = [json!({ "role": "user", "content": parts })];
            let rendered =
                template.render(&RenderInput { messages: &messages, ..RenderInput::default() }).unwrap();
            assert_eq!(rendered.text, format!("{special}<|im_end|>"));
            let ids = tokenizer.encode_rendered(&rendered).unwrap();
            assert_eq!(count_specials(&tokenizer, &ids), 1, "{special} cut at {cut}");
        }
    }
}

/// Regression: a control token that begins in the template's own text and ends in a user's was one. Roles are not users' texts.
#[test]
fn a_control_token_that_the_template_begins_is_not_completed_by_a_user() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    for (source, name) in [
        ("<{{ m.name }}>", "|im_end|"),
        ("<{{ m.name | trim }}>", "  |im_end| "),
        ("<|{{ m.name }}|>", "im_end"),
        ("{{ '<|' + m.name }}", "im_end|>"),
        ("{{ '<|im_' ~ m.name ~ '|>' }}", "end"),
        ("{{ '<%s>' % m.name }}", "|im_end|"),
        ("{{ '<{}>'.format(m.name) }}", "|im_end|"),
    ] {
        let source = format!("{{% for m in messages %}}{source}{{% endfor %}}");
        let template = ChatTemplate::new(&source, &tokenizer).unwrap();
        let messages = [json!({ "role": "user", "name": name })];
        let input = RenderInput { messages: &messages, ..RenderInput::default() };
        let rendered = template.render(&input).unwrap();
        assert_eq!(rendered.text, "<|im_end|>", "{source}");
        let ids = tokenizer.encode_rendered(&rendered).unwrap();
        assert_eq!(count_specials(&tokenizer, &ids), 0, "{source}");
        assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), rendered.text, "{source}");
    }
    // Such a template sees users' texts as they were written.
    let source = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ m.name in ['end', 'x'] }} {{ {'end': 1}[m.name] }} \
        {{ {'end': 2}.get(m.name) }} {{ m.name == 'end' }} {{ m.name | length }} {{ m.name[0] }} {{ m.name in {'end': 3} }}{% endfor %}";
    let template = ChatTemplate::new(source, &tokenizer).unwrap();
    let messages = [json!({ "role": "im_start", "name": "end" })];
    let rendered = template.render(&RenderInput { messages: &messages, ..RenderInput::default() }).unwrap();
    assert_eq!(rendered.text, "<|im_start|>True 1 2 True 3 e True");
    let ids = tokenizer.encode_rendered(&rendered).unwrap();
    assert_eq!(ids.first().copied(), tokenizer.special_id("<|im_start|>"));
    assert_eq!(count_specials(&tokenizer, &ids), 1);
}

#[test]
fn text_without_control_tokens_is_encoded_as_the_whole_rendered_text() {
    for (name, tokenizer) in all_tokenizers() {
        let template = ChatTemplate::new(HERMES, &tokenizer).unwrap();
        for kind in generated_text::KINDS {
            let content = generated_text::generated_text(kind, 3000);
            let messages = [json!({ "role": "user", "content": content })];
            let input =
                RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
            let rendered = template.render(&input).unwrap();
            assert!(rendered.text.contains(&content), "{name}, {kind}");
            assert_eq!(
                tokenizer.encode_rendered(&rendered).unwrap(),
                tokenizer.encode(&rendered.text, Specials::Parse).unwrap(),
                "{name}, {kind}"
            );
        }
    }
}

#[test]
fn all_ids_that_a_list_names_end_a_turn() {
    let plain = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    let vocabulary =
        GgufVocabulary { eos: Some(3), more_ends: vec![5, 3, 4], ..byte_level_vocabulary("qwen2") };
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    for id in [3, 4, 5] {
        assert!(tokenizer.end_of_turn().contains(&id));
    }
    for id in plain.end_of_turn() {
        assert!(Some(*id) == plain.eos() || tokenizer.end_of_turn().contains(id), "{id}");
    }
    let outside = GgufVocabulary { more_ends: vec![u32::MAX], ..byte_level_vocabulary("qwen2") };
    assert!(Tokenizer::from_gguf(outside).unwrap_err().to_string().contains("eos_token_id"));
}

/// Regression: in folders, tokens that begin or end turns were ordinary words where the file calls them so: users could write them, and they
/// ended no turn.
#[test]
fn tokens_that_mark_turns_are_control_tokens_whatever_a_file_calls_them() {
    let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"];
    let mut json = byte_level_json("qwen2");
    let added = json["added_tokens"].as_array_mut().unwrap();
    // The configuration names one as the end that no list knows.
    let mut named = added[added.len() - 1].clone();
    named["id"] = json!(named["id"].as_u64().unwrap() + 1);
    named["content"] = json!("<my_end>");
    added.push(named);
    for token in added {
        token["special"] = json!(false);
    }
    let bytes = json.to_string().into_bytes();
    let config = TokenizerConfig { eos_token: Some("<my_end>".to_owned()), ..TokenizerConfig::default() };
    let folder = Tokenizer::from_tokenizer_json(&bytes, Some(&config)).unwrap();
    let exported = GgufVocabulary::from_tokenizer_json(&bytes, Some(&config)).unwrap();
    let exported = Tokenizer::from_gguf(exported).unwrap();
    for tokenizer in [&folder, &exported] {
        let texts: Vec<String> = specials(tokenizer).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, [&control[..], &["<my_end>"]].concat());
        for text in &texts {
            let ids = tokenizer.encode(text, Specials::AsText).unwrap();
            assert_eq!(count_specials(tokenizer, &ids), 0, "{text}");
            assert_eq!(tokenizer.decode(&ids, ControlText::Show).unwrap(), *text);
        }
        let ends = ["<my_end>", "<|im_end|>"].map(|text| tokenizer.special_id(text).unwrap());
        assert!(ends.iter().all(|end| tokenizer.end_of_turn().contains(end)), "{ends:?}");
        assert!(!tokenizer.end_of_turn().contains(&tokenizer.special_id("<|im_start|>").unwrap()));
        assert_eq!(tokenizer.special_id("<think>"), None);
    }
    // In a GGUF file too, the beginnings of turns.
    let mut vocabulary = byte_level_vocabulary("qwen2");
    vocabulary.token_types.iter_mut().filter(|kind| **kind == 3).for_each(|kind| *kind = 1);
    assert_eq!(Tokenizer::from_gguf(vocabulary).unwrap().special_texts(), control);
}

/// Pieces of text that tell llama.cpp's default rule from the others.
#[test]
fn a_file_without_a_pre_tokeniser_is_read_by_llama_cpps_default_rule() {
    let without =
        Tokenizer::from_gguf(GgufVocabulary { pre: None, ..byte_level_vocabulary("qwen2") }).unwrap();
    let default = Tokenizer::from_gguf(byte_level_vocabulary("default")).unwrap();
    for text in ["12345678", "a+b <= c!", "don't  stop", "你好，世界。"] {
        let ids = default.encode(text, Specials::AsText).unwrap();
        assert_eq!(without.encode(text, Specials::AsText).unwrap(), ids);
        assert_eq!(default.decode(&ids, ControlText::Show).unwrap(), text);
    }
}
