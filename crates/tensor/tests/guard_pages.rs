//! No operation reads or writes outside what it was given: weights in file blocks, activations and outputs lie between
//! pages that end the process when they are touched, at every level, before and behind. The packed tiles, which belong
//! to the matrix, are guarded in the tests beside the schedule.

use crate::guarded::{Guarded, Side};
use crate::reference::{Random, ScaleKind, random_activations, random_weights};
use zhenjin_tensor::{
    Dtype, Matrix, Product, QuantisedRows, SimdLevel, ThreadTeam, dequantise, linear, log_softmax,
    log_sum_exp, quantise, softmax,
};

/// Outputs, blocks of columns (or columns, for the float types).
const SHAPES: [(usize, usize); 5] = [(1, 1), (16, 2), (37, 3), (64, 1), (103, 1)];

#[test]
fn packing_and_products_stay_within_their_operands() {
    let team = ThreadTeam::new(1).unwrap();
    let mut random = Random::new(17);
    let rows_of = |simd| if cfg!(miri) { vec![1, 17] } else { rows_for(simd) };
    for dtype in Dtype::ALL {
        for (outputs, blocks) in SHAPES.into_iter().take(if cfg!(miri) { 1 } else { SHAPES.len() }) {
            let columns = blocks * dtype.block_elements();
            let weights = random_weights(&mut random, dtype, outputs * columns, ScaleKind::Usual);
            // Miri sees both ends of its memory at once.
            let sides = &Side::BOTH[..if cfg!(miri) { 1 } else { 2 }];
            for (simd, side) in SimdLevel::available()
                .into_iter()
                .flat_map(|simd| sides.iter().map(move |side| (simd, *side)))
            {
                let weights = Guarded::new(&weights, side);
                let matrix = Matrix::pack(dtype, outputs, columns, &weights, simd, &team).unwrap();
                let mut row = Guarded::new(&vec![0.0; columns], side);
                matrix.row(outputs - 1, &mut row);
                for rows in rows_of(simd) {
                    let input = random_activations(&mut random, rows * columns, ScaleKind::Usual);
                    let input = Guarded::new(&input, side);
                    let mut output = Guarded::new(&vec![f32::NAN; rows * outputs], side);
                    let mut products = [Product { matrix: &matrix, output: &mut output }];
                    linear(&team, &input, rows, &mut QuantisedRows::new(), &mut products).unwrap();
                    assert!(output.iter().all(|value| value.is_finite()), "{dtype} {simd} {rows} {side:?}");
                }
            }
        }
    }
}

/// From one row to more than are expanded for, and more than a pass takes.
fn rows_for(simd: SimdLevel) -> Vec<usize> {
    let few = vec![1, 2, 3, 4, 5, 7, 9, 12, 21];
    if simd == SimdLevel::Scalar { few } else { [few, vec![67, 130]].concat() }
}

#[test]
fn quantising_and_dequantising_stay_within_their_operands() {
    let mut random = Random::new(19);
    for dtype in Dtype::ALL {
        for (blocks, side) in [1, 2, 7].into_iter().flat_map(|blocks| Side::BOTH.map(|side| (blocks, side))) {
            let count = blocks * dtype.block_elements();
            let values = Guarded::new(&random_activations(&mut random, count, ScaleKind::Usual), side);
            let bytes = Guarded::new(&quantise(dtype, &values).unwrap(), side);
            let mut back = Guarded::new(&vec![f32::NAN; count], side);
            dequantise(dtype, &bytes, &mut back).unwrap();
            assert!(back.iter().all(|value| value.is_finite()), "{dtype} {side:?}");
        }
    }
}

#[test]
fn softmax_stays_within_its_row() {
    let mut random = Random::new(23);
    for simd in SimdLevel::available() {
        for width in (1..=66).chain([127, 1000]) {
            let logits = random_activations(&mut random, width, ScaleKind::Usual);
            for side in Side::BOTH {
                let mut row = Guarded::new(&logits, side);
                assert!(log_sum_exp(simd, &row).value().is_finite());
                log_softmax(simd, &mut row);
                softmax(simd, &mut row);
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{simd}, {width} values: {sum}");
            }
        }
    }
}
