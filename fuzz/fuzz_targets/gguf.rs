//! Any bytes as a GGUF file, through the parser and on to the configuration: an error or a model, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = zhenjin_model::gguf::parse(bytes) {
        let _ = zhenjin_model::config::from_gguf(&file);
    }
});
