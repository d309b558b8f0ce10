//! Data that needs no files: every line is a function of a seed and a number.

mod arithmetic;
mod stories;

pub use arithmetic::{ArithmeticOptions, ArithmeticProblem, arithmetic};
pub use stories::story;
