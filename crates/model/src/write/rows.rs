//! Where a writer takes weights from: in rows of f32, from memory or from another file.

use std::path::PathBuf;

use half::f16;
use zhenjin_tensor::{Dtype, Matrix, TensorError, dequantise, quantise};

use super::hashed_file::HashedFile;
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::ModelError;
use crate::families::Family;
use crate::names::Naming;
use crate::tensor_source::{LayerWeightName, TensorSource, WeightName};
use crate::weights::{Weight, Weights};

/// Elements that are converted at once.
const CHUNK: usize = 1 << 18;

/// Weights that can be read row by row. A vector is one column: its elements are rows of one element.
pub trait WeightRows {
    /// Where the weights come from, for error messages.
    fn origin(&self) -> PathBuf;

    /// The weight's shape, `[outputs, inputs]` or `[width]`; `None` where there is no such weight.
    fn shape(&self, name: WeightName) -> Option<Vec<usize>>;

    /// Row `row` of a weight that is there, as f32; the row exists and `out` has its length.
    ///
    /// # Errors
    /// What a file reports.
    fn row(&self, name: WeightName, row: usize, out: &mut [f32]) -> Result<(), ModelError>;

    /// Whether the weights of norms come less 1, as Hugging Face folders of some families hold them; `config` is that of the model.
    fn norms_less_one(&self, config: &ModelConfig) -> bool;

    /// Says that the weight has been read for the last time.
    fn release(&self, _name: WeightName) {}
}

impl WeightRows for Weights {
    fn origin(&self) -> PathBuf {
        PathBuf::from("weights in memory")
    }

    fn shape(&self, name: WeightName) -> Option<Vec<usize>> {
        Some(match self.get(name)? {
            Weight::Matrix(matrix) => vec![Matrix::rows(matrix), Matrix::columns(matrix)],
            Weight::Vector(vector) => vec![vector[..].len()],
        })
    }

    fn row(&self, name: WeightName, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        match self.get(name) {
            Some(Weight::Matrix(matrix)) => Matrix::row(matrix, row, out),
            Some(Weight::Vector(vector)) => out.copy_from_slice(&vector[row..=row]),
            None => {}
        }
        Ok(())
    }

    fn norms_less_one(&self, _config: &ModelConfig) -> bool {
        false
    }
}

/// The weights of a file that has been opened and checked, as they stand in it.
#[derive(Clone, Copy)]
pub struct FileRows<'a>(pub &'a dyn TensorSource);

impl WeightRows for FileRows<'_> {
    fn origin(&self) -> PathBuf {
        self.0.origin()
    }

    fn shape(&self, name: WeightName) -> Option<Vec<usize>> {
        self.0.tensor(name).ok().map(|view| view.shape)
    }

    fn row(&self, name: WeightName, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let view = self.0.tensor(name)?;
        let row_bytes = view.dtype.bytes(out.len()).unwrap_or(0);
        let (start, end) = (row * row_bytes, (row + 1) * row_bytes);
        Ok(dequantise(view.dtype, view.bytes.get(start..end).unwrap_or_default(), out)?)
    }

    fn norms_less_one(&self, config: &ModelConfig) -> bool {
        config.norms_less_one
    }

    fn release(&self, name: WeightName) {
        self.0.release(name);
    }
}

/// That `rows` has every weight that `config` implies, in its shape.
pub(super) fn check(config: &ModelConfig, rows: &dyn WeightRows) -> Result<(), ModelError> {
    for name in config.weights() {
        let tensor = Naming::of_folder(config).spell(name);
        let expected = config.shape(name);
        match rows.shape(name) {
            None => return Err(ModelError::MissingTensor { file: rows.origin(), tensor }),
            Some(found) if found != expected => {
                return Err(ModelError::TensorShape { file: rows.origin(), tensor, expected, found });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The tensors that a file has for the weights of `config`, in the order of computation: their names, and the weights in each one after the
/// other.
pub(super) fn tensors_of(config: &ModelConfig, naming: Naming) -> Vec<(String, Vec<WeightName>)> {
    let fused = config.is_fused();
    let mut tensors: Vec<(String, Vec<WeightName>)> = Vec::new();
    for weight in config.weights() {
        let stacked = if fused { naming.spell_stacked(weight, true) } else { None };
        let name = stacked.unwrap_or_else(|| naming.spell(weight));
        // Those of a GGUF file's common tensor for all experts of a layer come one expert after the other, three for each.
        match tensors.iter_mut().rev().take(4).find(|(other, _)| *other == name) {
            Some((_, weights)) => weights.push(weight),
            None => tensors.push((name, vec![weight])),
        }
    }
    tensors
}

/// How the weights of a file differ from the model's own, beside their type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    /// The order of the rows of queries and keys.
    pub(super) layout: RopeLayout,
    /// Norms are written less 1.
    pub(super) norms_less_one: bool,
}

impl Spelling {
    /// That of Hugging Face folders of the model's family.
    pub(super) fn of_folder(config: &ModelConfig) -> Spelling {
        let family = Family::of_architecture(&config.architecture);
        Spelling {
            layout: RopeLayout::HalfSplit,
            norms_less_one: family.is_some_and(|family| family.norms_less_one),
        }
    }
}

/// Writes one weight as `dtype` in this spelling. Its rows are whole blocks of `dtype`. Norms that come as they are to be written keep their
/// bits; others get 1 added or taken away in f32, rounded to the nearest.
pub(super) fn write_weight(
    out: &mut HashedFile,
    config: &ModelConfig,
    rows: &dyn WeightRows,
    name: WeightName,
    spelling: Spelling,
    dtype: Dtype,
) -> Result<(), ModelError> {
    let shape = config.shape(name);
    let columns = shape.get(1).copied().unwrap_or(1).max(1);
    let order = RowOrder::new(config, name, spelling.layout);
    let shift = match (rows.norms_less_one(config), spelling.norms_less_one) {
        (true, false) if name.is_norm() => Some(1.0),
        (false, true) if name.is_norm() => Some(-1.0),
        _ => None,
    };
    let mut values = vec![0.0; (CHUNK / columns).clamp(1, shape[0].max(1)) * columns];
    let mut row = 0;
    while row < shape[0] {
        let count = (values.len() / columns).min(shape[0] - row);
        let values = &mut values[..count * columns];
        for (offset, values) in values.chunks_exact_mut(columns).enumerate() {
            rows.row(name, order.source(row + offset), values)?;
        }
        if let Some(shift) = shift {
            values.iter_mut().for_each(|value| *value += shift);
        }
        let bytes = convert(dtype, values).map_err(|error| ModelError::Weight {
            file: rows.origin(),
            tensor: Naming::of_folder(config).spell(name),
            error,
        })?;
        out.write(&bytes)?;
        row += count;
    }
    rows.release(name);
    Ok(())
}

/// Quantises or rounds; a number that would become infinite is an error.
fn convert(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>, TensorError> {
    let overflows = |value: &f32| value.is_finite() && f16::from_f32(*value).is_infinite();
    match values.iter().position(overflows) {
        Some(start) if dtype == Dtype::F16 => {
            Err(TensorError::NotRepresentable { dtype, start, end: start + 1 })
        }
        _ => quantise(dtype, values),
    }
}

/// Which row of the source becomes which row of the file: those of queries and keys depend on which two dimensions RoPE
/// turns together.
struct RowOrder {
    /// Width of a head and its rotating dimensions, where rows change places.
    head: Option<(usize, usize)>,
    to: RopeLayout,
}

impl RowOrder {
    fn new(config: &ModelConfig, name: WeightName, to: RopeLayout) -> RowOrder {
        use LayerWeightName as W;
        let turns = matches!(
            name,
            WeightName::Layer(_, W::Query | W::QueryBias | W::QueryNorm | W::Key | W::KeyBias | W::KeyNorm)
        );
        let changes = turns && config.rope.layout != to;
        RowOrder { head: changes.then_some((config.head_dim, config.rope.rotary_dim)), to }
    }

    fn source(&self, row: usize) -> usize {
        let Some((width, rotary)) = self.head else { return row };
        let (head, dimension) = (row / width, row % width);
        if dimension >= rotary {
            return row;
        }
        let pairs = rotary / 2;
        let dimension = match self.to {
            // Pair (2i, 2i+1) was (i, i + pairs).
            RopeLayout::Interleaved => dimension % 2 * pairs + dimension / 2,
            RopeLayout::HalfSplit => dimension % pairs * 2 + dimension / pairs,
        };
        head * width + dimension
    }
}
