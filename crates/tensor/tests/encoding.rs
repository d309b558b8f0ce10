//! Attention in which rows see all of their document: near the definition in f64, and the same bits whatever documents are beside, at
//! any number of threads.

use std::sync::Arc;

use zhenjin_tensor::{
    AttentionShape, DirectExecutor, EncoderExecutor, Executor, KvCache, KvDtype, KvShape, ReferenceExecutor,
    ReferenceTensor, RotaryFrequencies, RotaryLayout, SimdLevel, ThreadTeam,
};

const LENGTHS: [usize; 6] = [70, 1, 333, 32, 45, 600];

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

fn numbers(count: usize, seed: usize, factor: f32) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 7);
    (0..count).map(|index| factor * ((hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0)).collect()
}

/// Queries, keys and values of a document of so many rows.
fn parts(rows: usize, shape: AttentionShape) -> [Vec<f32>; 3] {
    let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    // Queries large enough that softmax is far from even.
    [
        numbers(rows * queries, 3 * rows, 4.0),
        numbers(rows * keys, 3 * rows + 1, 1.0),
        numbers(rows * keys, 3 * rows + 2, 1.0),
    ]
}

fn executor(shape: AttentionShape, simd: SimdLevel, threads: usize) -> DirectExecutor {
    let AttentionShape { kv_heads, head_dim, .. } = shape;
    let cache = KvCache::new(KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim }, 0).unwrap();
    DirectExecutor::new(cache, shape, simd, Arc::new(ThreadTeam::new(threads).unwrap())).unwrap()
}

/// The outputs of documents of these lengths, packed.
fn direct(executor: &mut DirectExecutor, shape: AttentionShape, lengths: &[usize]) -> Vec<f32> {
    executor.begin_encoding(lengths).unwrap();
    let documents: Vec<[Vec<f32>; 3]> = lengths.iter().map(|rows| parts(*rows, shape)).collect();
    let packed = |part: usize| documents.iter().flat_map(|document| document[part].clone()).collect();
    let [queries, keys, values]: [Vec<f32>; 3] = [0, 1, 2].map(packed);
    let queries = executor.tensor(&queries, shape.heads * shape.head_dim).unwrap();
    let [keys, values] =
        [keys, values].map(|part| executor.tensor(&part, shape.kv_heads * shape.head_dim).unwrap());
    let out = executor.attention_to_all(shape, queries, keys, values).unwrap();
    let values = out.values().to_vec();
    executor.discard(out);
    values
}

fn reference(shape: AttentionShape, rows: usize) -> Vec<f64> {
    let mut executor = ReferenceExecutor::new();
    executor.begin_encoding(&[rows]).unwrap();
    let tensor = |values: &Vec<f32>| ReferenceTensor {
        width: values.len() / rows,
        values: values.iter().map(|value| f64::from(*value)).collect(),
    };
    let [queries, keys, values] = parts(rows, shape).each_ref().map(tensor);
    executor.attention_to_all(shape, queries, keys, values).unwrap().values
}

#[test]
fn every_row_sees_its_whole_document_and_no_other() {
    for shape in [shape(4, 4, 32), shape(6, 2, 24)] {
        let expected: Vec<Vec<f64>> = LENGTHS.iter().map(|rows| reference(shape, *rows)).collect();
        for simd in SimdLevel::available() {
            let actual = direct(&mut executor(shape, simd, 2), shape, &LENGTHS);
            for (actual, expected) in actual.iter().zip(expected.iter().flatten()) {
                assert!(
                    (f64::from(*actual) - expected).abs() < 2e-6,
                    "{actual} instead of {expected}, {simd}"
                );
            }
        }
    }
}

#[test]
fn documents_beside_and_threads_change_no_bit() {
    let shape = shape(4, 4, 32);
    let bits = |values: Vec<f32>| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
    for simd in SimdLevel::available() {
        let mut alone = executor(shape, simd, 1);
        let expected: Vec<u32> =
            LENGTHS.iter().flat_map(|rows| bits(direct(&mut alone, shape, &[*rows]))).collect();
        for threads in [1, 2, 5] {
            let mut together = executor(shape, simd, threads);
            assert_eq!(bits(direct(&mut together, shape, &LENGTHS)), expected, "{simd}, {threads} threads");
            let one_by_one = LENGTHS.iter().flat_map(|rows| bits(direct(&mut together, shape, &[*rows])));
            assert!(one_by_one.eq(expected.iter().copied()), "{simd}, {threads} threads, one by one");
        }
    }
}

/// A batch after one of the other kind is not taken for it.
#[test]
fn kinds_of_batches_take_turns() {
    let shape = shape(2, 2, 16);
    let mut executor = executor(shape, SimdLevel::detect(), 1);
    let first = direct(&mut executor, shape, &[40]);
    let rotary = RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit };
    executor.begin_packed(&[40], &[rotary]).unwrap();
    let [queries, keys, values] = parts(40, shape).map(|part| executor.tensor(&part, 32).unwrap());
    let causal = executor.attention(0, shape, None, queries, keys, values).unwrap();
    assert_ne!(causal.values(), first);
    // The last row sees as much either way.
    assert_eq!(causal.row(39), &first[39 * 32..]);
    assert_eq!(direct(&mut executor, shape, &[40]), first);
}
