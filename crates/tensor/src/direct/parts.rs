//! Operations on tensors that stay the caller's, for the operations of the executor and for executors that keep their inputs.

use super::DirectExecutor;
use super::low_rank;
use super::workspace::Activations;
use crate::error::{expect, expect_whole};
use crate::linear::{Product, linear};
use crate::ops::add::AddToRows;
use crate::ops::gated::Gated;
use crate::ops::rms_norm::RmsNorm;
use crate::ops::rope::Rotate;
use crate::ops::scale::Scale;
use crate::{GateActivation, Matrix, Projection, TensorError, Vector};

impl DirectExecutor {
    /// See [`crate::Executor::head_norm`].
    pub(crate) fn head_norm_of(
        &mut self,
        input: &Activations,
        weight: &Vector,
        epsilon: f32,
    ) -> Result<Activations, TensorError> {
        expect_whole("head_norm: heads of a row", input.width(), weight.len())?;
        let mut out = self.workspace.take(input.rows(), input.width())?;
        self.for_rows(&mut out, |rows, out| {
            self.run(RmsNorm { rows: input.rows_values(rows), weight, epsilon, out });
        });
        Ok(out)
    }

    /// See [`crate::Executor::linear`].
    pub(crate) fn linear_of<const N: usize>(
        &mut self,
        input: &Activations,
        projections: &[Projection<'_, Matrix, Vector>; N],
    ) -> Result<[Activations; N], TensorError> {
        let rows = input.rows();
        let mut outputs: [Activations; N] = std::array::from_fn(|_| Activations::default());
        for (output, Projection { matrix, bias, additions }) in outputs.iter_mut().zip(projections) {
            expect("linear: bias", matrix.rows(), bias.map_or(matrix.rows(), |bias| bias.len()))?;
            additions.iter().try_for_each(|addition| low_rank::check(addition, input, matrix.rows()))?;
            *output = self.workspace.take(rows, matrix.rows())?;
        }
        let mut index = 0;
        let mut products = outputs.each_mut().map(|output| {
            index += 1;
            Product { matrix: projections[index - 1].matrix, output: output.values_mut() }
        });
        linear(&self.team, input.values(), rows, &mut self.quantised, &mut products)?;
        for (output, projection) in outputs.iter_mut().zip(projections) {
            if let Some(addend) = projection.bias {
                self.for_rows(output, |_, rows| self.run(AddToRows { rows, addend }));
            }
            for addition in projection.additions {
                self.add_low_rank(addition, input, output)?;
            }
        }
        Ok(outputs)
    }

    /// See [`crate::Executor::rope`].
    pub(crate) fn rotate(
        &self,
        input: &mut Activations,
        head_dim: usize,
        table: usize,
    ) -> Result<(), TensorError> {
        expect_whole("rope: heads of a row", input.width(), head_dim)?;
        let angles = self.angles.get(table)?;
        expect("rope: rows", angles.positions().max(input.rows()), input.rows())?;
        let width = input.width();
        self.for_rows(input, |rows, values| {
            self.run(Rotate { rows: values, width, head_dim, angles, first: rows.start });
        });
        Ok(())
    }

    /// See [`crate::Executor::gated`].
    pub(crate) fn gate_in_place(
        &self,
        activation: GateActivation,
        gate: &mut Activations,
        up: &Activations,
    ) -> Result<(), TensorError> {
        expect("gated: up", gate.values().len(), up.values().len())?;
        self.for_rows(gate, |rows, gate| {
            self.run(Gated { activation, gate, up: up.rows_values(rows) });
        });
        Ok(())
    }

    /// As [`DirectExecutor::gate_in_place`], with a result of its own.
    pub(crate) fn gated_of(
        &mut self,
        activation: GateActivation,
        gate: &Activations,
        up: &Activations,
    ) -> Result<Activations, TensorError> {
        expect("gated: up", gate.values().len(), up.values().len())?;
        let mut out = self.workspace.take(gate.rows(), gate.width())?;
        self.for_rows(&mut out, |rows, out| {
            out.copy_from_slice(gate.rows_values(rows.clone()));
            self.run(Gated { activation, gate: out, up: up.rows_values(rows) });
        });
        Ok(out)
    }

    /// See [`crate::Executor::scale`].
    pub(crate) fn scale_in_place(&self, input: &mut Activations, factor: f32) {
        self.for_rows(input, |_, values| self.run(Scale { values, factor }));
    }

    /// See [`crate::Executor::add`].
    pub(crate) fn add_to(&self, sum: &mut Activations, addend: &Activations) -> Result<(), TensorError> {
        expect("add: addend", sum.values().len(), addend.values().len())?;
        self.for_rows(sum, |rows, sum| {
            self.run(AddToRows { rows: sum, addend: addend.rows_values(rows) });
        });
        Ok(())
    }
}
