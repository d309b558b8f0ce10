//! The derivatives of a mixture of experts, row by row, as the formula says.

use super::{Derivatives, Matrix, TapedTensor};
use crate::reference_executor::choose;
use crate::{Expert, ExpertChoice, ReferenceTensor};

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `matrix · column`.
fn product(matrix: &ReferenceTensor, column: &[f64]) -> Vec<f64> {
    matrix.rows().map(|weights| dot(weights, column)).collect()
}

/// `matrixᵀ · column`, added to `sum`.
fn add_transposed(matrix: &ReferenceTensor, column: &[f64], sum: &mut [f64]) {
    for (weights, factor) in matrix.rows().zip(column) {
        sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += factor * weight);
    }
}

/// `a · bᵀ`, row by row.
fn outer(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect()
}

/// A mixture's inputs.
pub(super) struct Mixture {
    pub(super) input: TapedTensor,
    pub(super) router: Matrix,
    pub(super) experts: Vec<Expert<Matrix>>,
    pub(super) choice: ExpertChoice,
}

impl Mixture {
    pub(super) fn go_back(&self, gradient: &[f64], derivatives: &mut Derivatives) {
        let width = self.input.value.width;
        let zeros = |matrix: &Matrix| vec![0.0; matrix.value.values.len()];
        // Every expert has a gradient, chosen or not.
        for Expert { gate, up, down } in &self.experts {
            for matrix in [gate, up, down] {
                derivatives.add_parameter(matrix.id, &zeros(matrix));
            }
        }
        let mut of_input = Vec::new();
        for (row, gradient) in self.input.value.rows().zip(gradient.chunks_exact(width)) {
            of_input.extend(self.row_back(row, gradient, derivatives));
        }
        derivatives.add(self.input.id, &of_input);
    }

    /// The derivative by one row.
    fn row_back(&self, row: &[f64], gradient: &[f64], derivatives: &mut Derivatives) -> Vec<f64> {
        let mut of_row = vec![0.0; row.len()];
        let scores = product(&self.router.value, row);
        let chosen = choose(&scores, self.choice);
        let mut of_weights = vec![0.0; scores.len()];
        for (number, weight) in &chosen {
            let Expert { gate, up, down } = &self.experts[*number];
            let (gates, ups) = (product(&gate.value, row), product(&up.value, row));
            let sigmas: Vec<f64> = gates.iter().map(|gate| 1.0 / (1.0 + (-gate).exp())).collect();
            let activated: Vec<f64> =
                gates.iter().zip(&sigmas).zip(&ups).map(|((gate, sigma), up)| gate * sigma * up).collect();
            of_weights[*number] = dot(gradient, &product(&down.value, &activated));
            let of_output: Vec<f64> = gradient.iter().map(|gradient| weight * gradient).collect();
            derivatives.add_parameter(down.id, &outer(&of_output, &activated));
            let mut of_activated = vec![0.0; activated.len()];
            add_transposed(&down.value, &of_output, &mut of_activated);
            let (mut of_gate, mut of_up) = (Vec::new(), Vec::new());
            for (((gate, sigma), up), slope) in gates.iter().zip(&sigmas).zip(&ups).zip(&of_activated) {
                of_gate.push(slope * up * (sigma + gate * sigma * (1.0 - sigma)));
                of_up.push(slope * gate * sigma);
            }
            for (matrix, slopes) in [(gate, of_gate), (up, of_up)] {
                derivatives.add_parameter(matrix.id, &outer(&slopes, row));
                add_transposed(&matrix.value, &slopes, &mut of_row);
            }
        }
        let of_scores = self.scores_back(&scores, &chosen, &of_weights);
        derivatives.add_parameter(self.router.id, &outer(&of_scores, row));
        add_transposed(&self.router.value, &of_scores, &mut of_row);
        of_row
    }

    /// A weight is e^score over the sum of e^score of those that were chosen, or of all.
    fn scores_back(&self, scores: &[f64], chosen: &[(usize, f64)], of_weights: &[f64]) -> Vec<f64> {
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let among: Vec<usize> = match self.choice.normalise {
            true => chosen.iter().map(|(number, _)| *number).collect(),
            false => (0..scores.len()).collect(),
        };
        let sum: f64 = among.iter().map(|number| (scores[*number] - greatest).exp()).sum();
        let mut of_scores = vec![0.0; scores.len()];
        for (number, weight) in chosen {
            of_scores[*number] += of_weights[*number] * weight;
            for other in &among {
                of_scores[*other] -= of_weights[*number] * weight * (scores[*other] - greatest).exp() / sum;
            }
        }
        of_scores
    }
}
