//! What a run costs, before it begins: parameters, operations, memory, time, energy, money; and whether it can run here at all.

mod cluster;
mod memory;
mod probe;
mod published;
mod size;
mod text;

pub use cluster::{Cluster, ClusterCost, Network, StepCost, StepExchange, Work};
pub use memory::{MemoryEstimate, OptimiserMemory, checkpoint_bytes};
pub use probe::{Probe, probe_training};
pub use published::{PublishedRun, published_runs};
pub(crate) use size::exchange_group;
pub use size::{ParameterCount, TokenOperations};
pub(crate) use text::money_text;
pub use text::{bytes_text, cluster_text, plan_text, scaling_text};

use serde::Serialize;
use zhenjin_model::ModelConfig;

/// What of a run's configuration decides its cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunShape {
    /// Tokens of a packed sequence.
    pub sequence_length: usize,
    /// Sequences that are computed together.
    pub sequences: usize,
    /// Such batches for one update, on all ranks together.
    pub micro_batches: usize,
    /// Updates.
    pub steps: u64,
    /// Mean length of the documents in a sequence, if it is known; attention never crosses documents.
    pub document_length: Option<usize>,
    /// Documents of the data; 0 if they are not known.
    pub documents: u64,
    /// What the optimiser keeps.
    pub optimiser: OptimiserMemory,
    /// A moving average of the weights is kept.
    pub averages_weights: bool,
    /// How many layers are computed again in the backward pass; `None` takes as many as the memory asks for.
    pub recomputed_layers: Option<usize>,
    /// Processes that share the work.
    pub ranks: usize,
    /// Checkpoints that stay on disk.
    pub kept_checkpoints: usize,
}

impl RunShape {
    /// Tokens of one update.
    pub fn tokens_per_step(&self) -> u64 {
        self.micro_batches as u64 * (self.sequences * self.sequence_length) as u64
    }

    /// Tokens of the run.
    pub fn tokens(&self) -> u64 {
        self.steps.saturating_mul(self.tokens_per_step())
    }
}

/// The machine that a run is planned for, and what its time costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Bytes of memory that the run may take; `None` if unknown.
    pub memory_bytes: Option<u64>,
    /// Bytes that are free where checkpoints go; `None` if unknown.
    pub disk_bytes: Option<u64>,
    /// Its measured speed.
    pub probe: Probe,
    /// How the ranks exchange gradients, where there are several.
    pub network: Option<Network>,
    /// What energy and time cost.
    pub prices: Prices,
}

/// What energy and time cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices {
    /// Watts of one machine under load.
    pub watts: f64,
    /// Whether somebody stated or measured the watts; otherwise they are an assumption.
    pub watts_known: bool,
    /// Price of a kilowatt-hour.
    pub per_kilowatt_hour: f64,
    /// Price of a machine for an hour (rent), beside its energy.
    pub per_hour: f64,
    /// The prices' currency, for display.
    pub currency: String,
}

impl Prices {
    /// Price of so much energy and time.
    pub fn of(&self, joules: f64, machine_seconds: f64) -> f64 {
        joules / 3.6e6 * self.per_kilowatt_hour + machine_seconds / 3600.0 * self.per_hour
    }
}

/// A run's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Parameters.
    pub parameters: ParameterCount,
    /// Tokens of the run.
    pub tokens: u64,
    /// Tokens for each parameter that a token uses; about 20 is compute-optimal (Hoffmann et al. 2022, arXiv 2203.15556).
    pub tokens_per_parameter: f64,
    /// Operations of one token.
    pub token_operations: TokenOperations,
    /// Operations of the run: those of one token times tokens.
    pub operations: f64,
    /// The rule 6·N·D, with the parameters that a token uses, for comparison.
    pub six_n_d: f64,
    /// How many layers are computed again in the backward pass.
    pub recomputed_layers: usize,
    /// Memory of one process.
    pub memory: MemoryEstimate,
    /// Bytes of checkpoints.
    pub disk_bytes: u64,
    /// Seconds, without validation, samples and checkpoints.
    pub seconds: f64,
    /// Of these, seconds in which ranks wait for the network.
    pub network_seconds: f64,
    /// What ranks exchange in a step.
    pub step_exchange: StepCost,
    /// Tokens per second of all machines together.
    pub tokens_per_second: f64,
    /// Joules of all machines together.
    pub joules: f64,
    /// Price of energy and time.
    pub price: f64,
    /// What it was planned for.
    pub shape: RunShape,
    /// For which machine.
    pub machine: Machine,
}

/// Why a run cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not enough memory.
    #[error(
        "the run needs {} of memory and {} are there ({} of weights, gradients and optimiser; {} of activations): {advice}",
        bytes_text(*needed), bytes_text(*available), bytes_text(*fixed), bytes_text(*activations)
    )]
    Memory {
        /// Bytes at the peak, layers computed again if that is allowed.
        needed: u64,
        /// Bytes that the run may take.
        available: u64,
        /// Bytes that do not depend on the batch.
        fixed: u64,
        /// Bytes of activations, workspace and logits.
        activations: u64,
        /// What helps.
        advice: &'static str,
    },
    /// Not enough disk.
    #[error(
        "checkpoints need {} on disk and {} are free: keep fewer checkpoints, or choose another folder",
        bytes_text(*needed), bytes_text(*available)
    )]
    Disk {
        /// Bytes of checkpoints.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
}

impl Plan {
    /// Computes the cost of a run.
    pub fn of(config: &ModelConfig, shape: &RunShape, machine: &Machine) -> Self {
        let parameters = ParameterCount::of(config);
        let length = shape.document_length.unwrap_or(shape.sequence_length);
        let token_operations = TokenOperations::of(config, length.min(shape.sequence_length));
        let tokens = shape.tokens();
        let operations = token_operations.total() * tokens as f64;
        let recomputed_layers = match shape.recomputed_layers {
            Some(layers) => layers.min(config.layers),
            None => fewest_recomputed_layers(config, shape, machine.memory_bytes),
        };
        let ranks = shape.ranks.max(1) as f64;
        // Computing layers again is one more forward pass of them, a third of their forward and backward pass.
        let again = (token_operations.matrices + token_operations.attention) / 3.0;
        let again = again * tokens as f64 * recomputed_layers as f64 / config.layers.max(1) as f64;
        let computing = (operations + again) / machine.probe.achieved_flops / ranks;
        // Ranks share the update as they share its state.
        let updating = shape.steps as f64 * machine.probe.update_seconds / ranks;
        let own_micro_batches = (shape.micro_batches as f64 / ranks).max(1.0);
        let micro_batch = computing / shape.steps.max(1) as f64 / own_micro_batches;
        let layers = (token_operations.matrices + token_operations.attention) / token_operations.total();
        // Two thirds of a micro-batch are its way back.
        let layer_back = micro_batch * layers * 2.0 / 3.0 / config.layers.max(1) as f64;
        let groups = size::exchanged_groups(config);
        let last = config.layers.saturating_sub(1);
        let ready = (0..groups.len()).map(|group| group.min(last) as f64 * layer_back).collect();
        let step_exchange = machine.network.map_or_else(StepCost::default, |network| {
            network.step_cost(shape.ranks.max(1), &StepExchange { groups, ready })
        });
        let network_seconds = step_exchange.waited * shape.steps as f64;
        let seconds = computing + updating + network_seconds;
        let joules = seconds * machine.prices.watts * ranks;
        Self {
            parameters,
            tokens,
            tokens_per_parameter: tokens as f64 / parameters.active().max(1) as f64,
            token_operations,
            operations,
            six_n_d: 6.0 * parameters.active() as f64 * tokens as f64,
            recomputed_layers,
            memory: MemoryEstimate::of(config, shape, recomputed_layers),
            disk_bytes: checkpoint_bytes(config, shape),
            seconds,
            network_seconds,
            step_exchange,
            tokens_per_second: tokens as f64 / seconds,
            joules,
            price: machine.prices.of(joules, seconds * ranks),
            shape: *shape,
            machine: machine.clone(),
        }
    }

    /// The same run on 1, 2, 4 … machines, as many as `most` and the micro-batches of a step allow.
    pub fn scaling(config: &ModelConfig, shape: &RunShape, machine: &Machine, most: usize) -> Vec<Plan> {
        let most = most.min(shape.micro_batches);
        let ranks = std::iter::successors(Some(1usize), |ranks| ranks.checked_mul(2));
        let ranks = ranks.take_while(|ranks| *ranks <= most);
        ranks.map(|ranks| Plan::of(config, &RunShape { ranks, ..*shape }, machine)).collect()
    }

    /// Seconds of a step.
    pub fn step_seconds(&self) -> f64 {
        self.seconds / self.shape.steps.max(1) as f64
    }

    /// Whether the run fits into memory and on the disk.
    ///
    /// # Errors
    /// [`Refusal`], with the figures.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(available) = self.machine.memory_bytes {
            self.memory.check(available, self.recomputed_layers)?;
        }
        match self.machine.disk_bytes {
            Some(available) if self.disk_bytes > available => {
                Err(Refusal::Disk { needed: self.disk_bytes, available })
            }
            _ => Ok(()),
        }
    }
}

/// The smallest number of recomputed layers with which a run fits into `memory_bytes`; all of them when it does not fit anyhow.
pub fn fewest_recomputed_layers(config: &ModelConfig, shape: &RunShape, memory_bytes: Option<u64>) -> usize {
    let Some(available) = memory_bytes else { return 0 };
    let fits = |layers: &usize| MemoryEstimate::of(config, shape, *layers).total <= available;
    (0..config.layers).find(fits).unwrap_or(config.layers)
}

#[cfg(test)]
pub(crate) mod tests;
