//! Dequantisation against the `gguf` Python package (see `golden/make_dequantised.py`), and its bad inputs.

use zhenjin_tensor::{Dtype, Matrix, SimdLevel, TensorError, ThreadTeam, dequantise};

struct Record<'a> {
    dtype: Dtype,
    blocks: &'a [u8],
    expected: Vec<u32>,
}

fn records() -> Vec<Record<'static>> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(count);
        *bytes = tail;
        head
    }
    fn length(bytes: &mut &[u8]) -> usize {
        u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize
    }
    let mut bytes: &[u8] = include_bytes!("golden/dequantised.bin");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let name_length = usize::from(take(&mut bytes, 1)[0]);
        let name = std::str::from_utf8(take(&mut bytes, name_length)).unwrap();
        let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).unwrap();
        let block_bytes = length(&mut bytes);
        let blocks = take(&mut bytes, block_bytes);
        let elements = length(&mut bytes);
        let expected = take(&mut bytes, 4 * elements).as_chunks::<4>().0;
        records.push(Record {
            dtype,
            blocks,
            expected: expected.iter().map(|b| u32::from_le_bytes(*b)).collect(),
        });
    }
    records
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_type_is_bit_equal_to_the_gguf_package() {
    let records = records();
    assert_eq!(records.iter().map(|record| record.dtype).collect::<Vec<_>>(), Dtype::ALL);
    for record in records {
        let mut out = vec![0.0; record.expected.len()];
        dequantise(record.dtype, record.blocks, &mut out).unwrap();
        assert_eq!(bits(&out), record.expected, "{}", record.dtype);
    }
}

#[test]
fn rows_of_a_packed_matrix_are_bit_equal_to_the_gguf_package() {
    let team = ThreadTeam::new(2).unwrap();
    for record in records() {
        // The three blocks as three rows, and as one row.
        let elements = record.expected.len();
        for rows in [1, if record.dtype.is_quantised() { 3 } else { 4 }] {
            let columns = elements / rows;
            let matrix =
                Matrix::pack(record.dtype, rows, columns, record.blocks, SimdLevel::Scalar, &team).unwrap();
            let mut out = vec![0.0; elements];
            for (row, out) in out.chunks_exact_mut(columns).enumerate() {
                matrix.row(row, out);
            }
            assert_eq!(bits(&out), record.expected, "{} as {rows} rows", record.dtype);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let mut out = [0.0; 33];
    assert!(matches!(
        dequantise(Dtype::Q4_0, &[0; 36], &mut out),
        Err(TensorError::PartialBlock { elements: 33, block: 32, .. })
    ));
    assert!(matches!(
        dequantise(Dtype::Q4_0, &[0; 17], &mut out[..32]),
        Err(TensorError::ByteLength { expected: 18, actual: 17, .. })
    ));
    let team = ThreadTeam::new(1).unwrap();
    let pack = |rows, columns, bytes: &[u8]| {
        Matrix::pack(Dtype::Q4K, rows, columns, bytes, SimdLevel::Scalar, &team).map(|_| ())
    };
    assert!(matches!(pack(1, 128, &[0; 72]), Err(TensorError::PartialBlock { block: 256, .. })));
    assert!(matches!(pack(2, 256, &[0; 144]), Err(TensorError::ByteLength { expected: 288, .. })));
    assert!(matches!(pack(usize::MAX, 256, &[]), Err(TensorError::TooLarge { .. })));
    assert!(matches!(pack(1 << 62, 0, &[1]), Err(TensorError::ByteLength { expected: 0, .. })));
}
