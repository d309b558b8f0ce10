//! Low-rank additions (Hu et al. 2021, "LoRA"): output += scale · (input · Aᵀ) · Bᵀ, row by row.
//!
//! A value between the two products has four partial sums: input k goes to partial sum k mod 4, in ascending order; they are
//! added as (0+1)+(2+3), and the sum is multiplied with the scale. An output gets one chain over each 64 ranks in ascending
//! order, added to what it was. All of it is a function of the row and the shapes alone.

use crate::lanes::{LANES, LaneKernel, Lanes};

/// Partial sums of a value between the products.
const PARTS: usize = 4;
/// Ranks between the products that are kept at once.
const RANKS: usize = 64;
/// Rows that share what is loaded of A and B; with 32 registers twice as many.
const ROWS: usize = 4;

/// Adds to every row of `out` the low-rank product of the same row of `input`.
pub(crate) struct AddLowRank<'a> {
    /// A `[rank, inputs]` in tiles of 16 rows: for each tile and input, 16 ranks.
    pub(crate) down: &'a [[f32; LANES]],
    /// B `[outputs, rank]` in tiles of 16 rows: for each tile and rank, 16 outputs.
    pub(crate) up: &'a [[f32; LANES]],
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// `[rows, inputs]`.
    pub(crate) input: &'a [f32],
    pub(crate) inputs: usize,
    /// `[rows, outputs]`.
    pub(crate) out: &'a mut [f32],
    pub(crate) outputs: usize,
}

/// Values between the products: for each 16 ranks and each row.
type Between<const M: usize> = [[[f32; LANES]; M]; RANKS / LANES];

impl LaneKernel for AddLowRank<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let rows = self.out.len() / self.outputs.max(1);
        let mut row = 0;
        if L::SCORE_ROWS >= 12 {
            while row + 2 * ROWS <= rows {
                self.add_to::<L, { 2 * ROWS }>(lanes, row);
                row += 2 * ROWS;
            }
        }
        while row + ROWS <= rows {
            self.add_to::<L, ROWS>(lanes, row);
            row += ROWS;
        }
        while row < rows {
            self.add_to::<L, 1>(lanes, row);
            row += 1;
        }
    }

    fn reference(self) {
        let rows = self.input.chunks_exact(self.inputs.max(1));
        for (input, out) in rows.zip(self.out.chunks_exact_mut(self.outputs.max(1))) {
            let value = |rank: usize| {
                let tile = &self.down[rank / LANES * self.inputs..][..self.inputs];
                let mut sums = [0.0f32; PARTS];
                for (k, (value, column)) in input.iter().zip(tile).enumerate() {
                    sums[k % PARTS] = value.mul_add(column[rank % LANES], sums[k % PARTS]);
                }
                ((sums[0] + sums[1]) + (sums[2] + sums[3])) * self.scale
            };
            let between: Vec<f32> = (0..self.rank).map(value).collect();
            for (output, out) in out.iter_mut().enumerate() {
                let tile = &self.up[output / LANES * self.rank..][..self.rank];
                for (between, columns) in between.chunks(RANKS).zip(tile.chunks(RANKS)) {
                    let mut sum = 0.0f32;
                    for (value, column) in between.iter().zip(columns) {
                        sum = value.mul_add(column[output % LANES], sum);
                    }
                    *out += sum;
                }
            }
        }
    }
}

impl AddLowRank<'_> {
    /// `M` rows from `first` on.
    #[inline(always)]
    fn add_to<L: Lanes, const M: usize>(&mut self, lanes: L, first: usize) {
        let mut done = 0;
        while done < self.rank {
            let ranks = (self.rank - done).min(RANKS);
            let mut between: Between<M> = [[[0.0; LANES]; M]; RANKS / LANES];
            for (tile, between) in between[..ranks.div_ceil(LANES)].iter_mut().enumerate() {
                let columns = &self.down[(done / LANES + tile) * self.inputs..][..self.inputs];
                self.go_down(lanes, first, columns, between);
            }
            self.go_up(lanes, first, done..done + ranks, &between);
            done += ranks;
        }
    }

    /// 16 values between the products of each of `M` rows.
    #[inline(always)]
    fn go_down<L: Lanes, const M: usize>(
        &self,
        lanes: L,
        first: usize,
        columns: &[[f32; LANES]],
        between: &mut [[f32; LANES]; M],
    ) {
        let mut parts = [[lanes.splat(0.0); M]; PARTS];
        if M == 1 {
            // The partial sums of one row hide each other's latency.
            let input = &self.input[first * self.inputs..][..columns.len()];
            for (values, columns) in input.chunks(PARTS).zip(columns.chunks(PARTS)) {
                for ((sums, value), column) in parts.iter_mut().zip(values).zip(columns) {
                    sums[0] = lanes.fma(lanes.splat(*value), lanes.load(column), sums[0]);
                }
            }
        } else {
            // Rows hide each other's latency; all partial sums of all rows would not fit into the registers.
            for (part, sums) in parts.iter_mut().enumerate() {
                let mut k = part;
                while k < columns.len() {
                    let column = lanes.load(&columns[k]);
                    for (row, sum) in sums.iter_mut().enumerate() {
                        let value = lanes.splat(self.input[(first + row) * self.inputs + k]);
                        *sum = lanes.fma(value, column, *sum);
                    }
                    k += PARTS;
                }
            }
        }
        let scale = lanes.splat(self.scale);
        for (row, between) in between.iter_mut().enumerate() {
            let pairs = [lanes.add(parts[0][row], parts[1][row]), lanes.add(parts[2][row], parts[3][row])];
            lanes.store(lanes.mul(lanes.add(pairs[0], pairs[1]), scale), between);
        }
    }

    /// Adds the products of B with these ranks to `M` rows of outputs.
    #[inline(always)]
    fn go_up<L: Lanes, const M: usize>(
        &mut self,
        lanes: L,
        first: usize,
        ranks: std::ops::Range<usize>,
        between: &Between<M>,
    ) {
        let mut output = 0;
        let mut tile = 0;
        while output < self.outputs {
            let columns = &self.up[tile * self.rank..][ranks.clone()];
            let mut sums = [lanes.splat(0.0); M];
            for (index, column) in columns.iter().enumerate() {
                let column = lanes.load(column);
                for (row, sum) in sums.iter_mut().enumerate() {
                    let value = lanes.splat(between[index / LANES][row][index % LANES]);
                    *sum = lanes.fma(value, column, *sum);
                }
            }
            let width = LANES.min(self.outputs - output);
            for (row, sum) in sums.iter().enumerate() {
                let out = &mut self.out[(first + row) * self.outputs + output..][..width];
                match out.as_chunks_mut::<LANES>() {
                    ([whole], _) => lanes.store(lanes.add(lanes.load(whole), *sum), whole),
                    (_, tail) => lanes.store_head(lanes.add(lanes.load_head(tail), *sum), tail),
                }
            }
            output += LANES;
            tile += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::dispatch;
    use crate::{Dtype, Matrix, SimdLevel, ThreadTeam};

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn packed(rows: usize, columns: usize, values: &[f32]) -> Matrix {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let team = ThreadTeam::new(1).unwrap();
        Matrix::pack(Dtype::F32, rows, columns, &bytes, SimdLevel::Scalar, &team).unwrap()
    }

    const SCALE: f32 = 1.7;

    fn kernel<'a>(down: &'a Matrix, up: &'a Matrix, input: &'a [f32], out: &'a mut [f32]) -> AddLowRank<'a> {
        AddLowRank {
            down: down.f32_packed().unwrap().as_chunks().0,
            up: up.f32_packed().unwrap().as_chunks().0,
            rank: down.rows(),
            scale: SCALE,
            input,
            inputs: down.columns(),
            out,
            outputs: up.rows(),
        }
    }

    /// Every level and every number of rows gives the bits of the reference, row by row, and these are near the formula in f64.
    #[test]
    fn every_row_has_the_bits_of_the_reference_and_is_near_the_formula() {
        let shapes: &[(usize, usize, usize)] = if cfg!(miri) {
            &[(5, 17, 3)]
        } else {
            &[(1, 1, 1), (5, 17, 3), (64, 100, 16), (66, 15, 17), (577, 33, 64), (40, 48, 65), (31, 70, 130)]
        };
        const ROWS: usize = 13;
        for &(inputs, outputs, rank) in shapes {
            let (a, b) = (values(rank * inputs, 1), values(outputs * rank, 2));
            let (down, up) = (packed(rank, inputs, &a), packed(outputs, rank, &b));
            let (input, before) = (values(ROWS * inputs, 3), values(ROWS * outputs, 4));
            let mut expected = before.clone();
            kernel(&down, &up, &input, &mut expected).reference();
            for row in 0..ROWS {
                let input = &input[row * inputs..][..inputs];
                let product = |r: usize, k: usize| f64::from(a[r * inputs + k]) * f64::from(input[k]);
                let between: Vec<f64> =
                    (0..rank).map(|r| (0..inputs).map(|k| product(r, k)).sum::<f64>()).collect();
                for output in 0..outputs {
                    let sum: f64 =
                        (0..rank).map(|r| f64::from(b[output * rank + r]) * between[r]).sum::<f64>();
                    let exact = f64::from(before[row * outputs + output]) + f64::from(SCALE) * sum;
                    let actual = f64::from(expected[row * outputs + output]);
                    assert!((actual - exact).abs() <= 1e-4 * exact.abs().max(1.0), "{actual}, not {exact}");
                }
            }
            for simd in SimdLevel::available() {
                for rows in 1..=ROWS {
                    let mut out = before[..rows * outputs].to_vec();
                    dispatch(simd, kernel(&down, &up, &input[..rows * inputs], &mut out));
                    let bits =
                        |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&out), bits(&expected[..rows * outputs]), "{simd}, {rows} rows, {rank}");
                }
            }
        }
    }
}
