//! The matrix product `output[m, n] = Σ_k input[m, k] · weights[n, k]`.

mod activations;

use crate::team::DisjointMut;
use crate::{Matrix, TensorError, ThreadTeam};

pub use activations::QuantisedRows;

/// One matrix to multiply with and the place for its outputs.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights [outputs, inputs].
    pub matrix: &'a Matrix,
    /// Outputs [rows, outputs], row-major; overwritten.
    pub output: &'a mut [f32],
}

/// Multiplies `rows` rows of `input` [rows, columns] with every matrix of `products`. Activations are quantised
/// once, into `quantised`, for all the quantised matrices together.
///
/// # Errors
/// [`TensorError::Length`] when `input` or an output does not have the length that the shapes ask for.
pub fn linear(
    team: &ThreadTeam,
    input: &[f32],
    rows: usize,
    quantised: &mut QuantisedRows,
    products: &mut [Product<'_>],
) -> Result<(), TensorError> {
    for product in products.iter() {
        check("linear: input", product.matrix.columns(), rows, input.len())?;
        check("linear: output", product.matrix.rows(), rows, product.output.len())?;
    }
    if products.iter().any(|product| product.matrix.dtype().is_quantised()) {
        quantised.quantise(input, rows, team)?;
    }
    for product in products {
        let matrix = product.matrix;
        let (columns, outputs) = (matrix.columns(), matrix.rows());
        let output = DisjointMut::new(product.output);
        team.for_ranges(outputs, |_, range| {
            let mut weights = vec![0.0; columns];
            for n in range {
                matrix.row(n, &mut weights);
                for m in 0..rows {
                    let x = &input[m * columns..(m + 1) * columns];
                    let sum = x.iter().zip(&weights).fold(0.0_f32, |sum, (x, w)| x.mul_add(*w, sum));
                    // SAFETY: output columns are split over the workers.
                    unsafe { output.slice(m * outputs + n..m * outputs + n + 1)[0] = sum };
                }
            }
        });
    }
    Ok(())
}

fn check(what: &'static str, width: usize, rows: usize, actual: usize) -> Result<(), TensorError> {
    let expected = width.checked_mul(rows).ok_or(TensorError::TooLarge { what, rows, columns: width })?;
    if actual == expected { Ok(()) } else { Err(TensorError::Length { what, expected, actual }) }
}
