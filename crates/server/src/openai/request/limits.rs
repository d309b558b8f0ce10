//! How much a single request may ask for.

/// Answers to one prompt (`n`, `best_of`).
pub(crate) const CHOICES: i64 = 32;
/// Prompts in one completion request.
pub(crate) const PROMPTS: usize = 32;
/// Prompts times answers in one completion request, those that only compete included.
pub(crate) const SEQUENCES: usize = 64;
/// Texts in one embedding request.
pub(crate) const EMBEDDINGS: usize = 2048;
/// Texts in `stop`.
pub(crate) const STOPS: usize = 16;
/// Bytes in each text of `stop`.
pub(crate) const STOP_BYTES: usize = 1024;
/// Ids in `stop_token_ids`.
pub(crate) const STOP_TOKENS: usize = 64;
/// Ids in `logit_bias`.
pub(crate) const BIASES: usize = 1024;
/// Characters in `regex`, `grammar`, or a JSON schema.
pub(crate) const CONSTRAINT_CHARACTERS: usize = 65_536;
/// Functions in `tools`.
pub(crate) const TOOLS: usize = 128;
/// Characters in a function's or schema's name.
pub(crate) const NAME_CHARACTERS: usize = 64;
/// Calls in one assistant message.
pub(crate) const TOOL_CALLS: usize = 128;
