//! Low-rank additions to some rows of a product: checked, and split over the team where that is worth its while.

use super::DirectExecutor;
use super::workspace::Activations;
use crate::executor::{LowRankAddition, OutputChange};
use crate::matrix::TILE_ROWS;
use crate::ops::change_outputs::ChangeOutputs;
use crate::ops::low_rank::AddLowRank;
use crate::team::DisjointMut;
use crate::{Matrix, TensorError};

/// Multiplications below which an addition is done by the caller alone.
const PRODUCTS_WORTH_A_TEAM: usize = 256 * 1024;

/// That an addition fits the input and the number of outputs, and is in f32.
pub(super) fn check(
    addition: &LowRankAddition<'_, Matrix>,
    input: &Activations,
    outputs: usize,
) -> Result<(), TensorError> {
    let LowRankAddition { rows, down, up, outputs: change, .. } = addition;
    let lengths = [
        ("low-rank addition: inputs", input.width(), down.columns()),
        ("low-rank addition: outputs", outputs, up.rows()),
        ("low-rank addition: rank", down.rows(), up.columns()),
    ];
    for (what, expected, actual) in lengths {
        if expected != actual {
            return Err(TensorError::Length { what, expected, actual });
        }
    }
    for (what, values) in
        [("low-rank addition: factors", change.factors), ("low-rank addition: shifts", change.shifts)]
    {
        if !values.is_empty() && values.len() != outputs {
            return Err(TensorError::Length { what, expected: outputs, actual: values.len() });
        }
    }
    if rows.start > rows.end || rows.end > input.rows() {
        return Err(TensorError::RowOutOfRange { row: rows.end, rows: input.rows() });
    }
    [down, up].into_iter().try_for_each(|matrix| matrix.f32_packed().map(|_| ()))
}

impl DirectExecutor {
    /// Changes the addition's rows of `output`, then adds the low-rank product of the same rows of `input`. Both were checked.
    ///
    /// # Errors
    /// [`TensorError::NotF32`].
    pub(super) fn add_low_rank(
        &self,
        addition: &LowRankAddition<'_, Matrix>,
        input: &Activations,
        output: &mut Activations,
    ) -> Result<(), TensorError> {
        let LowRankAddition { rows, down, up, scale, outputs: change } = addition;
        let [a, b] = [down.f32_packed()?, up.f32_packed()?].map(|packed| packed.as_chunks::<TILE_ROWS>().0);
        let (inputs, outputs, rank) = (down.columns(), up.rows(), down.rows());
        let input = input.rows_values(rows.clone());
        let out = &mut output.values_mut()[rows.start * outputs..rows.end * outputs];
        let OutputChange { factors, shifts } = *change;
        let kernel = |input, out: &mut [f32]| {
            if !change.is_none() {
                self.run(ChangeOutputs { rows: &mut *out, outputs, factors, shifts });
            }
            self.run(AddLowRank { down: a, up: b, rank, scale: *scale, input, inputs, out, outputs });
        };
        let of_a_row = rank.next_multiple_of(TILE_ROWS) * (inputs + outputs);
        if rows.len().saturating_mul(of_a_row) < PRODUCTS_WORTH_A_TEAM {
            kernel(input, out);
            return Ok(());
        }
        let out = DisjointMut::new(out);
        self.team.for_ranges(rows.len(), |rows| {
            // SAFETY: the ranges are disjoint.
            let out = unsafe { out.slice(rows.start * outputs..rows.end * outputs) };
            kernel(&input[rows.start * inputs..rows.end * inputs], out);
        });
        Ok(())
    }
}
