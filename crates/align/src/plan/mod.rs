//! What a run of alignment costs, before it begins: steps, tokens, memory, disk, time; and whether it can run here at all.

mod memory;
mod text;

pub use memory::{PlannedMemory, PlannedModel, PlannedTeacher};
pub use text::plan_text;

use serde::Serialize;
use zhenjin_model::{ModelConfig, PAGE_TOKENS};
use zhenjin_train::plan::{ParameterCount, Prices, bytes_text};

use crate::configuration::{Configuration, Method, TuningKind};
use crate::methods::Examples;
use crate::micro_batches::{MicroBatch, largest, longest_answers, micro_batches};
use crate::order::Order;
use crate::packed::Packed;
use crate::rollouts::MOST_AT_ONCE;

/// How many tokens a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTokens {
    /// Of all examples of a step, in the mean; of answers that are written, as if all were as long as they may be.
    pub mean: f64,
    /// The most whose gradients are computed together.
    pub largest_micro_batch: usize,
    /// The most rows of one pass, where what documents begin with in common is computed once.
    pub different_rows: usize,
    /// Held-out prompts, where answers to them are written.
    pub held_out_prompts: usize,
    /// Pages of keys and values that the answers of a step take at most, where answers are written.
    pub pages: usize,
    /// The most rows of a piece of an anchor, of which every step computes one in a pass of its own.
    pub anchor_rows: usize,
}

/// Puts documents of these numbers one after the other.
type Packing<'a> = dyn Fn(&[usize]) -> Packed + 'a;

/// Steps of which the pages of keys and values are counted, at most.
const LOOKED_AT: u64 = 1 << 16;

/// Pages of keys and values of so many answers to prompts of these lengths. Answers share the full pages of their prompt. Where they are too many
/// to be written at once, those of the neighbours that take most are counted.
fn pages(lengths: impl Iterator<Item = usize>, answers: usize, max_tokens: usize) -> usize {
    let of_prompt = |length: usize, answers: usize| {
        let (shared, rest) = (length / PAGE_TOKENS, length % PAGE_TOKENS);
        shared + answers * (rest + max_tokens).div_ceil(PAGE_TOKENS)
    };
    let answers = answers.max(1);
    // One that is only partly written at the same time as the others counts as a whole.
    let at_once = MOST_AT_ONCE.div_ceil(answers) + usize::from(!MOST_AT_ONCE.is_multiple_of(answers));
    let each: Vec<usize> = lengths.map(|length| of_prompt(length, answers.min(MOST_AT_ONCE))).collect();
    each.windows(at_once.min(each.len()).max(1)).map(|window| window.iter().sum()).max().unwrap_or(0)
}

impl StepTokens {
    /// Of a method that learns from given answers.
    pub fn of_examples<E: Examples>(configuration: &Configuration, examples: &E) -> StepTokens {
        let rows = |example: usize| examples.rows(example);
        StepTokens::of(configuration, examples.count(), &rows, 1, Some(&|items| examples.packed(items)))
    }

    /// Of examples that have so many rows each, of which nothing else is known.
    pub fn of_rows(configuration: &Configuration, rows: &[usize]) -> StepTokens {
        StepTokens::of(configuration, rows.len(), &|example| rows[example], 1, None)
    }

    /// Of a method that writes answers to these prompts, as if all were as long as they may be.
    pub fn of_prompts(configuration: &Configuration, prompts: &[&[u32]], vocabulary: usize) -> StepTokens {
        let (answers, room) =
            configuration.rollout.map_or((1, 0), |rollout| (rollout.answers, rollout.max_tokens));
        let prompt = |example: usize| prompts[example];
        let packed = |items: &[usize]| longest_answers(items, answers, room, vocabulary, &prompt);
        let rows = |example: usize| (prompts[example].len() + room).saturating_sub(1);
        let tokens = StepTokens::of(configuration, prompts.len(), &rows, answers, Some(&packed));
        let mut order = Order::new(configuration.seed, prompts.len().max(1));
        let examples = configuration.batch.examples;
        let steps = configuration.schedule.steps.min(LOOKED_AT);
        let of_step = |step: u64| match prompts.is_empty() {
            true => 0,
            false => {
                let of_step = order.examples(step * examples as u64, examples);
                pages(of_step.iter().map(|example| prompts[*example].len()), answers, room)
            }
        };
        let pages = (0..steps).map(of_step).max().unwrap_or(0);
        StepTokens { pages, ..tokens }
    }

    /// The same, where the model answers some of a step's examples itself, to these prompts.
    #[must_use]
    pub fn with_own_answers(self, configuration: &Configuration, prompts: &[&[u32]]) -> StepTokens {
        let room = configuration.rollout.map_or(0, |rollout| rollout.max_tokens);
        let mut lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.len()).collect();
        lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        lengths.truncate(configuration.batch.examples);
        StepTokens { pages: pages(lengths.into_iter(), 1, room), ..self }
    }

    /// The same, where these prompts are answered once as well, to measure on them.
    #[must_use]
    pub fn with_held_out(self, configuration: &Configuration, prompts: &[&[u32]]) -> StepTokens {
        let room = configuration.rollout.map_or(0, |rollout| rollout.max_tokens);
        let lengths = prompts.iter().map(|prompt| prompt.len()).take(MOST_AT_ONCE);
        StepTokens { held_out_prompts: prompts.len(), pages: self.pages.max(pages(lengths, 1, room)), ..self }
    }

    /// The same, where pieces of an anchor have at most so many rows.
    #[must_use]
    pub fn with_anchor(self, rows: usize) -> StepTokens {
        StepTokens { anchor_rows: rows, ..self }
    }

    fn of(
        configuration: &Configuration,
        examples: usize,
        rows: &dyn Fn(usize) -> usize,
        answers: usize,
        packed: Option<&Packing<'_>>,
    ) -> StepTokens {
        if examples == 0 {
            return StepTokens::default();
        }
        let mut order = Order::new(configuration.seed, examples);
        let steps =
            micro_batches(&configuration.batch, &mut order, 0..configuration.schedule.steps, rows, answers);
        let sum: usize = steps.iter().flatten().map(|micro| micro.rows).sum();
        // An example that comes later may be longer than all of these.
        let longest = (0..examples).max_by_key(|example| rows(*example)).unwrap_or(0);
        let longest = MicroBatch { items: vec![longest * answers], rows: rows(longest) };
        let all = || steps.iter().flatten().chain([&longest]);
        let largest_micro_batch = all().map(|micro| micro.rows).max().unwrap_or(0);
        let different_rows = packed.and_then(|packed| largest(all(), packed)).map(|(_, rows)| rows);
        StepTokens {
            mean: sum as f64 / steps.len().max(1) as f64,
            largest_micro_batch,
            different_rows: different_rows.unwrap_or(largest_micro_batch),
            held_out_prompts: 0,
            pages: 0,
            anchor_rows: 0,
        }
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
