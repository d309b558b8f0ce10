//! What several test programs share.

#[path = "../../../../tests/real_model.rs"]
mod real_model;
pub(crate) use real_model::real_model;
