//! Types with one f16 scale (and perhaps one f16 minimum) per 32 elements. Nibbles: the low halves of the 16
//! bytes are elements 0–15, the high halves are elements 16–31.

use super::half_at;

/// f16 scale, 16 bytes of nibbles: `d·(q − 8)`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * (nibble(&block[2..], i) as i32 - 8) as f32;
    }
}

/// f16 scale, f16 minimum, 16 bytes of nibbles: `d·q + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * nibble(&block[4..], i) as f32 + minimum;
    }
}

/// f16 scale, 32 fifth bits, 16 bytes of nibbles: `d·(q − 16)`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | fifth_bit(&block[2..6], i);
        *out = scale * (q as i32 - 16) as f32;
    }
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles: `d·q + m`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | fifth_bit(&block[4..8], i);
        *out = scale * q as f32 + minimum;
    }
}

/// f16 scale, 32 signed bytes: `d·q`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * f32::from(block[2 + i].cast_signed());
    }
}

pub(super) fn nibble(bytes: &[u8], element: usize) -> u8 {
    if element < 16 { bytes[element] & 0x0F } else { bytes[element - 16] >> 4 }
}

fn fifth_bit(bits: &[u8], element: usize) -> u8 {
    (bits[element / 8] >> (element % 8) & 1) << 4
}
