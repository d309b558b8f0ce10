//! A head with one output: a value for each row, for reward models and critics.

use std::sync::Arc;

use super::{Recorded, RecordingExecutor, parameter};
use crate::error::expect;
use crate::{Activations, Gradients, ParameterShape, TensorError, Vector};

/// The value of every row: its product with `head`, summed in f64 over ascending columns.
///
/// # Errors
/// [`TensorError::Length`] when `head` is not as long as the rows are wide.
pub fn row_values(input: &Activations, head: &[f32]) -> Result<Vec<f32>, TensorError> {
    expect("values: head", input.width(), head.len())?;
    let value = |row: &[f32]| -> f32 {
        let products = row.iter().zip(head).map(|(value, weight)| f64::from(*value) * f64::from(*weight));
        products.sum::<f64>() as f32
    };
    Ok((0..input.rows()).map(|row| value(input.row(row))).collect())
}

impl RecordingExecutor {
    /// The values of all rows ([`row_values`]). `slopes` is given all of them and says the derivative of the loss by each; the derivative by
    /// `head`, a parameter, is added to `gradients`, and [`RecordingExecutor::backward`] goes on from that by `normalised`.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `head` is not as long as the rows are wide, or there are not as many slopes as rows;
    /// [`TensorError::NotAParameter`], [`TensorError::OutOfMemory`].
    pub fn value_loss(
        &mut self,
        normalised: Recorded,
        head: &Vector,
        slopes: &mut dyn FnMut(&[f32]) -> Vec<f32>,
        gradients: &mut Gradients,
    ) -> Result<Vec<f32>, TensorError> {
        const WHAT: &str = "values";
        let id = parameter(WHAT, head.parameter())?;
        let node = self.tape.node(WHAT, &normalised)?;
        let (rows, width) = (normalised.rows(), normalised.width());
        let mut result = self.direct.workspace.take(rows, width)?;
        let input = self.tape.values(WHAT, node)?;
        let values = row_values(input, head)?;
        let slopes = slopes(&values);
        expect("values: slopes", rows, slopes.len())?;
        if let Some(sum) = gradients.of(WHAT, id, ParameterShape::Vector { len: width })? {
            let mut columns = vec![0.0f64; width];
            for (row, slope) in slopes.iter().enumerate() {
                for (column, value) in columns.iter_mut().zip(input.row(row)) {
                    *column += f64::from(*slope) * f64::from(*value);
                }
            }
            sum.iter_mut().zip(columns).for_each(|(sum, column)| *sum += column as f32);
        }
        for (slope, out) in slopes.iter().zip(result.values_mut().chunks_exact_mut(width.max(1))) {
            out.iter_mut().zip(head.iter()).for_each(|(out, weight)| *out = slope * weight);
        }
        self.trace.check(super::Pass::Backward, WHAT, None, &result);
        self.tape.consume(node, &mut self.direct.workspace);
        self.add_gradient(node, Arc::new(result))?;
        Ok(values)
    }
}
