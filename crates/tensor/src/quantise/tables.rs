//! Types whose 4 bits number the values of a table: the nearest value for the scale as stored.

use super::{finite_f16, inverse};
use crate::dequantise::{FOUR_BIT_FLOATS, NON_LINEAR, power_of_two};
use half::f16;

/// The element of the largest magnitude is mapped to the table's largest, −127.
pub(super) fn iq4_nl(block: &[f32; 32]) -> Option<[u8; 18]> {
    let scale = finite_f16(least_scale(block)?)?;
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&scale);
    put_nearest(block, f16::from_le_bytes(scale).to_f32(), &NON_LINEAR, &mut bytes[2..]);
    Some(bytes)
}

/// As [`iq4_nl`]; the scales of the sub-blocks are 6-bit multiples of the super-block's.
pub(super) fn iq4_xs(block: &[f32; 256]) -> Option<[u8; 136]> {
    let mut wanted = [0.0_f32; 8];
    for (wanted, sub) in wanted.iter_mut().zip(block.as_chunks::<32>().0) {
        *wanted = least_scale(sub)?;
    }
    let largest = wanted.iter().fold(0.0_f32, |largest, scale| largest.max(scale.abs()));
    let super_scale = finite_f16(largest / 31.0)?;
    let mut bytes = [0; 136];
    bytes[..2].copy_from_slice(&super_scale);
    let super_scale = f16::from_le_bytes(super_scale).to_f32();
    let mut upper = 0_u16;
    for (sub, values) in block.as_chunks::<32>().0.iter().enumerate() {
        let small = (wanted[sub] * inverse(super_scale)).round().clamp(-32.0, 31.0);
        let stored = (small as i32 + 32) as u8;
        bytes[4 + sub / 2] |= (stored & 0x0F) << (4 * (sub % 2));
        upper |= u16::from(stored >> 4) << (2 * sub);
        put_nearest(values, super_scale * small, &NON_LINEAR, &mut bytes[8 + 16 * sub..][..16]);
    }
    bytes[2..4].copy_from_slice(&upper.to_le_bytes());
    Some(bytes)
}

/// The exponent is that of the largest magnitude, whose float then is 4 or 6.
pub(super) fn mxfp4(block: &[f32; 32]) -> Option<[u8; 17]> {
    let largest = magnitude(block)?;
    let exponent =
        if largest > 0.0 { (largest.log2().floor() - 2.0 + 127.0).clamp(0.0, 255.0) as u8 } else { 0 };
    let mut bytes = [0; 17];
    bytes[0] = exponent;
    put_nearest(block, power_of_two(exponent), &FOUR_BIT_FLOATS, &mut bytes[1..]);
    Some(bytes)
}

/// The largest magnitude, if every element is finite.
fn magnitude(block: &[f32; 32]) -> Option<f32> {
    let finite = block.iter().all(|x| x.is_finite());
    finite.then(|| block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())))
}

/// The scale for which the element of the largest magnitude is −127.
fn least_scale(block: &[f32; 32]) -> Option<f32> {
    let largest = magnitude(block)?;
    let negative = block.iter().find(|x| x.abs() == largest).is_some_and(|x| *x < 0.0);
    Some(if negative { largest / 127.0 } else { largest / -127.0 })
}

/// Writes the numbers of the nearest table values, the first of equally near ones.
fn put_nearest(block: &[f32; 32], scale: f32, table: &[i8; 16], bytes: &mut [u8]) {
    for (i, x) in block.iter().enumerate() {
        let distance = |quant: u8| (scale * f32::from(table[usize::from(quant)]) - x).abs();
        let nearest =
            (1..16).fold(0, |best, quant| if distance(quant) < distance(best) { quant } else { best });
        bytes[i % 16] |= nearest << (4 * (i / 16));
    }
}
