//! The matrix product `output[m, n] = Σ_k input[m, k] · weights[n, k]`.
//!
//! Each output is one fixed sequence of operations over ascending k, whatever the number of rows, matrices and
//! threads; see `integer.rs` and `float.rs` for the sequences. This module knows no operation but this one.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod backward;
mod float;
mod formats;
mod integer;
pub(crate) mod lanes;
mod outputs;
mod panels;
pub mod peak;
mod schedule;
#[cfg(target_arch = "x86_64")]
mod tile_registers;

use std::ops::Range;

use crate::matrix::TILE_ROWS;
use crate::{Matrix, TensorError, ThreadTeam};
use schedule::Work;

pub use activations::QuantisedRows;

/// Most products that one run of the team computes.
const PRODUCTS_TOGETHER: usize = 4;

/// One matrix to multiply with and the place for its outputs.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights [outputs, inputs].
    pub matrix: &'a Matrix,
    /// Outputs [rows, outputs], row-major; overwritten.
    pub output: &'a mut [f32],
}

/// Multiplies `rows` rows of `input` [rows, columns] with every matrix of `products`. Quantised matrices compute
/// with activations in 8 bits, which are made once, in `quantised`, for all of them: each activation is off by at
/// most 1/254 of the largest magnitude of its block of 32, so an output is off from the product in f32 by at most
/// the sum over blocks of `Σ|w| · max|a| / 254`, beside rounding.
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
    if let Some(product) = products.iter().find(|product| product.matrix.dtype().is_quantised()) {
        quantised.quantise(input, rows, product.matrix.simd(), team)?;
    }
    multiply(team, input, rows, quantised, products);
    Ok(())
}

/// The outputs `outputs` of the product of `rows` rows with `matrix`, with the bits that [`linear`] gives them, into `output`
/// [rows, outputs.len()]. For quantised matrices, `quantised` holds the rows already, so that many parts share them; else it is
/// not read.
///
/// # Errors
/// [`TensorError::Length`] when an operand does not have the length that the shapes ask for,
/// [`TensorError::RowOutOfRange`] when `outputs` does not begin with a tile's first output, or ends beyond the matrix.
pub(crate) fn linear_part(
    team: &ThreadTeam,
    input: &[f32],
    rows: usize,
    quantised: &QuantisedRows,
    matrix: &Matrix,
    outputs: Range<usize>,
    output: &mut [f32],
) -> Result<(), TensorError> {
    check("linear: input", matrix.columns(), rows, input.len())?;
    check("linear: output", outputs.len(), rows, output.len())?;
    if outputs.end > matrix.rows() || !outputs.start.is_multiple_of(TILE_ROWS) {
        let row = if outputs.end > matrix.rows() { outputs.end } else { outputs.start };
        return Err(TensorError::RowOutOfRange { row, rows: matrix.rows() });
    }
    if matrix.dtype().is_quantised() {
        check("linear: quantised rows", rows, 1, quantised.rows())?;
        check("linear: quantised columns", matrix.columns(), 1, quantised.columns())?;
    }
    if rows == 0 || outputs.is_empty() {
        return Ok(());
    }
    let work = Work::new(matrix, input, quantised, output.as_mut_ptr(), rows).of_outputs(outputs);
    // SAFETY: the lengths have been checked.
    unsafe { run_together(team, &mut [Some(work)]) };
    Ok(())
}

/// The products, with all lengths checked.
fn multiply(
    team: &ThreadTeam,
    input: &[f32],
    rows: usize,
    quantised: &QuantisedRows,
    products: &mut [Product<'_>],
) {
    if rows == 0 {
        return;
    }
    // One run of the team for all of them: waking it costs more than a small product.
    for group in products.chunks_mut(PRODUCTS_TOGETHER) {
        let mut works: [Option<Work<'_>>; PRODUCTS_TOGETHER] = [const { None }; PRODUCTS_TOGETHER];
        for (work, Product { matrix, output }) in works.iter_mut().zip(group) {
            *work = Some(Work::new(matrix, input, quantised, output.as_mut_ptr(), rows));
        }
        // SAFETY: the lengths have been checked by the caller.
        unsafe { run_together(team, &mut works) };
    }
}

/// Computes products in one run of the team.
///
/// # Safety
/// The inputs and outputs of each work have the lengths that its matrix and rows ask for.
unsafe fn run_together(team: &ThreadTeam, works: &mut [Option<Work<'_>>]) {
    // SAFETY: passed on from the caller.
    unsafe { schedule::run_panels(team, works) };
    if works.iter().all(Option::is_none) {
        return;
    }
    let shares = team.width();
    let mut parts = 0;
    for work in works.iter_mut().flatten() {
        work.divide(shares);
        parts += work.parts_of_a_share();
    }
    let works = &*works;
    // The parts of a share follow each other, so that a thread goes through one stretch of each matrix.
    team.run(shares * parts, &|_, index| {
        let (share, mut part) = (index / parts, index % parts);
        for work in works.iter().flatten() {
            if part < work.parts_of_a_share() {
                // SAFETY: the lengths are the caller's promise, every part has its own outputs, and a matrix exists only
                // where its instruction set does.
                return unsafe { work.run(share, part) };
            }
            part -= work.parts_of_a_share();
        }
    });
}

fn check(what: &'static str, width: usize, rows: usize, actual: usize) -> Result<(), TensorError> {
    let expected = width.checked_mul(rows).ok_or(TensorError::TooLarge { what, rows, columns: width })?;
    if actual == expected { Ok(()) } else { Err(TensorError::Length { what, expected, actual }) }
}
