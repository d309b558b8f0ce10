//! The tests of `zhenjin-hub` from outside, one program: each file here is one of its modules.

mod embedders;
mod export;
#[path = "../../tokenizer/tests/support/generated_text.rs"]
mod generated_text;
mod killed;
mod opening;
mod pull;
#[path = "../../../tests/real_model.rs"]
mod real_model;
mod real_tokenizer;
mod sources;
mod store;
mod support;
#[path = "../../../tests/tiny_embedder.rs"]
mod tiny_embedder;
#[path = "../../../tests/tiny_encoder.rs"]
mod tiny_encoder;
#[path = "../../../tests/tiny_model.rs"]
mod tiny_model;
