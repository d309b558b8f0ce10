//! What a run of alignment will cost, shown before it begins; a run that cannot fit is refused.

use super::opened::Opened;
use super::{AlignArguments, Begun};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zhenjin_align::configuration::{Configuration, Projections, RolloutSection, TuningKind};
use zhenjin_align::plan::{AlignPlan, Circumstances, Pace, PlannedModel, StepTokens, plan_text};
use zhenjin_align::rollouts::{Job, RolloutOptions, Rollouts};
use zhenjin_align::teacher::Teacher;
use zhenjin_align::trainee::Trainee;
use zhenjin_model::{Adapter, LayerWeightName, Model, ModelConfig, TensorSource, WeightName};
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
        // One that is trained further has its additions already.
        if tuning == TuningKind::Lora
            && self.opened.continued.is_none()
            && let Some(note) = without_addition(config, &self.configuration.tuning.projections)
        {
            eprintln!("{note}");
        }
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
    Ok(PlannedModel {
        weights,
        reward_weights,
        reward_models: reward_models.len(),
        rollout_weights,
        adapter_elements: opened.continued.map(|continued| continued.elements),
        teacher: None,
        recomputes: arguments.recompute,
        whole_critic: false,
    })
}

/// A note of the chosen projections that not every layer of the model has; `None` where all have all.
fn without_addition(config: &ModelConfig, projections: &Projections) -> Option<String> {
    let of_layers: Vec<LayerWeightName> = config
        .weights()
        .filter_map(|weight| match weight {
            WeightName::Layer(_, weight) => Some(weight),
            _ => None,
        })
        .collect();
    let counted = projections.named().map(|(name, weight)| {
        let layers = of_layers.iter().filter(|of_layer| **of_layer == weight).count();
        (name, layers)
    });
    let few = counted.filter(|(_, layers)| *layers < config.layers);
    let few: Vec<String> = few.map(|(name, layers)| format!("{name} is in {layers}")).collect();
    if few.is_empty() {
        return None;
    }
    let experts = if config.experts.is_some() { "; experts of a mixture get no addition" } else { "" };
    Some(format!(
        "note: not all that tuning.projections names is in every layer: of {} layers {}{experts}",
        config.layers,
        few.join(", ")
    ))
}

/// Bytes of a file's weights.
pub(super) fn bytes_of(file: &zhenjin_model::ModelFile) -> Result<u64> {
    let mut bytes = 0;
    for name in file.config().weights() {
        bytes += file.tensor(name)?.bytes.len() as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_model::config::ExpertsConfig;
    use zhenjin_model::testing::tiny_config;

    /// Regression: "all" reached attention alone where the feed-forward networks are mixtures, and nobody was told.
    #[test]
    fn projections_that_layers_do_not_have_are_told() {
        let config = tiny_config();
        assert_eq!(without_addition(&config, &Projections::ALL), None);
        let mixture = |dense_layers: Vec<usize>| {
            let experts = ExpertsConfig {
                count: 4,
                active: 2,
                intermediate_size: 32,
                normalise: true,
                every: 1,
                dense_layers,
            };
            ModelConfig { experts: Some(experts), ..tiny_config() }
        };
        for (dense_layers, expected) in
            [(vec![], "gate_proj is in 0, up_proj"), (vec![0], "up_proj is in 1, down")]
        {
            let mixture = mixture(dense_layers);
            assert_eq!(without_addition(&mixture, &Projections::ATTENTION), None);
            let note = without_addition(&mixture, &Projections::ALL).expect("a note");
            assert!(note.contains(expected) && note.contains("experts"), "{note}");
            assert!(!note.contains("q_proj"), "{note}");
        }
    }
}
