//! The tests of `zhenjin-engine` from outside, one program: each file here is one of its modules.

mod adapters;
#[path = "../examples/soak/crowd.rs"]
mod crowd;
mod draft_model;
mod fake_model;
mod invariance;
mod prompts;
mod real_crowd;
#[path = "../examples/soak/requests.rs"]
mod requests;
mod scheduler;
mod speculation;
mod support;
