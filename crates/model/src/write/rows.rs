//! Where a writer takes weights from: in rows of f32, from memory or from another file.

use std::path::PathBuf;

use half::f16;
use zhenjin_tensor::{Dtype, Matrix, TensorError, dequantise, quantise};

use super::hashed_file::HashedFile;
use crate::config::{ModelConfig, RopeLayout};
use crate::errors::ModelError;
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
}

/// The weights of a file that has been opened and checked.
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

    fn release(&self, name: WeightName) {
        self.0.release(name);
    }
}

/// That `rows` has every weight that `config` implies, in its shape.
pub(super) fn check(config: &ModelConfig, rows: &dyn WeightRows) -> Result<(), ModelError> {
    for name in config.weights() {
        let tensor = Naming::HuggingFace.spell(name);
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

/// Writes one weight as `dtype`, with rows of queries and keys in the order of `layout`. Its rows are whole blocks of `dtype`.
pub(super) fn write_weight(
    out: &mut HashedFile,
    config: &ModelConfig,
    rows: &dyn WeightRows,
    name: WeightName,
    layout: RopeLayout,
    dtype: Dtype,
) -> Result<(), ModelError> {
    let shape = config.shape(name);
    let columns = shape.get(1).copied().unwrap_or(1).max(1);
    let order = RowOrder::new(config, name, layout);
    let mut values = vec![0.0; (CHUNK / columns).clamp(1, shape[0].max(1)) * columns];
    let mut row = 0;
    while row < shape[0] {
        let count = (values.len() / columns).min(shape[0] - row);
        let values = &mut values[..count * columns];
        for (offset, values) in values.chunks_exact_mut(columns).enumerate() {
            rows.row(name, order.source(row + offset), values)?;
        }
        let bytes = convert(dtype, values).map_err(|error| ModelError::Weight {
            file: rows.origin(),
            tensor: Naming::HuggingFace.spell(name),
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
