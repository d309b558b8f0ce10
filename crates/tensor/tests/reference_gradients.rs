//! The rule of every operation in f64 against central finite differences of its formula, at odd shapes.

use zhenjin_tensor::{
    AttentionShape, Executor, Expert, ExpertChoice, GateActivation, LowRankAddition, OutputChange,
    ParameterId, Projection, ReferenceParameter, ReferenceTape, ReferenceTensor, RotaryFrequencies,
    RotaryLayout, TapedTensor,
};

type Parameter = ReferenceParameter<ReferenceTensor>;

const LENGTHS: [usize; 3] = [4, 1, 6];
const ROWS: usize = 11;
const STEP: f64 = 1e-5;
/// The error of a central difference is about STEP² times a third derivative, plus 2⁻⁵³ / STEP times the value.
const TOLERANCE: f64 = 1e-8;

fn number(index: usize, seed: usize) -> f64 {
    let hash = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (seed as u64) << 9);
    (hash >> 40) as f64 / (1 << 23) as f64 - 1.0
}

/// A tensor of random values as parameter `id`.
fn parameter(id: u32, rows: usize, width: usize) -> Parameter {
    let values = (0..rows * width).map(|index| number(index, id as usize + 1)).collect();
    ReferenceParameter { id: ParameterId(id), value: ReferenceTensor { width, values } }
}

fn vector(parameter: &Parameter) -> ReferenceParameter<Vec<f64>> {
    ReferenceParameter { id: parameter.id, value: parameter.value.values.clone() }
}

/// All rows of a parameter as a tensor.
fn rows(tape: &mut ReferenceTape, parameter: &Parameter) -> TapedTensor {
    let tokens: Vec<u32> = (0..parameter.value.rows().len() as u32).collect();
    tape.embedding(parameter, &tokens).unwrap()
}

/// Compares the derivatives of a weighted sum of what `operation` gives by every element of every parameter.
fn check(
    what: &str,
    mut parameters: Vec<Parameter>,
    rotary: &[RotaryFrequencies],
    operation: impl Fn(&mut ReferenceTape, &[Parameter]) -> TapedTensor,
) {
    let run = |parameters: &[Parameter]| {
        let mut tape = ReferenceTape::new();
        tape.begin_packed(&LENGTHS, rotary).unwrap();
        let out = operation(&mut tape, parameters);
        (tape, out)
    };
    let loss = |parameters: &[Parameter]| -> f64 {
        let (_, out) = run(parameters);
        out.value.values.iter().enumerate().map(|(index, value)| number(index, 99) * value).sum()
    };
    let (tape, out) = run(&parameters);
    assert!(!out.value.values.is_empty());
    let weights: Vec<f64> = (0..out.value.values.len()).map(|index| number(index, 99)).collect();
    let gradients = tape.gradients(&out, &weights);
    for index in 0..parameters.len() {
        let gradient = &gradients[&parameters[index].id];
        assert_eq!(gradient.len(), parameters[index].value.values.len(), "{what}");
        assert!(gradient.iter().any(|value| *value != 0.0), "{what}: parameter {index} has no gradient");
        for (element, actual) in gradient.iter().enumerate() {
            let mut at = |step: f64| {
                let kept = parameters[index].value.values[element];
                parameters[index].value.values[element] = kept + step;
                let loss = loss(&parameters);
                parameters[index].value.values[element] = kept;
                loss
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let error = (actual - expected).abs() / expected.abs().max(1.0);
            assert!(
                error < TOLERANCE,
                "{what}, parameter {index}, {element}: {actual} instead of {expected}"
            );
        }
    }
}

fn no_rotation() -> [RotaryFrequencies; 1] {
    [RotaryFrequencies { radians: vec![], magnitude: 1.0, layout: RotaryLayout::HalfSplit }]
}

#[test]
fn embedding_and_selected_rows() {
    check("embedding", vec![parameter(0, 5, 3)], &no_rotation(), |tape, all| {
        tape.embedding(&all[0], &[3, 0, 3, 3, 4]).unwrap()
    });
    check("select_rows", vec![parameter(0, 5, 3)], &no_rotation(), |tape, all| {
        let all = rows(tape, &all[0]);
        tape.select_rows(all, &[1, 4, 1]).unwrap()
    });
}

#[test]
fn norms() {
    check("rms_norm", vec![parameter(0, ROWS, 7), parameter(1, 1, 7)], &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        tape.rms_norm(&input, &vector(&all[1]), 1e-3).unwrap()
    });
    check("head_norm", vec![parameter(0, ROWS, 15), parameter(1, 1, 5)], &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        tape.head_norm(input, &vector(&all[1]), 1e-3).unwrap()
    });
    let whole = vec![parameter(0, ROWS, 15), parameter(1, 1, 15)];
    check("head_norm of whole rows", whole, &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        tape.head_norm(input, &vector(&all[1]), 1e-3).unwrap()
    });
}

#[test]
fn linear_with_bias_and_low_rank_additions() {
    let shapes = [(ROWS, 5), (3, 5), (1, 3), (4, 5), (2, 5), (3, 2)];
    let all = shapes.iter().enumerate().map(|(id, (rows, width))| parameter(id as u32, *rows, *width));
    check("linear", all.collect(), &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        let bias = vector(&all[2]);
        let addition = LowRankAddition {
            rows: 2..7,
            down: &all[4],
            up: &all[5],
            scale: 0.5,
            outputs: OutputChange::default(),
        };
        let first = Projection { matrix: &all[1], bias: Some(&bias), additions: &[addition] };
        let second = Projection { matrix: &all[3], bias: None, additions: &[] };
        let [first, second] = tape.linear(input, [first, second]).unwrap();
        // Both outputs count: the first's columns, then the second's.
        let back = Projection { matrix: &all[3], bias: None, additions: &[] };
        let wide = parameter(77, 5, 3);
        let wide = Projection { matrix: &wide, bias: None, additions: &[] };
        let [first] = tape.linear(first, [wide]).unwrap();
        let [first] = tape.linear(first, [back]).unwrap();
        tape.add(first, second).unwrap()
    });
}

#[test]
fn rope() {
    for layout in [RotaryLayout::Interleaved, RotaryLayout::HalfSplit] {
        let rotary = [[1.0, 0.3, 0.02], [0.7, 0.05, 0.001]].map(|radians| RotaryFrequencies {
            radians: radians.to_vec(),
            magnitude: 1.3,
            layout,
        });
        for table in [0, 1] {
            check("rope", vec![parameter(0, ROWS, 16)], &rotary, |tape, all| {
                let input = rows(tape, &all[0]);
                tape.rope(input, 8, table).unwrap()
            });
        }
    }
}

#[test]
fn mixtures_of_experts() {
    for (active, normalise) in [(1, false), (2, true), (3, false), (4, true)] {
        // Rows, router, and the three matrices of each of four experts.
        let mut shapes = vec![(ROWS, 5), (4, 5)];
        shapes.extend([(3, 5), (3, 5), (5, 3)].repeat(4));
        let all = shapes.iter().enumerate().map(|(id, (rows, width))| parameter(id as u32, *rows, *width));
        check("mixture of experts", all.collect(), &no_rotation(), |tape, all| {
            let input = rows(tape, &all[0]);
            let expert =
                |of: &[Parameter]| Expert { gate: of[0].clone(), up: of[1].clone(), down: of[2].clone() };
            let experts: Vec<_> = all[2..].chunks(3).map(expert).collect();
            tape.mixture_of_experts(input, &all[1], &experts, ExpertChoice { active, normalise }).unwrap()
        });
    }
}

#[test]
fn attention() {
    for (heads, kv_heads, head_dim, window) in [(3, 3, 8, None), (4, 2, 8, Some(3)), (5, 1, 16, None)] {
        let shape = AttentionShape { heads, kv_heads, head_dim, scale: 0.9 };
        let widths = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim];
        let parameters = (0..3).map(|id| parameter(id, ROWS, widths[id as usize])).collect();
        check("attention", parameters, &no_rotation(), |tape, all| {
            let [queries, keys, values] = [0, 1, 2].map(|part| rows(tape, &all[part]));
            tape.attention(0, shape, window, queries, keys, values).unwrap()
        });
    }
}

#[test]
fn gated_products_sums_and_multiples() {
    for activation in [GateActivation::Silu, GateActivation::GeluTanh] {
        // Gates from −4 to 4.
        let mut gate = parameter(0, ROWS, 3);
        gate.value.values.iter_mut().for_each(|value| *value *= 4.0);
        check("gated", vec![gate, parameter(1, ROWS, 3)], &no_rotation(), |tape, all| {
            let [gate, up] = [0, 1].map(|part| rows(tape, &all[part]));
            tape.gated(activation, gate, up).unwrap()
        });
    }
    check("scale", vec![parameter(0, ROWS, 3)], &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        tape.scale(input, -2.5).unwrap()
    });
    check("copy", vec![parameter(0, ROWS, 3)], &no_rotation(), |tape, all| {
        let input = rows(tape, &all[0]);
        let copy = tape.copy(&input).unwrap();
        let copy = tape.scale(copy, -2.5).unwrap();
        tape.add(input, copy).unwrap()
    });
    check("add", vec![parameter(0, ROWS, 3), parameter(1, ROWS, 3)], &no_rotation(), |tape, all| {
        let [sum, addend] = [0, 1].map(|part| rows(tape, &all[part]));
        let twice = tape.add(sum.clone(), addend).unwrap();
        tape.add(sum, twice).unwrap()
    });
}
