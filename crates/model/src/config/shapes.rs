//! Which weights a configuration implies, and their shapes.

use super::ModelConfig;
use crate::tensor_source::{LayerWeightName, WeightName};

impl ModelConfig {
    /// Every weight that the model has, in the order of computation.
    pub fn weights(&self) -> impl Iterator<Item = WeightName> + use<> {
        let layer = self.layer_weights();
        let head = (!self.tied_embeddings).then_some(WeightName::Head);
        std::iter::once(WeightName::Embedding)
            .chain((0..self.layers).flat_map(move |index| {
                layer.clone().into_iter().map(move |weight| WeightName::Layer(index, weight))
            }))
            .chain([WeightName::FinalNorm])
            .chain(head)
    }

    /// The weights of each layer, in the order of computation.
    pub fn layer_weights(&self) -> Vec<LayerWeightName> {
        use LayerWeightName as W;
        let switches = [
            (W::AttentionNorm, true),
            (W::Query, true),
            (W::QueryBias, self.attention_bias),
            (W::Key, true),
            (W::KeyBias, self.attention_bias),
            (W::Value, true),
            (W::ValueBias, self.attention_bias),
            (W::QueryNorm, self.qk_norm),
            (W::KeyNorm, self.qk_norm),
            (W::Output, true),
            (W::OutputBias, self.attention_output_bias),
            (W::FeedForwardNorm, true),
            (W::Gate, true),
            (W::GateBias, self.feed_forward_bias),
            (W::Up, true),
            (W::UpBias, self.feed_forward_bias),
            (W::Down, true),
            (W::DownBias, self.feed_forward_bias),
        ];
        switches.into_iter().filter_map(|(weight, present)| present.then_some(weight)).collect()
    }

    /// The shape of a weight, `[outputs, inputs]` for a matrix and `[width]` for a vector.
    pub fn shape(&self, weight: WeightName) -> Vec<usize> {
        use LayerWeightName as W;
        let hidden = self.hidden_size;
        match weight {
            WeightName::Embedding | WeightName::Head => vec![self.vocabulary_size, hidden],
            WeightName::FinalNorm => vec![hidden],
            WeightName::Layer(_, weight) => match weight {
                W::AttentionNorm | W::FeedForwardNorm | W::OutputBias | W::DownBias => vec![hidden],
                W::Query => vec![self.query_width(), hidden],
                W::QueryBias => vec![self.query_width()],
                W::Key | W::Value => vec![self.kv_width(), hidden],
                W::KeyBias | W::ValueBias => vec![self.kv_width()],
                W::QueryNorm | W::KeyNorm => vec![self.head_dim],
                W::Output => vec![hidden, self.query_width()],
                W::Gate | W::Up => vec![self.intermediate_size, hidden],
                W::GateBias | W::UpBias => vec![self.intermediate_size],
                W::Down => vec![hidden, self.intermediate_size],
            },
        }
    }

    /// Number of weights, counting a matrix that is used twice once.
    pub fn parameters(&self) -> u64 {
        self.weights().map(|weight| self.shape(weight).iter().map(|size| *size as u64).product::<u64>()).sum()
    }
}
