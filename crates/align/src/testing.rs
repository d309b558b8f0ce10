//! A small random model that learns, for the tests of this and other crates.

use std::sync::Arc;

use zhenjin_model::testing::{RandomWeights, tiny_config};
use zhenjin_model::{LoadOptions, Model, ModelConfig};
use zhenjin_tensor::{Dtype, KvDtype, SimdLevel, ThreadTeam};
use zhenjin_train::configuration::Overrides;

use crate::configuration::{Configuration, Method, RolloutSection, TuningKind};
use crate::rollouts::{RolloutOptions, Rollouts};
use crate::trainee::{Trainee, TraineeOptions};

/// Tokens of the model's tokenizer, if it had one.
pub const VOCABULARY: usize = 96;
/// The token that ends an answer.
pub const END: u32 = 95;

/// A team of so many threads.
///
/// # Panics
/// When threads cannot be made.
pub fn load(threads: usize) -> LoadOptions {
    match ThreadTeam::new(threads) {
        Ok(team) => LoadOptions { simd: SimdLevel::detect(), team: Arc::new(team) },
        Err(error) => panic!("{error}"),
    }
}

/// A model of this shape, whose random weights are always the same.
///
/// # Panics
/// When the shape contradicts itself.
pub fn model_of(config: ModelConfig, dtype: Dtype, load: &LoadOptions) -> Arc<Model> {
    let source = RandomWeights::new(config.clone(), dtype, 5);
    match Model::from_source(config, &source, load) {
        Ok(model) => Arc::new(model),
        Err(error) => panic!("{error}"),
    }
}

/// [`model_of`] the shape [`tiny_config`].
pub fn model(dtype: Dtype, load: &LoadOptions) -> Arc<Model> {
    model_of(tiny_config(), dtype, load)
}

/// The settings of a run with so many examples, with some given as on the command line: `schedule.steps=4`.
///
/// # Panics
/// When they are refused.
pub fn configuration(
    method: Method,
    tuning: TuningKind,
    examples: usize,
    settings: &[&str],
) -> Configuration {
    let mut overrides = Overrides::new();
    for setting in settings {
        if let Err(error) = overrides.add_assignment(setting) {
            panic!("{setting}: {error}");
        }
    }
    match Configuration::resolve(method, tuning, examples, &overrides) {
        Ok(configuration) => configuration,
        Err(error) => panic!("{error}"),
    }
}

/// How [`model`] begins to learn.
pub fn options(configuration: &Configuration, load: &LoadOptions) -> TraineeOptions {
    TraineeOptions {
        tuning: configuration.tuning,
        optimiser: configuration.optimiser.clone(),
        seed: configuration.seed,
        load: load.clone(),
        usable_vocabulary: VOCABULARY,
        recomputed_layers: 0,
        base_name: "tiny".to_owned(),
        padding_token: None,
        companions: Vec::new(),
    }
}

/// [`model`], learning, with a head for values if one is given, `[hidden_size]`.
///
/// # Panics
/// When it cannot learn so.
pub fn trainee(
    configuration: &Configuration,
    dtype: Dtype,
    values: Option<Vec<f32>>,
    load: &LoadOptions,
) -> Trainee {
    match Trainee::new(model(dtype, load), None, values, options(configuration, load)) {
        Ok(trainee) => trainee,
        Err(error) => panic!("{error}"),
    }
}

/// What writes the answers of [`model`], with keys and values in f32.
pub fn rollouts(section: RolloutSection, load: &LoadOptions) -> Rollouts {
    Rollouts::new(RolloutOptions {
        section,
        stop_tokens: vec![END],
        usable_vocabulary: VOCABULARY,
        kv_dtype: KvDtype::F32,
        team: Arc::clone(&load.team),
    })
}
