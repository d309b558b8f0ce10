//! Training from scratch: optimisers, schedules, the loop, checkpoints, the account of cost, reports.

mod accumulation;
pub mod checkpoint;
pub mod communication;
pub mod configuration;
pub mod energy;
mod error;
pub mod metrics;
pub mod optimiser;
pub mod plan;
pub mod report;
pub mod schedule;
pub mod sequences;
pub mod training;

pub use error::TrainError;
