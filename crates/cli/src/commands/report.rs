//! `zhenjin report`: a run's log as one page.

use super::cost::PriceArguments;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zhenjin_corpus::ShardSet;
use zhenjin_tensor::ComputeOptions;
use zhenjin_train::metrics::read_events;
use zhenjin_train::report::{DataSource, Language, ReportInput, report};

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin report runs/first
  zhenjin report runs/first --data shards/ --language zh --out first.html";

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// The run's folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The shards that it was trained on, for their sources and licences
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The report's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Language of headings and labels
    #[arg(long, value_enum, default_value_t = ReportLanguage::En)]
    language: ReportLanguage,
    /// The file to write [default: report.html in the run's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    prices: PriceArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportLanguage {
    /// English
    En,
    /// Chinese
    Zh,
}

pub(crate) fn run(arguments: &ReportArguments) -> Result<()> {
    let log = read_events(&arguments.run.join("metrics.jsonl"))
        .with_context(|| format!("{} is not the folder of a run", arguments.run.display()))?;
    let settings = arguments.run.join("run.toml");
    let configuration =
        std::fs::read_to_string(&settings).with_context(|| format!("reading {}", settings.display()))?;
    let data = arguments.data.as_deref().map_or_else(|| Ok(Vec::new()), sources)?;
    let folder = arguments.run.canonicalize().unwrap_or_else(|_| arguments.run.clone());
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = arguments.name.clone().or(folder_name).unwrap_or_else(|| "run".to_owned());
    let compute = ComputeOptions::detect();
    let page = report(&ReportInput {
        name: &name,
        log: &log,
        configuration: &configuration,
        data: &data,
        machine: &machine(&compute),
        prices: &arguments.prices.prices(compute.threads),
        language: match arguments.language {
            ReportLanguage::En => Language::English,
            ReportLanguage::Zh => Language::Chinese,
        },
    });
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("report.html"));
    zhenjin_files::write_whole(&out, &[page.as_bytes()])?;
    println!("{}", out.display());
    Ok(())
}

/// Sources and licences of shards, each pair once.
fn sources(folder: &Path) -> Result<Vec<DataSource>> {
    let set = ShardSet::open(folder)?;
    let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for shard in set.shards() {
        let metadata = shard.metadata();
        let sum = sums.entry((metadata.source.clone(), metadata.licence.clone())).or_default();
        sum.0 += shard.documents() as u64;
        sum.1 += shard.tokens() as u64;
    }
    let source = |((source, licence), (documents, tokens))| DataSource {
        source,
        licence,
        documents: Some(documents),
        tokens: Some(tokens),
    };
    Ok(sums.into_iter().map(source).collect())
}

/// What this machine is, where the system tells.
fn machine(compute: &ComputeOptions) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    if let Some((_, model)) = model {
        rows.push(("CPU".to_owned(), model.trim().to_owned()));
    }
    rows.push(("threads".to_owned(), compute.threads.to_string()));
    rows.push(("SIMD".to_owned(), compute.simd.to_string()));
    if let Ok(memory) = crate::machine::memory() {
        rows.push(("memory".to_owned(), zhenjin_train::plan::bytes_text(memory.total)));
    }
    rows.push(("zhenjin".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    rows
}
