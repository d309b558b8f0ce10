//! Sixteen f32 lanes: the vector that the small operations and attention are written in, once for all instruction sets.
//!
//! A kernel is a [`LaneKernel`]: generic code over [`Lanes`] that [`dispatch`] compiles once per instruction set.
//! Every lane operation is correctly rounded and every sum over lanes has one order, so all levels give the same bits,
//! and so does the scalar reference beside each kernel. This module does not know what is computed.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::SimdLevel;

/// Number of lanes of a [`Lanes::Vector`], at every level.
pub(crate) const LANES: usize = 16;

/// The operations on sixteen f32 lanes. A value of the type is the proof that the processor has the instructions.
pub(crate) trait Lanes: Copy {
    /// Sixteen f32.
    type Vector: Copy;
    /// Sixteen i32, or four bytes in each of sixteen lanes.
    type Ints: Copy;

    /// Rows of queries for which the scores against one page of keys fit in the registers.
    const SCORE_ROWS: usize;

    /// All lanes equal.
    fn splat(self, value: f32) -> Self::Vector;
    /// Fetches `values` into the second-level cache.
    fn fetch_ahead(self, values: &[f32]);
    /// Sixteen consecutive values.
    fn load(self, values: &[f32; LANES]) -> Self::Vector;
    /// At most sixteen values; the lanes behind them are zero.
    fn load_head(self, values: &[f32]) -> Self::Vector;
    /// Writes all lanes.
    fn store(self, vector: Self::Vector, out: &mut [f32; LANES]);
    /// Writes the first `out.len() ≤ 16` lanes.
    fn store_head(self, vector: Self::Vector, out: &mut [f32]);

    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The smaller of `bound` and `value`; NaN when `value` is.
    fn at_most(self, bound: Self::Vector, value: Self::Vector) -> Self::Vector;
    /// The greater of `bound` and `value`; NaN when `value` is.
    fn at_least(self, bound: Self::Vector, value: Self::Vector) -> Self::Vector;
    /// Nearest whole number, ties to even.
    fn round(self, value: Self::Vector) -> Self::Vector;
    /// `value · 2^exponent` for whole exponents from −126 to 127.
    fn times_power_of_two(self, value: Self::Vector, exponent: Self::Vector) -> Self::Vector;
    /// `value` where not (`test < bound`), else 0.
    fn zero_where_less(self, value: Self::Vector, test: Self::Vector, bound: Self::Vector) -> Self::Vector;
    /// Lanes `from..to` of `value`, −∞ elsewhere. `from ≤ to ≤ 16`.
    fn only_lanes(self, value: Self::Vector, from: usize, to: usize) -> Self::Vector;
    /// A step of the Walsh–Hadamard transform: of lanes i and i + `DISTANCE` (1, 2, 4 or 8; i without that bit), their sum
    /// in lane i and their difference in the other.
    fn butterfly<const DISTANCE: usize>(self, value: Self::Vector) -> Self::Vector;
    /// Lanes 2i and 2i+1 exchanged.
    fn swap_pairs(self, value: Self::Vector) -> Self::Vector;

    /// Sum of the lanes: halves added until one is left (see [`sum_lanes`]).
    fn sum(self, value: Self::Vector) -> f32;
    /// The greatest lane (unspecified when one is NaN).
    fn greatest(self, value: Self::Vector) -> f32;
    /// The greatest magnitude of both vectors' lanes as bits (see [`crate::rounding::largest_of`]).
    fn largest(self, a: Self::Vector, b: Self::Vector) -> u32;

    /// The same four bytes in all lanes.
    fn splat_int(self, value: i32) -> Self::Ints;
    /// Four consecutive bytes for each lane.
    fn load_bytes(self, bytes: &[u8; 4 * LANES]) -> Self::Ints;
    /// Adds to each lane of `sum` the exact dot product of its four unsigned bytes with its four signed bytes.
    fn dot(self, sum: Self::Ints, unsigned: Self::Ints, signed: Self::Ints) -> Self::Ints;
    /// Converts to f32; exact below 2²⁴.
    fn to_floats(self, ints: Self::Ints) -> Self::Vector;
    /// Writes [`crate::rounding::round_to_byte`] of every lane.
    fn store_rounded(self, value: Self::Vector, inverse: f32, out: &mut [u8; LANES]);
}

/// Code over lanes, compiled once per instruction set by [`dispatch`].
pub(crate) trait LaneKernel {
    /// What the kernel returns.
    type Output;
    /// The kernel. Implementations must be `#[inline(always)]`, or they are compiled without the instructions.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
    /// The same in plain Rust: the definition that `run` must equal bit for bit.
    fn reference(self) -> Self::Output;
}

/// Runs the kernel with the instructions of `simd`, or its reference for [`SimdLevel::Scalar`].
/// A level that this processor lacks runs the reference as well: the bits are the same.
pub(crate) fn dispatch<K: LaneKernel>(simd: SimdLevel, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        x86::dispatch(simd, kernel)
    }
    #[cfg(target_arch = "aarch64")]
    {
        aarch64::dispatch(simd, kernel)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = simd;
        kernel.reference()
    }
}

/// The order in which sixteen lanes are summed: upper half onto lower half, four times.
pub(crate) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut sums = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums, four unsigned and four signed bytes for each lane.
    struct Dots([u8; 4 * LANES], [u8; 4 * LANES]);

    impl LaneKernel for Dots {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [f32; LANES] {
            let dots = lanes.dot(lanes.splat_int(1000), lanes.load_bytes(&self.0), lanes.load_bytes(&self.1));
            let mut out = [0.0; LANES];
            lanes.store(lanes.to_floats(dots), &mut out);
            out
        }

        fn reference(self) -> [f32; LANES] {
            std::array::from_fn(|lane| {
                let bytes = 4 * lane..4 * lane + 4;
                let product = |byte: usize| i32::from(self.0[byte]) * i32::from(self.1[byte].cast_signed());
                (1000 + bytes.map(product).sum::<i32>()) as f32
            })
        }
    }

    #[test]
    fn products_of_bytes_are_exact_at_every_level() {
        const EXTREMES: ([u8; 8], [i8; 8]) =
            ([0, 1, 64, 127, 128, 129, 254, 255], [i8::MIN, -127, -64, -1, 0, 1, 126, i8::MAX]);
        for simd in SimdLevel::available() {
            // Every pair of extremes meets every other one in a lane.
            for step in 0..64 * 64 {
                let pair = |byte: usize| (step >> (6 * (byte % 2))) % 64;
                let unsigned = std::array::from_fn(|byte| EXTREMES.0[pair(byte) % 8]);
                let signed = std::array::from_fn(|byte| EXTREMES.1[pair(byte) / 8].cast_unsigned());
                let expected = Dots(unsigned, signed).reference();
                assert_eq!(dispatch(simd, Dots(unsigned, signed)), expected, "{simd}");
            }
            // Bytes are not taken for those of other lanes.
            let unsigned = std::array::from_fn(|byte| (byte * 37 % 256) as u8);
            let signed = std::array::from_fn(|byte| (byte * 91 % 256) as u8);
            let expected = Dots(unsigned, signed).reference();
            assert_eq!(dispatch(simd, Dots(unsigned, signed)), expected, "{simd}");
        }
    }
}
