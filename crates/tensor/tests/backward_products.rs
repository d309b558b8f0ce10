//! The products of the backward pass, and the forward product of many rows, at every instruction set of this machine:
//! bit-equal to plain loops, on odd shapes, for any number of threads.

use crate::reference::{Random, ScaleKind, backward_chain, random_activations, random_weights};
use zhenjin_tensor::linear::backward::{BackwardScratch, bias_gradient, input_gradient, weight_gradient};
use zhenjin_tensor::{
    Dtype, Matrix, Product, QuantisedRows, SimdLevel, TensorError, ThreadTeam, dequantise, linear,
};

/// Rows, inputs and outputs: alone, around the sizes of tiles, panels and stretches, and over several of each.
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 16, 16),
    (12, 15, 17),
    (13, 31, 33),
    (47, 20, 7),
    (48, 64, 32),
    (53, 1, 40),
    (61, 100, 1),
    (64, 256, 48),
    (100, 257, 50),
    (145, 37, 90),
    (259, 48, 27),
    (300, 515, 70),
];

/// Operands in plain row-major order.
struct Operands {
    rows: usize,
    inputs: usize,
    outputs: usize,
    input: Vec<f32>,
    weights: Vec<f32>,
    output_gradient: Vec<f32>,
}

impl Operands {
    fn new(seed: u64, (rows, inputs, outputs): (usize, usize, usize)) -> Operands {
        let mut random = Random::new(seed);
        let mut values = |count| random_activations(&mut random, count, ScaleKind::Usual);
        let (input, weights) = (values(rows * inputs), values(outputs * inputs));
        Operands { rows, inputs, outputs, input, weights, output_gradient: values(rows * outputs) }
    }

    fn matrix(&self, simd: SimdLevel, team: &ThreadTeam) -> Matrix {
        let bytes: Vec<u8> = self.weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        Matrix::pack(Dtype::F32, self.outputs, self.inputs, &bytes, simd, team).unwrap()
    }

    /// Y = X · Wᵀ.
    fn output(&self) -> Vec<f32> {
        let element = |row: usize, output: usize| {
            (0..self.inputs).fold(0.0f32, |sum, input| {
                let weight = self.weights[output * self.inputs + input];
                weight.mul_add(self.input[row * self.inputs + input], sum)
            })
        };
        (0..self.rows).flat_map(|row| (0..self.outputs).map(move |output| element(row, output))).collect()
    }

    /// dX = start + dY · W.
    fn input_gradient(&self, simd: SimdLevel, start: &[f32]) -> Vec<f32> {
        let element = |row: usize, input: usize| {
            let pair = |output| {
                let gradient = self.output_gradient[row * self.outputs + output];
                (gradient, self.weights[output * self.inputs + input])
            };
            backward_chain(simd, start[row * self.inputs + input], (0..self.outputs).map(pair))
        };
        (0..self.rows).flat_map(|row| (0..self.inputs).map(move |input| element(row, input))).collect()
    }

    /// dW = start + dYᵀ · X, packed.
    fn weight_gradient(&self, simd: SimdLevel, start: &[f32]) -> Vec<f32> {
        let mut gradient = start.to_vec();
        for output in 0..self.outputs {
            for input in 0..self.inputs {
                let sum = &mut gradient[(output / 16 * self.inputs + input) * 16 + output % 16];
                let pair = |row| {
                    let gradient = self.output_gradient[row * self.outputs + output];
                    (self.input[row * self.inputs + input], gradient)
                };
                *sum = backward_chain(simd, *sum, (0..self.rows).map(pair));
            }
        }
        gradient
    }

    fn packed_len(&self) -> usize {
        self.outputs.next_multiple_of(16) * self.inputs
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn for_each_case(check: impl Fn(&Operands, SimdLevel, &ThreadTeam, &str)) {
    for threads in [1, 2, 3] {
        let team = ThreadTeam::new(threads).unwrap();
        for (seed, shape) in SHAPES.into_iter().enumerate() {
            let operands = Operands::new(seed as u64, shape);
            for simd in SimdLevel::available() {
                check(&operands, simd, &team, &format!("{simd}, {threads} threads, {shape:?}"));
            }
        }
    }
}

#[test]
fn the_product_of_many_rows_is_bit_equal_to_plain_loops() {
    for_each_case(|operands, simd, team, what| {
        let matrix = operands.matrix(simd, team);
        let mut output = vec![f32::NAN; operands.rows * operands.outputs];
        let mut products = [Product { matrix: &matrix, output: &mut output }];
        linear(team, &operands.input, operands.rows, &mut QuantisedRows::new(), &mut products).unwrap();
        assert_eq!(bits(&output), bits(&operands.output()), "{what}");
    });
}

#[test]
fn products_that_share_an_input_have_the_bits_that_they_have_alone() {
    let team = ThreadTeam::new(2).unwrap();
    for simd in SimdLevel::available() {
        let mut operands = [40, 7, 33].map(|outputs| Operands::new(outputs as u64, (70, 48, outputs)));
        let input = operands[0].input.clone();
        operands.iter_mut().for_each(|operands| operands.input.clone_from(&input));
        let matrices = operands.each_ref().map(|operands| operands.matrix(simd, &team));
        let mut outputs = operands.each_ref().map(|operands| vec![f32::NAN; 70 * operands.outputs]);
        let mut products: Vec<Product<'_>> =
            matrices.iter().zip(&mut outputs).map(|(matrix, output)| Product { matrix, output }).collect();
        linear(&team, &input, 70, &mut QuantisedRows::new(), &mut products).unwrap();
        for (output, operands) in outputs.iter().zip(&operands) {
            assert_eq!(bits(output), bits(&operands.output()), "{simd}, {} outputs", operands.outputs);
        }
    }
}

#[test]
fn input_gradients_are_bit_equal_to_plain_loops() {
    for_each_case(|operands, simd, team, what| {
        let matrix = operands.matrix(simd, team);
        let start = random_activations(&mut Random::new(9), operands.input.len(), ScaleKind::Usual);
        let mut scratch = BackwardScratch::default();
        for accumulate in [false, true] {
            let mut gradient = if accumulate { start.clone() } else { vec![f32::NAN; start.len()] };
            let begin = if accumulate { start.clone() } else { vec![0.0; start.len()] };
            let (dy, rows) = (&operands.output_gradient, operands.rows);
            input_gradient(team, dy, rows, &matrix, &mut scratch, &mut gradient, accumulate).unwrap();
            assert_eq!(bits(&gradient), bits(&operands.input_gradient(simd, &begin)), "{what}, {accumulate}");
        }
    });
}

#[test]
fn an_input_gradient_in_several_pieces_has_the_same_bits() {
    // More elements than are transposed together.
    let operands = Operands::new(3, (2, 1100, 1000));
    let team = ThreadTeam::new(2).unwrap();
    for simd in SimdLevel::available() {
        let matrix = operands.matrix(simd, &team);
        let mut gradient = vec![f32::NAN; 2 * 1100];
        let (dy, mut scratch) = (&operands.output_gradient, BackwardScratch::default());
        input_gradient(&team, dy, 2, &matrix, &mut scratch, &mut gradient, false).unwrap();
        assert_eq!(bits(&gradient), bits(&operands.input_gradient(simd, &[0.0; 2200])), "{simd}");
        assert!(scratch.bytes() <= 4 << 20, "{} bytes", scratch.bytes());
    }
}

#[test]
fn weight_gradients_are_bit_equal_to_plain_loops_and_leave_padding_zero() {
    for_each_case(|operands, simd, team, what| {
        let mut start = vec![0.0; operands.packed_len()];
        for (index, value) in start.iter_mut().enumerate() {
            let output = index / 16 / operands.inputs * 16 + index % 16;
            *value = if output < operands.outputs { index as f32 * 0.01 } else { 0.0 };
        }
        let mut gradient = start.clone();
        let (dy, input) = (&operands.output_gradient, &operands.input);
        weight_gradient(team, simd, dy, input, operands.rows, &mut gradient).unwrap();
        assert_eq!(bits(&gradient), bits(&operands.weight_gradient(simd, &start)), "{what}");
    });
}

#[test]
fn rows_in_two_calls_give_the_weight_gradient_of_one() {
    let operands = Operands::new(4, (300, 40, 37));
    let team = ThreadTeam::new(2).unwrap();
    let (dy, input) = (&operands.output_gradient, &operands.input);
    let zeros = vec![0.0; operands.packed_len()];
    for simd in SimdLevel::available() {
        let mut gradient = zeros.clone();
        weight_gradient(&team, simd, &dy[..128 * 37], &input[..128 * 40], 128, &mut gradient).unwrap();
        weight_gradient(&team, simd, &dy[128 * 37..], &input[128 * 40..], 172, &mut gradient).unwrap();
        assert_eq!(bits(&gradient), bits(&operands.weight_gradient(simd, &zeros)), "{simd}");
    }
}

#[test]
fn bias_gradients_are_bit_equal_to_plain_sums() {
    for_each_case(|operands, simd, team, what| {
        let mut gradient = vec![0.25; operands.outputs];
        bias_gradient(team, simd, &operands.output_gradient, operands.rows, &mut gradient).unwrap();
        let column = |output: usize| operands.output_gradient.iter().skip(output).step_by(operands.outputs);
        let expected: Vec<f32> =
            (0..operands.outputs).map(|output| column(output).fold(0.25, |sum, value| sum + value)).collect();
        assert_eq!(bits(&gradient), bits(&expected), "{what}");
    });
}

#[test]
fn wrong_lengths_are_errors() {
    let (team, simd) = (ThreadTeam::new(1).unwrap(), SimdLevel::Scalar);
    let matrix = Operands::new(1, (2, 4, 3)).matrix(simd, &team);
    let mut scratch = BackwardScratch::default();
    let length = |result: Result<(), TensorError>| assert!(matches!(result, Err(TensorError::Length { .. })));
    length(input_gradient(&team, &[0.0; 5], 2, &matrix, &mut scratch, &mut [0.0; 8], false));
    length(input_gradient(&team, &[0.0; 6], 2, &matrix, &mut scratch, &mut [0.0; 9], false));
    length(weight_gradient(&team, simd, &[0.0; 5], &[0.0; 8], 2, &mut [0.0; 64]));
    length(weight_gradient(&team, simd, &[0.0; 6], &[0.0; 8], 2, &mut [0.0; 63]));
    length(weight_gradient(&team, simd, &[0.0; 6], &[0.0; 8], 0, &mut [0.0; 64]));
    length(bias_gradient(&team, simd, &[0.0; 5], 2, &mut [0.0; 3]));
}

/// The way back through a matrix of any type is that through the values that its blocks stand for, bit for bit.
#[test]
fn input_gradients_of_other_types_are_those_of_the_expanded_matrix() {
    // More outputs than are expanded at once, and no whole number of tiles.
    for (dtype, rows, inputs, outputs) in [
        (Dtype::F16, 3, 37, 21),
        (Dtype::Bf16, 5, 40, 17),
        (Dtype::Q8_0, 49, 64, 33),
        (Dtype::Q4_0, 2, 96, 50),
        (Dtype::Q4_1, 13, 32, 70),
        (Dtype::Q5_0, 7, 64, 19),
        (Dtype::Q4K, 4, 256, 35),
        (Dtype::Q6K, 6, 512, 18),
        (Dtype::Q8_0, 3, 1_024, 1_100),
    ] {
        let mut random = Random::new(5);
        let bytes = random_weights(&mut random, dtype, outputs * inputs, ScaleKind::Usual);
        let gradient = random_activations(&mut random, rows * outputs, ScaleKind::Usual);
        let mut values = vec![0.0; outputs * inputs];
        dequantise(dtype, &bytes, &mut values).unwrap();
        let expanded: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for simd in SimdLevel::available() {
            let mut found = Vec::new();
            for threads in [1, 3] {
                let team = ThreadTeam::new(threads).unwrap();
                for (dtype, bytes) in [(dtype, &bytes), (Dtype::F32, &expanded)] {
                    let matrix = Matrix::pack(dtype, outputs, inputs, bytes, simd, &team).unwrap();
                    let mut scratch = BackwardScratch::default();
                    let mut result = vec![0.5; rows * inputs];
                    input_gradient(&team, &gradient, rows, &matrix, &mut scratch, &mut result, true).unwrap();
                    found.push(bits(&result));
                }
            }
            assert!(found.iter().all(|bits| *bits == found[0]), "{dtype} {simd}");
        }
    }
}
