//! Neutral text, on which a model must not become worse: plain prose that nobody's judgements are about, written for this purpose.

/// In English: paragraphs, divided by empty lines.
pub const ENGLISH: &str = include_str!("neutral/en.txt");
/// In Chinese, about the same.
pub const CHINESE: &str = include_str!("neutral/zh.txt");
