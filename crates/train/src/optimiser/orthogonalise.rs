//! The nearest matrix with equal singular values, nearly: odd polynomials of a matrix that move all singular values towards 1.
//!
//! One step computes A = X·Xᵀ, then X ← (a·I + b·A + c·A²)·X, which applies a·σ + b·σ³ + c·σ⁵ to every singular value σ.
//! The products are those of `tensor::linear`, so that their bits do not depend on threads.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use zhenjin_tensor::{Dtype, Matrix, Product, QuantisedRows, SimdLevel, TensorError, ThreadTeam, linear};

use super::TILE_ROWS;
use crate::configuration::Orthogonaliser;

/// (a, b, c), five times: Jordan et al. 2024, "Muon". Singular values from 0.01 to 1 end between 0.68 and 1.14.
pub const QUINTIC: [[f64; 3]; 5] = [[3.4445, -4.7750, 2.0315]; 5];

/// Five steps of Amsel et al. 2025, "The Polar Express", table of coefficients with a cushion of 0.02 and a safety factor
/// of 1.02. Singular values from 0.001 to 1 end between 0.86 and 1.14.
pub const POLAR_EXPRESS: [[f64; 3]; 5] = [
    [8.156554524902461, -22.48329292557795, 15.878769915207462],
    [4.042929935166739, -2.808917465908714, 0.5000178451051316],
    [3.8916678022926607, -2.772484153217685, 0.5060648178503393],
    [3.285753657755655, -2.3681294933425376, 0.46449024233003106],
    [2.3465413258596377, -1.7097828382687081, 0.42323551169305323],
];

/// Added to the norm that a matrix is divided by.
const EPSILON: f64 = 1e-7;
/// The Polar Express divides by a little more than the norm, so that rounding does not lead outside of its range.
const SAFETY: f64 = 1.02;

/// Makes singular values equal; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct Orthogonalised {
    /// Matrices of the products, by their shape.
    packed: BTreeMap<(usize, usize), Matrix>,
    quantised: QuantisedRows,
    gram: Vec<f32>,
    polynomial: Vec<f32>,
    product: Vec<f32>,
}

impl Orthogonalised {
    /// Replaces `values` `[rows, columns]` (row-major, `rows ≤ columns` costs least) by the polynomials of it, after dividing
    /// it by its Frobenius norm.
    ///
    /// # Errors
    /// What `tensor` reports.
    ///
    /// # Panics
    /// When `values` has another length.
    pub fn apply(
        &mut self,
        method: Orthogonaliser,
        rows: usize,
        columns: usize,
        values: &mut Vec<f32>,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        assert_eq!(values.len(), rows * columns, "elements of a matrix");
        let norm = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
        let (divisor, coefficients) = match method {
            Orthogonaliser::NewtonSchulz => (norm, QUINTIC),
            Orthogonaliser::PolarExpress => (norm * SAFETY, POLAR_EXPRESS),
        };
        let factor = (1.0 / (divisor + EPSILON)) as f32;
        values.iter_mut().for_each(|value| *value *= factor);
        for coefficients in coefficients {
            self.step(coefficients, rows, columns, values, team)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        [a, b, c]: [f64; 3],
        rows: usize,
        columns: usize,
        values: &mut Vec<f32>,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        let mut gram = std::mem::take(&mut self.gram);
        let mut polynomial = std::mem::take(&mut self.polynomial);
        let mut product = std::mem::take(&mut self.product);
        self.multiply(
            values,
            rows,
            (rows, columns),
            |matrix, columns| pack_rows(values, columns, matrix, team),
            &mut gram,
            team,
        )?;
        // A is its own transpose, bit by bit: the products x·y and y·x are the same.
        self.multiply(
            &gram,
            rows,
            (rows, rows),
            |matrix, _| pack_transposed(&gram, rows, matrix, team),
            &mut polynomial,
            team,
        )?;
        for (row, (square, gram)) in
            polynomial.chunks_exact_mut(rows).zip(gram.chunks_exact(rows)).enumerate()
        {
            for (square, gram) in square.iter_mut().zip(gram) {
                *square = c as f32 * *square + b as f32 * gram;
            }
            square[row] += a as f32;
        }
        self.multiply(
            &polynomial,
            rows,
            (columns, rows),
            |matrix, _| pack_transposed(values, columns, matrix, team),
            &mut product,
            team,
        )?;
        std::mem::swap(values, &mut product);
        (self.gram, self.polynomial, self.product) = (gram, polynomial, product);
        Ok(())
    }

    /// `output[input_rows, outputs] = input · matrixᵀ` for a matrix `[outputs, inputs]` that `pack` fills.
    fn multiply(
        &mut self,
        input: &[f32],
        input_rows: usize,
        (outputs, inputs): (usize, usize),
        pack: impl FnOnce(&mut [f32], usize),
        output: &mut Vec<f32>,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        let matrix = match self.packed.entry((outputs, inputs)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let zeros = vec![0; outputs * inputs * size_of::<f32>()];
                entry.insert(Matrix::pack(Dtype::F32, outputs, inputs, &zeros, SimdLevel::detect(), team)?)
            }
        };
        pack(matrix.f32_packed_mut()?, inputs);
        output.resize(input_rows * outputs, 0.0);
        let products = &mut [Product { matrix, output: &mut output[..] }];
        linear(team, input, input_rows, &mut self.quantised, products)
    }
}

/// Packs `values` `[rows, columns]`, row-major, into tiles `[tile][column][16]`.
fn pack_rows(values: &[f32], columns: usize, packed: &mut [f32], team: &ThreadTeam) {
    team.for_each_chunk(packed, TILE_ROWS * columns, |tile, packed| {
        let rows = &values[tile * TILE_ROWS * columns..];
        for (lane, row) in rows.chunks_exact(columns).take(TILE_ROWS).enumerate() {
            packed[lane..]
                .iter_mut()
                .step_by(TILE_ROWS)
                .zip(row)
                .for_each(|(packed, value)| *packed = *value);
        }
    });
}

/// Packs the transpose of `values` `[.., width]`, row-major: 16 neighbours of a row are a column of a tile.
fn pack_transposed(values: &[f32], width: usize, packed: &mut [f32], team: &ThreadTeam) {
    let rows = values.len() / width;
    team.for_each_chunk(packed, TILE_ROWS * rows, |tile, packed| {
        let first = tile * TILE_ROWS;
        let lanes = TILE_ROWS.min(width - first);
        for (row, packed) in values.chunks_exact(width).zip(packed.chunks_exact_mut(TILE_ROWS)) {
            packed[..lanes].copy_from_slice(&row[first..first + lanes]);
        }
    });
}
