//! A model's parameters one by one, in the order of [`crate::ModelConfig::weights`]: for optimisers, checkpoints, sums.

use zhenjin_tensor::{Expert, Matrix, ParameterId, ParameterShape, ParameterSource, TensorError, Vector};

use super::{Experts, FeedForward, LayerWeights, Linear, Weights};
use crate::config::ModelConfig;
use crate::families::Family;
use crate::tensor_source::{LayerWeightName, WeightName};

/// A weight of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight<M, V> {
    /// A matrix.
    Matrix(M),
    /// A norm's scale or a bias.
    Vector(V),
}

impl<M, V> Weights<M, V> {
    /// Every parameter with its name; a head that is the embedding is the same parameter and comes once. The place of a
    /// parameter in this order is its [`zhenjin_tensor::ParameterId`].
    pub fn parameters(&self) -> impl Iterator<Item = (WeightName, Weight<&M, &V>)> {
        Weights {
            embedding: &self.embedding,
            layers: self.layers.iter().map(LayerWeights::as_ref).collect(),
            final_norm: &self.final_norm,
            separate_head: self.separate_head.as_ref(),
        }
        .into_parameters()
    }

    /// As [`Weights::parameters`], to be changed.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = (WeightName, Weight<&mut M, &mut V>)> {
        Weights {
            embedding: &mut self.embedding,
            layers: self.layers.iter_mut().map(LayerWeights::as_mut).collect(),
            final_norm: &mut self.final_norm,
            separate_head: self.separate_head.as_mut(),
        }
        .into_parameters()
    }

    /// The weight of that name; `None` where the model has no such weight.
    pub fn get(&self, name: WeightName) -> Option<Weight<&M, &V>> {
        match name {
            WeightName::Embedding => Some(Weight::Matrix(&self.embedding)),
            WeightName::FinalNorm => Some(Weight::Vector(&self.final_norm)),
            WeightName::Head => self.separate_head.as_ref().map(Weight::Matrix),
            WeightName::Layer(index, name) => {
                let layer = self.layers.get(index)?;
                if let (Some(_), FeedForward::Experts(experts)) = (name.expert(), &layer.feed_forward) {
                    return experts.get(name).map(Weight::Matrix);
                }
                let mut weights = layer.as_ref().into_parameters();
                weights.find(|(known, _)| *known == name).map(|(_, weight)| weight)
            }
        }
    }

    fn into_parameters(self) -> impl Iterator<Item = (WeightName, Weight<M, V>)> {
        let layers = self.layers.into_iter().enumerate().flat_map(|(index, layer)| {
            layer.into_parameters().map(move |(name, weight)| (WeightName::Layer(index, name), weight))
        });
        std::iter::once((WeightName::Embedding, Weight::Matrix(self.embedding)))
            .chain(layers)
            .chain([(WeightName::FinalNorm, Weight::Vector(self.final_norm))])
            .chain(self.separate_head.map(|head| (WeightName::Head, Weight::Matrix(head))))
    }
}

impl Weights {
    /// The shapes of the parameters, in the order of their numbers: what gradients and optimiser states are made for.
    pub fn parameter_shapes(&self) -> Vec<ParameterShape> {
        let shape = |(_, weight): (WeightName, Weight<&Matrix, &Vector>)| match weight {
            Weight::Matrix(matrix) => {
                ParameterShape::Matrix { rows: matrix.rows(), columns: matrix.columns() }
            }
            Weight::Vector(vector) => ParameterShape::Vector { len: vector.len() },
        };
        self.parameters().map(shape).collect()
    }

    /// The parameters by their numbers, for a backward pass.
    pub fn parameter_table(&self) -> ParameterTable<'_> {
        ParameterTable { weights: self.parameters().map(|(_, weight)| weight).collect() }
    }

    /// Brings the rows of query and key projections in f32 from the order of Hugging Face files, where the two halves of a head turn together,
    /// into that where neighbours do.
    ///
    /// # Errors
    /// [`TensorError::NotF32`].
    pub fn interleave(&mut self, config: &ModelConfig) -> Result<(), TensorError> {
        let source = |row: usize| crate::adapter::half_split_row(row, config);
        for layer in &mut self.layers {
            for linear in [&mut layer.query, &mut layer.key] {
                let (rows, columns) = (linear.matrix.rows(), linear.matrix.columns());
                let mut values = vec![0.0; rows * columns];
                linear.matrix.unpack_f32(&mut values)?;
                let ordered: Vec<f32> = (0..rows)
                    .flat_map(|row| values[source(row) * columns..][..columns].iter().copied())
                    .collect();
                linear.matrix.write_f32(&ordered)?;
                if let Some(bias) = &mut linear.bias {
                    let values = bias.to_vec();
                    bias.iter_mut().enumerate().for_each(|(row, place)| *place = values[source(row)]);
                }
            }
        }
        Ok(())
    }

    /// Rounds every norm to a number that a folder of the model gives back bit for bit. Folders of some families hold norms less 1, which numbers
    /// below ½ would come back from changed in their last bits; of all others nothing changes.
    pub fn round_norms_as_stored(&mut self, config: &ModelConfig) {
        let family = Family::of_architecture(&config.architecture);
        if !family.is_some_and(|family| family.norms_less_one) {
            return;
        }
        for (name, weight) in self.parameters_mut() {
            if let (true, Weight::Vector(norm)) = (name.is_norm(), weight) {
                norm.iter_mut().for_each(|value| *value = (*value - 1.0) + 1.0);
            }
        }
    }

    /// The first value of a parameter in f32 that is NaN or infinite: of which, and where in its packed order.
    pub fn first_non_finite(&self) -> Option<(WeightName, usize)> {
        self.parameters().find_map(|(name, weight)| {
            let values = match weight {
                Weight::Matrix(matrix) => matrix.f32_packed().unwrap_or_default(),
                Weight::Vector(vector) => vector,
            };
            Some((name, values.iter().position(|value| !value.is_finite())?))
        })
    }
}

/// A model's parameters by their numbers.
#[derive(Debug)]
pub struct ParameterTable<'a> {
    weights: Vec<Weight<&'a Matrix, &'a Vector>>,
}

impl<'a> ParameterTable<'a> {
    /// Adds the next parameter.
    pub(crate) fn push(&mut self, weight: Weight<&'a Matrix, &'a Vector>) {
        self.weights.push(weight);
    }
}

impl ParameterSource for ParameterTable<'_> {
    fn matrix(&self, id: ParameterId) -> Option<&Matrix> {
        match self.weights.get(id.0 as usize) {
            Some(Weight::Matrix(matrix)) => Some(matrix),
            _ => None,
        }
    }

    fn vector(&self, id: ParameterId) -> Option<&Vector> {
        match self.weights.get(id.0 as usize) {
            Some(Weight::Vector(vector)) => Some(vector),
            _ => None,
        }
    }
}

impl<M, V> LayerWeights<M, V> {
    fn as_ref(&self) -> LayerWeights<&M, &V> {
        LayerWeights {
            attention_norm: self.attention_norm.as_ref(),
            query: self.query.as_ref(),
            key: self.key.as_ref(),
            value: self.value.as_ref(),
            query_norm: self.query_norm.as_ref(),
            key_norm: self.key_norm.as_ref(),
            output: self.output.as_ref(),
            attention_output_norm: self.attention_output_norm.as_ref(),
            feed_forward_norm: self.feed_forward_norm.as_ref(),
            feed_forward: self.feed_forward.as_ref(),
            feed_forward_output_norm: self.feed_forward_output_norm.as_ref(),
        }
    }

    fn as_mut(&mut self) -> LayerWeights<&mut M, &mut V> {
        LayerWeights {
            attention_norm: self.attention_norm.as_mut(),
            query: self.query.as_mut(),
            key: self.key.as_mut(),
            value: self.value.as_mut(),
            query_norm: self.query_norm.as_mut(),
            key_norm: self.key_norm.as_mut(),
            output: self.output.as_mut(),
            attention_output_norm: self.attention_output_norm.as_mut(),
            feed_forward_norm: self.feed_forward_norm.as_mut(),
            feed_forward: self.feed_forward.as_mut(),
            feed_forward_output_norm: self.feed_forward_output_norm.as_mut(),
        }
    }

    fn into_parameters(self) -> impl Iterator<Item = (LayerWeightName, Weight<M, V>)> {
        use LayerWeightName as W;
        let vector = |name, vector: Option<V>| [vector.map(|vector| (name, Weight::Vector(vector))), None];
        let linear = |matrix, bias, linear: Linear<M, V>| {
            [
                Some((matrix, Weight::Matrix(linear.matrix))),
                linear.bias.map(|vector| (bias, Weight::Vector(vector))),
            ]
        };
        [
            vector(W::AttentionNorm, self.attention_norm),
            linear(W::Query, W::QueryBias, self.query),
            linear(W::Key, W::KeyBias, self.key),
            linear(W::Value, W::ValueBias, self.value),
            vector(W::QueryNorm, self.query_norm),
            vector(W::KeyNorm, self.key_norm),
            linear(W::Output, W::OutputBias, self.output),
            vector(W::AttentionOutputNorm, self.attention_output_norm),
            vector(W::FeedForwardNorm, self.feed_forward_norm),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .chain(self.feed_forward.into_parameters())
        .chain(vector(W::FeedForwardOutputNorm, self.feed_forward_output_norm).into_iter().flatten())
    }
}

impl<M, V> FeedForward<M, V> {
    fn as_ref(&self) -> FeedForward<&M, &V> {
        match self {
            FeedForward::Dense { gate, up, down } => {
                FeedForward::Dense { gate: gate.as_ref(), up: up.as_ref(), down: down.as_ref() }
            }
            FeedForward::Experts(Experts { router, experts, choice }) => FeedForward::Experts(Experts {
                router,
                choice: *choice,
                experts: experts
                    .iter()
                    .map(|expert| Expert { gate: &expert.gate, up: &expert.up, down: &expert.down })
                    .collect(),
            }),
        }
    }

    fn as_mut(&mut self) -> FeedForward<&mut M, &mut V> {
        match self {
            FeedForward::Dense { gate, up, down } => {
                FeedForward::Dense { gate: gate.as_mut(), up: up.as_mut(), down: down.as_mut() }
            }
            FeedForward::Experts(Experts { router, experts, choice }) => FeedForward::Experts(Experts {
                router,
                choice: *choice,
                experts: experts
                    .iter_mut()
                    .map(|Expert { gate, up, down }| Expert { gate, up, down })
                    .collect(),
            }),
        }
    }

    fn into_parameters(self) -> impl Iterator<Item = (LayerWeightName, Weight<M, V>)> {
        use LayerWeightName as W;
        let mut parameters = Vec::new();
        match self {
            FeedForward::Dense { gate, up, down } => {
                for (matrix, bias, linear) in
                    [(W::Gate, W::GateBias, gate), (W::Up, W::UpBias, up), (W::Down, W::DownBias, down)]
                {
                    parameters.push((matrix, Weight::Matrix(linear.matrix)));
                    parameters.extend(linear.bias.map(|vector| (bias, Weight::Vector(vector))));
                }
            }
            FeedForward::Experts(Experts { router, experts, .. }) => {
                parameters.push((W::Router, Weight::Matrix(router)));
                for (number, Expert { gate, up, down }) in (0_u16..).zip(experts) {
                    parameters.push((W::ExpertGate(number), Weight::Matrix(gate)));
                    parameters.push((W::ExpertUp(number), Weight::Matrix(up)));
                    parameters.push((W::ExpertDown(number), Weight::Matrix(down)));
                }
            }
        }
        parameters.into_iter()
    }
}

impl<M> Experts<M> {
    /// The matrix of that name, if it is an expert's.
    fn get(&self, name: LayerWeightName) -> Option<&M> {
        let expert = self.experts.get(usize::from(name.expert()?))?;
        match name {
            LayerWeightName::ExpertGate(_) => Some(&expert.gate),
            LayerWeightName::ExpertUp(_) => Some(&expert.up),
            _ => Some(&expert.down),
        }
    }
}

impl<M, V> Linear<M, V> {
    fn as_ref(&self) -> Linear<&M, &V> {
        Linear { matrix: &self.matrix, bias: self.bias.as_ref() }
    }

    fn as_mut(&mut self) -> Linear<&mut M, &mut V> {
        Linear { matrix: &mut self.matrix, bias: self.bias.as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use zhenjin_tensor::{Dtype, SimdLevel, ThreadTeam};

    use super::*;
    use crate::config::{ExpertsConfig, ModelConfig, NormPlacement, QueryKeyNorm};
    use crate::testing::{RandomWeights, tiny_config, tiny_norms_after};
    use crate::weights::LoadOptions;

    fn experts() -> ExpertsConfig {
        let dense_layers = Vec::new();
        ExpertsConfig { count: 3, active: 2, intermediate_size: 32, normalise: true, every: 1, dense_layers }
    }

    fn all_switches() -> ModelConfig {
        ModelConfig {
            attention_bias: true,
            attention_output_bias: true,
            feed_forward_bias: true,
            qk_norm: QueryKeyNorm::Heads,
            norms: NormPlacement::BeforeAndAfter,
            tied_embeddings: false,
            ..tiny_config()
        }
    }

    #[test]
    fn parameters_are_numbered_in_the_order_of_the_configuration() {
        let qk_norm_only = ModelConfig { qk_norm: QueryKeyNorm::Heads, ..tiny_config() };
        let mixture = ModelConfig { experts: Some(experts()), ..tiny_norms_after() };
        for config in [tiny_config(), qk_norm_only, all_switches(), tiny_norms_after(), mixture] {
            let source = RandomWeights::new(config.clone(), Dtype::F32, 1);
            let team = Arc::new(ThreadTeam::new(1).unwrap());
            let options = LoadOptions { simd: SimdLevel::detect(), team };
            let mut weights = Weights::load(&config, &source, &options).unwrap();
            let id = |weight| match weight {
                Weight::Matrix(matrix) => zhenjin_tensor::Matrix::parameter(matrix),
                Weight::Vector(vector) => zhenjin_tensor::Vector::parameter(vector),
            };
            let numbered: Vec<_> = weights.parameters().map(|(name, weight)| (name, id(weight))).collect();
            let expected: Vec<_> = config
                .weights()
                .enumerate()
                .map(|(index, name)| (name, Some(ParameterId(index as u32))))
                .collect();
            assert_eq!(numbered, expected);
            let got = |name| weights.get(name).map(id);
            assert!(expected.iter().all(|(name, id)| got(*name) == Some(*id)), "by name: {config:?}");
            let changeable: Vec<_> = weights.parameters_mut().map(|(name, _)| name).collect();
            assert_eq!(changeable, config.weights().collect::<Vec<_>>());
            let is_tied = weights.head().parameter() == weights.embedding.parameter();
            assert_eq!(is_tied, config.tied_embeddings);
        }
    }
}
