//! Tokenizers that are legal and unusual: the ids of Hugging Face's library, or a refusal by name.

use serde_json::Value;
use zhenjin_tokenizer::{Specials, Tokenizer};

#[test]
fn odd_tokenizers_give_the_librarys_ids_or_are_refused_by_name() {
    let golden: Value = serde_json::from_str(include_str!("data/odd_tokenizers.json")).unwrap();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut differences = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let name = &case["name"];
        let tokenizer = Tokenizer::from_tokenizer_json(case["tokenizer"].to_string().as_bytes(), None);
        match (tokenizer, case["refused"].as_str()) {
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            (Ok(tokenizer), None) => {
                for (text, expected) in texts.iter().zip(case["ids"].as_array().unwrap()) {
                    let ids = tokenizer.encode(text, Specials::Parse).map_err(|error| error.to_string());
                    let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
                    if ids != Ok(expected.clone()) {
                        differences.push(format!("{name}, {text:?}: {ids:?} instead of {expected:?}"));
                    }
                }
            }
            (outcome, refused) => {
                differences.push(format!(
                    "{name}: {:?}, refused: {refused:?}",
                    outcome.err().map(|error| error.to_string())
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
