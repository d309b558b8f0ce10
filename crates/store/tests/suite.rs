//! The tests of `zhenjin-store` from outside, one program: each file here is one of its modules.

mod common;
mod conversations;
mod feedback;
mod keys;
mod killed;
mod opening;
mod owners;
mod search;
mod trash;
mod tree;
