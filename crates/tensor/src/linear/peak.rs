//! What this machine could do at most: byte products, float products and memory reads per second, measured with
//! loops that do nothing else. Benchmarks state their speed as a fraction of these.

use super::integer::{FAR_AHEAD, NEAR_AHEAD};
use super::lanes::{self, TileKernel, TileLanes};
use crate::matrix::{TILE_ROWS, VECTOR};
use crate::{SimdLevel, TensorError, ThreadTeam};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Independent sums: enough to hide the latency of the multiplier of every processor we know.
const CHAINS: usize = 12;
/// Rounds over all chains in one measurement (some tenths of a millisecond).
const ROUNDS: usize = 100_000;
/// A measurement is the best of at least these many tries.
const TRIES: usize = 20;
/// A measurement takes at least so long: new threads may share a processor before the system spreads them.
const LEAST_TIME: Duration = Duration::from_millis(200);

/// Byte operations per second (a multiplication and an addition count as two) of all threads of the team
/// together, in the instruction that the integer kernels use.
///
/// # Errors
/// [`TensorError::UnsupportedSimd`].
pub fn integer_operations(simd: SimdLevel, team: &ThreadTeam) -> Result<f64, TensorError> {
    // SAFETY: the level is checked by `best`, the kernel has no other condition.
    let seconds = best(simd, team, || unsafe { lanes::dispatch(simd, Dots) })?;
    Ok((2 * VECTOR * CHAINS * ROUNDS * team.threads()) as f64 / seconds)
}

/// f32 operations per second (a multiplication and an addition count as two) of all threads of the team together.
///
/// # Errors
/// [`TensorError::UnsupportedSimd`].
pub fn float_operations(simd: SimdLevel, team: &ThreadTeam) -> Result<f64, TensorError> {
    // SAFETY: the level is checked by `best`, the kernel has no other condition.
    let seconds = best(simd, team, || unsafe { lanes::dispatch(simd, MultiplyAdds) })?;
    Ok((2 * TILE_ROWS * CHAINS * ROUNDS * team.threads()) as f64 / seconds)
}

/// Bytes per second that all threads of the team together read from `memory`, whose size decides which cache it
/// comes from; in streams and with fetching ahead, as the kernels read weights.
///
/// # Errors
/// [`TensorError::UnsupportedSimd`].
pub fn read_bytes(simd: SimdLevel, memory: &[u64], team: &ThreadTeam) -> Result<f64, TensorError> {
    simd.require()?;
    let seconds = shortest(|| {
        team.for_ranges(memory.len(), |range| {
            let part = &memory[range];
            let kernel = Reads { start: part.as_ptr().cast(), bytes: size_of_val(part) };
            // SAFETY: the level has been checked, and the bytes are those of `part`.
            unsafe { lanes::dispatch(simd, kernel) }
        });
    });
    Ok(size_of_val(memory) as f64 / seconds)
}

fn best(simd: SimdLevel, team: &ThreadTeam, work: impl Fn() + Sync) -> Result<f64, TensorError> {
    simd.require()?;
    Ok(shortest(|| team.run(team.threads(), &|_, _| work())))
}

/// Seconds of the fastest try.
fn shortest(work: impl Fn()) -> f64 {
    let (begun, mut shortest, mut tries) = (Instant::now(), f64::INFINITY, 0);
    while tries < TRIES || begun.elapsed() < LEAST_TIME {
        let start = Instant::now();
        work();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        tries += 1;
    }
    shortest
}

/// Byte products into [`CHAINS`] sums.
struct Dots;

impl TileKernel for Dots {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let bytes = black_box([1_u8; VECTOR]);
        // SAFETY: loads and stores are within the arrays; the instruction set is there by the trait's condition.
        unsafe {
            let weights = S::load_words(bytes.as_ptr());
            let activations = S::broadcast_int(bytes.as_ptr().cast());
            let mut sums = [S::zero_ints(); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = S::dot(*sum, weights, activations, false);
                }
            }
            for sum in sums {
                black_box(sum);
            }
        }
    }
}

/// Reads `bytes` bytes from `start`, up to a rest of less than a vector for each stream.
struct Reads {
    start: *const u8,
    bytes: usize,
}

impl TileKernel for Reads {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        const STREAMS: usize = 4;
        let stream = self.bytes / STREAMS / VECTOR * VECTOR;
        // SAFETY: all loads are within the bytes; a prefetch reads nothing.
        unsafe {
            let mut found = [S::load_words([0_u8; VECTOR].as_ptr()); STREAMS];
            for offset in (0..stream).step_by(VECTOR) {
                for (index, found) in found.iter_mut().enumerate() {
                    let at = self.start.add(index * stream + offset);
                    S::prefetch_for_later(at.wrapping_add(FAR_AHEAD));
                    S::prefetch(at.wrapping_add(NEAR_AHEAD));
                    *found = S::or(*found, S::load_words(at));
                }
            }
            black_box(found);
        }
    }
}

/// Float products into [`CHAINS`] sums.
struct MultiplyAdds;

impl TileKernel for MultiplyAdds {
    #[inline(always)]
    unsafe fn run<S: TileLanes>(self) {
        let values = black_box([0.5_f32; TILE_ROWS]);
        // SAFETY: loads are within the array; the instruction set is there by the trait's condition.
        unsafe {
            let (a, b) = (S::load(values.as_ptr()), S::broadcast(values.as_ptr()));
            let mut sums = [S::zero(); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = S::multiply_add(a, b, *sum);
                }
            }
            for sum in sums {
                black_box(sum);
            }
        }
    }
}
