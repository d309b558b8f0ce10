//! Weight matrices [rows = outputs, columns = inputs], repacked once at load into tiles of 16 outputs.
//!
//! Packing loses nothing: every quant and every scale is kept as in the file (see `layout.rs`), so that a row
//! expands to the same bits. Bytes per weight when packed: F32 4, F16 and BF16 2, Q8_0 1.0625, Q6_K 0.820,
//! Q5_0 0.6875, Q5_1 0.75, Q5_K 0.703, Q4_0 0.5625, Q4_1 0.625, Q4_K 0.578. Does not know how products are
//! computed.

mod float;
mod layout;
mod memory;
mod pack;
mod row;

use crate::team::DisjointMut;
use crate::{Dtype, ParameterId, SimdLevel, TensorError, ThreadTeam};

use memory::Part;

pub(crate) use layout::*;
pub use memory::MatrixMemory;

/// What errors call the operation.
const WHAT: &str = "pack a matrix";

/// A weight matrix of `rows` outputs × `columns` inputs.
#[derive(Debug)]
pub struct Matrix {
    dtype: Dtype,
    rows: usize,
    columns: usize,
    simd: SimdLevel,
    layout: TileLayout,
    tiles: Part,
    parameter: Option<ParameterId>,
}

impl Matrix {
    /// Packs file blocks (row-major, little-endian) for the kernels of `simd`. The team splits the tiles; each
    /// part of `blocks` is read once, in order.
    ///
    /// # Errors
    /// [`TensorError::PartialBlock`] when `columns` is not a whole number of blocks, [`TensorError::ByteLength`]
    /// when `blocks` has another length than the shape asks for, [`TensorError::UnsupportedSimd`] when this
    /// processor lacks `simd`, [`TensorError::TooLarge`] and [`TensorError::OutOfMemory`].
    pub fn pack(
        dtype: Dtype,
        rows: usize,
        columns: usize,
        blocks: &[u8],
        simd: SimdLevel,
        team: &ThreadTeam,
    ) -> Result<Matrix, TensorError> {
        Matrix::pack_with(dtype, rows, columns, blocks, simd, team, |bytes| Part::alone(WHAT, bytes))
    }

    /// As [`Matrix::pack`], into memory that it shares with the other matrices of a model, which makes reading them
    /// one after the other faster.
    ///
    /// # Errors
    /// As for [`Matrix::pack`].
    pub fn pack_into(
        memory: &MatrixMemory,
        dtype: Dtype,
        rows: usize,
        columns: usize,
        blocks: &[u8],
        simd: SimdLevel,
        team: &ThreadTeam,
    ) -> Result<Matrix, TensorError> {
        Matrix::pack_with(dtype, rows, columns, blocks, simd, team, |bytes| memory.part(WHAT, bytes))
    }

    fn pack_with(
        dtype: Dtype,
        rows: usize,
        columns: usize,
        blocks: &[u8],
        simd: SimdLevel,
        team: &ThreadTeam,
        part: impl FnOnce(usize) -> Result<Part, TensorError>,
    ) -> Result<Matrix, TensorError> {
        let simd = simd.require()?;
        let too_large = TensorError::TooLarge { what: WHAT, rows, columns };
        let row_bytes = dtype.bytes(columns).ok_or(TensorError::PartialBlock {
            what: WHAT,
            dtype,
            elements: columns,
            block: dtype.block_elements(),
        })?;
        let (Some(expected), Some(elements)) = (row_bytes.checked_mul(rows), rows.checked_mul(columns))
        else {
            return Err(too_large);
        };
        if blocks.len() != expected {
            let actual = blocks.len();
            return Err(TensorError::ByteLength { what: WHAT, dtype, elements, expected, actual });
        }
        let layout = TileLayout::new(dtype, columns).ok_or_else(|| too_large.clone())?;
        let bytes = rows.div_ceil(TILE_ROWS).checked_mul(layout.bytes).ok_or(too_large)?;
        let mut tiles = part(bytes)?;
        if row_bytes > 0 {
            let memory = DisjointMut::new(tiles.bytes_mut());
            team.for_ranges(rows.div_ceil(TILE_ROWS), |range| {
                for index in range {
                    // SAFETY: tiles are split over the parts.
                    let tile = unsafe { memory.slice(index * layout.bytes..(index + 1) * layout.bytes) };
                    let rows = &blocks[index * TILE_ROWS * row_bytes..];
                    for (lane, row) in rows.chunks_exact(row_bytes).take(TILE_ROWS).enumerate() {
                        pack::pack_row(dtype, row, lane, layout, tile);
                    }
                }
            });
        }
        Ok(Matrix { dtype, rows, columns, simd, layout, tiles, parameter: None })
    }

    /// Bytes of memory that a packed matrix of this type and shape takes; `None` when `columns` is not a whole
    /// number of blocks or no machine could address it.
    pub fn packed_bytes(dtype: Dtype, rows: usize, columns: usize) -> Option<usize> {
        dtype.bytes(columns)?;
        rows.div_ceil(TILE_ROWS).checked_mul(TileLayout::new(dtype, columns)?.bytes)
    }

    /// The same matrix as parameter `id` of a model.
    pub fn with_parameter(self, id: ParameterId) -> Matrix {
        Matrix { parameter: Some(id), ..self }
    }

    /// Which parameter of its model it is; `None` when it is none.
    pub fn parameter(&self) -> Option<ParameterId> {
        self.parameter
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The level whose kernels multiply with this matrix.
    pub fn simd(&self) -> SimdLevel {
        self.simd
    }

    /// Bytes of memory that the packed matrix takes.
    pub fn bytes(&self) -> usize {
        self.tiles().len()
    }

    /// Expands row `row` into `out` (`columns` elements), bit-equal to [`crate::dequantise`] of its blocks.
    ///
    /// # Panics
    /// When `row` is out of range or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "elements of a row");
        let bytes = self.layout.bytes;
        let tile = &self.tiles()[row / TILE_ROWS * bytes..][..bytes];
        row::unpack_row(self.dtype, tile, self.layout, row % TILE_ROWS, out);
    }

    /// Sizes of the parts of each tile.
    pub(crate) fn layout(&self) -> TileLayout {
        self.layout
    }

    /// The tiles, one after the other; the last may have fewer than 16 rows in use.
    pub(crate) fn tiles(&self) -> &[u8] {
        self.tiles.bytes()
    }
}
