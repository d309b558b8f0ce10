//! Mixtures of experts: rows are gathered by expert, so that each expert's products are over all its rows at once, and none
//! is dropped.

use super::DirectExecutor;
use super::workspace::Activations;
use crate::error::expect;
use crate::ops::routing::choose;
use crate::{Expert, ExpertChoice, Matrix, Projection, TensorError};

/// Memory for what the rows of a step chose, kept between steps.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    /// `[rows, active]`, ascending in each row.
    selected: Vec<u32>,
    weights: Vec<f32>,
    /// The rows of one expert.
    rows: Vec<usize>,
}

impl DirectExecutor {
    /// See [`crate::Executor::mixture_of_experts`].
    pub(crate) fn mixture_of(
        &mut self,
        input: &Activations,
        router: &Matrix,
        experts: &[Expert<Matrix>],
        choice: ExpertChoice,
    ) -> Result<Activations, TensorError> {
        let (rows, width, active) = (input.rows(), input.width(), choice.active);
        expect("mixture of experts: experts", router.rows(), experts.len())?;
        expect("mixture of experts: active experts", active.clamp(1, experts.len()), active)?;
        let [scores] = self.linear_of(input, &[projection(router)])?;
        let mut choices = std::mem::take(&mut self.choices);
        choices.selected.resize(rows * active, 0);
        choices.weights.resize(rows * active, 0.0);
        for row in 0..rows {
            let range = row * active..(row + 1) * active;
            let (selected, weights) = (&mut choices.selected[range.clone()], &mut choices.weights[range]);
            choose(scores.row(row), choice, selected, weights);
        }
        self.workspace.give_back(scores);
        let mut out = self.workspace.take(rows, width)?;
        out.values_mut().fill(0.0);
        // In ascending order, so that a row's sum has one order.
        for (number, expert) in experts.iter().enumerate() {
            self.add_expert(input, expert, number as u32, active, &mut choices, &mut out)?;
        }
        self.choices = choices;
        Ok(out)
    }

    /// Adds an expert's outputs to the rows that chose it.
    fn add_expert(
        &mut self,
        input: &Activations,
        expert: &Expert<Matrix>,
        number: u32,
        active: usize,
        choices: &mut Choices,
        out: &mut Activations,
    ) -> Result<(), TensorError> {
        let Choices { selected, weights, rows } = choices;
        let places = |selected: &[u32]| selected.iter().position(|selected| *selected == number);
        rows.clear();
        rows.extend(
            selected
                .chunks_exact(active)
                .enumerate()
                .filter(|(_, row)| places(row).is_some())
                .map(|(row, _)| row),
        );
        if rows.is_empty() {
            return Ok(());
        }
        let gathered = self.copy_rows(input, rows)?;
        let [mut gate, up] =
            self.linear_of(&gathered, &[projection(&expert.gate), projection(&expert.up)])?;
        self.swiglu_into(&mut gate, &up)?;
        self.workspace.give_back(up);
        self.workspace.give_back(gathered);
        let [outputs] = self.linear_of(&gate, &[projection(&expert.down)])?;
        self.workspace.give_back(gate);
        let width = out.width();
        expect("mixture of experts: outputs", width, outputs.width())?;
        for (index, row) in rows.iter().enumerate() {
            let place = places(&selected[row * active..(row + 1) * active]).unwrap_or(0);
            let weight = weights[row * active + place];
            let sum = &mut out.values_mut()[row * width..(row + 1) * width];
            sum.iter_mut().zip(outputs.row(index)).for_each(|(sum, value)| *sum += weight * value);
        }
        self.workspace.give_back(outputs);
        Ok(())
    }
}

fn projection(matrix: &Matrix) -> Projection<'_, Matrix, crate::Vector> {
    Projection { matrix, bias: None, additions: &[] }
}
