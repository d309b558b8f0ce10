//! Muon (Jordan et al. 2024): Nesterov momentum whose update is a matrix with equal singular values.

use zhenjin_tensor::{TensorError, ThreadTeam};

use super::{Orthogonalised, Parameter, StepNumbers, TILE_ROWS};
use crate::configuration::OptimiserSection;

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
        for (momentum, gradient) in momentum.iter_mut().zip(parameter.gradient) {
            *momentum = keep * *momentum + new * (gradient * numbers.gradient_factor);
        }
        // The smaller side comes first: its square is what is multiplied most.
        let upright = rows > columns;
        self.update.clear();
        self.update.resize(rows * columns, 0.0);
        for (place, (index, momentum)) in places(rows, columns, upright).zip(momentum.iter().enumerate()) {
            if let Some(place) = place {
                self.update[place] =
                    new * (parameter.gradient[index] * numbers.gradient_factor) + keep * momentum;
            }
        }
        let (height, width) = if upright { (columns, rows) } else { (rows, columns) };
        self.orthogonalised.apply(options.orthogonaliser, height, width, &mut self.update, team)?;

        let rate = options.muon_learning_rate * numbers.rate_factor;
        let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
        let (decayed, step) = ((1.0 - rate * options.weight_decay) as f32, (rate * scale) as f32);
        for (place, value) in places(rows, columns, upright).zip(parameter.values.iter_mut()) {
            if let Some(place) = place {
                *value = decayed * *value - step * self.update[place];
            }
        }
        Ok(())
    }
}

/// For every element in packed order its place in the row-major matrix (or in its transpose); `None` for rows that do not exist.
fn places(rows: usize, columns: usize, transposed: bool) -> impl Iterator<Item = Option<usize>> {
    let (row_step, column_step) = if transposed { (1, rows) } else { (columns, 1) };
    (0..rows.div_ceil(TILE_ROWS)).flat_map(move |tile| {
        (0..columns).flat_map(move |column| {
            (tile * TILE_ROWS..(tile + 1) * TILE_ROWS)
                .map(move |row| (row < rows).then_some(row * row_step + column * column_step))
        })
    })
}
