//! Any bytes as a `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = zhenjin_model::config::from_json(bytes);
});
