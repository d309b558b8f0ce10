//! How a product is divided into parts, and how one part is computed: which tiles and rows, in which order, directly from
//! the packed tiles or by way of expanded ones. The division and the order change the speed, never a bit.

#[cfg(target_arch = "x86_64")]
use super::activations::strip_bytes;
use super::activations::{PANEL_ROWS, QuantisedRows, RECORD, STRIP_ROWS, panel_bytes};
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::float::{self, Bf16, F16, F32, Fetch, FloatFormat};
use super::formats::{self, Expanded, Format};
use super::integer;
use super::lanes;
use super::outputs::Outputs;
use super::panels::{Left, PanelProduct, Right, Target};
use crate::matrix::{BLOCK_COLUMNS, TILE_ROWS, TileLayout};
use crate::team::share;
use crate::{Dtype, Matrix, SimdLevel, ThreadTeam};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// From this many rows on, f32 tiles are multiplied with rows in panels.
const ROWS_WORTH_PANELS: usize = 48;
/// From this many rows on, float tiles are expanded to f32 once instead of being converted for every few rows.
const ROWS_WORTH_EXPANDING_FLOATS: usize = 48;
/// Rows that go through all tiles together; their activations should stay in the second-level cache.
const ROWS_TOGETHER: usize = 128;
/// Bytes of expanded tiles that are used together; they should stay in the second-level cache.
const EXPANDED_BYTES: usize = 96 << 10;
/// Bytes of float tiles expanded to f32 that are used together; they should stay in the second-level cache.
const FLOAT_SCRATCH_BYTES: usize = 64 << 10;

/// Multiplications after which a part is long enough: some ten microseconds of computing.
const PART_PRODUCTS: usize = 4 << 20;
/// Bytes of tiles after which a part is long enough: some ten microseconds of reading. A part's first few kilobytes are not
/// fetched ahead, so that short parts read more slowly.
const PART_BYTES: usize = 256 << 10;
/// Tiles of a part are a multiple of this, so that kernels of 4, 3, 2 and 1 tiles all come out even.
const TILES_TOGETHER: usize = 12;

/// One matrix, its inputs and outputs.
pub(super) struct Work<'a> {
    dtype: Dtype,
    simd: SimdLevel,
    /// Rows of the matrix.
    width: usize,
    columns: usize,
    layout: TileLayout,
    tiles: &'a [u8],
    /// [rows, columns]; read by float matrices.
    input: &'a [f32],
    /// The same rows in panels; read by quantised matrices.
    panels: &'a [u8],
    /// The same rows in strips, where the kernels for tile registers are worth their while.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "no other processor has tile registers")
    )]
    strips: Option<&'a [u8]>,
    /// [rows, width].
    output: *mut f32,
    rows: usize,
    division: Division,
}

// SAFETY: parts have disjoint outputs (see `Division`), everything else is only read.
unsafe impl Sync for Work<'_> {}

#[repr(align(64))]
struct Scratch<const BYTES: usize>(MaybeUninit<[u8; BYTES]>);

impl<'a> Work<'a> {
    /// The product of `rows` rows with `matrix`.
    pub(super) fn new(
        matrix: &'a Matrix,
        input: &'a [f32],
        quantised: &'a QuantisedRows,
        output: *mut f32,
        rows: usize,
    ) -> Work<'a> {
        Work {
            dtype: matrix.dtype(),
            simd: matrix.simd(),
            width: matrix.rows(),
            columns: matrix.columns(),
            layout: matrix.layout(),
            tiles: matrix.tiles(),
            input,
            panels: quantised.panels(),
            strips: quantised.strips(),
            output,
            rows,
            division: Division::default(),
        }
    }

    /// The same for some of the matrix's outputs only, which are those of whole tiles (but the last); `output` is
    /// [rows, outputs.len()] then.
    pub(super) fn of_outputs(self, outputs: Range<usize>) -> Work<'a> {
        let tiles = &self.tiles[outputs.start / TILE_ROWS * self.layout.bytes..];
        Work { tiles, width: outputs.len(), ..self }
    }

    /// Divides the product into `shares` shares of [`Work::parts_of_a_share`] parts each.
    pub(super) fn divide(&mut self, shares: usize) {
        let tiles = self.width.div_ceil(TILE_ROWS);
        self.division = Division::new(tiles, self.layout.bytes, self.columns, self.rows, shares);
    }

    fn is_worth_panels(&self) -> bool {
        self.dtype == Dtype::F32 && self.rows >= ROWS_WORTH_PANELS
    }

    pub(super) fn parts_of_a_share(&self) -> usize {
        self.division.parts_of_a_share()
    }

    /// Computes a part of a share.
    ///
    /// # Safety
    /// `input`, `panels` and `output` have the lengths that the matrix and `rows` ask for, no other thread uses
    /// the part's outputs, and the processor has the instruction set of the matrix.
    pub(super) unsafe fn run(&self, share: usize, part: usize) {
        let (tiles, rows) = self.division.part(share, part);
        if !tiles.is_empty() && !rows.is_empty() {
            // SAFETY: passed on from the caller.
            unsafe { self.part(tiles, rows) }
        }
    }

    /// # Safety
    /// As for [`Work::run`].
    unsafe fn part(&self, tiles: Range<usize>, rows: Range<usize>) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.dtype {
                Dtype::F32 => self.floats::<F32>(tiles, rows),
                Dtype::F16 => self.floats::<F16>(tiles, rows),
                Dtype::Bf16 => self.floats::<Bf16>(tiles, rows),
                Dtype::Q4_0 => self.integers::<formats::Q4_0>(tiles, rows),
                Dtype::Q4_1 => self.integers::<formats::Q4_1>(tiles, rows),
                Dtype::Q5_0 => self.integers::<formats::Q5_0>(tiles, rows),
                Dtype::Q5_1 => self.integers::<formats::Q5_1>(tiles, rows),
                Dtype::Q8_0 => self.integers::<formats::Q8_0>(tiles, rows),
                Dtype::Q4K => self.integers::<formats::Q4K>(tiles, rows),
                Dtype::Q5K => self.integers::<formats::Q5K>(tiles, rows),
                Dtype::Q6K => self.integers::<formats::Q6K>(tiles, rows),
                Dtype::Iq4Nl => self.integers::<formats::Iq4Nl>(tiles, rows),
                Dtype::Iq4Xs => self.integers::<formats::Iq4Xs>(tiles, rows),
                Dtype::Mxfp4 => self.integers::<formats::Mxfp4>(tiles, rows),
            }
        }
    }

    /// First byte of a tile.
    fn tile(&self, tile: usize) -> *const u8 {
        self.tiles[tile * self.layout.bytes..].as_ptr()
    }

    /// First record of the panel that starts with `row`.
    fn panel(&self, row: usize) -> *const u8 {
        self.panels[row / PANEL_ROWS * panel_bytes(self.columns)..].as_ptr()
    }

    /// Outputs from `row` and `tile` on.
    fn outputs(&self, rows: Range<usize>, tile: usize, resume: bool) -> Outputs {
        let stride = self.width;
        // SAFETY: the row and the tile exist, so the address is within the output.
        let start = unsafe { self.output.add(rows.start * stride + tile * TILE_ROWS) };
        Outputs { start, stride, rows: rows.len(), lanes: stride - tile * TILE_ROWS, resume }
    }

    /// # Safety
    /// As for [`Work::run`].
    unsafe fn integers<F: Format>(&self, tiles: Range<usize>, rows: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(strips) = self.strips {
            // SAFETY: passed on from the caller; there are strips only where there are tile registers.
            return unsafe { self.strip_products::<F>(strips, tiles, rows) };
        }
        let layout = self.layout;
        let blocks = self.columns / BLOCK_COLUMNS;
        let blocking = lanes::blocking(self.simd);
        let worth_expanding = match self.simd {
            SimdLevel::Amx => F::ROWS_WORTH_EXPANDING_WITH_AMX,
            _ => F::ROWS_WORTH_EXPANDING,
        };
        let mut tile = tiles.start;
        while tile < tiles.end {
            let (count, _) = integer::step(blocking, tiles.end - tile, rows.len());
            let quants = self.tile(tile);
            let source =
                Source { quants, scales: quants.wrapping_add(layout.scales), tile_step: layout.bytes };
            // SAFETY: the tiles and rows exist; the rest is passed on from the caller.
            unsafe {
                if rows.len() < worth_expanding {
                    self.integer_rows::<F>(source, tile, count, 0..blocks, rows.clone());
                } else {
                    self.expanded::<F>(source, tile, count, blocks, rows.clone());
                }
            }
            tile += count;
        }
    }

    /// Multiplies each tile with strips of rows.
    ///
    /// # Safety
    /// As for [`Work::run`]; the processor has tile registers.
    #[cfg(target_arch = "x86_64")]
    unsafe fn strip_products<F: Format>(&self, strips: &[u8], tiles: Range<usize>, rows: Range<usize>) {
        debug_assert!(rows.start.is_multiple_of(STRIP_ROWS));
        let strip_step = strip_bytes(self.columns);
        // SAFETY: the tiles and rows exist, and the registers have the shape that the products ask for.
        unsafe {
            let registers = amx::Registers::configure(amx::TileProduct::<F>::PART_COLUMNS);
            for tile in tiles {
                let quants = self.tile(tile);
                let product = amx::TileProduct::<F> {
                    quants,
                    scales: quants.wrapping_add(self.layout.scales),
                    tile_step: self.layout.bytes,
                    blocks: self.columns / BLOCK_COLUMNS,
                    strips: strips[rows.start / STRIP_ROWS * strip_step..].as_ptr(),
                    strip_step,
                    outputs: self.outputs(rows.clone(), tile, false),
                    format: PhantomData,
                };
                product.run(&registers);
            }
        }
    }

    /// Expands the tiles some blocks at a time and multiplies every row with them.
    ///
    /// # Safety
    /// As for [`Work::run`]; the tiles exist.
    unsafe fn expanded<F: Format>(
        &self,
        source: Source,
        tile: usize,
        count: usize,
        blocks: usize,
        rows: Range<usize>,
    ) {
        let mut scratch = Scratch::<EXPANDED_BYTES>(MaybeUninit::uninit());
        let records = scratch.0.as_mut_ptr().cast::<u8>();
        let most = EXPANDED_BYTES / (count * Expanded::<F>::RECORD);
        let chunks = blocks.div_ceil(most).max(1);
        for chunk in 0..chunks {
            let range = share(blocks, chunks, chunk);
            let tile_step = range.len() * Expanded::<F>::RECORD;
            let Source { quants, scales, tile_step: packed_step } = source;
            let expand = integer::Expand::<F> {
                quants,
                scales,
                tile_step: packed_step,
                tiles: count,
                blocks: range.clone(),
                records,
                format: PhantomData,
            };
            // SAFETY: the scratch holds `most` blocks of each of `count` tiles; the rest is passed on.
            unsafe {
                lanes::dispatch(self.simd, expand);
                let source = Source { quants: records, scales: records, tile_step };
                self.integer_rows::<Expanded<F>>(source, tile, count, range, rows.clone());
            }
        }
    }

    /// Multiplies `count` tiles with every row. `source` starts at the first block of `blocks`.
    ///
    /// # Safety
    /// As for [`Work::run`]; the tiles and blocks exist.
    unsafe fn integer_rows<F: Format>(
        &self,
        source: Source,
        tile: usize,
        count: usize,
        blocks: Range<usize>,
        rows: Range<usize>,
    ) {
        let simd = self.simd;
        let mut row = rows.start;
        while row < rows.end {
            let left = rows.end - row;
            let (_, step) = integer::step(lanes::blocking(simd), count, left);
            // Whole panels go through one call; what is left of the rows may have better blockings.
            let panels = if step == PANEL_ROWS { ((left + 1) / PANEL_ROWS).max(1) } else { 1 };
            let end = rows.end.min(row + panels * step);
            let panel = self.panel(row).wrapping_add(blocks.start * RECORD);
            let mut done = 0;
            while done < count {
                let (tiles, _) = integer::step(lanes::blocking(simd), count - done, left);
                let operands = integer::Operands {
                    quants: source.quants.wrapping_add(done * source.tile_step),
                    scales: source.scales.wrapping_add(done * source.tile_step),
                    tile_step: source.tile_step,
                    blocks: blocks.len(),
                    panel,
                    panels,
                    panel_step: panel_bytes(self.columns),
                    outputs: self.outputs(row..end, tile + done, blocks.start > 0),
                };
                let product = integer::AnyProduct::<F> { tiles, rows: step, operands, format: PhantomData };
                // SAFETY: tiles, blocks, rows and outputs exist; the rest is passed on from the caller.
                unsafe { lanes::dispatch(simd, product) };
                done += tiles;
            }
            row = end;
        }
    }
}

impl Work<'_> {
    /// # Safety
    /// As for [`Work::run`].
    unsafe fn floats<F: FloatFormat>(&self, tiles: Range<usize>, rows: Range<usize>) {
        let columns = self.columns;
        let tile_step = self.layout.bytes;
        let expand = F::BYTES < size_of::<f32>() && rows.len() >= ROWS_WORTH_EXPANDING_FLOATS;
        let mut scratch = Scratch::<FLOAT_SCRATCH_BYTES>(MaybeUninit::uninit());
        let out = scratch.0.as_mut_ptr().cast::<f32>();
        let mut tile = tiles.start;
        while tile < tiles.end {
            let (count, _) = float::step(lanes::blocking(self.simd), tiles.end - tile, rows.len());
            let weights = self.tile(tile);
            let most =
                if expand { FLOAT_SCRATCH_BYTES / (count * TILE_ROWS * size_of::<f32>()) } else { columns };
            let chunks = columns.div_ceil(most.max(1)).max(1);
            for chunk in 0..chunks {
                let range = share(columns, chunks, chunk);
                let weights = weights.wrapping_add(range.start * F::BYTES * TILE_ROWS);
                // SAFETY: the tiles and rows exist, the scratch holds `most` columns of each of `count` tiles; the
                // rest is passed on from the caller.
                unsafe {
                    if expand {
                        let (tiles, columns) = (count, range.len());
                        let expand = float::Expand::<F> {
                            weights,
                            tile_step,
                            tiles,
                            columns,
                            out,
                            format: PhantomData,
                        };
                        lanes::dispatch(self.simd, expand);
                        let expanded_step = columns * TILE_ROWS * size_of::<f32>();
                        let source =
                            Floats { weights: out.cast(), tile_step: expanded_step, reads: Reads::Cache };
                        self.float_rows::<F32>(source, tile, count, range, rows.clone());
                    } else {
                        let reads = Reads::Memory { are_first: tile == tiles.start };
                        let source = Floats { weights, tile_step, reads };
                        self.float_rows::<F>(source, tile, count, range, rows.clone());
                    }
                }
            }
            tile += count;
        }
    }

    /// Multiplies `count` tiles with every row. `source` starts at the first column of `columns`.
    ///
    /// # Safety
    /// As for [`Work::run`]; the tiles and columns exist.
    unsafe fn float_rows<F: FloatFormat>(
        &self,
        source: Floats,
        tile: usize,
        count: usize,
        columns: Range<usize>,
        rows: Range<usize>,
    ) {
        let simd = self.simd;
        let Floats { weights, tile_step, reads } = source;
        let input_stride = self.columns;
        let mut row = rows.start;
        while row < rows.end {
            let left = rows.end - row;
            let (_, step) = float::step(lanes::blocking(simd), count, left);
            let end = rows.end.min(row + step);
            let fetch = reads.fetch(row - rows.start..end - rows.start, rows.len());
            let mut done = 0;
            while done < count {
                // The last rows may be few, for which other blockings are better.
                let (tiles, _) = float::step(lanes::blocking(simd), count - done, left);
                let operands = float::Operands {
                    weights: weights.wrapping_add(done * tile_step),
                    tile_step,
                    columns: columns.len(),
                    input: self.input.as_ptr().wrapping_add(row * input_stride + columns.start),
                    input_stride,
                    outputs: self.outputs(row..end, tile + done, columns.start > 0),
                    fetch,
                };
                let product = float::AnyProduct::<F> { tiles, rows: step, operands, format: PhantomData };
                // SAFETY: tiles, columns, rows and outputs exist; the rest is passed on from the caller.
                unsafe { lanes::dispatch(simd, product) };
                done += tiles;
            }
            row = end;
        }
    }
}

/// Computes the works for which panels are worth their while, and takes them out.
///
/// # Safety
/// As for [`super::run_together`].
pub(super) unsafe fn run_panels(team: &ThreadTeam, works: &mut [Option<Work<'_>>]) {
    let Some(first) = works.iter().flatten().find(|work| work.is_worth_panels()) else {
        return;
    };
    let (simd, rows, depth) = (first.simd, first.rows, first.columns);
    let left = Left { start: first.input.as_ptr(), row_step: depth, depth_step: 1 };
    let mut rights = [const { None }; super::PRODUCTS_TOGETHER];
    let is_one = |work: &&mut Option<Work<'_>>| {
        work.as_ref().is_some_and(|work| work.is_worth_panels() && work.simd == simd)
    };
    for (right, work) in rights.iter_mut().zip(works.iter_mut().filter(is_one)) {
        *right = work.take().map(|work| Right {
            start: work.tiles.as_ptr().cast(),
            tile_step: depth * TILE_ROWS,
            depth_step: TILE_ROWS,
            lanes: work.width,
            target: Target {
                start: work.output,
                row_step: work.width,
                tile_step: TILE_ROWS,
                lanes: work.width,
            },
        });
    }
    let product =
        PanelProduct { simd, left, rows, depth, rights: &rights, resume: false, is_backward: false };
    // SAFETY: passed on from the caller.
    unsafe { product.run(team) }
}

/// Packed tiles, or expanded ones.
#[derive(Clone, Copy)]
struct Source {
    quants: *const u8,
    scales: *const u8,
    tile_step: usize,
}

/// Tiles of floats, packed or expanded.
#[derive(Clone, Copy)]
struct Floats {
    weights: *const u8,
    tile_step: usize,
    reads: Reads,
}

/// Where tiles of floats come from.
#[derive(Clone, Copy)]
enum Reads {
    Cache,
    /// `are_first`: no product with other tiles has fetched them.
    Memory {
        are_first: bool,
    },
}

impl Reads {
    /// What the product with `rows` of `all` rows fetches. Memory is read all the time where each of several products with the same tiles
    /// fetches its part of those that follow.
    fn fetch(self, rows: Range<usize>, all: usize) -> Fetch {
        match self {
            Reads::Cache => Fetch::Nothing,
            Reads::Memory { are_first: true } if rows.start == 0 => Fetch::Own,
            Reads::Memory { .. } if rows.len() == all => Fetch::Own,
            Reads::Memory { .. } => Fetch::Following { rows: (rows.start, rows.end), all },
        }
    }
}

/// How the tiles and rows of a product are divided into shares, one for each thread that may come, and each share into
/// parts: some tiles for up to [`ROWS_TOGETHER`] rows. A share's parts go through all its tiles before the next rows.
#[derive(Clone, Copy, Default)]
struct Division {
    tiles: usize,
    rows: usize,
    /// Shares of the tiles.
    tile_shares: usize,
    /// Shares of the rows.
    row_shares: usize,
    /// Tiles of a part.
    tiles_together: usize,
    /// Parts of a share for each [`ROWS_TOGETHER`] rows.
    tile_parts: usize,
    row_parts: usize,
}

impl Division {
    /// Threads split the tiles; where there are few tiles and many rows, they split the rows as well, at multiples of a
    /// strip.
    fn new(tiles: usize, tile_bytes: usize, columns: usize, rows: usize, shares: usize) -> Division {
        /// With fewer tiles per thread, another thread on the same tiles costs less than the loss of blocking.
        const FEWEST_TILES: usize = 3;
        /// With fewer rows per thread, the tiles are not worth visiting twice.
        const FEWEST_ROWS: usize = 64;
        let columns_wanted = shares.min((tiles / FEWEST_TILES).max(1));
        let row_shares = (shares / columns_wanted).min((rows / FEWEST_ROWS).max(1));
        let tile_shares = shares / row_shares;
        let tile_products = columns.max(1) * TILE_ROWS * rows.clamp(1, ROWS_TOGETHER);
        let enough = (PART_PRODUCTS / tile_products).min(PART_BYTES / tile_bytes.max(1));
        let multiple = if rows > 2 { 3 } else { 4 };
        let tiles_together = if enough >= TILES_TOGETHER {
            enough / TILES_TOGETHER * TILES_TOGETHER
        } else {
            (enough / multiple * multiple).max(multiple)
        };
        let share_rows = rows.div_ceil(STRIP_ROWS).div_ceil(row_shares) * STRIP_ROWS;
        Division {
            tiles,
            rows,
            tile_shares,
            row_shares,
            tiles_together,
            tile_parts: tiles.div_ceil(tile_shares).div_ceil(tiles_together),
            row_parts: share_rows.div_ceil(ROWS_TOGETHER),
        }
    }

    fn parts_of_a_share(&self) -> usize {
        self.tile_parts * self.row_parts
    }

    /// The tiles and rows of a part, possibly none.
    fn part(&self, index: usize, part: usize) -> (Range<usize>, Range<usize>) {
        if index >= self.tile_shares * self.row_shares {
            return (0..0, 0..0);
        }
        let strips = share(self.rows.div_ceil(STRIP_ROWS), self.row_shares, index / self.tile_shares);
        let rows = strips.start * STRIP_ROWS..(strips.end * STRIP_ROWS).min(self.rows);
        let rows = piece(rows, ROWS_TOGETHER, part / self.tile_parts);
        let tiles = share(self.tiles, self.tile_shares, index % self.tile_shares);
        (piece(tiles, self.tiles_together, part % self.tile_parts), rows)
    }
}

/// The `index`-th piece of `size` of a range, possibly empty.
fn piece(range: Range<usize>, size: usize, index: usize) -> Range<usize> {
    let start = range.end.min(range.start + index * size);
    start..range.end.min(start + size)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
