//! Activations quantised to 8 bits for the integer kernels: once per row, shared by all matrices that read it.
//!
//! Four rows form a panel; a panel is a sequence of records, one for each block of 32 columns. A record has,
//! for each group of four columns, the four bytes of each row, then the numbers that belong to the block, so
//! that a kernel walks through one stretch of memory whatever the number of rows. For tile registers, which take many rows at
//! once, the same numbers stand in strips of sixteen rows as well, row after row.

use std::ops::Range;

use crate::team::DisjointMut;
use crate::{SimdLevel, TensorError, ThreadTeam};

use super::lanes::{self, TileKernel, TileLanes};

/// Columns that share one activation scale.
const BLOCK: usize = 32;
/// Rows of a panel.
pub(super) const PANEL_ROWS: usize = 4;
/// Bytes of one number for each row of a panel.
const NUMBERS: usize = 4 * PANEL_ROWS;

/// Offset in a record of the bytes of group 0; the next group follows after [`GROUP_BYTES`].
const VALUES: usize = 0;
/// Bytes of one group of four columns.
pub(super) const GROUP_BYTES: usize = 4 * PANEL_ROWS;
/// Offset in a record of the f32 scales `d`.
pub(super) const SCALES: usize = VALUES + BLOCK / 4 * GROUP_BYTES;
/// Offset in a record of the f32 `d·Σq`.
pub(super) const SCALED_SUMS: usize = SCALES + NUMBERS;
/// Offset in a record of the i32 `Σq`.
pub(super) const SUMS: usize = SCALED_SUMS + NUMBERS;
/// Offset in a record of the i32 `Σq` of columns 0–15.
pub(super) const FIRST_HALF_SUMS: usize = SUMS + NUMBERS;
/// Bytes of a record.
pub(super) const RECORD: usize = FIRST_HALF_SUMS + NUMBERS;

/// Rows of a strip.
pub(super) const STRIP_ROWS: usize = 16;
/// Offset in a strip's record of the f32 scales; the 32 bytes of each row are before them.
pub(super) const STRIP_SCALES: usize = STRIP_ROWS * BLOCK;
/// Offset in a strip's record of the f32 `d·Σq`.
pub(super) const STRIP_SCALED_SUMS: usize = STRIP_SCALES + 4 * STRIP_ROWS;
/// Bytes of a strip's record of one block.
pub(super) const STRIP_RECORD: usize = STRIP_SCALED_SUMS + 4 * STRIP_ROWS;
/// Rows of a product that goes through tile registers where there are any: with fewer, the registers are mostly empty; with more, it
/// pays to expand tiles for the vector units, which need not wait for sums to go through memory.
const ROWS_WORTH_STRIPS: Range<usize> = 12..65;

/// 64 bytes that start on a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read and written through pointers")] [u8; 64]);
const _: () = assert!(RECORD.is_multiple_of(size_of::<Line>()));

/// Rows of activations in 8 bits: per block of 32, values `q` and an f32 scale `d` (largest magnitude / 127), so
/// that `x ≈ d·q`, rounded half to even; and the sums of `q` that the kernels need. The memory is kept and
/// reused.
#[derive(Debug, Default)]
pub struct QuantisedRows {
    rows: usize,
    columns: usize,
    lines: Vec<Line>,
    /// See [`QuantisedRows::strips`].
    strips: Vec<Line>,
    has_strips: bool,
}

impl QuantisedRows {
    /// An empty store; it grows to the largest input it has seen.
    pub fn new() -> QuantisedRows {
        QuantisedRows::default()
    }

    /// Bytes that `rows` rows of `columns` columns take at the level of instructions that takes most.
    pub fn bytes_for(rows: usize, columns: usize) -> usize {
        let panels = panel_bytes(columns).saturating_mul(rows.div_ceil(PANEL_ROWS));
        let strips = rows.min(ROWS_WORTH_STRIPS.end).div_ceil(STRIP_ROWS);
        panels.saturating_add(strip_bytes(columns).saturating_mul(strips))
    }

    /// Bytes that have been taken so far.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice()) + size_of_val(self.strips.as_slice())
    }

    /// Rows in the store.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Quantises `input` [rows, columns], replacing the former content. The bits do not depend on `simd`, the
    /// team or the other rows. A block with an infinity or a NaN gets an infinite or NaN scale, so that the
    /// products show it.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the input is not `rows` rows of whole blocks of 32,
    /// [`TensorError::UnsupportedSimd`].
    pub fn quantise(
        &mut self,
        input: &[f32],
        rows: usize,
        simd: SimdLevel,
        team: &ThreadTeam,
    ) -> Result<(), TensorError> {
        let simd = simd.require()?;
        let columns = input.len().checked_div(rows).unwrap_or(0);
        if columns * rows != input.len() || !columns.is_multiple_of(BLOCK) {
            return Err(TensorError::Length {
                what: "quantise activations: rows of whole blocks of 32",
                expected: columns.next_multiple_of(BLOCK) * rows,
                actual: input.len(),
            });
        }
        (self.rows, self.columns) = (rows, columns);
        let (panels, lines) = (rows.div_ceil(PANEL_ROWS), panel_lines(columns));
        if self.lines.len() < panels * lines {
            self.lines.resize(panels * lines, Line([0; 64]));
        }
        let memory = DisjointMut::new(&mut self.lines);
        let quantise_panels = |range: Range<usize>| {
            for panel in range {
                // SAFETY: each panel is given to one worker.
                let panel_lines = unsafe { memory.slice(panel * lines..(panel + 1) * lines) };
                let rows = panel * PANEL_ROWS..rows.min((panel + 1) * PANEL_ROWS);
                let input = &input[rows.start * columns..rows.end * columns];
                quantise_panel(simd, input, columns, panel_lines);
            }
        };
        for_ranges(team, input.len(), panels, quantise_panels);
        self.has_strips = needs_strips(simd, rows);
        if self.has_strips {
            self.fill_strips(team);
        }
        Ok(())
    }

    /// Copies the panels into strips.
    fn fill_strips(&mut self, team: &ThreadTeam) {
        let (strips, lines) = (self.rows.div_ceil(STRIP_ROWS), strip_bytes(self.columns) / size_of::<Line>());
        if self.strips.len() < strips * lines {
            self.strips.resize(strips * lines, Line([0; 64]));
        }
        let mut memory = std::mem::take(&mut self.strips);
        let places = DisjointMut::new(&mut memory);
        let panels = self.panels();
        for_ranges(team, self.rows * self.columns, strips, |range| {
            for strip in range {
                // SAFETY: each strip is given to one worker.
                let strip_lines = unsafe { places.slice(strip * lines..(strip + 1) * lines) };
                let first = strip * STRIP_ROWS / PANEL_ROWS * panel_bytes(self.columns);
                let end = panels.len().min(first + STRIP_ROWS / PANEL_ROWS * panel_bytes(self.columns));
                fill_strip(&panels[first..end], self.columns, strip_lines);
            }
        });
        self.strips = memory;
    }

    /// The strips, [`strip_bytes`] each, if the level has tile registers and the number of rows is worth them.
    pub(super) fn strips(&self) -> Option<&[u8]> {
        let lines = self.rows.div_ceil(STRIP_ROWS) * strip_bytes(self.columns) / size_of::<Line>();
        // SAFETY: the bytes of these lines, under the same borrow.
        self.has_strips.then(|| unsafe {
            std::slice::from_raw_parts(self.strips.as_ptr().cast(), size_of_val(&self.strips[..lines]))
        })
    }

    /// The panels, [`panel_bytes`] each.
    pub(super) fn panels(&self) -> &[u8] {
        let lines = &self.lines[..self.rows.div_ceil(PANEL_ROWS) * panel_lines(self.columns)];
        // SAFETY: the bytes of these lines, under the same borrow.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
    }
}

/// Goes through `count` panels or strips of so many elements, on the team if that pays: waking it costs more than a few thousand
/// elements.
fn for_ranges(team: &ThreadTeam, elements: usize, count: usize, work: impl Fn(Range<usize>) + Sync) {
    if elements < 8192 {
        work(0..count);
    } else {
        team.for_ranges(count, work);
    }
}

/// Bytes of a panel of rows of `columns` columns.
pub(super) fn panel_bytes(columns: usize) -> usize {
    columns / BLOCK * RECORD
}

/// Bytes of a strip of rows of `columns` columns.
pub(super) fn strip_bytes(columns: usize) -> usize {
    columns / BLOCK * STRIP_RECORD
}

fn needs_strips(simd: SimdLevel, rows: usize) -> bool {
    simd == SimdLevel::Amx && ROWS_WORTH_STRIPS.contains(&rows)
}

/// Copies up to four panels into a strip; rows that are not there are zeros.
fn fill_strip(panels: &[u8], columns: usize, strip: &mut [Line]) {
    // SAFETY: the bytes of these lines, under the same borrow.
    let strip =
        unsafe { std::slice::from_raw_parts_mut(strip.as_mut_ptr().cast::<u8>(), size_of_val(strip)) };
    let words = |bytes: &[u8]| -> [[u8; 4]; PANEL_ROWS] {
        std::array::from_fn(|row| {
            [bytes[4 * row], bytes[4 * row + 1], bytes[4 * row + 2], bytes[4 * row + 3]]
        })
    };
    for (block, record) in strip.chunks_exact_mut(STRIP_RECORD).enumerate() {
        for panel in 0..STRIP_ROWS / PANEL_ROWS {
            let start = panel * panel_bytes(columns) + block * RECORD;
            let Some(from) = panels.get(start..start + RECORD) else {
                let rows = panel * PANEL_ROWS..STRIP_ROWS;
                record[rows.start * BLOCK..STRIP_SCALES].fill(0);
                record[STRIP_SCALES + 4 * rows.start..STRIP_SCALED_SUMS].fill(0);
                record[STRIP_SCALED_SUMS + 4 * rows.start..].fill(0);
                break;
            };
            for (group, four) in from[VALUES..SCALES].chunks_exact(GROUP_BYTES).enumerate() {
                for (row, word) in words(four).into_iter().enumerate() {
                    let place = (panel * PANEL_ROWS + row) * BLOCK + 4 * group;
                    record[place..place + 4].copy_from_slice(&word);
                }
            }
            for (to, at) in [(STRIP_SCALES, SCALES), (STRIP_SCALED_SUMS, SCALED_SUMS)] {
                let to = to + NUMBERS * panel;
                record[to..to + NUMBERS].copy_from_slice(&from[at..at + NUMBERS]);
            }
        }
    }
}

fn panel_lines(columns: usize) -> usize {
    panel_bytes(columns) / size_of::<Line>()
}

/// Quantises one to four rows into a panel.
fn quantise_panel(simd: SimdLevel, input: &[f32], columns: usize, panel: &mut [Line]) {
    assert_eq!(panel.len(), panel_lines(columns));
    assert!(input.len() <= PANEL_ROWS * columns && columns.is_multiple_of(BLOCK));
    let (blocks, first) = (columns / BLOCK, panel.as_mut_ptr().cast::<u8>());
    if input.len() == PANEL_ROWS * columns {
        let kernel = QuantisePanel { input: input.as_ptr(), blocks, first };
        // SAFETY: `simd` has been checked, each of four rows has `blocks` blocks and the panel as many records.
        return unsafe { lanes::dispatch(simd, kernel) };
    }
    for row in 0..PANEL_ROWS {
        let start = row * columns;
        // SAFETY: `row` is below PANEL_ROWS, and the panel has `blocks` records.
        let first = unsafe { first.add(4 * row) };
        if start < input.len() {
            let kernel = QuantiseRow { input: input[start..].as_ptr(), blocks, first };
            // SAFETY: `simd` has been checked, the row has `blocks` blocks and the panel as many records.
            unsafe { lanes::dispatch(simd, kernel) }
        } else {
            // Rows that are not in use are computed with, so they must not hold another input's numbers.
            for block in 0..blocks {
                for part in 0..RECORD / NUMBERS {
                    // SAFETY: within record `block` of the panel.
                    unsafe { first.add(block * RECORD + part * NUMBERS).cast::<u32>().write(0) }
                }
            }
        }
    }
}

/// Quantises four rows, one behind the other, into a panel.
///
/// # Safety
/// `input` has four rows of `blocks` blocks of 32 elements; `first` is the first of `blocks` records.
struct QuantisePanel {
    input: *const f32,
    blocks: usize,
    first: *mut u8,
}

impl TileKernel for QuantisePanel {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        for block in 0..self.blocks {
            // SAFETY: within the rows and the records, by the kernel's conditions; records are whole cache lines.
            unsafe {
                let row =
                    |row: usize| &*self.input.add((row * self.blocks + block) * BLOCK).cast::<[f32; BLOCK]>();
                let record = self.first.add(block * RECORD);
                let words = &mut *record.add(VALUES).cast::<[[u32; PANEL_ROWS]; BLOCK / 4]>();
                let (scales, [first, second]) = S::quantise_four([row(0), row(1), row(2), row(3)], words);
                for row in 0..PANEL_ROWS {
                    let sum = first[row] + second[row];
                    record.add(SCALES + 4 * row).cast::<f32>().write(scales[row]);
                    record.add(SCALED_SUMS + 4 * row).cast::<f32>().write(scales[row] * sum as f32);
                    record.add(SUMS + 4 * row).cast::<i32>().write(sum);
                    record.add(FIRST_HALF_SUMS + 4 * row).cast::<i32>().write(first[row]);
                }
            }
        }
    }
}

/// Quantises one row into its places in a panel.
///
/// # Safety
/// `input` has `blocks` blocks of 32 elements; `first` is a row's place in the first of `blocks` records.
struct QuantiseRow {
    input: *const f32,
    blocks: usize,
    first: *mut u8,
}

impl TileKernel for QuantiseRow {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        for block in 0..self.blocks {
            // SAFETY: within the row and its records, by the kernel's conditions.
            unsafe {
                let mut values = [0; BLOCK / 4];
                let (scale, sums) = S::quantise(&*self.input.add(block * BLOCK).cast(), &mut values);
                let record = self.first.add(block * RECORD);
                for (group, &four) in values.iter().enumerate() {
                    record.add(VALUES + group * GROUP_BYTES).cast::<u32>().write(four);
                }
                let sum = sums[0] + sums[1];
                record.add(SCALES).cast::<f32>().write(scale);
                record.add(SCALED_SUMS).cast::<f32>().write(scale * sum as f32);
                record.add(SUMS).cast::<i32>().write(sum);
                record.add(FIRST_HALF_SUMS).cast::<i32>().write(sums[0]);
            }
        }
    }
}
