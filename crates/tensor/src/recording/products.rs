//! The two products of a linear layer's backward pass, in the order of packed weights.

use crate::matrix::TILE_ROWS;
use crate::{Matrix, ThreadTeam};

/// dX (+)= dY · W: `output_gradient` `[rows, outputs]`, `result` `[rows, inputs]`. One chain per element, outputs ascending.
pub(super) fn input_gradient(
    team: &ThreadTeam,
    output_gradient: &[f32],
    rows: usize,
    matrix: &Matrix,
    result: &mut [f32],
    accumulates: bool,
) {
    let (outputs, inputs) = (matrix.rows(), matrix.columns());
    let Ok(weights) = matrix.f32_packed() else { return };
    debug_assert_eq!(result.len(), rows * inputs);
    team.for_each_chunk(result, inputs, |row, result| {
        let gradient = &output_gradient[row * outputs..(row + 1) * outputs];
        if !accumulates {
            result.fill(0.0);
        }
        for (gradient, tile) in gradient.chunks(TILE_ROWS).zip(weights.chunks_exact(TILE_ROWS * inputs)) {
            for (sum, weights) in result.iter_mut().zip(tile.as_chunks::<TILE_ROWS>().0) {
                for (gradient, weight) in gradient.iter().zip(weights) {
                    *sum += gradient * weight;
                }
            }
        }
    });
}

/// dW += dYᵀ · X: `output_gradient` `[rows, outputs]`, `input` `[rows, inputs]`. One chain per element, rows ascending.
pub(super) fn weight_gradient(
    team: &ThreadTeam,
    output_gradient: &[f32],
    input: &[f32],
    rows: usize,
    matrix: &Matrix,
    sum: &mut [f32],
) {
    let (outputs, inputs) = (matrix.rows(), matrix.columns());
    team.for_each_chunk(sum, TILE_ROWS * inputs, |tile, sums| {
        let first = tile * TILE_ROWS;
        let lanes = TILE_ROWS.min(outputs - first);
        for row in 0..rows {
            let mut gradient = [0.0f32; TILE_ROWS];
            gradient[..lanes].copy_from_slice(&output_gradient[row * outputs + first..][..lanes]);
            let input = &input[row * inputs..(row + 1) * inputs];
            for (sums, value) in sums.as_chunks_mut::<TILE_ROWS>().0.iter_mut().zip(input) {
                for (sum, gradient) in sums.iter_mut().zip(&gradient) {
                    *sum += gradient * value;
                }
            }
        }
    });
}
