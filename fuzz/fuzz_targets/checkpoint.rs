//! Any bytes as a checkpoint's state and as its optimiser file: an error or a state, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = zhenjin_train::checkpoint::parse_state(bytes);
    let _ = zhenjin_train::checkpoint::parse_optimiser(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = zhenjin_train::configuration::Configuration::from_toml(text, std::path::Path::new("run.toml"));
    }
});
