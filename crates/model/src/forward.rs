//! The transformer, written once: token ids to logits, for every family, whoever executes the operations.
//!
//! It does not know how operations are computed, where keys and values are kept, or what a file looks like.

use zhenjin_tensor::{AttentionShape, Executor, TensorError};

use crate::config::ModelConfig;
use crate::weights::{LayerWeights, Linear, Weights};

/// A weight set for the executor `E`.
type WeightsFor<E> = Weights<<E as Executor>::Matrix, <E as Executor>::Vector>;
/// A layer's weights for the executor `E`.
type LayerFor<E> = LayerWeights<<E as Executor>::Matrix, <E as Executor>::Vector>;

/// Logits `[selected.len(), vocabulary_size]` of the rows whose numbers are in `selected`.
///
/// `tokens` has one token per row of the batch that [`Executor::begin`] was told of. Keys and values of all rows are
/// remembered by the executor. With nothing selected the result has no rows.
pub fn logits<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    weights: &WeightsFor<E>,
    tokens: &[u32],
    selected: &[usize],
) -> Result<E::Tensor, TensorError> {
    let hidden = hidden_states(executor, config, weights, tokens, selected)?;
    if selected.is_empty() {
        return Ok(hidden);
    }
    let normalised = executor.rms_norm(&hidden, &weights.final_norm, config.rms_norm_epsilon)?;
    executor.discard(hidden);
    let [logits] = executor.linear(normalised, [(weights.head(), None)])?;
    Ok(logits)
}

/// The residual stream behind the last layer, `[selected.len(), hidden_size]`.
fn hidden_states<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    weights: &WeightsFor<E>,
    tokens: &[u32],
    selected: &[usize],
) -> Result<E::Tensor, TensorError> {
    let mut hidden = executor.embedding(&weights.embedding, tokens)?;
    for (index, layer) in weights.layers.iter().enumerate() {
        let mut attended = attention(executor, config, index, layer, &hidden)?;
        if index + 1 == weights.layers.len() {
            // Behind the last attention, rows without logits are of no use to anybody.
            hidden = executor.select_rows(hidden, selected)?;
            attended = executor.select_rows(attended, selected)?;
            if selected.is_empty() {
                return Ok(hidden);
            }
        }
        let [projected] = executor.linear(attended, [pair(&layer.output)])?;
        hidden = executor.add(hidden, projected)?;
        let fed_forward = feed_forward(executor, config, layer, &hidden)?;
        hidden = executor.add(hidden, fed_forward)?;
    }
    Ok(hidden)
}

/// What the attention heads of a layer see, before the output projection.
fn attention<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    index: usize,
    layer: &LayerFor<E>,
    hidden: &E::Tensor,
) -> Result<E::Tensor, TensorError> {
    let input = executor.rms_norm(hidden, &layer.attention_norm, config.rms_norm_epsilon)?;
    let projections = [pair(&layer.query), pair(&layer.key), pair(&layer.value)];
    let [mut queries, mut keys, values] = executor.linear(input, projections)?;
    if let Some(norm) = &layer.query_norm {
        queries = executor.head_norm(queries, norm, config.rms_norm_epsilon)?;
    }
    if let Some(norm) = &layer.key_norm {
        keys = executor.head_norm(keys, norm, config.rms_norm_epsilon)?;
    }
    queries = executor.rope(queries, config.head_dim)?;
    keys = executor.rope(keys, config.head_dim)?;
    executor.attention(index, attention_shape(config), config.window(index), queries, keys, values)
}

fn feed_forward<E: Executor>(
    executor: &mut E,
    config: &ModelConfig,
    layer: &LayerFor<E>,
    hidden: &E::Tensor,
) -> Result<E::Tensor, TensorError> {
    let input = executor.rms_norm(hidden, &layer.feed_forward_norm, config.rms_norm_epsilon)?;
    let [gate, up] = executor.linear(input, [pair(&layer.gate), pair(&layer.up)])?;
    let activated = executor.swiglu(gate, up)?;
    let [down] = executor.linear(activated, [pair(&layer.down)])?;
    Ok(down)
}

/// The attention that `config` describes, with the usual scale 1/√head_dim.
pub fn attention_shape(config: &ModelConfig) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        scale: (1.0 / (config.head_dim as f64).sqrt()) as f32,
    }
}

fn pair<M, V>(linear: &Linear<M, V>) -> (&M, Option<&V>) {
    (&linear.matrix, linear.bias.as_ref())
}
