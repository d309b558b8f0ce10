//! Conversations of Gemma 3, Phi-3, Phi-4, OLMo 2 and Granite 3: what is learnt of them is the assistant's words and their end.

use std::num::NonZeroUsize;

use serde_json::{Value, json};
use zhenjin_align::data::{BadPolicy, EncodeOptions, LearntAnswers, Overlong};
use zhenjin_tokenizer::{ChatTemplate, ControlText, Tokenizer, TokenizerConfig};

use crate::support::{data, encoder, message};

const TOKENIZERS: &str = include_str!("../../tokenizer/tests/data/family_tokenizers.json");
const FAMILIES: [(&str, &str, &str); 5] = [
    ("Gemma 3", include_str!("../../tokenizer/tests/data/family_templates/gemma3.jinja"), "<end_of_turn>"),
    ("Phi-3", include_str!("../../tokenizer/tests/data/family_templates/phi3.jinja"), "<|end|>"),
    ("Phi-4", include_str!("../../tokenizer/tests/data/family_templates/phi4.jinja"), "<|im_end|>"),
    ("OLMo 2", include_str!("../../tokenizer/tests/data/family_templates/olmo2.jinja"), "<|endoftext|>"),
    (
        "Granite 3",
        include_str!("../../tokenizer/tests/data/family_templates/granite3.jinja"),
        "<|end_of_text|>",
    ),
];

fn tokenizer(family: &str) -> Tokenizer {
    let golden: Value = serde_json::from_str(TOKENIZERS).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == family).unwrap();
    let config = TokenizerConfig::from_json(case["config"].to_string().as_bytes()).unwrap();
    Tokenizer::from_tokenizer_json(case["tokenizer"].to_string().as_bytes(), Some(&config)).unwrap()
}

/// Gemma's template writes the system message into the user's turn and calls the assistant `model`.
#[test]
fn the_answers_are_learnt_and_nothing_else() {
    let record = json!({ "messages": [
        message("system", "Be brief: Yes."), message("user", "Hello  there"), message("assistant", "Yes."),
        message("user", "And\nthen? model"), message("assistant", "No, \n12 of 345."),
    ] });
    let options = EncodeOptions {
        context: 1 << 20,
        overlong: Overlong::Error,
        bad: BadPolicy::Stop,
        learnt: LearntAnswers::All,
        threads: NonZeroUsize::MIN,
    };
    for (family, source, end) in FAMILIES {
        let tokenizer = tokenizer(family);
        let template = ChatTemplate::new(source, &tokenizer).unwrap();
        let encoder = encoder(&tokenizer, &template);
        let encoded = encoder.encode_conversations(&data(std::slice::from_ref(&record)), &options).unwrap();
        let [example] = encoded.examples.as_slice() else {
            panic!("{family}: {} examples", encoded.examples.len());
        };
        let of = |wanted: bool| -> Vec<u32> {
            let pairs = example.ids.iter().zip(&example.assistant_mask);
            pairs.filter(|(_, learnt)| **learnt == wanted).map(|(id, _)| *id).collect()
        };
        let text = |ids: &[u32]| tokenizer.decode(ids, ControlText::Show).unwrap();
        // Behind a control token, Phi-3's vocabulary begins every text with a space.
        let learnt = text(&of(true)).replace("<|end|> No", "<|end|>No");
        assert_eq!(learnt, format!("Yes.{end}No, \n12 of 345.{end}"), "{family}");
        let others = text(&of(false));
        for words in ["Be brief: Yes.", "Hello  there", "And\nthen? model"] {
            assert!(others.contains(words), "{family}: {others}");
        }
        assert!(!others.contains("No"), "{family}: {others}");
    }
}

/// Regression: Granite's template writes no calls, and what was learnt of an answer that calls was its end alone.
#[test]
fn calls_that_the_template_leaves_out_are_learnt_as_the_model_writes_them() {
    let call = json!({ "id": "call00001", "type": "function",
                       "function": { "name": "f", "arguments": "{\"a\": \"<|end_of_text|>\"}" } });
    let parameters = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let mut calling = message("assistant", "");
    calling["tool_calls"] = json!([call]);
    let mut result = message("tool", "Sunny.");
    result["tool_call_id"] = json!("call00001");
    let record = json!({
        "messages": [message("user", "Weather?"), calling, result, message("assistant", "Sun.")],
        "tools": [{ "type": "function", "function": { "name": "f", "description": "x", "parameters": parameters } }],
    });
    let options = EncodeOptions {
        context: 1 << 20,
        overlong: Overlong::Error,
        bad: BadPolicy::Stop,
        learnt: LearntAnswers::All,
        threads: NonZeroUsize::MIN,
    };
    let tokenizer = tokenizer("Granite 3");
    let template = ChatTemplate::new(FAMILIES[4].1, &tokenizer).unwrap();
    let encoder = encoder(&tokenizer, &template);
    let encoded = encoder.encode_conversations(&data(&[record]), &options).unwrap();
    let [example] = encoded.examples.as_slice() else { panic!("{} examples", encoded.examples.len()) };
    let pairs = example.ids.iter().zip(&example.assistant_mask);
    let learnt: Vec<u32> = pairs.filter(|(_, learnt)| **learnt).map(|(id, _)| *id).collect();
    assert_eq!(
        tokenizer.decode(&learnt, ControlText::Show).unwrap(),
        "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": \"<|end_of_text|>\"}}]<|end_of_text|>Sun.<|end_of_text|>"
    );
    let special: Vec<u32> = learnt.iter().copied().filter(|id| tokenizer.is_special(*id)).collect();
    let [marker, end] = ["<|tool_call|>", "<|end_of_text|>"].map(|text| tokenizer.special_id(text).unwrap());
    assert_eq!(special, [marker, end, end]);
}
