//! The tests of `zhenjin-align` from outside, one program: each file here is one of its modules.

mod accumulation;
mod distillation;
mod encoding;
mod endings;
mod evaluation;
mod families;
mod faults;
mod formats;
mod long_conversations;
mod mistakes;
mod resumed;
mod rewards;
mod rewards_code;
mod runs;
mod support;
mod training;
