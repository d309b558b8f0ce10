//! How many parameters a model has, and how many floating-point operations training it takes.
//!
//! A product of an `m × k` and a `k × n` matrix takes `2·m·k·n` operations. Of a matrix with `w` weights, each token takes
//! `2·w` forward, `2·w` for the gradient of its input and `2·w` for its own gradient: `6·w`. Summed over all parameters this is the rule
//! `6·N·D` (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). What it leaves out is attention: a query at position `t` is multiplied with `t + 1` keys and
//! as many values, `4·(t + 1)·width` forward and twice that backward; what it counts too much is the table of embeddings, which is only read.

use serde::Serialize;
use zhenjin_model::config::QueryKeyNorm;
use zhenjin_model::{ModelConfig, WeightName};

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterCount {
    /// Table of embeddings; also the head where they are tied.
    pub embedding: u64,
    /// The head's own matrix; 0 where it is the embedding.
    pub head: u64,
    /// Matrices of the layers: attention's and the feed-forward networks', all experts' among them; routers not.
    pub matrices: u64,
    /// Of these, the experts' that a token does not use.
    pub idle_matrices: u64,
    /// Routers: scores of the experts.
    pub routers: u64,
    /// Norms and biases.
    pub vectors: u64,
}

impl ParameterCount {
    /// Parameters of a configuration.
    pub fn of(config: &ModelConfig) -> Self {
        let [vocabulary, layers, hidden, inner, queries, kv, head_dim] = [
            config.vocabulary_size,
            config.layers,
            config.hidden_size,
            config.intermediate_size,
            config.query_width(),
            config.kv_width(),
            config.head_dim,
        ]
        .map(|size| size as u64);
        let biases = if config.attention_bias { queries + 2 * kv } else { 0 }
            + if config.attention_output_bias { hidden } else { 0 }
            + if config.feed_forward_bias { 2 * inner + hidden } else { 0 };
        let placed = u64::from(config.norms.before()) + u64::from(config.norms.after());
        let norms = 2 * placed * hidden
            + match config.qk_norm {
                QueryKeyNorm::Never => 0,
                QueryKeyNorm::Heads => 2 * head_dim,
                QueryKeyNorm::Whole => queries + kv,
            };
        let [mut feed_forward, mut idle_matrices, mut routers] = [0; 3];
        for layer in 0..config.layers {
            let Some(experts) = config.experts_of(layer) else {
                feed_forward += 3 * hidden * inner;
                continue;
            };
            let expert = 3 * hidden * experts.intermediate_size as u64;
            feed_forward += experts.count as u64 * expert;
            idle_matrices += experts.count.saturating_sub(experts.active) as u64 * expert;
            routers += experts.count as u64 * hidden;
        }
        Self {
            embedding: vocabulary * hidden,
            head: if config.tied_embeddings { 0 } else { vocabulary * hidden },
            matrices: layers * 2 * hidden * (queries + kv) + feed_forward,
            idle_matrices,
            routers,
            vectors: layers * (norms + biases) + hidden,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.embedding + self.head + self.matrices + self.routers + self.vectors
    }

    /// Those that a token uses.
    pub fn active(&self) -> u64 {
        self.total() - self.idle_matrices
    }
}

/// With which others the gradient of a weight is exchanged: the number of its group, counted from the last layer, and those of no layer at the end.
pub(crate) fn exchange_group(config: &ModelConfig, weight: WeightName) -> usize {
    match weight {
        WeightName::Layer(layer, _) => config.layers - 1 - layer,
        _ => config.layers,
    }
}

/// Elements of the gradients that ranks exchange together: those of each layer, the last layer first, then all others.
pub(super) fn exchanged_groups(config: &ModelConfig) -> Vec<usize> {
    let mut groups = vec![0; config.layers + 1];
    for weight in config.weights() {
        groups[exchange_group(config, weight)] += config.shape(weight).iter().product::<usize>();
    }
    groups
}

/// Floating-point operations of one token, forward and backward, averaged over a document's positions. Nothing is counted that is computed twice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenOperations {
    /// Products with the layers' matrices, of experts with the active ones, and routers.
    pub matrices: f64,
    /// Products of queries with keys, and of their weights with values.
    pub attention: f64,
    /// Products with the head.
    pub head: f64,
}

impl TokenOperations {
    /// Operations for tokens of documents of `document_length` tokens (at least 1).
    pub fn of(config: &ModelConfig, document_length: usize) -> Self {
        let count = ParameterCount::of(config);
        let length = document_length.max(1) as f64;
        let keys: f64 = (0..config.layers)
            .map(|layer| {
                // The mean over positions t of min(t + 1, window).
                let window = config.window(layer).map_or(length, |window| (window as f64).min(length));
                (window * (window + 1.0) / 2.0 + (length - window) * window) / length
            })
            .sum();
        Self {
            matrices: 6.0 * (count.matrices - count.idle_matrices + count.routers) as f64,
            attention: 12.0 * config.query_width() as f64 * keys,
            head: 6.0 * (config.vocabulary_size * config.hidden_size) as f64,
        }
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.matrices + self.attention + self.head
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use zhenjin_model::config::{NormPlacement, SlidingWindow};

    #[test]
    fn counts_are_those_of_a_known_model() {
        // SmolLM2-135M: 134,515,008 parameters (its model card and its file).
        let smollm = ModelConfig {
            vocabulary_size: 49_152,
            layers: 30,
            hidden_size: 576,
            intermediate_size: 1_536,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            qk_norm: QueryKeyNorm::Never,
            ..config()
        };
        assert_eq!(ParameterCount::of(&smollm).total(), 134_515_008);
        // Qwen3-0.6B: 596,049,920 parameters.
        let qwen = ModelConfig {
            vocabulary_size: 151_936,
            layers: 28,
            hidden_size: 1_024,
            intermediate_size: 3_072,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            ..config()
        };
        assert_eq!(ParameterCount::of(&qwen).total(), 596_049_920);
        for (norms, qk_norm) in [
            (NormPlacement::Before, QueryKeyNorm::Never),
            (NormPlacement::After, QueryKeyNorm::Whole),
            (NormPlacement::BeforeAndAfter, QueryKeyNorm::Heads),
        ] {
            let config = ModelConfig { norms, qk_norm, ..qwen.clone() };
            assert_eq!(ParameterCount::of(&config).total(), config.parameters(), "{norms:?}");
        }
        // Without attention and with a tied head, 6·N is exact but for the vectors.
        let operations = TokenOperations::of(&qwen, 1);
        let rule = 6.0 * 596_049_920.0;
        assert!((operations.matrices + operations.head) / rule > 0.999);
    }

    #[test]
    fn attention_is_counted_position_by_position() {
        let mut config = ModelConfig { layers: 1, ..config() };
        let by_hand = |lengths: &dyn Fn(usize) -> usize| {
            (0..10).map(|position| lengths(position) as f64).sum::<f64>() / 10.0
                * 12.0
                * config.query_width() as f64
        };
        let (all, windowed) = (by_hand(&|position| position + 1), by_hand(&|position| (position + 1).min(4)));
        assert!((TokenOperations::of(&config, 10).attention - all).abs() < 1e-6);
        config.sliding_window = Some(SlidingWindow { positions: 4, layers: vec![0] });
        assert!((TokenOperations::of(&config, 10).attention - windowed).abs() < 1e-6);
    }
}
