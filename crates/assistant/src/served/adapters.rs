//! The adapters served beside their base models, each under the name `MODEL+ADAPTER`: loaded whole, replaced and unloaded while
//! answers run. An answer keeps the adapter that it began with.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use zhenjin_model::{Adapter, AdapterValues, ModelError, ModelFile};
use zhenjin_tensor::ThreadTeam;

use super::{ModelState, ServeOptions, ServedModelInfo, ServedModels, State};
use crate::error::AssistantError;
use crate::lease::{Lease, Leases};

/// What stands between a model's name and its adapter's.
const SEPARATOR: char = '+';
/// The longest name of an adapter, in characters.
const NAME_LIMIT: usize = 64;

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

/// The adapters in memory: those that are served, and those that only answers under way still hold.
#[derive(Default)]
pub(super) struct Adapters {
    entries: Vec<AdapterEntry>,
    departed: Vec<Weak<Adapter>>,
}

impl Adapters {
    /// The model and the adapter that requests mean by `name`, with a use of the adapter.
    pub(super) fn find(&self, name: &str) -> Option<(String, Arc<Adapter>, Lease)> {
        let entry = self.entries.iter().find(|entry| entry.spec.served_name() == name)?;
        Some((entry.spec.model.clone(), Arc::clone(&entry.adapter), entry.leases.lease()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|entry| entry.spec.served_name())
    }

    /// Bytes of all that are in memory.
    pub(super) fn bytes(&mut self) -> u64 {
        self.departed.retain(|adapter| adapter.strong_count() > 0);
        let departed = self.departed.iter().filter_map(Weak::upgrade);
        let served = self.entries.iter().map(|entry| Arc::clone(&entry.adapter));
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

    /// The adapters of the model that `base` describes, as models of their own.
    pub(super) fn of_model(&self, base: &ServedModelInfo) -> Vec<ServedModelInfo> {
        let info = |entry: &AdapterEntry| ServedModelInfo {
            name: entry.spec.served_name(),
            path: entry.spec.path.clone(),
            base: Some(base.name.clone()),
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
    /// [`AssistantError::UnknownModel`] when the model is not served, [`AssistantError::Invalid`] for a name that cannot be one,
    /// [`AssistantError::Load`] when the files cannot be read, do not fit the model, or find no memory within the limit.
    pub fn load_adapter(&self, spec: AdapterSpec) -> Result<(), AssistantError> {
        spec.check_name()?;
        let shared = &self.shared;
        let base = {
            let state = shared.lock();
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
        let failed = |reason: String| AssistantError::Load { name: spec.served_name(), reason };
        let config = |error: ModelError| failed(error.to_string());
        let file = ModelFile::open(&base.path).map_err(config)?;
        let adapter = read(&spec, &file, &shared.options, &shared.team).map_err(failed)?;
        let mut state = shared.lock();
        let available = state.available(shared.options.memory_bytes);
        if adapter.bytes() as u64 > available {
            let reason = format!(
                "it takes {} bytes of memory, but of the limit of {} bytes only {available} are left",
                adapter.bytes(),
                shared.options.memory_bytes
            );
            return Err(failed(reason));
        }
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
    /// Everything that requests can name.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.spec.name.clone()).chain(self.adapters.names()).collect()
    }
}

/// The adapter, packed for the model's kernels.
fn read(
    spec: &AdapterSpec,
    base: &ModelFile,
    options: &ServeOptions,
    team: &ThreadTeam,
) -> Result<Adapter, String> {
    let values = AdapterValues::open(&spec.path, base.config()).map_err(|error| error.to_string())?;
    values.pack(options.compute.simd, team).map_err(|error| error.to_string())
}
