//! A step whose numbers were not finite, computed again.

use super::opened::{NewHead, Opened};
use super::{AlignArguments, continued};
use crate::commands::training::RunFolder;
use crate::home::Home;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use zhenjin_align::configuration::{Configuration, Method, TuningKind};
use zhenjin_align::faults::{FaultyModel, FaultyStep};
use zhenjin_align::methods::Critic;
use zhenjin_align::run::{same_data, same_model};
use zhenjin_align::trainee::Trainee;
use zhenjin_model::{AdapterValues, Model, WrittenAdapter};
use zhenjin_train::checkpoint::Checkpoint;
use zhenjin_train::configuration::{Overrides, differing_keys};

/// Computes the step in `path` with the weights of --resume, else of the checkpoint that it names, else those that the run begins with. Nothing
/// changes, and nothing is read but the model and the checkpoint.
pub(super) fn run(
    home: &Home,
    method: Method,
    arguments: &AlignArguments,
    overrides: Overrides,
    path: &Path,
) -> Result<()> {
    if arguments.dry_run {
        bail!(
            "--dry-run shows what a run would cost, and --replay computes one step again: give one of the two"
        );
    }
    let step = FaultyStep::read(path)?;
    let checkpoint = checkpoint(arguments, &step)?;
    let opened = Opened::new(home, arguments)?;
    let configuration =
        configuration(method, arguments, &opened, &overrides, &step, path, checkpoint.as_ref())?;
    let begun_with = checkpoint.as_ref().map_or(&step.data, |checkpoint| &checkpoint.state.data);
    // As precisely as the run computed.
    let in_f32 = arguments.f32 || begun_with.contains(" [in f32");
    let arguments = &AlignArguments { f32: in_f32, ..arguments.clone() };
    let model = step.known_model().unwrap_or(match method {
        Method::Reward => FaultyModel::RewardModel,
        _ => FaultyModel::Policy,
    });
    let replay = Replay { arguments, opened: &opened, configuration: &configuration, begun_with };
    let mut trainee = match (model, &checkpoint) {
        (FaultyModel::Critic, Some(checkpoint)) => replay.critic(checkpoint).with_context(|| {
            format!(
                "the numbers are those of the critic, which cannot be opened in {}, so that it cannot be told where they come from",
                checkpoint.path.display()
            )
        })?,
        (FaultyModel::Critic, None) => bail!(
            "the numbers are those of the critic, whose weights only a checkpoint has, and none is there: it cannot be told where they come from; \
             --resume PATH names a checkpoint"
        ),
        _ => replay.trainee(model, checkpoint.as_ref())?,
    };
    println!("kept at step {}: {}", step.step, step.fault);
    step.origin.iter().for_each(|origin| println!("found then: {origin}"));
    let weights = tell_weights(&step, checkpoint.as_ref());
    let (mean, origin) = trainee.replay(&step)?;
    let what = if model.gives_values() { "the values" } else { "−log-probability" };
    println!("now, with {weights}: the mean of {what} is {mean}");
    println!(
        "{}",
        origin.unwrap_or_else(|| {
            "with these weights each document alone is finite, and its gradients are; the method's loss and sums over documents are not \
             computed again, so that it cannot be told where the number came from"
                .to_owned()
        })
    );
    Ok(())
}

/// The checkpoint of --resume; else the one that the step names, where it was or in the run's folder.
fn checkpoint(arguments: &AlignArguments, step: &FaultyStep) -> Result<Option<Checkpoint>> {
    if let Some(resume) = &arguments.resume {
        return RunFolder::new(&arguments.out).checkpoint_to_look_at(resume);
    }
    let Some(named) = &step.checkpoint else { return Ok(None) };
    // Its path may be one from where the run was started, and folders are moved.
    let moved = named.file_name().map(|name| arguments.out.join("checkpoints").join(name));
    let Some(path) = [Some(named.clone()), moved].into_iter().flatten().find(|path| path.is_dir()) else {
        println!(
            "note: the step names the checkpoint {}, which is not there any more; --resume names another",
            named.display()
        );
        return Ok(None);
    };
    let opened = Checkpoint::open(&path);
    Ok(Some(opened.context("the checkpoint that the step names cannot be read; --resume names another")?))
}

/// The settings of the checkpoint's run, else those that the step was made with, else those of the arguments; with `overrides`. What the run reads
/// beside its model, such as an anchor's text, is not needed for it.
fn configuration(
    method: Method,
    arguments: &AlignArguments,
    opened: &Opened,
    overrides: &Overrides,
    step: &FaultyStep,
    path: &Path,
    checkpoint: Option<&Checkpoint>,
) -> Result<Configuration> {
    let of_step = match step.configuration.is_empty() {
        true => None,
        false => Some(Configuration::from_toml(&step.configuration, path)?),
    };
    let of_checkpoint = match checkpoint {
        Some(checkpoint) => {
            Some(Configuration::from_toml(&checkpoint.state.configuration, &checkpoint.path)?)
        }
        None => None,
    };
    let configuration: Configuration = match of_checkpoint.or_else(|| of_step.clone()) {
        Some(begun) => overrides.apply(&begun)?,
        None => {
            let mut overrides = overrides.clone();
            if let (Some(adapter), Some(continued)) = (&arguments.adapter, &opened.continued) {
                continued::refuse_settings(adapter, arguments)?;
                continued.settings(adapter, &mut overrides);
            }
            Configuration::resolve(method, arguments.tuning(), 1, &overrides)?
        }
    };
    configuration.check()?;
    if configuration.method != method {
        let name = configuration.method.name();
        bail!("{} is a step of a run of `{name}`: give --replay to `zhenjin {name}`", path.display());
    }
    let mut others = of_step.map(|of_step| differing_keys(&configuration, &of_step)).unwrap_or_default();
    others.retain(|(key, ..)| !key.starts_with("intervals."));
    for (key, now, then) in others {
        println!("note: {key} is {now} here, and was {then} when the step was made");
    }
    Ok(configuration)
}

/// Which weights the step is computed with, and in which way they are others than those that it was made with.
fn tell_weights(step: &FaultyStep, checkpoint: Option<&Checkpoint>) -> String {
    let before = step.step.saturating_sub(1);
    let after = checkpoint.map_or(0, |checkpoint| checkpoint.state.step);
    if after != before {
        println!(
            "note: the step was made with the weights after step {before}, and these are those after step {after}: its numbers are others now"
        );
    }
    if step.updates > 0 {
        println!(
            "note: the step had made {} of its updates before, and no checkpoint has the weights after them: its numbers are others now",
            step.updates
        );
    }
    if let Some(checkpoint) = checkpoint
        && !step.data.is_empty()
        && !same_data(&checkpoint.state.data, &step.data)
    {
        println!("note: {} is of a run with other data than the step's", checkpoint.path.display());
    }
    match checkpoint {
        Some(checkpoint) => format!("the weights after step {after}, of {}", checkpoint.path.display()),
        None => "the weights that the run begins with".to_owned(),
    }
}

/// What models are opened by.
struct Replay<'a> {
    arguments: &'a AlignArguments,
    opened: &'a Opened,
    configuration: &'a Configuration,
    /// The fingerprint of the run's data and model; empty where nobody knows it.
    begun_with: &'a str,
}

impl Replay<'_> {
    /// The policy or the reward model.
    fn trainee(&self, model: FaultyModel, checkpoint: Option<&Checkpoint>) -> Result<Trainee> {
        let config = self.opened.model.file.config();
        let head = (model == FaultyModel::RewardModel).then(|| NewHead::of_zeros(config, None));
        let mut trainee = self.opened.trainee(self.arguments, self.configuration, false, head)?;
        self.expect_same_model(&trainee)?;
        match checkpoint {
            Some(checkpoint) => trainee.load(&checkpoint.path, checkpoint.state.updates)?,
            None if !self.begun_with.is_empty() && !self.begun_with.contains(&trainee.beginning()) => {
                println!(
                    "note: the run began with another adapter, or the model in another precision, than are given here"
                );
            }
            None => {}
        }
        if let Some(rollout) = self.configuration.rollout.filter(|_| self.configuration.method.is_online()) {
            trainee.set_score_temperature(rollout.temperature as f32);
        }
        Ok(trainee)
    }

    /// The critic as a checkpoint has it, whatever it began as.
    fn critic(&self, checkpoint: &Checkpoint) -> Result<Trainee> {
        let named = |name: &str| checkpoint.path.join(format!("{}{name}", Critic::PREFIX));
        let file = &self.opened.model.file;
        let mut config = file.config().clone();
        let head = vec![0.0; config.hidden_size];
        let mut tuning = self.configuration.tuning;
        let settings = named(WrittenAdapter::SETTINGS);
        let (model, adapter) = match settings.is_file() {
            true => {
                let in_f32 = self.arguments.f32 || tuning.kind == TuningKind::Full;
                let adapter = AdapterValues::read(&settings, &named(WrittenAdapter::TENSORS), &config)?;
                tuning.kind = TuningKind::Lora;
                tuning.rank = tuning.rank.max(1);
                (self.opened.weights(in_f32)?, Some(adapter))
            }
            false => {
                tuning.kind = TuningKind::Full;
                // A model that gives values has no head for tokens.
                config.tied_embeddings = true;
                (Arc::new(Model::from_source_in_f32(config, file, &self.opened.load)?), None)
            }
        };
        let options = self.opened.options(self.arguments, self.configuration, tuning, Vec::new());
        let mut critic = Trainee::new(model, adapter.as_ref(), Some(head), options)?;
        // Whole weights of its own take the place of all others.
        if adapter.is_some() {
            self.expect_same_model(&critic)?;
        }
        critic.load_as(&checkpoint.path, Critic::PREFIX, checkpoint.state.updates)?;
        Ok(critic)
    }

    /// Numbers of another model, whose shapes may fit, say nothing of the step.
    fn expect_same_model(&self, trainee: &Trainee) -> Result<()> {
        if self.begun_with.is_empty() {
            println!(
                "note: the step's file does not say with which model the run began: make sure that it was this one"
            );
        } else if !same_model(self.begun_with, &trainee.beginning()) {
            bail!(
                "{}: the step was made with another model (its run began with {}, this is {}): give the model that the run began with",
                self.arguments.model.display(),
                self.begun_with,
                trainee.beginning()
            );
        }
        Ok(())
    }
}
