//! The matrix product: every type at every instruction set of this machine, on odd shapes and odd numbers,
//! bit-equal to the reference; the same bits for any number of rows, products and threads; and how far
//! activations in 8 bits are from the product in f32.

use crate::reference::{self, Random, ScaleKind, random_activations, random_weights};
use zhenjin_tensor::{
    Dtype, Matrix, Product, QuantisedRows, SimdLevel, TensorError, ThreadTeam, dequantise, linear,
};

fn run(team: &ThreadTeam, matrix: &Matrix, input: &[f32], rows: usize) -> Vec<f32> {
    let mut output = vec![f32::NAN; rows * matrix.rows()];
    let mut products = [Product { matrix, output: &mut output }];
    linear(team, input, rows, &mut QuantisedRows::new(), &mut products).unwrap();
    output
}

/// Bits that can be compared: which NaN comes out is not stated.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

fn columns_of(dtype: Dtype, small: usize) -> usize {
    if dtype.is_quantised() { small * dtype.block_elements() } else { small * 37 }
}

#[test]
fn every_type_and_level_is_bit_equal_to_the_reference_on_odd_shapes() {
    let team = ThreadTeam::new(2).unwrap();
    for dtype in Dtype::ALL {
        for (seed, (outputs, blocks, rows)) in [
            (1, 1, 1),
            (5, 2, 2),
            (15, 1, 3),
            (16, 3, 4),
            (17, 2, 5),
            (31, 1, 9),
            (33, 5, 7),
            (48, 1, 12),
            (67, 2, 13),
        ]
        .into_iter()
        .enumerate()
        {
            for kind in [ScaleKind::Usual, ScaleKind::Extreme] {
                let mut random = Random::new(seed as u64 + 1);
                let columns = columns_of(dtype, blocks);
                let weights = random_weights(&mut random, dtype, outputs * columns, kind);
                let input = random_activations(&mut random, rows * columns, kind);
                let row_bytes = weights.len() / outputs;
                let expected: Vec<f32> = input
                    .chunks_exact(columns)
                    .flat_map(|input| {
                        weights
                            .chunks_exact(row_bytes)
                            .map(|weights| reference::product(dtype, weights, input))
                    })
                    .collect();
                for simd in SimdLevel::available() {
                    let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
                    let output = run(&team, &matrix, &input, rows);
                    assert_eq!(
                        bits(&output),
                        bits(&expected),
                        "{dtype} {simd}: {rows} rows × {columns} columns × {outputs} outputs"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_as_among_many() {
    let team = ThreadTeam::new(2).unwrap();
    for dtype in Dtype::ALL {
        // More columns than are expanded at once.
        let (outputs, columns, most) =
            (83, columns_of(dtype, if dtype.block_elements() == 32 { 49 } else { 7 }), 71);
        let mut random = Random::new(7);
        let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
        let input = random_activations(&mut random, most * columns, ScaleKind::Usual);
        for simd in SimdLevel::available() {
            let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
            let alone: Vec<f32> =
                input.chunks_exact(columns).flat_map(|row| run(&team, &matrix, row, 1)).collect();
            for rows in [2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 31, 64, 65, most] {
                let output = run(&team, &matrix, &input[..rows * columns], rows);
                assert_eq!(bits(&output), bits(&alone[..rows * outputs]), "{dtype} {simd}: {rows} rows");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for dtype in [Dtype::F32, Dtype::Q4_1, Dtype::Q6K] {
        let mut random = Random::new(3);
        let columns = columns_of(dtype, 2);
        for (outputs, rows) in [(16, 1), (40, 1), (40, 5), (70, 130), (16, 200)] {
            let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
            let input = random_activations(&mut random, rows * columns, ScaleKind::Usual);
            let outputs_with = |simd, threads| {
                let team = ThreadTeam::new(threads).unwrap();
                let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
                bits(&run(&team, &matrix, &input, rows))
            };
            for simd in SimdLevel::available() {
                let one = outputs_with(simd, 1);
                for threads in [2, 3, 7] {
                    assert_eq!(
                        outputs_with(simd, threads),
                        one,
                        "{dtype} {simd}: {threads} threads, {rows} rows, {outputs} outputs"
                    );
                }
            }
        }
    }
}

#[test]
fn several_callers_of_one_team_with_too_many_threads_change_no_bit() {
    let (alone, team) = (ThreadTeam::new(1).unwrap(), ThreadTeam::new(7).unwrap());
    std::thread::scope(|scope| {
        for (seed, dtype) in [Dtype::F32, Dtype::Q4_1, Dtype::Q8_0, Dtype::Q6K].into_iter().enumerate() {
            let (alone, team) = (&alone, &team);
            scope.spawn(move || {
                let mut random = Random::new(seed as u64);
                let (columns, outputs) = (512, 1000);
                let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
                let matrix =
                    Matrix::pack(dtype, outputs, columns, &weights, SimdLevel::detect(), alone).unwrap();
                for rows in [1, 4, 140] {
                    let input = random_activations(&mut random, rows * columns, ScaleKind::Usual);
                    let expected = bits(&run(alone, &matrix, &input, rows));
                    for _ in 0..20 {
                        assert_eq!(bits(&run(team, &matrix, &input, rows)), expected, "{dtype}, {rows} rows");
                    }
                }
            });
        }
    });
}

#[test]
fn products_share_one_quantisation_and_keep_their_bits() {
    let team = ThreadTeam::new(2).unwrap();
    let mut random = Random::new(11);
    let (columns, rows) = (512, 6);
    let input = random_activations(&mut random, rows * columns, ScaleKind::Usual);
    let matrices: Vec<Matrix> = [(Dtype::Q4_1, 40), (Dtype::F16, 17), (Dtype::Q6K, 16), (Dtype::Q8_0, 3)]
        .into_iter()
        .map(|(dtype, outputs)| {
            let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
            Matrix::pack(dtype, outputs, columns, &weights, SimdLevel::detect(), &team).unwrap()
        })
        .collect();
    let mut outputs: Vec<Vec<f32>> = matrices.iter().map(|matrix| vec![0.0; rows * matrix.rows()]).collect();
    let mut products: Vec<Product<'_>> =
        matrices.iter().zip(&mut outputs).map(|(matrix, output)| Product { matrix, output }).collect();
    // A store that held a larger input before must not show it.
    let mut quantised = QuantisedRows::new();
    quantised.quantise(&vec![1.0; 4096], 8, SimdLevel::detect(), &team).unwrap();
    linear(&team, &input, rows, &mut quantised, &mut products).unwrap();
    for (matrix, output) in matrices.iter().zip(&outputs) {
        assert_eq!(bits(output), bits(&run(&team, matrix, &input, rows)), "{}", matrix.dtype());
    }
}

/// The bound that the documentation of [`linear`] states: each activation is off by at most half a step, which is
/// 1/254 of the largest magnitude of its block of 32.
#[test]
fn activations_in_8_bits_stay_within_the_stated_bound_of_the_f32_product() {
    let team = ThreadTeam::new(2).unwrap();
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantised()) {
        let (outputs, columns) = (48, 1024);
        let mut random = Random::new(5);
        let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
        let input = random_activations(&mut random, columns, ScaleKind::Usual);
        let run_at = |simd| {
            let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
            run(&team, &matrix, &input, 1)
        };
        let rows = weights.chunks_exact(weights.len() / outputs);
        let mut row = vec![0.0; columns];
        for (weights, output) in
            SimdLevel::available().into_iter().flat_map(|simd| rows.clone().zip(run_at(simd)))
        {
            dequantise(dtype, weights, &mut row).unwrap();
            let exact: f64 = row.iter().zip(&input).map(|(w, a)| f64::from(*w) * f64::from(*a)).sum();
            let bound: f64 = row
                .chunks_exact(32)
                .zip(input.chunks_exact(32))
                .map(|(weights, input)| {
                    let largest = input.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                    let weights: f64 = weights.iter().map(|weight| f64::from(weight.abs())).sum();
                    weights * f64::from(largest) / 254.0
                })
                .sum();
            let error = (f64::from(output) - exact).abs();
            assert!(error <= bound * 1.001, "{dtype}: off by {error:e}, bound {bound:e}");
        }
    }
}

#[test]
fn an_infinity_or_nan_in_the_input_shows_in_the_output_of_its_row_alone() {
    let team = ThreadTeam::new(1).unwrap();
    let mut random = Random::new(13);
    for dtype in Dtype::ALL {
        let columns = columns_of(dtype, 2);
        let weights = random_weights(&mut random, dtype, 20 * columns, ScaleKind::Usual);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut input = random_activations(&mut random, 3 * columns, ScaleKind::Usual);
            input[columns + 5] = bad;
            for simd in SimdLevel::available() {
                let matrix = Matrix::pack(dtype, 20, columns, &weights, simd, &team).unwrap();
                let output = run(&team, &matrix, &input, 3);
                let finite =
                    |row: usize| output[20 * row..20 * (row + 1)].iter().all(|value| value.is_finite());
                assert!(finite(0) && finite(2), "{dtype} {simd}");
                assert!(output[20..40].iter().all(|value| !value.is_finite()), "{dtype} {simd} {bad}");
            }
        }
    }
}

#[test]
fn empty_shapes_and_wrong_lengths() {
    let team = ThreadTeam::new(2).unwrap();
    let pack = |rows, columns| {
        Matrix::pack(Dtype::F32, rows, columns, &vec![0; 4 * rows * columns], SimdLevel::detect(), &team)
            .unwrap()
    };
    assert_eq!(run(&team, &pack(0, 8), &[1.0; 16], 2), []);
    assert_eq!(run(&team, &pack(3, 0), &[], 2), [0.0; 6]);
    assert_eq!(run(&team, &pack(3, 8), &[], 0), []);
    let matrix = pack(3, 8);
    let mut output = [0.0; 3];
    let mut products = [Product { matrix: &matrix, output: &mut output }];
    let outcome = linear(&team, &[0.0; 7], 1, &mut QuantisedRows::new(), &mut products);
    assert!(matches!(outcome, Err(TensorError::Length { expected: 8, actual: 7, .. })));
    let mut products = [Product { matrix: &matrix, output: &mut output[..2] }];
    let outcome = linear(&team, &[0.0; 8], 1, &mut QuantisedRows::new(), &mut products);
    assert!(matches!(outcome, Err(TensorError::Length { expected: 3, actual: 2, .. })));
}
