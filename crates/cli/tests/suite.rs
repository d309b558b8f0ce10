//! The tests of `zhenjin-cli` from outside, one program: each file here is one of its modules.

mod align;
#[cfg(target_os = "linux")]
mod align_ended;
mod align_runs;
mod align_settings;
mod best_of_n;
mod data;
mod distill;
mod embed;
mod feedback;
mod feedback_killed;
mod improve;
mod improve_ends;
mod improve_place;
mod kept_examples;
mod plan_memory;
mod pretrain;
mod pretrain_experts;
mod pretrain_resumed;
mod pretrain_text;
mod priority;
mod program;
#[path = "../../../tests/real_model.rs"]
mod real_model;
mod runs;
#[path = "pretrain/shards.rs"]
mod shards;
#[path = "../../../tests/tiny_encoder.rs"]
mod tiny_encoder;
#[path = "../../../tests/tiny_model.rs"]
mod tiny_model;
mod tokenize;
