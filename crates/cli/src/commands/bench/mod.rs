//! `zhenjin bench`: how fast this machine computes prompts and new tokens with a model, and what share of its limits that is.

mod measure;
mod report;

use crate::arguments::BenchArguments;
use crate::home::Home;
use crate::machine;
use anyhow::{Result, bail};
use measure::Bench;
use report::Report;
use std::path::Path;
use std::sync::Arc;
use zhenjin_hub::ModelStore;
use zhenjin_model::{LoadOptions, Model};
use zhenjin_tensor::ThreadTeam;

pub(crate) fn run(home: &Home, arguments: &BenchArguments) -> Result<()> {
    check(arguments)?;
    let path = ModelStore::new(home.models()).resolve(&arguments.model)?.path;
    let simd = machine::simd(&arguments.engine)?;
    let team = Arc::new(ThreadTeam::new(machine::threads(&arguments.engine))?);
    let started = std::time::Instant::now();
    let model = Arc::new(Model::load(Path::new(&path), &LoadOptions { simd, team: Arc::clone(&team) })?);
    let load = started.elapsed();
    let mut report = Report::new(&arguments.model, &model, &team, load, arguments.json)?;
    let mut bench = Bench::new(model, team, arguments)?;
    for &tokens in &arguments.prefill {
        report.add("prefill", tokens, 1, &bench.prefill(tokens)?)?;
    }
    for &tokens in &arguments.decode {
        for &batch in &arguments.batch {
            report.add("decode", tokens, batch, &bench.decode(tokens, batch)?)?;
        }
    }
    Ok(())
}

fn check(arguments: &BenchArguments) -> Result<()> {
    let lists =
        [("--prefill", &arguments.prefill), ("--decode", &arguments.decode), ("--batch", &arguments.batch)];
    for (name, values) in lists {
        if let Some(value) = values.iter().find(|value| !(1..=1 << 20).contains(*value)) {
            bail!("{name} {value}: give numbers from 1 to {}", 1 << 20);
        }
    }
    Ok(())
}
