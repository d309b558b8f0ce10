//! Every operation in f64 as its formula says: no instruction sets, no threads, no packed weights, no memory used again.
//!
//! It is what other executors are compared with, and what gradients are checked against by finite differences. It is for
//! tests on small models; no operation here is made faster at the price of being harder to read.

use std::collections::BTreeMap;

use crate::attention::AttentionShape;
use crate::error::{expect, expect_whole};
use crate::executor::LowRankAddition;
use crate::kv::{PAGE_TOKENS, PageId, SequenceRows};
use crate::ops::rope::{RotaryFrequencies, RotaryLayout};
use crate::{Executor, Expert, ExpertChoice, GateActivation, Projection, TensorError};

/// `[rows, width]` in f64, row-major: activations, or a weight matrix `[outputs, inputs]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferenceTensor {
    /// Values per row.
    pub width: usize,
    /// All values, row by row.
    pub values: Vec<f64>,
}

impl ReferenceTensor {
    /// A tensor of rows of `width` values each.
    pub(crate) fn from_rows(width: usize, rows: impl Iterator<Item = Vec<f64>>) -> ReferenceTensor {
        ReferenceTensor { width, values: rows.flatten().collect() }
    }

    /// The rows, first to last.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width.max(1))
    }

    fn row(&self, row: usize) -> Result<&[f64], TensorError> {
        self.rows().nth(row).ok_or(TensorError::RowOutOfRange { row, rows: self.rows().len() })
    }
}

/// Where the key and the value of a position are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// At an index of a page.
    Paged(PageId, usize),
    /// In a row of the packed batch.
    Packed(usize),
}

/// A row of the batch: its position, and where the keys and values are that it sees: those of its sequence up to and with that position, or
/// of the whole document.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) position: usize,
    slots: Vec<Slot>,
}

/// Computes in f64. See the head of this file.
#[derive(Debug, Default)]
pub struct ReferenceExecutor {
    pub(crate) rows: Vec<Row>,
    rotary: Vec<RotaryFrequencies>,
    /// Key and value `[kv_heads · head_dim]` by layer and slot.
    cache: BTreeMap<(usize, Slot), (Vec<f64>, Vec<f64>)>,
}

impl ReferenceExecutor {
    /// An executor that remembers no keys and values yet.
    pub fn new() -> ReferenceExecutor {
        ReferenceExecutor::default()
    }

    /// Lets every row of packed documents see its whole document, whose first row has position 0.
    pub(crate) fn see_whole_documents(&mut self) {
        for document in self.rows.chunk_by_mut(|_, next| next.position > 0) {
            let all = document.last().map(|row| row.slots.clone()).unwrap_or_default();
            document.iter_mut().for_each(|row| row.slots.clone_from(&all));
        }
    }

    /// [`Executor::attention`], and with it for every row and head the logarithm of the sum of `e^score` over what it sees:
    /// `[rows, heads]`.
    ///
    /// # Errors
    /// As for [`Executor::attention`].
    pub fn attention_and_log_sums(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: &ReferenceTensor,
        keys: &ReferenceTensor,
        values: &ReferenceTensor,
    ) -> Result<(ReferenceTensor, ReferenceTensor), TensorError> {
        let AttentionShape { heads, kv_heads, head_dim, scale } = shape;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || head_dim == 0 {
            return Err(TensorError::HeadShape { heads, kv_heads, head_dim });
        }
        expect("attention: queries", self.rows.len() * heads * head_dim, queries.values.len())?;
        expect("attention: keys", self.rows.len() * kv_heads * head_dim, keys.values.len())?;
        expect("attention: values", self.rows.len() * kv_heads * head_dim, values.values.len())?;
        for ((row, key), value) in self.rows.iter().zip(keys.rows()).zip(values.rows()) {
            self.cache.insert((layer, row.slots[row.position]), (key.to_vec(), value.to_vec()));
        }
        let (mut outputs, mut log_sums) = (Vec::new(), Vec::new());
        for (row, queries) in self.rows.iter().zip(queries.rows()) {
            let first = window.map_or(0, |window| (row.position + 1).saturating_sub(window));
            let mut seen = Vec::new();
            for (position, slot) in row.slots.iter().enumerate().skip(first) {
                let found = self.cache.get(&(layer, *slot));
                seen.push(found.ok_or(TensorError::NotComputed { position })?);
            }
            for (head, query) in queries.chunks_exact(head_dim).enumerate() {
                let start = head / (heads / kv_heads) * head_dim;
                let of_head = |row: &'_ [f64]| row[start..start + head_dim].to_vec();
                let keys: Vec<Vec<f64>> = seen.iter().map(|(key, _)| of_head(key)).collect();
                let values: Vec<Vec<f64>> = seen.iter().map(|(_, value)| of_head(value)).collect();
                let (output, log_sum) = attend(query, &keys, &values, f64::from(scale));
                outputs.extend(output);
                log_sums.push(log_sum);
            }
        }
        Ok((
            ReferenceTensor { width: heads * head_dim, values: outputs },
            ReferenceTensor { width: heads, values: log_sums },
        ))
    }
}

impl Executor for ReferenceExecutor {
    type Tensor = ReferenceTensor;
    type Matrix = ReferenceTensor;
    type Vector = Vec<f64>;

    fn begin<'a>(
        &mut self,
        sequences: impl Iterator<Item = SequenceRows<'a>>,
        rotary: &[RotaryFrequencies],
    ) -> Result<(), TensorError> {
        self.rows.clear();
        self.rotary = rotary.to_vec();
        for (index, SequenceRows { rows, start, pages }) in sequences.enumerate() {
            let (positions, given) = (start.saturating_add(rows), pages.len());
            let needed = positions.div_ceil(PAGE_TOKENS);
            if given < needed {
                return Err(TensorError::MissingPages { sequence: index, positions, needed, given });
            }
            let slot = |position| Slot::Paged(pages[position / PAGE_TOKENS], position % PAGE_TOKENS);
            let row = |position| Row { position, slots: (0..=position).map(slot).collect() };
            self.rows.extend((start..positions).map(row));
        }
        Ok(())
    }

    fn begin_packed(&mut self, lengths: &[usize], rotary: &[RotaryFrequencies]) -> Result<(), TensorError> {
        self.rows.clear();
        self.rotary = rotary.to_vec();
        for length in lengths {
            let first = self.rows.len();
            let row =
                |position| Row { position, slots: (first..=first + position).map(Slot::Packed).collect() };
            self.rows.extend((0..*length).map(row));
        }
        Ok(())
    }

    fn embedding(&mut self, table: &ReferenceTensor, tokens: &[u32]) -> Result<ReferenceTensor, TensorError> {
        let rows: Result<Vec<Vec<f64>>, TensorError> =
            tokens.iter().map(|token| table.row(*token as usize).map(<[f64]>::to_vec)).collect();
        Ok(ReferenceTensor::from_rows(table.width, rows?.into_iter()))
    }

    fn rms_norm(
        &mut self,
        input: &ReferenceTensor,
        weight: &Vec<f64>,
        epsilon: f32,
    ) -> Result<ReferenceTensor, TensorError> {
        expect("rms_norm: weight", input.width, weight.len())?;
        let normalise = |row: &[f64]| -> Vec<f64> {
            let mean_square = dot(row, row) / row.len() as f64;
            let root = (mean_square + f64::from(epsilon)).sqrt();
            row.iter().zip(weight).map(|(value, weight)| value / root * weight).collect()
        };
        Ok(ReferenceTensor::from_rows(input.width, input.rows().map(normalise)))
    }

    fn head_norm(
        &mut self,
        input: ReferenceTensor,
        weight: &Vec<f64>,
        epsilon: f32,
    ) -> Result<ReferenceTensor, TensorError> {
        expect_whole("head_norm: heads of a row", input.width, weight.len())?;
        let heads = ReferenceTensor { width: weight.len(), values: input.values };
        let normalised = self.rms_norm(&heads, weight, epsilon)?;
        Ok(ReferenceTensor { width: input.width, values: normalised.values })
    }

    fn linear<const N: usize>(
        &mut self,
        input: ReferenceTensor,
        projections: [Projection<'_, ReferenceTensor, Vec<f64>>; N],
    ) -> Result<[ReferenceTensor; N], TensorError> {
        let mut outputs: [ReferenceTensor; N] = std::array::from_fn(|_| ReferenceTensor::default());
        for (output, Projection { matrix, bias, additions }) in outputs.iter_mut().zip(projections) {
            let outputs = matrix.rows().len();
            expect("linear: input", matrix.width, input.width)?;
            expect("linear: bias", outputs, bias.map_or(outputs, Vec::len))?;
            let project = |row: &[f64]| -> Vec<f64> {
                let products = matrix.rows().map(|weights| dot(row, weights));
                match bias {
                    Some(bias) => products.zip(bias).map(|(product, bias)| product + bias).collect(),
                    None => products.collect(),
                }
            };
            *output = ReferenceTensor::from_rows(outputs, input.rows().map(project));
            for addition in additions {
                add_low_rank(&input, addition, output)?;
            }
        }
        Ok(outputs)
    }

    fn rope(
        &mut self,
        mut input: ReferenceTensor,
        head_dim: usize,
        table: usize,
    ) -> Result<ReferenceTensor, TensorError> {
        expect_whole("rope: heads of a row", input.width, head_dim)?;
        expect("rope: rows", self.rows.len(), input.rows().len())?;
        let tables = self.rotary.len();
        let rotary = self.rotary.get(table).ok_or(TensorError::NoRotaryTable { table, tables })?;
        let pairs = rotary.radians.len();
        expect("rope: rotary dimensions of a head", head_dim, head_dim.max(2 * pairs))?;
        let width = input.width;
        for (values, row) in input.values.chunks_exact_mut(width).zip(&self.rows) {
            for head in values.chunks_exact_mut(head_dim) {
                for (pair, radians) in rotary.radians.iter().enumerate() {
                    let (a, b) = match rotary.layout {
                        RotaryLayout::Interleaved => (2 * pair, 2 * pair + 1),
                        RotaryLayout::HalfSplit => (pair, pair + pairs),
                    };
                    let (sine, cosine) = (row.position as f64 * radians).sin_cos();
                    let (x, y) = (rotary.magnitude * head[a], rotary.magnitude * head[b]);
                    (head[a], head[b]) = (x * cosine - y * sine, y * cosine + x * sine);
                }
            }
        }
        Ok(input)
    }

    fn attention(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        window: Option<usize>,
        queries: ReferenceTensor,
        keys: ReferenceTensor,
        values: ReferenceTensor,
    ) -> Result<ReferenceTensor, TensorError> {
        Ok(self.attention_and_log_sums(layer, shape, window, &queries, &keys, &values)?.0)
    }

    fn gated(
        &mut self,
        activation: GateActivation,
        gate: ReferenceTensor,
        up: ReferenceTensor,
    ) -> Result<ReferenceTensor, TensorError> {
        expect("gated: up", gate.values.len(), up.values.len())?;
        let gated = |(gate, up): (&f64, &f64)| activate(activation, *gate) * up;
        let values = gate.values.iter().zip(&up.values).map(gated).collect();
        Ok(ReferenceTensor { width: gate.width, values })
    }

    fn mixture_of_experts(
        &mut self,
        input: ReferenceTensor,
        router: &ReferenceTensor,
        experts: &[Expert<ReferenceTensor>],
        choice: ExpertChoice,
    ) -> Result<ReferenceTensor, TensorError> {
        expect("mixture of experts: inputs", router.width, input.width)?;
        expect("mixture of experts: experts", router.rows().len(), experts.len())?;
        expect("mixture of experts: active experts", choice.active.clamp(1, experts.len()), choice.active)?;
        let mut outputs = Vec::new();
        for row in input.rows() {
            let scores: Vec<f64> = router.rows().map(|weights| dot(row, weights)).collect();
            let mut output = vec![0.0; row.len()];
            for (number, weight) in choose(&scores, choice) {
                let Expert { gate, up, down } = &experts[number];
                let input = ReferenceTensor { width: row.len(), values: row.to_vec() };
                let projection = |matrix| Projection { matrix, bias: None, additions: &[] };
                let [gate, up] = self.linear(input, [projection(gate), projection(up)])?;
                let activated = self.gated(GateActivation::Silu, gate, up)?;
                let [result] = self.linear(activated, [projection(down)])?;
                output.iter_mut().zip(result.values).for_each(|(sum, value)| *sum += weight * value);
            }
            outputs.push(output);
        }
        Ok(ReferenceTensor::from_rows(input.width, outputs.into_iter()))
    }

    fn add(&mut self, sum: ReferenceTensor, addend: ReferenceTensor) -> Result<ReferenceTensor, TensorError> {
        expect("add: addend", sum.values.len(), addend.values.len())?;
        let values = sum.values.iter().zip(&addend.values).map(|(sum, addend)| sum + addend).collect();
        Ok(ReferenceTensor { width: sum.width, values })
    }

    fn scale(&mut self, mut input: ReferenceTensor, factor: f32) -> Result<ReferenceTensor, TensorError> {
        input.values.iter_mut().for_each(|value| *value *= f64::from(factor));
        Ok(input)
    }

    fn copy(&mut self, input: &ReferenceTensor) -> Result<ReferenceTensor, TensorError> {
        Ok(input.clone())
    }

    fn select_rows(
        &mut self,
        input: ReferenceTensor,
        rows: &[usize],
    ) -> Result<ReferenceTensor, TensorError> {
        let rows: Result<Vec<Vec<f64>>, TensorError> =
            rows.iter().map(|row| input.row(*row).map(<[f64]>::to_vec)).collect();
        Ok(ReferenceTensor::from_rows(input.width, rows?.into_iter()))
    }

    fn discard(&mut self, _: ReferenceTensor) {}
}

/// The activation of a gate.
fn activate(activation: GateActivation, x: f64) -> f64 {
    match activation {
        GateActivation::Silu => x / (1.0 + (-x).exp()),
        GateActivation::GeluTanh => 0.5 * x * (1.0 + gelu_argument(x).tanh()),
    }
}

/// What GELU takes the tanh of.
pub(crate) fn gelu_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))
}

/// Changes the addition's rows of `output` and adds `scale · (input · Aᵀ) · Bᵀ` to them.
fn add_low_rank(
    input: &ReferenceTensor,
    addition: &LowRankAddition<'_, ReferenceTensor>,
    output: &mut ReferenceTensor,
) -> Result<(), TensorError> {
    let LowRankAddition { rows, down, up, scale, outputs: change } = addition;
    expect("low-rank addition: inputs", down.width, input.width)?;
    expect("low-rank addition: outputs", output.width, up.rows().len())?;
    expect("low-rank addition: rank", up.width, down.rows().len())?;
    let width = output.width;
    for (what, values) in
        [("low-rank addition: factors", change.factors), ("low-rank addition: shifts", change.shifts)]
    {
        expect(what, if values.is_empty() { 0 } else { width }, values.len())?;
    }
    for row in rows.clone() {
        let input = input.row(row)?;
        let between: Vec<f64> = down.rows().map(|weights| f64::from(*scale) * dot(input, weights)).collect();
        let outputs = &mut output.values[row * width..(row + 1) * width];
        for (index, (output, weights)) in outputs.iter_mut().zip(up.rows()).enumerate() {
            let of =
                |values: &[f32], absent: f64| values.get(index).map_or(absent, |value| f64::from(*value));
            *output = *output * of(change.factors, 1.0) + of(change.shifts, 0.0);
            *output += dot(&between, weights);
        }
    }
    Ok(())
}

/// The experts that a row with these scores uses, ascending, and their weights.
pub(crate) fn choose(scores: &[f64], choice: ExpertChoice) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut chosen = order[..choice.active].to_vec();
    chosen.sort_unstable();
    let greatest = scores[order[0]];
    let exponential = |expert: &usize| (scores[*expert] - greatest).exp();
    let sum: f64 = if choice.normalise { &chosen } else { &order }.iter().map(exponential).sum();
    chosen.iter().map(|expert| (*expert, exponential(expert) / sum)).collect()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One query's attention to `keys` with `values`, one of each per visible position, and the logarithm of the sum of
/// `e^score` that the weights are divided by.
fn attend(query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>], scale: f64) -> (Vec<f64>, f64) {
    let scores: Vec<f64> = keys.iter().map(|key| scale * dot(query, key)).collect();
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // e^score alone could be infinite.
    let sum: f64 = scores.iter().map(|score| (score - greatest).exp()).sum();
    let log_sum = greatest + sum.ln();
    let mut output = vec![0.0; query.len()];
    for (score, value) in scores.iter().zip(values) {
        let weight = (score - log_sum).exp();
        output.iter_mut().zip(value).for_each(|(output, value)| *output += weight * value);
    }
    (output, log_sum)
}
