//! An adapter that is trained further: its rank, alpha and projections stay as they are.

use super::AlignArguments;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;
use zhenjin_align::configuration::Projections;
use zhenjin_model::WrittenAdapter;
use zhenjin_train::configuration::Overrides;

/// The settings that it decides.
const DECIDED: [&str; 4] = ["tuning.rank", "tuning.alpha", "tuning.rank_stabilised", "tuning.projections"];

/// Refuses settings that would have no effect, and adds what the adapter's file says, so that the effective configuration is true.
pub(super) fn settings(folder: &Path, arguments: &AlignArguments, overrides: &mut Overrides) -> Result<()> {
    let is_set = |key: &&&str| {
        arguments
            .set
            .iter()
            .any(|assignment| assignment.split('=').next().is_some_and(|name| name.trim() == **key))
    };
    let given = arguments.rank.map(|_| "--rank").or(DECIDED.iter().find(is_set).copied());
    if let Some(given) = given {
        bail!(
            "{given} has no effect with --adapter {}: an adapter that is trained further keeps its rank, its alpha and its projections; leave \
             it out",
            folder.display()
        );
    }
    // A file that cannot be read is refused, with the reason, where the adapter is opened.
    let text = std::fs::read_to_string(folder.join(WrittenAdapter::SETTINGS)).unwrap_or_default();
    let settings: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(rank) = settings["r"].as_i64() {
        overrides.add("tuning.rank", rank);
    }
    if let Some(alpha) = settings["lora_alpha"].as_f64() {
        overrides.add("tuning.alpha", alpha);
    }
    if let Some(is_stabilised) = settings["use_rslora"].as_bool() {
        overrides.add("tuning.rank_stabilised", is_stabilised);
    }
    if let Some(dropout) = settings["lora_dropout"].as_f64().filter(|dropout| *dropout > 0.0) {
        eprintln!(
            "note: the adapter {} was trained with lora_dropout {dropout}; here it is trained further without dropout, and its files will say 0",
            folder.display()
        );
    }
    let modules = settings["target_modules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = modules.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    // Modules can also be named one by one, each with its layer.
    if serde_json::from_value::<Projections>(Value::from(names.as_str())).is_ok() {
        overrides.add("tuning.projections", names);
    }
    Ok(())
}
