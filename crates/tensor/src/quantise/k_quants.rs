//! The K types: each sub-block's range becomes a small scale (and minimum), which the super-block's f16 numbers
//! scale in turn. The quants are chosen for the scales as stored. The search for better scales that some
//! quantisers add is not done here.

use super::{finite_f16, inverse};
use half::f16;

pub(super) fn q4_k(block: &[f32; 256]) -> Option<[u8; 144]> {
    let with_minimums = WithMinimums::new(block, 15)?;
    let mut bytes = [0; 144];
    bytes[..16].copy_from_slice(&with_minimums.header);
    put_sub_nibbles(&with_minimums.quants, &mut bytes[16..]);
    Some(bytes)
}

pub(super) fn q5_k(block: &[f32; 256]) -> Option<[u8; 176]> {
    let with_minimums = WithMinimums::new(block, 31)?;
    let mut bytes = [0; 176];
    bytes[..16].copy_from_slice(&with_minimums.header);
    for (i, &quant) in with_minimums.quants.iter().enumerate() {
        bytes[16 + i % 32] |= (quant >> 4) << (i / 32);
    }
    put_sub_nibbles(&with_minimums.quants, &mut bytes[48..]);
    Some(bytes)
}

pub(super) fn q6_k(block: &[f32; 256]) -> Option<[u8; 210]> {
    let mut largest = [0.0_f32; 16];
    for (largest, sub) in largest.iter_mut().zip(block.as_chunks::<16>().0) {
        if sub.iter().any(|x| !x.is_finite()) {
            return None;
        }
        *largest = sub.iter().fold(0.0, |largest, x| x.abs().max(largest));
    }
    // Quants reach from −32 to 31.
    let super_scale = largest.iter().fold(0.0_f32, |max, &x| max.max(x)) / (31.0 * 127.0);
    let scale_bytes = finite_f16(super_scale)?;
    let super_scale = f16::from_le_bytes(scale_bytes).to_f32();
    let mut bytes = [0; 210];
    bytes[208..].copy_from_slice(&scale_bytes);
    for (sub, values) in block.as_chunks::<16>().0.iter().enumerate() {
        let small = (largest[sub] / 31.0 * inverse(super_scale)).round().min(127.0) as i8;
        bytes[192 + sub] = small.cast_unsigned();
        let factor = inverse(super_scale * f32::from(small));
        for (i, x) in values.iter().enumerate() {
            let quant = (x * factor).round().clamp(-32.0, 31.0) as i32 + 32;
            let (half, within) = (sub / 8, (sub % 8) * 16 + i);
            bytes[half * 64 + within % 64] |= (quant & 0x0F) as u8 * if within < 64 { 1 } else { 16 };
            bytes[128 + half * 32 + within % 32] |= ((quant >> 4) as u8) << (2 * (within / 32));
        }
    }
    Some(bytes)
}

/// Scales, minimums and quants of Q4_K and Q5_K.
struct WithMinimums {
    header: [u8; 16],
    quants: [u8; 256],
}

impl WithMinimums {
    fn new(block: &[f32; 256], steps: u8) -> Option<WithMinimums> {
        if block.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mut scales = [0.0_f32; 8];
        let mut minimums = [0.0_f32; 8];
        for (sub, values) in block.as_chunks::<32>().0.iter().enumerate() {
            // The minimum is subtracted and cannot be negative.
            let (least, greatest) = values.iter().fold((0.0_f32, 0.0_f32), |(l, g), &x| (l.min(x), g.max(x)));
            scales[sub] = greatest / f32::from(steps) - least / f32::from(steps);
            minimums[sub] = -least;
        }
        let of_63 = |values: &[f32; 8]| finite_f16(values.iter().fold(0.0_f32, |max, &x| max.max(x)) / 63.0);
        let (scale_bytes, minimum_bytes) = (of_63(&scales)?, of_63(&minimums)?);
        let (scale, minimum) =
            (f16::from_le_bytes(scale_bytes).to_f32(), f16::from_le_bytes(minimum_bytes).to_f32());
        let small = |value: f32, unit: f32| (value * inverse(unit)).round().min(63.0) as u8;
        let scales = scales.map(|value| small(value, scale));
        let minimums = minimums.map(|value| small(value, minimum));
        let mut quants = [0; 256];
        for (i, (quant, x)) in quants.iter_mut().zip(block).enumerate() {
            let step = scale * f32::from(scales[i / 32]);
            let offset = minimum * f32::from(minimums[i / 32]);
            *quant = ((x + offset) * inverse(step)).round().clamp(0.0, f32::from(steps)) as u8;
        }
        let mut header = [0; 16];
        header[..2].copy_from_slice(&scale_bytes);
        header[2..4].copy_from_slice(&minimum_bytes);
        for i in 0..4 {
            header[4 + i] = scales[i] | scales[4 + i] >> 4 << 6;
            header[8 + i] = minimums[i] | minimums[4 + i] >> 4 << 6;
            header[12 + i] = scales[4 + i] & 0x0F | minimums[4 + i] << 4;
        }
        Some(WithMinimums { header, quants })
    }
}

/// Each 32 bytes hold two sub-blocks: low halves, then high halves.
fn put_sub_nibbles(quants: &[u8; 256], bytes: &mut [u8]) {
    for (i, &quant) in quants.iter().enumerate() {
        let (pair, within) = (i / 64, i % 64);
        bytes[pair * 32 + within % 32] |= (quant & 0x0F) * if within < 32 { 1 } else { 16 };
    }
}
