//! The tape: what was computed, in order, and the tensors that the backward pass will read.
//!
//! A tensor's values are kept only while something reads them. One that is cheap to compute again from kept ones (a norm's
//! output, a rotated head, a gated product) is computed again when the backward pass reads it.

use std::ops::Range;
use std::sync::Arc;

use crate::direct::{Routes, Workspace};
use crate::{Activations, AttentionShape, Expert, GateActivation, ParameterId, TensorError};

/// A tensor of a [`super::RecordingExecutor`]: a place on its tape.
#[derive(Debug)]
pub struct Recorded {
    /// Which batch's tape.
    pub(super) batch: u64,
    pub(super) node: usize,
    rows: usize,
    width: usize,
}

/// A tensor on the tape whose gradient somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct WantedGradient {
    pub(super) batch: u64,
    pub(super) node: usize,
}

impl Recorded {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// A tensor on the tape.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) values: Option<Activations>,
    /// Operations on the tape whose backward pass reads the values.
    pub(super) reads: usize,
    /// The operation that gives the values again, where that is cheap.
    pub(super) recipe: Option<usize>,
    /// The derivative of the loss by the values. Two tensors of a sum have the same one until it is added to.
    pub(super) gradient: Option<Arc<Activations>>,
    /// Whether the gradient is the caller's.
    pub(super) is_input: bool,
    /// Whether the values depend on anything that learns, or are an input.
    pub(super) needs_gradient: bool,
}

/// One of the matrices that an input was multiplied with.
#[derive(Debug)]
pub(super) struct RecordedProduct {
    pub(super) matrix: ParameterId,
    pub(super) bias: Option<ParameterId>,
    pub(super) additions: Vec<RecordedAddition>,
    pub(super) out: usize,
}

/// A low-rank addition to some rows of a product.
#[derive(Debug)]
pub(super) struct RecordedAddition {
    pub(super) rows: Range<usize>,
    pub(super) down: ParameterId,
    pub(super) up: ParameterId,
    pub(super) scale: f32,
}

/// An operation and the nodes of its tensors.
#[derive(Debug)]
pub(super) enum Operation {
    Embedding {
        table: ParameterId,
        tokens: Vec<u32>,
        out: usize,
    },
    RmsNorm {
        input: usize,
        weight: ParameterId,
        epsilon: f32,
        out: usize,
    },
    HeadNorm {
        input: usize,
        weight: ParameterId,
        epsilon: f32,
        out: usize,
    },
    /// `reads_input` says whether the way back reads the input's values.
    Linear {
        input: usize,
        products: Vec<RecordedProduct>,
        reads_input: bool,
    },
    Rope {
        input: usize,
        head_dim: usize,
        table: usize,
        out: usize,
    },
    Attention(Box<RecordedAttention>),
    Gated {
        activation: GateActivation,
        gate: usize,
        up: usize,
        out: usize,
    },
    Mixture(Box<RecordedMixture>),
    Add {
        sum: usize,
        addend: usize,
        out: usize,
    },
    Scale {
        input: usize,
        factor: f32,
        out: usize,
    },
    Copy {
        input: usize,
        out: usize,
    },
    SelectRows {
        input: usize,
        rows: Vec<usize>,
        input_rows: usize,
        out: usize,
    },
}

#[derive(Debug)]
pub(super) struct RecordedAttention {
    pub(super) shape: AttentionShape,
    pub(super) window: Option<usize>,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) values: usize,
    pub(super) out: usize,
    pub(super) log_sums: Activations,
}

#[derive(Debug)]
pub(super) struct RecordedMixture {
    pub(super) input: usize,
    pub(super) router: ParameterId,
    pub(super) experts: Vec<Expert<ParameterId>>,
    pub(super) normalise: bool,
    pub(super) routes: Routes,
    /// The router's, `[rows, experts]`.
    pub(super) scores: Activations,
    /// `[rows · active, expert width]`, sorted by expert.
    pub(super) gate: Activations,
    pub(super) up: Activations,
    /// The derivatives of the loss by the probabilities of counted rows.
    pub(super) slopes: Option<Arc<[f32]>>,
    pub(super) out: usize,
}

impl Operation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Operation::Embedding { .. } => "embedding",
            Operation::RmsNorm { .. } => "rms_norm",
            Operation::HeadNorm { .. } => "head_norm",
            Operation::Linear { .. } => "linear",
            Operation::Rope { .. } => "rope",
            Operation::Attention(_) => "attention",
            Operation::Gated { .. } => "gated",
            Operation::Mixture(_) => "mixture_of_experts",
            Operation::Add { .. } => "add",
            Operation::Scale { .. } => "scale",
            Operation::Copy { .. } => "copy",
            Operation::SelectRows { .. } => "select_rows",
        }
    }
}

/// An operation and the layer that it belongs to.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) operation: Operation,
    pub(super) layer: Option<usize>,
}

/// Nodes and operations since the batch began.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) batch: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) records: Vec<Record>,
}

impl Tape {
    /// Forgets everything; the memory goes back to `workspace`.
    pub(super) fn clear(&mut self, workspace: &mut Workspace) {
        for record in self.records.drain(..) {
            match record.operation {
                Operation::Attention(attention) => workspace.give_back(attention.log_sums),
                Operation::Mixture(mixture) => {
                    let RecordedMixture { scores, gate, up, .. } = *mixture;
                    for tensor in [scores, gate, up] {
                        workspace.give_back(tensor);
                    }
                }
                _ => {}
            }
        }
        for node in self.nodes.drain(..) {
            node.values.into_iter().for_each(|values| workspace.give_back(values));
            node.gradient.into_iter().for_each(|gradient| give_back(workspace, gradient));
        }
        self.batch += 1;
    }

    /// A new node with these values.
    pub(super) fn push(&mut self, values: Activations, recipe: Option<usize>) -> Recorded {
        let (rows, width) = (values.rows(), values.width());
        self.nodes.push(Node { values: Some(values), recipe, ..Node::default() });
        Recorded { batch: self.batch, node: self.nodes.len() - 1, rows, width }
    }

    /// The node of a tensor of this batch, whose values are there.
    pub(super) fn node(&self, what: &'static str, tensor: &Recorded) -> Result<usize, TensorError> {
        let node = if tensor.batch == self.batch { self.nodes.get(tensor.node) } else { None };
        match node.and_then(|node| node.values.as_ref()) {
            Some(_) => Ok(tensor.node),
            None => Err(TensorError::NotOnTape { what }),
        }
    }

    pub(super) fn values(&self, what: &'static str, node: usize) -> Result<&Activations, TensorError> {
        self.nodes[node].values.as_ref().ok_or(TensorError::NotOnTape { what })
    }

    /// Says that the forward pass reads the node no more.
    pub(super) fn consume(&mut self, node: usize, workspace: &mut Workspace) {
        let node = &mut self.nodes[node];
        if node.reads == 0 || node.recipe.is_some() {
            node.values.take().into_iter().for_each(|values| workspace.give_back(values));
        }
    }

    /// The values of a node that the forward pass reads no more, if nothing else reads them either.
    pub(super) fn take_unread(&mut self, node: usize) -> Option<Activations> {
        let node = &mut self.nodes[node];
        if node.reads == 0 { node.values.take() } else { None }
    }

    /// Says that one operation less reads the node, and frees its values behind the last.
    pub(super) fn release(&mut self, node: usize, workspace: &mut Workspace) {
        let node = &mut self.nodes[node];
        node.reads = node.reads.saturating_sub(1);
        if node.reads == 0 {
            node.values.take().into_iter().for_each(|values| workspace.give_back(values));
        }
    }
}

/// Gives the memory of a gradient back if nobody else has it.
pub(super) fn give_back(workspace: &mut Workspace, gradient: Arc<Activations>) {
    if let Ok(gradient) = Arc::try_unwrap(gradient) {
        workspace.give_back(gradient);
    }
}
