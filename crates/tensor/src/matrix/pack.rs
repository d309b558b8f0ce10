//! From file blocks to packed tiles, one function per type. The inverse, for single rows, is in `row.rs`.

use super::layout::*;
use crate::Dtype;
use crate::dequantise::{iq4_xs_scales, power_of_two, scales_and_minimums};

/// Writes one row (its file blocks) into lane `lane` of a zeroed tile.
pub(super) fn pack_row(dtype: Dtype, blocks: &[u8], lane: usize, layout: TileLayout, tile: &mut [u8]) {
    let lane = Lane { lane, layout, tile };
    match dtype {
        Dtype::F32 => lane.floats::<4>(blocks),
        Dtype::F16 | Dtype::Bf16 => lane.floats::<2>(blocks),
        Dtype::Q4_0 | Dtype::Iq4Nl => lane.each::<18>(blocks, |lane, block, bytes| {
            lane.scale(block, 0, SCALE_RECORD, &bytes[..2]);
            lane.nibbles(block, NIBBLES_BYTES, &bytes[2..]);
        }),
        Dtype::Q4_1 => lane.each::<20>(blocks, |lane, block, bytes| {
            lane.scale(block, 0, MINIMUM_RECORD, &bytes[..2]);
            lane.scale(block, SCALE_RECORD, MINIMUM_RECORD, &bytes[2..4]);
            lane.nibbles(block, NIBBLES_BYTES, &bytes[4..]);
        }),
        Dtype::Q5_0 => lane.each::<22>(blocks, |lane, block, bytes| {
            lane.scale(block, 0, SCALE_RECORD, &bytes[..2]);
            lane.fifth_bits(block, |i| bytes[2 + i / 8] >> (i % 8) & 1);
            lane.nibbles(block, FIVE_BITS_BYTES, &bytes[6..]);
        }),
        Dtype::Q5_1 => lane.each::<24>(blocks, |lane, block, bytes| {
            lane.scale(block, 0, MINIMUM_RECORD, &bytes[..2]);
            lane.scale(block, SCALE_RECORD, MINIMUM_RECORD, &bytes[2..4]);
            lane.fifth_bits(block, |i| bytes[4 + i / 8] >> (i % 8) & 1);
            lane.nibbles(block, FIVE_BITS_BYTES, &bytes[8..]);
        }),
        Dtype::Q8_0 => lane.each::<34>(blocks, |lane, block, bytes| {
            lane.scale(block, 0, SCALE_RECORD, &bytes[..2]);
            for (i, &byte) in bytes[2..].iter().enumerate() {
                // Stored as q + 128, unsigned.
                lane.tile[block * EIGHT_BITS_BYTES + byte_offset(lane.lane, i)] = byte ^ 0x80;
            }
        }),
        Dtype::Q4K => lane.each::<144>(blocks, |lane, record, bytes| {
            lane.super_scales(record, bytes);
            for sub in 0..SUPER_BLOCKS {
                let nibbles = sub_nibbles(&bytes[16..], sub);
                lane.nibbles(record * SUPER_BLOCKS + sub, NIBBLES_BYTES, &nibbles);
            }
        }),
        Dtype::Q5K => lane.each::<176>(blocks, |lane, record, bytes| {
            lane.super_scales(record, bytes);
            for sub in 0..SUPER_BLOCKS {
                let block = record * SUPER_BLOCKS + sub;
                lane.fifth_bits(block, |i| bytes[16 + i] >> sub & 1);
                lane.nibbles(block, FIVE_BITS_BYTES, &sub_nibbles(&bytes[48..], sub));
            }
        }),
        Dtype::Q6K => lane.each::<210>(blocks, pack_q6_k),
        Dtype::Iq4Xs => lane.each::<136>(blocks, pack_iq4_xs),
        Dtype::Mxfp4 => lane.each::<17>(blocks, |lane, block, bytes| {
            let at = lane.layout.scales + block * FLOAT_RECORD + 4 * lane.lane;
            lane.tile[at..at + 4].copy_from_slice(&power_of_two(bytes[0]).to_le_bytes());
            lane.nibbles(block, NIBBLES_BYTES, &bytes[1..]);
        }),
    }
}

/// The row of a tile that is being written.
struct Lane<'a> {
    lane: usize,
    layout: TileLayout,
    tile: &'a mut [u8],
}

impl Lane<'_> {
    fn each<const BYTES: usize>(mut self, blocks: &[u8], pack: impl Fn(&mut Self, usize, &[u8; BYTES])) {
        for (block, bytes) in blocks.as_chunks::<BYTES>().0.iter().enumerate() {
            pack(&mut self, block, bytes);
        }
    }

    fn floats<const BYTES: usize>(self, elements: &[u8]) {
        let columns = self.tile.chunks_exact_mut(BYTES * TILE_ROWS);
        for (element, column) in elements.as_chunks::<BYTES>().0.iter().zip(columns) {
            column[self.lane * BYTES..][..BYTES].copy_from_slice(element);
        }
    }

    /// Writes an f16 at `part` of scale record `record`.
    fn scale(&mut self, record: usize, part: usize, record_bytes: usize, f16: &[u8]) {
        let at = self.layout.scales + record * record_bytes + part + 2 * self.lane;
        self.tile[at..at + 2].copy_from_slice(f16);
    }

    /// Writes 16 bytes whose low halves are columns 0–15 and whose high halves are columns 16–31.
    fn nibbles(&mut self, block: usize, block_bytes: usize, nibbles: &[u8]) {
        for (group, four) in nibbles.as_chunks::<4>().0.iter().enumerate() {
            let at = block * block_bytes + byte_offset(self.lane, 4 * group);
            self.tile[at..at + 4].copy_from_slice(four);
        }
    }

    /// Writes the fifth bit of each column.
    fn fifth_bits(&mut self, block: usize, bit: impl Fn(usize) -> u8) {
        for i in 0..4 {
            let byte = (0..8).fold(0, |byte, group| byte | bit(4 * group + i) << group);
            self.tile[block * FIVE_BITS_BYTES + NIBBLES_BYTES + byte_offset(self.lane, i)] = byte;
        }
    }

    /// Writes the scales of a Q4_K or Q5_K super-block.
    fn super_scales(&mut self, record: usize, bytes: &[u8]) {
        const SUPERS: usize = SUPER_BLOCKS * 2 * TILE_ROWS;
        let (scales, minimums) = scales_and_minimums(&bytes[4..16]);
        let at = self.layout.scales + record * SUPER_RECORD + self.lane;
        for sub in 0..SUPER_BLOCKS {
            self.tile[at + sub * 2 * TILE_ROWS] = scales[sub];
            self.tile[at + sub * 2 * TILE_ROWS + TILE_ROWS] = minimums[sub];
        }
        self.scale(record, SUPERS, SUPER_RECORD, &bytes[0..2]);
        self.scale(record, SUPERS + SCALE_RECORD, SUPER_RECORD, &bytes[2..4]);
    }
}

/// The nibbles of sub-block `sub`, whose 32 columns lie in one half of 32 file bytes, in the order that
/// [`Lane::nibbles`] takes.
fn sub_nibbles(bytes: &[u8], sub: usize) -> [u8; 16] {
    let (first, second) = bytes[sub / 2 * 32..][..32].split_at(16);
    std::array::from_fn(|i| {
        if sub.is_multiple_of(2) {
            first[i] & 0x0F | second[i] << 4
        } else {
            first[i] >> 4 | second[i] & 0xF0
        }
    })
}

fn pack_q6_k(lane: &mut Lane<'_>, record: usize, bytes: &[u8; 210]) {
    let (nibbles, pairs, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    for sub in 0..SUPER_BLOCKS {
        let block = record * SUPER_BLOCKS + sub;
        // A half of 128 columns has 64 bytes of nibbles: low halves for its first two sub-blocks, high halves
        // for the other two.
        let low = |column: usize| {
            let byte = nibbles[sub / 4 * 64 + sub % 2 * 32 + column];
            if sub % 4 < 2 { byte & 0x0F } else { byte >> 4 }
        };
        lane.nibbles(block, SIX_BITS_BYTES, &std::array::from_fn::<u8, 16, _>(|i| low(i) | low(16 + i) << 4));
        let pair = |column: usize| pairs[sub / 4 * 32 + column] >> (2 * (sub % 4)) & 3;
        for i in 0..8 {
            let (half, within) = (i / 4, i % 4);
            let byte = (0..4).fold(0, |byte, j| byte | pair(4 * (4 * half + j) + within) << (2 * j));
            lane.tile[block * SIX_BITS_BYTES + NIBBLES_BYTES + byte_offset(lane.lane, i)] = byte;
        }
    }
    let at = lane.layout.scales + record * SIXTEENTHS_RECORD + lane.lane;
    for (i, &scale) in scales.iter().enumerate() {
        lane.tile[at + i * TILE_ROWS] = scale;
    }
    lane.scale(record, SUPER_BLOCKS * 2 * TILE_ROWS, SIXTEENTHS_RECORD, &bytes[208..210]);
}

fn pack_iq4_xs(lane: &mut Lane<'_>, record: usize, bytes: &[u8; 136]) {
    let at = lane.layout.scales + record * SIGNED_RECORD + lane.lane;
    for (sub, scale) in iq4_xs_scales(bytes).into_iter().enumerate() {
        lane.tile[at + sub * TILE_ROWS] = scale.cast_unsigned();
        lane.nibbles(record * SUPER_BLOCKS + sub, NIBBLES_BYTES, &bytes[8 + 16 * sub..][..16]);
    }
    lane.scale(record, SUPER_BLOCKS * TILE_ROWS, SIGNED_RECORD, &bytes[..2]);
}
