//! zhenjin-model

pub mod config;
