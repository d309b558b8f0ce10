//! Matrices in f32 that are read and changed in place, at odd shapes and every level of instructions.

use proptest::prelude::*;
use zhenjin_tensor::{
    Dtype, Matrix, MatrixMemory, Product, QuantisedRows, SimdLevel, TensorError, ThreadTeam, linear,
};

fn values(count: usize, seed: usize) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 9);
    (0..count).map(|index| (hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn pack(values: &[f32], rows: usize, columns: usize, simd: SimdLevel, memory: &MatrixMemory) -> Matrix {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let team = ThreadTeam::new(1).unwrap();
    Matrix::pack_into(memory, Dtype::F32, rows, columns, &bytes, simd, &team).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn product(matrix: &Matrix, input: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; matrix.rows()];
    let team = ThreadTeam::new(1).unwrap();
    let mut products = [Product { matrix, output: &mut output }];
    linear(&team, input, 1, &mut QuantisedRows::new(), &mut products).unwrap();
    output
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_packed_and_unpacked(rows in 1usize..70, columns in 1usize..50, seed: u16) {
        let (old, new) = (values(rows * columns, seed.into()), values(rows * columns, usize::from(seed) + 1));
        for simd in SimdLevel::available() {
            let memory = MatrixMemory::new();
            // A neighbour in the same memory must not notice.
            let neighbour = pack(&old, rows, columns, simd, &memory);
            let mut matrix = pack(&old, rows, columns, simd, &memory);
            let mut unpacked = vec![f32::NAN; rows * columns];
            matrix.unpack_f32(&mut unpacked).unwrap();
            prop_assert_eq!(bits(&unpacked), bits(&old));

            matrix.write_f32(&new).unwrap();
            let packed = matrix.f32_packed().unwrap();
            prop_assert_eq!(packed.len(), rows.next_multiple_of(16) * columns);
            for row in 0..rows.next_multiple_of(16) {
                for column in 0..columns {
                    let expected = if row < rows { new[row * columns + column] } else { 0.0 };
                    let actual = packed[(row / 16 * columns + column) * 16 + row % 16];
                    prop_assert_eq!(actual.to_bits(), expected.to_bits(), "[{}, {}]", row, column);
                }
            }
            let input = values(columns, 7);
            let fresh = pack(&new, rows, columns, simd, &memory);
            prop_assert_eq!(bits(&product(&matrix, &input)), bits(&product(&fresh, &input)));

            matrix.f32_packed_mut().unwrap().iter_mut().for_each(|value| *value *= 2.0);
            matrix.unpack_f32(&mut unpacked).unwrap();
            prop_assert!(unpacked.iter().zip(&new).all(|(doubled, value)| *doubled == 2.0 * value));
            neighbour.unpack_f32(&mut unpacked).unwrap();
            prop_assert_eq!(bits(&unpacked), bits(&old));
        }
    }
}

#[test]
fn other_types_and_lengths_are_refused() {
    let team = ThreadTeam::new(1).unwrap();
    let blocks = vec![0; 34 * 3];
    let mut quantised = Matrix::pack(Dtype::Q8_0, 3, 32, &blocks, SimdLevel::Scalar, &team).unwrap();
    let not_f32 = |error| matches!(error, TensorError::NotF32 { dtype: Dtype::Q8_0, .. });
    assert!(not_f32(quantised.f32_packed().unwrap_err()));
    assert!(not_f32(quantised.f32_packed_mut().unwrap_err()));
    assert!(not_f32(quantised.write_f32(&[0.0; 96]).unwrap_err()));
    assert!(quantised.unpack_f32(&mut [1.0; 96]).is_ok());
    let mut matrix = pack(&[1.0; 6], 2, 3, SimdLevel::Scalar, &MatrixMemory::new());
    assert!(matches!(matrix.write_f32(&[0.0; 5]), Err(TensorError::Length { expected: 6, actual: 5, .. })));
    assert!(matches!(
        matrix.unpack_f32(&mut [0.0; 7]),
        Err(TensorError::Length { expected: 6, actual: 7, .. })
    ));
    for (rows, columns) in [(0, 5), (5, 0)] {
        let mut empty = pack(&[], rows, columns, SimdLevel::Scalar, &MatrixMemory::new());
        assert!(empty.write_f32(&[]).is_ok() && empty.f32_packed().unwrap().is_empty());
    }
}
