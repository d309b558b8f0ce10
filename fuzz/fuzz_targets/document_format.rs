//! Any text as a document's format: refused with the place, or it can be filled in with any JSON object without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zhenjin_corpus::DocumentFormat;

fuzz_target!(|input: (&str, &str)| {
    let Ok(format) = DocumentFormat::parse(input.0) else { return };
    assert!(!format.columns().is_empty());
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(input.1) {
        let _ = format.fill(&fields);
    }
});
