//! Models with experts: what a step's routers chose, and the loss that keeps experts equally busy.
//!
//! The loss of a layer with E experts is E · Σ f_e · p_e: f_e the share of choices that expert e gets, p_e its mean probability
//! (Fedus et al. 2022, "Switch Transformers", equations 4–6). Shares of one micro-batch would make the loss, and so the weights,
//! depend on how a batch is split, and would ask every few sequences to use all experts; shares of the whole batch let experts
//! specialise (Qiu et al. 2025, "Demons in the Detail", arXiv 2501.11873). Those of this step are known only when its forward
//! passes are done, so the shares are those of the update before: integers, counted over all ranks and micro-batches, kept in
//! the checkpoint. With them the loss is linear in the probabilities of each row, and any split of a batch has the same
//! gradient. The first step has no such loss.

use std::collections::BTreeMap;

use zhenjin_model::ModelConfig;
use zhenjin_tensor::RouterStatistics;

use super::Trainer;
use crate::metrics::RouterMetrics;

/// Layers with experts, and how many each has.
pub(super) type Shape = Vec<(usize, usize)>;

/// What the routers of a step chose, by layers with experts.
#[derive(Debug, Default)]
pub(super) struct RouterSums {
    pub(super) layers: Vec<RouterStatistics>,
}

impl RouterSums {
    pub(super) fn shape(config: &ModelConfig) -> Shape {
        let of_layer = |layer| Some((layer, config.experts_of(layer)?.count));
        (0..config.layers).filter_map(of_layer).collect()
    }

    /// Adds a micro-batch's numbers: for each layer its rows, entropy, choices and probabilities. A micro-batch without targets has zeros.
    pub(super) fn push(numbers: &mut Vec<f64>, shape: &Shape, found: &BTreeMap<usize, RouterStatistics>) {
        for (layer, experts) in shape {
            let none = RouterStatistics {
                choices: vec![0; *experts],
                probabilities: vec![0.0; *experts],
                ..RouterStatistics::default()
            };
            let statistics = found.get(layer).unwrap_or(&none);
            numbers.extend([statistics.rows as f64, statistics.entropy]);
            numbers.extend(statistics.choices.iter().map(|choices| *choices as f64));
            numbers.extend(&statistics.probabilities);
        }
    }

    /// From the sums of those numbers over all micro-batches. Counts below 2^53 are exact.
    pub(super) fn new(shape: &Shape, sum: impl Fn(usize) -> f64) -> RouterSums {
        let mut next = 0;
        let mut take = |count: usize| -> Vec<f64> {
            next += count;
            (next - count..next).map(&sum).collect()
        };
        let layers = shape.iter().map(|(_, experts)| {
            let first = take(2);
            RouterStatistics {
                rows: first[0] as u64,
                entropy: first[1],
                choices: take(*experts).into_iter().map(|choices| choices as u64).collect(),
                probabilities: take(*experts),
            }
        });
        RouterSums { layers: layers.collect() }
    }

    /// Choices of each expert, by layer; empty without experts.
    pub(super) fn choices(&self) -> Vec<Vec<u64>> {
        self.layers.iter().map(|layer| layer.choices.clone()).collect()
    }

    /// What is told of them; `None` without experts.
    pub(super) fn metrics(&self) -> Option<RouterMetrics> {
        if self.layers.is_empty() {
            return None;
        }
        let mut metrics = RouterMetrics { imbalance: 0.0, balance: 0.0, entropy: 0.0, shares: Vec::new() };
        for layer in &self.layers {
            let (experts, rows) = (layer.choices.len() as f64, layer.rows.max(1) as f64);
            let all = layer.choices.iter().sum::<u64>().max(1) as f64;
            let shares: Vec<f64> = layer.choices.iter().map(|choices| *choices as f64 / all).collect();
            let greatest = shares.iter().copied().fold(0.0, f64::max);
            metrics.imbalance = metrics.imbalance.max(experts * greatest);
            let products = shares.iter().zip(&layer.probabilities);
            metrics.balance += experts * products.map(|(share, sum)| share * sum).sum::<f64>() / rows;
            metrics.entropy += layer.entropy / rows;
            // Four digits are enough, and read better.
            metrics.shares.push(shares.iter().map(|share| (share * 1e4).round() / 1e4).collect());
        }
        metrics.balance /= self.layers.len() as f64;
        metrics.entropy /= self.layers.len() as f64;
        Some(metrics)
    }
}

impl Trainer {
    /// The derivatives of a row's loss for balance by its probabilities, by layer: weight · E · f_e, with the shares of the update before.
    pub(super) fn router_slopes(&self) -> BTreeMap<usize, Vec<f32>> {
        let weight = self.configuration.loss.balance;
        let layers = RouterSums::shape(&self.config);
        let mut slopes = BTreeMap::new();
        for ((layer, experts), choices) in layers.into_iter().zip(&self.state.choices) {
            let all = choices.iter().sum::<u64>() as f64;
            if weight > 0.0 && all > 0.0 && choices.len() == experts {
                let slope = |chosen: &u64| (weight * experts as f64 * *chosen as f64 / all) as f32;
                slopes.insert(layer, choices.iter().map(slope).collect());
            }
        }
        slopes
    }
}
