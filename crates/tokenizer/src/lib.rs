//! zhenjin-tokenizer
