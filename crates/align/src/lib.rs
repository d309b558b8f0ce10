//! Alignment: from examples of good answers, preferences or rewards to an adapter or new weights.
//!
//! [`data`] reads examples and encodes them with the template that serves; [`losses`] are the formulas of all methods.

pub mod data;
pub mod losses;
