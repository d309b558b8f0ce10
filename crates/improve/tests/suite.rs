//! The tests of `zhenjin-improve` from outside, one program: each file here is one of its modules.

mod collect;
mod division;
mod examples;
