//! Muon (Jordan et al. 2024): Nesterov momentum whose update is a matrix with equal singular values.

use zhenjin_tensor::{TensorError, ThreadTeam};

use super::{Orthogonalised, Parameter, StepNumbers, TILE_ROWS};
use crate::configuration::OptimiserSection;

/// Elements of the momentum that one thread updates at a time.
const PART: usize = 16 * 1024;

/// The scratch memory of Muon.
#[derive(Debug, Default)]
pub(super) struct Muon {
    orthogonalised: Orthogonalised,
    update: Vec<f32>,
}

impl Muon {
    /// Updates a matrix of `shape` (rows, columns) and its momentum, both in packed order:
    /// momentum ← μ·momentum + (1 − μ)·g; u ← orthogonalise((1 − μ)·g + μ·momentum);
    /// value ← (1 − rate·decay)·value − rate·√max(1, rows/columns)·u.
    pub(super) fn update(
        &mut self,
        options: &OptimiserSection,
        numbers: StepNumbers,
        (rows, columns): (usize, usize),
        parameter: &mut Parameter<'_>,
        momentum: &mut [f32],
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        let (keep, new) = (options.momentum as f32, (1.0 - options.momentum) as f32);
        team.for_each_chunk(momentum, PART, |part, momentum| {
            let gradient = &parameter.gradient[part * PART..];
            for (momentum, gradient) in momentum.iter_mut().zip(gradient) {
                *momentum = keep * *momentum + new * (gradient * numbers.gradient_factor);
            }
        });
        let nesterov = |index: usize| {
            new * (parameter.gradient[index] * numbers.gradient_factor) + keep * momentum[index]
        };
        // The smaller side comes first: its square is what is multiplied most.
        let is_tall = rows > columns;
        self.update.resize(rows * columns, 0.0);
        if is_tall {
            // Row `column` of the transpose: of each tile 16 neighbours.
            team.for_each_chunk(&mut self.update, rows, |column, row| {
                for (tile, part) in row.chunks_mut(TILE_ROWS).enumerate() {
                    let first = (tile * columns + column) * TILE_ROWS;
                    part.iter_mut().enumerate().for_each(|(lane, value)| *value = nesterov(first + lane));
                }
            });
        } else {
            team.for_each_chunk(&mut self.update, columns, |row, values| {
                let first = row / TILE_ROWS * columns * TILE_ROWS + row % TILE_ROWS;
                values.iter_mut().enumerate().for_each(|(column, value)| {
                    *value = nesterov(first + column * TILE_ROWS);
                });
            });
        }
        let (height, width) = if is_tall { (columns, rows) } else { (rows, columns) };
        self.orthogonalised.apply(options.orthogonaliser, height, width, &mut self.update, team)?;

        let rate = options.muon_learning_rate * numbers.rate_factor;
        let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
        let (decayed, step) = ((1.0 - rate * options.weight_decay) as f32, (rate * scale) as f32);
        let (row_step, column_step) = if is_tall { (1, rows) } else { (columns, 1) };
        let update = &self.update;
        team.for_each_chunk(parameter.values, TILE_ROWS * columns, |tile, values| {
            let lanes = TILE_ROWS.min(rows - tile * TILE_ROWS);
            for (column, values) in values.chunks_exact_mut(TILE_ROWS).enumerate() {
                let first = tile * TILE_ROWS * row_step + column * column_step;
                for (lane, value) in values[..lanes].iter_mut().enumerate() {
                    *value = decayed * *value - step * update[first + lane * row_step];
                }
            }
        });
        Ok(())
    }
}
