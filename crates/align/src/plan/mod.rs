//! What a run of alignment costs, before it begins: steps, tokens, memory, disk, time; and whether it can run here at all.

mod memory;
mod text;

pub use memory::{PlannedMemory, PlannedModel, PlannedTeacher};
pub use text::plan_text;

use serde::Serialize;
use zhenjin_model::ModelConfig;
use zhenjin_train::plan::{ParameterCount, Prices, bytes_text};

use crate::configuration::{Configuration, Method, TuningKind};
use crate::methods::Examples;
use crate::order::Order;
use crate::packed::groups;

/// Steps whose examples are looked at to know what a step is like.
const LOOKED_AT: u64 = 64;

/// How many tokens a step computes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepTokens {
    /// Of all examples of a step, in the mean; of answers that are written, as if all were as long as they may be.
    pub mean: f64,
    /// The most whose gradients are computed together.
    pub largest_micro_batch: usize,
    /// The longest prompt, where answers are written.
    pub longest_prompt: usize,
}

impl StepTokens {
    /// Of a method that learns from given answers.
    pub fn of_examples<E: Examples>(configuration: &Configuration, examples: &E) -> StepTokens {
        let sizes: Vec<usize> = (0..examples.count()).map(|example| examples.rows(example)).collect();
        StepTokens::of_rows(configuration, &sizes)
    }

    /// Of examples that have so many rows each.
    pub fn of_rows(configuration: &Configuration, rows: &[usize]) -> StepTokens {
        StepTokens::of_sizes(configuration, rows, 1)
    }

    /// Of a method that writes answers to prompts of these lengths.
    pub fn of_prompts(configuration: &Configuration, prompts: &[usize]) -> StepTokens {
        let (answers, room) =
            configuration.rollout.map_or((1, 0), |rollout| (rollout.answers, rollout.max_tokens));
        let sizes: Vec<usize> = prompts.iter().map(|prompt| prompt + room).collect();
        let longest_prompt = prompts.iter().copied().max().unwrap_or(0);
        StepTokens { longest_prompt, ..StepTokens::of_sizes(configuration, &sizes, answers) }
    }

    fn of_sizes(configuration: &Configuration, sizes: &[usize], answers: usize) -> StepTokens {
        if sizes.is_empty() {
            return StepTokens { mean: 0.0, largest_micro_batch: 0, longest_prompt: 0 };
        }
        let batch = &configuration.batch;
        let mut order = Order::new(configuration.seed, sizes.len());
        let steps =
            u64::from(configuration.schedule.steps > 0).max(configuration.schedule.steps.min(LOOKED_AT));
        let (mut sum, mut largest) = (0, 0);
        for step in 0..steps {
            let examples = order.examples(step * batch.examples as u64, batch.examples);
            let of_step: Vec<usize> =
                examples.iter().flat_map(|example| std::iter::repeat_n(sizes[*example], answers)).collect();
            sum += of_step.iter().sum::<usize>();
            let micro_batches = groups(&of_step, batch.micro_tokens);
            let sizes = micro_batches.into_iter().map(|range| of_step[range].iter().sum());
            largest = largest.max(sizes.max().unwrap_or(0));
        }
        // One that comes later may be longer than all of these.
        largest = largest.max(sizes.iter().copied().max().unwrap_or(0));
        StepTokens { mean: sum as f64 / steps.max(1) as f64, largest_micro_batch: largest, longest_prompt: 0 }
    }
}

/// Seconds that a machine takes for a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// For scores or values alone.
    pub forward: f64,
    /// With gradients.
    pub learning: f64,
    /// For a token of an answer, all of a step's answers at once; 0 where none are written.
    pub writing: f64,
    /// For a token that a teacher reads; 0 where there is none.
    pub teacher: f64,
    /// Whether it was measured with the run's own model and examples, and not estimated from the machine's greatest speed.
    pub measured: bool,
}

/// The part of the processor's greatest speed in f32 that passes reach, for estimates; by measurement.
const REACHED: f64 = 0.5;
/// The same for answers that are written, many at once.
const REACHED_WRITING: f64 = 0.25;
/// The time of a forward pass with quantised weights, whose products are in 8 bits, of one in f32; by measurement.
const QUANTISED_FORWARD: f64 = 0.25;
/// The time of the way back with quantised weights, which is in f32, of one with f32 weights, which are read from memory; by measurement.
const QUANTISED_BACKWARD: f64 = 0.65;

impl Pace {
    /// An estimate from the floating-point operations per second that the machine reaches at most, for weights that are quantised or in floats.
    pub fn estimate(config: &ModelConfig, tuning: TuningKind, quantised: bool, peak_flops: f64) -> Pace {
        let in_floats = 2.0 * ParameterCount::of(config).active() as f64 / (REACHED * peak_flops);
        let (forward, back) = match quantised {
            true => (QUANTISED_FORWARD * in_floats, QUANTISED_BACKWARD * in_floats),
            false => (in_floats, in_floats),
        };
        // Derivatives by activations, and by weights where these learn.
        let ways_back = if tuning == TuningKind::Full { 2.0 } else { 1.0 };
        let writing = forward * REACHED / REACHED_WRITING;
        Pace { forward, learning: forward + ways_back * back, writing, teacher: 0.0, measured: false }
    }
}

/// What a plan is made for.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// The model that learns.
    pub config: &'a ModelConfig,
    /// What a step computes.
    pub tokens: StepTokens,
    /// Examples, or prompts, to learn from.
    pub examples: usize,
    /// The models that are in memory.
    pub models: PlannedModel,
    /// Bytes that the run may take.
    pub memory_bytes: Option<u64>,
    /// Bytes that are free where checkpoints go.
    pub disk_bytes: Option<u64>,
    /// How fast this machine is.
    pub pace: Pace,
    /// What energy and time cost.
    pub prices: Prices,
}

/// A run's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlignPlan {
    /// The method.
    pub method: Method,
    /// Which weights learn.
    pub tuning: TuningKind,
    /// Parameters of the model.
    pub parameters: u64,
    /// Parameters that learn; those of a critic aside.
    pub learning_parameters: u64,
    /// Updates of the data: steps.
    pub steps: u64,
    /// Examples or prompts of a step.
    pub step_examples: usize,
    /// Answers to each prompt; 0 where none are written.
    pub answers: usize,
    /// What a step computes.
    pub tokens: StepTokens,
    /// Passes over the examples.
    pub passes: f64,
    /// Bytes of memory at the peak.
    pub memory: PlannedMemory,
    /// Bytes that the run may take.
    pub memory_available: Option<u64>,
    /// Bytes of checkpoints.
    pub disk: u64,
    /// Bytes that are free there.
    pub disk_available: Option<u64>,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// Of these, seconds in which answers are written.
    pub writing_seconds: f64,
    /// Seconds before the first step: the reference's log-probabilities.
    pub preparing_seconds: f64,
    /// Of what the times were computed.
    pub pace: Pace,
    /// Joules.
    pub joules: f64,
    /// Price of energy and time.
    pub price: f64,
    /// What energy and time cost.
    pub prices: Prices,
}

/// Why a run cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanRefusal {
    /// Not enough memory.
    #[error(
        "the run needs about {} of memory and {} are there ({parts}): {advice}",
        bytes_text(*needed), bytes_text(*available)
    )]
    Memory {
        /// Bytes at the peak.
        needed: u64,
        /// Bytes that the run may take.
        available: u64,
        /// The parts and their bytes.
        parts: String,
        /// What helps.
        advice: String,
    },
    /// Not enough disk.
    #[error(
        "checkpoints need {} on disk and {} are free: keep fewer (intervals.keep), train an adapter instead of all weights, or choose another folder",
        bytes_text(*needed), bytes_text(*available)
    )]
    Disk {
        /// Bytes of checkpoints.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
}

impl AlignPlan {
    /// Computes the cost of a run.
    pub fn of(configuration: &Configuration, circumstances: &Circumstances<'_>) -> AlignPlan {
        let Circumstances { config, tokens, models, pace, prices, .. } = circumstances;
        let memory = PlannedMemory::of(configuration, config, tokens, models);
        let parameters = ParameterCount::of(config).total();
        let learning_parameters = match configuration.tuning.kind {
            TuningKind::Full => parameters,
            TuningKind::Lora => memory::adapter_elements(config, &configuration.tuning, models),
        };
        let steps = configuration.schedule.steps;
        let (mut step, mut writing, mut preparing) = (pace.learning * tokens.mean, 0.0, 0.0);
        let method = configuration.method;
        if let (Some(rollout), Some(policy)) = (configuration.rollout, configuration.policy) {
            let answers = configuration.batch.examples * rollout.answers;
            writing = pace.writing * (answers * rollout.max_tokens) as f64;
            step *= policy.epochs as f64;
            // The reference, the reward models and the critic's first values read all that was written once.
            let needs_reference =
                policy.kl > 0.0 || configuration.watch.is_some_and(|watch| watch.most_kl > 0.0);
            let readers = u8::from(needs_reference)
                + models.reward_models as u8
                + u8::from(configuration.critic.is_some());
            if configuration.critic.is_some() {
                step *= 2.0;
            }
            step += writing + f64::from(readers) * pace.forward * tokens.mean;
        } else if matches!(method, Method::Dpo | Method::Kto) {
            let of_examples = tokens.mean / configuration.batch.examples.max(1) as f64;
            preparing = pace.forward * of_examples * circumstances.examples as f64;
            if method == Method::Kto {
                // Each prompt with the answer to another one, by the model and by the reference.
                preparing *= 2.0;
                step += pace.forward * tokens.mean;
            }
        } else if let Some(distillation) = configuration.distillation {
            let room = configuration.rollout.map_or(0, |rollout| rollout.max_tokens);
            let own = distillation.own_answers * (configuration.batch.examples * room) as f64;
            writing = pace.writing * own;
            step += writing + pace.teacher * tokens.mean;
        }
        let seconds = preparing + step * steps as f64;
        let joules = seconds * prices.watts;
        AlignPlan {
            method,
            tuning: configuration.tuning.kind,
            parameters,
            learning_parameters,
            steps,
            step_examples: configuration.batch.examples,
            answers: configuration.policy.and(configuration.rollout).map_or(0, |rollout| rollout.answers),
            tokens: *tokens,
            passes: steps as f64 * configuration.batch.examples as f64 / circumstances.examples.max(1) as f64,
            disk: memory::checkpoint_bytes(configuration, config, models),
            disk_available: circumstances.disk_bytes,
            memory_available: circumstances.memory_bytes,
            memory,
            step_seconds: step,
            writing_seconds: writing,
            preparing_seconds: preparing,
            pace: *pace,
            joules,
            price: prices.of(joules, seconds),
            prices: prices.clone(),
        }
    }

    /// Seconds of the run, without measurements on held-out examples, samples and checkpoints.
    pub fn seconds(&self) -> f64 {
        self.preparing_seconds + self.step_seconds * self.steps as f64
    }

    /// Whether the run fits into memory and on the disk.
    ///
    /// # Errors
    /// [`PlanRefusal`], with the figures.
    pub fn check(&self) -> Result<(), PlanRefusal> {
        let needed = self.memory.total;
        if let Some(available) = self.memory_available.filter(|available| needed > *available) {
            let parts = self.memory.parts().map(|(name, bytes)| format!("{name} {}", bytes_text(bytes)));
            let parts = parts.collect::<Vec<_>>().join(", ");
            return Err(PlanRefusal::Memory { needed, available, parts, advice: self.advice(available) });
        }
        match self.disk_available {
            Some(available) if self.disk > available => {
                Err(PlanRefusal::Disk { needed: self.disk, available })
            }
            _ => Ok(()),
        }
    }

    /// What makes the largest parts smaller.
    fn advice(&self, available: u64) -> String {
        let memory = &self.memory;
        let mut advice = Vec::new();
        let of_batch = memory.activations + memory.logits;
        if of_batch * 4 > memory.total {
            advice.push("lower batch.micro_tokens, or let layers be computed again");
        }
        if memory.rollouts * 4 > memory.total {
            advice.push("lower batch.examples, rollout.answers or rollout.max_tokens");
        }
        if (memory.gradients + memory.optimiser + memory.reference) * 4 > memory.total
            && self.tuning == TuningKind::Full
        {
            advice.push("train an adapter instead of all weights");
        }
        if memory.weights * 4 > memory.total || memory.weights > available {
            advice.push("take a smaller model or one that is quantised");
        }
        if (memory.critic + memory.reward_models) * 4 > memory.total {
            advice.push("take a reward model that is an adapter, or a method without a critic");
        }
        if memory.teacher * 4 > memory.total {
            advice.push(
                "take a teacher that is smaller or quantised, or learn from answers that it writes first",
            );
        }
        if advice.is_empty() {
            advice.push("lower batch.micro_tokens, or take a smaller model");
        }
        advice.join("; ")
    }
}

#[cfg(test)]
mod tests;
