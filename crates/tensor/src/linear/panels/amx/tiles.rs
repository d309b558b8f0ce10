//! The product of split factors in tile registers.

use std::arch::asm;

use crate::linear::tile_registers::{RegisterShape, TileRegisters};

/// Rows of a tile register, and outputs of a tile of weights.
pub(super) const ROWS: usize = 16;
/// Bytes of a tile register of 16 rows.
pub(super) const TILE_BYTES: usize = 1024;
/// Bytes of a row of a tile register.
const ROW_BYTES: usize = 64;
/// Parts of a number: see [`super::split`].
pub(super) const PARTS: usize = 3;
/// Bytes of one block of k of one strip or tile, all parts.
pub(super) const BLOCK_BYTES: usize = PARTS * TILE_BYTES;
/// Most blocks of k of a right factor.
pub(super) const RIGHT_BLOCKS: usize = 4;
/// Bytes from the first tile of a right factor to the second, as they stand in the assembly.
pub(super) const RIGHT_STEP: usize = RIGHT_BLOCKS * BLOCK_BYTES;
const _: () = assert!(RIGHT_STEP == 12_288 && BLOCK_BYTES == 3_072 && TILE_BYTES == 1_024);

/// Where sums are: `[strip][tile]` pointers to the first row's first lane, and bytes from one row to the next for each tile.
#[repr(C)]
pub(super) struct Sums {
    pub(super) start: [[*mut f32; 2]; 2],
    pub(super) row_bytes: [usize; 2],
}

/// Split factors, `blocks` blocks of k each: one or two strips of rows, and two tiles.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) left: [*const u8; 2],
    /// The first tile's; the second's is [`RIGHT_STEP`] bytes behind it.
    pub(super) right: *const u8,
    pub(super) blocks: usize,
}

/// Four products of the registers of two strips and two tiles.
macro_rules! four {
    () => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n"
        )
    };
}

/// Two products of the registers of one strip and two tiles.
macro_rules! two {
    () => {
        concat!("tdpbf16ps tmm0, tmm4, tmm6\n", "tdpbf16ps tmm1, tmm4, tmm7\n")
    };
}

/// Loads a part of the left factor's strips.
macro_rules! left {
    ($offset:literal) => {
        concat!(
            "tileloadd tmm4, [{left0} + {step}*1 + ",
            $offset,
            "]\n",
            "tileloadd tmm5, [{left1} + {step}*1 + ",
            $offset,
            "]\n"
        )
    };
    (one $offset:literal) => {
        concat!("tileloadd tmm4, [{left0} + {step}*1 + ", $offset, "]\n")
    };
}

/// Loads a part of the right factor's tiles.
macro_rules! right {
    ($offset:literal) => {
        concat!(
            "tileloadd tmm6, [{right} + {step}*1 + ",
            $offset,
            "]\n",
            "tileloadd tmm7, [{right} + {step}*1 + 12288 + ",
            $offset,
            "]\n"
        )
    };
}

/// Loads the sums of a strip: tile 0 into the first register, tile 1 into the second.
macro_rules! load_sums {
    ($tile0:literal, $at0:literal, $tile1:literal, $at1:literal) => {
        concat!(
            "mov {at}, [{sums} + ",
            $at0,
            "]\n",
            "mov {row}, [{sums} + 32]\n",
            "tileloadd ",
            $tile0,
            ", [{at} + {row}*1]\n",
            "mov {at}, [{sums} + ",
            $at1,
            "]\n",
            "mov {row}, [{sums} + 40]\n",
            "tileloadd ",
            $tile1,
            ", [{at} + {row}*1]\n"
        )
    };
}

/// Stores the sums of a strip.
macro_rules! store_sums {
    ($tile0:literal, $at0:literal, $tile1:literal, $at1:literal) => {
        concat!(
            "mov {at}, [{sums} + ",
            $at0,
            "]\n",
            "mov {row}, [{sums} + 32]\n",
            "tilestored [{at} + {row}*1], ",
            $tile0,
            "\n",
            "mov {at}, [{sums} + ",
            $at1,
            "]\n",
            "mov {row}, [{sums} + 40]\n",
            "tilestored [{at} + {row}*1], ",
            $tile1,
            "\n"
        )
    };
}

/// The registers of this product: 0 to 3 for the sums of `[strip][tile]`, 4 and 5 for strips, 6 and 7 for tiles.
pub(super) struct Registers(#[allow(dead_code, reason = "configured as long as it lives")] TileRegisters);

impl Registers {
    /// For strips of `rows` rows, 1 to 16.
    ///
    /// # Safety
    /// As for [`TileRegisters::configure`].
    pub(super) unsafe fn configure(rows: usize) -> Registers {
        let mut shapes = [RegisterShape { rows, row_bytes: ROW_BYTES }; 8];
        (shapes[6].rows, shapes[7].rows) = (ROWS, ROWS);
        // SAFETY: passed on from the caller.
        Registers(unsafe { TileRegisters::configure(shapes) })
    }

    /// Adds the products of two strips and two tiles to `sums`, or begins with zeros. The order of the parts' products, for each
    /// block of k: low·high, middle·high, middle·middle, high·middle, high·high, high·low.
    ///
    /// # Safety
    /// The factors and the sums exist for as many rows as are configured, and the sums belong to the caller.
    pub(super) unsafe fn multiply_two(&self, factors: Factors, sums: &Sums, resume: bool) {
        let Factors { left, right, blocks } = factors;
        // SAFETY: the tiles are configured; all addresses are within the factors and sums.
        unsafe {
            asm!(
                "test {at}, {at}",
                "jz 3f",
                load_sums!("tmm0", "0", "tmm1", "8"),
                load_sums!("tmm2", "16", "tmm3", "24"),
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                // Without any k the sums still have to become zero.
                "test {blocks}, {blocks}",
                "jz 5f",
                "4:",
                left!("2048"), right!("0"), four!(),
                left!("1024"), four!(),
                right!("1024"), four!(),
                left!("0"), four!(),
                right!("0"), four!(),
                right!("2048"), four!(),
                "add {left0}, 3072",
                "add {left1}, 3072",
                "add {right}, 3072",
                "dec {blocks}",
                "jnz 4b",
                "5:",
                store_sums!("tmm0", "0", "tmm1", "8"),
                store_sums!("tmm2", "16", "tmm3", "24"),
                left0 = inout(reg) left[0] => _,
                left1 = inout(reg) left[1] => _,
                right = inout(reg) right => _,
                blocks = inout(reg) blocks => _,
                sums = in(reg) sums,
                step = in(reg) ROW_BYTES,
                at = inout(reg) usize::from(resume) => _,
                row = out(reg) _,
                options(nostack),
            );
        }
    }

    /// [`Registers::multiply_two`] for the first strip alone.
    ///
    /// # Safety
    /// As for that.
    pub(super) unsafe fn multiply_one(&self, factors: Factors, sums: &Sums, resume: bool) {
        let Factors { left, right, blocks } = factors;
        // SAFETY: the tiles are configured; all addresses are within the factors and sums.
        unsafe {
            asm!(
                "test {at}, {at}",
                "jz 3f",
                load_sums!("tmm0", "0", "tmm1", "8"),
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                // Without any k the sums still have to become zero.
                "test {blocks}, {blocks}",
                "jz 5f",
                "4:",
                left!(one "2048"), right!("0"), two!(),
                left!(one "1024"), two!(),
                right!("1024"), two!(),
                left!(one "0"), two!(),
                right!("0"), two!(),
                right!("2048"), two!(),
                "add {left0}, 3072",
                "add {right}, 3072",
                "dec {blocks}",
                "jnz 4b",
                "5:",
                store_sums!("tmm0", "0", "tmm1", "8"),
                left0 = inout(reg) left[0] => _,
                right = inout(reg) right => _,
                blocks = inout(reg) blocks => _,
                sums = in(reg) sums,
                step = in(reg) ROW_BYTES,
                at = inout(reg) usize::from(resume) => _,
                row = out(reg) _,
                options(nostack),
            );
        }
    }
}
