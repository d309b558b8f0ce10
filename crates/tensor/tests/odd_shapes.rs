//! The matrix product of every type at every instruction set, for every number of rows up to 67, odd multiples of a
//! block and outputs that fill no tile: bit-equal to the reference, whatever numbers the weights' scales are.

use crate::reference::{Random, ScaleKind, products, random_activations, random_weights};
use zhenjin_tensor::{Dtype, Matrix, Product, QuantisedRows, SimdLevel, ThreadTeam, linear};

const OUTPUTS: [usize; 9] = [1, 17, 5, 33, 15, 31, 50, 7, 47];

/// Odd multiples of a block; any number for types without blocks.
fn columns(dtype: Dtype, shape: usize) -> usize {
    match dtype.block_elements() {
        1 => [1, 3, 31, 33, 77, 129][shape % 6],
        32 => [1, 3, 5, 7, 11][shape % 5] * 32,
        block => [1, 3][shape % 2] * block,
    }
}

/// Bits that can be compared: which NaN comes out is not stated.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

/// Several shapes for each number of rows.
fn shapes(rows: usize) -> impl Iterator<Item = usize> {
    [rows, 2 * rows + 1, 3 * rows + 2].into_iter()
}

fn check(kind: ScaleKind, seed: u64) {
    let team = ThreadTeam::new(2).unwrap();
    let mut quantised = QuantisedRows::new();
    for dtype in Dtype::ALL {
        for (rows, shape) in (1..=67).flat_map(|rows| shapes(rows).map(move |shape| (rows, shape))) {
            let mut random = Random::new(seed + shape as u64);
            let (outputs, columns) = (OUTPUTS[shape % OUTPUTS.len()], columns(dtype, shape));
            let weights = random_weights(&mut random, dtype, outputs * columns, kind);
            let input = random_activations(&mut random, rows * columns, kind);
            let expected = bits(&products(dtype, &weights, outputs, &input, rows));
            for simd in SimdLevel::available() {
                let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
                let mut output = vec![f32::NAN; rows * outputs];
                let mut product = [Product { matrix: &matrix, output: &mut output }];
                linear(&team, &input, rows, &mut quantised, &mut product).unwrap();
                assert!(
                    bits(&output) == expected,
                    "{dtype} {simd}: {rows} rows × {columns} columns × {outputs} outputs"
                );
            }
        }
    }
}

#[test]
fn usual_numbers() {
    check(ScaleKind::Usual, 100);
}

#[test]
fn zeros_subnormals_infinities_and_the_ends_of_the_quants() {
    check(ScaleKind::Extreme, 200);
}

#[test]
fn scales_that_are_no_numbers_show_in_their_outputs_alone() {
    let team = ThreadTeam::new(1).unwrap();
    // The scale of MXFP4 is a power of two, whatever its bits are.
    for dtype in Dtype::ALL.into_iter().filter(|dtype| *dtype != Dtype::Mxfp4) {
        let columns = columns(dtype, 1);
        let mut random = Random::new(31);
        let mut weights = random_weights(&mut random, dtype, 33 * columns, ScaleKind::Usual);
        let row_bytes = weights.len() / 33;
        let broken: &mut [u8] = &mut weights[20 * row_bytes..21 * row_bytes];
        // The first scale of a block stands at its beginning, Q6_K's at its end. All ones are a NaN in every type.
        let at = if dtype == Dtype::Q6K { broken.len() - 2 } else { 0 };
        broken[at..at + if dtype == Dtype::F32 { 4 } else { 2 }].fill(0xFF);
        let input = random_activations(&mut random, 3 * columns, ScaleKind::Usual);
        for simd in SimdLevel::available() {
            let matrix = Matrix::pack(dtype, 33, columns, &weights, simd, &team).unwrap();
            let mut output = vec![0.0; 3 * 33];
            let mut product = [Product { matrix: &matrix, output: &mut output }];
            linear(&team, &input, 3, &mut QuantisedRows::new(), &mut product).unwrap();
            for (index, value) in output.iter().enumerate() {
                assert_eq!(value.is_nan(), index % 33 == 20, "{dtype} {simd}, output {index}: {value}");
            }
        }
    }
}
