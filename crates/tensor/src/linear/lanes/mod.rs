//! Sixteen lanes, one per output row of a tile: the vector operations that the matrix kernels are written in.
//!
//! A kernel is written once, generic over [`TileLanes`]; each instruction set is one file that implements the
//! trait. Nothing here knows matrices or threads.
//!
//! How a kernel gets its instructions: [`TileKernel::run`] and every method of [`TileLanes`] are `#[inline(always)]`,
//! and the only function that carries `#[target_feature]` is the implementation of [`TileLanes::enter`]. Whatever
//! is inlined into it is compiled for its instruction set. Closures do not take part in this: one that the compiler
//! decides not to inline calls every intrinsic as a function, at a thirtieth of the speed. Kernels and
//! implementations therefore use loops and `#[inline(always)]` functions, never `map` or `from_fn`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_bytes;
mod scalar;

use crate::SimdLevel;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{eight_largest, exact_dot, sixteen_rounded_bytes, transpose_floats};
#[cfg(target_arch = "x86_64")]
pub(in crate::linear) use avx512::Avx512;

/// Vector operations on 16 lanes of 32 bits.
///
/// # Safety
/// Every method may only be called on a processor that has the instruction set, and is fast only when inlined
/// into [`TileLanes::enter`]. Pointers need no alignment and must be valid for the bytes that the method names.
pub(crate) trait TileLanes: 'static {
    /// Four bytes per lane.
    type Words: Copy;
    /// One i32 per lane.
    type Ints: Copy;
    /// One f32 per lane.
    type Floats: Copy;
    /// How much of a product fits in this instruction set's registers.
    const BLOCKING: Blocking;
    /// Whether kernels of four rows should use [`TileLanes::dot_four_rows`].
    const FOUR_ROWS_TOGETHER: bool = false;

    /// Runs `kernel` compiled for this instruction set.
    unsafe fn enter<K: TileKernel>(kernel: K);

    /// Asks for the cache line at `address`, which need not exist.
    unsafe fn prefetch(address: *const u8);
    /// The same for a line that is used so much later that the first-level cache would not keep it.
    unsafe fn prefetch_for_later(address: *const u8);
    /// Loads 64 bytes.
    unsafe fn load_words(from: *const u8) -> Self::Words;
    /// Stores 64 bytes.
    unsafe fn store_words(words: Self::Words, to: *mut u8);
    /// Shifts the bits of every byte right by `right` (left when negative) and keeps those in `mask`. `mask`
    /// must exclude bits that come from a neighbouring byte.
    unsafe fn bits(words: Self::Words, right: i32, mask: u8) -> Self::Words;
    /// The entries of a table that the bytes number, each below 16.
    unsafe fn look_up(table: &[u8; 16], bytes: Self::Words) -> Self::Words;
    /// Bitwise or.
    unsafe fn or(a: Self::Words, b: Self::Words) -> Self::Words;

    /// All zeros.
    unsafe fn zero_ints() -> Self::Ints;
    /// One i32 from memory in every lane.
    unsafe fn broadcast_int(from: *const i32) -> Self::Ints;
    /// Shifts left by `bits`.
    unsafe fn shift_left(ints: Self::Ints, bits: u32) -> Self::Ints;
    /// Subtracts lane by lane.
    unsafe fn subtract(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Adds to each lane the exact dot product of its four unsigned bytes of `weights` with the four signed
    /// bytes of `activations`. `wide` says that weights may exceed 127.
    unsafe fn dot(sum: Self::Ints, weights: Self::Words, activations: Self::Ints, wide: bool) -> Self::Ints;
    /// [`TileLanes::dot`] for four rows and eight columns. `weights` are two groups of four columns, `activations` point to the
    /// words of four rows for each group. `sums` begin as zeros and may be in an order of their own until
    /// [`TileLanes::in_rows`].
    #[inline(always)]
    unsafe fn dot_four_rows(
        sums: &mut [Self::Ints; 4],
        weights: [Self::Words; 2],
        activations: [*const u8; 2],
        wide: bool,
    ) {
        for group in 0..2 {
            for (row, sum) in sums.iter_mut().enumerate() {
                // SAFETY: passed on from the caller.
                unsafe {
                    let four = Self::broadcast_int(activations[group].cast::<i32>().add(row));
                    *sum = Self::dot(*sum, weights[group], four, wide);
                }
            }
        }
    }
    /// The sums of [`TileLanes::dot_four_rows`] by row.
    #[inline(always)]
    unsafe fn in_rows(sums: [Self::Ints; 4]) -> [Self::Ints; 4] {
        sums
    }
    /// Converts to f32; exact below 2²⁴.
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats;

    /// Quantises a block of activations: writes its bytes, four to a word, and returns the scale and the sums of
    /// the bytes of either half. The same bits at every level, those of [`scalar::quantise`].
    unsafe fn quantise(block: &[f32; 32], bytes: &mut [u32; 8]) -> (f32, [i32; 2]);
    /// Quantises the blocks of four rows: writes `[group of four columns][row]` words, and returns the scales of the
    /// rows and the sums of the bytes of the first and the second halves. The bits of [`TileLanes::quantise`].
    #[inline(always)]
    unsafe fn quantise_four(blocks: [&[f32; 32]; 4], words: &mut [[u32; 4]; 8]) -> ([f32; 4], [[i32; 4]; 2]) {
        let (mut scales, mut sums) = ([0.0; 4], [[0; 4]; 2]);
        for row in 0..4 {
            let mut bytes = [0; 8];
            // SAFETY: passed on from the caller.
            let (scale, halves) = unsafe { Self::quantise(blocks[row], &mut bytes) };
            for group in 0..8 {
                words[group][row] = bytes[group];
            }
            scales[row] = scale;
            for half in 0..2 {
                sums[half][row] = halves[half];
            }
        }
        (scales, sums)
    }

    /// All zeros.
    unsafe fn zero() -> Self::Floats;
    /// One f32 from memory in every lane.
    unsafe fn broadcast(from: *const f32) -> Self::Floats;
    /// Loads 16 f32.
    unsafe fn load(from: *const f32) -> Self::Floats;
    /// Stores 16 f32.
    unsafe fn store(floats: Self::Floats, to: *mut f32);
    /// Writes columns of four rows of four f32 as rows: element `[j, i]` of `to` becomes element `[i, j]` of `from`.
    #[inline(always)]
    unsafe fn transpose_four(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: passed on from the caller.
                unsafe { *to.add(j * to_step + i) = *from.add(i * from_step + j) }
            }
        }
    }
    /// Loads 16 f16 (32 bytes).
    unsafe fn load_f16(from: *const u8) -> Self::Floats;
    /// Loads 16 bf16 (32 bytes).
    unsafe fn load_bf16(from: *const u8) -> Self::Floats;
    /// Loads 16 unsigned bytes.
    unsafe fn load_u8(from: *const u8) -> Self::Floats;
    /// Loads 16 signed bytes.
    unsafe fn load_i8(from: *const u8) -> Self::Floats;
    /// `a·b`, rounded.
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a·b + c`, rounded once.
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `−a·b + c`, rounded once.
    unsafe fn negative_multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}

/// A kernel that can be compiled for any instruction set.
pub(crate) trait TileKernel {
    /// Does the work. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// As stated by each kernel; in addition the processor must have the instruction set `S`.
    unsafe fn run<S: TileLanes>(self);
}

/// Register blocking of an instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// 32 registers that each hold 16 lanes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has them"))]
    ThirtyTwoFull,
    /// 16 registers that each hold 8 lanes, or 32 that each hold 4.
    SixteenHalf,
    /// No vector registers to speak of.
    None,
}

/// The register blocking of `level`.
pub(crate) fn blocking(level: SimdLevel) -> Blocking {
    match level {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512Vnni | SimdLevel::Amx => avx512::Avx512::BLOCKING,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::AvxVnni => avx2::AvxVnni::BLOCKING,
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => avx2::Avx2::BLOCKING,
        #[cfg(target_arch = "aarch64")]
        SimdLevel::Neon => neon::Neon::BLOCKING,
        #[cfg(target_arch = "aarch64")]
        SimdLevel::DotProd => neon::DotProd::BLOCKING,
        #[cfg(target_arch = "aarch64")]
        SimdLevel::I8mm => neon::I8mm::BLOCKING,
        _ => scalar::Scalar::BLOCKING,
    }
}

/// Runs `kernel` on the instruction set of `level`.
///
/// # Safety
/// The processor must support `level`, and the kernel's own conditions must hold.
#[inline]
pub(crate) unsafe fn dispatch<K: TileKernel>(level: SimdLevel, kernel: K) {
    // SAFETY: passed on from the caller.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512Vnni | SimdLevel::Amx => avx512::Avx512::enter(kernel),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::AvxVnni => avx2::AvxVnni::enter(kernel),
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => avx2::Avx2::enter(kernel),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::I8mm => neon::I8mm::enter(kernel),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::DotProd => neon::DotProd::enter(kernel),
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => neon::Neon::enter(kernel),
            _ => scalar::Scalar::enter(kernel),
        }
    }
}
