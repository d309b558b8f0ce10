//! Any bytes as a `tokenizer.json`; one that is accepted must encode and decode without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zhenjin_tokenizer::{ControlText, Specials, StreamDecoder, Tokenizer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_tokenizer_json(bytes, None) else { return };
    let Ok(ids) = tokenizer.encode("真金 fears <|im_end|> no\tfire 🔥", Specials::AsText) else { return };
    let whole = tokenizer.decode(&ids, ControlText::Show);
    let mut decoder = StreamDecoder::new(&tokenizer, ControlText::Show);
    let pieces: Result<Vec<String>, _> = ids.iter().map(|id| decoder.push(*id)).collect();
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces.concat() + &decoder.finish());
    }
});
