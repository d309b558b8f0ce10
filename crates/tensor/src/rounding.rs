//! Rounding to 8 bits with a common scale: the definition that activations and the KV cache share.

use crate::lanes::{LANES, Lanes};

/// The bits of an f32 without its sign.
pub(crate) const MAGNITUDE: u32 = 0x7FFF_FFFF;
/// Adding 1.5·2²³ leaves the integer, rounded half to even, in the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// Levels on each side of zero of a signed byte.
pub(crate) const SIGNED_LEVELS: f32 = 127.0;

/// The scale of values whose largest magnitude has the bits `largest`, in `levels` levels, and what to multiply with
/// before rounding. As integers, magnitudes order like the floats, with infinity and NaN above all: values among which
/// is one of these get it as their scale, so that products show it. Values so close to zero that the inverse
/// overflows count as zero.
#[inline(always)]
pub(crate) fn scale_of(largest: u32, levels: f32) -> (f32, f32) {
    let scale = f32::from_bits(largest) / levels;
    let inverse = 1.0 / scale;
    match inverse.is_finite() {
        true => (scale, inverse),
        false if scale.is_nan() => (scale, 0.0),
        false => (0.0, 0.0),
    }
}

/// The largest magnitude of `values`, as bits.
#[inline(always)]
pub(crate) fn largest_of(values: &[f32]) -> u32 {
    values.iter().map(|value| value.to_bits() & MAGNITUDE).max().unwrap_or(0)
}

/// The low byte of `value · inverse`, rounded half to even.
#[inline(always)]
pub(crate) fn round_to_byte(value: f32, inverse: f32) -> u8 {
    (value * inverse + ROUND).to_bits() as u8
}

/// Rounds `values`, a multiple of 16, to signed bytes with one scale, which is returned.
#[inline(always)]
pub(crate) fn quantise<L: Lanes>(lanes: L, values: &[f32], bytes: &mut [u8]) -> f32 {
    let mut largest = 0;
    let values = values.as_chunks::<LANES>().0;
    for sixteen in values {
        let sixteen = lanes.load(sixteen);
        largest = largest.max(lanes.largest(sixteen, sixteen));
    }
    let (scale, inverse) = scale_of(largest, SIGNED_LEVELS);
    for (values, bytes) in values.iter().zip(bytes.as_chunks_mut::<LANES>().0) {
        lanes.store_rounded(lanes.load(values), inverse, bytes);
    }
    scale
}

/// The definition of [`quantise`].
pub(crate) fn quantise_reference(values: &[f32], bytes: &mut [u8]) -> f32 {
    let (scale, inverse) = scale_of(largest_of(values), SIGNED_LEVELS);
    for (value, byte) in values.iter().zip(bytes) {
        *byte = round_to_byte(*value, inverse);
    }
    scale
}
