//! Any bytes as the body of a chat or completion request: accepted, or refused with a status of 4xx.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for status in [zhenjin_server::check_chat_request(body), zhenjin_server::check_completion_request(body)] {
        assert!(status.is_none_or(|status| (400..500).contains(&status)));
    }
});
