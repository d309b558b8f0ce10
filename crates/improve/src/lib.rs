//! From what people judged to examples that a model learns from, and whether what it learned made it better.
//!
//! [`collect`] decides which judgements count, how the model learns from them and which are held out; [`gate`] decides on what was measured
//! with those; [`examples`] makes the examples alone. All are functions of their arguments: the same judgements give the same examples,
//! wherever and whenever. This crate does not know databases, models or files.

pub mod anchor;
mod collect;
mod example;
pub mod gate;
mod limits;
pub mod neutral;
mod read;

pub use collect::{Again, Collected, Collection, TooFew, collect, collect_again};
pub use example::{Answer, Example, Item, Judged, Judgement, Method, Turn, opening};
pub use limits::{Division, Limits, Order};
pub use read::examples;
