//! What takes too long for `make test`: `soak invariance MODEL` compares many requests that run together with each
//! alone; `soak endurance MODEL` loads one engine for a long time. `make soak` runs both. Not part of the program
//! that users get.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the terminal")]

mod crowd;
mod endurance;
mod memory;
mod requests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use zhenjin_model::{LoadOptions, Model};
use zhenjin_tensor::ComputeOptions;

const USAGE: &str =
    "usage: soak invariance [--requests 1000] [--longest 600] [--seed 1] [--simd LEVEL] MODEL.gguf
       soak endurance [--minutes 30] [--threads 2] [--seed 1] [--simd LEVEL] MODEL.gguf";

struct Arguments {
    requests: usize,
    longest: usize,
    minutes: f64,
    seed: u64,
    compute: ComputeOptions,
    model: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let check: fn(&Arc<Model>, &Arguments) -> Result<bool, String> = match arguments.next().as_deref() {
        Some("invariance") => invariance,
        Some("endurance") => endurance,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = parse(arguments).and_then(|arguments| {
        let model = load(&arguments)?;
        check(&model, &arguments)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("soak: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut rest: impl Iterator<Item = String>) -> Result<Arguments, String> {
    fn number<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
        let value = value.ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        value.parse().map_err(|_| format!("{name} {value}: not a value that it can have\n{USAGE}"))
    }
    let mut arguments = Arguments {
        requests: 1000,
        longest: 600,
        minutes: 30.0,
        seed: 1,
        compute: ComputeOptions::detect(),
        model: PathBuf::new(),
    };
    let (mut threads, mut simd) = (Some(2), None);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--requests" => arguments.requests = number(&argument, rest.next())?,
            "--longest" => arguments.longest = number::<usize>(&argument, rest.next())?.max(1),
            "--minutes" => arguments.minutes = number(&argument, rest.next())?,
            "--threads" => threads = Some(number(&argument, rest.next())?),
            "--seed" => arguments.seed = number(&argument, rest.next())?,
            "--simd" => simd = Some(number::<String>(&argument, rest.next())?),
            model if !model.starts_with('-') && arguments.model.as_os_str().is_empty() => {
                arguments.model = PathBuf::from(model);
            }
            unknown => return Err(format!("{unknown}: not an argument\n{USAGE}")),
        }
    }
    if arguments.model.as_os_str().is_empty() {
        return Err(format!("no model was named\n{USAGE}"));
    }
    let resolved = ComputeOptions::resolve(simd.as_deref(), threads);
    arguments.compute = resolved.map_err(|error| format!("{error}\n{USAGE}"))?;
    Ok(arguments)
}

fn load(arguments: &Arguments) -> Result<Arc<Model>, String> {
    let team = arguments.compute.start_team().map_err(|error| error.to_string())?;
    let options = LoadOptions { simd: arguments.compute.simd, team: Arc::new(team) };
    Model::load(&arguments.model, &options)
        .map(Arc::new)
        .map_err(|error| format!("{}: {error}", arguments.model.display()))
}

fn invariance(model: &Arc<Model>, arguments: &Arguments) -> Result<bool, String> {
    let &Arguments { requests, longest, seed, .. } = arguments;
    let summary = crowd::check(model, crowd::Options { requests, longest, seed })?;
    println!(
        "invariance: {} requests, {} tokens: the same alone and together, bit for bit ({:.0} s alone, {:.0} s together)",
        summary.requests,
        summary.tokens,
        summary.alone.as_secs_f64(),
        summary.together.as_secs_f64()
    );
    println!(
        r#"{{"requests":{},"tokens":{},"cancelled":{},"largest_batch":{},"prefix_hit_tokens":{},"preemptions":{},"simd":"{}","seed":{seed}}}"#,
        summary.requests,
        summary.tokens,
        summary.cancelled,
        summary.largest_batch,
        summary.prefix_hit_tokens,
        summary.preemptions,
        model.simd
    );
    Ok(true)
}

fn endurance(model: &Arc<Model>, arguments: &Arguments) -> Result<bool, String> {
    let duration = Duration::try_from_secs_f64(arguments.minutes * 60.0)
        .map_err(|error| format!("--minutes {}: {error}", arguments.minutes))?;
    let &Arguments { compute, seed, .. } = arguments;
    let report = endurance::run(model, endurance::Options { duration, compute, seed })?;
    let endurance::Report { elapsed, warm_up, memory, stats, counts, problems } = &report;
    let verdict = if problems.is_empty() { "all held" } else { "NOT all held" };
    println!(
        "soak: {verdict} in {:.1} min: {} requests ({} left early, {} refused), {} probes; memory {:.0} MiB, within {:.2} %, rise {:+.2} %; {} pages held",
        elapsed.as_secs_f64() / 60.0,
        counts.submitted,
        counts.left,
        counts.refused,
        counts.probes,
        memory.median as f64 / 1_048_576.0,
        100.0 * memory.deviation,
        100.0 * memory.rise,
        stats.pages_used
    );
    println!(
        r#"{{"minutes":{:.2},"warm_up_s":{:.0},"submitted":{},"finished":{},"left":{},"refused":{},"probes":{},"cancelled":{},"failed":{},"preemptions":{},"prefix_hit_tokens":{},"prefill_tokens":{},"decode_tokens":{},"rss_median":{},"rss_deviation":{:.5},"rss_rise":{:.5},"rss_samples":{},"pages_used":{},"pages_cached":{},"pages_total":{},"problems":{}}}"#,
        elapsed.as_secs_f64() / 60.0,
        warm_up.as_secs_f64(),
        counts.submitted,
        counts.finished,
        counts.left,
        counts.refused,
        counts.probes,
        stats.cancelled,
        stats.failed,
        stats.preemptions,
        stats.prefix_hit_tokens,
        stats.prefill_tokens,
        stats.decode_tokens,
        memory.median,
        memory.deviation,
        memory.rise,
        memory.samples,
        stats.pages_used,
        stats.pages_cached,
        stats.pages_total,
        problems.len()
    );
    for problem in problems {
        eprintln!("soak: {problem}");
    }
    Ok(problems.is_empty())
}
