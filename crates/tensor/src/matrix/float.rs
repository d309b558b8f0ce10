//! Matrices in f32 that can be read and changed in place: what optimisers and gradients work on.

use super::{Matrix, MatrixMemory, TILE_ROWS, TileLayout, WHAT};
use crate::team::DisjointMut;
use crate::{Dtype, SimdLevel, TensorError, ThreadTeam};

impl Matrix {
    /// A matrix of f32 whose rows `fill` makes, in any order and on all threads: it gets the number of a row and its elements, all 0.
    ///
    /// # Errors
    /// As for [`Matrix::pack_into`].
    pub fn make_f32(
        memory: &MatrixMemory,
        rows: usize,
        columns: usize,
        simd: SimdLevel,
        team: &ThreadTeam,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Matrix, TensorError> {
        let simd = simd.require()?;
        let too_large = TensorError::TooLarge { what: WHAT, rows, columns };
        let layout = TileLayout::new(Dtype::F32, columns).ok_or_else(|| too_large.clone())?;
        let bytes = rows.div_ceil(TILE_ROWS).checked_mul(layout.bytes).ok_or(too_large)?;
        let mut tiles = memory.part(WHAT, bytes)?;
        let tile_values = TILE_ROWS * columns;
        {
            let values = DisjointMut::new(tiles.floats_mut());
            team.for_ranges(rows.div_ceil(TILE_ROWS), |range| {
                let mut row_values = vec![0.0; columns];
                for index in range {
                    // SAFETY: tiles are split over the parts.
                    let tile = unsafe { values.slice(index * tile_values..(index + 1) * tile_values) };
                    for lane in 0..TILE_ROWS.min(rows - index * TILE_ROWS) {
                        row_values.fill(0.0);
                        fill(index * TILE_ROWS + lane, &mut row_values);
                        let places = tile[lane..].iter_mut().step_by(TILE_ROWS);
                        places.zip(&row_values).for_each(|(place, value)| *place = *value);
                    }
                }
            });
        }
        Ok(Matrix { dtype: Dtype::F32, rows, columns, simd, layout, tiles, parameter: None })
    }

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
