//! Every level has the bits of the definition, whatever the number of threads; the definition is near the derivatives in f64.

use std::sync::Arc;

use super::*;
use crate::{
    DirectExecutor, Executor, KvCache, KvDtype, KvShape, ParameterId, ReferenceParameter, ReferenceTape,
    ReferenceTensor, RotaryFrequencies, RotaryLayout,
};

const LENGTHS: [usize; 5] = [70, 1, 133, 32, 45];

fn cases() -> [(AttentionShape, Option<usize>); 6] {
    let shape = |heads, kv_heads, head_dim| AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    [
        (shape(9, 3, 64), None),
        (shape(5, 1, 24), Some(40)),
        (shape(4, 2, 8), Some(1)),
        (shape(2, 2, 80), None),
        (shape(7, 1, 40), Some(33)),
        (shape(2, 1, 256), Some(50)),
    ]
}

fn numbers(count: usize, seed: u64, factor: f32) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed << 7));
    (0..count).map(|index| factor * ((hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0)).collect()
}

fn no_rotation() -> [RotaryFrequencies; 1] {
    [RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit }]
}

/// Queries, keys, values and the derivative of the loss by the result.
struct Inputs {
    documents: DocumentRows,
    lengths: Vec<usize>,
    parts: [Vec<f32>; 4],
    widths: [usize; 3],
}

impl Inputs {
    fn new(lengths: &[usize], shape: AttentionShape) -> Inputs {
        Inputs::of(lengths, DocumentRows::separate(lengths).unwrap(), shape)
    }

    /// The second document begins as the first does, over a page and a half; the third as the second where it has left the first; the fourth is the
    /// first's beginning, the fifth has nothing in common with them.
    fn sharing(shape: AttentionShape) -> Inputs {
        let rows = [0..70, 0..48, 70..133, 0..48, 70..102, 133..150, 0..33, 150..195];
        let lengths = [70, 48 + 63, 48 + 32 + 17, 33, 45];
        let documents = DocumentRows::new(&lengths, rows.into_iter().flatten().collect()).unwrap();
        Inputs::of(&lengths, documents, shape)
    }

    fn of(lengths: &[usize], documents: DocumentRows, shape: AttentionShape) -> Inputs {
        let rows = documents.rows();
        let [wide, narrow] = [shape.heads, shape.kv_heads].map(|heads| heads * shape.head_dim);
        let parts = [(wide, 4.0), (narrow, 1.0), (narrow, 1.0), (wide, 1.0)];
        let mut seed = 0;
        let parts = parts.map(|(width, factor)| {
            seed += 1;
            numbers(rows * width, seed, factor)
        });
        Inputs { documents, lengths: lengths.to_vec(), parts, widths: [wide, narrow, narrow] }
    }

    /// The derivatives by queries, keys and values; `None` for the definition.
    fn derivatives(
        &self,
        shape: AttentionShape,
        window: Option<usize>,
        simd: Option<SimdLevel>,
        threads: usize,
    ) -> [Vec<f32>; 3] {
        let level = simd.unwrap_or(SimdLevel::Scalar);
        let team = Arc::new(ThreadTeam::new(threads).unwrap());
        let kv_shape =
            KvShape { dtype: KvDtype::F32, layers: 1, kv_heads: shape.kv_heads, head_dim: shape.head_dim };
        let cache = KvCache::new(kv_shape, 0).unwrap();
        let mut executor = DirectExecutor::new(cache, shape, level, Arc::clone(&team)).unwrap();
        executor.begin_documents(&self.documents, &no_rotation()).unwrap();
        let [q, k, v] = [0, 1, 2].map(|part| executor.tensor(&self.parts[part], self.widths[part]).unwrap());
        let (outputs, log_sums) = executor.attention_and_log_sums(0, shape, window, &q, &k, &v).unwrap();
        let [queries, keys, values, gradient] = &self.parts;
        let call = AttentionGradientCall {
            shape,
            window,
            documents: &self.documents,
            queries,
            keys,
            values,
            outputs: outputs.values(),
            log_sums: log_sums.values(),
            gradient,
        };
        let mut results = [queries, keys, values].map(|part| vec![f32::NAN; part.len()]);
        let [of_queries, of_keys, of_values] = &mut results;
        let places = AttentionGradientOutputs { queries: of_queries, keys: of_keys, values: of_values };
        let mut scratch = AttentionGradientScratch::default();
        attention_gradient(&call, places, &mut scratch, level, &team);
        results
    }
}

#[test]
fn every_level_and_number_of_threads_has_the_bits_of_the_definition() {
    let inputs = |(shape, window)| {
        [Inputs::new(&LENGTHS, shape), Inputs::sharing(shape)].map(|inputs| (inputs, shape, window))
    };
    for (inputs, shape, window) in cases().into_iter().flat_map(inputs) {
        let bits =
            |parts: [Vec<f32>; 3]| parts.map(|part| part.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        let expected = bits(inputs.derivatives(shape, window, None, 1));
        for simd in SimdLevel::available() {
            for threads in [1, 2, 3] {
                let actual = bits(inputs.derivatives(shape, window, Some(simd), threads));
                assert!(actual == expected, "{shape:?}, {window:?}, {simd}, {threads} threads");
            }
        }
    }
}

/// A row that documents share has the sum of its derivatives in each.
#[test]
fn shared_rows_have_the_derivatives_of_the_same_documents_apart() {
    for (shape, window) in cases() {
        let inputs = Inputs::sharing(shape);
        let rows = inputs.documents.of_positions();
        let mut apart = Inputs::new(&inputs.lengths, shape);
        let mut seen = 0;
        for (place, row) in rows.iter().enumerate() {
            let is_own = *row == seen;
            seen += usize::from(is_own);
            for (part, width) in [0, 1, 2, 0].map(|part| inputs.widths[part]).into_iter().enumerate() {
                let values = &inputs.parts[part][row * width..(row + 1) * width];
                let out = &mut apart.parts[part][place * width..(place + 1) * width];
                out.copy_from_slice(values);
                if part == 3 && !is_own {
                    // Its result counts once.
                    out.fill(0.0);
                }
            }
        }
        for simd in SimdLevel::available() {
            let actual = inputs.derivatives(shape, window, Some(simd), 2);
            let of_places = apart.derivatives(shape, window, Some(simd), 2);
            for ((actual, of_places), width) in actual.iter().zip(&of_places).zip(inputs.widths) {
                let mut expected = vec![0.0f64; actual.len()];
                for (place, row) in rows.iter().enumerate() {
                    for column in 0..width {
                        expected[row * width + column] += f64::from(of_places[place * width + column]);
                    }
                }
                let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
                for (actual, expected) in actual.iter().zip(expected) {
                    let error = (f64::from(*actual) - expected).abs() / largest;
                    assert!(error < 1e-6, "{shape:?}, {window:?}, {simd}: {actual} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn a_document_does_not_depend_on_the_others() {
    for (shape, window) in cases() {
        let inputs = Inputs::new(&LENGTHS, shape);
        let mut others = Inputs::new(&LENGTHS, shape);
        // Everything but the third document changes.
        let (from, to) = (71, 71 + 133);
        for (part, other) in inputs.parts.iter().zip(&mut others.parts) {
            let width = part.len() / LENGTHS.iter().sum::<usize>();
            let kept = from * width..to * width;
            let outside = |index: &usize| !kept.contains(index);
            (0..part.len()).filter(outside).for_each(|index| other[index] *= -1.7);
        }
        for simd in SimdLevel::available().into_iter().map(Some) {
            let (expected, actual) =
                (inputs.derivatives(shape, window, simd, 2), others.derivatives(shape, window, simd, 2));
            for ((expected, actual), width) in expected.iter().zip(&actual).zip(inputs.widths) {
                let range = from * width..to * width;
                let same = |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits();
                assert!(expected[range.clone()].iter().zip(&actual[range]).all(same), "{simd:?}");
            }
            assert_ne!(expected[2], actual[2]);
        }
    }
}

#[test]
fn the_definition_is_near_the_derivatives_in_f64() {
    for (shape, window) in cases() {
        let inputs = Inputs::new(&[40, 1, 23], shape);
        let mut tape = ReferenceTape::new();
        tape.begin_packed(&inputs.lengths, &no_rotation()).unwrap();
        let parts: [_; 3] = std::array::from_fn(|part| {
            let values = inputs.parts[part].iter().map(|value| f64::from(*value)).collect();
            let value = ReferenceTensor { width: inputs.widths[part], values };
            let tokens: Vec<u32> = (0..value.rows().len() as u32).collect();
            let parameter = ReferenceParameter { id: ParameterId(part as u32), value };
            tape.embedding(&parameter, &tokens).unwrap()
        });
        let [queries, keys, values] = parts;
        let out = tape.attention(0, shape, window, queries, keys, values).unwrap();
        let gradient: Vec<f64> = inputs.parts[3].iter().map(|value| f64::from(*value)).collect();
        let expected = tape.gradients(&out, &gradient);
        let actual = inputs.derivatives(shape, window, None, 1);
        for (part, actual) in actual.iter().enumerate() {
            let expected = &expected[&ParameterId(part as u32)];
            // Derivatives by queries and keys are differences of terms of this size, which may cancel.
            let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
            // Scores are sums of as many products as heads are wide.
            let bound = 1.5e-7 * shape.head_dim.max(67) as f64;
            for (actual, expected) in actual.iter().zip(expected) {
                let error = (f64::from(*actual) - expected).abs() / largest;
                assert!(error < bound, "{shape:?}, {window:?}, part {part}: {actual} instead of {expected}");
            }
        }
    }
}
