//! Weight matrices [rows = outputs, columns = inputs], repacked once at load for the kernels.

use crate::{Dtype, SimdLevel, TensorError, ThreadTeam, dequantise};

/// A weight matrix of `rows` outputs × `columns` inputs.
#[derive(Debug)]
pub struct Matrix {
    dtype: Dtype,
    rows: usize,
    columns: usize,
    simd: SimdLevel,
    blocks: Vec<u8>,
}

impl Matrix {
    /// Packs file blocks (row-major) for the kernels of `simd`.
    ///
    /// # Errors
    /// [`TensorError::PartialBlock`] when `columns` is not a whole number of blocks, [`TensorError::ByteLength`]
    /// when `blocks` has another length than the shape asks for, [`TensorError::UnsupportedSimd`],
    /// [`TensorError::TooLarge`].
    pub fn pack(
        dtype: Dtype,
        rows: usize,
        columns: usize,
        blocks: &[u8],
        simd: SimdLevel,
        team: &ThreadTeam,
    ) -> Result<Matrix, TensorError> {
        const WHAT: &str = "pack a matrix";
        let _ = team;
        let simd = simd.require()?;
        let row_bytes = dtype.bytes(columns).ok_or(TensorError::PartialBlock {
            what: WHAT,
            dtype,
            elements: columns,
            block: dtype.block_elements(),
        })?;
        let (Some(expected), Some(elements)) = (row_bytes.checked_mul(rows), rows.checked_mul(columns))
        else {
            return Err(TensorError::TooLarge { what: WHAT, rows, columns });
        };
        if blocks.len() != expected {
            return Err(TensorError::ByteLength {
                what: WHAT,
                dtype,
                elements,
                expected,
                actual: blocks.len(),
            });
        }
        Ok(Matrix { dtype, rows, columns, simd, blocks: blocks.to_vec() })
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

    /// The level it was packed for.
    pub fn simd(&self) -> SimdLevel {
        self.simd
    }

    /// Bytes of memory that the packed matrix takes.
    pub fn bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Expands row `row` into `out` (`columns` elements), bit-equal to [`dequantise`] of its blocks.
    ///
    /// # Panics
    /// When `row` is out of range or `out` has another length.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "columns");
        let bytes = self.blocks.len() / self.rows;
        let outcome = dequantise(self.dtype, &self.blocks[row * bytes..(row + 1) * bytes], out);
        debug_assert!(outcome.is_ok());
    }
}
