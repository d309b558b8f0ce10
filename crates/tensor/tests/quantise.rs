//! Quantisation against the `gguf` Python package (see `golden/make_quantised.py`), its error, and its bad inputs.

use zhenjin_tensor::{Dtype, TensorError, dequantise, quantise};

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(count);
    *bytes = tail;
    head
}

fn length(bytes: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize
}

#[test]
fn the_types_of_32_are_bit_equal_to_the_gguf_package() {
    let mut bytes: &[u8] = include_bytes!("golden/quantised.bin");
    let count = length(&mut bytes);
    let values: Vec<f32> = take(&mut bytes, 4 * count)
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let mut types = 0;
    while !bytes.is_empty() {
        let name_length = usize::from(take(&mut bytes, 1)[0]);
        let name = std::str::from_utf8(take(&mut bytes, name_length)).unwrap();
        let expected_length = length(&mut bytes);
        let expected = take(&mut bytes, expected_length);
        let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).unwrap();
        assert_eq!(quantise(dtype, &values).unwrap(), expected, "{name}");
        types += 1;
    }
    assert_eq!(types, 9);
}

/// A value is off by at most half a step of its block, and the steps themselves are rounded.
#[test]
fn what_comes_back_is_near_what_went_in() {
    let values: Vec<f32> =
        (0..1024).map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0) * (1 + i / 256) as f32).collect();
    for (dtype, bound) in [
        (Dtype::F32, 0.0),
        (Dtype::F16, 1e-3),
        (Dtype::Bf16, 1e-2),
        (Dtype::Q4_0, 0.16),
        (Dtype::Q4_1, 0.08),
        (Dtype::Q5_0, 0.08),
        (Dtype::Q5_1, 0.04),
        (Dtype::Q8_0, 0.006),
        (Dtype::Q4K, 0.1),
        (Dtype::Q5K, 0.06),
        (Dtype::Q6K, 0.03),
        (Dtype::Iq4Nl, 0.12),
        (Dtype::Iq4Xs, 0.14),
        (Dtype::Mxfp4, 0.27),
    ] {
        let blocks = quantise(dtype, &values).unwrap();
        assert_eq!(blocks.len(), dtype.bytes(values.len()).unwrap());
        let mut back = vec![0.0; values.len()];
        dequantise(dtype, &blocks, &mut back).unwrap();
        for (i, (value, back)) in values.iter().zip(&back).enumerate() {
            let largest = (1 + i / 256) as f32;
            assert!(
                (value - back).abs() <= bound * largest,
                "{dtype}: element {i}: {value} came back as {back}"
            );
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in Dtype::ALL {
        let mut back = [1.0; 256];
        dequantise(dtype, &quantise(dtype, &[0.0; 256]).unwrap(), &mut back).unwrap();
        assert!(back.iter().all(|value| *value == 0.0), "{dtype}");
    }
}

#[test]
fn values_that_a_block_cannot_hold_are_refused() {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantised()) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            // An exponent of 8 bits reaches as far as an f32 does.
            if dtype == Dtype::Mxfp4 && bad == 1e30 {
                continue;
            }
            let mut values = [0.5; 512];
            values[300] = bad;
            let block = dtype.block_elements();
            let start = 300 / block * block;
            let expected = TensorError::NotRepresentable { dtype, start, end: start + block };
            assert_eq!(quantise(dtype, &values), Err(expected), "{dtype} {bad}");
        }
        assert!(matches!(quantise(dtype, &[0.0; 33]), Err(TensorError::PartialBlock { elements: 33, .. })));
    }
}
