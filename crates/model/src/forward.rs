//! The transformer, written once: token ids to hidden states and logits, for every family, whoever executes the operations.
//!
//! Its parts can be called one by one: scoring and pooling begin with [`Transformer::hidden_states`], and
//! [`Transformer::layer`] computes one layer.

use std::ops::Range;

use zhenjin_tensor::{AttentionShape, Executor, LowRankAddition, Projection, TensorError};

use crate::adapter::Adapter;
use crate::config::ModelConfig;
use crate::tensor_source::LayerWeightName;
use crate::weights::{Experts, FeedForward, LayerWeights, Weights};

/// What one forward pass computes with. The rows of all tensors are those of the batch that [`Executor::begin`] was told of.
#[derive(Debug)]
pub struct Transformer<'a, M, V> {
    /// Shape and switches.
    pub config: &'a ModelConfig,
    /// The weights, in the form of the executor.
    pub weights: &'a Weights<M, V>,
    /// Which rows are computed with which adapter; the others with none.
    pub adapters: &'a [AdapterRows<'a, M>],
}

/// Rows of a batch that are computed with an adapter.
#[derive(Debug)]
pub struct AdapterRows<'a, M> {
    /// The rows.
    pub rows: Range<usize>,
    /// The adapter.
    pub adapter: &'a Adapter<M>,
}

/// The additions to a projection of layer `layer`, for each of `adapters` that has one. With no adapters nothing is allocated.
fn additions<'a, M>(
    adapters: &[AdapterRows<'a, M>],
    layer: usize,
    projection: LayerWeightName,
) -> Vec<LowRankAddition<'a, M>> {
    let addition = |AdapterRows { rows, adapter }: &AdapterRows<'a, M>| {
        let low_rank = adapter.addition(layer, projection)?;
        Some(LowRankAddition {
            rows: rows.clone(),
            down: &low_rank.down,
            up: &low_rank.up,
            scale: low_rank.scale,
            outputs: low_rank.outputs.change(),
        })
    };
    adapters.iter().filter_map(addition).collect()
}

/// The same adapters by the places of their rows among `selected`, which ascend.
fn among_selected<'a, M>(adapters: &[AdapterRows<'a, M>], selected: &[usize]) -> Vec<AdapterRows<'a, M>> {
    let place = |row: usize| selected.partition_point(|selected| *selected < row);
    let rows = |AdapterRows { rows, adapter }: &AdapterRows<'a, M>| AdapterRows {
        rows: place(rows.start)..place(rows.end),
        adapter: *adapter,
    };
    adapters.iter().map(rows).filter(|adapter| !adapter.rows.is_empty()).collect()
}

impl<'a, M, V> Transformer<'a, M, V> {
    /// Logits `[selected.len(), vocabulary_size]` of the rows whose numbers are in `selected`; without rows if there are none.
    ///
    /// `tokens` has one token per row of the batch; `selected` ascends. Keys and values of all rows are remembered by the
    /// executor.
    ///
    /// # Errors
    /// What the executor reports, here and in all other parts.
    pub fn logits<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        tokens: &[u32],
        selected: &[usize],
    ) -> Result<E::Tensor, TensorError> {
        let hidden = self.hidden_states(executor, tokens, selected)?;
        if selected.is_empty() {
            return Ok(hidden);
        }
        let normalised = self.final_norm(executor, &hidden)?;
        executor.discard(hidden);
        self.head(executor, normalised)
    }

    /// The residual stream before the first layer: `[tokens.len(), hidden_size]`.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn embed<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        tokens: &[u32],
    ) -> Result<E::Tensor, TensorError> {
        let embedded = executor.embedding(&self.weights.embedding, tokens)?;
        times(executor, embedded, self.config.multipliers.embedding)
    }

    /// The residual stream after the last layer, before the final norm: `[selected.len(), hidden_size]`.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn hidden_states<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        tokens: &[u32],
        selected: &[usize],
    ) -> Result<E::Tensor, TensorError> {
        let mut hidden = self.embed(executor, tokens)?;
        for index in 0..self.weights.layers.len() {
            let is_last = index + 1 == self.weights.layers.len();
            hidden = self.layer(executor, index, hidden, is_last.then_some(selected))?;
        }
        Ok(hidden)
    }

    /// The residual stream after layer `index`, given that before it, `[rows, hidden_size]`. With `selected`, attention is
    /// computed for all rows, what follows it only for those: `[selected.len(), hidden_size]`.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn layer<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        index: usize,
        mut hidden: E::Tensor,
        selected: Option<&[usize]>,
    ) -> Result<E::Tensor, TensorError> {
        let layer = &self.weights.layers[index];
        let mut attended = self.attention(executor, index, layer, &hidden)?;
        let after_selection;
        let mut adapters = self.adapters;
        if let Some(selected) = selected {
            after_selection = among_selected(adapters, selected);
            adapters = &after_selection;
            hidden = executor.select_rows(hidden, selected)?;
            attended = executor.select_rows(attended, selected)?;
            if selected.is_empty() {
                executor.discard(attended);
                return Ok(hidden);
            }
        }
        let output = additions(adapters, index, LayerWeightName::Output);
        let [projected] = executor.linear(attended, [layer.output.projection(&output)])?;
        hidden = self.add(executor, hidden, projected, layer.attention_output_norm.as_ref())?;
        let fed_forward = self.feed_forward(executor, index, adapters, &hidden)?;
        self.add(executor, hidden, fed_forward, layer.feed_forward_output_norm.as_ref())
    }

    /// The residual stream with what attention or the feed-forward network adds, behind the norm of that if there is one.
    fn add<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        hidden: E::Tensor,
        mut addend: E::Tensor,
        norm: Option<&V>,
    ) -> Result<E::Tensor, TensorError> {
        if let Some(norm) = norm {
            let normalised = executor.rms_norm(&addend, norm, self.config.rms_norm_epsilon)?;
            executor.discard(addend);
            addend = normalised;
        }
        let addend = times(executor, addend, self.config.multipliers.residual)?;
        executor.add(hidden, addend)
    }

    /// The norm behind the last layer: `[rows, hidden_size]`. Vectors, values and scores of texts are made of its output as it is, logits of
    /// [`Transformer::head_input`].
    ///
    /// # Errors
    /// What the executor reports.
    pub fn final_norm<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        hidden: &E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        executor.rms_norm(hidden, &self.weights.final_norm, self.config.rms_norm_epsilon)
    }

    /// What the head multiplies, of normalised hidden states: the same, or their multiples where logits have a factor.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn head_input<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        normalised: E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        times(executor, normalised, self.config.multipliers.logits)
    }

    /// Logits `[rows, vocabulary_size]` of normalised hidden states.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn head<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        normalised: E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        let input = self.head_input(executor, normalised)?;
        self.head_logits(executor, input)
    }

    /// Logits `[rows, vocabulary_size]` of what [`Transformer::head_input`] gives.
    ///
    /// # Errors
    /// What the executor reports.
    pub fn head_logits<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        input: E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        let projection = Projection { matrix: self.weights.head(), bias: None, additions: &[] };
        let [logits] = executor.linear(input, [projection])?;
        Ok(logits)
    }

    /// What the attention heads of a layer see, before the output projection.
    fn attention<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        index: usize,
        layer: &LayerWeights<M, V>,
        hidden: &E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        let config = self.config;
        let input = self.input_of(executor, hidden, layer.attention_norm.as_ref())?;
        let [query, key, value] = [LayerWeightName::Query, LayerWeightName::Key, LayerWeightName::Value]
            .map(|projection| additions(self.adapters, index, projection));
        let projections =
            [layer.query.projection(&query), layer.key.projection(&key), layer.value.projection(&value)];
        let [mut queries, mut keys, values] = executor.linear(input, projections)?;
        if let Some(norm) = &layer.query_norm {
            queries = executor.head_norm(queries, norm, config.rms_norm_epsilon)?;
        }
        if let Some(norm) = &layer.key_norm {
            keys = executor.head_norm(keys, norm, config.rms_norm_epsilon)?;
        }
        if config.rotates(index) {
            let table = config.rope_table(index);
            queries = executor.rope(queries, config.head_dim, table)?;
            keys = executor.rope(keys, config.head_dim, table)?;
        }
        executor.attention(index, attention_shape(config), config.window(index), queries, keys, values)
    }

    /// What a layer's projections multiply: the residual stream behind a norm, or as it is where there is none.
    fn input_of<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        hidden: &E::Tensor,
        norm: Option<&V>,
    ) -> Result<E::Tensor, TensorError> {
        match norm {
            Some(norm) => executor.rms_norm(hidden, norm, self.config.rms_norm_epsilon),
            None => executor.copy(hidden),
        }
    }

    /// What the feed-forward network of a layer makes of the residual stream, before the norm of that.
    fn feed_forward<E: Executor<Matrix = M, Vector = V>>(
        &self,
        executor: &mut E,
        index: usize,
        adapters: &[AdapterRows<'a, M>],
        hidden: &E::Tensor,
    ) -> Result<E::Tensor, TensorError> {
        let layer = &self.weights.layers[index];
        let input = self.input_of(executor, hidden, layer.feed_forward_norm.as_ref())?;
        match &layer.feed_forward {
            FeedForward::Experts(Experts { router, experts, choice }) => {
                executor.mixture_of_experts(input, router, experts, *choice)
            }
            FeedForward::Dense { gate, up, down } => {
                let [gate_additions, up_additions, down_additions] =
                    [LayerWeightName::Gate, LayerWeightName::Up, LayerWeightName::Down]
                        .map(|projection| additions(adapters, index, projection));
                let projections = [gate.projection(&gate_additions), up.projection(&up_additions)];
                let [gate, up] = executor.linear(input, projections)?;
                let activated = executor.gated(self.config.activation, gate, up)?;
                let [fed_forward] = executor.linear(activated, [down.projection(&down_additions)])?;
                Ok(fed_forward)
            }
        }
    }
}

/// The tensor times `factor`; a factor of 1 computes nothing.
pub(crate) fn times<E: Executor>(
    executor: &mut E,
    tensor: E::Tensor,
    factor: f32,
) -> Result<E::Tensor, TensorError> {
    if factor == 1.0 { Ok(tensor) } else { executor.scale(tensor, factor) }
}

/// The attention that `config` describes, with its own scale or the usual 1/√head_dim.
pub fn attention_shape(config: &ModelConfig) -> AttentionShape {
    let usual = || 1.0 / (config.head_dim as f64).sqrt();
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        scale: config.multipliers.attention.unwrap_or_else(usual) as f32,
    }
}
