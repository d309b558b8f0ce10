//! An adapter in plain f32 numbers, and its packing for an executor. It does not know files.

use std::path::{Path, PathBuf};

use zhenjin_tensor::{Dtype, Matrix, SimdLevel, TensorError, ThreadTeam};

use super::peft_names::PREFIX;
use super::settings::MAX_RANK;
use super::{ADAPTED, Adapter, LowRank, OutputValues};
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::{FormatError, ModelError};
use crate::fingerprint::{Fingerprint, Hash};
use crate::names::Naming;
use crate::tensor_source::{LayerWeightName, WeightName};

/// The low-rank addition to one projection, in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRankValues {
    /// The layer.
    pub layer: usize,
    /// Which of its seven projections.
    pub projection: LayerWeightName,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// A, `[rank, inputs]`, row-major.
    pub down: Vec<f32>,
    /// B, `[outputs, rank]`, row-major.
    pub up: Vec<f32>,
    /// What the product is multiplied with.
    pub scale: f32,
}

impl LowRankValues {
    fn weight(&self) -> WeightName {
        WeightName::Layer(self.layer, self.projection)
    }

    /// Whether its outputs are turned by the rotary embedding.
    fn is_rotated(&self) -> bool {
        matches!(self.projection, LayerWeightName::Query | LayerWeightName::Key)
    }

    /// B in the order of Hugging Face files, of an addition whose rows are interleaved.
    pub(super) fn with_half_split_rows(&self, config: &ModelConfig) -> Vec<f32> {
        let mut up = self.up.clone();
        if self.is_rotated() {
            for (row, values) in self.up.chunks_exact(self.rank).enumerate() {
                let place = half_split_row(row, config) * self.rank;
                up[place..place + self.rank].copy_from_slice(values);
            }
        }
        up
    }
}

/// An adapter in numbers, checked against the shapes of its model. Rows of B are in the order of the model's own rows.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterValues {
    origin: PathBuf,
    pub(super) layers: usize,
    /// Files of the model's family have one module for several projections.
    pub(super) is_fused: bool,
    additions: Vec<LowRankValues>,
    base: Option<String>,
}

impl AdapterValues {
    /// The adapter of these additions to a model of shape `config`, from `origin` (for error messages). Its rows of B are in
    /// the order of Hugging Face files; where the model's query and key rows are interleaved for its rotary embedding, as in
    /// GGUF files of the Llama family, those of B are brought into the same order.
    ///
    /// # Errors
    /// [`ModelError::Format`] when an addition is to a weight that cannot be adapted, stands twice, has an impossible rank or
    /// holds a value that is not finite; [`ModelError::AdapterShape`] when A or B has another number of values than the model
    /// implies.
    pub fn new(
        origin: &Path,
        config: &ModelConfig,
        additions: Vec<LowRankValues>,
    ) -> Result<AdapterValues, ModelError> {
        let mut values = AdapterValues::in_the_models_order(origin, config, additions)?;
        if config.rope.layout == RopeLayout::Interleaved {
            values.additions.iter_mut().for_each(|addition| interleave(addition, config));
        }
        Ok(values)
    }

    /// As [`AdapterValues::new`], of additions whose rows are in the order of the model's own.
    pub(super) fn in_the_models_order(
        origin: &Path,
        config: &ModelConfig,
        mut additions: Vec<LowRankValues>,
    ) -> Result<AdapterValues, ModelError> {
        additions.sort_by_key(|addition| (addition.layer, place(addition.projection)));
        let fault = |weight, problem: &str| ModelError::Format {
            file: origin.to_owned(),
            error: FormatError::new(format!("adapter of `{}`", module(weight)), problem),
        };
        for pair in additions.windows(2) {
            if pair[0].weight() == pair[1].weight() {
                return Err(fault(pair[0].weight(), "it stands twice"));
            }
        }
        for addition in &additions {
            let weight = addition.weight();
            let is_there = || config.has_layer_weight(addition.layer, addition.projection);
            if addition.layer >= config.layers || place(addition.projection).is_none() || !is_there() {
                return Err(fault(weight, "this model has no such projection"));
            }
            if !(1..=MAX_RANK).contains(&addition.rank) {
                return Err(fault(weight, &format!("rank {} is not from 1 to {MAX_RANK}", addition.rank)));
            }
            let [outputs, inputs] = outputs_and_inputs(weight, config);
            for (part, values, expected) in [
                ("lora_A", &addition.down, [addition.rank, inputs]),
                ("lora_B", &addition.up, [outputs, addition.rank]),
            ] {
                if values.len() != expected[0] * expected[1] {
                    return Err(ModelError::AdapterShape {
                        file: origin.to_owned(),
                        tensor: format!("`{}.{part}.weight`", module(weight)),
                        expected: expected.to_vec(),
                        found: vec![values.len()],
                    });
                }
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(fault(weight, &format!("{part} holds a value that is not a finite number")));
                }
            }
            if !addition.scale.is_finite() {
                return Err(fault(weight, "its scale is not a finite number"));
            }
        }
        let (origin, is_fused) = (origin.to_owned(), config.is_fused());
        Ok(AdapterValues { origin, layers: config.layers, is_fused, additions, base: None })
    }

    /// The numbers of an adapter in memory, whose rows are in the order of its model already.
    pub(super) fn of_packed(adapter: &Adapter, config: &ModelConfig) -> Result<AdapterValues, ModelError> {
        let mut additions = Vec::new();
        for (layer, projection, LowRank { down, up, scale, .. }) in adapter.additions() {
            let values = |matrix: &Matrix| {
                let mut values = vec![0.0; matrix.rows() * matrix.columns()];
                matrix.unpack_f32(&mut values).map(|()| values)
            };
            let (rank, scale) = (down.rows(), *scale);
            let (down, up) = (values(down)?, values(up)?);
            additions.push(LowRankValues { layer, projection, rank, down, up, scale });
        }
        let origin = PathBuf::from("adapter in memory");
        let is_fused = config.is_fused();
        Ok(AdapterValues { origin, layers: config.layers, is_fused, additions, base: None })
    }

    /// The same, of a model with this name or path.
    pub(super) fn with_base(self, base: Option<String>) -> AdapterValues {
        AdapterValues { base, ..self }
    }

    /// The same adapter to a model of shape `from` for a copy of it whose rotary pairs are `to`: rows of B for queries and keys in the other
    /// order.
    #[must_use]
    pub fn with_layout(mut self, from: &ModelConfig, to: RopeLayout) -> AdapterValues {
        for addition in &mut self.additions {
            match (from.rope.layout, to) {
                (RopeLayout::HalfSplit, RopeLayout::Interleaved) => interleave(addition, from),
                (RopeLayout::Interleaved, RopeLayout::HalfSplit) => {
                    addition.up = addition.with_half_split_rows(from);
                }
                _ => {}
            }
        }
        self
    }

    /// The name or path of the model that it was trained on, where its settings give one.
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// The additions alone.
    pub(super) fn into_additions(self) -> Vec<LowRankValues> {
        self.additions
    }

    /// The additions, in the order of computation.
    pub fn additions(&self) -> &[LowRankValues] {
        &self.additions
    }

    /// SHA-256 over every value, rank and scale.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Hash::new("zhenjin low-rank adapter");
        for addition in &self.additions {
            hash.add(module(addition.weight()).as_bytes());
            hash.add(&(addition.rank as u64).to_le_bytes());
            hash.add(&addition.scale.to_le_bytes());
            hash.add_values(&addition.down);
            hash.add_values(&addition.up);
        }
        hash.finish()
    }

    /// The adapter with its matrices packed for the kernels of `simd`.
    ///
    /// # Errors
    /// [`ModelError::Weight`] when a matrix finds no memory or the processor lacks `simd`.
    pub fn pack(&self, simd: SimdLevel, team: &ThreadTeam) -> Result<Adapter, ModelError> {
        self.load(|values, [rows, columns]| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let matrix = Matrix::pack(Dtype::F32, rows, columns, &bytes, simd, team)?;
            let size = matrix.bytes();
            Ok((matrix, size))
        })
    }

    /// The adapter with matrices that `matrix` makes of values and shapes `[rows, columns]`; it also says how many bytes they
    /// take.
    ///
    /// # Errors
    /// [`ModelError::Weight`] with what `matrix` reports.
    pub fn load<M>(
        &self,
        mut matrix: impl FnMut(&[f32], [usize; 2]) -> Result<(M, usize), TensorError>,
    ) -> Result<Adapter<M>, ModelError> {
        let mut bytes = 0;
        let mut layers = Vec::with_capacity(self.layers);
        layers.resize_with(self.layers, || std::array::from_fn(|_| None));
        for addition in &self.additions {
            let refused = |error| ModelError::Weight {
                file: self.origin.clone(),
                tensor: module(addition.weight()),
                error,
            };
            let LowRankValues { layer, projection, rank, down, up, scale } = addition;
            let (down, down_bytes) = matrix(down, [*rank, down.len() / rank]).map_err(refused)?;
            let (up, up_bytes) = matrix(up, [up.len() / rank, *rank]).map_err(refused)?;
            bytes += down_bytes + up_bytes;
            if let Some(place) = place(*projection) {
                layers[*layer][place] =
                    Some(LowRank { down, up, scale: *scale, outputs: OutputValues::default() });
            }
        }
        Ok(Adapter { layers, fingerprint: self.fingerprint(), bytes })
    }
}

/// Outputs and inputs of a projection.
pub(super) fn outputs_and_inputs(weight: WeightName, config: &ModelConfig) -> [usize; 2] {
    let shape = config.shape(weight);
    [shape[0], shape[1]]
}

/// The module's name as the `peft` library gives it.
pub(super) fn module(weight: WeightName) -> String {
    let name = Naming::HuggingFace.spell(weight);
    name.strip_suffix(".weight").map_or(name.clone(), str::to_owned)
}

/// The projection's place in [`ADAPTED`], if it can be adapted.
pub(super) fn place(projection: LayerWeightName) -> Option<usize> {
    ADAPTED.iter().position(|adapted| *adapted == projection)
}

/// The name that the `peft` library gives a matrix.
pub(super) fn tensor_name(layer: usize, projection: LayerWeightName, part: &str) -> String {
    format!("{PREFIX}{}.{part}.weight", module(WeightName::Layer(layer, projection)))
}

/// Rows of B for queries and keys in the order of interleaved rotary embedding: row `i` of half `j` of a head goes to `2 i + j`.
fn interleave(addition: &mut LowRankValues, config: &ModelConfig) {
    if !addition.is_rotated() {
        return;
    }
    let rank = addition.rank;
    let old = addition.up.clone();
    for (row, values) in addition.up.chunks_exact_mut(rank).enumerate() {
        values.copy_from_slice(&old[half_split_row(row, config) * rank..][..rank]);
    }
}

/// The row in the order of Hugging Face files that is row `row` where rotary pairs are neighbours. Dimensions that do not rotate stay.
pub(crate) fn half_split_row(row: usize, config: &ModelConfig) -> usize {
    let (head, within) = (row / config.head_dim, row % config.head_dim);
    if within >= config.rope.rotary_dim {
        return row;
    }
    head * config.head_dim + within % 2 * (config.rope.rotary_dim / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_adapter, tiny_config};

    /// The same adapter in either order of rows, whichever it was opened in.
    #[test]
    fn an_adapter_is_brought_into_the_order_of_another_copy_of_its_model() {
        let half_split = tiny_config();
        let mut interleaved = tiny_config();
        interleaved.rope.layout = RopeLayout::Interleaved;
        let (one, other) = (random_adapter(&half_split, 3, 5), random_adapter(&interleaved, 3, 5));
        assert_ne!(one.additions(), other.additions());
        let (first, second) = (RopeLayout::HalfSplit, RopeLayout::Interleaved);
        let there = one.clone().with_layout(&half_split, second);
        assert_eq!(there.additions(), other.additions());
        let back = there.with_layout(&interleaved, first);
        assert_eq!(back.additions(), one.additions());
    }
}
