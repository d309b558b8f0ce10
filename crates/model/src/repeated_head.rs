//! Whether a file stores the token embedding a second time, as the head: a tied model that was written out in two types.

use zhenjin_tensor::dequantise;

use crate::errors::ModelError;
use crate::tensor_source::{TensorSource, TensorView, WeightName};

/// Rows that are compared, spread over the vocabulary.
const ROWS: usize = 64;
/// The least cosine of a row in one type with itself in another; quantising to 4 bits leaves above 0.99, unlike matrices have about 0.
const LEAST_COSINE: f64 = 0.9;

/// Whether the head `[vocabulary, hidden size]` that a model stores holds the values of its embedding, within what their types lose.
/// 64 rows are compared.
///
/// # Errors
/// Those of reading the two tensors.
pub fn head_repeats_embedding(source: &dyn TensorSource) -> Result<bool, ModelError> {
    if !source.contains(WeightName::Head) || !source.contains(WeightName::Embedding) {
        return Ok(false);
    }
    let (embedding, head) = (source.tensor(WeightName::Embedding)?, source.tensor(WeightName::Head)?);
    let [vocabulary, _] = embedding.shape[..] else { return Ok(false) };
    if embedding.shape != head.shape || vocabulary == 0 {
        return Ok(false);
    }
    let mut compared = 0;
    for index in 0..ROWS.min(vocabulary) {
        let row = index * vocabulary / ROWS.min(vocabulary);
        let (first, second) = (values(&embedding, row)?, values(&head, row)?);
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let norms = (product(&first, &first) * product(&second, &second)).sqrt();
        // Rows of padding may be zero.
        if norms > 0.0 {
            compared += 1;
            if product(&first, &second) < LEAST_COSINE * norms {
                return Ok(false);
            }
        }
    }
    Ok(compared > 0)
}

fn values(tensor: &TensorView<'_>, row: usize) -> Result<Vec<f32>, ModelError> {
    let mut values = vec![0.0; tensor.shape[1]];
    let bytes = tensor.dtype.bytes(values.len()).unwrap_or(0);
    let stored = tensor.bytes.get(row * bytes..(row + 1) * bytes).unwrap_or(&[]);
    dequantise(tensor.dtype, stored, &mut values)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use zhenjin_tensor::Dtype;

    use super::*;

    /// Matrices in f32 with rows of four values, as a file has them.
    struct Two {
        embedding: Vec<u8>,
        head: Option<Vec<u8>>,
    }

    impl TensorSource for Two {
        fn origin(&self) -> PathBuf {
            PathBuf::from("two")
        }

        fn contains(&self, name: WeightName) -> bool {
            name == WeightName::Embedding || self.head.is_some()
        }

        fn tensor(&self, name: WeightName) -> Result<TensorView<'_>, ModelError> {
            let bytes =
                if name == WeightName::Head { self.head.as_ref().expect("a head") } else { &self.embedding };
            let shape = vec![bytes.len() / 16, 4];
            Ok(TensorView { name: format!("{name:?}"), dtype: Dtype::F32, shape, bytes })
        }
    }

    #[test]
    fn a_head_with_the_values_of_the_embedding_is_recognised() {
        let embedding: Vec<f32> = (0..400).map(|index| ((index * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let rounded: Vec<f32> = embedding.iter().map(|value| (value * 16.0).round() / 16.0).collect();
        let other: Vec<f32> = embedding.iter().rev().copied().collect();
        let stored =
            |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let answer = |head: Option<Vec<f32>>| {
            let source = Two { embedding: stored(&embedding), head: head.as_deref().map(stored) };
            head_repeats_embedding(&source).expect("two tensors")
        };
        assert!(answer(Some(rounded)));
        assert!(!answer(Some(other)));
        assert!(!answer(None));
        assert!(!answer(Some(vec![0.0; 400])));
    }
}
