//! `zhenjin export`: a model as a Hugging Face folder or as a GGUF file, in floats.

use crate::home::Home;
use crate::machine;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use zhenjin_hub::{ModelStore, OpenedModel};
use zhenjin_model::write::{FloatType, Quantisation};
use zhenjin_model::{AdapterMerge, TensorSource};
use zhenjin_tensor::Dtype;
use zhenjin_train::checkpoint::Checkpoints;

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// A training run's folder or one of its checkpoints, a Hugging Face folder, a GGUF file, or a fetched model's name;
    /// with weights in F32, F16 or BF16
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) to: Format,
    /// Element type of the weights [default: that of SOURCE]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) dtype: Option<FloatName>,
    /// Merge this adapter into the weights: a folder as PEFT or a run writes it; SOURCE may be quantised then
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// The folder or file to write; there is none of that name yet
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A folder that `transformers` opens
    Hf,
    /// A file that llama.cpp opens
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloatName {
    /// 32 bits
    F32,
    /// 16 bits, up to 65,504
    F16,
    /// The upper 16 bits of an F32
    Bf16,
}

impl FloatName {
    fn float_type(self) -> FloatType {
        match self {
            FloatName::F32 => FloatType::F32,
            FloatName::F16 => FloatType::F16,
            FloatName::Bf16 => FloatType::Bf16,
        }
    }
}

pub(crate) fn run(home: &Home, arguments: &ExportArguments) -> Result<()> {
    let source = source(home, &arguments.source)?;
    refuse_existing(&arguments.out)?;
    let opened = zhenjin_hub::open_to_export(&source)?;
    let dtype = arguments.dtype.map_or_else(|| float_type(&opened), |name| Ok(name.float_type()))?;
    let adapter = open_adapter(&opened, arguments.adapter.as_deref())?;
    let adapter = adapter.as_ref();
    let bytes = match arguments.to {
        Format::Hf => zhenjin_hub::export_hugging_face(&opened, adapter, &arguments.out, dtype)?.bytes,
        Format::Gguf => {
            let types = Quantisation::Floats(dtype);
            zhenjin_hub::export_gguf(&opened, adapter, &arguments.out, types)?.file.bytes
        }
    };
    println!(
        "{}: {} parameters in {}, {bytes} bytes",
        arguments.out.display(),
        adapter
            .map_or_else(|| opened.file.config().clone(), |adapter| adapter.config(opened.file.config()))
            .parameters(),
        dtype.dtype()
    );
    Ok(())
}

/// The adapter that is to be merged.
pub(crate) fn open_adapter(opened: &OpenedModel, path: Option<&Path>) -> Result<Option<AdapterMerge>> {
    path.map(|path| machine::open_adapter_for_merging(path, &opened.file)).transpose()
}

/// What a command is given to write anew: a model's name or path, or a training run's folder, of which the newest whole
/// checkpoint is meant.
pub(crate) fn source(home: &Home, name: &OsStr) -> Result<PathBuf> {
    let checkpoints = Path::new(name).join("checkpoints");
    if !checkpoints.is_dir() {
        return Ok(machine::resolve(&ModelStore::new(home.models()), name)?.path);
    }
    let found = Checkpoints::new(&checkpoints, usize::MAX).find()?;
    for (path, error) in &found.passed_over {
        eprintln!("{} is passed over: {error}", path.display());
    }
    let newest =
        found.newest.with_context(|| format!("{}: this run has no whole checkpoint yet", name.display()))?;
    eprintln!("{}: its newest whole checkpoint is {}", name.display(), newest.path.display());
    Ok(newest.path)
}

/// Nothing is replaced: a model that took hours should not be lost to a name typed twice.
pub(crate) fn refuse_existing(out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        bail!("{}: there is something of this name already; give another name, or remove it", out.display());
    }
    Ok(())
}

/// The type of most of the source's weights; that of a quantised source does not matter, it is refused.
fn float_type(opened: &OpenedModel) -> Result<FloatType> {
    let name = opened.file.config().weights().next().unwrap_or(zhenjin_model::WeightName::Embedding);
    Ok(match opened.file.tensor(name)?.dtype {
        Dtype::F16 => FloatType::F16,
        Dtype::Bf16 => FloatType::Bf16,
        _ => FloatType::F32,
    })
}
