//! The source of weights: a model file from which weights are read by name.
//!
//! It does not know file formats; `gguf` and `safetensors` implement [`TensorSource`], `testing` does it in memory.

use std::path::PathBuf;

use zhenjin_tensor::Dtype;

use crate::errors::ModelError;

/// One weight of the transformer, whatever its file calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightName {
    /// Token embedding, `[vocabulary_size, hidden_size]`.
    Embedding,
    /// Norm before the head, `[hidden_size]`.
    FinalNorm,
    /// Language-model head, `[vocabulary_size, hidden_size]`; absent when tied to the embedding.
    Head,
    /// A weight of one layer.
    Layer(usize, LayerWeightName),
}

/// One weight of a transformer layer. Shapes are `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerWeightName {
    /// Norm before attention, `[hidden_size]`; layers with norms behind attention only have none.
    AttentionNorm,
    /// Query projection, `[heads · head_dim, hidden_size]`.
    Query,
    /// Its bias.
    QueryBias,
    /// Key projection, `[kv_heads · head_dim, hidden_size]`.
    Key,
    /// Its bias.
    KeyBias,
    /// Value projection, `[kv_heads · head_dim, hidden_size]`.
    Value,
    /// Its bias.
    ValueBias,
    /// Norm of each query head, `[head_dim]`, or of all as one, `[heads · head_dim]`.
    QueryNorm,
    /// Norm of each key head, `[head_dim]`, or of all as one, `[kv_heads · head_dim]`.
    KeyNorm,
    /// Output projection of attention, `[hidden_size, heads · head_dim]`.
    Output,
    /// Its bias.
    OutputBias,
    /// Norm of what attention adds, `[hidden_size]` (Gemma 3, OLMo 2).
    AttentionOutputNorm,
    /// Norm before the feed-forward network, `[hidden_size]`; layers with norms behind it only have none.
    FeedForwardNorm,
    /// Gate projection, `[intermediate_size, hidden_size]`.
    Gate,
    /// Its bias.
    GateBias,
    /// Up projection, `[intermediate_size, hidden_size]`.
    Up,
    /// Its bias.
    UpBias,
    /// Down projection, `[hidden_size, intermediate_size]`.
    Down,
    /// Its bias.
    DownBias,
    /// Scores of the experts of a mixture, `[experts, hidden_size]`; such a layer has no [`LayerWeightName::Gate`], `Up`, `Down`.
    Router,
    /// Gate projection of one expert, `[expert width, hidden_size]`.
    ExpertGate(u16),
    /// Up projection of one expert, `[expert width, hidden_size]`.
    ExpertUp(u16),
    /// Down projection of one expert, `[hidden_size, expert width]`.
    ExpertDown(u16),
    /// Norm of what the feed-forward network adds, `[hidden_size]` (Gemma 3, OLMo 2).
    FeedForwardOutputNorm,
}

impl WeightName {
    /// Whether it is the weight of an RMSNorm.
    pub fn is_norm(self) -> bool {
        use LayerWeightName as W;
        match self {
            WeightName::FinalNorm => true,
            WeightName::Embedding | WeightName::Head => false,
            WeightName::Layer(_, weight) => matches!(
                weight,
                W::AttentionNorm
                    | W::QueryNorm
                    | W::KeyNorm
                    | W::AttentionOutputNorm
                    | W::FeedForwardNorm
                    | W::FeedForwardOutputNorm
            ),
        }
    }
}

/// A weight as it lies in its file.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// The name that the file gives it, for error messages.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape with the slowest dimension first: `[outputs, inputs]` for a matrix, `[width]` for a vector.
    pub shape: Vec<usize>,
    /// The elements (or quantised blocks), row-major.
    pub bytes: &'a [u8],
}

/// A set of weights that can be read one by one.
pub trait TensorSource {
    /// Where the weights come from, for error messages: a file or folder.
    fn origin(&self) -> PathBuf;

    /// Whether the weight exists.
    fn contains(&self, name: WeightName) -> bool;

    /// The weight, or an error that says what the file should have held.
    fn tensor(&self, name: WeightName) -> Result<TensorView<'_>, ModelError>;

    /// Tells the source that the weight has been read for the last time, so that its memory-mapped pages may be dropped.
    fn release(&self, _name: WeightName) {}
}
