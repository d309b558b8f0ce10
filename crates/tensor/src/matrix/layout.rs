//! Where everything lies in a packed tile: 16 output rows, all their columns.
//!
//! A quantised tile holds the quants of its blocks of 32 columns one after the other, then the scale records.
//! Within a block, columns are taken four at a time (`group` g = columns 4g … 4g+3); a *vector* of 64 bytes has
//! four bytes for each of the 16 rows. A float tile holds, column after column, one element of each row.
//! Padding rows of the last tile are zero. This file knows no SIMD and no file format.
//!
//! | part | bytes per block | holds |
//! |---|---|---|
//! | nibbles | 4 vectors | vector v: group v in the low halves of its bytes, group v + 4 in the high ones |
//! | fifth bits | 1 vector | bit g of a byte belongs to group g |
//! | bit pairs | 2 vectors | vector h: bits 2j, 2j+1 of a byte belong to group 4h + j |
//! | bytes | 8 vectors | vector g: group g |

use crate::Dtype;

/// Output rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Columns of a block of a quantised tile.
pub(crate) const BLOCK_COLUMNS: usize = 32;
/// Bytes of a vector: four bytes for each row.
pub(crate) const VECTOR: usize = 4 * TILE_ROWS;
/// Blocks that share one scale record in the K types.
pub(crate) const SUPER_BLOCKS: usize = 8;

/// Bytes of the nibbles of a block.
pub(crate) const NIBBLES_BYTES: usize = 4 * VECTOR;
/// Bytes of the quants of a 5-bit block.
pub(crate) const FIVE_BITS_BYTES: usize = NIBBLES_BYTES + VECTOR;
/// Bytes of the quants of a 6-bit block.
pub(crate) const SIX_BITS_BYTES: usize = NIBBLES_BYTES + 2 * VECTOR;
/// Bytes of the quants of an 8-bit block.
pub(crate) const EIGHT_BITS_BYTES: usize = 8 * VECTOR;

/// Scale record of one block: 16 f16 scales.
pub(crate) const SCALE_RECORD: usize = 2 * TILE_ROWS;
/// Scale record of one block: 16 f16 scales, 16 f16 minimums.
pub(crate) const MINIMUM_RECORD: usize = 2 * SCALE_RECORD;
/// Scale record of eight blocks of Q4_K and Q5_K: for each block 16 scales and 16 minimums of one byte, then 16
/// f16 scales of scales and 16 f16 scales of minimums.
pub(crate) const SUPER_RECORD: usize = SUPER_BLOCKS * 2 * TILE_ROWS + 2 * SCALE_RECORD;
/// Scale record of eight blocks of Q6_K: for each half block 16 signed scales of one byte, then 16 f16 scales
/// of scales.
pub(crate) const SIXTEENTHS_RECORD: usize = SUPER_BLOCKS * 2 * TILE_ROWS + SCALE_RECORD;

/// Scale record of eight blocks of IQ4_XS: for each block 16 signed scales of one byte, then 16 f16 scales of scales.
pub(crate) const SIGNED_RECORD: usize = SUPER_BLOCKS * TILE_ROWS + SCALE_RECORD;
/// Scale record of one block of MXFP4: 16 f32 scales, because an f16 does not reach as far as its exponent.
pub(crate) const FLOAT_RECORD: usize = 4 * TILE_ROWS;

/// Sizes of the parts of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileLayout {
    /// Offset of the first scale record (0 for float types).
    pub(crate) scales: usize,
    /// Bytes of the tile, a multiple of 64.
    pub(crate) bytes: usize,
}

impl TileLayout {
    /// The layout of a tile of `columns` columns; `None` when its size overflows.
    pub(crate) fn new(dtype: Dtype, columns: usize) -> Option<TileLayout> {
        let (quants, record, record_columns) = match dtype {
            Dtype::F32 => return TileLayout::floats(4, columns),
            Dtype::F16 | Dtype::Bf16 => return TileLayout::floats(2, columns),
            Dtype::Q4_0 => (NIBBLES_BYTES, SCALE_RECORD, BLOCK_COLUMNS),
            Dtype::Q4_1 => (NIBBLES_BYTES, MINIMUM_RECORD, BLOCK_COLUMNS),
            Dtype::Q5_0 => (FIVE_BITS_BYTES, SCALE_RECORD, BLOCK_COLUMNS),
            Dtype::Q5_1 => (FIVE_BITS_BYTES, MINIMUM_RECORD, BLOCK_COLUMNS),
            Dtype::Q8_0 => (EIGHT_BITS_BYTES, SCALE_RECORD, BLOCK_COLUMNS),
            Dtype::Q4K => (NIBBLES_BYTES, SUPER_RECORD, SUPER_BLOCKS * BLOCK_COLUMNS),
            Dtype::Q5K => (FIVE_BITS_BYTES, SUPER_RECORD, SUPER_BLOCKS * BLOCK_COLUMNS),
            Dtype::Q6K => (SIX_BITS_BYTES, SIXTEENTHS_RECORD, SUPER_BLOCKS * BLOCK_COLUMNS),
            Dtype::Iq4Nl => (NIBBLES_BYTES, SCALE_RECORD, BLOCK_COLUMNS),
            Dtype::Iq4Xs => (NIBBLES_BYTES, SIGNED_RECORD, SUPER_BLOCKS * BLOCK_COLUMNS),
            Dtype::Mxfp4 => (NIBBLES_BYTES, FLOAT_RECORD, BLOCK_COLUMNS),
        };
        let scales = (columns / BLOCK_COLUMNS).checked_mul(quants)?;
        let records = (columns / record_columns).checked_mul(record)?;
        Some(TileLayout { scales, bytes: scales.checked_add(records)?.checked_next_multiple_of(VECTOR)? })
    }

    fn floats(element: usize, columns: usize) -> Option<TileLayout> {
        let bytes = columns.checked_mul(element * TILE_ROWS)?.checked_next_multiple_of(VECTOR)?;
        Some(TileLayout { scales: 0, bytes })
    }
}

/// Offset of byte `i` of a 32-column block of row `lane` within vectors of whole groups: `i / 4` is the vector.
pub(crate) fn byte_offset(lane: usize, i: usize) -> usize {
    i / 4 * VECTOR + lane * 4 + i % 4
}
