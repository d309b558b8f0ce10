//! From generated tokens to what the user sees: whole characters, thoughts apart, cut at stop strings, tool calls taken out.
//!
//! [`thoughts`] divides thought from answer, [`stop_strings`] finds where the answer's text ends, [`repetition`] answers that go
//! round in a circle, [`pipeline`] puts the parts together. Nothing here knows where tokens come from: the same pipeline runs
//! beside the engine (to end the answer with the very token that completes a stop string) and at the receiving end.

pub(crate) mod checks;
pub(crate) mod pipeline;
pub(crate) mod repetition;
pub(crate) mod stop_strings;
pub(crate) mod thoughts;
