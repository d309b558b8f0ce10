//! What the routers of a batch chose, and the derivatives of the loss by their probabilities: what a loss for the balance of
//! experts is made of. Which one it is, is the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RecordingExecutor;
use crate::Activations;
use crate::direct::Routes;
use crate::ops::routing::probabilities;

/// What the counted rows of a batch chose in one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterStatistics {
    /// Rows that were counted.
    pub rows: u64,
    /// How many of them chose each expert.
    pub choices: Vec<u64>,
    /// For each expert the sum of its probabilities (softmax over all experts).
    pub probabilities: Vec<f64>,
    /// The sum of the rows' entropies, in nats.
    pub entropy: f64,
}

/// The routers of a batch, by layer.
#[derive(Debug, Default)]
pub(super) struct Routers {
    /// Which rows of the batch count.
    counted: Vec<bool>,
    slopes: BTreeMap<usize, Arc<[f32]>>,
    statistics: BTreeMap<usize, RouterStatistics>,
}

impl Routers {
    /// Whether a row counts, of a mixture over `rows` rows. Where only some rows of the batch are left, all of them do.
    pub(super) fn counts(&self, row: usize, rows: usize) -> bool {
        rows != self.counted.len() || self.counted[row]
    }

    pub(super) fn slopes(&self, layer: usize, experts: usize) -> Option<Arc<[f32]>> {
        self.slopes.get(&layer).filter(|slopes| slopes.len() == experts).cloned()
    }

    pub(super) fn clear_statistics(&mut self) {
        self.statistics.clear();
    }

    /// Counts what the rows of a layer chose.
    pub(super) fn count(&mut self, layer: usize, scores: &Activations, routes: &Routes) {
        let (rows, experts) = (scores.rows(), scores.width());
        let mut statistics = RouterStatistics {
            choices: vec![0; experts],
            probabilities: vec![0.0; experts],
            ..RouterStatistics::default()
        };
        let active = routes.active;
        let mut all = vec![0.0; experts];
        for (row, selected) in routes.selected.chunks_exact(active).enumerate() {
            if !self.counts(row, rows) {
                continue;
            }
            statistics.rows += 1;
            selected.iter().for_each(|expert| statistics.choices[*expert as usize] += 1);
            statistics.entropy += probabilities(scores.row(row), &mut all);
            statistics.probabilities.iter_mut().zip(&all).for_each(|(sum, p)| *sum += p);
        }
        self.statistics.insert(layer, statistics);
    }
}

impl RecordingExecutor {
    /// Adds to the loss of coming batches, for every counted row of layer `layer`, Σ slope_e · p_e over its experts' probabilities (softmax of the router's scores
    /// over all experts), by the layers that [`RecordingExecutor::set_layer`] names. Layers without slopes, or with as many as there are no experts, add nothing.
    pub fn set_router_slopes(&mut self, slopes: BTreeMap<usize, Vec<f32>>) {
        self.routers.slopes = slopes.into_iter().map(|(layer, slopes)| (layer, slopes.into())).collect();
    }

    /// Says which rows of the coming batches count for routers: in their statistics, and in what slopes add to the loss. Layers that compute only some of the
    /// batch's rows count all of those; without a call all rows count.
    pub fn set_counted_rows(&mut self, counted: Vec<bool>) {
        self.routers.counted = counted;
    }

    /// What routers chose since the batch began, by layer. Every layer that was recorded is there once, whether or not its activations were kept.
    pub fn take_router_statistics(&mut self) -> BTreeMap<usize, RouterStatistics> {
        std::mem::take(&mut self.routers.statistics)
    }
}
