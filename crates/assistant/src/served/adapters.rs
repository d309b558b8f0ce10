//! The adapters served beside their base models, each under the name `MODEL+ADAPTER`: loaded whole, replaced and unloaded while
//! answers run. An answer keeps the adapter that it began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use zhenjin_model::{Adapter, ModelError, ModelFile, ServedAdapter};

use super::{ModelState, ServedModelInfo, ServedModels, Shared, State};
use crate::error::AssistantError;
use crate::lease::{Lease, Leases};

/// What stands between a model's name and its adapter's.
const SEPARATOR: char = '+';
/// The name that no adapter may have: `MODEL+base` is the model alone, whatever is promoted.
pub(super) const BASE: &str = "base";
/// The longest name of an adapter, in characters.
const NAME_LIMIT: usize = 64;
/// The file with an adapter's numbers.
const NUMBERS_FILE: &str = "adapter_model.safetensors";
/// Bytes of memory for each byte of that file, at least; numbers of 16 bits take twice as many, which is known once they are read.
const BYTES_READ: u64 = 1;

/// An adapter to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSpec {
    /// The served model that it belongs to.
    pub model: String,
    /// Its own name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// A folder as the `peft` library writes it, or one of the two files in it.
    pub path: PathBuf,
}

impl AdapterSpec {
    /// The name under which requests ask for the model with the adapter.
    pub fn served_name(&self) -> String {
        format!("{}{SEPARATOR}{}", self.model, self.name)
    }

    fn check_name(&self) -> Result<(), AssistantError> {
        let allowed = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
        let length = self.name.chars().count();
        if self.name == BASE {
            let reason = format!("`{BASE}` is no name for an adapter: it means the model without one");
            return Err(AssistantError::invalid("adapter", reason));
        }
        if (1..=NAME_LIMIT).contains(&length) && self.name.chars().all(allowed) {
            return Ok(());
        }
        let reason = format!(
            "`{}` is not a name for an adapter: take 1 to {NAME_LIMIT} letters, digits, `-`, `_` and `.`",
            self.name
        );
        Err(AssistantError::invalid("adapter", reason))
    }
}

/// A loaded adapter.
pub(super) struct AdapterEntry {
    spec: AdapterSpec,
    adapter: Arc<Adapter>,
    leases: Leases,
}

/// What requests mean by a name.
pub(super) struct Meant {
    /// The model that is computed with.
    pub(super) model: String,
    /// An adapter to it, with a use of it.
    pub(super) adapter: Option<(Arc<Adapter>, Lease)>,
}

/// The adapters in memory: those that are served, and those that only answers under way still hold.
#[derive(Default)]
pub(super) struct Adapters {
    entries: Vec<AdapterEntry>,
    /// Those that answer under their models' own names; `spec.name` is the promotion's.
    promoted: Vec<AdapterEntry>,
    departed: Vec<Weak<Adapter>>,
}

impl Adapters {
    /// The model and the adapter that requests mean by `name`, if they mean one.
    fn find(&self, name: &str) -> Option<Meant> {
        let named = self.entries.iter().find(|entry| entry.spec.served_name() == name);
        let entry = named.or_else(|| self.promoted.iter().find(|entry| entry.spec.model == name))?;
        let adapter = Some((Arc::clone(&entry.adapter), entry.leases.lease()));
        Some(Meant { model: entry.spec.model.clone(), adapter })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|entry| entry.spec.served_name())
    }

    /// Bytes of all that are in memory.
    pub(super) fn bytes(&mut self) -> u64 {
        self.departed.retain(|adapter| adapter.strong_count() > 0);
        let departed = self.departed.iter().filter_map(Weak::upgrade);
        let served = self.entries.iter().chain(&self.promoted).map(|entry| Arc::clone(&entry.adapter));
        served.chain(departed).map(|adapter| adapter.bytes() as u64).sum()
    }

    /// No longer serves those that `ends` says.
    pub(super) fn remove(&mut self, ends: impl Fn(&AdapterSpec) -> bool) -> bool {
        let before = self.entries.len();
        for entry in self.entries.extract_if(.., |entry| ends(&entry.spec)) {
            self.departed.push(Arc::downgrade(&entry.adapter));
        }
        self.entries.len() < before
    }

    /// Lets `adapter` answer under its model's own name in the place of the one that does; `None`: none does.
    pub(super) fn promote(&mut self, model: &str, adapter: Option<(AdapterSpec, Arc<Adapter>)>) {
        for entry in self.promoted.extract_if(.., |entry| entry.spec.model == model) {
            self.departed.push(Arc::downgrade(&entry.adapter));
        }
        self.promoted.extend(adapter.map(|(spec, adapter)| AdapterEntry {
            spec,
            adapter,
            leases: Leases::default(),
        }));
    }

    /// Whether an adapter answers under the model's own name.
    pub(super) fn has_promoted(&self, model: &str) -> bool {
        self.promoted.iter().any(|entry| entry.spec.model == model)
    }

    /// A model's adapters.
    pub(super) fn specs_of(&self, model: &str) -> Vec<AdapterSpec> {
        let of_model = self.entries.iter().filter(|entry| entry.spec.model == model);
        of_model.map(|entry| entry.spec.clone()).collect()
    }

    /// The adapters of the model that `base` describes, as models of their own.
    pub(super) fn of_model(&self, base: &ServedModelInfo) -> Vec<ServedModelInfo> {
        let info = |entry: &AdapterEntry| ServedModelInfo {
            name: entry.spec.served_name(),
            path: entry.spec.path.clone(),
            base: Some(base.name.clone()),
            promoted: None,
            users: entry.leases.count(),
            memory_bytes: (base.state == ModelState::Loaded).then(|| entry.adapter.bytes() as u64),
            ..base.clone()
        };
        self.entries.iter().filter(|entry| entry.spec.model == base.name).map(info).collect()
    }
}

impl ServedModels {
    /// Serves an adapter to a model that is served, from its files as they are now. Another adapter of that name is replaced:
    /// answers that are under way finish with the one that they began with. The files are read before this returns; async
    /// callers should call it where blocking is allowed.
    ///
    /// # Errors
    /// [`AssistantError::UnknownModel`] when the model is not served, [`AssistantError::Invalid`] for a name that cannot be one and for
    /// `MODEL+base`, which has no adapters, [`AssistantError::Load`] when the files cannot be read, do not fit the model, or find no memory
    /// within the limit.
    pub fn load_adapter(&self, spec: AdapterSpec) -> Result<(), AssistantError> {
        spec.check_name()?;
        let shared = &self.shared;
        let base = {
            let state = shared.lock();
            state.expect_more_than_alone(&spec.model)?;
            let entry = state.entries.iter().find(|entry| entry.spec.name == spec.model);
            let Some(entry) = entry else {
                return Err(AssistantError::UnknownModel { name: spec.model, known: state.names() });
            };
            if let Some(taken) = state.entries.iter().find(|entry| entry.spec.name == spec.served_name()) {
                let (name, path) = (taken.spec.name.clone(), taken.spec.path.clone());
                return Err(AssistantError::NameTaken { name, path });
            }
            entry.spec.clone()
        };
        let adapter = shared.read_adapter(&spec, &base.path)?;
        let mut state = shared.lock();
        state.check_room(&spec, adapter.bytes() as u64, shared.options.memory_bytes)?;
        if !state.entries.iter().any(|entry| entry.spec == base) {
            return Err(AssistantError::UnknownModel { name: spec.model, known: state.names() });
        }
        let name = spec.served_name();
        let was_served = state.adapters.remove(|known| known.served_name() == name);
        tracing::info!(
            adapter = %name,
            fingerprint = %adapter.fingerprint(),
            memory_bytes = adapter.bytes(),
            replaced = was_served,
            "adapter loaded"
        );
        state.adapters.entries.push(AdapterEntry {
            spec,
            adapter: Arc::new(adapter),
            leases: Leases::default(),
        });
        Ok(())
    }

    /// No longer serves the adapter under `name` (`MODEL+ADAPTER`); answers that are under way finish with it. True if it was
    /// served.
    pub fn unload_adapter(&self, name: &str) -> bool {
        let was_served = self.shared.lock().adapters.remove(|spec| spec.served_name() == name);
        if was_served {
            tracing::info!(adapter = name, "no longer served");
        }
        was_served
    }
}

impl State {
    /// What requests mean by `name`, whether it is served or not.
    pub(super) fn meant(&self, name: &str) -> Meant {
        let alone = || Meant { model: self.model_alone(name), adapter: None };
        self.adapters.find(name).unwrap_or_else(alone)
    }

    /// Everything that requests can name.
    pub(super) fn names(&self) -> Vec<String> {
        let models = self.entries.iter().map(|entry| entry.spec.name.clone());
        let alone = self.entries.iter().filter(|entry| self.adapters.has_promoted(&entry.spec.name));
        let adapted = alone.map(|entry| base_name(&entry.spec.name)).chain(self.adapters.names());
        models.chain(adapted).chain(self.embedders.names()).collect()
    }

    /// Refuses an adapter of so many bytes for which the limit leaves no memory.
    pub(super) fn check_room(
        &mut self,
        spec: &AdapterSpec,
        bytes: u64,
        limit: u64,
    ) -> Result<(), AssistantError> {
        let available = self.available(limit);
        if bytes <= available {
            return Ok(());
        }
        let reason = format!(
            "it needs {bytes} bytes of memory, but of the limit of {limit} bytes only {available} are free; unload a model, or allow models more \
             memory"
        );
        Err(AssistantError::Load { name: spec.served_name(), reason })
    }
}

impl Shared {
    /// The adapter of `spec` to the model at `base`, packed for its kernels.
    ///
    /// # Errors
    /// [`AssistantError::Load`].
    pub(super) fn read_adapter(&self, spec: &AdapterSpec, base: &Path) -> Result<Adapter, AssistantError> {
        let failed =
            |error: ModelError| AssistantError::Load { name: spec.served_name(), reason: error.to_string() };
        // Before the file is read, which takes memory that nobody has granted. What is no file is told where it is opened.
        if let Some(length) = file_length(&spec.path) {
            let bytes = length.saturating_mul(BYTES_READ);
            self.lock().check_room(spec, bytes, self.options.memory_bytes)?;
        }
        let file = ModelFile::open(base).map_err(failed)?;
        let adapter = ServedAdapter::open(&spec.path, &file, self.team.threads()).map_err(failed)?;
        if let Some(trained_on) = adapter.other_base(base) {
            tracing::warn!(
                adapter = spec.served_name(),
                trained_on,
                base = %base.display(),
                "the adapter says that it was trained on another model; its shapes fit"
            );
        }
        adapter.pack(self.options.compute.simd, &self.team).map_err(failed)
    }
}

/// Bytes of the file with the numbers of the adapter at `path`, a folder or one of the two files in it.
fn file_length(path: &Path) -> Option<u64> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    Some(std::fs::metadata(folder.join(NUMBERS_FILE)).ok()?.len())
}

/// The name of a model without what is promoted.
pub(super) fn base_name(model: &str) -> String {
    format!("{model}{SEPARATOR}{BASE}")
}

/// The model that is meant by the name of one without what is promoted.
pub(super) fn without_base(name: &str) -> Option<&str> {
    name.strip_suffix(BASE)?.strip_suffix(SEPARATOR)
}
