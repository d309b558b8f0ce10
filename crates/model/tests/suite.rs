//! The tests of `zhenjin-model` from outside, one program: each file here is one of its modules.

mod files;
mod invariance;
mod kv_cache;
mod learner;
mod learner_adapters;
mod learner_beginnings;
mod learner_serving;
mod learner_temperature;
mod real_model;
mod reference_executor;
mod runner;
mod scores;
mod support;
mod training_golden;
