//! Which weights a configuration implies, and their shapes.

use super::{ModelConfig, QueryKeyNorm};
use crate::tensor_source::{LayerWeightName, WeightName};

impl ModelConfig {
    /// Every weight that the model has, in the order of computation.
    pub fn weights(&self) -> impl Iterator<Item = WeightName> + use<> {
        let layers: Vec<Vec<LayerWeightName>> =
            (0..self.layers).map(|layer| self.layer_weights(layer)).collect();
        let head = (!self.tied_embeddings).then_some(WeightName::Head);
        std::iter::once(WeightName::Embedding)
            .chain(layers.into_iter().enumerate().flat_map(|(index, layer)| {
                layer.into_iter().map(move |weight| WeightName::Layer(index, weight))
            }))
            .chain([WeightName::FinalNorm])
            .chain(head)
    }

    /// The weights of one layer, in the order of computation.
    pub fn layer_weights(&self, layer: usize) -> Vec<LayerWeightName> {
        use LayerWeightName as W;
        let (before, after) = (self.norms.before(), self.norms.after());
        let qk_norm = self.qk_norm != QueryKeyNorm::Never;
        let switches = [
            (W::AttentionNorm, before),
            (W::Query, true),
            (W::QueryBias, self.attention_bias),
            (W::Key, true),
            (W::KeyBias, self.attention_bias),
            (W::Value, true),
            (W::ValueBias, self.attention_bias),
            (W::QueryNorm, qk_norm),
            (W::KeyNorm, qk_norm),
            (W::Output, true),
            (W::OutputBias, self.attention_output_bias),
            (W::AttentionOutputNorm, after),
            (W::FeedForwardNorm, before),
        ];
        let bias = self.feed_forward_bias;
        let dense = [
            (W::Gate, true),
            (W::GateBias, bias),
            (W::Up, true),
            (W::UpBias, bias),
            (W::Down, true),
            (W::DownBias, bias),
        ];
        let present = |(weight, present): (W, bool)| present.then_some(weight);
        let mut weights: Vec<W> = switches.into_iter().filter_map(present).collect();
        match self.experts_of(layer) {
            None => weights.extend(dense.into_iter().filter_map(present)),
            Some(experts) => {
                weights.push(W::Router);
                // `check` keeps the number of experts within 16 bits.
                weights.extend(
                    (0..experts.count as u16).flat_map(|expert| {
                        [W::ExpertGate(expert), W::ExpertUp(expert), W::ExpertDown(expert)]
                    }),
                );
            }
        }
        if after {
            weights.push(W::FeedForwardOutputNorm);
        }
        weights
    }

    /// Whether `layer` has such a weight.
    pub(crate) fn has_layer_weight(&self, layer: usize, weight: LayerWeightName) -> bool {
        use LayerWeightName as W;
        match (self.experts_of(layer), weight) {
            (Some(experts), W::ExpertGate(expert) | W::ExpertUp(expert) | W::ExpertDown(expert)) => {
                usize::from(expert) < experts.count
            }
            (None, W::ExpertGate(_) | W::ExpertUp(_) | W::ExpertDown(_) | W::Router) => false,
            _ => self.layer_weights(layer).contains(&weight),
        }
    }

    /// The shape of a weight, `[outputs, inputs]` for a matrix and `[width]` for a vector.
    pub fn shape(&self, weight: WeightName) -> Vec<usize> {
        use LayerWeightName as W;
        let hidden = self.hidden_size;
        match weight {
            WeightName::Embedding | WeightName::Head => vec![self.vocabulary_size, hidden],
            WeightName::FinalNorm => vec![hidden],
            WeightName::Layer(_, weight) => match weight {
                W::AttentionNorm | W::AttentionOutputNorm | W::FeedForwardNorm | W::FeedForwardOutputNorm => {
                    vec![hidden]
                }
                W::OutputBias | W::DownBias => vec![hidden],
                W::Query => vec![self.query_width(), hidden],
                W::QueryBias => vec![self.query_width()],
                W::Key | W::Value => vec![self.kv_width(), hidden],
                W::KeyBias | W::ValueBias => vec![self.kv_width()],
                W::QueryNorm if self.qk_norm == QueryKeyNorm::Whole => vec![self.query_width()],
                W::KeyNorm if self.qk_norm == QueryKeyNorm::Whole => vec![self.kv_width()],
                W::QueryNorm | W::KeyNorm => vec![self.head_dim],
                W::Output => vec![hidden, self.query_width()],
                W::Gate | W::Up => vec![self.intermediate_size, hidden],
                W::GateBias | W::UpBias => vec![self.intermediate_size],
                W::Down => vec![hidden, self.intermediate_size],
                W::Router => vec![self.experts.as_ref().map_or(0, |experts| experts.count), hidden],
                W::ExpertGate(_) | W::ExpertUp(_) => vec![self.expert_width(), hidden],
                W::ExpertDown(_) => vec![hidden, self.expert_width()],
            },
        }
    }

    fn expert_width(&self) -> usize {
        self.experts.as_ref().map_or(0, |experts| experts.intermediate_size)
    }

    /// The greatest width of a tensor of activations inside a layer.
    pub fn widest(&self) -> usize {
        let dense = (0..self.layers).any(|layer| self.experts_of(layer).is_none());
        let inner = if dense { self.intermediate_size } else { 0 };
        inner
            .max(self.expert_width())
            .max(self.experts.as_ref().map_or(0, |experts| experts.count))
            .max(self.query_width())
            .max(self.hidden_size)
    }

    /// Number of weights, counting a matrix that is used twice once.
    pub fn parameters(&self) -> u64 {
        self.weights().map(|weight| self.shape(weight).iter().map(|size| *size as u64).product::<u64>()).sum()
    }
}
