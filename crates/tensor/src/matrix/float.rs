//! Matrices in f32 that can be read and changed in place: what optimisers and gradients work on.

use super::{Matrix, TILE_ROWS};
use crate::{Dtype, TensorError};

impl Matrix {
    /// All elements of an F32 matrix in the order in which they are packed: element `[row, column]` is at
    /// `(row / 16 · columns + column) · 16 + row % 16`. Where `rows` is not a multiple of 16, the last tile ends with
    /// rows that do not exist; their elements are 0.
    ///
    /// # Errors
    /// [`TensorError::NotF32`] for another type.
    pub fn f32_packed(&self) -> Result<&[f32], TensorError> {
        self.require_f32("read a matrix in place")?;
        Ok(self.tiles.floats())
    }

    /// As [`Matrix::f32_packed`], to be changed. Elements of rows that do not exist must stay 0, which every element-wise
    /// update by a gradient of 0 leaves them: products do not read them into any output, but sums over the slice would count them.
    ///
    /// # Errors
    /// [`TensorError::NotF32`] for another type.
    pub fn f32_packed_mut(&mut self) -> Result<&mut [f32], TensorError> {
        self.require_f32("change a matrix in place")?;
        Ok(self.tiles.floats_mut())
    }

    /// Expands a matrix of any type into `out` `[rows, columns]`, row-major, bit-equal to [`crate::dequantise`] of its blocks.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `out` has another length.
    pub fn unpack_f32(&self, out: &mut [f32]) -> Result<(), TensorError> {
        self.expect_elements("unpack a matrix", out.len())?;
        if self.columns > 0 {
            out.chunks_exact_mut(self.columns).enumerate().for_each(|(row, out)| self.row(row, out));
        }
        Ok(())
    }

    /// Replaces all elements of an F32 matrix by `values` `[rows, columns]`, row-major.
    ///
    /// # Errors
    /// [`TensorError::NotF32`] for another type, [`TensorError::Length`] when `values` has another length.
    pub fn write_f32(&mut self, values: &[f32]) -> Result<(), TensorError> {
        self.expect_elements("write a matrix", values.len())?;
        let columns = self.columns;
        let packed = self.f32_packed_mut()?;
        if columns == 0 {
            return Ok(());
        }
        for (rows, tile) in
            values.chunks(TILE_ROWS * columns).zip(packed.chunks_exact_mut(TILE_ROWS * columns))
        {
            for (lane, row) in rows.chunks_exact(columns).enumerate() {
                tile[lane..].iter_mut().step_by(TILE_ROWS).zip(row).for_each(|(out, value)| *out = *value);
            }
        }
        Ok(())
    }

    fn require_f32(&self, what: &'static str) -> Result<(), TensorError> {
        if self.dtype == Dtype::F32 { Ok(()) } else { Err(TensorError::NotF32 { what, dtype: self.dtype }) }
    }

    fn expect_elements(&self, what: &'static str, actual: usize) -> Result<(), TensorError> {
        let expected = self.rows * self.columns;
        if actual == expected { Ok(()) } else { Err(TensorError::Length { what, expected, actual }) }
    }
}
