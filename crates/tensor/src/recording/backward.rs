//! The way back: every operation's rule for gradients, last operation first.

use std::sync::Arc;

use super::tape::{Operation, Record, RecordedAddition, RecordedAttention, RecordedProduct, give_back};
use super::trace::Pass;
use super::{RecordingExecutor, expect_heads};
use crate::attention::{AttentionGradientCall, AttentionGradientOutputs, attention_gradient};
use crate::gradients::scatter_rows;
use crate::linear::backward::{bias_gradient, input_gradient, weight_gradient};
use crate::linear::{Product, QuantisedRows, linear};
use crate::ops::add::AddToRows;
use crate::ops::gated::GatedGradient;
use crate::ops::rms_norm::RmsNormGradient;
use crate::ops::rope::Rotate;
use crate::team::DisjointMut;
use crate::{Activations, Executor, GateActivation, Gradients, Matrix, ParameterId, ParameterShape};
use crate::{ParameterSource, TensorError, Vector};

/// Values of a block of rows whose share of a norm's weight gradient is summed alone. Blocks are added in ascending order.
const NORM_BLOCK_VALUES: usize = 32 * 1024;
/// Values that a thread of a gated product's backward pass works on together.
const GATED_PART: usize = 16 * 1024;

/// The parameters that a backward pass reads, and where their gradients go.
pub(super) struct Sources<'a> {
    parameters: &'a dyn ParameterSource,
    gradients: &'a mut Gradients,
}

impl<'a> Sources<'a> {
    pub(super) fn matrix(&self, id: ParameterId) -> Result<&'a Matrix, TensorError> {
        self.parameters.matrix(id).ok_or(TensorError::NotAParameter { what: "backward: matrix" })
    }

    pub(super) fn vector(&self, id: ParameterId) -> Result<&'a Vector, TensorError> {
        self.parameters.vector(id).ok_or(TensorError::NotAParameter { what: "backward: vector" })
    }

    fn vector_gradient(&mut self, id: ParameterId, len: usize) -> Result<Option<&mut [f32]>, TensorError> {
        self.gradients.of("backward: vector", id, ParameterShape::Vector { len })
    }

    pub(super) fn matrix_gradient(
        &mut self,
        id: ParameterId,
        rows: usize,
        columns: usize,
    ) -> Result<Option<&mut [f32]>, TensorError> {
        self.gradients.of("backward: matrix", id, ParameterShape::Matrix { rows, columns })
    }
}

impl RecordingExecutor {
    /// Goes back over everything recorded since the batch began (or the last backward pass), from the tensors whose gradients are
    /// set, and adds the derivatives of the loss by the parameters to `gradients`. Activations are freed on the way.
    ///
    /// Every sum has an order that depends on the shapes of the weights and the rows of the batch alone.
    ///
    /// # Errors
    /// [`TensorError::NotAParameter`] when `parameters` lacks one, [`TensorError::Length`] when `gradients` is for other shapes,
    /// [`TensorError::OutOfMemory`]. What was added to `gradients` until then stays there.
    pub fn backward(
        &mut self,
        parameters: &dyn ParameterSource,
        gradients: &mut Gradients,
    ) -> Result<(), TensorError> {
        self.backward_by_layer(parameters, gradients, &mut |_, _| {})
    }

    /// As [`RecordingExecutor::backward`]; as soon as it is through with a layer, it calls `finished` with its number: nothing more is added to the
    /// gradients of the layer's parameters, which may be taken out.
    ///
    /// # Errors
    /// As for [`RecordingExecutor::backward`].
    pub fn backward_by_layer(
        &mut self,
        parameters: &dyn ParameterSource,
        gradients: &mut Gradients,
        finished: &mut dyn FnMut(usize, &mut Gradients),
    ) -> Result<(), TensorError> {
        let mut sources = Sources { parameters, gradients };
        while let Some(Record { operation, layer }) = self.tape.records.pop() {
            self.layer = layer;
            let name = operation.name();
            let inputs = self.go_back(operation, &mut sources)?;
            for node in inputs.into_iter().flatten() {
                if let Some(gradient) = &self.tape.nodes[node].gradient {
                    self.trace.check(Pass::Backward, name, layer, gradient);
                }
            }
            let next = self.tape.records.last().map(|record| record.layer);
            if let Some(index) = layer
                && next != Some(layer)
            {
                finished(index, sources.gradients);
            }
        }
        for node in &mut self.tape.nodes {
            node.values.take().into_iter().for_each(|values| self.direct.workspace.give_back(values));
            if !node.is_input {
                let gradient = node.gradient.take();
                gradient.into_iter().for_each(|gradient| give_back(&mut self.direct.workspace, gradient));
            }
        }
        Ok(())
    }

    /// The rule of one operation; the nodes whose gradients it added to.
    fn go_back(
        &mut self,
        operation: Operation,
        sources: &mut Sources<'_>,
    ) -> Result<[Option<usize>; 3], TensorError> {
        match operation {
            Operation::Embedding { table, tokens, out } => {
                if let Some(gradient) = self.tape.nodes[out].gradient.take() {
                    let matrix = sources.matrix(table)?;
                    if let Some(sum) = sources.matrix_gradient(table, matrix.rows(), matrix.columns())? {
                        scatter_rows(&self.direct.team, gradient.values(), &tokens, matrix.columns(), sum);
                    }
                    give_back(&mut self.direct.workspace, gradient);
                }
                Ok([None; 3])
            }
            Operation::RmsNorm { input, weight, epsilon, out } => {
                self.norm_back(input, weight, epsilon, out, sources)?;
                Ok([Some(input), None, None])
            }
            Operation::HeadNorm { input, weight, epsilon, out } => {
                self.norm_back(input, weight, epsilon, out, sources)?;
                Ok([Some(input), None, None])
            }
            Operation::Linear { input, products, reads_input } => {
                self.linear_back(input, &products, reads_input, sources)?;
                Ok([Some(input), None, None])
            }
            Operation::Rope { input, head_dim, table, out } => {
                self.rope_back(input, head_dim, table, out)?;
                Ok([Some(input), None, None])
            }
            Operation::Attention(attention) => {
                let inputs = [attention.queries, attention.keys, attention.values].map(Some);
                self.attention_back(*attention, sources)?;
                Ok(inputs)
            }
            Operation::Gated { activation, gate, up, out } => {
                self.gated_back(activation, gate, up, out)?;
                Ok([Some(gate), Some(up), None])
            }
            Operation::Mixture(mixture) => {
                let input = mixture.input;
                self.mixture_back(*mixture, sources)?;
                Ok([Some(input), None, None])
            }
            Operation::Add { sum, addend, out } => {
                if let Some(gradient) = self.tape.nodes[out].gradient.take() {
                    self.add_gradient(addend, Arc::clone(&gradient))?;
                    self.add_gradient(sum, gradient)?;
                }
                Ok([Some(sum), Some(addend), None])
            }
            Operation::Scale { input, factor, out } => {
                self.scale_back(input, factor, out)?;
                Ok([Some(input), None, None])
            }
            Operation::Copy { input, out } => {
                if let Some(gradient) = self.tape.nodes[out].gradient.take() {
                    self.add_gradient(input, gradient)?;
                }
                Ok([Some(input), None, None])
            }
            Operation::SelectRows { input, rows, input_rows, out } => {
                self.select_rows_back(input, &rows, input_rows, out)?;
                Ok([Some(input), None, None])
            }
        }
    }

    /// The values of a node, computed again where they were not kept. They are the caller's until [`RecordingExecutor::put`].
    pub(super) fn values_again(
        &mut self,
        node: usize,
        sources: &Sources<'_>,
    ) -> Result<Activations, TensorError> {
        const WHAT: &str = "backward";
        if let Some(values) = self.tape.nodes[node].values.take() {
            return Ok(values);
        }
        let recipe = self.tape.nodes[node].recipe.and_then(|record| self.tape.records.get(record));
        let Record { operation, .. } = recipe.ok_or(TensorError::NotOnTape { what: WHAT })?;
        match *operation {
            Operation::RmsNorm { input, weight, epsilon, .. } => {
                let weight = sources.vector(weight)?;
                self.direct.rms_norm(self.tape.values(WHAT, input)?, weight, epsilon)
            }
            Operation::HeadNorm { input, weight, epsilon, .. } => {
                let weight = sources.vector(weight)?;
                self.direct.head_norm_of(self.tape.values(WHAT, input)?, weight, epsilon)
            }
            Operation::Rope { input, head_dim, table, .. } => {
                let mut values = self.values_again(input, sources)?;
                self.direct.rotate(&mut values, head_dim, table)?;
                Ok(values)
            }
            Operation::Gated { activation, gate, up, .. } => {
                let (gate, up) = (self.tape.values(WHAT, gate)?, self.tape.values(WHAT, up)?);
                self.direct.gated_of(activation, gate, up)
            }
            Operation::Scale { input, factor, .. } => {
                let mut values = self.values_again(input, sources)?;
                self.direct.scale_in_place(&mut values, factor);
                Ok(values)
            }
            _ => Err(TensorError::NotOnTape { what: WHAT }),
        }
    }

    /// Takes back what [`RecordingExecutor::values_again`] gave, for an operation that reads the node no more.
    pub(super) fn put(&mut self, node: usize, values: Activations) {
        self.tape.nodes[node].values = Some(values);
        self.tape.release(node, &mut self.direct.workspace);
    }

    fn norm_back(
        &mut self,
        input: usize,
        weight: ParameterId,
        epsilon: f32,
        out: usize,
        sources: &mut Sources<'_>,
    ) -> Result<(), TensorError> {
        let Some(gradient) = self.tape.nodes[out].gradient.take() else {
            self.tape.release(input, &mut self.direct.workspace);
            return Ok(());
        };
        let values = self.values_again(input, sources)?;
        let weights = sources.vector(weight)?;
        let width = weights.len();
        expect_heads(values.width(), width)?;
        let sum = self.tape.nodes[input].gradient.take();
        let adds = sum.is_some();
        let mut result = match sum {
            Some(sum) => self.owned(sum)?,
            None => self.direct.workspace.take(values.rows(), values.width())?,
        };
        let rows = values.values().len() / width;
        let block = (NORM_BLOCK_VALUES / width).max(1);
        let blocks = rows.div_ceil(block);
        let learns = sources.vector_gradient(weight, width)?.is_some();
        let mut partials = self.direct.workspace.take(if learns { blocks } else { 0 }, width)?;
        partials.values_mut().fill(0.0);
        {
            let results = DisjointMut::new(result.values_mut());
            let sums = DisjointMut::new(partials.values_mut());
            self.direct.team.run(blocks, &|_, index| {
                let range = index * block * width..rows.min((index + 1) * block) * width;
                // SAFETY: the blocks are disjoint.
                let out = unsafe { results.slice(range.clone()) };
                // SAFETY: every block has a sum of its own.
                let sum = || unsafe { sums.slice(index * width..(index + 1) * width) };
                let weight_gradient = learns.then(sum);
                self.direct.run(RmsNormGradient {
                    rows: &values.values()[range.clone()],
                    weight: weights,
                    epsilon,
                    gradient: &gradient.values()[range],
                    adds,
                    out,
                    weight_gradient,
                });
            });
        }
        if let Some(sum) = sources.vector_gradient(weight, width)? {
            for addend in partials.values().chunks_exact(width) {
                self.direct.run(AddToRows { rows: sum, addend });
            }
        }
        self.direct.workspace.give_back(partials);
        give_back(&mut self.direct.workspace, gradient);
        self.put(input, values);
        // It holds what was there.
        self.add_gradient(input, Arc::new(result))
    }

    fn linear_back(
        &mut self,
        input: usize,
        products: &[RecordedProduct],
        reads_input: bool,
        sources: &mut Sources<'_>,
    ) -> Result<(), TensorError> {
        if products.iter().all(|product| self.tape.nodes[product.out].gradient.is_none()) {
            if reads_input {
                self.tape.release(input, &mut self.direct.workspace);
            }
            return Ok(());
        }
        let values = if reads_input { Some(self.values_again(input, sources)?) } else { None };
        // For each low-rank addition, in order, the derivative by what is between its two products.
        let mut of_between = Vec::new();
        for product in products {
            let Some(gradient) = self.tape.nodes[product.out].gradient.clone() else { continue };
            let (matrix, rows) = (sources.matrix(product.matrix)?, gradient.rows());
            let (team, simd) = (&self.direct.team, self.direct.simd);
            if let Some(values) = &values
                && let Some(sum) = sources.matrix_gradient(product.matrix, matrix.rows(), matrix.columns())?
            {
                weight_gradient(team, simd, gradient.values(), values.values(), rows, sum)?;
            }
            if let Some(bias) = product.bias
                && let Some(sum) = sources.vector_gradient(bias, matrix.rows())?
            {
                bias_gradient(team, simd, gradient.values(), rows, sum)?;
            }
            for addition in &product.additions {
                of_between.push(self.low_rank_back(addition, &gradient, values.as_ref(), sources)?);
            }
        }
        if let Some(values) = values {
            self.put(input, values);
        }
        self.input_back(input, products, of_between, sources)
    }

    /// The derivative by the input of some products, given those by what is between the two products of each low-rank addition. It
    /// frees them, and the products' gradients.
    fn input_back(
        &mut self,
        input: usize,
        products: &[RecordedProduct],
        of_between: Vec<Activations>,
        sources: &Sources<'_>,
    ) -> Result<(), TensorError> {
        let mut of_between = of_between.into_iter();
        let mut result: Option<Activations> = None;
        for product in products {
            let Some(gradient) = self.tape.nodes[product.out].gradient.take() else { continue };
            let own = of_between.by_ref().take(product.additions.len());
            if !self.tape.nodes[input].needs_gradient {
                own.for_each(|of_between| self.direct.workspace.give_back(of_between));
                give_back(&mut self.direct.workspace, gradient);
                continue;
            }
            let (matrix, rows) = (sources.matrix(product.matrix)?, gradient.rows());
            let width = matrix.columns();
            let accumulates = result.is_some();
            let mut sum = match result.take() {
                Some(sum) => sum,
                None => self.direct.workspace.take(rows, width)?,
            };
            let (team, scratch) = (&self.direct.team, &mut self.products);
            let out = sum.values_mut();
            input_gradient(team, gradient.values(), rows, matrix, scratch, out, accumulates)?;
            for (addition, of_between) in product.additions.iter().zip(own) {
                let down = sources.matrix(addition.down)?;
                let rows = addition.rows.clone();
                let out = &mut sum.values_mut()[rows.start * width..rows.end * width];
                input_gradient(team, of_between.values(), rows.len(), down, scratch, out, true)?;
                self.direct.workspace.give_back(of_between);
            }
            give_back(&mut self.direct.workspace, gradient);
            result = Some(sum);
        }
        match result {
            Some(result) => self.add_gradient(input, Arc::new(result)),
            None => Ok(()),
        }
    }

    /// The gradients of A and B of a low-rank addition, which read the input, and the derivative by input · Aᵀ.
    fn low_rank_back(
        &mut self,
        addition: &RecordedAddition,
        gradient: &Activations,
        input: Option<&Activations>,
        sources: &mut Sources<'_>,
    ) -> Result<Activations, TensorError> {
        let (down, up) = (sources.matrix(addition.down)?, sources.matrix(addition.up)?);
        let count = addition.rows.len();
        let gradient = gradient.rows_values(addition.rows.clone());
        let input = input.map(|input| input.rows_values(addition.rows.clone()));
        let (team, simd) = (&self.direct.team, self.direct.simd);
        let scale = |values: &mut [f32]| values.iter_mut().for_each(|value| *value *= addition.scale);
        let mut between = self.direct.workspace.take(count, down.rows())?;
        if let Some(input) = input
            && let Some(sum) = sources.matrix_gradient(addition.up, up.rows(), up.columns())?
        {
            let products = &mut [Product { matrix: down, output: between.values_mut() }];
            linear(team, input, count, &mut QuantisedRows::new(), products)?;
            scale(between.values_mut());
            weight_gradient(team, simd, gradient, between.values(), count, sum)?;
        }
        input_gradient(team, gradient, count, up, &mut self.products, between.values_mut(), false)?;
        scale(between.values_mut());
        if let Some(input) = input
            && let Some(sum) = sources.matrix_gradient(addition.down, down.rows(), down.columns())?
        {
            weight_gradient(team, simd, between.values(), input, count, sum)?;
        }
        Ok(between)
    }

    fn rope_back(
        &mut self,
        input: usize,
        head_dim: usize,
        table: usize,
        out: usize,
    ) -> Result<(), TensorError> {
        let Some(gradient) = self.tape.nodes[out].gradient.take() else { return Ok(()) };
        let mut gradient = self.owned(gradient)?;
        let (width, angles) = (gradient.width(), self.back.get(table)?);
        self.direct.for_rows(&mut gradient, |rows, values| {
            self.direct.run(Rotate { rows: values, width, head_dim, angles, first: rows.start });
        });
        self.add_gradient(input, Arc::new(gradient))
    }

    fn scale_back(&mut self, input: usize, factor: f32, out: usize) -> Result<(), TensorError> {
        let Some(gradient) = self.tape.nodes[out].gradient.take() else { return Ok(()) };
        let mut gradient = self.owned(gradient)?;
        self.direct.scale_in_place(&mut gradient, factor);
        self.add_gradient(input, Arc::new(gradient))
    }

    fn attention_back(
        &mut self,
        attention: RecordedAttention,
        sources: &mut Sources<'_>,
    ) -> Result<(), TensorError> {
        let RecordedAttention { shape, window, queries, keys, values, out, log_sums } = attention;
        let Some(gradient) = self.tape.nodes[out].gradient.take() else {
            self.direct.workspace.give_back(log_sums);
            for node in [queries, keys, values, out] {
                self.tape.release(node, &mut self.direct.workspace);
            }
            return Ok(());
        };
        let q = self.values_again(queries, sources)?;
        let k = self.values_again(keys, sources)?;
        let v = self.values_again(values, sources)?;
        let outputs = self.values_again(out, sources)?;
        let mut take = |like: &Activations| self.direct.workspace.take(like.rows(), like.width());
        let (mut dq, mut dk, mut dv) = (take(&q)?, take(&k)?, take(&v)?);
        let call = AttentionGradientCall {
            shape,
            window,
            documents: &self.documents,
            queries: q.values(),
            keys: k.values(),
            values: v.values(),
            outputs: outputs.values(),
            log_sums: log_sums.values(),
            gradient: gradient.values(),
        };
        let results = AttentionGradientOutputs {
            queries: dq.values_mut(),
            keys: dk.values_mut(),
            values: dv.values_mut(),
        };
        attention_gradient(&call, results, &mut self.attention, self.direct.simd, &self.direct.team);
        self.direct.workspace.give_back(log_sums);
        give_back(&mut self.direct.workspace, gradient);
        for (node, values) in [(queries, q), (keys, k), (values, v), (out, outputs)] {
            self.put(node, values);
        }
        for (node, gradient) in [(queries, dq), (keys, dk), (values, dv)] {
            self.add_gradient(node, Arc::new(gradient))?;
        }
        Ok(())
    }

    fn gated_back(
        &mut self,
        activation: GateActivation,
        gate: usize,
        up: usize,
        out: usize,
    ) -> Result<(), TensorError> {
        const WHAT: &str = "gated";
        let Some(gradient) = self.tape.nodes[out].gradient.take() else {
            for node in [gate, up] {
                self.tape.release(node, &mut self.direct.workspace);
            }
            return Ok(());
        };
        // Where nobody else reads them, the gradients take the place of the values.
        let mut results = [Activations::default(), Activations::default()];
        for (result, node) in results.iter_mut().zip([gate, up]) {
            *result = match self.tape.nodes[node].reads {
                0 | 1 => self.tape.nodes[node].values.take().ok_or(TensorError::NotOnTape { what: WHAT })?,
                _ => self.direct.copy(self.tape.values(WHAT, node)?)?,
            };
            self.tape.release(node, &mut self.direct.workspace);
        }
        let [mut of_gate, mut of_up] = results;
        {
            let ups = DisjointMut::new(of_up.values_mut());
            self.direct.team.for_each_chunk(of_gate.values_mut(), GATED_PART, |index, gate| {
                let range = index * GATED_PART..index * GATED_PART + gate.len();
                // SAFETY: the chunks are disjoint.
                let up = unsafe { ups.slice(range.clone()) };
                let gradient = &gradient.values()[range];
                self.direct.run(GatedGradient { activation, gate, up, gradient });
            });
        }
        give_back(&mut self.direct.workspace, gradient);
        self.add_gradient(gate, Arc::new(of_gate))?;
        self.add_gradient(up, Arc::new(of_up))
    }

    fn select_rows_back(
        &mut self,
        input: usize,
        rows: &[usize],
        input_rows: usize,
        out: usize,
    ) -> Result<(), TensorError> {
        let Some(gradient) = self.tape.nodes[out].gradient.take() else { return Ok(()) };
        let width = gradient.width();
        let mut result = self.direct.workspace.take(input_rows, width)?;
        result.values_mut().fill(0.0);
        for (index, row) in rows.iter().enumerate() {
            let sum = &mut result.values_mut()[row * width..(row + 1) * width];
            sum.iter_mut().zip(gradient.row(index)).for_each(|(sum, value)| *sum += value);
        }
        give_back(&mut self.direct.workspace, gradient);
        self.add_gradient(input, Arc::new(result))
    }
}
