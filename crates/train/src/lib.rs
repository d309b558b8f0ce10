//! Training from scratch: optimisers, schedules, the loop, checkpoints, the account of cost, reports.

pub mod communication;
pub mod energy;
pub mod metrics;
pub mod plan;
