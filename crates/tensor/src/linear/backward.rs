//! The products of the backward pass of `Y = X · Wᵀ + b` in f32: `dX = dY · W`, `dW = dYᵀ · X`, and db, the sums of dY's
//! columns.
//!
//! Every element is one chain of fused multiply-adds over ascending outputs (dX) or rows (dW, db), so that it depends on
//! the weights' shape and the rows alone. dX goes through matrices of every type: of one that is not in f32 through the values that
//! its blocks stand for, some outputs at a time. A matrix's gradient is packed like the matrix: element `[output, input]` is at
//! `(output / 16 · inputs + input) · 16 + output % 16`.

use std::ops::Range;

use super::check;
use super::lanes;
use super::panels::{Left, PanelProduct, Right, Target, TransposeTile};
use crate::lanes::{LANES, LaneKernel, Lanes, dispatch};
use crate::matrix::TILE_ROWS;
use crate::team::DisjointMut;
use crate::zeroed::Zeroed;
use crate::{Matrix, SimdLevel, TensorError, ThreadTeam};

/// Elements of a matrix that are transposed together: 4 MiB, which stay in the third-level cache.
const TRANSPOSED_ELEMENTS: usize = 1 << 20;

/// Pieces of outputs are a multiple of this, so that no block of a product's chain is in two of them.
const PIECE_MULTIPLE: usize = 2 * TILE_ROWS;

/// Memory that products of the backward pass use again and again.
#[derive(Debug, Default)]
pub struct BackwardScratch {
    transposed: Option<Zeroed>,
}

impl BackwardScratch {
    /// Bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.transposed.as_deref().map_or(0, size_of_val)
    }

    fn transposed(&mut self, elements: usize) -> Result<&mut [f32], TensorError> {
        if self.transposed.as_ref().is_none_or(|memory| memory.len() < elements) {
            self.transposed = None;
            self.transposed = Some(Zeroed::new("transposed weights", elements)?);
        }
        Ok(&mut self.transposed.as_deref_mut().unwrap_or_default()[..elements])
    }
}

/// The gradient of a product's input: `input_gradient = output_gradient · matrix`, or added to what is there with
/// `accumulate`. `output_gradient` is [rows, outputs], `input_gradient` [rows, inputs], row-major. An element's chain
/// begins with what is there, or 0.
///
/// # Errors
/// [`TensorError::Length`] when an operand does not have the length that the shapes ask for, [`TensorError::OutOfMemory`].
pub fn input_gradient(
    team: &ThreadTeam,
    output_gradient: &[f32],
    rows: usize,
    matrix: &Matrix,
    scratch: &mut BackwardScratch,
    input_gradient: &mut [f32],
    accumulate: bool,
) -> Result<(), TensorError> {
    input_gradient_of(team, output_gradient, rows, matrix, matrix.rows(), scratch, input_gradient, accumulate)
}

/// [`input_gradient`] through the first `outputs` outputs only.
///
/// # Errors
/// As for that.
#[allow(clippy::too_many_arguments, reason = "a product's operands")]
pub(crate) fn input_gradient_of(
    team: &ThreadTeam,
    output_gradient: &[f32],
    rows: usize,
    matrix: &Matrix,
    outputs: usize,
    scratch: &mut BackwardScratch,
    input_gradient: &mut [f32],
    accumulate: bool,
) -> Result<(), TensorError> {
    let (simd, inputs) = (matrix.simd(), matrix.columns());
    check("input gradient: output gradient", outputs, rows, output_gradient.len())?;
    check("input gradient: input gradient", inputs, rows, input_gradient.len())?;
    if outputs > matrix.rows() {
        return Err(TensorError::RowOutOfRange { row: outputs, rows: matrix.rows() });
    }
    if outputs == 0 && !accumulate {
        input_gradient.fill(0.0);
    }
    if rows == 0 || inputs == 0 {
        return Ok(());
    }
    let input_tiles = inputs.div_ceil(TILE_ROWS);
    let piece = (TRANSPOSED_ELEMENTS / (input_tiles * TILE_ROWS)).max(PIECE_MULTIPLE) / PIECE_MULTIPLE
        * PIECE_MULTIPLE;
    for start in (0..outputs).step_by(piece) {
        let range = start..outputs.min(start + piece);
        let tile_step = range.len().next_multiple_of(TILE_ROWS) * TILE_ROWS;
        let transposed = scratch.transposed(input_tiles * tile_step)?;
        match matrix.f32_packed() {
            Ok(packed) => transpose(team, simd, packed, inputs, range.clone(), transposed),
            Err(_) => expand(team, matrix, range.clone(), tile_step, transposed),
        }
        let right = Right {
            start: transposed.as_ptr(),
            tile_step,
            depth_step: TILE_ROWS,
            lanes: inputs,
            target: Target {
                start: input_gradient.as_mut_ptr(),
                row_step: inputs,
                tile_step: TILE_ROWS,
                lanes: inputs,
            },
        };
        let product = PanelProduct {
            simd,
            left: Left { start: output_gradient[start..].as_ptr(), row_step: outputs, depth_step: 1 },
            rows,
            depth: range.len(),
            rights: &[Some(right)],
            resume: accumulate || start > 0,
            is_backward: true,
        };
        // SAFETY: the lengths have been checked, the output is borrowed exclusively, and a matrix exists only where its
        // instruction set does.
        unsafe { product.run(team) };
    }
    Ok(())
}

/// Writes the outputs `outputs` (whole tiles, but the last) of a packed matrix as tiles of 16 inputs: `[tile][output][16]`.
fn transpose(
    team: &ThreadTeam,
    simd: SimdLevel,
    packed: &[f32],
    inputs: usize,
    outputs: Range<usize>,
    transposed: &mut [f32],
) {
    let first_tile = outputs.start / TILE_ROWS;
    let tiles = outputs.len().div_ceil(TILE_ROWS);
    let packed = &packed[first_tile * inputs * TILE_ROWS..(first_tile + tiles) * inputs * TILE_ROWS];
    team.for_each_chunk(transposed, tiles * TILE_ROWS * TILE_ROWS, |input_tile, out| {
        let input = input_tile * TILE_ROWS;
        let kernel = TransposeTile {
            from: packed[input * TILE_ROWS..].as_ptr(),
            tile_step: inputs * TILE_ROWS,
            tiles,
            inputs: (inputs - input).min(TILE_ROWS),
            out: out.as_mut_ptr(),
        };
        // SAFETY: the inputs exist in every tile of `packed`, the chunk has space for all of them, and a matrix exists
        // only where its instruction set does.
        unsafe { lanes::dispatch(simd, kernel) };
    });
}

/// Writes the outputs `outputs` of a matrix of any type as tiles of 16 inputs, `[tile][output][16]`, `tile_step` values each. Places of
/// inputs and outputs that do not exist are not written.
fn expand(
    team: &ThreadTeam,
    matrix: &Matrix,
    outputs: Range<usize>,
    tile_step: usize,
    transposed: &mut [f32],
) {
    let inputs = matrix.columns();
    let places = DisjointMut::new(transposed);
    team.for_ranges(outputs.len(), |range| {
        let mut row = vec![0.0; inputs];
        for output in range {
            matrix.row(outputs.start + output, &mut row);
            for (tile, values) in row.chunks(TILE_ROWS).enumerate() {
                let start = tile * tile_step + output * TILE_ROWS;
                // SAFETY: every output has places of its own, and outputs are split over the parts.
                let place = unsafe { places.slice(start..start + values.len()) };
                place.copy_from_slice(values);
            }
        }
    });
}

/// The gradient of a product's matrix, added to `gradient`: `gradient += output_gradientᵀ · input`. `output_gradient` is
/// [rows, outputs], `input` [rows, inputs], row-major; `gradient` is packed like the matrix. An element's chain begins
/// with what is there.
///
/// # Errors
/// [`TensorError::Length`] when an operand does not have the length that the shapes ask for,
/// [`TensorError::UnsupportedSimd`].
pub fn weight_gradient(
    team: &ThreadTeam,
    simd: SimdLevel,
    output_gradient: &[f32],
    input: &[f32],
    rows: usize,
    gradient: &mut [f32],
) -> Result<(), TensorError> {
    let simd = simd.require()?;
    if rows == 0 {
        check("weight gradient: output gradient", 0, 0, output_gradient.len())?;
        return check("weight gradient: input", 0, 0, input.len());
    }
    let (outputs, inputs) = (output_gradient.len() / rows, input.len() / rows);
    check("weight gradient: output gradient", outputs, rows, output_gradient.len())?;
    check("weight gradient: input", inputs, rows, input.len())?;
    let lanes = outputs.next_multiple_of(TILE_ROWS);
    check("weight gradient: gradient", inputs, lanes, gradient.len())?;
    if outputs == 0 {
        return Ok(());
    }
    let right = Right {
        start: output_gradient.as_ptr(),
        tile_step: TILE_ROWS,
        depth_step: outputs,
        lanes: outputs,
        target: Target {
            start: gradient.as_mut_ptr(),
            row_step: TILE_ROWS,
            tile_step: inputs * TILE_ROWS,
            lanes,
        },
    };
    let product = PanelProduct {
        simd,
        left: Left { start: input.as_ptr(), row_step: 1, depth_step: inputs },
        rows: inputs,
        depth: rows,
        rights: &[Some(right)],
        resume: true,
        is_backward: true,
    };
    // SAFETY: the lengths and the level have been checked, and the output is borrowed exclusively.
    unsafe { product.run(team) };
    Ok(())
}

/// The gradient of a bias, added to `gradient` [outputs]: the sums of the columns of `output_gradient` [rows, outputs].
///
/// # Errors
/// [`TensorError::Length`] when `output_gradient` is not `rows` rows of `gradient.len()` values.
pub fn bias_gradient(
    team: &ThreadTeam,
    simd: SimdLevel,
    output_gradient: &[f32],
    rows: usize,
    gradient: &mut [f32],
) -> Result<(), TensorError> {
    let outputs = gradient.len();
    check("bias gradient: output gradient", outputs, rows, output_gradient.len())?;
    let gradient = DisjointMut::new(gradient);
    team.for_ranges(outputs.div_ceil(ColumnSums::COLUMNS), |chunks| {
        for chunk in chunks {
            let first = chunk * ColumnSums::COLUMNS;
            let columns = first..outputs.min(first + ColumnSums::COLUMNS);
            // SAFETY: chunks are split over the parts.
            let sums = unsafe { gradient.slice(columns) };
            dispatch(simd, ColumnSums { values: output_gradient, width: outputs, first, sums });
        }
    });
    Ok(())
}

/// Adds to each of up to [`ColumnSums::COLUMNS`] sums its column of `values`, rows ascending.
struct ColumnSums<'a> {
    values: &'a [f32],
    width: usize,
    first: usize,
    sums: &'a mut [f32],
}

impl ColumnSums<'_> {
    const COLUMNS: usize = 4 * LANES;
}

impl LaneKernel for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let columns = self.sums.len();
        for row in self.values.chunks_exact(self.width) {
            let values = &row[self.first..self.first + columns];
            for (sums, values) in self.sums.chunks_mut(LANES).zip(values.chunks(LANES)) {
                lanes.store_head(lanes.add(lanes.load_head(sums), lanes.load_head(values)), sums);
            }
        }
    }

    fn reference(self) {
        let columns = self.sums.len();
        for row in self.values.chunks_exact(self.width) {
            for (sum, value) in self.sums.iter_mut().zip(&row[self.first..self.first + columns]) {
                *sum += value;
            }
        }
    }
}
