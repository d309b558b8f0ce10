//! `zhenjin sft`, `reward`, `dpo`, `kto`, `ppo`, `grpo`, `distill`: a model trained further, in a folder that a killed run goes on from.

mod answerer;
mod arguments;
mod continued;
mod distill;
mod examples;
mod loaded;
mod made;
mod offline;
mod online;
mod opened;
mod planned;
mod replay;
mod reward_models;
mod rewards;
mod teaching;

pub(crate) use arguments::{
    AlignArguments, BadArgument, DISTILL_EXAMPLES, DistillArguments, ONLINE_EXAMPLES, OnlineArguments,
    OverlongArgument, PAIR_EXAMPLES, SFT_EXAMPLES,
};
pub(crate) use examples::paragraphs;
pub(crate) use loaded::Loaded;
pub(crate) use offline::ReferenceProgress;
pub(crate) use reward_models::{check_room, open_reward_model};
pub(crate) use rewards::{ModelRewards, RewardLimits, reward_expression};

use made::MadeFolders;
use opened::{Opened, open};

use super::training::{self, Interrupted, RunFolder};
use crate::home::Home;
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;
use time::OffsetDateTime;
use zhenjin_align::configuration::{AnchorSection, Configuration, Method, TuningKind};
use zhenjin_align::run::{Run, Training};
use zhenjin_tensor::{ComputeOptions, TensorError};
use zhenjin_train::checkpoint::Checkpoint;
use zhenjin_train::configuration::Overrides;
use zhenjin_train::energy::{EnergyMeter, POWER_CAPPING_FOLDER};
use zhenjin_train::metrics::{Observer, TensorBoard};
use zhenjin_train::training::{Gauges, Outcome};

pub(crate) fn run_offline(home: &Home, method: Method, arguments: &AlignArguments) -> Result<()> {
    arguments.check(method)?;
    let _priority = arguments.priority.begin();
    offline::run(home, method, arguments)
}

pub(crate) fn run_online(home: &Home, method: Method, arguments: &OnlineArguments) -> Result<()> {
    arguments.align.check(method)?;
    let _priority = arguments.align.priority.begin();
    online::run(home, method, arguments)
}

pub(crate) fn distill(home: &Home, arguments: &DistillArguments) -> Result<()> {
    let _priority = arguments.align.priority.begin();
    distill::run(home, arguments)
}

/// A run's folder, the checkpoint that it goes on from, and its settings.
struct Begun {
    /// Before the folder's lock, which is let go of last.
    _made: Option<MadeFolders>,
    folder: RunFolder,
    checkpoint: Option<Checkpoint>,
    overrides: Overrides,
}

impl Begun {
    fn new(arguments: &AlignArguments, overrides: Overrides) -> Result<Begun> {
        let folder = RunFolder::new(&arguments.out);
        let mut made = None;
        let checkpoint = match &arguments.resume {
            None if arguments.only_looks() => None,
            Some(resume) if arguments.only_looks() => folder.checkpoint_to_look_at(resume)?,
            resume => {
                let checkpoint = folder.checkpoint_to_resume(resume.as_deref())?;
                // Before training, some methods work for long in the folder.
                made = Some(MadeFolders::by(folder.path(), || folder.lock())?);
                checkpoint
            }
        };
        if let (Some(adapter), None) = (&arguments.adapter, &checkpoint) {
            continued::refuse_settings(adapter, arguments)?;
        }
        Ok(Begun { _made: made, folder, checkpoint, overrides })
    }

    /// Takes over what an adapter that is trained further decides. A run that goes on has it in its settings.
    fn continue_adapter(&mut self, arguments: &AlignArguments, opened: &Opened) {
        if let (Some(adapter), Some(continued), None) =
            (&arguments.adapter, &opened.continued, &self.checkpoint)
        {
            continued.settings(adapter, &mut self.overrides);
        }
    }

    /// The time that templates show: the setting, or when the run began.
    fn time(&self) -> Result<OffsetDateTime> {
        let seconds = match &self.checkpoint {
            Some(checkpoint) => {
                Configuration::from_toml(&checkpoint.state.configuration, &checkpoint.path)?.time
            }
            None => match self.overrides.whole_number("time") {
                Some(seconds) => seconds,
                None => return Ok(OffsetDateTime::now_utc()),
            },
        };
        let time = i64::try_from(seconds).ok();
        time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok()).with_context(|| {
            format!("the setting time = {seconds} is no possible time, in seconds since 1970")
        })
    }

    /// The effective configuration for so many examples.
    fn configuration(
        &self,
        method: Method,
        arguments: &AlignArguments,
        examples: usize,
        time: OffsetDateTime,
    ) -> Result<Configuration> {
        let configuration: Configuration = match &self.checkpoint {
            Some(checkpoint) => {
                let begun = Configuration::from_toml(&checkpoint.state.configuration, &checkpoint.path)?;
                if begun.method != method {
                    bail!(
                        "{} is a checkpoint of a run of `{}`, and this command trains by `{}`: give the command that the run began with, or another --out",
                        checkpoint.path.display(),
                        begun.method.name(),
                        method.name()
                    );
                }
                self.overrides.apply(&begun)?
            }
            None => {
                let mut overrides = self.overrides.clone();
                if !overrides.has("time") {
                    overrides.add("time", time.unix_timestamp().max(0));
                }
                if !arguments.anchor.is_empty() && !overrides.has("anchor.weight") {
                    overrides.add("anchor.weight", AnchorSection::WEIGHT);
                }
                Configuration::resolve(method, arguments.tuning(), examples, &overrides)?
            }
        };
        configuration.check()?;
        if configuration.method != method {
            bail!(
                "the settings are those of a run of `{}`, and this one trains by `{}`",
                configuration.method.name(),
                method.name()
            );
        }
        if arguments.full && configuration.tuning.kind != TuningKind::Full {
            bail!(
                "--full has no effect, as the settings say tuning.kind = \"lora\": leave it out, or begin anew with another --out"
            );
        }
        match (&configuration.anchor, arguments.anchor.is_empty()) {
            (Some(_), true) => bail!("the settings have an anchor: name its text with --anchor FILE"),
            (None, false) => bail!("the run that goes on has no anchor: leave --anchor out, or begin anew"),
            _ => Ok(configuration),
        }
    }
}

/// Trains, shows it, and says where the result is.
fn train<T: Training>(
    begun: &Begun,
    configuration: &Configuration,
    arguments: &AlignArguments,
    threads: usize,
    training: T,
) -> Result<()> {
    let Begun { folder, checkpoint, .. } = begun;
    let text = configuration.to_toml();
    let gauges = Gauges {
        peak_flops: None,
        resident_bytes: Some(Box::new(crate::machine::resident_bytes)),
        energy: Some(EnergyMeter::new(
            Path::new(POWER_CAPPING_FOLDER),
            arguments.prices.prices(threads).watts,
        )),
    };
    // A checkpoint of another run is refused before anything in the folder changes.
    let mut run = Run::new(configuration.clone(), training, folder.path(), gauges, checkpoint.as_ref())?;
    folder.begin(checkpoint.as_ref(), &text, &[])?;
    let steps = configuration.schedule.steps;
    let mut observers: Vec<Box<dyn Observer>> = vec![
        Box::new(folder.metrics(checkpoint.as_ref())?),
        Box::new(TensorBoard::create(folder.path())?),
        training::display(folder, steps, arguments.plain, &arguments.prices, threads)?,
    ];
    let stop = training::listen()?;
    let outcome = run.run(&mut observers, &|| stop.is_asked());
    // The dashboard gives the terminal back before anything else is said.
    drop(observers);
    match outcome? {
        Outcome::Stopped { step } => Err(Interrupted { step }.into()),
        Outcome::Finished => {
            let last = run.last_checkpoint().map(|path| path.display().to_string()).unwrap_or_default();
            eprintln!("finished after step {steps}: {last}");
            let model = arguments.model.to_string_lossy();
            match (configuration.method, configuration.tuning.kind) {
                (Method::Reward, _) => {
                    eprintln!("`zhenjin ppo {model} --reward-model {last} …` trains by it");
                }
                (_, TuningKind::Full) => eprintln!("`zhenjin serve {last}` serves it"),
                (_, TuningKind::Lora) => eprintln!("`zhenjin serve {model} --adapter NAME={last}` serves it"),
            }
            eprintln!("`zhenjin report {}` shows the run", folder.path().display());
            Ok(())
        }
    }
}

fn compute(arguments: &AlignArguments) -> Result<ComputeOptions> {
    let threads = arguments.threads.map(usize::from);
    ComputeOptions::resolve(arguments.simd.as_deref(), threads).map_err(|error| match error {
        TensorError::ThreadCount { .. } => anyhow!("--threads: {error}"),
        error => anyhow!("--simd: {error}"),
    })
}
