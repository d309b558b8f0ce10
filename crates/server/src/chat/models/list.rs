//! One list of the catalogue's models, the installed ones and the served ones.

use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;
use zhenjin_assistant::{ModelState, ServedModelInfo};
use zhenjin_hub::{CatalogueEntry, LocalModel};
use zhenjin_promotions::Promoted;

use super::estimates::least_by_file_size;
use super::menu::{ModelMenu, menu_fault, writers_among};
use super::promotions::PromotedJson;
use super::pulls::PullJson;
use crate::errors::ApiError;

/// A model, on this machine or available for download.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OfferedModel)]
pub(crate) struct ModelJson {
    /// Its name in requests.
    name: String,
    /// Its name for people; of `MODEL+base`, the model's and that it is without what is promoted.
    title: String,
    /// Whether the program knows it.
    source: ModelSource,
    /// Whether its files are on this machine, in the model folder or elsewhere.
    installed: bool,
    /// Whether a request may remove its files, which lie in the model folder; those elsewhere are never removed.
    removable: bool,
    /// Whether it answers.
    served: bool,
    /// Whether it is in memory.
    loaded: bool,
    /// Bytes of its files, downloaded or not.
    #[schema(required)]
    size_bytes: Option<u64>,
    /// Bytes of memory without which it cannot be loaded: weights, tokenizer, workspace and the KV cache of a short
    /// conversation. Before it is downloaded, guessed from the size of its files.
    #[schema(required)]
    least_memory_bytes: Option<u64>,
    /// Bytes of memory that are planned for it, with a KV cache for many conversations as far as the memory limit allows: those
    /// reserved if it is loaded, otherwise those that would be reserved if nothing else were. Null before it is downloaded, and
    /// where not even the least fits.
    #[schema(required)]
    planned_memory_bytes: Option<u64>,
    /// Whether the least is within the memory that models may take; null when unknown.
    #[schema(required)]
    fits: Option<bool>,
    /// Languages that it was trained for.
    languages: Vec<String>,
    /// Terms of use.
    #[schema(required)]
    licence: Option<String>,
    /// What to expect of it.
    #[schema(required)]
    good_for: Option<GoodForJson>,
    /// The most tokens of one conversation.
    #[schema(required)]
    context_length: Option<usize>,
    /// What was promoted to answer under its name; null while its own weights answer.
    #[schema(required)]
    promoted: Option<PromotedJson>,
    /// Its latest download since the server began.
    #[schema(required)]
    pull: Option<PullJson>,
}

/// Where a model is known from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelSource {
    /// The program's catalogue.
    Catalogue,
    /// This machine alone.
    Local,
}

/// What to expect of a model, in the interface's languages.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = GoodFor)]
pub(crate) struct GoodForJson {
    /// In English.
    en: String,
    /// In Chinese.
    zh: String,
}

/// What is known of one model.
struct Known<'a> {
    name: &'a str,
    entry: Option<&'a CatalogueEntry>,
    installed: Option<&'a LocalModel>,
    served: Option<&'a ServedModelInfo>,
    /// What is promoted, if that answers.
    promoted: Option<&'a Promoted>,
    /// The name of the model that it is without what is promoted, if it is that.
    alone_of: Option<String>,
}

impl<'a> Known<'a> {
    fn title(&self) -> String {
        let model = self.alone_of.as_deref().unwrap_or(self.name);
        let title = self.entry.map_or_else(|| short_name(model), |entry| entry.title.clone());
        if self.alone_of.is_some() { format!("{title} without the improvement") } else { title }
    }

    /// Where its files are; of one with an adapter, the adapter's.
    fn path(&self) -> Option<&'a Path> {
        let installed = self.installed.map(|model| model.path.as_path());
        installed.or(self.served.map(|model| model.path.as_path()))
    }

    /// The files of a model that takes memory of its own; an adapter's are no model.
    fn model_path(&self) -> Option<&'a Path> {
        let is_adapted = self.served.is_some_and(|model| model.base.is_some());
        self.path().filter(|_| !is_adapted)
    }
}

/// All models that write: the catalogue's in its order, then those on this machine, then those served from elsewhere.
pub(super) fn list(menu: &ModelMenu) -> Result<Vec<ModelJson>, ApiError> {
    let installed = writers_among(menu.library.models.list().map_err(menu_fault)?);
    let served = menu.served.list();
    let offered = menu.catalogue().models().iter().filter(|entry| !entry.embeds);
    let mut names: Vec<&str> = offered.map(|entry| entry.name.as_str()).collect();
    let others = installed
        .iter()
        .map(|model| model.name.as_str())
        .chain(served.iter().map(|model| model.name.as_str()));
    for name in others {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // A list that cannot be read is told where promotions are administered; the models are here all the same.
    let promotions = menu.library.promotions.read().unwrap_or_default();
    let known = names.into_iter().map(|name| {
        let served = served.iter().find(|model| model.name == name);
        let is_promoted = served.is_some_and(|model| model.promoted.is_some());
        let of_model = promotions.get(name).filter(|_| is_promoted);
        let alone_of = served.and_then(|_| menu.served.without_promotion(name));
        Known {
            name,
            entry: menu.catalogue().get(alone_of.as_deref().unwrap_or(name)),
            installed: installed.iter().find(|model| model.name == name),
            served,
            promoted: of_model.and_then(|of_model| of_model.now.as_ref()),
            alone_of,
        }
    });
    Ok(known.map(|known| describe(menu, &known)).collect())
}

fn describe(menu: &ModelMenu, known: &Known<'_>) -> ModelJson {
    let (entry, served, serving) = (known.entry, known.served, menu.served.options());
    let path = known.path();
    let estimate = known.model_path().and_then(|path| menu.estimates.of_file(path, serving));
    let least_memory_bytes =
        estimate.map(|estimate| estimate.least()).or(entry.map(|entry| least_by_file_size(entry.bytes())));
    let plan = estimate.and_then(|estimate| estimate.plan(serving.memory_bytes));
    let planned_memory_bytes = served.and_then(|model| model.memory_bytes).or(plan.map(|plan| plan.bytes));
    let catalogue_context =
        entry.map(|entry| serving.context.unwrap_or(usize::MAX).min(entry.context_length));
    let context_length = served
        .and_then(|model| model.context_length)
        .or(plan.map(|plan| plan.context))
        .or(estimate.map(|estimate| estimate.context))
        .or(catalogue_context);
    ModelJson {
        name: known.name.to_owned(),
        title: known.title(),
        source: if entry.is_some() { ModelSource::Catalogue } else { ModelSource::Local },
        installed: known.installed.is_some() || served.is_some(),
        removable: known.installed.is_some(),
        served: served.is_some(),
        loaded: served.is_some_and(|model| model.state == ModelState::Loaded),
        size_bytes: known.installed.map(|model| model.bytes).or(entry.map(CatalogueEntry::bytes)).or(path
            .and_then(|path| path.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())),
        least_memory_bytes,
        planned_memory_bytes,
        fits: least_memory_bytes.map(|bytes| bytes <= serving.memory_bytes),
        languages: entry.map(|entry| entry.languages.clone()).unwrap_or_default(),
        licence: entry.map(|entry| entry.licence.name.clone()),
        good_for: entry
            .map(|entry| GoodForJson { en: entry.good_for.en.clone(), zh: entry.good_for.zh.clone() }),
        context_length,
        promoted: known.promoted.cloned().map(PromotedJson::from),
        pull: menu.pulls.get(known.name),
    }
}

/// A path's last part; other names as they are.
fn short_name(name: &str) -> String {
    let path = Path::new(name);
    let last = path.file_name().filter(|_| path.is_absolute() || name.starts_with('.'));
    last.map_or_else(|| name.to_owned(), |last| last.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: each served adapter was opened as a model, and the log said that it is none.
    #[test]
    fn the_memory_of_an_adapter_is_not_read_from_its_files_as_if_it_were_a_model() {
        let served = |base: Option<&str>| ServedModelInfo {
            name: "tiny".to_owned(),
            path: "files".into(),
            base: base.map(str::to_owned),
            promoted: None,
            state: ModelState::Idle,
            users: 0,
            memory_bytes: None,
            context_length: None,
            stats: None,
            expires_at: None,
        };
        for (base, read) in [(None, true), (Some("base"), false)] {
            let served = served(base);
            let known = Known {
                name: &served.name,
                entry: None,
                installed: None,
                served: Some(&served),
                promoted: None,
                alone_of: None,
            };
            assert_eq!(known.path(), Some(Path::new("files")));
            assert_eq!(known.model_path().is_some(), read, "{base:?}");
        }
    }
}
