//! The real model at full speed: requests of every kind together, each with the bits that it has alone. `make soak`
//! does the same with many more and longer ones.

use std::sync::Arc;

use crate::crowd;
use crate::support;
use zhenjin_model::{LoadOptions, Model};
use zhenjin_tensor::{SimdLevel, ThreadTeam};

#[test]
fn forty_eight_requests_together_have_the_bits_of_each_alone() {
    let options = LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1).unwrap()) };
    let model = Arc::new(Model::load(&support::real_model(), &options).unwrap());
    let summary = crowd::check(&model, crowd::Options { requests: 48, longest: 120, seed: 7 }).unwrap();
    assert_eq!(summary.requests, 48);
    assert!(summary.prefix_hit_tokens > 0 && summary.largest_batch > 8, "{summary:?}");
}
