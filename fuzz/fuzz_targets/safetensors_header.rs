//! Any bytes as a safetensors file and as an index of shards.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = zhenjin_model::safetensors::parse_header(bytes);
    let _ = zhenjin_model::safetensors::parse_index(bytes);
});
