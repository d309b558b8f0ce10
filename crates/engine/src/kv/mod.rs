//! Pages of keys and values: who holds which, and which hold what a new prompt begins with.
//!
//! This room hands out page numbers; the numbers inside the pages are the model's. Only full pages are ever
//! shared, and a full page never changes, so nothing needs copying.

pub(crate) mod page_pool;
pub(crate) mod prefix_cache;
