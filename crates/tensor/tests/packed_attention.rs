//! Attention over packed documents has the bits of the same documents as sequences of a KV cache, however those are
//! chunked and batched; and the logarithms of the sums of weights are those of the definition in f64.

use std::sync::Arc;

use zhenjin_tensor::{
    Activations, AttentionShape, DirectExecutor, Executor, KvCache, KvDtype, KvShape, PageId,
    ReferenceExecutor, ReferenceTensor, RotaryFrequencies, RotaryLayout, SequenceRows, SimdLevel,
    TensorError, ThreadTeam,
};

const LENGTHS: [usize; 5] = [70, 1, 333, 32, 45];
const PAGES_OF_DOCUMENT: usize = 11;

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

fn cases() -> [(AttentionShape, Option<usize>); 5] {
    [
        (shape(9, 3, 64), None),
        (shape(5, 1, 24), Some(40)),
        (shape(4, 2, 8), Some(1)),
        (shape(2, 2, 80), None),
        (shape(1, 1, 256), Some(200)),
    ]
}

fn no_rotation() -> [RotaryFrequencies; 1] {
    [RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit }]
}

fn numbers(count: usize, seed: usize, factor: f32) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 7);
    (0..count).map(|index| factor * ((hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0)).collect()
}

/// Queries, keys and values of one document, row by row.
struct Document {
    rows: usize,
    parts: [Vec<f32>; 3],
}

impl Document {
    fn new(rows: usize, shape: AttentionShape, seed: usize) -> Document {
        let (queries, keys) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        // Queries large enough that softmax is far from even.
        let parts = [(queries, 4.0), (keys, 1.0), (keys, 1.0)];
        let mut index = 3 * seed;
        let parts = parts.map(|(width, factor)| {
            index += 1;
            numbers(rows * width, index, factor)
        });
        Document { rows, parts }
    }

    /// The values of a range of rows of part `part`.
    fn range(&self, part: usize, from: usize, to: usize) -> &[f32] {
        let width = self.parts[part].len() / self.rows;
        &self.parts[part][from * width..to * width]
    }
}

fn executor(shape: AttentionShape, simd: SimdLevel, threads: usize, pages: usize) -> DirectExecutor {
    let AttentionShape { kv_heads, head_dim, .. } = shape;
    let kv_shape = KvShape { dtype: KvDtype::F32, layers: 2, kv_heads, head_dim };
    let team = Arc::new(ThreadTeam::new(threads).unwrap());
    DirectExecutor::new(KvCache::new(kv_shape, pages).unwrap(), shape, simd, team).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Attention of the rows of a batch: outputs and log sums, as bits, row by row.
fn attend(
    executor: &mut DirectExecutor,
    shape: AttentionShape,
    window: Option<usize>,
    parts: [Vec<f32>; 3],
) -> (Vec<u32>, Vec<u32>) {
    let [queries, keys, values] = &parts;
    let kv_width = shape.kv_heads * shape.head_dim;
    let queries = executor.tensor(queries, shape.heads * shape.head_dim).unwrap();
    let [keys, values] = [keys, values].map(|part| executor.tensor(part, kv_width).unwrap());
    let (out, log_sums) =
        executor.attention_and_log_sums(1, shape, window, &queries, &keys, &values).unwrap();
    // The operation of the forward pass, which uses its inputs up, gives the same.
    let copies: [Activations; 3] = [&queries, &keys, &values].map(|part| executor.copy(part).unwrap());
    let [q, k, v] = copies;
    let plain = executor.attention(1, shape, window, q, k, v).unwrap();
    assert_eq!(bits(plain.values()), bits(out.values()));
    assert_eq!((log_sums.rows(), log_sums.width()), (out.rows(), shape.heads));
    let results = (bits(out.values()), bits(log_sums.values()));
    for tensor in [queries, keys, values, out, log_sums, plain] {
        executor.discard(tensor);
    }
    results
}

fn packed(
    documents: &[&Document],
    shape: AttentionShape,
    window: Option<usize>,
    executor: &mut DirectExecutor,
) -> (Vec<u32>, Vec<u32>) {
    let lengths: Vec<usize> = documents.iter().map(|document| document.rows).collect();
    executor.begin_packed(&lengths, &no_rotation()).unwrap();
    let parts = [0, 1, 2]
        .map(|part| documents.iter().flat_map(|document| document.parts[part].iter().copied()).collect());
    attend(executor, shape, window, parts)
}

/// The documents as sequences of a KV cache; in every step, each advances by its next portion.
fn paged(
    documents: &[Document],
    shape: AttentionShape,
    window: Option<usize>,
    simd: SimdLevel,
    portions: &[usize],
) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut executor = executor(shape, simd, 2, PAGES_OF_DOCUMENT * documents.len());
    // Pages of the documents take turns in the pool.
    let count = documents.len() as u32;
    let pages_of = |own| (0..PAGES_OF_DOCUMENT as u32).map(|page| PageId(page * count + own)).collect();
    let pages: Vec<Vec<PageId>> = (0..count).map(pages_of).collect();
    let mut done = vec![0; documents.len()];
    let mut results = vec![(Vec::new(), Vec::new()); documents.len()];
    for step in 0.. {
        let mut batch = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let portion = portions[(step + index) % portions.len()].min(document.rows - done[index]);
            if portion > 0 {
                batch.push((index, done[index], done[index] + portion));
            }
        }
        if batch.is_empty() {
            break;
        }
        let rows = batch.iter().map(|(index, from, to)| SequenceRows {
            rows: to - from,
            start: *from,
            pages: &pages[*index],
        });
        executor.begin(rows, &no_rotation()).unwrap();
        let parts = [0, 1, 2].map(|part| {
            let rows = batch.iter().map(|(index, from, to)| documents[*index].range(part, *from, *to));
            rows.collect::<Vec<_>>().concat()
        });
        let (out, log_sums) = attend(&mut executor, shape, window, parts);
        let mut row = 0;
        for (index, from, to) in batch {
            let (width, rows) = (shape.heads * shape.head_dim, row..row + to - from);
            results[index].0.extend_from_slice(&out[rows.start * width..rows.end * width]);
            results[index].1.extend_from_slice(&log_sums[rows.start * shape.heads..rows.end * shape.heads]);
            (row, done[index]) = (rows.end, to);
        }
    }
    results
}

#[test]
fn packed_documents_have_the_bits_of_sequences_at_any_chunking() {
    for (shape, window) in cases() {
        let documents: Vec<Document> =
            LENGTHS.iter().enumerate().map(|(seed, rows)| Document::new(*rows, shape, seed)).collect();
        for simd in SimdLevel::available() {
            let mut executor = executor(shape, simd, 3, 0);
            let alone: Vec<_> =
                documents.iter().map(|document| packed(&[document], shape, window, &mut executor)).collect();
            for order in [[0, 1, 2, 3, 4], [2, 4, 1, 0, 3]] {
                let together = order.map(|index| &documents[index]);
                let (out, log_sums) = packed(&together, shape, window, &mut executor);
                assert_eq!(out, order.map(|index| alone[index].0.clone()).concat(), "{shape:?} at {simd}");
                assert_eq!(log_sums, order.map(|index| alone[index].1.clone()).concat(), "{shape:?}");
            }
            for portions in [&[333][..], &[1, 37, 64], &[90, 200, 1, 1]] {
                let paged = paged(&documents, shape, window, simd, portions);
                assert!(paged == alone, "{shape:?} in portions of {portions:?} at {simd}");
            }
        }
    }
}

#[test]
fn outputs_and_log_sums_are_near_those_in_f64() {
    for (shape, window) in cases() {
        let documents: Vec<Document> =
            LENGTHS.iter().enumerate().map(|(seed, rows)| Document::new(*rows, shape, seed)).collect();
        let all: Vec<&Document> = documents.iter().collect();
        let mut reference = ReferenceExecutor::new();
        reference.begin_packed(&LENGTHS, &no_rotation()).unwrap();
        let [queries, keys, values] = [0, 1, 2].map(|part| {
            let values = all.iter().flat_map(|document| document.parts[part].iter().copied().map(f64::from));
            let heads = if part == 0 { shape.heads } else { shape.kv_heads };
            ReferenceTensor { width: heads * shape.head_dim, values: values.collect() }
        });
        let (out, log_sums) =
            reference.attention_and_log_sums(0, shape, window, &queries, &keys, &values).unwrap();
        for simd in SimdLevel::available() {
            let actual = packed(&all, shape, window, &mut executor(shape, simd, 2, 0));
            for (expected, actual) in [(&out, &actual.0), (&log_sums, &actual.1)] {
                assert_eq!(expected.values.len(), actual.len());
                for (expected, actual) in expected.values.iter().zip(actual) {
                    let actual = f64::from(f32::from_bits(*actual));
                    // A score is a sum of up to 256 products that reach 4 · scale, rounded to 2⁻²⁴ each; values are below 1.
                    let bound = 1e-6 * expected.abs().max(10.0);
                    assert!((actual - expected).abs() < bound, "{actual} instead of {expected}, {simd}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_executor_recovers() {
    let shape = shape(4, 2, 8);
    let mut executor = executor(shape, SimdLevel::detect(), 1, 2);
    let document = Document::new(40, shape, 1);
    let expected = packed(&[&document], shape, None, &mut executor);
    let too_long = executor.begin_packed(&[usize::MAX, usize::MAX], &no_rotation());
    assert!(matches!(too_long, Err(TensorError::OutOfMemory { .. })), "{too_long:?}");
    let queries = executor.tensor(&document.parts[0], 32).unwrap();
    let keys = executor.tensor(&document.parts[1], 16).unwrap();
    let outcome = executor.attention_and_log_sums(1, shape, None, &queries, &keys, &keys).map(|_| ());
    assert!(matches!(outcome, Err(TensorError::Length { .. })), "{outcome:?}");
    assert!(matches!(executor.tensor(&[1.0; 5], 2), Err(TensorError::Length { .. })));
    assert!(matches!(executor.tensor(&[1.0; 5], 0), Err(TensorError::Length { .. })));
    assert_eq!(packed(&[&document], shape, None, &mut executor), expected);
    // The page pool is untouched by packed documents.
    let pages = [PageId(0), PageId(1)];
    let sequence = SequenceRows { rows: 40, start: 0, pages: &pages };
    executor.begin(std::iter::once(sequence), &no_rotation()).unwrap();
    let paged = attend(&mut executor, shape, None, document.parts.clone());
    assert_eq!(paged, expected);
}
