//! An adapter before its first update: A random, B zero, so that the model begins as it is.

use std::path::Path;

use zhenjin_random::SplitMix64;

use super::values::outputs_and_inputs;
use super::{AdapterValues, LowRankValues};
use crate::config::ModelConfig;
use crate::errors::{FormatError, ModelError};
use crate::random::Floats;
use crate::tensor_source::{LayerWeightName, WeightName};

/// What a new adapter is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct FreshAdapter {
    /// Rows of every A and columns of every B.
    pub rank: usize,
    /// Products are multiplied with alpha / rank.
    pub alpha: f64,
    /// With alpha / √rank instead (Kalajdzievski 2023, arXiv 2312.03732).
    pub rank_stabilised: bool,
    /// The projections that get an addition, in every layer that has them.
    pub projections: Vec<LayerWeightName>,
}

impl FreshAdapter {
    /// Its numbers for a model of shape `config`. A's elements are even between ±1/√inputs, as the `peft` library draws them (Kaiming et al.
    /// 2015 with a slope of √5); each depends on the seed, its tensor's name, its row and its column alone.
    ///
    /// # Errors
    /// As [`AdapterValues::new`].
    pub fn values(&self, config: &ModelConfig, seed: u64) -> Result<AdapterValues, ModelError> {
        let mut additions = Vec::new();
        for layer in 0..config.layers {
            for projection in &self.projections {
                if config.has_layer_weight(layer, *projection) {
                    additions.push(self.addition(config, seed, layer, *projection));
                }
            }
        }
        if additions.is_empty() {
            let problem = "this model has none of these projections outside its experts; adapters reach q_proj, k_proj, v_proj and o_proj of it";
            let error = FormatError::new("projections", problem);
            return Err(ModelError::Format { file: "new adapter".into(), error });
        }
        AdapterValues::new(Path::new("new adapter"), config, additions)
    }

    fn addition(
        &self,
        config: &ModelConfig,
        seed: u64,
        layer: usize,
        projection: LayerWeightName,
    ) -> LowRankValues {
        let [outputs, inputs] = outputs_and_inputs(WeightName::Layer(layer, projection), config);
        let name = super::values::tensor_name(layer, projection, "lora_A");
        let bound = (1.0 / (inputs as f64).sqrt()) as f32;
        let mut down = vec![0.0; self.rank * inputs];
        for (row, values) in down.chunks_exact_mut(inputs).enumerate() {
            let mut numbers = SplitMix64::of(seed, &name, row as u64);
            values.iter_mut().for_each(|value| *value = bound * numbers.symmetric());
        }
        let rank = self.rank as f64;
        let divisor = if self.rank_stabilised { rank.sqrt() } else { rank };
        LowRankValues {
            layer,
            projection,
            rank: self.rank,
            down,
            up: vec![0.0; outputs * self.rank],
            scale: (self.alpha / divisor) as f32,
        }
    }
}
