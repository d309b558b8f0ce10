//! Gradients in f64 by the rule of every operation, as its formula says: what other executors' gradients are compared with. It is
//! itself compared with finite differences, in its tests.
//!
//! The forward pass is that of [`ReferenceExecutor`]. Every operation leaves a rule behind: given the derivative of the loss by
//! its result, it adds the derivatives by its inputs. For tests on small models, like the executor.

mod mixture;

use std::collections::BTreeMap;

use crate::attention::AttentionShape;
use crate::kv::SequenceRows;
use crate::ops::rope::RotaryFrequencies;
use crate::reference_executor::gelu_argument;
use crate::{
    Executor, Expert, ExpertChoice, GateActivation, LowRankAddition, ParameterId, Projection,
    ReferenceExecutor, ReferenceTensor, TensorError,
};

/// A weight in f64 that knows which parameter it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceParameter<T> {
    /// Its number.
    pub id: ParameterId,
    /// A matrix `[outputs, inputs]` or a vector.
    pub value: T,
}

/// A tensor and its number on the tape.
#[derive(Clone, Debug)]
pub struct TapedTensor {
    id: usize,
    /// The values.
    pub value: ReferenceTensor,
}

/// Derivatives of the loss: by tensors on the tape, and by parameters (matrices row by row).
#[derive(Debug, Default)]
struct Derivatives {
    tensors: BTreeMap<usize, Vec<f64>>,
    parameters: BTreeMap<ParameterId, Vec<f64>>,
}

impl Derivatives {
    fn add(&mut self, tensor: usize, values: &[f64]) {
        add_to(self.tensors.entry(tensor).or_default(), values);
    }

    fn add_parameter(&mut self, id: ParameterId, values: &[f64]) {
        add_to(self.parameters.entry(id).or_default(), values);
    }
}

fn add_to(sum: &mut Vec<f64>, values: &[f64]) {
    sum.resize(values.len(), 0.0);
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// What an operation does with the derivative of the loss by its result.
type Rule = Box<dyn Fn(&[f64], &mut Derivatives)>;

/// Computes in f64 and records. See the head of this file.
#[derive(Default)]
pub struct ReferenceTape {
    executor: ReferenceExecutor,
    lengths: Vec<usize>,
    rotary: Vec<RotaryFrequencies>,
    /// For each tensor the rule of the operation that made it.
    rules: Vec<Rule>,
}

impl std::fmt::Debug for ReferenceTape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReferenceTape").field("operations", &self.rules.len()).finish_non_exhaustive()
    }
}

impl ReferenceTape {
    /// An empty tape.
    pub fn new() -> ReferenceTape {
        ReferenceTape::default()
    }

    /// The derivatives of the loss by all parameters, given those by the values of `output`. Matrices are row by row.
    pub fn gradients(&self, output: &TapedTensor, gradient: &[f64]) -> BTreeMap<ParameterId, Vec<f64>> {
        let mut derivatives = Derivatives::default();
        derivatives.add(output.id, gradient);
        for (id, rule) in self.rules.iter().enumerate().rev() {
            if let Some(gradient) = derivatives.tensors.remove(&id) {
                rule(&gradient, &mut derivatives);
            }
        }
        derivatives.parameters
    }

    fn push(
        &mut self,
        value: ReferenceTensor,
        rule: impl Fn(&[f64], &mut Derivatives) + 'static,
    ) -> TapedTensor {
        self.rules.push(Box::new(rule));
        TapedTensor { id: self.rules.len() - 1, value }
    }

    /// RMSNorm of rows of the weight's width, recorded.
    fn norm(
        &mut self,
        input: &TapedTensor,
        value: ReferenceTensor,
        weight: &ReferenceParameter<Vec<f64>>,
        epsilon: f32,
    ) -> TapedTensor {
        let (input, weight) = (input.clone(), weight.clone());
        self.push(value, move |gradient, derivatives| {
            let width = weight.value.len();
            let (mut of_input, mut of_weight) = (Vec::new(), vec![0.0; width]);
            for (row, gradient) in input.value.values.chunks_exact(width).zip(gradient.chunks_exact(width)) {
                let mean_square = row.iter().map(|value| value * value).sum::<f64>() / width as f64;
                let root = (mean_square + f64::from(epsilon)).sqrt();
                let weighted: Vec<f64> =
                    gradient.iter().zip(&weight.value).map(|(gradient, weight)| gradient * weight).collect();
                let dot: f64 = weighted.iter().zip(row).map(|(weighted, value)| weighted * value).sum();
                for index in 0..width {
                    of_weight[index] += gradient[index] * row[index] / root;
                    let of_mean = row[index] * dot / (width as f64 * root.powi(3));
                    of_input.push(weighted[index] / root - of_mean);
                }
            }
            derivatives.add(input.id, &of_input);
            derivatives.add_parameter(weight.id, &of_weight);
        })
    }
}

type Matrix = ReferenceParameter<ReferenceTensor>;

impl Executor for ReferenceTape {
    type Tensor = TapedTensor;
    type Matrix = Matrix;
    type Vector = ReferenceParameter<Vec<f64>>;

    fn begin<'a>(
        &mut self,
        _: impl Iterator<Item = SequenceRows<'a>>,
        _: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        Err(TensorError::NotRecorded { what: "sequences over KV pages (begin)" })
    }

    fn begin_packed(&mut self, lengths: &[usize], rotary: &[RotaryFrequencies]) -> Result<(), TensorError> {
        self.rules.clear();
        self.lengths = lengths.to_vec();
        self.rotary = rotary.to_vec();
        self.executor.begin_packed(lengths, rotary)
    }

    fn embedding(&mut self, table: &Matrix, tokens: &[u32]) -> Result<TapedTensor, TensorError> {
        let value = self.executor.embedding(&table.value, tokens)?;
        let (id, elements, width, tokens) =
            (table.id, table.value.values.len(), table.value.width, tokens.to_vec());
        Ok(self.push(value, move |gradient, derivatives| {
            let mut of_table = vec![0.0; elements];
            for (token, gradient) in tokens.iter().zip(gradient.chunks_exact(width)) {
                let row = &mut of_table[*token as usize * width..][..width];
                row.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
            derivatives.add_parameter(id, &of_table);
        }))
    }

    fn rms_norm(
        &mut self,
        input: &TapedTensor,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<TapedTensor, TensorError> {
        let value = self.executor.rms_norm(&input.value, &weight.value, epsilon)?;
        Ok(self.norm(input, value, weight, epsilon))
    }

    fn head_norm(
        &mut self,
        input: TapedTensor,
        weight: &Self::Vector,
        epsilon: f32,
    ) -> Result<TapedTensor, TensorError> {
        let value = self.executor.head_norm(input.value.clone(), &weight.value, epsilon)?;
        Ok(self.norm(&input, value, weight, epsilon))
    }

    fn linear<const N: usize>(
        &mut self,
        input: TapedTensor,
        projections: [Projection<'_, Matrix, Self::Vector>; N],
    ) -> Result<[TapedTensor; N], TensorError> {
        let mut outputs = Vec::with_capacity(N);
        for Projection { matrix, bias, additions } in projections {
            let plain: Vec<_> = additions.iter().map(plain_addition).collect();
            let projection =
                Projection { matrix: &matrix.value, bias: bias.map(|bias| &bias.value), additions: &plain };
            let [value] = self.executor.linear(input.value.clone(), [projection])?;
            let additions: Vec<OwnAddition> = additions.iter().map(OwnAddition::new).collect();
            let (input, matrix, bias) = (input.clone(), matrix.clone(), bias.map(|bias| bias.id));
            outputs.push(self.push(value, move |gradient, derivatives| {
                let gradient =
                    ReferenceTensor { width: matrix.value.rows().len(), values: gradient.to_vec() };
                derivatives.add(input.id, &times(&gradient, &matrix.value).values);
                derivatives.add_parameter(matrix.id, &transposed_times(&gradient, &input.value).values);
                if let Some(bias) = bias {
                    let mut sums = vec![0.0; gradient.width];
                    gradient.rows().for_each(|row| add_to(&mut sums, row));
                    derivatives.add_parameter(bias, &sums);
                }
                additions.iter().for_each(|addition| addition.go_back(&input, &gradient, derivatives));
            }));
        }
        outputs.try_into().map_err(|_| TensorError::NotRecorded { what: "linear" })
    }

    fn rope(
        &mut self,
        input: TapedTensor,
        head_dim: usize,
        table: usize,
    ) -> Result<TapedTensor, TensorError> {
        let value = self.executor.rope(input.value.clone(), head_dim, table)?;
        let lengths = self.lengths.clone();
        // A rotation's transpose turns the other way.
        let rotary: Vec<RotaryFrequencies> = self.rotary.iter().map(RotaryFrequencies::reversed).collect();
        let (id, width) = (input.id, input.value.width);
        Ok(self.push(value, move |gradient, derivatives| {
            let mut back = ReferenceExecutor::new();
            let gradient = ReferenceTensor { width, values: gradient.to_vec() };
            let begun = back.begin_packed(&lengths, &rotary);
            let turned = begun.and_then(|()| back.rope(gradient, head_dim, table));
            derivatives.add(id, &turned.expect("the shapes are those of the forward pass").values);
        }))
    }

    fn attention(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: TapedTensor,
        keys: TapedTensor,
        values: TapedTensor,
    ) -> Result<TapedTensor, TensorError> {
        let parts = [&queries, &keys, &values].map(|tensor| tensor.value.clone());
        let [q, k, v] = parts.clone();
        let value = self.executor.attention(layer, shape, window, q, k, v)?;
        let lengths = self.lengths.clone();
        Ok(self.push(value, move |gradient, derivatives| {
            let [of_queries, of_keys, of_values] =
                attention_derivatives(shape, window, &lengths, &parts, gradient);
            derivatives.add(queries.id, &of_queries);
            derivatives.add(keys.id, &of_keys);
            derivatives.add(values.id, &of_values);
        }))
    }

    fn gated(
        &mut self,
        activation: GateActivation,
        gate: TapedTensor,
        up: TapedTensor,
    ) -> Result<TapedTensor, TensorError> {
        let value = self.executor.gated(activation, gate.value.clone(), up.value.clone())?;
        Ok(self.push(value, move |gradient, derivatives| {
            let (mut of_gate, mut of_up) = (Vec::new(), Vec::new());
            for ((gate, up), gradient) in gate.value.values.iter().zip(&up.value.values).zip(gradient) {
                let (value, slope) = activated(activation, *gate);
                of_gate.push(gradient * up * slope);
                of_up.push(gradient * value);
            }
            derivatives.add(gate.id, &of_gate);
            derivatives.add(up.id, &of_up);
        }))
    }

    fn mixture_of_experts(
        &mut self,
        input: TapedTensor,
        router: &Matrix,
        experts: &[Expert<Matrix>],
        choice: ExpertChoice,
    ) -> Result<TapedTensor, TensorError> {
        let plain: Vec<Expert<ReferenceTensor>> = experts
            .iter()
            .map(|Expert { gate, up, down }| Expert {
                gate: gate.value.clone(),
                up: up.value.clone(),
                down: down.value.clone(),
            })
            .collect();
        let value = self.executor.mixture_of_experts(input.value.clone(), &router.value, &plain, choice)?;
        let mixture = mixture::Mixture { input, router: router.clone(), experts: experts.to_vec(), choice };
        Ok(self.push(value, move |gradient, derivatives| mixture.go_back(gradient, derivatives)))
    }

    fn add(&mut self, sum: TapedTensor, addend: TapedTensor) -> Result<TapedTensor, TensorError> {
        let value = self.executor.add(sum.value, addend.value)?;
        Ok(self.push(value, move |gradient, derivatives| {
            derivatives.add(sum.id, gradient);
            derivatives.add(addend.id, gradient);
        }))
    }

    fn scale(&mut self, input: TapedTensor, factor: f32) -> Result<TapedTensor, TensorError> {
        let value = self.executor.scale(input.value, factor)?;
        Ok(self.push(value, move |gradient, derivatives| {
            let of_input: Vec<f64> = gradient.iter().map(|gradient| gradient * f64::from(factor)).collect();
            derivatives.add(input.id, &of_input);
        }))
    }

    /// The derivatives by both are added up, as both are one tensor.
    fn copy(&mut self, input: &TapedTensor) -> Result<TapedTensor, TensorError> {
        Ok(input.clone())
    }

    fn select_rows(&mut self, input: TapedTensor, rows: &[usize]) -> Result<TapedTensor, TensorError> {
        let (width, elements, rows_taken) = (input.value.width, input.value.values.len(), rows.to_vec());
        let value = self.executor.select_rows(input.value, rows)?;
        Ok(self.push(value, move |gradient, derivatives| {
            let mut of_input = vec![0.0; elements];
            for (row, gradient) in rows_taken.iter().zip(gradient.chunks_exact(width)) {
                let out = &mut of_input[row * width..(row + 1) * width];
                out.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
            derivatives.add(input.id, &of_input);
        }))
    }

    fn discard(&mut self, _: TapedTensor) {}
}

/// The activation of a gate, and its derivative.
fn activated(activation: GateActivation, x: f64) -> (f64, f64) {
    match activation {
        GateActivation::Silu => {
            let sigma = 1.0 / (1.0 + (-x).exp());
            (x * sigma, sigma + x * sigma * (1.0 - sigma))
        }
        GateActivation::GeluTanh => {
            let tanh = gelu_argument(x).tanh();
            let of_argument = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
            (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * of_argument)
        }
    }
}

/// `a · b`.
fn times(a: &ReferenceTensor, b: &ReferenceTensor) -> ReferenceTensor {
    let row = |a: &[f64]| {
        let mut sums = vec![0.0; b.width];
        for (factor, b) in a.iter().zip(b.rows()) {
            sums.iter_mut().zip(b).for_each(|(sum, value)| *sum += factor * value);
        }
        sums
    };
    ReferenceTensor { width: b.width, values: a.rows().flat_map(row).collect() }
}

/// `aᵀ · b`.
fn transposed_times(a: &ReferenceTensor, b: &ReferenceTensor) -> ReferenceTensor {
    let mut sums = vec![0.0; a.width * b.width];
    for (a, b) in a.rows().zip(b.rows()) {
        for (factor, sums) in a.iter().zip(sums.chunks_exact_mut(b.len().max(1))) {
            sums.iter_mut().zip(b).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    ReferenceTensor { width: b.width, values: sums }
}

fn plain_addition<'a>(addition: &LowRankAddition<'a, Matrix>) -> LowRankAddition<'a, ReferenceTensor> {
    LowRankAddition {
        rows: addition.rows.clone(),
        down: &addition.down.value,
        up: &addition.up.value,
        scale: addition.scale,
        outputs: addition.outputs,
    }
}

/// A low-rank addition with matrices of its own.
struct OwnAddition {
    rows: std::ops::Range<usize>,
    down: Matrix,
    up: Matrix,
    scale: f64,
}

impl OwnAddition {
    fn new(addition: &LowRankAddition<'_, Matrix>) -> OwnAddition {
        let LowRankAddition { rows, down, up, scale, .. } = addition;
        OwnAddition { rows: rows.clone(), down: (*down).clone(), up: (*up).clone(), scale: f64::from(*scale) }
    }

    fn go_back(&self, input: &TapedTensor, gradient: &ReferenceTensor, derivatives: &mut Derivatives) {
        let rows = |tensor: &ReferenceTensor| ReferenceTensor {
            width: tensor.width,
            values: tensor.values[self.rows.start * tensor.width..self.rows.end * tensor.width].to_vec(),
        };
        let scaled = |mut tensor: ReferenceTensor| {
            tensor.values.iter_mut().for_each(|value| *value *= self.scale);
            tensor
        };
        let (own_input, gradient) = (rows(&input.value), rows(gradient));
        let (down, up) = (&self.down.value, &self.up.value);
        // input · Aᵀ, and the derivative by it.
        let dot = |row: &[f64], weights: &[f64]| row.iter().zip(weights).map(|(a, b)| a * b).sum::<f64>();
        let between: Vec<f64> =
            own_input.rows().flat_map(|row| down.rows().map(move |weights| dot(row, weights))).collect();
        let between = scaled(ReferenceTensor { width: up.width, values: between });
        let of_between = scaled(times(&gradient, up));
        derivatives.add_parameter(self.up.id, &transposed_times(&gradient, &between).values);
        derivatives.add_parameter(self.down.id, &transposed_times(&of_between, &own_input).values);
        let mut of_input = vec![0.0; input.value.values.len()];
        let start = self.rows.start * input.value.width;
        for (sum, value) in of_input[start..].iter_mut().zip(times(&of_between, down).values) {
            *sum += value;
        }
        derivatives.add(input.id, &of_input);
    }
}

/// The derivatives by queries, keys and values, given that by the result of attention.
fn attention_derivatives(
    shape: AttentionShape,
    window: Option<usize>,
    lengths: &[usize],
    [queries, keys, values]: &[ReferenceTensor; 3],
    gradient: &[f64],
) -> [Vec<f64>; 3] {
    let AttentionShape { heads, kv_heads, head_dim, scale } = shape;
    let scale = f64::from(scale);
    let mut results = [queries, keys, values].map(|part| vec![0.0; part.values.len()]);
    let [of_queries, of_keys, of_values] = &mut results;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut first_row = 0;
    for length in lengths {
        for (position, head) in (0..*length).flat_map(|position| (0..heads).map(move |head| (position, head)))
        {
            let here = ((first_row + position) * heads + head) * head_dim;
            let (query, gradient) = (&queries.values[here..][..head_dim], &gradient[here..][..head_dim]);
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let kv_head = head / (heads / kv_heads);
            let seen: Vec<usize> = (first..=position)
                .map(|position| ((first_row + position) * kv_heads + kv_head) * head_dim)
                .collect();
            let scores: Vec<f64> =
                seen.iter().map(|at| scale * dot(query, &keys.values[*at..][..head_dim])).collect();
            let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - greatest).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp() / sum).collect();
            let by_weights: Vec<f64> =
                seen.iter().map(|at| dot(gradient, &values.values[*at..][..head_dim])).collect();
            let mean = dot(&weights, &by_weights);
            for ((at, weight), by_weight) in seen.iter().zip(&weights).zip(&by_weights) {
                let by_score = weight * (by_weight - mean) * scale;
                for index in 0..head_dim {
                    of_values[at + index] += weight * gradient[index];
                    of_keys[at + index] += by_score * query[index];
                    of_queries[here + index] += by_score * keys.values[at + index];
                }
            }
        }
        first_row += length;
    }
    results
}
