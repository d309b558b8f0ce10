//! `zhenjin bench`: how fast this machine computes prompts and new tokens with a model, and what share of its limits that is.

mod answers;
mod measure;
mod report;

use crate::arguments::BenchArguments;
use crate::home::Home;
use crate::machine;
use answers::Answers;
use anyhow::{Result, bail};
use measure::{Bench, Repeat};
use report::{Kind, Report, Test};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zhenjin_hub::ModelStore;
use zhenjin_model::{LoadOptions, Model};

pub(crate) fn run(home: &Home, arguments: &BenchArguments) -> Result<()> {
    check(arguments)?;
    let path = machine::resolve(&ModelStore::new(home.models()), &arguments.model)?.path;
    let compute = machine::compute(&arguments.compute)?;
    let started = Instant::now();
    let (simd, team) = (compute.simd, Arc::new(compute.start_team()?));
    let model = Arc::new(Model::load(Path::new(&path), &LoadOptions { simd, team: Arc::clone(&team) })?);
    let kv_dtype = model.kv_dtype(arguments.compute.kv_cache_dtype);
    let mut bench = Bench::new(Arc::clone(&model), Arc::clone(&team), kv_dtype, arguments)?;
    let load = started.elapsed();
    let mut report = Report::new(arguments, &model, kv_dtype, &team, load)?;
    for &tokens in wanted(&arguments.prefill) {
        report.add(Test { kind: Kind::Prefill, tokens, batch: 1 }, &bench.prefill(tokens)?)?;
    }
    for &prompt in wanted(&arguments.score) {
        let scored = Answers { batch: 1, prompt, tokens: 0, kv_dtype, temperature: 0.0 };
        let times = answers::measure(&model, &team, scored, Repeat::of(arguments))?;
        report.add(Test { kind: Kind::Score, tokens: prompt, batch: 1 }, &times)?;
    }
    for &tokens in wanted(&arguments.decode) {
        for &batch in &arguments.batch {
            report.add(Test { kind: Kind::Decode, tokens, batch }, &bench.decode(tokens, batch)?)?;
        }
    }
    for &tokens in wanted(&arguments.answers) {
        for &batch in &arguments.batch {
            let (prompt, temperature) = (arguments.prompt, arguments.temperature);
            let answers = Answers { batch, prompt, tokens, kv_dtype, temperature };
            let times = answers::measure(&model, &team, answers, Repeat::of(arguments))?;
            report.add(Test { kind: Kind::Answers { prompt }, tokens, batch }, &times)?;
        }
    }
    Ok(())
}

/// The lengths that were asked for: 0 leaves a kind of test out.
fn wanted(lengths: &[usize]) -> impl Iterator<Item = &usize> {
    lengths.iter().filter(|&&tokens| tokens > 0)
}

fn check(arguments: &BenchArguments) -> Result<()> {
    let lists = [
        ("--prefill", 0, &arguments.prefill[..]),
        ("--score", 0, &arguments.score),
        ("--decode", 0, &arguments.decode),
        ("--answers", 0, &arguments.answers),
        ("--prompt", 1, std::slice::from_ref(&arguments.prompt)),
        ("--batch", 1, &arguments.batch),
    ];
    for (name, least, values) in lists {
        if let Some(value) = values.iter().find(|value| !(least..=1 << 20).contains(*value)) {
            bail!("{name} {value}: give numbers from {least} to {}", 1 << 20);
        }
    }
    let temperature = arguments.temperature;
    if !(0.0..=2.0).contains(&temperature) {
        bail!("--temperature {temperature}: give a number from 0 to 2");
    }
    Ok(())
}

/// Some token of a prompt, always the same for the same place.
fn token(position: usize, sequence: usize, vocabulary_size: usize) -> u32 {
    ((position * 7919 + sequence * 104_729 + 13) % vocabulary_size) as u32
}
