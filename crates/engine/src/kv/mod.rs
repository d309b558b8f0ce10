//! Pages of keys and values: how many sequences hold each, and which have the tokens that a new prompt begins with.
//!
//! This module hands out page numbers; the model computes the numbers inside the pages. Only full pages are ever
//! shared, and a full page never changes, so nothing needs copying.

pub(crate) mod page_pool;
pub(crate) mod prefix_cache;
