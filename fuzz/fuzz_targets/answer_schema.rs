//! Any JSON as the schema of an answer, and any text as the answer: the schema is refused, or the text is checked against it, without
//! a panic and within the limits on time and memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zhenjin_assistant::FormatCompiler;

fuzz_target!(|input: (&str, &str)| {
    if let Ok(schema) = serde_json::from_str(input.0) {
        let _ = FormatCompiler::check_text(&schema, input.1);
    }
});
