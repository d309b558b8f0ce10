//! Output formats (JSON schemas, regular expressions, grammars) as constraints on tokens, by the `llguidance`
//! library.
//!
//! [`limits`] refuses what is too large before it is compiled; [`compiler`] compiles, once per request;
//! [`matcher`] follows one answer.

pub(crate) mod compiler;
pub(crate) mod least_tokens;
pub(crate) mod limits;
pub(crate) mod matcher;
pub(crate) mod schema;
