//! f32 products of many rows, near the machine's limit: `out[row, lane] (+)= Σ_k left[row, k] · right[k, lane]`.
//!
//! For one stretch of k after the other, some rows of the left factor are copied into panels of [`PANEL_ROWS`] rows, which
//! stay in the second-level cache while tiles of the right factor, two at a time, go through the first-level cache. Sums wait
//! in the output between two stretches, where nothing is rounded: each output is one chain `sum = fma(left, right, sum)` over
//! ascending k, whatever the number of rows, the blocking and the threads. The product forward and both products of the
//! backward pass are this one, with other strides.

#[cfg(target_arch = "x86_64")]
mod amx;
mod kernel;
mod pack;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::lanes;
use crate::matrix::TILE_ROWS;
use crate::team::share;
use crate::{SimdLevel, ThreadTeam};
pub(super) use kernel::Target;
use kernel::{Ahead, Block};
pub(super) use pack::{Left, TransposeTile};
use pack::{PackLeft, PackRight};

/// Rows of a panel: with two tiles, 24 sums for the 32 registers of AVX-512.
const PANEL_ROWS: usize = 12;
/// Panels that go through all tiles together. With [`DEPTH`], 144 KiB of the second-level cache.
const PANELS_TOGETHER: usize = 12;
/// Most k of a stretch: two tiles take 32 KiB, a panel 12 KiB of the first-level cache.
const DEPTH: usize = 256;
/// Tiles that a kernel computes together.
const TILES_TOGETHER: usize = 2;
/// Most pairs of tiles of a part. Fewer would make copying the rows for each part count.
const PAIRS_OF_A_PART: usize = 48;

/// The right factor, and where the product with it goes.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// Lane 0 of k = 0 of the first tile.
    pub(super) start: *const f32,
    /// Elements from one tile to the next.
    pub(super) tile_step: usize,
    /// Elements from one k to the next; [`TILE_ROWS`] where a tile is contiguous.
    pub(super) depth_step: usize,
    /// Lanes that exist; read only where tiles are not contiguous.
    pub(super) lanes: usize,
    /// The sums of row 0, its first tile's first lane.
    pub(super) target: Target,
}

impl Right {
    fn ahead(&self, tile: usize, k: usize) -> Ahead {
        let &Right { start, tile_step, depth_step, .. } = self;
        Ahead { start: start.wrapping_add(tile * tile_step + k * depth_step), tile_step, depth_step }
    }

    fn pairs(&self) -> usize {
        self.target.lanes.div_ceil(TILE_ROWS).div_ceil(TILES_TOGETHER)
    }
}

/// A product of `rows` rows with one or more right factors over `depth` k.
pub(super) struct PanelProduct<'a> {
    pub(super) simd: SimdLevel,
    pub(super) left: Left,
    pub(super) rows: usize,
    pub(super) depth: usize,
    /// Those that are there; of all together, a part has some.
    pub(super) rights: &'a [Option<Right>],
    /// Whether the sums go on from what is in the output, or start from zero.
    pub(super) resume: bool,
    /// Whether the sums may be those of AMX where the processor has it. Not forward: few rows, which wait for memory, would be slower,
    /// and have to have the bits of many.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "no other processor has tile registers")
    )]
    pub(super) is_backward: bool,
}

// SAFETY: parts have disjoint outputs (see `Division`), everything else is only read.
unsafe impl Sync for PanelProduct<'_> {}

#[repr(align(64))]
struct Scratch<const ELEMENTS: usize>(MaybeUninit<[f32; ELEMENTS]>);

impl PanelProduct<'_> {
    /// Computes the product.
    ///
    /// # Safety
    /// The factors and the outputs exist for all rows, k and lanes, nobody else uses the outputs, and the processor has the
    /// instruction set.
    pub(super) unsafe fn run(&self, team: &ThreadTeam) {
        if self.rows == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if self.is_backward && self.simd == SimdLevel::Amx {
            // SAFETY: passed on from the caller.
            return unsafe { amx::run(self, team) };
        }
        let pairs = self.rights.iter().flatten().map(Right::pairs).sum();
        let panels = self.rows.div_ceil(PANEL_ROWS);
        let division = Division::new(panels, pairs, team.width(), PANELS_TOGETHER);
        team.run(division.parts(), &|_, part| {
            let (panels, pairs) = division.part(part);
            // SAFETY: passed on from the caller; every part has its own outputs.
            unsafe { self.part(panels, pairs) }
        });
    }

    /// # Safety
    /// As for [`PanelProduct::run`].
    unsafe fn part(&self, panels: Range<usize>, pairs: Range<usize>) {
        let rows = panels.start * PANEL_ROWS..self.rows.min(panels.end * PANEL_ROWS);
        let mut panel_memory = Scratch::<{ PANELS_TOGETHER * PANEL_ROWS * DEPTH }>(MaybeUninit::uninit());
        let panels = panel_memory.0.as_mut_ptr().cast::<f32>();
        // Without any k the outputs still have to become zero.
        let stretches = self.depth.div_ceil(DEPTH).max(1);
        for stretch in 0..stretches {
            let depth = share(self.depth, stretches, stretch);
            let left = self.left.from(rows.start, depth.start);
            let resume = self.resume || depth.start > 0;
            // SAFETY: the panels hold the most rows and k that a part and a stretch have; the rest is passed on.
            unsafe {
                let pack = PackLeft { left, rows: rows.len(), depth: depth.len(), out: panels };
                lanes::dispatch(self.simd, pack);
                self.stretch(panels, rows.clone(), depth, pairs.clone(), resume);
            }
        }
    }

    /// Multiplies packed rows with all pairs of tiles.
    ///
    /// # Safety
    /// As for [`PanelProduct::run`].
    unsafe fn stretch(
        &self,
        panels: *const f32,
        rows: Range<usize>,
        depth: Range<usize>,
        pairs: Range<usize>,
        resume: bool,
    ) {
        let mut tile_memory = Scratch::<{ TILES_TOGETHER * TILE_ROWS * DEPTH }>(MaybeUninit::uninit());
        let packed = tile_memory.0.as_mut_ptr().cast::<f32>();
        let mut first = 0;
        for right in self.rights.iter().flatten() {
            let end = first + right.pairs();
            for pair in pairs.start.max(first)..pairs.end.min(end) {
                let tile = (pair - first) * TILES_TOGETHER;
                let target = right.target.at(rows.start, tile);
                let tiles = target.lanes.div_ceil(TILE_ROWS).min(TILES_TOGETHER);
                // SAFETY: the tiles exist, and the scratch holds two of the longest stretch; the rest is passed on.
                unsafe {
                    let (start, tile_step) = self.tiles(right, tile, depth.clone(), packed);
                    let block = Block {
                        panels,
                        rows: rows.len(),
                        right: start,
                        tile_step,
                        tiles,
                        depth: depth.len(),
                        target,
                        resume,
                        ahead: right.ahead(tile + TILES_TOGETHER, depth.start),
                    };
                    lanes::dispatch(self.simd, block);
                }
            }
            first = end;
        }
    }

    /// Contiguous tiles from `tile` on, in `packed` if they are not: the first k of the first, and elements between two.
    ///
    /// # Safety
    /// As for [`PanelProduct::run`]; `packed` holds two tiles of `depth`.
    unsafe fn tiles(
        &self,
        right: &Right,
        tile: usize,
        depth: Range<usize>,
        packed: *mut f32,
    ) -> (*const f32, usize) {
        let &Right { tile_step, depth_step, .. } = right;
        let from = right.start.wrapping_add(tile * tile_step + depth.start * depth_step);
        if depth_step == TILE_ROWS {
            return (from, tile_step);
        }
        let (lanes, depth) = (right.lanes - tile * TILE_ROWS, depth.len());
        let pack = PackRight { from, tile_step, depth_step, lanes, depth, out: packed };
        // SAFETY: passed on from the caller.
        unsafe { lanes::dispatch(self.simd, pack) };
        (packed, depth * TILE_ROWS)
    }
}

/// How panels and pairs of tiles are divided into parts.
#[derive(Clone, Copy, Debug)]
struct Division {
    panels: usize,
    pairs: usize,
    panel_blocks: usize,
    pair_blocks: usize,
}

impl Division {
    fn new(panels: usize, pairs: usize, shares: usize, panels_together: usize) -> Division {
        /// With fewer panels per part, a tile is not used often enough once it is in the first-level cache.
        const FEWEST_PANELS: usize = 4;
        let mut panel_blocks = panels.div_ceil(panels_together);
        let mut pair_blocks = pairs.div_ceil(PAIRS_OF_A_PART);
        if panels >= FEWEST_PANELS * shares {
            panel_blocks = panel_blocks.next_multiple_of(shares);
        } else if !(panel_blocks * pair_blocks).is_multiple_of(shares) {
            pair_blocks = pair_blocks.next_multiple_of(shares).min(pairs);
        }
        Division { panels, pairs, panel_blocks, pair_blocks }
    }

    fn parts(&self) -> usize {
        self.panel_blocks * self.pair_blocks
    }

    /// The panels and pairs of a part. Parts that follow each other have the same panels.
    fn part(&self, part: usize) -> (Range<usize>, Range<usize>) {
        let (panel_block, pair_block) = (part / self.pair_blocks, part % self.pair_blocks);
        (share(self.panels, self.panel_blocks, panel_block), share(self.pairs, self.pair_blocks, pair_block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_pair_of_every_panel_once_and_fit_the_scratch() {
        for shares in 1..9 {
            for panels in [1, 2, 3, 7, 12, 13, 24, 25, 48, 86, 342] {
                for pairs in [0, 1, 2, 7, 18, 48, 49, 1536] {
                    let division = Division::new(panels, pairs, shares, PANELS_TOGETHER);
                    let mut seen = vec![0; panels * pairs];
                    for part in 0..division.parts() {
                        let (panel_range, pair_range) = division.part(part);
                        assert!(panel_range.len() <= PANELS_TOGETHER);
                        for panel in panel_range {
                            pair_range.clone().for_each(|pair| seen[panel * pairs + pair] += 1);
                        }
                    }
                    assert!(seen.iter().all(|&count| count == 1), "{division:?}");
                }
            }
        }
    }
}
