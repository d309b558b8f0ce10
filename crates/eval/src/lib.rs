//! Measures of what models write: rules of verse, and how much was copied from the training texts.

mod copying;
pub mod poems;

pub use copying::{CopiedRun, CopyFinder};
