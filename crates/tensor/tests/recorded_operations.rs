//! Multiples, several rotary tables, norms of whole rows and gated products on every executor: the recording one has the bits of the one
//! that serves, both are near the numbers in f64, and so are the gradients.

use std::collections::BTreeMap;
use std::sync::Arc;

use zhenjin_tensor::{
    AttentionShape, DirectExecutor, Dtype, Executor, GateActivation, Gradients, KvCache, KvDtype, KvShape,
    Matrix, PageId, ParameterId, ParameterShape, ParameterSource, Projection, RecordingExecutor,
    ReferenceExecutor, ReferenceParameter, ReferenceTape, ReferenceTensor, RotaryFrequencies, RotaryLayout,
    SequenceRows, SimdLevel, TensorError, ThreadTeam, Vector,
};

const SHAPE: AttentionShape = AttentionShape { heads: 5, kv_heads: 5, head_dim: 8, scale: 0.3 };
const WIDTH: usize = 40;
const WIDE: usize = 37;
const LENGTHS: [usize; 3] = [4, 1, 18];
const ROWS: usize = 23;
/// Embedding, norm, gate, up, down: rows and columns.
const SHAPES: [(usize, usize); 5] = [(ROWS, WIDTH), (1, WIDTH), (WIDE, WIDTH), (WIDE, WIDTH), (WIDTH, WIDE)];
const NORM: usize = 1;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 9);
    (0..count).map(|index| (hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn exact_numbers(count: usize, seed: usize) -> Vec<f64> {
    numbers(count, seed).into_iter().map(f64::from).collect()
}

fn tables() -> [RotaryFrequencies; 2] {
    [[1.0, 0.3, 0.09, 0.027], [0.8, 0.1, 0.01, 0.001]].map(|radians| RotaryFrequencies {
        radians: radians.to_vec(),
        magnitude: 1.0,
        layout: RotaryLayout::HalfSplit,
    })
}

/// A layer of which every operation occurs that this file is about: norms of whole rows before rotation by one table and by the other, a norm
/// behind attention, a product beside it that needs a copy, multiples of what is kept and of what is computed again, and a gate by GELU.
fn layer<E: Executor>(executor: &mut E, matrices: &[E::Matrix], norm: &E::Vector) -> E::Tensor {
    const EPSILON: f32 = 1e-3;
    let tokens: Vec<u32> = (0..ROWS as u32).collect();
    let [queries, keys, values] = [0, 1, 2].map(|_| executor.embedding(&matrices[0], &tokens).unwrap());
    let queries = executor.scale(queries, 1.7).unwrap();
    let queries = executor.head_norm(queries, norm, EPSILON).unwrap();
    let queries = executor.rope(queries, SHAPE.head_dim, 0).unwrap();
    let keys = executor.head_norm(keys, norm, EPSILON).unwrap();
    let keys = executor.rope(keys, SHAPE.head_dim, 1).unwrap();
    let values = executor.scale(values, -0.5).unwrap();
    let attended = executor.attention(0, SHAPE, Some(7), queries, keys, values).unwrap();
    let normalised = executor.rms_norm(&attended, norm, EPSILON).unwrap();
    let normalised = executor.scale(normalised, 0.6).unwrap();
    let [gate, up] = [2, 3].map(|index| Projection { matrix: &matrices[index], bias: None, additions: &[] });
    let [gate, up] = executor.linear(normalised, [gate, up]).unwrap();
    let activated = executor.gated(GateActivation::GeluTanh, gate, up).unwrap();
    let down = Projection { matrix: &matrices[4], bias: None, additions: &[] };
    let [fed_forward] = executor.linear(activated, [down]).unwrap();
    let fed_forward = executor.scale(fed_forward, 0.22).unwrap();
    let beside = executor.copy(&attended).unwrap();
    let [gate, down] =
        [2, 4].map(|index| Projection { matrix: &matrices[index], bias: None, additions: &[] });
    let [between] = executor.linear(beside, [gate]).unwrap();
    let [again] = executor.linear(between, [down]).unwrap();
    let sum = executor.add(attended, fed_forward).unwrap();
    executor.add(sum, again).unwrap()
}

/// The result in f64, and the gradients of its weighted sum.
fn exact() -> (ReferenceTensor, BTreeMap<ParameterId, Vec<f64>>) {
    let parameter = |id: usize| {
        let (rows, width) = SHAPES[id];
        let value = ReferenceTensor { width, values: exact_numbers(rows * width, id) };
        ReferenceParameter { id: ParameterId(id as u32), value }
    };
    let matrices: Vec<_> = (0..SHAPES.len()).map(parameter).collect();
    let norm = ReferenceParameter { id: matrices[NORM].id, value: matrices[NORM].value.values.clone() };
    let mut tape = ReferenceTape::new();
    tape.begin_packed(&LENGTHS, &tables()).unwrap();
    let out = layer(&mut tape, &matrices, &norm);
    let gradients = tape.gradients(&out, &exact_numbers(ROWS * WIDTH, 90));
    (out.value, gradients)
}

struct Parameters {
    matrices: Vec<Matrix>,
    norm: Vector,
}

impl ParameterSource for Parameters {
    fn matrix(&self, id: ParameterId) -> Option<&Matrix> {
        self.matrices.get(id.0 as usize)
    }

    fn vector(&self, id: ParameterId) -> Option<&Vector> {
        (id.0 as usize == NORM).then_some(&self.norm)
    }
}

fn parameters(simd: SimdLevel) -> Parameters {
    let team = ThreadTeam::new(1).unwrap();
    let matrix = |id: usize| {
        let (rows, columns) = SHAPES[id];
        let bytes: Vec<u8> =
            numbers(rows * columns, id).into_iter().flat_map(|value| value.to_le_bytes()).collect();
        let matrix = Matrix::pack(Dtype::F32, rows, columns, &bytes, simd, &team).unwrap();
        matrix.with_parameter(ParameterId(id as u32))
    };
    let norm = Vector::from(numbers(WIDTH, NORM)).with_parameter(ParameterId(NORM as u32));
    Parameters { matrices: (0..SHAPES.len()).map(matrix).collect(), norm }
}

fn shapes() -> Vec<ParameterShape> {
    let shape = |(id, (rows, columns)): (usize, (usize, usize))| match id {
        NORM => ParameterShape::Vector { len: columns },
        _ => ParameterShape::Matrix { rows, columns },
    };
    SHAPES.into_iter().enumerate().map(shape).collect()
}

fn direct(simd: SimdLevel, threads: usize, pages: usize) -> DirectExecutor {
    let AttentionShape { kv_heads, head_dim, .. } = SHAPE;
    let shape = KvShape { dtype: KvDtype::F32, layers: 1, kv_heads, head_dim };
    let team = Arc::new(ThreadTeam::new(threads).unwrap());
    DirectExecutor::new(KvCache::new(shape, pages).unwrap(), SHAPE, simd, team).unwrap()
}

fn recording(simd: SimdLevel, threads: usize) -> RecordingExecutor {
    RecordingExecutor::new(SHAPE, simd, Arc::new(ThreadTeam::new(threads).unwrap())).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Row-major elements of a packed gradient.
fn unpacked(gradient: &[f32], shape: ParameterShape) -> Vec<f32> {
    let ParameterShape::Matrix { rows, columns } = shape else { return gradient.to_vec() };
    let at = |row: usize, column: usize| gradient[(row / 16 * columns + column) * 16 + row % 16];
    (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
}

/// That all values are near the exact ones, as a share of the largest of these.
fn assert_near(what: &str, actual: &[f32], exact: &[f64]) {
    assert_eq!(actual.len(), exact.len(), "{what}");
    let largest = exact.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (actual, exact) in actual.iter().zip(exact) {
        let error = (f64::from(*actual) - exact).abs() / largest;
        assert!(error < 5e-5, "{what}: {actual} instead of {exact}");
    }
}

/// The result's bits and the gradients.
fn learn(simd: SimdLevel, threads: usize) -> (Vec<u32>, Gradients) {
    let parameters = parameters(simd);
    let mut executor = recording(simd, threads);
    let mut gradients = Gradients::new(&shapes()).unwrap();
    executor.begin_packed(&LENGTHS, &tables()).unwrap();
    let out = layer(&mut executor, &parameters.matrices, &parameters.norm);
    let result = bits(executor.values(&out).unwrap().values());
    let gradient = executor.direct().tensor(&numbers(ROWS * WIDTH, 90), WIDTH).unwrap();
    executor.set_gradient(out, gradient).unwrap();
    executor.backward(&parameters, &mut gradients).unwrap();
    (result, gradients)
}

#[test]
fn results_and_gradients_are_near_those_in_f64() {
    let (expected, derivatives) = exact();
    assert_eq!(derivatives.len(), SHAPES.len());
    for simd in SimdLevel::available() {
        let parameters = parameters(simd);
        let mut executor = direct(simd, 2, 0);
        executor.begin_packed(&LENGTHS, &tables()).unwrap();
        let served = layer(&mut executor, &parameters.matrices, &parameters.norm);
        assert_near(&format!("result, {simd}"), served.values(), &expected.values);
        let (recorded, gradients) = learn(simd, 2);
        assert_eq!(recorded, bits(served.values()), "{simd}");
        let (alone, of_one_thread) = learn(simd, 1);
        assert_eq!(recorded, alone, "{simd}");
        for (index, shape) in shapes().into_iter().enumerate() {
            let id = ParameterId(index as u32);
            assert_eq!(gradients.get(id), of_one_thread.get(id), "threads change parameter {index}");
            let what = format!("parameter {index}, {simd}");
            assert_near(&what, &unpacked(gradients.get(id), shape), &derivatives[&id]);
        }
    }
}

/// A table beside others turns as it does alone, over packed documents and over pages.
#[test]
fn every_rotary_table_turns_as_it_does_alone() {
    let (tables, input) = (tables(), numbers(ROWS * WIDTH, 5));
    let pages = [PageId(1), PageId(0)];
    for simd in SimdLevel::available() {
        let mut executor = direct(simd, 2, 2);
        let mut turned = |rotary: &[RotaryFrequencies], table: usize| {
            executor.begin_packed(&LENGTHS, rotary).unwrap();
            let packed = executor.tensor(&input, WIDTH).unwrap();
            let packed = executor.rope(packed, SHAPE.head_dim, table).unwrap();
            let sequence = SequenceRows { rows: ROWS, start: 40, pages: &pages };
            executor.begin(std::iter::once(sequence), rotary).unwrap();
            let paged = executor.tensor(&input, WIDTH).unwrap();
            let paged = executor.rope(paged, SHAPE.head_dim, table).unwrap();
            [packed.values().to_vec(), paged.values().to_vec()]
        };
        let mut all = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            let [packed, paged] = turned(&tables, index);
            let alone = turned(std::slice::from_ref(table), 0);
            assert_eq!([bits(&packed), bits(&paged)], alone.each_ref().map(|part| bits(part)), "{simd}");
            let mut reference = ReferenceExecutor::new();
            reference.begin_packed(&LENGTHS, &tables).unwrap();
            let exact = ReferenceTensor { width: WIDTH, values: exact_numbers(ROWS * WIDTH, 5) };
            let exact = reference.rope(exact, SHAPE.head_dim, index).unwrap();
            assert_near(&format!("table {index}, {simd}"), &packed, &exact.values);
            all.push(packed);
        }
        assert_ne!(all[0], all[1]);
    }
}

#[test]
fn a_table_that_the_batch_did_not_begin_with_is_refused() {
    let simd = SimdLevel::detect();
    let unknown = TensorError::NoRotaryTable { table: 2, tables: 2 };
    let mut executor = direct(simd, 1, 0);
    executor.begin_packed(&LENGTHS, &tables()).unwrap();
    let input = executor.tensor(&numbers(ROWS * WIDTH, 5), WIDTH).unwrap();
    assert_eq!(executor.rope(input, SHAPE.head_dim, 2).unwrap_err(), unknown);
    let mut executor = recording(simd, 1);
    executor.begin_packed(&LENGTHS, &tables()).unwrap();
    let input = executor.direct().tensor(&numbers(ROWS * WIDTH, 5), WIDTH).unwrap();
    let (input, _) = executor.input(input);
    assert_eq!(executor.rope(input, SHAPE.head_dim, 2).unwrap_err(), unknown);
    // Nor may any table turn more than a head has.
    let [first, mut second] = tables();
    second.radians.push(0.5);
    let outcome = executor.begin_packed(&LENGTHS, &[first, second]);
    assert_eq!(
        outcome,
        Err(TensorError::Length { what: "rotary dimensions of a head", expected: 8, actual: 10 })
    );
}
