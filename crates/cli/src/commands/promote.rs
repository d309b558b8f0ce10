//! `zhenjin promote` and `zhenjin rollback`: which trained weights answer under a model's name. A running server follows within a second.

use crate::home::Home;
use crate::machine;
use crate::text::shown;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use zhenjin_align::configuration::Configuration;
use zhenjin_hub::ModelStore;
use zhenjin_model::ModelFile;
use zhenjin_promotions::{ImprovementState, Improvements, ModelPromotions, Origin, Promoted, Promotions};

pub(crate) const PROMOTE_EXAMPLES: &str = "Examples:
  zhenjin promote smollm2:135m runs/dpo/checkpoints/step-00000100
  zhenjin promote smollm2:135m --improvement 20261127-101500
  zhenjin promote
  zhenjin rollback smollm2:135m

What is promoted answers under the model's own name; a server that is running notices within a second, and answers under way end as they
began. MODEL+base is the model without it.";

#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    /// The model under whose name the weights are to answer; without it: show what answers under all names
    #[arg(value_name = "MODEL", requires = "promoted")]
    model: Option<OsString>,
    /// A checkpoint or a folder with an adapter, a model's folder, or a GGUF file
    #[arg(value_name = "WEIGHTS", group = "promoted")]
    weights: Option<PathBuf>,
    /// An improvement that passed its gate
    #[arg(long, value_name = "ID", group = "promoted")]
    improvement: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "model")]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// The model whose promotion is taken back: what answered before answers again
    #[arg(value_name = "MODEL")]
    model: OsString,
}

pub(crate) fn promote(home: &Home, arguments: &PromoteArguments) -> Result<()> {
    let promotions = Promotions::new(home.promoted());
    let Some(model) = &arguments.model else { return show(&promotions, arguments.json) };
    let name = model.to_string_lossy();
    let promoted = match (&arguments.improvement, &arguments.weights) {
        (Some(id), _) => promote_improvement(home, &name, id)?,
        (None, Some(weights)) => {
            check(home, model, weights)?;
            promotions.promote(&name, weights, now(), origin(weights))?
        }
        (None, None) => bail!("name the weights, or an improvement"),
    };
    println!("{} answers as {} from now on", described(Some(&promoted)), shown(&name));
    Ok(())
}

/// Promotes an improvement that passed its gate.
pub(super) fn promote_improvement(home: &Home, model: &str, id: &str) -> Result<Promoted> {
    let improvements = Improvements::new(home.improvements());
    let record = improvements.read(id)?;
    if record.model != model {
        bail!("the improvement {id} is for `{}`, not for `{model}`", record.model);
    }
    if record.state != ImprovementState::Passed {
        bail!("the improvement {id} did not pass its gate: `zhenjin improve --show {id}` says why");
    }
    let adapter = improvements.adapter_of(id)?;
    Ok(Promotions::new(home.promoted()).promote(model, &adapter, now(), record.origin())?)
}

pub(crate) fn roll_back(home: &Home, arguments: &RollbackArguments) -> Result<()> {
    let model = arguments.model.to_string_lossy();
    let now = Promotions::new(home.promoted()).roll_back(&model)?;
    println!("{} answers as {} again", described(now.as_ref()), shown(&model));
    Ok(())
}

/// Refuses weights that could not answer in the model's place.
fn check(home: &Home, model: &OsString, weights: &Path) -> Result<()> {
    let local = machine::resolve(&ModelStore::new(home.models()), model)?;
    let is_adapter = weights.join("adapter_config.json").is_file()
        || weights.file_name().is_some_and(|name| name.to_string_lossy().starts_with("adapter_"));
    if is_adapter {
        let file = ModelFile::open(&local.path)?;
        machine::open_adapter(weights, &file)
            .with_context(|| format!("{} is no adapter to {}", weights.display(), model.to_string_lossy()))?;
    } else {
        zhenjin_hub::open(weights)?;
    }
    Ok(())
}

/// What the weights' folder says of where they came from: a run's checkpoints lie in its folder.
fn origin(weights: &Path) -> Origin {
    let run = weights.parent().and_then(Path::parent);
    let configuration = run.and_then(|run| {
        let path = run.join("run.toml");
        Configuration::from_toml(&std::fs::read_to_string(&path).ok()?, &path).ok()
    });
    Origin {
        method: configuration.map(|configuration| configuration.method.name().to_owned()),
        source: Some(weights.display().to_string()),
        ..Origin::default()
    }
}

fn show(promotions: &Promotions, json: bool) -> Result<()> {
    let list = promotions.read()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    if list.is_empty() {
        println!("nothing was promoted: every model answers with its own weights");
    }
    for (model, ModelPromotions { now, earlier }) in list {
        println!("{}: {}", shown(&model), described(now.as_ref()));
        for before in earlier.iter().rev() {
            println!("    before: {}", described(before.as_ref()));
        }
    }
    Ok(())
}

fn described(promoted: Option<&Promoted>) -> String {
    let Some(promoted) = promoted else { return "the model itself".to_owned() };
    let Origin { method, improvement, source, gate, .. } = &promoted.origin;
    let method = method.as_deref().unwrap_or("weights");
    let from = match (improvement, source) {
        (Some(improvement), _) => format!(" of the improvement {improvement}"),
        (None, Some(source)) => format!(" from {source}"),
        (None, None) => String::new(),
    };
    let gate = gate.as_ref().map(|gate| format!(" ({gate})")).unwrap_or_default();
    shown(&format!("{} ({method}{from}){gate}", promoted.id))
}

/// Milliseconds since 1970 (UTC).
pub(super) fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
