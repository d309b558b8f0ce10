//! Mixtures of experts: rows are gathered by expert, so that each expert's products are over all its rows at once, and none
//! is dropped.

use super::DirectExecutor;
use super::workspace::Activations;
use crate::error::expect;
use crate::linear::{Product, linear};
use crate::ops::gated::Gated;
use crate::team::DisjointMut;
use crate::{Expert, ExpertChoice, GateActivation, Matrix, Projection, TensorError};

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
        let mut routes = std::mem::take(&mut self.routes);
        routes.set(&scores, choice);
        self.workspace.give_back(scores);
        // Of one size whatever is chosen: an expert's rows are at the beginning.
        let inner = experts.iter().map(|expert| expert.gate.rows()).max().unwrap_or(0);
        let mut own = self.workspace.take(rows, width)?;
        let mut between = [self.workspace.take(rows, inner)?, self.workspace.take(rows, inner)?];
        let mut out = self.workspace.take(rows, width)?;
        out.values_mut().fill(0.0);
        // In ascending order, so that a row's sum has one order.
        for (number, expert) in experts.iter().enumerate() {
            let places = routes.of(number);
            if places.is_empty() {
                continue;
            }
            expect("mixture of experts: outputs", width, expert.down.rows())?;
            expect("mixture of experts: up", expert.gate.rows(), expert.up.rows())?;
            let values = &mut own.values_mut()[..places.len() * width];
            routes.gather(&self.team, input, places.clone(), values);
            let [gate, up] = between
                .each_mut()
                .map(|tensor| &mut tensor.values_mut()[..places.len() * expert.gate.rows()]);
            self.expert_of(expert, places.len(), values, gate, up)?;
            routes.scatter(&self.team, values, places, true, &mut out);
        }
        let [gate, up] = between;
        for tensor in [own, gate, up] {
            self.workspace.give_back(tensor);
        }
        self.routes = routes;
        Ok(out)
    }

    /// Replaces an expert's rows by its outputs. Of `gate` and `up`, the first becomes SwiGLU's product.
    fn expert_of(
        &mut self,
        expert: &Expert<Matrix>,
        rows: usize,
        values: &mut [f32],
        gate: &mut [f32],
        up: &mut [f32],
    ) -> Result<(), TensorError> {
        let mut products = [
            Product { matrix: &expert.gate, output: &mut *gate },
            Product { matrix: &expert.up, output: &mut *up },
        ];
        linear(&self.team, values, rows, &mut self.quantised, &mut products)?;
        let gates = DisjointMut::new(gate);
        let up = &*up;
        self.team.for_ranges(up.len() / super::ELEMENTS_WORTH_A_TEAM + 1, |parts| {
            let part = |index: usize| up.len().min(index * super::ELEMENTS_WORTH_A_TEAM);
            let range = part(parts.start)..part(parts.end);
            // SAFETY: the ranges are disjoint.
            let gate = unsafe { gates.slice(range.clone()) };
            self.run(Gated { activation: GateActivation::Silu, gate, up: &up[range] });
        });
        let products = &mut [Product { matrix: &expert.down, output: values }];
        linear(&self.team, gate, rows, &mut self.quantised, products)
    }
}

/// A product with a matrix and nothing else.
pub(crate) fn projection(matrix: &Matrix) -> Projection<'_, Matrix, crate::Vector> {
    Projection { matrix, bias: None, additions: &[] }
}
