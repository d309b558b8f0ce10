//! The tests of `zhenjin-align` from outside, one program: each file here is one of its modules.

mod accumulation;
mod distillation;
mod encoding;
mod endings;
mod evaluation;
mod formats;
mod rewards;
mod runs;
mod support;
mod training;
