//! Updates of parameters by their gradients: AdamW for embedding, head, routers and vectors, and AdamW or Muon for the other matrices of
//! layers. Every expert's matrices are matrices of their own, so that Muon makes the singular values of each equal.
//!
//! Parameters and gradients are slices in the order in which matrices are packed (tiles of 16 outputs). AdamW is
//! element-wise, so that any range of elements can be updated alone; Muon needs whole matrices. State is known by the
//! parameter's name and the offset of its first element, never by a rank, so that it can be dealt out anew.
//! Results do not depend on threads: elements are computed alone, and Muon's products are those of `tensor`.

mod adamw;
mod muon;
mod orthogonalise;
mod state;

use std::ops::Range;

use zhenjin_model::names::Naming;
use zhenjin_model::{LayerWeightName, ModelConfig, Weight, WeightName, Weights};
use zhenjin_tensor::{Gradients, ParameterId, TensorError, ThreadTeam, Zeroed};

use crate::configuration::{OptimiserKind, OptimiserSection};

pub use adamw::AdamwNumbers;
pub use orthogonalise::{Orthogonalised, POLAR_EXPRESS, QUINTIC};
pub use state::{StateError, StateTensor};

use muon::Muon;

/// Rows of a tile of a packed matrix.
const TILE_ROWS: usize = 16;

/// A parameter as optimisers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name in Hugging Face files, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Outputs and inputs of a matrix; `None` for a vector.
    pub matrix: Option<(usize, usize)>,
    /// Elements in packed order; the last tile of a matrix may hold rows that do not exist.
    pub elements: usize,
    /// The rule that updates it.
    pub rule: Rule,
}

/// Which rule updates a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// AdamW with the learning rate of embedding and head; no weight decay.
    Embedding,
    /// AdamW with the learning rate of layers; no weight decay.
    Vector,
    /// AdamW with the learning rate of layers and weight decay.
    Matrix,
    /// Muon.
    Muon,
}

/// Every parameter of a model, in the order of its [`zhenjin_tensor::ParameterId`]s.
pub fn describe(config: &ModelConfig, kind: OptimiserKind) -> Vec<Description> {
    let describe = |weight: WeightName| {
        let shape = config.shape(weight);
        let matrix = (shape.len() == 2).then(|| (shape[0], shape[1]));
        let rule = match (weight, matrix, kind) {
            (WeightName::Embedding | WeightName::Head, ..) => Rule::Embedding,
            (_, None, _) => Rule::Vector,
            // A router is a head over experts: its outputs are scores that softmax compares, one row an expert.
            (WeightName::Layer(_, LayerWeightName::Router), ..) => Rule::Matrix,
            (_, Some(_), OptimiserKind::Adamw) => Rule::Matrix,
            (_, Some(_), OptimiserKind::Muon) => Rule::Muon,
        };
        let elements = matrix.map_or(shape[0], |(rows, columns)| rows.next_multiple_of(TILE_ROWS) * columns);
        Description { name: Naming::HuggingFace.spell(weight), matrix, elements, rule }
    };
    config.weights().map(describe).collect()
}

/// A parameter of the model and its gradient, both whole, in packed order.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The values, to be updated.
    pub values: &'a mut [f32],
    /// The gradient, of the sum of all targets' losses.
    pub gradient: &'a [f32],
}

/// Elements of one parameter that an optimiser updates; whole matrices for Muon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which parameter.
    pub parameter: usize,
    /// Which elements in packed order.
    pub elements: Range<usize>,
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// What gradients are multiplied with first: 1 / targets, times what clipping leaves.
    pub gradient_factor: f32,
    /// What learning rates are multiplied with: the schedule's factor.
    pub rate_factor: f64,
}

/// The state of AdamW and Muon for some shards, and their update.
#[derive(Debug)]
pub struct Optimiser {
    options: OptimiserSection,
    descriptions: Vec<Description>,
    states: Vec<ShardState>,
    muon: Muon,
    /// Updates made so far.
    updates: u64,
}

/// What is remembered of the gradients of a shard.
#[derive(Debug)]
struct ShardState {
    shard: Shard,
    /// AdamW: mean of gradients. Muon: momentum.
    first: Zeroed,
    /// AdamW: mean of squared gradients. Muon: empty.
    second: Zeroed,
    /// Exponential moving average of the values; empty without one, or before the first update.
    average: Vec<f32>,
}

impl Optimiser {
    /// The state of a whole model before its first update.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    pub fn new(config: &ModelConfig, options: &OptimiserSection) -> Result<Optimiser, TensorError> {
        let descriptions = describe(config, options.kind);
        let whole = |(parameter, description): (usize, &Description)| Shard {
            parameter,
            elements: 0..description.elements,
        };
        let shards = descriptions.iter().enumerate().map(whole).collect();
        Optimiser::of_shards(config, options, shards)
    }

    /// The state of some shards before their first update.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    ///
    /// # Panics
    /// When a shard is out of its parameter's range, or a part of a matrix that Muon updates.
    pub fn of_shards(
        config: &ModelConfig,
        options: &OptimiserSection,
        shards: Vec<Shard>,
    ) -> Result<Optimiser, TensorError> {
        Optimiser::of_descriptions(describe(config, options.kind), options, shards)
    }

    /// The state of some shards of any parameters before their first update.
    ///
    /// # Errors
    /// [`TensorError::OutOfMemory`].
    ///
    /// # Panics
    /// As for [`Optimiser::of_shards`].
    pub fn of_descriptions(
        descriptions: Vec<Description>,
        options: &OptimiserSection,
        shards: Vec<Shard>,
    ) -> Result<Optimiser, TensorError> {
        let mut lengths = Vec::with_capacity(2 * shards.len());
        for shard in &shards {
            let Description { elements, rule, .. } = descriptions[shard.parameter];
            assert!(shard.elements.end <= elements, "{shard:?} of {elements} elements");
            assert!(rule != Rule::Muon || shard.elements == (0..elements), "Muon updates whole matrices");
            let length = shard.elements.len();
            lengths.extend([length, if rule == Rule::Muon { 0 } else { length }]);
        }
        let mut blocks = Zeroed::together("state of the optimiser", &lengths)?.into_iter();
        let mut states = Vec::with_capacity(shards.len());
        for shard in shards {
            if let (Some(first), Some(second)) = (blocks.next(), blocks.next()) {
                states.push(ShardState { shard, first, second, average: Vec::new() });
            }
        }
        Ok(Optimiser { options: options.clone(), states, descriptions, muon: Muon::default(), updates: 0 })
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The parameters of the model.
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// Updates the elements of its shards in place. `parameters` are all of the model's, in their order.
    ///
    /// # Errors
    /// What the products of `tensor` report.
    ///
    /// # Panics
    /// When `parameters` are not those of the model.
    pub fn step(
        &mut self,
        mut parameters: Vec<Parameter<'_>>,
        numbers: StepNumbers,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        self.updates += 1;
        self.adamw(&mut parameters, numbers, team);
        for state in &mut self.states {
            let description = &self.descriptions[state.shard.parameter];
            if let (Rule::Muon, Some(shape)) = (description.rule, description.matrix) {
                let parameter = &mut parameters[state.shard.parameter];
                self.muon.update(&self.options, numbers, shape, parameter, &mut state.first, team)?;
            }
        }
        if self.options.average_decay > 0.0 {
            self.average(&parameters);
        }
        Ok(())
    }

    /// [`Optimiser::step`] of a model's weights.
    ///
    /// # Errors
    /// As for that, and when a matrix is not in f32.
    pub fn update(
        &mut self,
        weights: &mut Weights,
        gradients: &Gradients,
        numbers: StepNumbers,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        let mut parameters = Vec::with_capacity(gradients.len());
        for (index, (_, weight)) in weights.parameters_mut().enumerate() {
            let values = match weight {
                Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
                Weight::Vector(vector) => &mut vector[..],
            };
            parameters.push(Parameter { values, gradient: gradients.get(ParameterId(index as u32)) });
        }
        self.step(parameters, numbers, team)
    }

    /// All of AdamW's shards in one run of the team.
    fn adamw(&mut self, parameters: &mut [Parameter<'_>], numbers: StepNumbers, team: &ThreadTeam) {
        let mut parts = adamw::Parts::default();
        // The values of a parameter are split where shards begin, so that each part owns its own; shards of one parameter ascend.
        let mut rest: Vec<(usize, &mut [f32], &[f32])> = parameters
            .iter_mut()
            .map(|Parameter { values, gradient }| (0, &mut **values, &**gradient))
            .collect();
        for state in &mut self.states {
            let rule = self.descriptions[state.shard.parameter].rule;
            let Some(rates) = AdamwNumbers::of(&self.options, rule, numbers, self.updates) else { continue };
            let (start, values, gradient) = std::mem::take(&mut rest[state.shard.parameter]);
            let skipped = state.shard.elements.start - start;
            let (own, behind) = values[skipped..].split_at_mut(state.shard.elements.len());
            let (own_gradient, gradient_behind) = gradient[skipped..].split_at(own.len());
            rest[state.shard.parameter] = (state.shard.elements.end, behind, gradient_behind);
            parts.add(rates, own, own_gradient, &mut state.first, &mut state.second);
        }
        parts.run(team);
    }

    /// Moves the averages towards the values.
    fn average(&mut self, parameters: &[Parameter<'_>]) {
        let decay = self.options.average_decay as f32;
        for state in &mut self.states {
            let values = &parameters[state.shard.parameter].values[state.shard.elements.clone()];
            if state.average.is_empty() {
                state.average.extend_from_slice(values);
                continue;
            }
            for (average, value) in state.average.iter_mut().zip(values) {
                *average += (1.0 - decay) * (*value - *average);
            }
        }
    }

    /// The averaged values of every element of its shards, if there are any: the parameter's number, the offset of the first
    /// element, the values in packed order.
    pub fn averages(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let averaged = self.states.iter().filter(|state| !state.average.is_empty());
        averaged.map(|state| (state.shard.parameter, state.shard.elements.start, &state.average[..]))
    }
}

#[cfg(test)]
mod tests;
