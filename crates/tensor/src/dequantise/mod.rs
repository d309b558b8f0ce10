//! From file blocks to f32, one readable function per type. Every result is bit-equal to the `gguf` Python
//! package's (products and sums are separate f32 operations, never fused). Does not know SIMD or threads.

mod k_quants;
mod simple;
mod tables;

use crate::{Dtype, TensorError};
use half::{bf16, f16};

pub(crate) use k_quants::scales_and_minimums;
pub(crate) use tables::{FOUR_BIT_FLOATS, NON_LINEAR, iq4_xs_scales, power_of_two};

/// Expands `blocks` of type `dtype` into `out`, in file order.
///
/// # Errors
/// [`TensorError::PartialBlock`] when `out` is not a whole number of blocks, [`TensorError::ByteLength`] when
/// `blocks` has another length than `out` asks for.
pub fn dequantise(dtype: Dtype, blocks: &[u8], out: &mut [f32]) -> Result<(), TensorError> {
    let Some(expected) = dtype.bytes(out.len()) else {
        return Err(TensorError::PartialBlock {
            what: "dequantise",
            dtype,
            elements: out.len(),
            block: dtype.block_elements(),
        });
    };
    if blocks.len() != expected {
        return Err(TensorError::ByteLength {
            what: "dequantise",
            dtype,
            elements: out.len(),
            expected,
            actual: blocks.len(),
        });
    }
    match dtype {
        Dtype::F32 => each::<4, 1>(blocks, out, |bytes, out| out[0] = f32::from_le_bytes(*bytes)),
        Dtype::F16 => each::<2, 1>(blocks, out, |bytes, out| out[0] = f16::from_le_bytes(*bytes).to_f32()),
        Dtype::Bf16 => each::<2, 1>(blocks, out, |bytes, out| out[0] = bf16::from_le_bytes(*bytes).to_f32()),
        Dtype::Q4_0 => each(blocks, out, simple::q4_0),
        Dtype::Q4_1 => each(blocks, out, simple::q4_1),
        Dtype::Q5_0 => each(blocks, out, simple::q5_0),
        Dtype::Q5_1 => each(blocks, out, simple::q5_1),
        Dtype::Q8_0 => each(blocks, out, simple::q8_0),
        Dtype::Q4K => each(blocks, out, k_quants::q4_k),
        Dtype::Q5K => each(blocks, out, k_quants::q5_k),
        Dtype::Q6K => each(blocks, out, k_quants::q6_k),
        Dtype::Iq4Nl => each(blocks, out, tables::iq4_nl),
        Dtype::Iq4Xs => each(blocks, out, tables::iq4_xs),
        Dtype::Mxfp4 => each(blocks, out, tables::mxfp4),
    }
    Ok(())
}

/// Calls `expand` with each block and its place in `out`. The lengths have been checked.
fn each<const BYTES: usize, const ELEMENTS: usize>(
    blocks: &[u8],
    out: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = blocks.as_chunks::<BYTES>();
    let (out, _) = out.as_chunks_mut::<ELEMENTS>();
    for (block, out) in blocks.iter().zip(out) {
        expand(block, out);
    }
}

/// The little-endian f16 at `offset`, as f32.
fn half_at(block: &[u8], offset: usize) -> f32 {
    f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}
