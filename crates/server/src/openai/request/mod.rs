//! Parsing requests: from JSON to what `assistant` takes, each mistake named by its field.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod format;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod node;
pub(crate) mod prompt;
pub(crate) mod sampling;
pub(crate) mod suggest;
pub(crate) mod thinking;
pub(crate) mod tools;
