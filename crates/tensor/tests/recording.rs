//! Gradients through low-rank additions against the rules in f64; and what is not recorded is refused by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use zhenjin_tensor::{
    AttentionShape, Dtype, Executor, Gradients, LowRankAddition, Matrix, OutputChange, ParameterId,
    ParameterShape, ParameterSource, Projection, RecordingExecutor, ReferenceParameter, ReferenceTape,
    ReferenceTensor, RotaryFrequencies, RotaryLayout, SequenceRows, SimdLevel, TensorError, ThreadTeam,
    Vector,
};

const SHAPE: AttentionShape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 8, scale: 0.3 };
const ROWS: usize = 23;
const INPUTS: usize = 37;
/// Embedding, two matrices, a bias, and two low-rank additions: rows and columns.
const SHAPES: [(usize, usize); 8] =
    [(ROWS, INPUTS), (50, INPUTS), (19, INPUTS), (1, 50), (5, INPUTS), (50, 5), (16, INPUTS), (19, 16)];
const BIAS: usize = 3;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let hash = |index: usize| (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 9);
    (0..count).map(|index| (hash(index) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn no_rotation() -> [RotaryFrequencies; 1] {
    [RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit }]
}

/// Two products of the same input, each with a low-rank addition to some rows; the first has a bias. The sum of their
/// outputs' weighted values is the loss.
fn outputs<E: Executor>(executor: &mut E, matrices: &[E::Matrix], bias: &E::Vector) -> [E::Tensor; 2] {
    let tokens: Vec<u32> = (0..ROWS as u32).collect();
    let input = executor.embedding(&matrices[0], &tokens).unwrap();
    let addition = |down: usize, rows, scale| {
        [LowRankAddition {
            rows,
            down: &matrices[down],
            up: &matrices[down + 1],
            scale,
            outputs: OutputChange::default(),
        }]
    };
    let (first, second) = (addition(4, 3..20, 0.7), addition(6, 0..ROWS, 2.0));
    let first = Projection { matrix: &matrices[1], bias: Some(bias), additions: &first };
    let second = Projection { matrix: &matrices[2], bias: None, additions: &second };
    executor.linear(input, [first, second]).unwrap()
}

fn exact() -> BTreeMap<ParameterId, Vec<f64>> {
    let parameter = |id: usize| {
        let (rows, width) = SHAPES[id];
        let values = numbers(rows * width, id).into_iter().map(f64::from).collect();
        ReferenceParameter { id: ParameterId(id as u32), value: ReferenceTensor { width, values } }
    };
    let matrices: Vec<_> = (0..SHAPES.len()).map(parameter).collect();
    let bias =
        ReferenceParameter { id: ParameterId(BIAS as u32), value: matrices[BIAS].value.values.clone() };
    let mut sum = BTreeMap::new();
    for output in 0..2 {
        let mut tape = ReferenceTape::new();
        tape.begin_packed(&[ROWS], &no_rotation()).unwrap();
        let out = outputs(&mut tape, &matrices, &bias)[output].clone();
        let weights = numbers(out.value.values.len(), 90 + output).into_iter().map(f64::from);
        for (id, gradient) in tape.gradients(&out, &weights.collect::<Vec<_>>()) {
            let sum: &mut Vec<f64> = sum.entry(id).or_insert_with(|| vec![0.0; gradient.len()]);
            sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
        }
    }
    sum
}

struct Parameters {
    matrices: Vec<Matrix>,
    bias: Vector,
}

impl ParameterSource for Parameters {
    fn matrix(&self, id: ParameterId) -> Option<&Matrix> {
        self.matrices.get(id.0 as usize)
    }

    fn vector(&self, id: ParameterId) -> Option<&Vector> {
        (id.0 as usize == BIAS).then_some(&self.bias)
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
    let bias = Vector::from(numbers(SHAPES[BIAS].1, BIAS)).with_parameter(ParameterId(BIAS as u32));
    Parameters { matrices: (0..SHAPES.len()).map(matrix).collect(), bias }
}

fn shapes() -> Vec<ParameterShape> {
    let shape = |(id, (rows, columns)): (usize, (usize, usize))| match id {
        BIAS => ParameterShape::Vector { len: columns },
        _ => ParameterShape::Matrix { rows, columns },
    };
    SHAPES.into_iter().enumerate().map(shape).collect()
}

fn learn(simd: SimdLevel, threads: usize, mut gradients: Gradients) -> Gradients {
    let parameters = parameters(simd);
    let team = Arc::new(ThreadTeam::new(threads).unwrap());
    let mut executor = RecordingExecutor::new(SHAPE, simd, team).unwrap();
    executor.begin_packed(&[ROWS], &no_rotation()).unwrap();
    for (index, out) in outputs(&mut executor, &parameters.matrices, &parameters.bias).into_iter().enumerate()
    {
        let weights = numbers(out.rows() * out.width(), 90 + index);
        let gradient = executor.direct().tensor(&weights, out.width()).unwrap();
        executor.set_gradient(out, gradient).unwrap();
    }
    executor.backward(&parameters, &mut gradients).unwrap();
    gradients
}

/// Row-major elements of a packed gradient.
fn unpacked(gradient: &[f32], shape: ParameterShape) -> Vec<f32> {
    let ParameterShape::Matrix { rows, columns } = shape else { return gradient.to_vec() };
    let at = |row: usize, column: usize| gradient[(row / 16 * columns + column) * 16 + row % 16];
    (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
}

#[test]
fn gradients_through_low_rank_additions_are_near_those_in_f64() {
    let exact = exact();
    assert_eq!(exact.len(), SHAPES.len());
    for simd in SimdLevel::available() {
        let gradients = learn(simd, 2, Gradients::new(&shapes()).unwrap());
        let alone = learn(simd, 1, Gradients::new(&shapes()).unwrap());
        for (index, shape) in shapes().into_iter().enumerate() {
            let id = ParameterId(index as u32);
            assert!(gradients.get(id) == alone.get(id), "threads change parameter {index}");
            let largest = exact[&id].iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            for (actual, exact) in unpacked(gradients.get(id), shape).into_iter().zip(&exact[&id]) {
                let error = (f64::from(actual) - exact).abs() / largest;
                assert!(error < 1e-5, "parameter {index}, {simd}: {actual} instead of {exact}");
            }
        }
    }
}

/// An adapter learns while its model stays as it is.
#[test]
fn what_does_not_learn_changes_no_other_gradient() {
    for simd in SimdLevel::available() {
        let all = learn(simd, 2, Gradients::new(&shapes()).unwrap());
        let some = learn(simd, 2, Gradients::of_some(&shapes(), |id| id.0 >= 4).unwrap());
        for id in (0..SHAPES.len() as u32).map(ParameterId) {
            let expected: &[f32] = if id.0 >= 4 { all.get(id) } else { &[] };
            assert_eq!(some.get(id), expected, "{simd}");
        }
    }
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let simd = SimdLevel::detect();
    let team = Arc::new(ThreadTeam::new(1).unwrap());
    let mut executor = RecordingExecutor::new(SHAPE, simd, Arc::clone(&team)).unwrap();
    let pages = executor.begin(std::iter::empty::<SequenceRows<'_>>(), &no_rotation());
    assert!(matches!(pages, Err(TensorError::NotRecorded { .. })));
    executor.begin_packed(&[3], &no_rotation()).unwrap();
    let bytes = vec![0; 4 * 32 * 4];
    let nobody = Matrix::pack(Dtype::F32, 4, 32, &bytes, simd, &team).unwrap();
    assert!(matches!(executor.embedding(&nobody, &[1, 2, 3]), Err(TensorError::NotAParameter { .. })));
    let half = Matrix::pack(Dtype::F16, 4, 32, &bytes[..256], simd, &team).unwrap();
    let half = half.with_parameter(ParameterId(0));
    assert!(matches!(executor.embedding(&half, &[1, 2, 3]), Err(TensorError::NotF32 { .. })));
    // A tensor of an earlier batch is not on the tape any more.
    let table = nobody.with_parameter(ParameterId(0));
    let old = executor.embedding(&table, &[1, 2, 3]).unwrap();
    executor.begin_packed(&[3], &no_rotation()).unwrap();
    assert!(matches!(executor.rope(old, 8, 0), Err(TensorError::NotOnTape { .. })));
}
