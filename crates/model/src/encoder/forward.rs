//! The forward pass of encoders, written once for whoever executes the operations: token ids to hidden states.

use zhenjin_tensor::{AttentionShape, EncoderExecutor, TensorError};

use super::config::EncoderConfig;
use super::weights::{EncoderLayer, EncoderWeights, Norm};

/// What one forward pass computes with.
#[derive(Debug)]
pub struct Encoder<'a, M, V> {
    /// Shape and switches.
    pub config: &'a EncoderConfig,
    /// The weights, in the form of the executor.
    pub weights: &'a EncoderWeights<M, V>,
}

impl<M, V> Encoder<'_, M, V> {
    /// The hidden states behind the last layer, `[rows, hidden_size]`, of whole texts: their tokens lie one after the other in `tokens`,
    /// with the position of each in `positions`, and [`EncoderExecutor::begin_encoding`] was told of their lengths.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn hidden_states<E: EncoderExecutor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<E::Tensor, TensorError> {
        let mut hidden = self.embed(executor, tokens, positions)?;
        for layer in &self.weights.layers {
            hidden = self.layer(executor, layer, hidden)?;
        }
        Ok(hidden)
    }

    /// What goes into the first layer, `[rows, hidden_size]`.
    pub(crate) fn embed<E: EncoderExecutor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<E::Tensor, TensorError> {
        let weights = self.weights;
        // The order of the sums is that of transformers; every text is of the first type.
        let words = executor.embedding(&weights.words, tokens)?;
        let types = executor.embedding(&weights.token_types, &vec![0; tokens.len()])?;
        let sum = executor.add(words, types)?;
        let places = executor.embedding(&weights.positions, positions)?;
        let sum = executor.add(sum, places)?;
        self.norm(executor, sum, &weights.norm)
    }

    /// What one layer makes of what came before it, `[rows, hidden_size]`.
    pub(crate) fn layer<E: EncoderExecutor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        layer: &EncoderLayer<M, V>,
        hidden: E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        let projections = [&layer.query, &layer.key, &layer.value].map(|linear| linear.projection(&[]));
        let [queries, keys, values] = executor.project(&hidden, projections)?;
        let attended = executor.attention_to_all(self.attention_shape(), queries, keys, values)?;
        let [projected] = executor.linear(attended, [layer.output.projection(&[])])?;
        let sum = executor.add(hidden, projected)?;
        let hidden = self.norm(executor, sum, &layer.attention_norm)?;
        let [inner] = executor.project(&hidden, [layer.up.projection(&[])])?;
        let inner = executor.gelu(inner)?;
        let [projected] = executor.linear(inner, [layer.down.projection(&[])])?;
        let sum = executor.add(hidden, projected)?;
        self.norm(executor, sum, &layer.feed_forward_norm)
    }

    fn norm<E: EncoderExecutor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        input: E::Tensor,
        norm: &Norm<V>,
    ) -> Result<E::Tensor, TensorError> {
        let out = executor.layer_norm(&input, &norm.weight, &norm.bias, self.config.epsilon)?;
        executor.discard(input);
        Ok(out)
    }

    fn attention_shape(&self) -> AttentionShape {
        attention_shape(self.config)
    }
}

/// The attention that `config` describes, with the usual scale 1/√head_dim.
pub(crate) fn attention_shape(config: &EncoderConfig) -> AttentionShape {
    let head_dim = config.head_dim();
    AttentionShape {
        heads: config.heads,
        kv_heads: config.heads,
        head_dim,
        scale: (1.0 / (head_dim as f64).sqrt()) as f32,
    }
}
