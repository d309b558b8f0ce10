//! `zhenjin models` and `zhenjin rm`: what is here, what the catalogue offers.

use crate::arguments::{ModelsArguments, RemoveArguments};
use crate::home::Home;
use crate::memory_size::MemorySize;
use anyhow::Result;
use serde_json::json;
use std::io::Write;
use zhenjin_assistant::Embedder;
use zhenjin_hub::{Catalogue, CatalogueEntry, LocalModel, ModelStore};

pub(crate) fn list(home: &Home, arguments: &ModelsArguments) -> Result<()> {
    let local = ModelStore::new(home.models()).list()?;
    let offered: Vec<&CatalogueEntry> = Catalogue::embedded()
        .models()
        .iter()
        .filter(|entry| !local.iter().any(|model| model.name == entry.name))
        .collect();
    if arguments.json {
        return print_json(&local, &offered);
    }
    let mut out = std::io::stdout().lock();
    let width =
        local.iter().map(|model| model.name.len()).chain(offered.iter().map(|entry| entry.name.len())).max();
    let width = width.unwrap_or(0);
    writeln!(out, "Here:")?;
    if local.is_empty() {
        writeln!(out, "  none yet; fetch one with: zhenjin pull smollm2:135m")?;
    }
    for model in &local {
        let kind = if Embedder::is_at(&model.path) { "  (an embedding model: `zhenjin embed`)" } else { "" };
        let size = MemorySize(model.bytes).to_string();
        writeln!(out, "  {:width$}  {size:>10}  {}{kind}", model.name, source(model))?;
    }
    writeln!(out, "\nTo fetch with `zhenjin pull NAME`:")?;
    for entry in offered {
        let size = MemorySize(entry.bytes()).to_string();
        let languages = entry.languages.join(", ");
        writeln!(out, "  {:width$}  {size:>10}  {languages:8}  {}", entry.name, entry.good_for.en)?;
    }
    writeln!(out, "  any other: zhenjin pull hf:OWNER/REPO[:FILE]")?;
    Ok(())
}

fn source(model: &LocalModel) -> &str {
    model.manifest.as_ref().map_or("", |manifest| manifest.source.as_str())
}

fn print_json(local: &[LocalModel], offered: &[&CatalogueEntry]) -> Result<()> {
    let here: Vec<_> = local
        .iter()
        .map(|model| json!({"name": model.name, "bytes": model.bytes, "path": model.path.display().to_string(), "source": source(model),
                     "embeds": Embedder::is_at(&model.path)}))
        .collect();
    let catalogue: Vec<_> = offered
        .iter()
        .map(|entry| {
            json!({"name": entry.name, "bytes": entry.bytes(), "languages": entry.languages,
                   "licence": entry.licence, "good_for": entry.good_for, "embeds": entry.embeds})
        })
        .collect();
    println!("{}", serde_json::to_string(&json!({"here": here, "catalogue": catalogue}))?);
    Ok(())
}

pub(crate) fn remove(home: &Home, arguments: &RemoveArguments) -> Result<()> {
    ModelStore::new(home.models()).remove(&arguments.model)?;
    eprintln!("removed {}", arguments.model);
    Ok(())
}
