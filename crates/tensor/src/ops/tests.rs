//! Every small operation at every level: the bits of its reference, and near the exact result in f64.
//! New operations get one `assert_bits` and one `assert_near` each. What an operation works on lies between pages that
//! must not be touched.

use super::add::AddToRows;
use super::gated::{Gated, GatedGradient};
use super::gelu::Gelu;
use super::layer_norm::LayerNorm;
use super::rms_norm::{RmsNorm, RmsNormGradient};
use super::rope::{RotaryAngles, RotaryFrequencies, RotaryLayout, Rotate};
use super::routing::WeightedRows;
use super::scale::Scale;
use super::softmax::{LogSumExp, log_softmax, log_sum_exp, softmax};
use crate::guarded::{Guarded, Side};
use crate::lanes::{LaneKernel, dispatch};
use crate::reference_encoding::error_function;
use crate::{GateActivation, SimdLevel};

/// Widths around and between whole vectors and groups of vectors.
const WIDTHS: &[usize] =
    if cfg!(miri) { &[1, 15, 17, 64, 65] } else { &[1, 7, 15, 16, 17, 31, 40, 63, 64, 65, 130, 576, 1537] };

/// Values between −8 and 8 that look random.
fn values(count: usize, seed: u32) -> Guarded<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 20) as f32 - 8.0
    };
    let values: Vec<f32> = (0..count).map(|_| next()).collect();
    Guarded::new(&values, Side::After)
}

fn assert_bits(actual: &[f32], expected: &[f32], what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(
            actual.to_bits(),
            expected.to_bits(),
            "{what}, element {index}: {actual} instead of {expected}"
        );
    }
}

/// That each value is within `bound` of the exact one, relative to `max(1, |exact|)`.
fn assert_near(actual: &[f32], exact: &[f64], bound: f64, what: &str) {
    for (index, (actual, exact)) in actual.iter().zip(exact).enumerate() {
        let error = (f64::from(*actual) - exact).abs() / exact.abs().max(1.0);
        assert!(error <= bound, "{what}, element {index}: {actual} instead of {exact}");
    }
}

/// Runs `kernel` at `simd`, or its reference.
fn apply<K: LaneKernel>(simd: Option<SimdLevel>, kernel: K) -> K::Output {
    match simd {
        Some(simd) => dispatch(simd, kernel),
        None => kernel.reference(),
    }
}

/// What `operation` makes of `data`: with the reference, and with the same bits at every level.
fn at_every_level(data: &[f32], what: &str, operation: impl Fn(Option<SimdLevel>, &mut [f32])) -> Vec<f32> {
    let mut expected = data.to_vec();
    operation(None, &mut expected);
    for (simd, side) in
        SimdLevel::available().into_iter().flat_map(|simd| Side::BOTH.map(|side| (simd, side)))
    {
        let mut actual = Guarded::new(data, side);
        operation(Some(simd), &mut actual);
        assert_bits(&actual, &expected, &format!("{what} at {simd}"));
    }
    expected
}

#[test]
fn rms_norm() {
    for &width in WIDTHS {
        for rows in [0, 1, 3] {
            let (input, weight) = (values(rows * width, 1), values(width, 2));
            let result = at_every_level(&vec![f32::NAN; rows * width], "rms_norm", |simd, out| {
                apply(simd, RmsNorm { rows: &input, weight: &weight, epsilon: 1e-5, out });
            });
            for (row, result) in input.chunks_exact(width).zip(result.chunks_exact(width)) {
                let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
                let scale = 1.0 / (squares / width as f64 + f64::from(1e-5f32)).sqrt();
                let exact: Vec<f64> = row
                    .iter()
                    .zip(weight.iter())
                    .map(|(x, w)| f64::from(*x) * scale * f64::from(*w))
                    .collect();
                assert_near(result, &exact, 1e-6, "rms_norm");
            }
        }
    }
}

#[test]
fn rms_norm_of_zeros_and_of_huge_values() {
    for (value, expected) in [(0.0, 0.0), (1e30, 0.0), (f32::NAN, f32::NAN)] {
        let result = at_every_level(&[0.0; 20], "rms_norm", |simd, out| {
            apply(simd, RmsNorm { rows: &[value; 20], weight: &[1.0; 20], epsilon: 1e-5, out });
        });
        // The squares of 1e30 overflow to ∞, of which the inverse root is 0.
        assert!(result.iter().all(|x| *x == expected || (x.is_nan() && expected.is_nan())), "{result:?}");
    }
}

#[test]
fn layer_norm() {
    for &width in WIDTHS {
        for rows in [0, 1, 3] {
            let parts = [(rows * width, 1), (width, 2), (width, 3)].map(|(count, seed)| values(count, seed));
            let [input, weight, bias] = &parts;
            let result = at_every_level(&vec![f32::NAN; rows * width], "layer_norm", |simd, out| {
                apply(simd, LayerNorm { rows: input, weight, bias, epsilon: 1e-5, out });
            });
            for (row, result) in input.chunks_exact(width).zip(result.chunks_exact(width)) {
                let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                let mean = row.iter().sum::<f64>() / width as f64;
                let squares: f64 = row.iter().map(|x| (x - mean).powi(2)).sum();
                let scale = 1.0 / (squares / width as f64 + f64::from(1e-5f32)).sqrt();
                let of_weights = weight.iter().zip(bias.iter()).map(|(w, b)| (f64::from(*w), f64::from(*b)));
                let exact: Vec<f64> =
                    row.iter().zip(of_weights).map(|(x, (w, b))| (x - mean) * scale * w + b).collect();
                assert_near(result, &exact, 3e-6, "layer_norm");
            }
        }
    }
}

#[test]
fn gelu() {
    let exact = |x: f32| {
        let x = f64::from(x);
        0.5 * x * (1.0 + error_function(x * std::f64::consts::FRAC_1_SQRT_2))
    };
    for &width in WIDTHS {
        let input = values(width, 5);
        let result = at_every_level(&input, "gelu", |simd, values| apply(simd, Gelu { values }));
        let exact: Vec<f64> = input.iter().map(|x| exact(*x)).collect();
        assert_near(&result, &exact, 4e-7, "gelu");
    }
    // Small results keep their relative precision.
    for x in [-1e-6f32, -0.5, -3.0, -6.0, -9.0] {
        let result = at_every_level(&[x], "gelu", |simd, values| apply(simd, Gelu { values }))[0];
        if x > -5.0 {
            assert!((f64::from(result) / exact(x) - 1.0).abs() < 3e-6, "gelu({x}) = {result}");
        }
        assert!(result < 0.0, "gelu({x}) = {result}");
    }
    let ends = [-1e30, -200.0, 0.0, 200.0, 1e30];
    let result = at_every_level(&ends, "gelu", |simd, values| apply(simd, Gelu { values }));
    assert_eq!(result, [0.0, 0.0, 0.0, 200.0, 1e30]);
    assert!(
        at_every_level(&[0.0; 3], "gelu of NaN", |simd, values| {
            values.fill(f32::NAN);
            apply(simd, Gelu { values });
            assert!(values.iter().all(|value| value.is_nan()));
            values.fill(0.0);
        })
        .iter()
        .all(|value| *value == 0.0)
    );
}

const ACTIVATIONS: [GateActivation; 2] = [GateActivation::Silu, GateActivation::GeluTanh];

/// The activation in f64, as its formula says.
fn activated(activation: GateActivation, x: f64) -> f64 {
    match activation {
        GateActivation::Silu => x / (1.0 + (-x).exp()),
        GateActivation::GeluTanh => {
            let argument = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + argument.tanh())
        }
    }
}

#[test]
fn gated() {
    for activation in ACTIVATIONS {
        for &width in WIDTHS {
            let (gate, up) = (values(width, 3), values(width, 4));
            let result = at_every_level(&gate, "gated", |simd, gate| {
                apply(simd, Gated { activation, gate, up: &up });
            });
            let pairs = gate.iter().zip(up.iter()).map(|(g, u)| (f64::from(*g), f64::from(*u)));
            let exact: Vec<f64> = pairs.map(|(gate, up)| activated(activation, gate) * up).collect();
            assert_near(&result, &exact, 4e-7, "gated");
        }
        let ends = [-1e30, -200.0, -88.5, 88.5, 200.0, 1e30];
        let result = at_every_level(&ends, "gated", |simd, gate| {
            apply(simd, Gated { activation, gate, up: &[1.0; 6] });
        });
        assert!(result[0].abs() < 1e-5 && result[1].abs() < 1e-35 && result[2].abs() < 1e-35, "{result:?}");
        assert_eq!(result[3..], ends[3..]);
    }
}

#[test]
fn gelu_by_tanh_keeps_its_relative_precision_and_has_its_limits() {
    let activation = GateActivation::GeluTanh;
    let gelu = |inputs: &[f32]| {
        let ones = vec![1.0; inputs.len()];
        at_every_level(inputs, "gelu by tanh", |simd, gate| {
            apply(simd, Gated { activation, gate, up: &ones })
        })
    };
    let inputs: Vec<f32> = (0..2000).map(|step| step as f32 / 100.0 - 5.0).collect();
    for (x, result) in inputs.iter().zip(gelu(&inputs)) {
        let exact = activated(activation, f64::from(*x));
        let bound = if *x >= -1.0 { 3e-7 } else { 3e-6 };
        let error = (f64::from(result) - exact).abs();
        assert!(error <= bound * exact.abs(), "gelu({x}) = {result} instead of {exact}");
    }
    let ends = [-3e38, -1e30, -200.0, -16.0, -10.2, 0.0, 10.2, 16.0, 200.0, 3e38];
    assert_eq!(gelu(&ends), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.2, 16.0, 200.0, 3e38]);
    at_every_level(&[0.0; 20], "gelu by tanh of NaN", |simd, gate| {
        gate.fill(f32::NAN);
        apply(simd, Gated { activation, gate, up: &[1.0; 20] });
        assert!(gate.iter().all(|value| value.is_nan()));
        gate.fill(0.0);
    });
}

#[test]
fn scale() {
    for &width in WIDTHS {
        let input = values(width, 8);
        let result = at_every_level(&input, "scale", |simd, values| {
            apply(simd, Scale { values, factor: 0.37 });
        });
        let exact: Vec<f32> = input.iter().map(|value| value * 0.37).collect();
        assert_bits(&result, &exact, "scale");
    }
}

#[test]
fn rms_norm_gradient() {
    for &width in WIDTHS.iter().filter(|width| **width < 100) {
        for (rows, adds) in [(0, true), (1, false), (3, true)] {
            let parts = [1, 2].map(|seed| values(rows * width, seed));
            let (weight, before) = (values(width, 3), values(rows * width, 4));
            let data = [&before[..], &values(width, 5)].concat();
            let result = at_every_level(&data, "rms_norm gradient", |simd, data| {
                let (out, weight_gradient) = data.split_at_mut(rows * width);
                let [input, gradient] = &parts;
                let (rows, weight) = (&input[..], &weight[..]);
                apply(
                    simd,
                    RmsNormGradient {
                        rows,
                        weight,
                        epsilon: 1e-2,
                        gradient,
                        adds,
                        out,
                        weight_gradient: Some(weight_gradient),
                    },
                );
            });
            // The derivatives in f64 of Σ gradient · norm, by central differences of the formula.
            let exact = |input: &[f64], weight: &[f64]| -> f64 {
                let rows = input.chunks_exact(width).zip(parts[1].chunks_exact(width));
                let of_row = |(row, gradient): (&[f64], &[f32])| -> f64 {
                    let squares: f64 = row.iter().map(|x| x * x).sum();
                    let scale = 1.0 / (squares / width as f64 + f64::from(1e-2f32)).sqrt();
                    let terms = row.iter().zip(weight).zip(gradient);
                    terms.map(|((x, w), g)| x * scale * w * f64::from(*g)).sum()
                };
                rows.map(of_row).sum()
            };
            let [input, weights] =
                [&parts[0], &weight].map(|part| part.iter().map(|x| f64::from(*x)).collect());
            let slopes = slopes(&[input, weights], |parts| exact(&parts[0], &parts[1]));
            let kept = if adds { 1.0 } else { 0.0 };
            let expected = slopes.iter().zip(&data).enumerate().map(|(index, (slope, before))| {
                slope + f64::from(*before) * if index < rows * width { kept } else { 1.0 }
            });
            assert_near(&result, &expected.collect::<Vec<_>>(), 2e-5, "rms_norm gradient");
        }
    }
}

#[test]
fn weighted_rows() {
    for &width in WIDTHS {
        for rows in [0, 1, 3] {
            let weights = values(rows, 3);
            let data = values(rows * (2 * width + 1), 4);
            let result = at_every_level(&data, "weighted rows", |simd, data| {
                let (activated, rest) = data.split_at_mut(rows * width);
                let (gradient, of_weights) = rest.split_at_mut(rows * width);
                apply(simd, WeightedRows { weights: &weights, activated, gradient, of_weights });
            });
            let (activated, gradient) = data[..2 * rows * width].split_at(rows * width);
            let mut exact: Vec<f64> = Vec::new();
            for part in [activated, gradient] {
                exact.extend(
                    part.iter().enumerate().map(|(at, x)| f64::from(*x) * f64::from(weights[at / width])),
                );
            }
            for (a, g) in activated.chunks_exact(width).zip(gradient.chunks_exact(width)) {
                exact.push(a.iter().zip(g).map(|(a, g)| f64::from(*a) * f64::from(*g)).sum());
            }
            // Sums of up to 1,537 products of up to 64, of which most cancel out.
            assert_near(&result, &exact, 2e-4, "weighted rows");
        }
    }
}

/// Derivatives of `function` by all elements of its arguments, by central differences.
fn slopes(arguments: &[Vec<f64>], function: impl Fn(&[Vec<f64>]) -> f64) -> Vec<f64> {
    let mut moved = arguments.to_vec();
    let mut slopes = Vec::new();
    for (argument, values) in arguments.iter().enumerate() {
        for (index, value) in values.iter().enumerate() {
            let step = 1e-5 * value.abs().max(1.0);
            let mut at = |moved_to: f64| {
                moved[argument][index] = moved_to;
                let result = function(&moved);
                moved[argument][index] = *value;
                result
            };
            slopes.push((at(value + step) - at(value - step)) / (2.0 * step));
        }
    }
    slopes
}

#[test]
fn gated_gradient() {
    for (activation, &width) in
        ACTIVATIONS.into_iter().flat_map(|activation| WIDTHS.iter().map(move |width| (activation, width)))
    {
        let (gate, up, gradient) = (values(width, 3), values(width, 4), values(width, 5));
        let data = [&gate[..], &up].concat();
        let result = at_every_level(&data, "gated gradient", |simd, data| {
            let (gate, up) = data.split_at_mut(width);
            apply(simd, GatedGradient { activation, gate, up, gradient: &gradient });
        });
        let gated = |gate: f64, up: f64| activated(activation, gate) * up;
        let slope = |index: usize, of_gate: bool| {
            let (gate, up) = (f64::from(gate[index]), f64::from(up[index]));
            let at = |step: f64| if of_gate { gated(gate + step, up) } else { gated(gate, up + step) };
            f64::from(gradient[index]) * (at(1e-5) - at(-1e-5)) / 2e-5
        };
        let exact: Vec<f64> = [true, false]
            .into_iter()
            .flat_map(|of_gate| (0..width).map(move |index| (index, of_gate)))
            .map(|(index, of_gate)| slope(index, of_gate))
            .collect();
        assert_near(&result, &exact, 1e-6, "gated gradient");
    }
}

/// Far from 0 a gate is a line or zero; nothing overflows.
#[test]
fn gated_gradient_far_from_zero() {
    for activation in ACTIVATIONS {
        let ends = [-1e30, -200.0, -88.5, 88.5, 200.0, 1e30];
        // Of a GELU also between where its exponential ends and where x is taken for 16.
        let more: &[f32] = match activation {
            GateActivation::Silu => &[],
            GateActivation::GeluTanh => &[-3e38, -17.0, -16.0, -12.0, -10.2, 10.2, 12.0, 16.0, 17.0, 3e38],
        };
        let gates = [&ends[..], more].concat();
        let ones = vec![1.0; gates.len()];
        let result = at_every_level(&[&gates[..], &ones].concat(), "gated gradient", |simd, data| {
            let (gate, up) = data.split_at_mut(ones.len());
            apply(simd, GatedGradient { activation, gate, up, gradient: &ones });
        });
        let (slopes, of_up) = result.split_at(gates.len());
        for ((gate, slope), of_up) in gates.iter().zip(slopes).zip(of_up) {
            let (expected, activated) = if *gate > 0.0 { (1.0, *gate) } else { (0.0, 0.0) };
            assert!((slope - expected).abs() < 1e-5, "{activation:?} at {gate}: slope {slope}");
            assert!((of_up - activated).abs() < 1e-5, "{activation:?}({gate}) = {of_up}");
        }
    }
}

#[test]
fn add_to_rows() {
    for &width in WIDTHS {
        let (rows, addend) = (values(3 * width, 5), values(width, 6));
        let result =
            at_every_level(&rows, "add", |simd, rows| apply(simd, AddToRows { rows, addend: &addend }));
        let exact: Vec<f32> =
            rows.iter().zip(addend.iter().cycle()).map(|(value, addend)| value + addend).collect();
        assert_bits(&result, &exact, "add");
    }
}

#[test]
fn rope() {
    let layouts = [RotaryLayout::Interleaved, RotaryLayout::HalfSplit];
    for (layout, (head_dim, rotary_dim)) in layouts.into_iter().flat_map(|layout| {
        [(8, 8), (24, 24), (64, 64), (80, 80), (128, 32), (256, 256)].map(|dims| (layout, dims))
    }) {
        let pairs = rotary_dim / 2;
        let radians: Vec<f64> =
            (0..pairs).map(|pair| 10_000f64.powf(-(pair as f64) / pairs as f64)).collect();
        let frequencies = RotaryFrequencies { radians, magnitude: 1.25, layout };
        let mut angles = RotaryAngles::new(layout);
        angles.set(&frequencies, [5, 0, 77, 4095].into_iter());
        let width = 3 * head_dim;
        // Rows 1 to 3 of the step.
        let rows = values(3 * width, 7);
        let result = at_every_level(&rows, "rope", |simd, rows| {
            apply(simd, Rotate { rows, width, head_dim, angles: &angles, first: 1 });
        });
        for (index, (row, result)) in rows.chunks(width).zip(result.chunks(width)).enumerate() {
            let position = [0.0, 77.0, 4095.0][index];
            for (head, result) in row.chunks(head_dim).zip(result.chunks(head_dim)) {
                assert_near(result, &rotated(head, position, &frequencies), 2e-6, "rope");
            }
        }
    }
}

/// A head turned to `position`, in f64.
fn rotated(head: &[f32], position: f64, frequencies: &RotaryFrequencies) -> Vec<f64> {
    let mut exact: Vec<f64> = head.iter().map(|x| f64::from(*x)).collect();
    let pairs = frequencies.radians.len();
    for (pair, radians) in frequencies.radians.iter().enumerate() {
        let (a, b) = match frequencies.layout {
            RotaryLayout::Interleaved => (2 * pair, 2 * pair + 1),
            RotaryLayout::HalfSplit => (pair, pair + pairs),
        };
        let (sine, cosine) = (position * radians).sin_cos();
        let (first, second) = (exact[a], exact[b]);
        exact[a] = (first * cosine - second * sine) * frequencies.magnitude;
        exact[b] = (second * cosine + first * sine) * frequencies.magnitude;
    }
    exact
}

#[test]
fn softmax_and_its_logarithm() {
    for width in WIDTHS.iter().copied().chain((!cfg!(miri)).then_some(49_152)) {
        let logits = values(width, 8);
        let scalar = Some(SimdLevel::Scalar);
        let probabilities =
            at_every_level(&logits, "softmax", |simd, row| softmax(simd.or(scalar).unwrap(), row));
        let logarithms =
            at_every_level(&logits, "log_softmax", |simd, row| log_softmax(simd.or(scalar).unwrap(), row));
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let exact: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp() / sum).collect();
        assert_near(&probabilities, &exact, 1e-6, "softmax");
        let exact: Vec<f64> = logits.iter().map(|x| f64::from(*x) - sum.ln()).collect();
        assert_near(&logarithms, &exact, 1e-6, "log_softmax");
    }
}

#[test]
fn softmax_of_masked_empty_and_broken_rows() {
    for simd in SimdLevel::available() {
        let mut row = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
        softmax(simd, &mut row);
        assert_eq!(row, [0.0, 0.5, 0.0, 0.5]);
        assert_eq!(log_sum_exp(simd, &[]).value(), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(simd, &[f32::NEG_INFINITY; 3]).value(), f64::NEG_INFINITY);
        // What is broken shows wherever it stands, and −∞ around it does not hide it.
        for broken in [f32::NAN, f32::INFINITY] {
            for (at, others) in [(1, 0.0), (1500, 0.0), (2047, f32::NEG_INFINITY), (2500, 1.0)] {
                let mut row = vec![others; 2600];
                row[at] = broken;
                let total = log_sum_exp(simd, &row);
                assert!(total.is_broken() && total.value().is_nan(), "{broken} at {at}: {total:?}");
            }
        }
    }
}

#[test]
fn log_sum_exp_of_pieces_has_the_bits_of_the_whole() {
    let part = LogSumExp::PART;
    let mut logits = values(5 * part + 77, 9);
    logits[part..2 * part].fill(f32::NEG_INFINITY);
    logits[3 * part + 5] = 30.0;
    let whole = log_sum_exp(SimdLevel::Scalar, &logits).value();
    let exact: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    assert!((whole - exact).abs() < 1e-6, "{whole} instead of {exact}");
    for simd in SimdLevel::available() {
        for pieces in [1, 2, 3, 6] {
            let mut total = LogSumExp::default();
            logits.chunks(pieces * part).for_each(|piece| total.add(simd, piece));
            assert_eq!(total.value().to_bits(), whole.to_bits(), "{simd}, pieces of {pieces} parts");
        }
        let mut row = logits.to_vec();
        log_softmax(simd, &mut row);
        let total = log_sum_exp(simd, &logits);
        for (logit, logarithm) in logits.iter().zip(&row) {
            assert_eq!(total.log_probability(*logit).to_bits(), logarithm.to_bits());
        }
    }
}
