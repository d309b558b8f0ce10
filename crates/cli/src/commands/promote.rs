//! `zhenjin promote` and `zhenjin rollback`: which trained weights answer under a model's name. A running server follows within a second.

use crate::home::Home;
use crate::machine;
use crate::text::shown;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use zhenjin_hub::ModelStore;
use zhenjin_model::ModelFile;
use zhenjin_promotions::{
    Improvement, ImprovementState, Improvements, ModelPromotions, Origin, Promoted, Promotions,
};

pub(crate) const PROMOTE_EXAMPLES: &str = "Examples:
  zhenjin promote smollm2:135m runs/dpo/checkpoints/step-00000100
  zhenjin promote smollm2:135m --improvement 20261127-101500
  zhenjin promote
  zhenjin rollback smollm2:135m

What is promoted answers under the model's own name; a server that is running notices within a second, and answers under way end as they
began. MODEL+base is the model without it. A file or folder has the name by which the server was told to serve it.";

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
    let mut name = known_name(home, &promotions, model)?;
    let promoted = match (&arguments.improvement, &arguments.weights) {
        (Some(id), _) => {
            // Its record has the name under which the model was served then.
            let given = model.to_string_lossy();
            let record = Improvements::new(home.improvements()).read(id)?;
            if record.model == given {
                name = given.into_owned();
            }
            if let Some(note) = compared_with_other(&promotions, &record)? {
                eprintln!("note: {}", shown(&note));
            }
            promote_improvement(home, &name, id)?
        }
        (None, Some(weights)) => {
            check(home, model, weights)?;
            promotions.promote(&name, weights, now(), origin(weights))?
        }
        (None, None) => bail!("name the weights, or an improvement"),
    };
    println!("{} {}", described(Some(&promoted)), answers(&promotions, &name)?);
    Ok(())
}

/// The name by which a server knows the model of that name or at that path: the running server's own name for these files, or the one under
/// which something was promoted for them.
fn known_name(home: &Home, promotions: &Promotions, model: &OsString) -> Result<String> {
    let given = model.to_string_lossy().into_owned();
    let local = ModelStore::new(home.models()).resolve(model).ok();
    let path = local.and_then(|local| local.path.canonicalize().ok());
    let is_same = |other: &Path| path.is_some() && other.canonicalize().ok() == path;
    let served = promotions.served()?.unwrap_or_default();
    let list = promotions.read()?;
    if let Some(model) = served.iter().find(|model| model.name == given) {
        return match (&path, model.path.canonicalize()) {
            (Some(path), Ok(other)) if *path != other => bail!(
                "the running server serves {} as `{given}`, and not {}: give the path of the one that is meant",
                other.display(),
                path.display()
            ),
            _ => Ok(given),
        };
    }
    let of_server = served.iter().find(|model| is_same(&model.path)).map(|model| &model.name);
    let of_list = || list.keys().find(|name| is_same(Path::new(name)));
    match of_server.or_else(|| list.get_key_value(&given).map(|(name, _)| name)).or_else(of_list) {
        Some(known) if *known != given => {
            eprintln!("{} is known as {}", shown(&given), shown(known));
            Ok(known.clone())
        }
        _ => Ok(given),
    }
}

/// Whether requests to `name` are answered now by what was promoted for it.
pub(super) fn answers(promotions: &Promotions, name: &str) -> Result<String> {
    let shown_name = shown(name);
    let now = match promotions.served()? {
        Some(served) if served.iter().any(|model| model.name == name) => {
            return Ok(format!("answers as {shown_name} from now on"));
        }
        None => "none runs now".to_owned(),
        Some(served) if served.is_empty() => "the one that runs serves none yet".to_owned(),
        Some(served) => {
            let names: Vec<String> = served.iter().map(|model| shown(&model.name)).collect();
            format!("the one that runs serves {}", names.join(", "))
        }
    };
    Ok(format!("answers as {shown_name} when a server serves a model of that name: {now}"))
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

/// Says what an improvement was compared with, if something else answers now.
pub(super) fn compared_with_other(promotions: &Promotions, record: &Improvement) -> Result<Option<String>> {
    let now = promotions.answering(&record.model)?;
    Ok(record.expect_compared_with(now.as_ref()).err().map(|error| error.to_string()))
}

pub(crate) fn roll_back(home: &Home, arguments: &RollbackArguments) -> Result<()> {
    let promotions = Promotions::new(home.promoted());
    let given = arguments.model.to_string_lossy().into_owned();
    // What was promoted under exactly this name, even if no server has it.
    let name = match promotions.read()?.contains_key(&given) {
        true => given,
        false => known_name(home, &promotions, &arguments.model)?,
    };
    let now = promotions.roll_back(&name)?;
    println!("{} {}", described(now.as_ref()), answers(&promotions, &name)?);
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

/// Where the weights are from, and what the files around them say.
fn origin(weights: &Path) -> Origin {
    Origin { source: Some(weights.display().to_string()), ..Origin::around(weights) }
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
    let Origin { method, improvement, source, data, gate } = &promoted.origin;
    let method = method.as_deref().unwrap_or("weights");
    let from = match (improvement, source) {
        (Some(improvement), _) => format!(" of the improvement {improvement}"),
        (None, Some(source)) => format!(" from {source}"),
        (None, None) => String::new(),
    };
    let data = data.as_ref().map(|data| format!(", {data}")).unwrap_or_default();
    let gate = gate.as_ref().map(|gate| format!(" ({gate})")).unwrap_or_default();
    shown(&format!("{} ({method}{from}{data}){gate}", promoted.id))
}

/// Milliseconds since 1970 (UTC).
pub(super) fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
