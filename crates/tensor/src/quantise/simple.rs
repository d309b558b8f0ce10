//! Types with one f16 scale (and perhaps one f16 minimum) per 32 elements.

use super::{finite_f16, inverse};

/// The element of the largest magnitude (the first of equals) is mapped to the lowest quant.
pub(super) fn q4_0(block: &[f32; 32]) -> Option<[u8; 18]> {
    let scale = largest(block) / -8.0;
    let factor = inverse(scale);
    let quant = |x: f32| ((x * factor + 8.5) as u8).min(15);
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&finite_f16(scale)?);
    put_nibbles(&block.map(quant), &mut bytes[2..]);
    Some(bytes)
}

/// The range of the block is divided into 15 steps.
pub(super) fn q4_1(block: &[f32; 32]) -> Option<[u8; 20]> {
    let (minimum, maximum) = range(block)?;
    let scale = (maximum - minimum) / 15.0;
    let factor = inverse(scale);
    let quant = |x: f32| (((x - minimum) * factor + 0.5) as u8).min(15);
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&finite_f16(scale)?);
    bytes[2..4].copy_from_slice(&finite_f16(minimum)?);
    put_nibbles(&block.map(quant), &mut bytes[4..]);
    Some(bytes)
}

/// As [`q4_0`], with 32 quants.
pub(super) fn q5_0(block: &[f32; 32]) -> Option<[u8; 22]> {
    let scale = largest(block) / -16.0;
    let factor = inverse(scale);
    let quants = block.map(|x| ((x * factor + 16.5) as u8).min(31));
    let mut bytes = [0; 22];
    bytes[..2].copy_from_slice(&finite_f16(scale)?);
    bytes[2..6].copy_from_slice(&fifth_bits(&quants));
    put_nibbles(&quants, &mut bytes[6..]);
    Some(bytes)
}

/// As [`q4_1`], with 31 steps.
pub(super) fn q5_1(block: &[f32; 32]) -> Option<[u8; 24]> {
    let (minimum, maximum) = range(block)?;
    let scale = (maximum - minimum) / 31.0;
    let factor = inverse(scale);
    let quants = block.map(|x| (((x - minimum) * factor + 0.5) as u8).min(31));
    let mut bytes = [0; 24];
    bytes[..2].copy_from_slice(&finite_f16(scale)?);
    bytes[2..4].copy_from_slice(&finite_f16(minimum)?);
    bytes[4..8].copy_from_slice(&fifth_bits(&quants));
    put_nibbles(&quants, &mut bytes[8..]);
    Some(bytes)
}

/// The largest magnitude is mapped to 127, halves are rounded away from zero.
pub(super) fn q8_0(block: &[f32; 32]) -> Option<[u8; 34]> {
    let scale = largest(block).abs() / 127.0;
    let factor = inverse(scale);
    let mut bytes = [0; 34];
    bytes[..2].copy_from_slice(&finite_f16(scale)?);
    for (byte, x) in bytes[2..].iter_mut().zip(block) {
        *byte = ((x * factor).round() as i8).cast_unsigned();
    }
    Some(bytes)
}

/// The first of the elements of the largest magnitude, sign included; NaN when there is one.
fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest: f32, &x| if x.abs() > largest.abs() || x.is_nan() { x } else { largest })
}

/// The least and the greatest element, unless there is a NaN.
fn range(block: &[f32]) -> Option<(f32, f32)> {
    let ends = (f32::INFINITY, f32::NEG_INFINITY);
    let (minimum, maximum) = block.iter().fold(ends, |(min, max), &x| (min.min(x), max.max(x)));
    (!block.iter().any(|x| x.is_nan())).then_some((minimum, maximum))
}

/// Low halves are elements 0–15, high halves are elements 16–31.
fn put_nibbles(quants: &[u8; 32], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = quants[i] & 0x0F | quants[16 + i] << 4;
    }
}

fn fifth_bits(quants: &[u8; 32]) -> [u8; 4] {
    let bits = quants.iter().enumerate().fold(0, |bits, (i, &quant)| bits | u32::from(quant >> 4 & 1) << i);
    bits.to_le_bytes()
}
