//! Trained weights that answer under a model's own name, from the next request on: an adapter, or files in the place of the model's own.
//! Answers that are under way end with what they began with. Adapters go with the weights that they belong to, and come back with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::adapters::{AdapterSpec, base_name, without_base};
use super::{Entry, ModelSpec, ServedModelInfo, ServedModels, Slot, State};
use crate::error::AssistantError;

/// Weights to answer under a model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromotedWeights {
    /// An adapter to the model's own weights.
    Adapter {
        /// The promotion's name.
        id: String,
        /// A folder as the `peft` library writes it.
        path: PathBuf,
    },
    /// Files in the place of the model's own: a GGUF file or a Hugging Face folder.
    Model {
        /// The promotion's name.
        id: String,
        /// The files.
        path: PathBuf,
    },
}

impl PromotedWeights {
    fn id(&self) -> &str {
        match self {
            PromotedWeights::Adapter { id, .. } | PromotedWeights::Model { id, .. } => id,
        }
    }
}

/// What became of a model's adapters when other weights began to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterChanges {
    /// Those that no longer answer, by the names that requests have for them: they belong to the weights that answered before, or belong to
    /// those that answer now and could not be loaded again.
    pub unloaded: Vec<String>,
    /// Those that answer again, with the weights that they belong to.
    pub loaded: Vec<String>,
}

/// An adapter that is served again when the weights that it belongs to answer again.
pub(super) struct Parted {
    weights: PathBuf,
    adapter: AdapterSpec,
}

impl ServedModels {
    /// Whether a model or encoder that is served could ever be loaded within the memory limit, with what is promoted for it and its draft model.
    ///
    /// # Errors
    /// [`AssistantError::OutOfMemory`]; [`AssistantError::Load`] for files that cannot be read.
    pub fn check_fits(&self, name: &str) -> Result<(), AssistantError> {
        let (model, encoder) = {
            let state = self.shared.lock();
            let model = state.entries.iter().find(|entry| entry.spec.name == name);
            let encoder = state.embedders.find(name);
            (model.map(|entry| entry.spec.path.clone()), encoder.map(|spec| spec.path.clone()))
        };
        match (model, encoder) {
            (Some(path), _) => self.shared.check_loadable(name, &path),
            (None, Some(path)) => self.shared.check_loadable_embedder(name, &path),
            (None, None) => Ok(()),
        }
    }

    /// Lets `weights` answer requests to `model` from now on; `None`: the model's own weights. `MODEL+base` remains the model without
    /// them. Where whole weights change, the adapters that were served to the ones before are no longer served, and those are again that were
    /// served to these ones. The files are read before anything changes, those of such adapters afterwards; async callers should call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// [`AssistantError::UnknownModel`] when the model is not served, [`AssistantError::Invalid`] for `MODEL+base`, which has no promotions,
    /// [`AssistantError::Load`] when the files cannot be read or do not fit the model, [`AssistantError::OutOfMemory`] when they could never be
    /// loaded within the limit; then the same weights as before answer.
    pub fn promote(
        &self,
        model: &str,
        weights: Option<PromotedWeights>,
    ) -> Result<AdapterChanges, AssistantError> {
        let shared = &self.shared;
        let own_path = {
            let state = shared.lock();
            if weights.is_some() {
                state.expect_more_than_alone(model)?;
            }
            let entry = state.entries.iter().find(|entry| entry.spec.name == model);
            let unknown = || AssistantError::UnknownModel { name: model.to_owned(), known: state.names() };
            let entry = entry.ok_or_else(unknown)?;
            if entry.promoted.as_deref() == weights.as_ref().map(PromotedWeights::id) {
                return Ok(AdapterChanges::default());
            }
            entry.own_path.clone()
        };
        let promoted = weights.as_ref().map(|weights| weights.id().to_owned());
        let (adapter, path) = match weights {
            None => (None, own_path.clone()),
            Some(PromotedWeights::Adapter { id, path }) => {
                let spec = AdapterSpec { model: model.to_owned(), name: id, path };
                let adapter = Arc::new(shared.read_adapter(&spec, &own_path)?);
                (Some((spec, adapter)), own_path.clone())
            }
            Some(PromotedWeights::Model { path, .. }) => {
                shared.check_loadable(model, &path)?;
                (None, path)
            }
        };
        let mut state = shared.lock();
        if let Some((spec, adapter)) = &adapter {
            state.check_room(spec, adapter.bytes() as u64, shared.options.memory_bytes)?;
        }
        let known = state.names();
        let departing_adapters = state.adapters.specs_of(model);
        let Some(entry) =
            state.entries.iter_mut().find(|entry| entry.spec.name == model && entry.own_path == own_path)
        else {
            return Err(AssistantError::UnknownModel { name: model.to_owned(), known });
        };
        entry.promoted.clone_from(&promoted);
        let mut changes = AdapterChanges::default();
        let mut returning = Vec::new();
        let mut replaced = None;
        if entry.spec.path != path {
            changes.unloaded = departing_adapters.iter().map(AdapterSpec::served_name).collect();
            returning = entry.part(departing_adapters, &path);
            entry.spec.path.clone_from(&path);
            let slot = std::mem::replace(&mut entry.slot, Slot::Idle);
            let departing = slot.departing();
            state.departed.extend(departing);
            state.adapters.remove(|adapter| adapter.model == model);
            replaced = Some(slot);
        }
        state.adapters.promote(model, adapter);
        let departed = state.keep_alone(model, &own_path, path != own_path);
        drop(state);
        // Dropped outside the lock, as an engine's thread takes a moment to end, and before others need its memory.
        drop((replaced, departed));
        tracing::info!(
            model,
            promoted = promoted.as_deref().unwrap_or("none: its own weights"),
            "answers from now on"
        );
        if !changes.unloaded.is_empty() {
            let adapters = changes.unloaded.join(", ");
            tracing::warn!(
                model,
                adapters,
                "no longer served: they belong to the weights that answered before"
            );
        }
        self.load_again(model, returning, &mut changes);
        Ok(changes)
    }

    /// The model that `name` means without what is promoted, if it is such a name (`MODEL+base`), whether anything is promoted or not.
    pub fn without_promotion(&self, name: &str) -> Option<String> {
        self.shared.lock().alone_of(name).map(str::to_owned)
    }

    /// Serves adapters again whose weights answer again, as far as their files still fit.
    fn load_again(&self, model: &str, adapters: Vec<AdapterSpec>, changes: &mut AdapterChanges) {
        for spec in adapters {
            let name = spec.served_name();
            match self.load_adapter(spec.clone()) {
                Ok(()) => changes.loaded.push(name),
                Err(error) => {
                    tracing::warn!(adapter = %name, %error, "not served again");
                    changes.unloaded.push(name);
                    // Memory may be free the next time that these weights come back.
                    let mut state = self.shared.lock();
                    let entry = state.entries.iter_mut().find(|entry| entry.spec.name == model);
                    if let Some(entry) = entry {
                        let weights = entry.spec.path.clone();
                        entry.parted.push(Parted { weights, adapter: spec });
                    }
                }
            }
        }
    }
}

impl Entry {
    /// Remembers which adapters belong to the weights that answer now, and gives those that belong to the weights at `path`, which are to
    /// answer.
    fn part(&mut self, adapters: Vec<AdapterSpec>, path: &Path) -> Vec<AdapterSpec> {
        let returning = self.parted.extract_if(.., |parted| parted.weights == path);
        let returning = returning.map(|parted| parted.adapter).collect();
        let weights = &self.spec.path;
        // Those that could not be loaded again stay remembered.
        let is_replaced = |parted: &Parted| {
            let name = parted.adapter.served_name();
            parted.weights == *weights && adapters.iter().any(|adapter| adapter.served_name() == name)
        };
        self.parted.retain(|parted| !is_replaced(parted));
        self.parted.extend(adapters.into_iter().map(|adapter| Parted { weights: weights.clone(), adapter }));
        returning
    }
}

impl State {
    /// The model of whose weights alone `name` speaks, or `name` itself.
    pub(super) fn model_alone(&self, name: &str) -> String {
        let is_model = |name: &str| self.entry(name).is_some();
        let model = without_base(name).filter(|model| !is_model(name) && is_model(model));
        model.unwrap_or(name).to_owned()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.spec.name == name)
    }

    /// The model that `name` means without what is promoted; `None` for every other name.
    fn alone_of<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.entry(name) {
            Some(entry) => entry.alone_of.as_deref(),
            None => without_base(name).filter(|model| self.entry(model).is_some()),
        }
    }

    /// Refuses the name of a model without what is promoted where something is to belong to the model.
    ///
    /// # Errors
    /// [`AssistantError::Invalid`].
    pub(super) fn expect_more_than_alone(&self, name: &str) -> Result<(), AssistantError> {
        let Some(model) = self.alone_of(name) else { return Ok(()) };
        let reason = format!(
            "`{name}` is `{model}` without what is promoted, and has neither promotions nor adapters of its own: name `{model}`"
        );
        Err(AssistantError::invalid("model", reason))
    }

    /// The model that `info` describes without the adapter that is promoted, if one is.
    pub(super) fn without_promoted(&self, info: ServedModelInfo) -> Option<ServedModelInfo> {
        let is_adapted = self.adapters.has_promoted(&info.name);
        is_adapted.then(|| ServedModelInfo {
            name: base_name(&info.name),
            promoted: None,
            // It shares the model's memory and engine, and has none of its own.
            memory_bytes: None,
            stats: None,
            ..info
        })
    }

    /// Serves the model's own files beside what answers in their place, or no longer does.
    fn keep_alone(&mut self, model: &str, own_path: &Path, is_replaced: bool) -> Option<Slot> {
        let name = base_name(model);
        let present = self.entries.iter().position(|entry| entry.spec.name == name);
        // Another model may have that name.
        let is_alone = self.entry(&name).is_some_and(|entry| entry.alone_of.as_deref() == Some(model));
        match present {
            None if is_replaced => {
                let own_path = own_path.to_owned();
                let spec = ModelSpec { name, path: own_path.clone() };
                let alone_of = Some(model.to_owned());
                self.entries.push(Entry { alone_of, ..Entry::new(spec, own_path) });
                None
            }
            Some(index) if !is_replaced && is_alone => Some(self.take_off(index).slot),
            _ => None,
        }
    }
}
