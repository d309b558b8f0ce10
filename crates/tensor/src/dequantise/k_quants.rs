//! The K types: super-blocks of 256 elements whose small integer scales are themselves scaled by f16 numbers.

use super::half_at;

/// f16 scale of scales, f16 scale of minimums, 12 bytes of 6-bit scales and minimums, 128 bytes of nibbles
/// (each 32 bytes hold two sub-blocks of 32: low halves, then high halves): `(d·s)·q − (e·m)`.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    five_bits_or_four(block, &block[16..144], None, out);
}

/// As [`q4_k`], with 32 bytes of fifth bits before the nibbles (bit `s` of byte `i` belongs to element `i` of
/// sub-block `s`).
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    five_bits_or_four(block, &block[48..176], Some(&block[16..48]), out);
}

fn five_bits_or_four(block: &[u8], nibbles: &[u8], fifth_bits: Option<&[u8]>, out: &mut [f32; 256]) {
    let (scale, minimum_scale) = (half_at(block, 0), half_at(block, 2));
    let (scales, minimums) = scales_and_minimums(&block[4..16]);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let d = scale * f32::from(scales[sub]);
        let m = minimum_scale * f32::from(minimums[sub]);
        for (i, out) in out.iter_mut().enumerate() {
            let byte = nibbles[sub / 2 * 32 + i];
            let low = if sub % 2 == 0 { byte & 0x0F } else { byte >> 4 };
            let high = fifth_bits.map_or(0, |bits| (bits[i] >> sub & 1) << 4);
            *out = d * f32::from(low | high) - m;
        }
    }
}

/// Unpacks the eight 6-bit scales and eight 6-bit minimums of a Q4_K or Q5_K super-block from their 12 bytes.
pub(crate) fn scales_and_minimums(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let mut scales = [0; 8];
    let mut minimums = [0; 8];
    for i in 0..4 {
        let (d, m, both) = (packed[i], packed[4 + i], packed[8 + i]);
        scales[i] = d & 0x3F;
        scales[4 + i] = both & 0x0F | d >> 2 & 0x30;
        minimums[i] = m & 0x3F;
        minimums[4 + i] = both >> 4 | m >> 2 & 0x30;
    }
    (scales, minimums)
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 scale of scales:
/// `(d·s)·(q − 32)`. Each half of 128 elements uses 64 bytes of nibbles (low halves are elements 0–63) and
/// 32 bytes of pairs (two bits for each quarter of 32).
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (nibbles, pairs, scales) = (&block[0..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let (half, within) = (i / 128, i % 128);
        let byte = nibbles[half * 64 + within % 64];
        let low = if within < 64 { byte & 0x0F } else { byte >> 4 };
        let high = (pairs[half * 32 + within % 32] >> (2 * (within / 32)) & 3) << 4;
        let d = scale * f32::from(scales[i / 16].cast_signed());
        *out = d * (i32::from(low | high) - 32) as f32;
    }
}
