//! The weights that training begins with: random, and the same bits for the same seed on every machine.

use zhenjin_random::SplitMix64;
use zhenjin_tensor::{Matrix, MatrixMemory, ParameterId, Vector};

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::names::Naming;
use crate::random::Floats;
use crate::tensor_source::{LayerWeightName, WeightName};
use crate::weights::{LoadOptions, WeightMaker, Weights};

/// How random weights are drawn. Norms begin at 1 and biases at 0, whatever the rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InitialisationRule {
    /// Standard deviation of the embedding's elements.
    pub embedding: Deviation,
    /// Standard deviation of a separate head's elements.
    pub head: Deviation,
    /// Standard deviation of all other matrices' elements.
    pub matrices: Deviation,
    /// Projections that write into the residual stream (attention's output and the feed-forward network's down
    /// projection) get the deviation of the others times this, divided by √(2 · layers): as many projections add up
    /// (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3). 0 lets every layer
    /// begin as the identity.
    pub residual: f64,
}

/// A standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Deviation {
    /// The same for every matrix.
    Fixed(f64),
    /// This divided by √inputs: with 1, outputs have the variance of the inputs (LeCun et al. 1998, "Efficient BackProp").
    PerInput(f64),
}

impl Deviation {
    fn of(self, inputs: usize) -> f64 {
        match self {
            Deviation::Fixed(deviation) => deviation,
            Deviation::PerInput(factor) => factor / (inputs as f64).sqrt(),
        }
    }
}

impl Default for InitialisationRule {
    /// GPT-2's rule, which the Llama and Qwen families kept: a deviation of 0.02 everywhere, less where projections add up.
    fn default() -> InitialisationRule {
        let fixed = Deviation::Fixed(0.02);
        InitialisationRule { embedding: fixed, head: fixed, matrices: fixed, residual: 1.0 }
    }
}

impl InitialisationRule {
    /// The standard deviation of a matrix's elements.
    fn deviation(&self, config: &ModelConfig, name: WeightName, inputs: usize) -> f64 {
        use LayerWeightName as W;
        match name {
            WeightName::Embedding => self.embedding.of(inputs),
            WeightName::Head => self.head.of(inputs),
            WeightName::Layer(_, W::Output | W::Down | W::ExpertDown(_)) => {
                self.matrices.of(inputs) * self.residual / (2.0 * config.layers as f64).sqrt()
            }
            WeightName::FinalNorm | WeightName::Layer(..) => self.matrices.of(inputs),
        }
    }
}

/// New weights in f32 for a model of shape `config`, drawn from normal distributions as `rule` says. An element depends
/// on the rule, the seed, its weight's name, its row and its column alone.
///
/// # Errors
/// [`ModelError::Tensor`] when memory is short or the processor lacks the instructions that `options` name.
pub fn initialise(
    config: &ModelConfig,
    rule: &InitialisationRule,
    seed: u64,
    options: &LoadOptions,
) -> Result<Weights, ModelError> {
    Weights::make(config, &mut Initialising { config, rule, seed, options, memory: MatrixMemory::new() })
}

struct Initialising<'a> {
    config: &'a ModelConfig,
    rule: &'a InitialisationRule,
    seed: u64,
    options: &'a LoadOptions,
    memory: MatrixMemory,
}

impl WeightMaker for Initialising<'_> {
    type Matrix = Matrix;
    type Vector = Vector;

    fn matrix(&mut self, id: ParameterId, name: WeightName) -> Result<Matrix, ModelError> {
        let shape = self.config.shape(name);
        let (rows, columns) = (shape[0], shape[1]);
        let deviation = self.rule.deviation(self.config, name, columns);
        let tensor = Naming::HuggingFace.spell(name);
        let LoadOptions { simd, team } = self.options;
        let fill = |row: usize, values: &mut [f32]| {
            SplitMix64::of(self.seed, &tensor, row as u64).fill_normal(deviation, values);
        };
        let matrix = Matrix::make_f32(&self.memory, rows, columns, *simd, team, fill)?;
        Ok(matrix.with_parameter(id))
    }

    fn vector(&mut self, id: ParameterId, name: WeightName) -> Result<Vector, ModelError> {
        // What the forward pass multiplies with is 1, whatever files of the family hold.
        let value = if name.is_norm() { 1.0 } else { 0.0 };
        Ok(Vector::from(vec![value; self.config.shape(name)[0]]).with_parameter(id))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zhenjin_tensor::{SimdLevel, ThreadTeam};

    use super::*;
    use crate::config::QueryKeyNorm;
    use crate::testing::{tiny_config, tiny_gemma, tiny_norms_after};
    use crate::weights::Weight;

    fn options(threads: usize) -> LoadOptions {
        LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(threads).unwrap()) }
    }

    fn config() -> ModelConfig {
        ModelConfig {
            qk_norm: QueryKeyNorm::Heads,
            attention_bias: true,
            tied_embeddings: false,
            ..tiny_config()
        }
    }

    /// Every parameter's elements in the order in which they are kept.
    fn elements(weights: &Weights) -> Vec<(WeightName, Vec<f32>)> {
        let elements = |weight: Weight<&Matrix, &Vector>| match weight {
            Weight::Matrix(matrix) => matrix.f32_packed().unwrap().to_vec(),
            Weight::Vector(vector) => vector[..].to_vec(),
        };
        weights.parameters().map(|(name, weight)| (name, elements(weight))).collect()
    }

    #[test]
    fn deviations_are_those_of_the_rule() {
        let config = config();
        let rule = InitialisationRule {
            embedding: Deviation::Fixed(1.0),
            head: Deviation::Fixed(0.25),
            matrices: Deviation::PerInput(2.0),
            residual: 1.0,
        };
        for (name, elements) in elements(&initialise(&config, &rule, 3, &options(1)).unwrap()) {
            let shape = config.shape(name);
            let [_, inputs] = shape[..] else {
                let expected = if name.is_norm() { 1.0 } else { 0.0 };
                assert!(elements.iter().all(|value| *value == expected), "{name:?}");
                continue;
            };
            let squares: f64 = elements.iter().map(|value| f64::from(*value).powi(2)).sum();
            let found = (squares / shape.iter().product::<usize>() as f64).sqrt();
            let expected = match name {
                WeightName::Embedding => 1.0,
                WeightName::Head => 0.25,
                WeightName::Layer(_, LayerWeightName::Output | LayerWeightName::Down) => {
                    2.0 / (inputs as f64).sqrt() / (2.0 * config.layers as f64).sqrt()
                }
                _ => 2.0 / (inputs as f64).sqrt(),
            };
            assert!((found / expected - 1.0).abs() < 0.06, "{name:?}: {found} instead of {expected}");
        }
    }

    /// A model whose files hold norms less 1 begins with the same norms as any other.
    #[test]
    fn every_norm_begins_at_one_wherever_it_stands() {
        for config in [tiny_gemma(), tiny_norms_after()] {
            let weights = initialise(&config, &InitialisationRule::default(), 3, &options(1)).unwrap();
            let norms: Vec<_> = elements(&weights).into_iter().filter(|(name, _)| name.is_norm()).collect();
            assert_eq!(norms.len(), config.weights().filter(|name| name.is_norm()).count());
            assert!(norms.iter().all(|(_, values)| values.iter().all(|value| *value == 1.0)));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_weights_whatever_computes_them() {
        let rule = InitialisationRule::default();
        let weights =
            |seed, threads| elements(&initialise(&config(), &rule, seed, &options(threads)).unwrap());
        assert_eq!(weights(7, 1), weights(7, 3));
        assert_ne!(weights(7, 1), weights(8, 1));
        // The same on every machine: the first elements of the embedding, found once.
        let first: Vec<u32> =
            weights(7, 1)[0].1.iter().step_by(16).take(4).map(|value| value.to_bits()).collect();
        assert_eq!(first, [1_011_619_172, 1_004_566_445, 3_162_591_130, 3_164_239_057]);
    }

    #[test]
    fn without_residual_projections_every_layer_begins_as_the_identity() {
        let rule = InitialisationRule { residual: 0.0, ..InitialisationRule::default() };
        for (name, elements) in elements(&initialise(&config(), &rule, 1, &options(1)).unwrap()) {
            if let WeightName::Layer(_, LayerWeightName::Output | LayerWeightName::Down) = name {
                assert!(elements.iter().all(|value| *value == 0.0), "{name:?}");
            }
        }
    }
}
