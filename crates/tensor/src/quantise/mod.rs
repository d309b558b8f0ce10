//! From f32 to file blocks, one readable function per type: the inverse of `dequantise`, for tests, benchmarks and
//! whoever writes models. The types of 32 elements are bit-equal to the `gguf` Python package's; for the K types
//! and the two IQ4 types that package has no quantiser. Does not know SIMD or threads.

mod k_quants;
mod simple;
mod tables;

use crate::{Dtype, TensorError};
use half::{bf16, f16};

/// Quantises `values` to blocks of type `dtype`.
///
/// # Errors
/// [`TensorError::PartialBlock`] when `values` is not a whole number of blocks, [`TensorError::NotRepresentable`]
/// when a quantised block would need a scale that is not a finite f16 (a NaN, an infinity or a huge value).
pub fn quantise(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>, TensorError> {
    match dtype {
        Dtype::F32 => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Dtype::F16 => Ok(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()),
        Dtype::Bf16 => Ok(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()),
        Dtype::Q4_0 => each(dtype, values, simple::q4_0),
        Dtype::Q4_1 => each(dtype, values, simple::q4_1),
        Dtype::Q5_0 => each(dtype, values, simple::q5_0),
        Dtype::Q5_1 => each(dtype, values, simple::q5_1),
        Dtype::Q8_0 => each(dtype, values, simple::q8_0),
        Dtype::Q4K => each(dtype, values, k_quants::q4_k),
        Dtype::Q5K => each(dtype, values, k_quants::q5_k),
        Dtype::Q6K => each(dtype, values, k_quants::q6_k),
        Dtype::Iq4Nl => each(dtype, values, tables::iq4_nl),
        Dtype::Iq4Xs => each(dtype, values, tables::iq4_xs),
        Dtype::Mxfp4 => each(dtype, values, tables::mxfp4),
    }
}

fn each<const ELEMENTS: usize, const BYTES: usize>(
    dtype: Dtype,
    values: &[f32],
    quantise: impl Fn(&[f32; ELEMENTS]) -> Option<[u8; BYTES]>,
) -> Result<Vec<u8>, TensorError> {
    let (blocks, rest) = values.as_chunks::<ELEMENTS>();
    if !rest.is_empty() {
        return Err(TensorError::PartialBlock {
            what: "quantise",
            dtype,
            elements: values.len(),
            block: ELEMENTS,
        });
    }
    let mut bytes = Vec::with_capacity(blocks.len() * BYTES);
    for (index, block) in blocks.iter().enumerate() {
        let quantised = quantise(block).ok_or(TensorError::NotRepresentable {
            dtype,
            start: index * ELEMENTS,
            end: (index + 1) * ELEMENTS,
        })?;
        bytes.extend_from_slice(&quantised);
    }
    Ok(bytes)
}

/// The bytes of `value` as f16, if it is finite there.
fn finite_f16(value: f32) -> Option<[u8; 2]> {
    let half = f16::from_f32(value);
    half.is_finite().then(|| half.to_le_bytes())
}

/// `1/scale`, or 0 for a block of equal values.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
