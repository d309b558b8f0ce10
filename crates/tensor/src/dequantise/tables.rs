//! Types whose 4 bits number the values of a table. Nibbles lie as in `simple.rs`.

use super::half_at;
use super::simple::nibble;

/// The values of IQ4_NL and IQ4_XS: steps that grow with the distance from zero.
pub(crate) const NON_LINEAR: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The values of MXFP4: twice those of a float with one sign bit, two bits of exponent and one of mantissa.
pub(crate) const FOUR_BIT_FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// f16 scale, 16 bytes of nibbles: `d·t[q]`.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    scaled(half_at(block, 0), &NON_LINEAR, &block[2..], out);
}

/// f16 scale, 16 upper bit pairs of the scales, their eight lower nibbles, 8 × 16 bytes of nibbles.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let scale = half_at(block, 0);
    let scales = iq4_xs_scales(block);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        scaled(scale * f32::from(scales[sub]), &NON_LINEAR, &block[8 + 16 * sub..], out);
    }
}

/// The eight small scales of an IQ4_XS super-block, −32 to 31.
pub(crate) fn iq4_xs_scales(block: &[u8; 136]) -> [i8; 8] {
    let upper = u16::from_le_bytes([block[2], block[3]]);
    std::array::from_fn(|sub| {
        let low = block[4 + sub / 2] >> (4 * (sub % 2)) & 0x0F;
        let high = (upper >> (2 * sub) & 3) as u8;
        (low | high << 4).cast_signed() - 32
    })
}

/// 8-bit exponent, 16 bytes of nibbles: `2^(e − 128)·t[q]`.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    scaled(power_of_two(block[0]), &FOUR_BIT_FLOATS, &block[1..], out);
}

/// `2^(exponent − 128)`; the two least are subnormal numbers.
pub(crate) fn power_of_two(exponent: u8) -> f32 {
    let bits = match exponent {
        0 | 1 => 0x0020_0000 << exponent,
        _ => (u32::from(exponent) - 1) << 23,
    };
    f32::from_bits(bits)
}

fn scaled(scale: f32, table: &[i8; 16], nibbles: &[u8], out: &mut [f32; 32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * f32::from(table[usize::from(nibble(nibbles, i))]);
    }
}
