//! The tests of `zhenjin-corpus` from outside, one program: each file here is one of its modules.

mod loader;
mod parquet;
mod shards;
mod support;
