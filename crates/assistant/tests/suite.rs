//! The tests of `zhenjin-assistant` from outside, one program: each file here is one of its modules.

mod adapters;
mod promoted;
mod real_model;
mod sentence_transformers;
mod served_models;
mod support;
