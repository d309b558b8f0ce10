//! LoRA adapters (Hu et al. 2021, arXiv 2106.09685): low-rank additions to the projections of a model, which a request may name.
//!
//! `output = input · Wᵀ + scale · (input · Aᵀ) · Bᵀ`, with A `[rank, inputs]` and B `[outputs, rank]` in f32 as they were
//! trained. The scale is applied to the `rank` values between the two products, so that A and B stay what the file holds.
//!
//! [`settings`], [`file`] and [`fused`] read what the `peft` library writes; [`AdapterValues`] is an adapter in plain numbers, from a file
//! or from training; [`AdapterMerge`] is all that such a file can hold, as changes of weights; [`ServedAdapter`] is either, as it is
//! computed beside the model; [`Adapter`] is that in the form of an executor.

mod base;
mod file;
mod fresh;
mod fused;
mod merge;
mod merge_file;
mod peft_names;
mod served;
mod settings;
mod values;
mod write;

use zhenjin_tensor::{Matrix, OutputChange, ParameterId, ParameterShape};

pub use fresh::FreshAdapter;
pub use merge::{AdapterMerge, MergedRows};
pub use served::ServedAdapter;
pub(crate) use values::half_split_row;
pub use values::{AdapterValues, LowRankValues};
pub use write::WrittenAdapter;

use crate::config::ModelConfig;
use crate::errors::ModelError;
use crate::fingerprint::Fingerprint;
use crate::tensor_source::LayerWeightName;

/// What can be done with an adapter that cannot be computed beside its model.
pub(crate) const MERGE_INSTEAD: &str =
    " beside a model; exporting or quantising the model with this adapter merges it into the weights";
/// What can be done with biases of the low-rank products.
pub(crate) const SERVE_OR_MERGE_BIASES_INSTEAD: &str = " for training and measuring beside a model; the adapter can be served, and where the \
     model has biases of these projections, exporting or quantising the model with this adapter merges it into the weights";
/// What can be done with one that can be served beside its model, and nothing else.
pub(crate) const SERVE_OR_MERGE_INSTEAD: &str = " for training and measuring beside a model; it can be served, and exporting or quantising the model \
     with this adapter merges it into the weights";

/// The projections of a layer that can be adapted, in the order of computation; those of one module of fused families are neighbours.
pub(crate) const ADAPTED: [LayerWeightName; 7] = [
    LayerWeightName::Query,
    LayerWeightName::Key,
    LayerWeightName::Value,
    LayerWeightName::Output,
    LayerWeightName::Gate,
    LayerWeightName::Up,
    LayerWeightName::Down,
];

/// The low-rank addition to one projection, and what becomes of the projection's own outputs before it.
#[derive(Clone, Debug)]
pub struct LowRank<M = Matrix> {
    /// A, `[rank, inputs]`.
    pub down: M,
    /// B, `[outputs, rank]`.
    pub up: M,
    /// What the values between the two products are multiplied with.
    pub scale: f32,
    /// Factors and addends of the projection's outputs; plain LoRA has none.
    pub outputs: OutputValues,
}

/// What the outputs of a projection are multiplied with, and what is then added to them: `[outputs]` each, or empty where nothing is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputValues {
    /// Of magnitudes.
    pub factors: Vec<f32>,
    /// Of biases, and of what magnitudes make of the model's own.
    pub shifts: Vec<f32>,
}

impl OutputValues {
    /// The same, for an executor.
    pub fn change(&self) -> OutputChange<'_> {
        OutputChange { factors: &self.factors, shifts: &self.shifts }
    }
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

    /// Layers, projections and additions, in the order of computation.
    pub fn additions(&self) -> impl Iterator<Item = (usize, LayerWeightName, &LowRank<M>)> {
        self.layers.iter().enumerate().flat_map(|(layer, places)| {
            let additions = ADAPTED.iter().zip(places);
            additions.filter_map(move |(projection, addition)| Some((layer, *projection, addition.as_ref()?)))
        })
    }
}

impl Adapter {
    /// The same adapter, whose matrices are the parameters from number `first` on: A and B of each addition, in the order of computation.
    #[must_use]
    pub fn with_parameters(self, first: usize) -> Adapter {
        let mut next = first as u32;
        let mut numbered = |matrix: Matrix| {
            let matrix = matrix.with_parameter(ParameterId(next));
            next += 1;
            matrix
        };
        let mut number = |addition: LowRank| LowRank {
            down: numbered(addition.down),
            up: numbered(addition.up),
            scale: addition.scale,
            outputs: addition.outputs,
        };
        let layers = self.layers.into_iter().map(|places| places.map(|addition| addition.map(&mut number)));
        Adapter { layers: layers.collect(), ..self }
    }

    /// Its matrices in the order of their numbers, with the names that the `peft` library gives them.
    pub fn parameters(&self) -> impl Iterator<Item = (String, &Matrix)> {
        self.additions().flat_map(|(layer, projection, addition)| {
            let name = |part| values::tensor_name(layer, projection, part);
            [(name("lora_A"), &addition.down), (name("lora_B"), &addition.up)]
        })
    }

    /// As [`Adapter::parameters`], to be changed, without names. The fingerprint stays that of the values that it was made of.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Matrix> {
        let additions = self.layers.iter_mut().flatten().flatten();
        additions.flat_map(|addition| [&mut addition.down, &mut addition.up])
    }

    /// The shapes of its matrices, in their order.
    pub fn parameter_shapes(&self) -> Vec<ParameterShape> {
        let shape = |(_, matrix): (String, &Matrix)| ParameterShape::Matrix {
            rows: matrix.rows(),
            columns: matrix.columns(),
        };
        self.parameters().map(shape).collect()
    }

    /// Makes the fingerprint that of the numbers as they are now.
    ///
    /// # Errors
    /// As for [`Adapter::values`].
    pub fn renew_fingerprint(&mut self, config: &ModelConfig) -> Result<(), ModelError> {
        self.fingerprint = self.values(config)?.fingerprint();
        Ok(())
    }

    /// Its numbers as they are now.
    ///
    /// # Errors
    /// [`zhenjin_tensor::TensorError::NotF32`]; adapters are in f32.
    pub fn values(&self, config: &ModelConfig) -> Result<AdapterValues, ModelError> {
        AdapterValues::of_packed(self, config)
    }
}
