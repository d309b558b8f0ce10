//! Examples: what people write them in, and what methods train on.

mod encoded;

pub use encoded::{EncodedPair, EncodedTask, EncodedThumb};
