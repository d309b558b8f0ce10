//! Alignment: from examples of good answers, preferences or rewards to an adapter or new weights.
//!
//! [`data`] reads examples and encodes them with the template that serves.

pub mod data;
