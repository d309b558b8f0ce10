//! Mixtures of experts on the tape: every expert's products are over all rows that chose it, forward and back.
//!
//! Rows are sorted by expert (within an expert they ascend), so that what is kept of all experts together has one size,
//! whatever was chosen: gate and up, `[rows · active, expert width]`, as many values as a single network of that width keeps.
//! An expert's sums run over its rows in ascending order, a row's over its experts in ascending order, the router's last.
//!
//! With a row's share `w · W · a` of its output (w the weight, W the down projection, a SwiGLU's product), the derivative by w is
//! `(Wᵀ · g) · a`, so that the experts' outputs need not be kept.

use std::ops::Range;
use std::sync::Arc;

use super::backward::Sources;
use super::tape::{Operation, RecordedMixture, give_back};
use super::{Recorded, RecordingExecutor, parameter};
use crate::direct::{Routes, projection};
use crate::error::expect;
use crate::linear::backward::{input_gradient, weight_gradient};
use crate::linear::{Product, QuantisedRows, linear};
use crate::ops::gated::{Gated, GatedGradient};
use crate::ops::routing::{WeightedRows, probabilities, score_gradient};
use crate::team::DisjointMut;
use crate::{
    Activations, DirectExecutor, Expert, ExpertChoice, GateActivation, Matrix, ParameterId, TensorError,
};

const WHAT: &str = "mixture of experts";

/// Memory for the rows of one expert.
struct ExpertRows {
    /// `[rows, inputs]`.
    inputs: Activations,
    /// `[rows, expert width]`: SwiGLU's product.
    activated: Activations,
    /// Of the same shape.
    gradient: Activations,
}

impl ExpertRows {
    fn new(
        direct: &mut DirectExecutor,
        rows: usize,
        inputs: usize,
        width: usize,
    ) -> Result<Self, TensorError> {
        Ok(ExpertRows {
            inputs: direct.workspace.take(rows, inputs)?,
            activated: direct.workspace.take(rows, width)?,
            gradient: direct.workspace.take(rows, width)?,
        })
    }

    fn give_back(self, direct: &mut DirectExecutor) {
        for tensor in [self.inputs, self.activated, self.gradient] {
            direct.workspace.give_back(tensor);
        }
    }
}

/// Elements of `range` rows of `width`.
fn elements(range: &Range<usize>, width: usize) -> Range<usize> {
    range.start * width..range.end * width
}

/// Checks a mixture's shapes, and that its weights are parameters, in f32 those that learn; the parameters, and the experts' width.
fn check(
    learns: impl Fn(ParameterId) -> bool,
    width: usize,
    router: &Matrix,
    experts: &[Expert<Matrix>],
    choice: ExpertChoice,
) -> Result<(Vec<Expert<ParameterId>>, usize), TensorError> {
    expect("mixture of experts: experts", router.rows(), experts.len())?;
    expect("mixture of experts: active experts", choice.active.clamp(1, experts.len()), choice.active)?;
    let id = |matrix: &Matrix| {
        let id = parameter(WHAT, matrix.parameter())?;
        if learns(id) {
            matrix.f32_packed()?;
        }
        Ok::<_, TensorError>(id)
    };
    id(router)?;
    let inner = experts.first().map_or(0, |expert| expert.gate.rows());
    let mut ids = Vec::with_capacity(experts.len());
    for Expert { gate, up, down } in experts {
        for (matrix, rows, columns) in [(gate, inner, width), (up, inner, width), (down, width, inner)] {
            expect("mixture of experts: outputs of an expert's matrix", rows, matrix.rows())?;
            expect("mixture of experts: inputs of an expert's matrix", columns, matrix.columns())?;
        }
        ids.push(Expert { gate: id(gate)?, up: id(up)?, down: id(down)? });
    }
    Ok((ids, inner))
}

impl RecordingExecutor {
    /// See [`crate::Executor::mixture_of_experts`].
    pub(super) fn record_mixture(
        &mut self,
        input: &Recorded,
        router: &Matrix,
        experts: &[Expert<Matrix>],
        choice: ExpertChoice,
    ) -> Result<Recorded, TensorError> {
        let (rows, width) = (input.rows(), input.width());
        let input = self.tape.node(WHAT, input)?;
        let router_id = parameter(WHAT, router.parameter())?;
        let (ids, inner) = check(|id| self.learns(id), width, router, experts, choice)?;
        let values = self.tape.values(WHAT, input)?;
        let [scores] = self.direct.linear_of(values, &[projection(router)])?;
        let mut routes = Routes::default();
        routes.set(&scores, choice);
        let slopes = self.layer.and_then(|layer| self.routers.slopes(layer, experts.len()));
        if let Some(layer) = self.layer {
            self.routers.count(layer, &scores, &routes);
        }
        let mut gate = self.direct.workspace.take(rows * choice.active, inner)?;
        let mut up = self.direct.workspace.take(rows * choice.active, inner)?;
        let mut own = self.direct.workspace.take(rows, width)?;
        let mut activated = self.direct.workspace.take(rows, inner)?;
        let mut out = self.direct.workspace.take(rows, width)?;
        out.values_mut().fill(0.0);
        for (number, expert) in experts.iter().enumerate() {
            let places = routes.of(number);
            if places.is_empty() {
                continue;
            }
            let (team, count) = (&self.direct.team, places.len());
            let own = &mut own.values_mut()[..count * width];
            routes.gather(team, values, places.clone(), own);
            let (gate, up) = (
                &mut gate.values_mut()[elements(&places, inner)],
                &mut up.values_mut()[elements(&places, inner)],
            );
            let mut products = [
                Product { matrix: &expert.gate, output: &mut *gate },
                Product { matrix: &expert.up, output: &mut *up },
            ];
            linear(team, own, count, &mut QuantisedRows::new(), &mut products)?;
            let activated = &mut activated.values_mut()[..count * inner];
            activate(&self.direct, gate, up, inner, activated);
            let products = &mut [Product { matrix: &expert.down, output: &mut *own }];
            linear(team, activated, count, &mut QuantisedRows::new(), products)?;
            routes.scatter(team, own, places, true, &mut out);
        }
        self.direct.workspace.give_back(own);
        self.direct.workspace.give_back(activated);
        let learns = |expert: &Expert<ParameterId>| {
            [expert.gate, expert.up, expert.down].into_iter().any(|id| self.learns(id))
        };
        let needs = self.need_gradients(&[input]) || self.learns(router_id) || ids.iter().any(learns);
        self.reads(needs, &[input]);
        self.consume(input);
        if !needs {
            for tensor in [scores, gate, up] {
                self.direct.workspace.give_back(tensor);
            }
            let out = self.constant(out);
            return Ok(out);
        }
        Ok(self.record(out, true, false, |out| {
            let (router, normalise) = (router_id, choice.normalise);
            let mixture = RecordedMixture {
                input,
                out,
                router,
                experts: ids,
                normalise,
                routes,
                scores,
                gate,
                up,
                slopes,
            };
            Operation::Mixture(Box::new(mixture))
        }))
    }

    /// The way back through a mixture.
    pub(super) fn mixture_back(
        &mut self,
        mixture: RecordedMixture,
        sources: &mut Sources<'_>,
    ) -> Result<(), TensorError> {
        let RecordedMixture { input, out, mut gate, mut up, .. } = mixture;
        let RecordedMixture { router, experts, normalise, routes, scores, slopes, .. } = mixture;
        let Some(gradient) = self.tape.nodes[out].gradient.take() else {
            for tensor in [scores, gate, up] {
                self.direct.workspace.give_back(tensor);
            }
            self.tape.release(input, &mut self.direct.workspace);
            return Ok(());
        };
        let values = self.values_again(input, sources)?;
        let (rows, width) = (values.rows(), values.width());
        let mut result = self.direct.workspace.take(rows, width)?;
        result.values_mut().fill(0.0);
        let mut own = ExpertRows::new(&mut self.direct, rows, width, gate.width())?;
        let mut of_weights = vec![0.0; routes.weights.len()];
        for (number, expert) in experts.iter().enumerate() {
            let places = routes.of(number);
            if places.is_empty() {
                continue;
            }
            let range = elements(&places, gate.width());
            let kept = [&mut gate.values_mut()[range.clone()], &mut up.values_mut()[range]];
            let of_places = self.expert_back(
                (expert, places.clone()),
                &routes,
                [&values, &gradient],
                kept,
                &mut own,
                &mut result,
                sources,
            )?;
            places.zip(of_places).for_each(|(place, slope)| of_weights[routes.place(place)] = slope);
        }
        own.give_back(&mut self.direct);
        for tensor in [gate, up] {
            self.direct.workspace.give_back(tensor);
        }
        give_back(&mut self.direct.workspace, gradient);
        let of_scores = self.scores_back(&scores, &routes, &of_weights, normalise, slopes.as_deref())?;
        self.direct.workspace.give_back(scores);
        let matrix = sources.matrix(router)?;
        let (team, simd, scratch) = (&self.direct.team, self.direct.simd, &mut self.products);
        if let Some(sum) = sources.matrix_gradient(router, matrix.rows(), matrix.columns())? {
            weight_gradient(team, simd, of_scores.values(), values.values(), rows, sum)?;
        }
        input_gradient(team, of_scores.values(), rows, matrix, scratch, result.values_mut(), true)?;
        self.direct.workspace.give_back(of_scores);
        self.put(input, values);
        self.add_gradient(input, Arc::new(result))
    }

    /// The way back through one expert, given its gate and up values, which are overwritten: its matrices' gradients, the
    /// derivative by its rows, added to `result`, and those by its rows' weights.
    #[allow(clippy::too_many_arguments, reason = "the operands of one expert")]
    fn expert_back(
        &mut self,
        (expert, places): (&Expert<ParameterId>, Range<usize>),
        routes: &Routes,
        [values, gradient]: [&Activations; 2],
        [gate, up]: [&mut [f32]; 2],
        own: &mut ExpertRows,
        result: &mut Activations,
        sources: &mut Sources<'_>,
    ) -> Result<Vec<f32>, TensorError> {
        let (direct, scratch) = (&self.direct, &mut self.products);
        let (team, simd, count) = (&direct.team, direct.simd, places.len());
        let (width, inner) = (values.width(), own.activated.width());
        let rows = &mut own.inputs.values_mut()[..count * width];
        let activated = &mut own.activated.values_mut()[..count * inner];
        let of_activated = &mut own.gradient.values_mut()[..count * inner];

        routes.gather(team, gradient, places.clone(), rows);
        let down = sources.matrix(expert.down)?;
        input_gradient(team, rows, count, down, scratch, of_activated, false)?;
        activate(direct, gate, up, inner, activated);
        let weights: Vec<f32> = places.clone().map(|place| routes.weights[routes.place(place)]).collect();
        let of_weights = weigh(direct, &weights, activated, of_activated);
        if let Some(sum) = sources.matrix_gradient(expert.down, down.rows(), down.columns())? {
            weight_gradient(team, simd, rows, activated, count, sum)?;
        }
        swiglu_back(direct, [&mut *gate, &mut *up], inner, of_activated);
        routes.gather(team, values, places.clone(), rows);
        for (id, of_outputs) in [(expert.gate, &*gate), (expert.up, &*up)] {
            if let Some(sum) = sources.matrix_gradient(id, inner, width)? {
                weight_gradient(team, simd, of_outputs, rows, count, sum)?;
            }
        }
        input_gradient(team, gate, count, sources.matrix(expert.gate)?, scratch, rows, false)?;
        input_gradient(team, up, count, sources.matrix(expert.up)?, scratch, rows, true)?;
        routes.scatter(team, rows, places, false, result);
        Ok(of_weights)
    }

    /// The derivatives by the router's scores.
    fn scores_back(
        &mut self,
        scores: &Activations,
        routes: &Routes,
        of_weights: &[f32],
        normalise: bool,
        slopes: Option<&[f32]>,
    ) -> Result<Activations, TensorError> {
        let (rows, experts, active) = (scores.rows(), scores.width(), routes.active);
        let mut result = self.direct.workspace.take(rows, experts)?;
        let routers = &self.routers;
        let results = DisjointMut::new(result.values_mut());
        self.direct.team.for_ranges(rows, |range| {
            let mut all = vec![0.0; experts];
            for row in range {
                // SAFETY: the ranges of rows are disjoint.
                let out = unsafe { results.slice(row * experts..(row + 1) * experts) };
                probabilities(scores.row(row), &mut all);
                let of_weights = &of_weights[row * active..(row + 1) * active];
                let slopes = slopes.filter(|_| routers.counts(row, rows));
                score_gradient(&all, routes.of_row(row), of_weights, normalise, slopes, out);
            }
        });
        Ok(result)
    }
}

/// SwiGLU's product of some rows.
fn activate(direct: &DirectExecutor, gate: &[f32], up: &[f32], width: usize, out: &mut [f32]) {
    let out = DisjointMut::new(out);
    direct.team.for_ranges(gate.len() / width.max(1), |rows| {
        let range = elements(&rows, width);
        // SAFETY: the ranges of rows are disjoint.
        let out = unsafe { out.slice(range.clone()) };
        out.copy_from_slice(&gate[range.clone()]);
        direct.run(Gated { activation: GateActivation::Silu, gate: out, up: &up[range] });
    });
}

/// See [`WeightedRows`].
fn weigh(direct: &DirectExecutor, weights: &[f32], activated: &mut [f32], gradient: &mut [f32]) -> Vec<f32> {
    let width = activated.len().checked_div(weights.len()).unwrap_or(0);
    let mut of_weights = vec![0.0; weights.len()];
    let outputs = DisjointMut::new(&mut of_weights);
    let (activated, gradient) = (DisjointMut::new(activated), DisjointMut::new(gradient));
    direct.team.for_ranges(weights.len(), |rows| {
        let range = elements(&rows, width);
        // SAFETY: the ranges of rows are disjoint.
        let (activated, gradient, of_weights) =
            unsafe { (activated.slice(range.clone()), gradient.slice(range), outputs.slice(rows.clone())) };
        direct.run(WeightedRows { weights: &weights[rows], activated, gradient, of_weights });
    });
    of_weights
}

/// The derivatives by gate and up, in their places.
fn swiglu_back(direct: &DirectExecutor, [gate, up]: [&mut [f32]; 2], width: usize, gradient: &[f32]) {
    let rows = gate.len() / width.max(1);
    let (gate, up) = (DisjointMut::new(gate), DisjointMut::new(up));
    direct.team.for_ranges(rows, |rows| {
        let range = elements(&rows, width);
        // SAFETY: the ranges of rows are disjoint.
        let (gate, up) = unsafe { (gate.slice(range.clone()), up.slice(range.clone())) };
        let activation = GateActivation::Silu;
        direct.run(GatedGradient { activation, gate, up, gradient: &gradient[range] });
    });
}
