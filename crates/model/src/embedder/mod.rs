//! Models that give vectors of texts: encoders ([`crate::encoder`]), and decoders whose files say how hidden states become one vector, such as
//! Qwen3-Embedding. Both read several whole texts in one pass and remember nothing.
//!
//! A decoder is the one of [`crate::Transformer`] up to its final norm; a head, if the files hold one, is left aside.

mod decoder;
mod file;
mod runner;

pub use file::{EmbedderFile, EmbedderSizes};
pub use runner::{EmbedderRunner, EmbedderShape, EmbedderTextError};
