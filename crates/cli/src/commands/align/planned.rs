//! What a run of alignment will cost, shown before it begins; a run that cannot fit is refused.

use super::opened::Opened;
use super::{AlignArguments, Begun};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zhenjin_align::configuration::{Configuration, RolloutSection, TuningKind};
use zhenjin_align::plan::{AlignPlan, Circumstances, Pace, PlannedModel, StepTokens, plan_text};
use zhenjin_align::rollouts::{Job, RolloutOptions, Rollouts};
use zhenjin_align::teacher::Teacher;
use zhenjin_align::trainee::Trainee;
use zhenjin_model::{Adapter, AdapterValues, Model, ModelConfig, TensorSource};
use zhenjin_tensor::linear::peak;

/// Rows of the passes that are measured, at most.
const MEASURED_ROWS: usize = 512;
/// Tokens of the answers that are measured: the second number less the first is the time of tokens alone.
const MEASURED_TOKENS: [usize; 2] = [2, 6];

/// How answers are written, with which model, to which prompts.
type Writing<'a> = (RolloutOptions, &'a Arc<Model>, &'a [&'a [u32]]);

/// What a plan is made of beside the configuration.
pub(super) struct Planning<'a> {
    pub(super) arguments: &'a AlignArguments,
    pub(super) begun: &'a Begun,
    pub(super) opened: &'a Opened,
    pub(super) configuration: &'a Configuration,
    pub(super) tokens: StepTokens,
    pub(super) examples: usize,
    pub(super) models: PlannedModel,
    /// The shape of the model that is learnt from, if there is one.
    pub(super) teacher: Option<&'a ModelConfig>,
}

impl Planning<'_> {
    /// Shows the plan with an estimate of the time, unless times are measured next, and refuses what cannot fit.
    pub(super) fn show(&self) -> Result<()> {
        let load = &self.opened.load;
        let peak = peak::float_operations(load.simd, &load.team)?;
        let tuning = self.configuration.tuning.kind;
        let config = self.opened.model.file.config();
        // Fewer than two bytes for a parameter.
        let quantised = self.models.weights < 2 * config.parameters();
        let pace = Pace::estimate(config, tuning, quantised, peak);
        let teacher = self.teacher.map_or(0.0, |config| Pace::estimate(config, tuning, false, peak).forward);
        let plan = self.plan(Pace { teacher, ..pace })?;
        // What cannot be is said with its figures.
        plan.check()?;
        if !self.arguments.dry_run {
            eprint!("{}", plan_text(&plan));
        }
        Ok(())
    }

    /// Shows the plan with times that are measured with the run's model.
    pub(super) fn show_measured(
        &self,
        trainee: &mut Trainee,
        answers: Option<Writing<'_>>,
        teacher: Option<&mut Teacher>,
    ) -> Result<()> {
        let rows = self.tokens.largest_micro_batch.clamp(1, MEASURED_ROWS);
        let (forward, learning) = trainee.pace(rows)?;
        let writing = match answers {
            Some((options, model, prompts)) => {
                let at_once = self.configuration.batch.examples;
                writing_pace(options, model, trainee.adapter(), prompts, at_once)?
            }
            None => 0.0,
        };
        let teacher = teacher.map(|teacher| teacher.pace(rows)).transpose()?.unwrap_or(0.0);
        let plan = self.plan(Pace { forward, learning, writing, teacher, measured: true })?;
        eprint!("{}", plan_text(&plan));
        Ok(plan.check()?)
    }

    fn plan(&self, pace: Pace) -> Result<AlignPlan> {
        let arguments = self.arguments;
        let memory = arguments
            .memory
            .map_or_else(|| Ok(crate::machine::memory()?.available), |size| anyhow::Ok(size.0))?;
        let circumstances = Circumstances {
            config: self.opened.model.file.config(),
            tokens: self.tokens,
            examples: self.examples,
            models: self.models,
            memory_bytes: Some(memory),
            disk_bytes: self.begun.folder.disk_bytes(),
            pace,
            prices: arguments.prices.prices(self.opened.load.team.threads()),
        };
        Ok(AlignPlan::of(self.configuration, &circumstances))
    }
}

/// Seconds for a token of an answer, with answers to `at_once` prompts of the data written together.
pub(super) fn writing_pace(
    options: RolloutOptions,
    model: &Arc<Model>,
    adapter: Option<&Arc<Adapter>>,
    prompts: &[&[u32]],
    at_once: usize,
) -> Result<f64> {
    let rollout = options.section;
    let count = at_once * rollout.answers;
    let jobs: Vec<Job<'_>> = prompts
        .iter()
        .cycle()
        .take(at_once)
        .flat_map(|prompt| std::iter::repeat_n(*prompt, rollout.answers))
        .zip(0..)
        .map(|(prompt, seed)| Job { prompt, seed })
        .collect();
    let mut seconds = [0.0; 2];
    for (place, tokens) in MEASURED_TOKENS.into_iter().enumerate() {
        let section = RolloutSection { max_tokens: tokens.min(rollout.max_tokens), ..rollout };
        // No answer ends before the others.
        let mut rollouts =
            Rollouts::new(RolloutOptions { section, stop_tokens: Vec::new(), ..options.clone() });
        let begun = Instant::now();
        rollouts.write(model, adapter, &jobs)?;
        seconds[place] = begun.elapsed().as_secs_f64();
    }
    let tokens = (MEASURED_TOKENS[1] - MEASURED_TOKENS[0]) * count;
    let of_token = (seconds[1] - seconds[0]).max(0.0) / tokens.max(1) as f64;
    let of_prompts = (seconds[0] - of_token * (MEASURED_TOKENS[0] * count) as f64).max(0.0);
    Ok(of_token + of_prompts / (count * rollout.max_tokens).max(1) as f64)
}

/// The models of a run. What `reward_models` are is looked at without loading them.
pub(super) fn models(
    opened: &Opened,
    arguments: &AlignArguments,
    configuration: &Configuration,
    reward_models: &[&Path],
    rollout_weights: u64,
) -> Result<PlannedModel> {
    let file = &opened.model.file;
    let in_f32 = arguments.f32 || configuration.tuning.kind == TuningKind::Full;
    let weights = match in_f32 {
        true => 4 * file.config().parameters(),
        false => bytes_of(file)?,
    };
    let mut reward_weights = 0;
    for folder in reward_models.iter().filter(|folder| !folder.join("adapter_config.json").is_file()) {
        let weights = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let weights =
            weights.filter(|entry| entry.path().extension().is_some_and(|name| name == "safetensors"));
        reward_weights += weights
            .filter(|entry| entry.file_name() != "optimiser.safetensors")
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .sum::<u64>();
    }
    let adapter = arguments.adapter.as_deref().map(|path| AdapterValues::open(path, file.config()));
    let adapter = adapter.transpose()?;
    let elements = |values: AdapterValues| -> u64 {
        values.additions().iter().map(|addition| (addition.down.len() + addition.up.len()) as u64).sum()
    };
    Ok(PlannedModel {
        weights,
        reward_weights,
        reward_models: reward_models.len(),
        rollout_weights,
        adapter_elements: adapter.map(elements),
        teacher: None,
        recomputes: arguments.recompute,
        whole_critic: false,
    })
}

/// Bytes of a file's weights.
pub(super) fn bytes_of(file: &zhenjin_model::ModelFile) -> Result<u64> {
    let mut bytes = 0;
    for name in file.config().weights() {
        bytes += file.tensor(name)?.bytes.len() as u64;
    }
    Ok(bytes)
}
