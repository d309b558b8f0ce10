//! One row of a packed tile back as f32, bit-equal to `dequantise` of its file blocks.

use super::layout::*;
use crate::Dtype;
use crate::dequantise::{FOUR_BIT_FLOATS, NON_LINEAR};
use half::{bf16, f16};

/// Expands lane `lane` of a tile into `out`.
pub(super) fn unpack_row(dtype: Dtype, tile: &[u8], layout: TileLayout, lane: usize, out: &mut [f32]) {
    let (quants, scales) = tile.split_at(layout.scales);
    let lane = Lane { lane, quants, scales };
    match dtype {
        Dtype::F32 => lane.floats::<4>(out, f32::from_le_bytes),
        Dtype::F16 => lane.floats::<2>(out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::Bf16 => lane.floats::<2>(out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::Q4_0 => lane.centred(out, 8.0, |block, i| lane.nibble(NIBBLES_BYTES, block, i)),
        Dtype::Q5_0 => lane.centred(out, 16.0, |block, i| lane.five_bits(block, i)),
        Dtype::Q8_0 => lane.centred(out, 128.0, |block, i| {
            lane.quants[block * EIGHT_BITS_BYTES + byte_offset(lane.lane, i)]
        }),
        Dtype::Q4_1 => lane.with_minimum(out, |block, i| lane.nibble(NIBBLES_BYTES, block, i)),
        Dtype::Q5_1 => lane.with_minimum(out, |block, i| lane.five_bits(block, i)),
        Dtype::Q4K => lane.super_scaled(out, |block, i| lane.nibble(NIBBLES_BYTES, block, i)),
        Dtype::Q5K => lane.super_scaled(out, |block, i| lane.five_bits(block, i)),
        Dtype::Q6K => lane.sixteenths(out),
        Dtype::Iq4Nl => lane.tabled(out, &NON_LINEAR, |block| lane.f16_at(block * SCALE_RECORD)),
        Dtype::Iq4Xs => lane.tabled(out, &NON_LINEAR, |block| {
            let record = block / SUPER_BLOCKS * SIGNED_RECORD;
            let small = lane.scales[record + block % SUPER_BLOCKS * TILE_ROWS + lane.lane].cast_signed();
            lane.f16_at(record + SUPER_BLOCKS * TILE_ROWS) * f32::from(small)
        }),
        Dtype::Mxfp4 => lane.tabled(out, &FOUR_BIT_FLOATS, |block| {
            let (scales, _) = lane.scales[block * FLOAT_RECORD..][..FLOAT_RECORD].as_chunks::<4>();
            f32::from_le_bytes(scales[lane.lane])
        }),
    }
}

struct Lane<'a> {
    lane: usize,
    quants: &'a [u8],
    scales: &'a [u8],
}

impl Lane<'_> {
    fn floats<const BYTES: usize>(&self, out: &mut [f32], convert: impl Fn([u8; BYTES]) -> f32) {
        // Float tiles have no scales: the whole tile is behind the split.
        for (out, column) in out.iter_mut().zip(self.scales.chunks_exact(BYTES * TILE_ROWS)) {
            *out = convert(column.as_chunks::<BYTES>().0[self.lane]);
        }
    }

    fn nibble(&self, block_bytes: usize, block: usize, column: usize) -> u8 {
        let byte = self.quants[block * block_bytes + byte_offset(self.lane, column % 16)];
        if column < 16 { byte & 0x0F } else { byte >> 4 }
    }

    fn five_bits(&self, block: usize, column: usize) -> u8 {
        let at = block * FIVE_BITS_BYTES + NIBBLES_BYTES + byte_offset(self.lane, column % 4);
        self.nibble(FIVE_BITS_BYTES, block, column) | (self.quants[at] >> (column / 4) & 1) << 4
    }

    fn six_bits(&self, block: usize, column: usize) -> u8 {
        let (group, within) = (column / 4, column % 4);
        let at = block * SIX_BITS_BYTES + NIBBLES_BYTES + byte_offset(self.lane, group / 4 * 4 + within);
        self.nibble(SIX_BITS_BYTES, block, column) | (self.quants[at] >> (2 * (group % 4)) & 3) << 4
    }

    fn f16_at(&self, offset: usize) -> f32 {
        let at = offset + 2 * self.lane;
        f16::from_le_bytes([self.scales[at], self.scales[at + 1]]).to_f32()
    }

    fn centred(&self, out: &mut [f32], centre: f32, quant: impl Fn(usize, usize) -> u8) {
        for (block, out) in out.as_chunks_mut::<BLOCK_COLUMNS>().0.iter_mut().enumerate() {
            let scale = self.f16_at(block * SCALE_RECORD);
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * (f32::from(quant(block, i)) - centre);
            }
        }
    }

    fn tabled(&self, out: &mut [f32], table: &[i8; 16], scale: impl Fn(usize) -> f32) {
        for (block, out) in out.as_chunks_mut::<BLOCK_COLUMNS>().0.iter_mut().enumerate() {
            let scale = scale(block);
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * f32::from(table[usize::from(self.nibble(NIBBLES_BYTES, block, i))]);
            }
        }
    }

    fn with_minimum(&self, out: &mut [f32], quant: impl Fn(usize, usize) -> u8) {
        for (block, out) in out.as_chunks_mut::<BLOCK_COLUMNS>().0.iter_mut().enumerate() {
            let scale = self.f16_at(block * MINIMUM_RECORD);
            let minimum = self.f16_at(block * MINIMUM_RECORD + SCALE_RECORD);
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * f32::from(quant(block, i)) + minimum;
            }
        }
    }

    fn super_scaled(&self, out: &mut [f32], quant: impl Fn(usize, usize) -> u8) {
        const SUPERS: usize = SUPER_BLOCKS * 2 * TILE_ROWS;
        for (block, out) in out.as_chunks_mut::<BLOCK_COLUMNS>().0.iter_mut().enumerate() {
            let (record, sub) = (block / SUPER_BLOCKS * SUPER_RECORD, block % SUPER_BLOCKS);
            let byte =
                |part: usize| f32::from(self.scales[record + (2 * sub + part) * TILE_ROWS + self.lane]);
            let scale = self.f16_at(record + SUPERS) * byte(0);
            let minimum = self.f16_at(record + SUPERS + SCALE_RECORD) * byte(1);
            for (i, out) in out.iter_mut().enumerate() {
                *out = scale * f32::from(quant(block, i)) - minimum;
            }
        }
    }

    fn sixteenths(&self, out: &mut [f32]) {
        for (sixteenth, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let record = sixteenth / 16 * SIXTEENTHS_RECORD;
            let byte = self.scales[record + sixteenth % 16 * TILE_ROWS + self.lane].cast_signed();
            let scale = self.f16_at(record + SUPER_BLOCKS * 2 * TILE_ROWS) * f32::from(byte);
            for (i, out) in out.iter_mut().enumerate() {
                let quant = self.six_bits(sixteenth / 2, sixteenth % 2 * 16 + i);
                *out = scale * (f32::from(quant) - 32.0);
            }
        }
    }
}
