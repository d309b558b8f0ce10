//! Text that a model keeps as probable as it is while it learns from judgements. It is never measured: the gate measures on other text, in
//! [`crate::neutral`].

/// In English: paragraphs, divided by empty lines.
pub const ENGLISH: &str = include_str!("anchor/en.txt");
/// In Chinese.
pub const CHINESE: &str = include_str!("anchor/zh.txt");
