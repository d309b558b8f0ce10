//! Keys and values in 8 bits, laid out for products of bytes: in a vector of 64 bytes, four consecutive bytes belong to
//! one of sixteen lanes.
//!
//! | part | order | lanes | four bytes | numbers |
//! |---|---|---|---|---|
//! | keys | `[head_dim / 32][32 keys / 16][8]` vectors | keys | dimensions | q + 128, unsigned |
//! | values | `[head_dim / 16][8]` vectors | dimensions | keys | q, signed |
//! | key scales | `[head_dim / 32][32 keys]` f32 | | | rotated key · normalisation ≈ scale · q |
//! | value scales | `[32 keys]` f32 | | | value ≈ scale · q |
//!
//! What is rounded of a key is its difference from the head's centre (see [`super::KvCache::set_key_centres`]), rotated
//! (see [`crate::rotation`]): single dimensions of keys are often far larger than the others, and would leave those that
//! share a scale with them hardly any levels. A rotated key has one scale for each 32 dimensions; a value has one scale,
//! which attention multiplies with the value's weight before that is rounded in its turn.

use super::{PAGE_TOKENS, RowsToWrite};
use crate::lanes::{LANES, LaneKernel, Lanes};
use crate::rotation::{self, WIDEST};
use crate::rounding;
use crate::zeroed::{as_bytes, as_bytes_mut};

/// Dimensions of a key that share a scale.
pub(crate) const KEY_BLOCK: usize = 32;
/// Bytes of a vector.
const VECTOR: usize = 4 * LANES;
/// Vectors of [`KEY_BLOCK`] dimensions of sixteen keys, and of sixteen dimensions of all the values of a page.
pub(crate) const GROUPS: usize = 8;
const _: () = assert!(KEY_BLOCK == 4 * GROUPS && PAGE_TOKENS == 4 * GROUPS);

/// The keys and values of one page, layer and head.
#[derive(Clone, Copy)]
pub(crate) struct EightBitBlock<'a> {
    pub(crate) keys: &'a [[u8; VECTOR]],
    pub(crate) values: &'a [[u8; VECTOR]],
    pub(crate) key_scales: &'a [[f32; PAGE_TOKENS]],
    pub(crate) value_scales: &'a [f32],
}

/// f32 that the keys' bytes take; the values take as many.
fn quants_elements(head_dim: usize) -> usize {
    head_dim * PAGE_TOKENS / size_of::<f32>()
}

impl EightBitBlock<'_> {
    /// Size of a block, in f32; `None` when it overflows.
    pub(super) fn elements(head_dim: usize) -> Option<usize> {
        let quants = head_dim.checked_mul(2 * PAGE_TOKENS)? / size_of::<f32>();
        quants.checked_add((head_dim / KEY_BLOCK + 1).checked_mul(PAGE_TOKENS)?)
    }

    /// The parts of `block`.
    pub(super) fn new(block: &[f32], head_dim: usize) -> EightBitBlock<'_> {
        let (keys, rest) = block.split_at(quants_elements(head_dim));
        let (values, scales) = rest.split_at(quants_elements(head_dim));
        let (key_scales, value_scales) = scales.split_at(scales.len() - PAGE_TOKENS);
        EightBitBlock {
            keys: as_bytes(keys).as_chunks().0,
            values: as_bytes(values).as_chunks().0,
            key_scales: key_scales.as_chunks().0,
            value_scales,
        }
    }

    /// The signed numbers of a key, one by one.
    pub(crate) fn key(&self, dimension: usize, key: usize) -> i32 {
        let (vector, byte) = place_of_key(dimension, key);
        i32::from(self.keys[vector][byte]) - 128
    }

    /// The signed numbers of a value, one by one.
    pub(crate) fn value(&self, dimension: usize, key: usize) -> i32 {
        let (vector, byte) = place_of_value(dimension, key);
        i32::from(self.values[vector][byte].cast_signed())
    }
}

/// Vector and byte of a key's number.
#[inline(always)]
fn place_of_key(dimension: usize, key: usize) -> (usize, usize) {
    let vectors = PAGE_TOKENS / LANES;
    let vector = (dimension / KEY_BLOCK * vectors + key / LANES) * GROUPS + dimension % KEY_BLOCK / 4;
    (vector, key % LANES * 4 + dimension % 4)
}

/// Vector and byte of a value's number.
#[inline(always)]
fn place_of_value(dimension: usize, key: usize) -> (usize, usize) {
    (dimension / LANES * GROUPS + key / 4, dimension % LANES * 4 + key % 4)
}

/// Rounds rows to 8 bits and puts them into a block.
pub(super) struct WriteEightBits<'a> {
    pub(super) rows: RowsToWrite<'a>,
    pub(super) block: &'a mut [f32],
}

impl LaneKernel for WriteEightBits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        self.write(
            #[inline(always)]
            |key| rotation::rotate(lanes, key),
            #[inline(always)]
            |values, bytes| rounding::quantise(lanes, values, bytes),
        );
    }

    fn reference(self) {
        self.write(rotation::rotate_reference, rounding::quantise_reference);
    }
}

impl WriteEightBits<'_> {
    #[inline(always)]
    fn write(self, rotate: impl Fn(&mut [f32]), quantise: impl Fn(&[f32], &mut [u8]) -> f32) {
        let head_dim = self.rows.shape.head_dim;
        let (keys, rest) = self.block.split_at_mut(quants_elements(head_dim));
        let (values, scales) = rest.split_at_mut(quants_elements(head_dim));
        let (key_scales, value_scales) = scales.split_at_mut(scales.len() - PAGE_TOKENS);
        let keys = as_bytes_mut(keys).as_chunks_mut::<VECTOR>().0;
        let values = as_bytes_mut(values).as_chunks_mut::<VECTOR>().0;
        let normalisation = rotation::normalisation(head_dim);
        let mut bytes = [0; KEY_BLOCK];
        let mut rotated = [0.0; WIDEST];
        let rotated = &mut rotated[..head_dim];
        for index in 0..self.rows.count() {
            let (slot, key, value) = self.rows.row(index);
            for ((rotated, key), centre) in rotated.iter_mut().zip(key).zip(self.rows.key_centre) {
                *rotated = key - centre;
            }
            rotate(rotated);
            for (block, dimensions) in rotated.as_chunks::<KEY_BLOCK>().0.iter().enumerate() {
                key_scales[block * PAGE_TOKENS + slot] = quantise(dimensions, &mut bytes) * normalisation;
                for (group, four) in bytes.as_chunks::<4>().0.iter().enumerate() {
                    let (vector, byte) = place_of_key(block * KEY_BLOCK + 4 * group, slot);
                    keys[vector][byte..byte + 4].copy_from_slice(&four.map(|quant| quant ^ 0x80));
                }
            }
            // The scale first: it is that of all dimensions together.
            let (scale, inverse) = rounding::scale_of(rounding::largest_of(value), rounding::SIGNED_LEVELS);
            value_scales[slot] = scale;
            for (dimension, value) in value.iter().enumerate() {
                let (vector, byte) = place_of_value(dimension, slot);
                values[vector][byte] = rounding::round_to_byte(*value, inverse);
            }
        }
    }
}
