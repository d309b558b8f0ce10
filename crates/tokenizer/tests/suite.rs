//! The tests of `zhenjin-tokenizer` from outside, one program: each file here is one of its modules.

mod concurrency;
mod conversion;
mod families;
mod hostile;
mod jinja_idioms;
mod odd_tokenizers;
mod reference_ids;
mod special_tokens;
mod streaming;
mod support;
mod templates;
mod text_encoder;
mod training;
