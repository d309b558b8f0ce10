//! LoRA adapters (Hu et al. 2021, arXiv 2106.09685): low-rank additions to the projections of a model, which a request may name.
//!
//! `output = input · Wᵀ + scale · (input · Aᵀ) · Bᵀ`, with A `[rank, inputs]` and B `[outputs, rank]` in f32 as they were
//! trained. The scale is applied to the `rank` values between the two products, so that A and B stay what the file holds.
//!
//! [`settings`] and [`file`] read what the `peft` library writes; [`AdapterValues`] is an adapter in plain numbers, from a file
//! or from training; [`Adapter`] is one in the form of an executor.

mod file;
mod settings;
mod values;

use zhenjin_tensor::Matrix;

pub use values::{AdapterValues, LowRankValues};

use crate::fingerprint::Fingerprint;
use crate::tensor_source::LayerWeightName;

/// The projections of a layer that can be adapted, in the order of computation.
pub(crate) const ADAPTED: [LayerWeightName; 7] = [
    LayerWeightName::Query,
    LayerWeightName::Key,
    LayerWeightName::Value,
    LayerWeightName::Output,
    LayerWeightName::Gate,
    LayerWeightName::Up,
    LayerWeightName::Down,
];

/// The low-rank addition to one projection.
#[derive(Clone, Debug)]
pub struct LowRank<M = Matrix> {
    /// A, `[rank, inputs]`.
    pub down: M,
    /// B, `[outputs, rank]`.
    pub up: M,
    /// What the values between the two products are multiplied with.
    pub scale: f32,
}

/// An adapter in memory, for an executor whose matrices are `M`.
#[derive(Debug)]
pub struct Adapter<M = Matrix> {
    /// The additions of each layer, by the places of [`ADAPTED`].
    layers: Vec<[Option<LowRank<M>>; ADAPTED.len()]>,
    fingerprint: Fingerprint,
    bytes: usize,
}

impl<M> Adapter<M> {
    /// The addition to a projection of a layer, if the adapter has one.
    pub fn addition(&self, layer: usize, projection: LayerWeightName) -> Option<&LowRank<M>> {
        let place = ADAPTED.iter().position(|adapted| *adapted == projection)?;
        self.layers.get(layer)?[place].as_ref()
    }

    /// SHA-256 over every value, rank and scale. Two adapters that compute different numbers have different ones.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
