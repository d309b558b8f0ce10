//! A layer behind the pooled vector of a text, as the module `Dense` of sentence-transformers: activation(W·x + b).
//!
//! Sums are in f64, b first, then over ascending inputs.

use std::path::Path;

use crate::errors::ModelError;
use crate::file::{FileTensor, OtherWeights};

const WEIGHT: &str = "linear.weight";
const BIAS: &str = "linear.bias";

/// A layer, its weights in memory.
#[derive(Clone, PartialEq)]
pub struct Dense {
    shape: DenseShape,
    /// `[inputs, outputs]`: the outputs lie side by side.
    weight: Vec<f32>,
    /// `[outputs]`; zeros for a layer without.
    bias: Vec<f32>,
}

/// What a layer's configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape {
    /// Width of the vector that goes in.
    pub inputs: usize,
    /// Width of the one that comes out.
    pub outputs: usize,
    /// Whether something is added to the product.
    pub has_bias: bool,
    /// What is done with each value.
    pub activation: Activation,
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The value itself.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// The value, if it is positive, else 0.
    Relu,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
}

impl Activation {
    /// All of them.
    pub const ALL: [Activation; 4] =
        [Activation::Identity, Activation::Tanh, Activation::Relu, Activation::Sigmoid];

    /// The name of its class in PyTorch.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Identity => "Identity",
            Activation::Tanh => "Tanh",
            Activation::Relu => "ReLU",
            Activation::Sigmoid => "Sigmoid",
        }
    }

    fn of(self, value: f64) -> f64 {
        match self {
            Activation::Identity => value,
            Activation::Tanh => value.tanh(),
            Activation::Relu => value.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
        }
    }
}

impl Dense {
    /// Reads the weights from `model.safetensors` in `folder`, which must hold those that `layer` implies and no others.
    ///
    /// # Errors
    /// [`ModelError`] naming the file and the tensor that is missing, of another shape or type, or not finite.
    pub fn open(folder: &Path, layer: DenseShape) -> Result<Dense, ModelError> {
        let DenseShape { inputs, outputs, has_bias, .. } = layer;
        let file = OtherWeights::in_folder(folder)?;
        let read = |name: &str, expected: &[usize]| {
            let missing = || ModelError::MissingTensor { file: folder.to_owned(), tensor: name.to_owned() };
            let tensor = file.find(name).ok_or_else(missing)?;
            values(&tensor, expected)
        };
        let by_output = read(WEIGHT, &[outputs, inputs])?;
        let bias = if has_bias { read(BIAS, &[outputs])? } else { vec![0.0; outputs] };
        let is_used = |name: &str| name == WEIGHT || (has_bias && name == BIAS);
        if let Some(other) = file.tensors().find(|tensor| !is_used(tensor.name)) {
            return Err(other.fault("the configuration says that this layer has no such weight"));
        }
        let weight = (0..inputs).flat_map(|input| by_output.iter().skip(input).step_by(inputs).copied());
        Ok(Dense { shape: layer, weight: weight.collect(), bias })
    }

    /// What its configuration says.
    pub fn shape(&self) -> DenseShape {
        self.shape
    }

    /// Width of the vector that comes out.
    pub fn outputs(&self) -> usize {
        self.shape.outputs
    }

    /// Bytes of its weights.
    pub(super) fn bytes(&self) -> u64 {
        ((self.weight.len() + self.bias.len()) * size_of::<f32>()) as u64
    }

    /// The vector that `vector` becomes.
    ///
    /// # Panics
    /// If `vector` has not as many values as go in.
    pub(super) fn apply(&self, vector: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.shape.inputs, "the width of a dense layer's input");
        let mut sums: Vec<f64> = self.bias.iter().map(|bias| f64::from(*bias)).collect();
        for (value, weights) in vector.iter().zip(self.weight.chunks_exact(self.shape.outputs)) {
            let value = f64::from(*value);
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * f64::from(*weight));
        }
        sums.into_iter().map(|sum| self.shape.activation.of(sum) as f32).collect()
    }
}

impl std::fmt::Debug for Dense {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dense").field("shape", &self.shape).finish_non_exhaustive()
    }
}

fn values(tensor: &FileTensor<'_>, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
    if tensor.shape != expected {
        return Err(ModelError::TensorShape {
            file: tensor.file.to_owned(),
            tensor: tensor.name.to_owned(),
            expected: expected.to_vec(),
            found: tensor.shape.to_vec(),
        });
    }
    tensor.values()
}
