//! The tile registers of AMX. Stable Rust has no intrinsics for them, so their instructions are written in assembly; the compiler
//! itself uses none of these registers.

use std::arch::asm;
use std::marker::PhantomData;

/// What `ldtilecfg` reads (Intel SDM, volume 1, "Tile architecture details").
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// Shape of a tile register: at most 16 rows of 64 bytes.
#[derive(Clone, Copy)]
pub(super) struct RegisterShape {
    pub(super) rows: usize,
    pub(super) row_bytes: usize,
}

/// The thread's tile registers, configured. On drop their state is given up, so that the system need not save it when it switches
/// threads.
pub(super) struct TileRegisters(PhantomData<*const ()>);

impl TileRegisters {
    /// Gives the eight registers their shapes.
    ///
    /// # Safety
    /// The processor has AMX, the process may use it, the shapes are possible ones, and no other value of this type exists in the thread.
    pub(super) unsafe fn configure(shapes: [RegisterShape; 8]) -> TileRegisters {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        for (register, shape) in shapes.into_iter().enumerate() {
            configuration.bytes_per_row[register] = shape.row_bytes as u16;
            configuration.rows[register] = shape.rows as u8;
        }
        // SAFETY: the configuration is a valid one of palette 1.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
        }
        TileRegisters(PhantomData)
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        // SAFETY: `configure` has shown that the processor has the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}
