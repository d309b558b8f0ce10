//! Tests of model files: well-formed, malformed, mutated; and of logits against other programs' numbers.
//! A new test of reading files belongs into one of these modules.

mod adapters;
mod configuration;
mod embedders;
mod encoders;
mod families;
mod families_gguf;
mod gguf_writer;
mod golden;
mod hugging_face_writer;
mod malformed_gguf;
mod malformed_hugging_face;
mod mutations;
mod opening;
mod reward_models;
mod writing;
mod written_families;
