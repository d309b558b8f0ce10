//! Alignment: from examples of good answers, preferences or rewards to an adapter or new weights.
//!
//! [`data`] reads examples and encodes them with the template that serves; [`rewards`] judge answers; [`losses`] are the
//! formulas of all methods; [`methods`] say what a step is; [`run`] makes the steps. Answers are written by the engine that
//! serves ([`rollouts`]), with the numbers that are trained.

pub mod best_of;
pub mod configuration;
pub mod data;
mod error;
pub mod evaluation;
pub mod faults;
pub mod losses;
mod measures;
pub mod methods;
mod micro_batches;
mod order;
mod packed;
pub mod plan;
mod prepared;
pub mod rewards;
pub mod rollouts;
pub mod run;
pub mod teacher;
pub mod testing;
pub mod trainee;
pub mod watch;

pub use error::AlignError;
pub use measures::Measures;
