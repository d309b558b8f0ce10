//! What a learner computes with, and which parameters that has.

use zhenjin_tensor::{Gradients, Matrix, ParameterId, ParameterShape, Vector};

use crate::adapter::Adapter;
use crate::forward::AdapterRows;
use crate::tensor_source::WeightName;
use crate::weights::{ParameterTable, Weight, Weights};

/// What a [`Learner`] computes with: weights, and an adapter to them that all rows have.
#[derive(Clone, Copy, Debug)]
pub struct Learned<'a> {
    /// The weights, parameters from 0 on. Those that do not learn can be in any type that serves.
    pub weights: &'a Weights,
    /// The adapter, whose matrices are the parameters that follow ([`Adapter::with_parameters`]).
    pub adapter: Option<&'a Adapter>,
    /// The head of a model with values, the parameter behind all others.
    pub values: Option<&'a Vector>,
}

impl<'a> Learned<'a> {
    /// The same with an adapter.
    #[must_use]
    pub fn with_adapter(self, adapter: Option<&'a Adapter>) -> Learned<'a> {
        Learned { adapter, ..self }
    }

    /// The same with a head for values.
    #[must_use]
    pub fn with_values(self, values: Option<&'a Vector>) -> Learned<'a> {
        Learned { values, ..self }
    }

    /// The shapes of all parameters in the order of their numbers: weights, adapter, head for values.
    pub fn parameter_shapes(&self) -> Vec<ParameterShape> {
        let mut shapes = self.weights.parameter_shapes();
        shapes.extend(self.adapter.iter().flat_map(|adapter| adapter.parameter_shapes()));
        shapes.extend(self.values.map(|values| ParameterShape::Vector { len: values.len() }));
        shapes
    }

    /// The adapter for all of so many rows.
    pub(super) fn rows(&self, rows: usize) -> Vec<AdapterRows<'a, Matrix>> {
        self.adapter.into_iter().map(|adapter| AdapterRows { rows: 0..rows, adapter }).collect()
    }

    pub(super) fn table(&self) -> ParameterTable<'a> {
        let mut table = self.weights.parameter_table();
        if let Some(adapter) = self.adapter {
            adapter.parameters().for_each(|(_, matrix)| table.push(Weight::Matrix(matrix)));
        }
        self.values.into_iter().for_each(|values| table.push(Weight::Vector(values)));
        table
    }
}

impl Learned<'_> {
    /// Where the lowest parameter that learns is: 0 for the embedding, 1 + its number for a layer, the number of layers + 1 for what is
    /// behind them. The input of layer `n` needs a gradient where this is at most `n`.
    pub(super) fn first_learning(&self, gradients: &Gradients) -> usize {
        let behind = self.weights.layers.len() + 1;
        let of_weights = self.weights.parameters().map(|(name, _)| match name {
            WeightName::Embedding => 0,
            WeightName::Layer(layer, _) => layer + 1,
            WeightName::FinalNorm | WeightName::Head => behind,
        });
        let additions = self.adapter.into_iter().flat_map(Adapter::additions);
        let places = of_weights.chain(additions.flat_map(|(layer, ..)| [layer + 1; 2]));
        let learning = places.zip(0..).filter(|(_, id)| gradients.learns(ParameterId(*id)));
        learning.map(|(place, _)| place).min().unwrap_or(behind)
    }
}

impl<'a> From<&'a Weights> for Learned<'a> {
    fn from(weights: &'a Weights) -> Learned<'a> {
        Learned { weights, adapter: None, values: None }
    }
}
