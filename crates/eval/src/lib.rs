//! Measures of what models write: rules of verse, how much was copied from the training texts, arithmetic.

pub mod arithmetic;
mod copying;
pub mod poems;
mod proportion;

pub use copying::{CopiedRun, CopyFinder};
pub use proportion::Proportion;
