//! Weights for the reference executor, as f64.

use zhenjin_tensor::{ParameterId, ReferenceParameter, ReferenceTensor, TensorError, dequantise};

use super::WeightLoader;
use crate::tensor_source::TensorView;

/// Dequantises everything into f64 for [`zhenjin_tensor::ReferenceExecutor`].
#[derive(Clone, Copy, Debug)]
pub struct ReferenceLoader;

impl WeightLoader for ReferenceLoader {
    type Matrix = ReferenceTensor;
    type Vector = Vec<f64>;

    fn matrix(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<ReferenceTensor, TensorError> {
        Ok(ReferenceTensor { width: view.shape[1], values: self.vector(id, view)? })
    }

    fn vector(&mut self, _: ParameterId, view: &TensorView<'_>) -> Result<Vec<f64>, TensorError> {
        let mut values = vec![0.0; view.shape.iter().product()];
        dequantise(view.dtype, view.bytes, &mut values)?;
        Ok(values.into_iter().map(f64::from).collect())
    }
}

/// As [`ReferenceLoader`], for [`zhenjin_tensor::ReferenceTape`], which computes gradients.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceTapeLoader;

impl WeightLoader for ReferenceTapeLoader {
    type Matrix = ReferenceParameter<ReferenceTensor>;
    type Vector = ReferenceParameter<Vec<f64>>;

    fn matrix(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Self::Matrix, TensorError> {
        Ok(ReferenceParameter { id, value: ReferenceLoader.matrix(id, view)? })
    }

    fn vector(&mut self, id: ParameterId, view: &TensorView<'_>) -> Result<Self::Vector, TensorError> {
        Ok(ReferenceParameter { id, value: ReferenceLoader.vector(id, view)? })
    }
}
