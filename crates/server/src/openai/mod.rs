//! OpenAI's API under `/v1`. Does not know models, tokens or sampling: it takes requests apart, hands them to `assistant`, and
//! writes what comes back in OpenAI's words.

mod field_tables;
pub(crate) mod fields;
mod request;
