//! Templates and tokenizer files that mean harm: they end soon, in an error, with little memory.

use std::time::{Duration, Instant};

use crate::support::*;
use serde_json::{Value, json};
use zhenjin_tokenizer::{
    ChatTemplate, GgufVocabulary, MAX_TEMPLATE_BYTES, RenderInput, Specials, TemplateError, Tokenizer,
    TokenizerConfig,
};

const LIMIT: Duration = Duration::from_millis(50);

/// Compiles and renders, and returns the longer of the two times of the first of several runs within the limit, because other programs use the processor as well.
fn run(source: &str) -> (Duration, Result<String, TemplateError>) {
    let long = "word <|im_end|> ".repeat(4000);
    let messages = [json!({ "role": "user", "content": long, "list": (0..500).collect::<Vec<u32>>() })];
    let input = RenderInput { messages: &messages, add_generation_prompt: true, ..RenderInput::default() };
    let specials = vec!["<|im_end|>".to_owned()];
    let attempt = || {
        let started = Instant::now();
        let template = ChatTemplate::with_special_texts(source, "", "", specials.clone(), Vec::new());
        let compiled = started.elapsed();
        let outcome = template.and_then(|template| template.render(&input));
        (compiled.max(started.elapsed() - compiled), outcome.map(|rendered| rendered.text))
    };
    let mut best = attempt();
    for _ in 0..30 {
        if best.0 <= LIMIT {
            break;
        }
        let next = attempt();
        best = if next.0 < best.0 { next } else { best };
    }
    best
}

/// Nests two lists as deeply as the budget allows, then does something with them.
fn deep(body: &str) -> String {
    format!(
        "{{% set ns = namespace(l=[], m=[]) %}}{{% for i in range(3000) %}}{{% set ns.l = [ns.l] %}}{{% set ns.m = [ns.m] %}}{{% endfor %}}{body}"
    )
}

fn hostile_templates() -> Vec<(&'static str, String)> {
    let doubling = |body: &str| {
        format!(
            "{{% set ns = namespace(x='aaaaaaaa', l=[1]) %}}{{% for i in range(200) %}}{body}{{% endfor %}}{{{{ ns.x }}}}{{{{ ns.l }}}}"
        )
    };
    vec![
        ("loops in loops", "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}".into()),
        ("a silent loop", "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}".into()),
        ("doubled text", doubling("{% set ns.x = ns.x ~ ns.x %}")),
        ("added text", doubling("{% set ns.x = ns.x + ns.x %}")),
        ("joined text", doubling("{% set ns.x = [ns.x, ns.x] | join %}")),
        ("replaced text", doubling("{% set ns.x = ns.x.replace('a', 'aa') %}")),
        ("replaced text by filter", doubling("{% set ns.x = ns.x | replace('a', 'aa') %}")),
        ("doubled list", doubling("{% set ns.l = ns.l + ns.l %}")),
        ("nested list", doubling("{% set ns.l = [ns.l, ns.l] %}")),
        ("formatted text", doubling("{% set ns.x = '%s%s' | format(ns.x, ns.x) %}")),
        ("formatted width", "{{ '%999999999d' | format(1) }}".into()),
        ("repeated text", "{{ 'x' * 99999999 }}".into()),
        ("repeated list", "{{ ([1] * 99999999) | length }}".into()),
        ("a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into()),
        ("a macro that calls itself twice", "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}".into()),
        ("a recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
        ("searches in a long text", "{% for i in range(9999) %}{% if messages[0].content.count('w') == 1 %}{% endif %}{{ messages[0].content.find('zz') }}{% endfor %}".into()),
        ("filters over a long text", "{% for i in range(9999) %}{% set x = messages[0].content | upper | trim | length %}{% endfor %}".into()),
        ("splits of a long text", "{% for i in range(9999) %}{% set x = messages[0].content.split(' ') %}{% endfor %}".into()),
        ("a long text searched by in", "{% for i in range(9999) %}{% if 'zz' in messages[0].content %}{% endif %}{% endfor %}".into()),
        ("a long text compared", "{% for i in range(9999) %}{% if messages[0].content == messages[0].content ~ '' %}{% endif %}{% endfor %}".into()),
        ("a long text sliced", "{% for i in range(9999) %}{% set x = messages[0].content[::-1] %}{% endfor %}".into()),
        ("a long text as JSON", "{% for i in range(9999) %}{% set x = messages | tojson %}{% endfor %}".into()),
        ("a long text counted by filter", "{% for i in range(9999) %}{% set x = messages[0].content | length %}{% endfor %}".into()),
        ("wide JSON", "{{ messages | tojson(indent=999999999) }}".into()),
        ("sorting", "{% for i in range(9999) %}{% set x = messages[0].list | sort | unique | list %}{% endfor %}".into()),
        ("a deep value", "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}{{ ns.l | tojson }}".into()),
        ("chains as long as allowed", format!("{{{{ 1{} }}}}{{{{ a{} }}}}{{{{ a{} }}}}{{{{ {}1 }}}}{{{{ {}1 }}}}", "+1".repeat(1000), ".b".repeat(1000), "|e".repeat(1000), "not ".repeat(500), "-".repeat(2000))),
        ("a long chain of elifs", format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(5000))),
        ("deep values that are printed", deep("{{ ns.l ~ '' }}")),
        ("deep values that are compared", deep("{{ ns.l == ns.m }}{{ ns.l in [ns.m] }}")),
        ("deep values that are sorted", deep("{{ [ns.l, ns.m] | sort | unique | list | length }}")),
        ("deep values as text", deep("{{ ns.l | pprint }}{{ ns.l | join }}{{ ns.l | string }}")),
        ("deep maps", "{% set ns = namespace(l={}) %}{% for i in range(9999) %}{% set ns.l = {'a': ns.l} %}{% endfor %}{{ ns.l ~ '' }}".into()),
        ("a power", "{{ 9 ** 9 ** 9 ** 9 }}".into()),
        ("deep parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000))),
        ("deep lists", format!("{{{{ {}1{} }}}}", "[".repeat(20_000), "]".repeat(20_000))),
        ("deep ifs", format!("{}x{}", "{% if true %}".repeat(2_300), "{% endif %}".repeat(2_300))),
        ("a long chain", format!("{{{{ 1{} }}}}", " + 1".repeat(12_000))),
        ("a long chain of nots", format!("{{{{ {}1 }}}}", "not ".repeat(12_000))),
        ("a long chain of filters", format!("{{{{ 'a'{} }}}}", "|upper".repeat(10_000))),
        ("a long chain of attributes", format!("{{{{ a{} }}}}", ".b".repeat(12_000))),
        ("many blocks", "{% if true %}{% endif %}".repeat(2_500)),
        ("an unfinished string", format!("{{{{ '{}", "a".repeat(60_000))),
        ("captured output", doubling("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}")),
        ("strftime", "{% for i in range(9999) %}{{ strftime_now('%Y') }}{% endfor %}".into()),
        ("a generator of maps", doubling("{% set ns.l = dict(a=ns.l, b=ns.l) %}")),
    ]
}

#[test]
fn every_hostile_template_stops_in_time() {
    let mut slow = Vec::new();
    for (name, source) in hostile_templates() {
        let (elapsed, outcome) = run(&source);
        if let Ok(text) = &outcome {
            assert!(text.len() < 8 << 20, "{name}: {} bytes of output", text.len());
        }
        if elapsed > LIMIT {
            slow.push(format!("{name}: {elapsed:?}"));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

/// In a long conversation the budget is large enough to nest a hundred thousand lists.
#[test]
fn the_deepest_values_do_not_exhaust_the_stack() {
    let messages: Vec<Value> = (0..15_000).map(|_| json!({ "role": "user", "content": "x" })).collect();
    let nest = "{% set ns = namespace(l=[], m=[]) %}{% for i in range(9) %}{% for j in range(9000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{% endfor %}";
    for body in [
        "",
        "{{ ns.l ~ '' }}",
        "{{ ns.l == ns.m }}",
        "{{ ns.l }}",
        "{{ ns.l | tojson }}",
        "{{ [ns.l, ns.m] | sort | length }}",
    ] {
        let source = format!("{nest}{body}");
        let template = ChatTemplate::with_special_texts(&source, "", "", Vec::new(), Vec::new()).unwrap();
        let outcome = template.render(&RenderInput { messages: &messages, ..RenderInput::default() });
        assert!(outcome.map_or(0, |rendered| rendered.text.len()) < 8 << 20, "{body}");
    }
}

#[test]
fn endless_work_is_called_by_its_name() {
    let (_, outcome) = run("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}");
    assert!(matches!(outcome, Err(TemplateError::OutOfFuel { .. })), "{outcome:?}");
    let long = " ".repeat(MAX_TEMPLATE_BYTES + 1);
    assert!(matches!(run(&long).1, Err(TemplateError::TooLarge { .. })));
}

#[test]
fn a_long_honest_conversation_has_fuel_enough() {
    let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary("qwen2")).unwrap();
    for source in
        [include_str!("data/templates/hermes_tools.jinja"), include_str!("data/templates/thinking.jinja")]
    {
        let template = ChatTemplate::new(source, &tokenizer).unwrap();
        let messages: Vec<Value> = (0..2000)
            .map(|turn| json!({ "role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": "word ".repeat(200) }))
            .collect();
        let rendered =
            template.render(&RenderInput { messages: &messages, ..RenderInput::default() }).unwrap();
        assert!(rendered.text.len() > 2_000_000);
        let one = [json!({ "role": "user", "content": "中".repeat(2_000_000) })];
        template.render(&RenderInput { messages: &one, ..RenderInput::default() }).unwrap();
    }
}

/// A valid `tokenizer.json` with one part replaced.
fn changed(pointer: &str, value: Value) -> String {
    let mut json = byte_level_json("qwen2");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    json.to_string()
}

#[test]
fn malformed_tokenizer_files_are_explained() {
    let nested = (0..60)
        .fold(json!({ "type": "NFC" }), |inner, _| json!({ "type": "Sequence", "normalizers": [inner] }));
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "EOF"),
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "tokenizer.json"),
        ("{}".to_owned(), "model"),
        ("[".repeat(100_000), "tokenizer.json"),
        (changed("/model/type", json!("Unigram")), "Unigram"),
        (changed("/model/type", json!("WordPiece")), "WordPiece"),
        (changed("/model/vocab", json!({})), "no vocabulary"),
        (changed("/model/vocab", json!([["a", 0.0]])), "no vocabulary"),
        (changed("/model/vocab", json!({ "a": 4294967295u32 })), "limit"),
        (changed("/model/vocab", json!({ "a": 0, "b": 0 })), "id 0"),
        (changed("/model/vocab", json!({ "a": -1 })), "tokenizer.json"),
        (changed("/model/merges", json!(["a"])), "not two tokens"),
        (changed("/model/merges", json!([["a", "nope-nope"]])), "not in the vocabulary"),
        (changed("/model/merges", json!([["中中", "中中"]])), "not in the vocabulary"),
        (changed("/model/continuing_subword_prefix", json!("##")), "continuing_subword_prefix"),
        (changed("/model/dropout", json!(0.5)), "random"),
        (
            changed("/normalizer", json!({ "type": "Precompiled", "precompiled_charsmap": "AA==" })),
            "Precompiled",
        ),
        (changed("/normalizer", nested), "limit"),
        (
            changed("/normalizer", json!({ "type": "Replace", "pattern": { "Regex": "(" }, "content": "" })),
            "normaliser",
        ),
        (changed("/normalizer", json!({ "type": "Prepend", "prepend": "x".repeat(1000) })), "limit"),
        (changed("/pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })), "FixedLength"),
        (
            changed(
                "/pre_tokenizer",
                json!({ "type": "Split", "pattern": { "Regex": "a".repeat(100_000) }, "behavior": "Isolated", "invert": false }),
            ),
            "limit",
        ),
        (changed("/decoder", json!({ "type": "WordPiece", "prefix": "##", "cleanup": true })), "WordPiece"),
        (changed("/added_tokens/0/id", json!(99_999_999)), "limit"),
    ];
    for (text, expected) in cases {
        let error = Tokenizer::from_tokenizer_json(text.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(
        TokenizerConfig::from_json(b"[]").is_err()
            && TokenizerConfig::from_json(b"{\"bos_token\": 3}").is_ok()
    );
}

#[test]
fn malformed_gguf_vocabularies_are_explained() {
    let valid = || byte_level_vocabulary("qwen2");
    let cases: Vec<(GgufVocabulary, &str)> = vec![
        (GgufVocabulary::default(), "tokens is missing"),
        (GgufVocabulary { model: "bert".into(), ..valid() }, "bert"),
        (GgufVocabulary { pre: Some("new-tokenizer".into()), ..valid() }, "new-tokenizer"),
        (GgufVocabulary { token_types: vec![1], ..valid() }, "token_type has 1 entries"),
        (GgufVocabulary { token_types: vec![9; valid().tokens.len()], ..valid() }, "unknown type 9"),
        (GgufVocabulary { merges: vec!["a".into()], ..valid() }, "merge 0"),
        (GgufVocabulary { merges: vec!["a \u{1F600}".into()], ..valid() }, "not in the vocabulary"),
        // Regression: texts became single bytes, of which the model knows little.
        (GgufVocabulary { merges: Vec::new(), ..valid() }, "tokenizer.ggml.merges is missing or empty"),
        (GgufVocabulary { eos: Some(u32::MAX), ..valid() }, "eos_token_id"),
        (GgufVocabulary { scores: vec![0.0], ..sentence_piece_vocabulary() }, "scores has 1 entries"),
    ];
    for (vocabulary, expected) in cases {
        let error = Tokenizer::from_gguf(vocabulary).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn odd_but_possible_vocabularies_work() {
    let mut vocabulary = byte_level_vocabulary("qwen2");
    vocabulary.token_types = Vec::new();
    vocabulary.tokens.push("<|im_end|>".into());
    vocabulary.tokens.push(String::new());
    let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
    assert!(tokenizer.encode("<|im_end|>", Specials::Parse).unwrap().len() == 1);
    let scores = vec![f32::NAN; sentence_piece_vocabulary().tokens.len()];
    let tokenizer = Tokenizer::from_gguf(GgufVocabulary { scores, ..sentence_piece_vocabulary() }).unwrap();
    tokenizer.encode("any text 中", Specials::AsText).unwrap();
}
