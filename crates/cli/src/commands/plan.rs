//! `zhenjin plan`: what a run costs before it begins, here or on machines that others have.

use super::cost::{PriceArguments, positive, quantity};
use crate::arguments::at_least_one;
use crate::memory_size::MemorySize;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zhenjin_model::LoadOptions;
use zhenjin_tensor::ComputeOptions;
use zhenjin_train::checkpoint::Checkpoints;
use zhenjin_train::configuration::Configuration;
use zhenjin_train::plan::{
    Cluster, Machine, Network, Plan, Probe, PublishedRun, RunShape, Work, cluster_text, plan_text,
    probe_training, published_runs, scaling_text,
};

pub(crate) const EXAMPLES: &str = "Examples:
  zhenjin plan --depth 6
  zhenjin plan --depth 12 --tokens 2B --ranks 16 --network 125M --latency 0.001
  zhenjin plan --depth 12 --set batch.micro_batches=1024 --network 1.25G --scaling 1024
  zhenjin plan --preset gpt-3
  zhenjin plan --parameters 70B --tokens 2T --devices 2048 --peak 312T --utilisation 0.4 --device-watts 400 --device-price 1.5";

/// How long this machine is measured.
const PROBE: Duration = Duration::from_secs(5);
/// Options that describe a run on machines like this one: they say nothing of another cluster.
const OF_A_RUN: [&str; 16] = [
    "depth",
    "config",
    "set",
    "experts",
    "active",
    "vocabulary",
    "document_length",
    "ranks",
    "scaling",
    "speed",
    "memory",
    "out",
    "threads",
    "watts",
    "price_per_kwh",
    "price_per_hour",
];
/// Options that say nothing of a published run either, whose prices are in dollars.
const NOT_OF_A_PRESET: [&str; 2] = ["parameters", "currency"];
/// The vocabulary where nobody says.
const DEFAULT_VOCABULARY: usize = 8192;

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The dial of `zhenjin pretrain`: layers [default: 4, or what --config says]
    #[arg(long, value_name = "LAYERS")]
    depth: Option<usize>,
    #[command(flatten)]
    experts: super::pretrain::ExpertArguments,
    /// Settings from a TOML file, as for pretrain
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, as for pretrain (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Tokens of the vocabulary [default: 8192]
    #[arg(long, value_name = "N")]
    vocabulary: Option<usize>,
    /// Tokens to train on, such as 20M or 300B [default: what the dial says]
    #[arg(long, value_name = "N", value_parser = quantity)]
    tokens: Option<f64>,
    /// Mean tokens of a document: attention never crosses documents [default: whole sequences]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    document_length: Option<usize>,
    /// Machines like this one that train together [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    ranks: Option<usize>,
    /// Bytes per second between machines, such as 125M for 1 Gbit/s
    #[arg(long, value_name = "BYTES", value_parser = quantity)]
    network: Option<f64>,
    /// Seconds that a message takes between machines
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0001, value_parser = positive, requires = "network")]
    latency: f64,
    /// A table for 1, 2, 4 … up to so many machines, as far as the micro-batches of a step can be shared
    #[arg(long, value_name = "MACHINES", conflicts_with = "ranks")]
    scaling: Option<usize>,
    /// Operations per second that one machine reaches on this model, such as 200G [default: measured for 5 seconds]
    #[arg(long, value_name = "FLOP/S", value_parser = quantity)]
    speed: Option<f64>,
    /// Most memory that the run may take [default: what is free]
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// Where checkpoints go, for the free space there [default: the current folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Threads [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    prices: PriceArguments,
    /// A published run, beside its published figures; `list` names them
    #[arg(long, value_name = "NAME", conflicts_with_all = OF_A_RUN, conflicts_with_all = NOT_OF_A_PRESET)]
    preset: Option<String>,
    /// Another cluster: parameters of the model, such as 175B
    #[arg(long, value_name = "N", value_parser = quantity, requires_all = ["tokens", "peak"], conflicts_with_all = OF_A_RUN)]
    parameters: Option<f64>,
    /// Devices of the other cluster (changes a preset's)
    #[arg(long, value_name = "N", value_parser = quantity)]
    devices: Option<f64>,
    /// Floating-point operations per second of one device, such as 312T (changes a preset's)
    #[arg(long, value_name = "FLOP/S", value_parser = quantity)]
    peak: Option<f64>,
    /// Fraction of the peak that the model's operations reach (changes a preset's)
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    utilisation: Option<f64>,
    /// Watts of one device (changes a preset's)
    #[arg(long, value_name = "WATTS", value_parser = positive)]
    device_watts: Option<f64>,
    /// Price of one device for an hour (changes a preset's)
    #[arg(long, value_name = "PRICE", value_parser = positive)]
    device_price: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err(format!("`{text}` is not a fraction between 0 and 1")),
    }
}

pub(crate) fn run(arguments: &PlanArguments) -> Result<()> {
    match (&arguments.preset, arguments.parameters) {
        (Some(name), _) if name == "list" => {
            for run in published_runs() {
                println!("{:<16} {}", run.name, run.description);
            }
            Ok(())
        }
        (Some(name), _) => {
            let found = published_runs().into_iter().find(|run| run.name == name);
            let run =
                found.with_context(|| format!("no published run `{name}`; --preset list names them"))?;
            show_cluster(arguments, run.work, &run.cluster, Some(&run))
        }
        (None, Some(parameters)) => {
            let (tokens, peak_flops) = (arguments.tokens.unwrap_or(0.0), arguments.peak.unwrap_or(0.0));
            let work = Work { parameters, tokens, tokens_per_step: 4e6 };
            let cluster = Cluster {
                devices: 1.0,
                peak_flops,
                utilisation: 0.4,
                watts: 0.0,
                overhead: 1.0,
                price_per_device_hour: 0.0,
                network: None,
            };
            show_cluster(arguments, work, &cluster, None)
        }
        (None, None) => show_run(arguments),
    }
}

fn show_cluster(
    arguments: &PlanArguments,
    work: Work,
    cluster: &Cluster,
    published: Option<&PublishedRun>,
) -> Result<()> {
    let work = Work { tokens: arguments.tokens.unwrap_or(work.tokens), ..work };
    let cluster = Cluster {
        devices: arguments.devices.unwrap_or(cluster.devices),
        peak_flops: arguments.peak.unwrap_or(cluster.peak_flops),
        utilisation: arguments.utilisation.unwrap_or(cluster.utilisation),
        watts: arguments.device_watts.unwrap_or(cluster.watts),
        overhead: cluster.overhead,
        price_per_device_hour: arguments.device_price.unwrap_or(cluster.price_per_device_hour),
        network: network(arguments),
    };
    let cost = cluster.cost(&work);
    // Published prices are in dollars.
    let currency = if published.is_some() { "USD" } else { arguments.prices.currency.as_str() };
    match arguments.json {
        true => println!("{:#}", serde_json::json!({ "work": work, "cluster": cluster, "cost": cost })),
        false => print!("{}", cluster_text(&cluster, &cost, published, currency)),
    }
    Ok(())
}

fn network(arguments: &PlanArguments) -> Option<Network> {
    arguments.network.map(|bytes_per_second| Network { bytes_per_second, latency: arguments.latency })
}

fn show_run(arguments: &PlanArguments) -> Result<()> {
    let of_a_cluster = [
        arguments.devices,
        arguments.peak,
        arguments.utilisation,
        arguments.device_watts,
        arguments.device_price,
    ];
    if of_a_cluster.iter().any(Option::is_some) {
        bail!(
            "--devices, --peak, --utilisation, --device-watts and --device-price describe another cluster: give --parameters and --tokens, or \
             --preset"
        );
    }
    let configuration = configuration(arguments)?;
    let config = configuration.model_config();
    let compute = ComputeOptions::resolve(None, arguments.threads.map(usize::from))?;
    let load = LoadOptions { simd: compute.simd, team: Arc::new(compute.start_team()?) };
    let rows = configuration.batch.sequences * configuration.data.sequence_length;
    // A longer document is divided into sequences.
    let sequence = configuration.data.sequence_length;
    let length = arguments.document_length.map_or(sequence, |length| length.min(sequence));
    let memory =
        arguments.memory.map_or_else(|| Ok(crate::machine::memory()?.available), |size| anyhow::Ok(size.0));
    let probe = match arguments.speed {
        Some(speed) => {
            Probe { peak_flops: speed, achieved_flops: speed, update_seconds: 0.0, threads: compute.threads }
        }
        None => {
            let sequences = rows.div_ceil(length);
            probe_training(&config, &configuration.optimiser, sequences, length, &load, PROBE)?
        }
    };
    let machine = Machine {
        memory_bytes: Some(memory?),
        disk_bytes: Checkpoints::new(arguments.out.as_deref().unwrap_or(Path::new(".")), 1).free_bytes(),
        probe,
        network: network(arguments),
        prices: arguments.prices.prices(compute.threads),
    };
    let shape = RunShape {
        ranks: arguments.ranks.unwrap_or(1),
        ..configuration.run_shape(arguments.document_length, None)
    };
    if let Some(most) = arguments.scaling {
        let plans = Plan::scaling(&config, &shape, &machine, most);
        match arguments.json {
            true => println!("{}", serde_json::to_string_pretty(&plans)?),
            false => print!("{}", scaling_text(&plans)),
        }
        return Ok(());
    }
    let plan = Plan::of(&config, &shape, &machine);
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&plan)?),
        false => print!("{}", plan_text(&plan)),
    }
    Ok(plan.check()?)
}

/// As `pretrain` would have it.
fn configuration(arguments: &PlanArguments) -> Result<Configuration> {
    let (depth, overrides) = super::pretrain::given_settings(&super::pretrain::Given {
        config: arguments.config.as_deref(),
        set: &arguments.set,
        depth: arguments.depth,
        experts: &arguments.experts,
        length: arguments.tokens.map(|_| "--tokens"),
    })?;
    let vocabulary = arguments.vocabulary.unwrap_or(DEFAULT_VOCABULARY);
    Ok(match arguments.tokens {
        Some(tokens) => Configuration::resolve_for(depth, vocabulary, tokens as u64, &overrides)?,
        None => Configuration::resolve(depth, vocabulary, &overrides)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;
    use clap::error::ErrorKind;

    /// Why the options are refused.
    fn refused(options: &[&str]) -> Option<ErrorKind> {
        let command = PlanArguments::augment_args(Command::new("plan"));
        let given = std::iter::once("plan").chain(options.iter().copied());
        command.try_get_matches_from(given).err().map(|error| error.kind())
    }

    /// Regression: these were taken beside a cluster or a published run, and changed nothing.
    #[test]
    fn what_another_cluster_has_no_use_for_is_refused() {
        let cluster = ["--parameters", "7B", "--tokens", "1T", "--peak", "312T"];
        let preset = ["--preset", "gpt-3"];
        for option in ["--watts", "--price-per-kwh", "--price-per-hour", "--depth"] {
            for run in [&cluster[..], &preset[..]] {
                let options = [run, &[option, "3"]].concat();
                assert_eq!(refused(&options), Some(ErrorKind::ArgumentConflict), "{options:?}");
            }
            assert_eq!(refused(&[option, "3"]), None, "{option}");
        }
        // A published run's prices are in dollars; another cluster's are in what is said.
        let in_francs = ["--currency", "CHF"];
        assert_eq!(refused(&[&preset[..], &in_francs].concat()), Some(ErrorKind::ArgumentConflict));
        assert_eq!(refused(&[&preset[..], &cluster].concat()), Some(ErrorKind::ArgumentConflict));
        for run in [&cluster[..], &preset, &["--preset", "list"], &[]] {
            assert_eq!(refused(run), None, "{run:?}");
        }
        assert_eq!(refused(&[&cluster[..], &in_francs].concat()), None);
    }

    /// Regression: without a network, the time of its messages was ignored.
    #[test]
    fn latency_is_refused_without_a_network() {
        let latency = ["--latency", "0.001"];
        assert_eq!(refused(&latency), Some(ErrorKind::MissingRequiredArgument));
        let preset = ["--preset", "gpt-3"];
        assert_eq!(refused(&[preset, latency].concat()), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(refused(&[latency, ["--network", "125M"]].concat()), None);
    }
}
