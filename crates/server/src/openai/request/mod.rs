//! Requests taken apart: from JSON to what `assistant` is asked for, each mistake named. Does not know how answers look.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod format;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod node;
pub(crate) mod prompt;
pub(crate) mod sampling;
pub(crate) mod suggest;
pub(crate) mod tools;
