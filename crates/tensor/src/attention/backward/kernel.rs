//! The fast path: tiles of query rows against 32 keys, five products of small matrices each.

#![allow(clippy::needless_range_loop, reason = "one index runs through several arrays of registers")]

use std::ops::Range;

use super::{AttentionGradientCall, SharedOutputs, Unit};
use crate::lanes::{LANES, Lanes};
use crate::ops::exponential;

/// Keys of a tile.
const KEYS: usize = 32;
/// Query rows of a tile.
const ROWS: usize = 96;

/// A document's rows of one key/value head, and the results so far. Rows are padded to whole vectors with zeros.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Times scale, `[query rows][padded]`.
    queries: Vec<f32>,
    /// g, `[query rows][padded]`.
    gradients: Vec<f32>,
    /// The derivatives by queries before they are scaled, `[query rows][padded]`.
    of_queries: Vec<f32>,
    /// Σ g · output of each query row.
    of_outputs: Vec<f32>,
    log_sums: Vec<f32>,
    /// The keys of the tile, `[32][padded]` and `[head_dim][32]`.
    keys: Vec<f32>,
    key_columns: Vec<f32>,
    /// Its values, `[head_dim][32]`.
    value_columns: Vec<f32>,
    /// The derivatives by its keys and values, `[32][padded]`.
    of_keys: Vec<f32>,
    of_values: Vec<f32>,
    /// Scores, then weights, of the tile: `[rows][32]`.
    weights: Vec<f32>,
    /// g·v, then the derivatives by scores: `[rows][32]`.
    of_scores: Vec<f32>,
}

impl Scratch {
    fn all(&mut self) -> [&mut Vec<f32>; 12] {
        [
            &mut self.queries,
            &mut self.gradients,
            &mut self.of_queries,
            &mut self.of_outputs,
            &mut self.log_sums,
            &mut self.keys,
            &mut self.key_columns,
            &mut self.value_columns,
            &mut self.of_keys,
            &mut self.of_values,
            &mut self.weights,
            &mut self.of_scores,
        ]
    }

    /// Bytes that have been taken so far.
    pub(super) fn bytes(&mut self) -> usize {
        self.all().iter().map(|part| size_of_val(part.as_slice())).sum()
    }

    /// Makes room for so many query rows. What is there is unspecified.
    fn reserve(&mut self, rows: usize, head_dim: usize) {
        let padded = head_dim.next_multiple_of(LANES);
        let tile = ROWS * KEYS;
        let (wide, columns) = (rows * padded, head_dim * KEYS);
        let lengths = [
            wide,
            wide,
            wide,
            rows,
            rows,
            KEYS * padded,
            columns,
            columns,
            KEYS * padded,
            KEYS * padded,
            tile,
            tile,
        ];
        for (part, length) in self.all().into_iter().zip(lengths) {
            part.resize(length.max(part.len()), 0.0);
        }
    }
}

/// See [`super::UnitKernel`].
#[inline(always)]
pub(super) fn unit_gradient<L: Lanes>(
    lanes: L,
    call: &AttentionGradientCall<'_>,
    unit: &Unit<'_>,
    scratch: &mut Scratch,
    outputs: &SharedOutputs<'_>,
) {
    let (head_dim, group) = (call.shape.head_dim, call.group());
    let padded = head_dim.next_multiple_of(LANES);
    let rows = unit.own() * group;
    scratch.reserve(rows, head_dim);
    load_queries(lanes, call, unit, scratch, padded);
    // Queries begin behind what the document shares; each is as far on in its rows as its position is behind that.
    let row_of = |position: usize| position.saturating_sub(unit.document.shared) * group;
    for first_key in (0..unit.positions()).step_by(KEYS) {
        let keys = first_key..unit.positions().min(first_key + KEYS);
        load_keys(call, unit, keys.clone(), scratch, padded);
        let last = call.window.map_or(unit.positions(), |window| unit.positions().min(keys.end - 1 + window));
        let (mut first, last) = (row_of(first_key), row_of(last));
        while first < last {
            let first_position = unit.document.shared;
            let count = ROWS.min(last - first);
            let tile = Tile { first, count, first_position, first_key, padded, head_dim };
            tile_gradient(lanes, call, tile, scratch);
            first += ROWS;
        }
        for (index, position) in keys.enumerate() {
            // SAFETY: units have disjoint places.
            let (of_key, of_value) = unsafe { outputs.of_key_and_value(call, unit, position) };
            of_key.copy_from_slice(&scratch.of_keys[index * padded..][..head_dim]);
            of_value.copy_from_slice(&scratch.of_values[index * padded..][..head_dim]);
        }
    }
    for row in 0..rows {
        let start = call.query_start(unit, row);
        // SAFETY: as above.
        let out = unsafe { outputs.queries.slice(start..start + head_dim) };
        let values = &scratch.of_queries[row * padded..][..head_dim];
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value * call.shape.scale);
    }
}

/// Brings a unit's queries and gradients together.
#[inline(always)]
fn load_queries<L: Lanes>(
    lanes: L,
    call: &AttentionGradientCall<'_>,
    unit: &Unit<'_>,
    scratch: &mut Scratch,
    padded: usize,
) {
    let head_dim = call.shape.head_dim;
    let rows = unit.own() * call.group();
    scratch.of_queries[..rows * padded].fill(0.0);
    for row in 0..rows {
        let start = call.query_start(unit, row);
        let query = &mut scratch.queries[row * padded..(row + 1) * padded];
        query[head_dim..].fill(0.0);
        let values = &call.queries[start..start + head_dim];
        query.iter_mut().zip(values).for_each(|(out, value)| *out = value * call.shape.scale);
        let gradient = &mut scratch.gradients[row * padded..(row + 1) * padded];
        gradient[head_dim..].fill(0.0);
        gradient[..head_dim].copy_from_slice(&call.gradient[start..start + head_dim]);
        let mut sums = lanes.splat(0.0);
        let (outputs, tail) = call.outputs[start..start + head_dim].as_chunks::<LANES>();
        let (gradients, _) = gradient.as_chunks::<LANES>();
        for (output, gradient) in outputs.iter().zip(gradients) {
            sums = lanes.fma(lanes.load(gradient), lanes.load(output), sums);
        }
        if !tail.is_empty() {
            sums = lanes.fma(lanes.load(&gradients[outputs.len()]), lanes.load_head(tail), sums);
        }
        scratch.of_outputs[row] = lanes.sum(sums);
        scratch.log_sums[row] = call.log_sums[call.head_index(unit, row)];
    }
}

/// Brings the keys and values of a tile together. Those behind the last are zero.
#[inline(always)]
fn load_keys(
    call: &AttentionGradientCall<'_>,
    unit: &Unit<'_>,
    keys: Range<usize>,
    scratch: &mut Scratch,
    padded: usize,
) {
    let head_dim = call.shape.head_dim;
    scratch.of_keys[..KEYS * padded].fill(0.0);
    scratch.of_values[..KEYS * padded].fill(0.0);
    scratch.keys[..KEYS * padded].fill(0.0);
    if keys.len() < KEYS {
        scratch.key_columns[..KEYS * head_dim].fill(0.0);
        scratch.value_columns[..KEYS * head_dim].fill(0.0);
    }
    for (index, position) in keys.enumerate() {
        let start = call.key_start(unit, position);
        let key = &call.keys[start..start + head_dim];
        scratch.keys[index * padded..][..head_dim].copy_from_slice(key);
        let column = scratch.key_columns[index..].iter_mut().step_by(KEYS);
        column.zip(key).for_each(|(out, value)| *out = *value);
        let column = scratch.value_columns[index..].iter_mut().step_by(KEYS);
        column.zip(&call.values[start..start + head_dim]).for_each(|(out, value)| *out = *value);
    }
}

/// Query rows against the keys that are loaded.
#[derive(Clone, Copy)]
struct Tile {
    first: usize,
    count: usize,
    /// The position of row 0.
    first_position: usize,
    first_key: usize,
    padded: usize,
    head_dim: usize,
}

#[inline(always)]
fn tile_gradient<L: Lanes>(lanes: L, call: &AttentionGradientCall<'_>, tile: Tile, scratch: &mut Scratch) {
    let Tile { first, count, padded, head_dim, .. } = tile;
    let rows = first * padded..(first + count) * padded;
    let (queries, gradients) = (&scratch.queries[rows.clone()], &scratch.gradients[rows.clone()]);
    let (weights, of_scores) = (&mut scratch.weights[..], &mut scratch.of_scores[..]);
    // Scores and g·v: row by row, one chain over head_dim.
    for (a, b, c) in [
        (queries, &scratch.key_columns[..], &mut *weights),
        (gradients, &scratch.value_columns[..], &mut *of_scores),
    ] {
        let product = Product {
            a: Left { values: a, row: padded, k: 1 },
            b: Right { values: b, k: KEYS },
            terms: head_dim,
            rows: count,
            columns: KEYS,
            adds: false,
        };
        multiply(lanes, &product, c);
    }
    weigh(lanes, call, tile, &scratch.log_sums, &scratch.of_outputs, weights, of_scores);
    let (weights, of_scores) = (&*weights, &*of_scores);
    for (a, b, terms, c) in [
        (Left { values: weights, row: 1, k: KEYS }, gradients, count, &mut scratch.of_values[..]),
        (Left { values: of_scores, row: 1, k: KEYS }, queries, count, &mut scratch.of_keys[..]),
        (Left { values: of_scores, row: KEYS, k: 1 }, &scratch.keys[..], KEYS, &mut scratch.of_queries[rows]),
    ] {
        let rows = if terms == KEYS && a.k == 1 { count } else { KEYS };
        let b = Right { values: b, k: padded };
        multiply(lanes, &Product { a, b, terms, rows, columns: padded, adds: true }, c);
    }
}

/// Turns scores into weights, and g·v into derivatives by scores; both are zero for keys that a row does not see.
#[inline(always)]
fn weigh<L: Lanes>(
    lanes: L,
    call: &AttentionGradientCall<'_>,
    tile: Tile,
    log_sums: &[f32],
    of_outputs: &[f32],
    weights: &mut [f32],
    of_scores: &mut [f32],
) {
    let group = call.group();
    for row in 0..tile.count {
        let position = tile.first_position + (tile.first + row) / group;
        let from = call.first_seen(position).saturating_sub(tile.first_key).min(KEYS);
        let to = (position + 1).saturating_sub(tile.first_key).min(KEYS);
        let log_sum = lanes.splat(-log_sums[tile.first + row]);
        let of_output = lanes.splat(-of_outputs[tile.first + row]);
        let (scores, _) = weights[row * KEYS..(row + 1) * KEYS].as_chunks_mut::<LANES>();
        let (of_scores, _) = of_scores[row * KEYS..(row + 1) * KEYS].as_chunks_mut::<LANES>();
        for vector in 0..KEYS / LANES {
            let within = |key: usize| key.saturating_sub(vector * LANES).min(LANES);
            let (from, to) = (within(from), within(to));
            let scores_of_keys = lanes.load(&scores[vector]);
            let visible = if from == 0 && to == LANES {
                scores_of_keys
            } else {
                lanes.only_lanes(scores_of_keys, from, to.max(from))
            };
            let weight = exponential(lanes, lanes.add(visible, log_sum));
            lanes.store(weight, &mut scores[vector]);
            let difference = lanes.add(lanes.load(&of_scores[vector]), of_output);
            lanes.store(lanes.mul(weight, difference), &mut of_scores[vector]);
        }
    }
}

/// The left operand: element (row, k) at `row · self.row + k · self.k`.
#[derive(Clone, Copy)]
struct Left<'a> {
    values: &'a [f32],
    row: usize,
    k: usize,
}

/// The right operand: the columns of k from `k · self.k` on.
#[derive(Clone, Copy)]
struct Right<'a> {
    values: &'a [f32],
    k: usize,
}

/// `out[rows, columns] (+)= a · b`: for each element one chain over k, ascending, from what is there or from zero.
struct Product<'a> {
    a: Left<'a>,
    b: Right<'a>,
    /// Values of k.
    terms: usize,
    rows: usize,
    /// A multiple of [`LANES`], and the width of a row of `out`.
    columns: usize,
    adds: bool,
}

#[inline(always)]
fn multiply<L: Lanes>(lanes: L, product: &Product<'_>, out: &mut [f32]) {
    let Product { a, b, terms, rows, columns, .. } = *product;
    if rows == 0 || terms == 0 {
        return;
    }
    assert!((rows - 1) * a.row + (terms - 1) * a.k < a.values.len());
    assert!((terms - 1) * b.k + columns <= b.values.len());
    assert!(rows * columns <= out.len() && columns.is_multiple_of(LANES));
    let mut column = 0;
    while column < columns {
        let vectors = if columns - column >= 2 * LANES { 2 } else { 1 };
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            // SAFETY: all elements are within the operands, as the assertions say.
            row += unsafe {
                match (vectors, L::SCORE_ROWS >= 12, left) {
                    (2, true, 12..) => multiply_tile::<L, 12, 2>(lanes, product, out, row, column),
                    (2, true, 4..) => multiply_tile::<L, 4, 2>(lanes, product, out, row, column),
                    (2, false, 3..) => multiply_tile::<L, 3, 2>(lanes, product, out, row, column),
                    (2, _, _) => multiply_tile::<L, 1, 2>(lanes, product, out, row, column),
                    (_, _, 4..) => multiply_tile::<L, 4, 1>(lanes, product, out, row, column),
                    _ => multiply_tile::<L, 1, 1>(lanes, product, out, row, column),
                }
            };
        }
        column += vectors * LANES;
    }
}

/// `R` rows and `C` vectors of columns; the number of rows.
///
/// # Safety
/// All elements of the tile are within the operands and the result.
#[inline(always)]
unsafe fn multiply_tile<L: Lanes, const R: usize, const C: usize>(
    lanes: L,
    product: &Product<'_>,
    out: &mut [f32],
    row: usize,
    column: usize,
) -> usize {
    let Product { a, b, terms, columns, adds, .. } = *product;
    let mut sums = [[lanes.splat(0.0); C]; R];
    // SAFETY: the caller's promise.
    unsafe {
        let out = out.as_mut_ptr().add(row * columns + column);
        if adds {
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] = lanes.load(&*out.add(r * columns + c * LANES).cast());
                }
            }
        }
        let mut left = a.values.as_ptr().add(row * a.row);
        let mut right = b.values.as_ptr().add(column);
        for k in 0..terms {
            let mut vectors = [lanes.splat(0.0); C];
            for c in 0..C {
                vectors[c] = lanes.load(&*right.add(c * LANES).cast());
            }
            for r in 0..R {
                let value = lanes.splat(*left.add(r * a.row));
                for c in 0..C {
                    sums[r][c] = lanes.fma(value, vectors[c], sums[r][c]);
                }
            }
            if k + 1 < terms {
                left = left.add(a.k);
                right = right.add(b.k);
            }
        }
        for r in 0..R {
            for c in 0..C {
                lanes.store(sums[r][c], &mut *out.add(r * columns + c * LANES).cast());
            }
        }
    }
    R
}
