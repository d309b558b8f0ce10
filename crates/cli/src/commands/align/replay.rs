//! A step whose numbers were not finite, computed again.

use super::opened::{NewHead, Opened};
use super::{AlignArguments, Begun};
use crate::home::Home;
use anyhow::Result;
use std::path::Path;
use zhenjin_align::configuration::Method;
use zhenjin_align::faults::FaultyStep;
use zhenjin_train::configuration::Overrides;

/// Computes the step in `path` with the weights of --resume, or with those that the run begins with. Nothing changes.
pub(super) fn run(
    home: &Home,
    method: Method,
    arguments: &AlignArguments,
    overrides: Overrides,
    path: &Path,
) -> Result<()> {
    let step = FaultyStep::read(path)?;
    let begun = Begun::new(arguments, overrides)?;
    let configuration = begun.configuration(method, arguments, 1, begun.time()?)?;
    let opened = Opened::new(home, arguments)?;
    let config = opened.model.file.config();
    let head = (method == Method::Reward).then(|| NewHead::of_zeros(config, None));
    let mut trainee = opened.trainee(arguments, &configuration, false, head)?;
    let mut weights = "the weights that the run begins with".to_owned();
    if let Some(checkpoint) = &begun.checkpoint {
        trainee.load(&checkpoint.path, checkpoint.state.updates)?;
        weights = format!("the weights after step {}", checkpoint.state.step);
    }
    if let Some(rollout) = configuration.rollout {
        trainee.set_score_temperature(rollout.temperature as f32);
    }
    println!("kept at step {}: {}", step.step, step.fault);
    let (loss, origin) = trainee.replay(&step)?;
    println!("now, with {weights}: the mean of −log-probability is {loss}");
    println!("{}", origin.unwrap_or_else(|| "every number is finite".to_owned()));
    Ok(())
}
