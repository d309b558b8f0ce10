//! A plan in words, for the terminal and for the log of a run.

use super::{Cluster, ClusterCost, Plan, PublishedRun};
use crate::metrics::{duration_text, quantity_text};
use std::fmt::Write;

/// Bytes in powers of 1,024: `870 B`, `12.3 MiB`, `1.02 GiB`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut scaled, mut unit) = (bytes as f64, 0);
    while scaled >= 1023.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && scaled < 99.95) + usize::from(unit > 0 && scaled < 9.995);
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// An amount of money.
pub(crate) fn money_text(amount: f64, currency: &str) -> String {
    match amount {
        amount if amount >= 1e5 => format!("{} {currency}", quantity_text(amount)),
        amount if amount >= 100.0 => format!("{amount:.0} {currency}"),
        amount if amount >= 0.095 => format!("{amount:.2} {currency}"),
        amount => format!("{amount:.4} {currency}"),
    }
}

/// A plan in about a dozen lines.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    for (name, what) in [
        ("parameters", parameters_line(plan)),
        ("tokens", tokens_line(plan)),
        ("operations", operations_line(plan)),
        ("memory", memory_line(plan)),
        ("disk", disk_line(plan)),
        ("machine", machine_line(plan)),
        ("time", time_line(plan)),
        ("energy", energy_line(plan)),
        ("money", money_line(plan)),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12} {what}");
    }
    text
}

fn parameters_line(plan: &Plan) -> String {
    let parameters = &plan.parameters;
    let active = match parameters.idle_matrices {
        0 => String::new(),
        _ => format!(", of which a token uses {}", quantity_text(parameters.active() as f64)),
    };
    format!(
        "{}{active} ({} in the layers' matrices, {} in the embedding{})",
        quantity_text(parameters.total() as f64),
        quantity_text(parameters.matrices as f64),
        quantity_text(parameters.embedding as f64),
        if parameters.head > 0 { " and as many in the head" } else { ", which is the head too" },
    )
}

fn tokens_line(plan: &Plan) -> String {
    let shape = &plan.shape;
    format!(
        "{} in {} steps of {} ({} micro-batches of {} sequences of {}); {:.1} for each parameter",
        quantity_text(plan.tokens as f64),
        shape.steps,
        quantity_text(shape.tokens_per_step() as f64),
        shape.micro_batches,
        shape.sequences,
        shape.sequence_length,
        plan.tokens_per_parameter,
    )
}

fn operations_line(plan: &Plan) -> String {
    let (of_token, total) = (&plan.token_operations, plan.token_operations.total());
    format!(
        "{:.3e} in all, {} for a token: {:.0} % layers' matrices, {:.0} % attention, {:.0} % head (6·N·D says {:.3e})",
        plan.operations,
        quantity_text(total),
        100.0 * of_token.matrices / total,
        100.0 * of_token.attention / total,
        100.0 * of_token.head / total,
        plan.six_n_d,
    )
}

fn memory_line(plan: &Plan) -> String {
    let memory = &plan.memory;
    let available =
        plan.machine.memory_bytes.map(|bytes| format!(" of {}", bytes_text(bytes))).unwrap_or_default();
    format!(
        "{}{available}: weights {}, gradients {}, optimiser {}, activations {}, logits {}{}",
        bytes_text(memory.total),
        bytes_text(memory.weights),
        bytes_text(memory.gradients),
        bytes_text(memory.optimiser),
        bytes_text(memory.activations + memory.workspace),
        bytes_text(memory.logits),
        match plan.recomputed_layers {
            0 => String::new(),
            layers => format!("; {layers} layers are computed again in the backward pass"),
        },
    )
}

fn disk_line(plan: &Plan) -> String {
    let free = plan.machine.disk_bytes.map(|bytes| format!(" of {} free", bytes_text(bytes)));
    format!("{}{} for checkpoints", bytes_text(plan.disk_bytes), free.unwrap_or_default())
}

fn machine_line(plan: &Plan) -> String {
    let (probe, ranks) = (&plan.machine.probe, plan.shape.ranks);
    format!(
        "{} threads, peak {}FLOP/s; measured on this model {}FLOP/s ({:.0} %){}",
        probe.threads,
        quantity_text(probe.peak_flops),
        quantity_text(probe.achieved_flops),
        100.0 * probe.efficiency(),
        if ranks > 1 { format!("; {ranks} of them") } else { String::new() },
    )
}

fn time_line(plan: &Plan) -> String {
    let network = match plan.network_seconds > 0.0 {
        true => format!(
            " ({:.3} s a step, {:.3} s of it waiting for the network; each machine sends {} a step)",
            plan.step_seconds(),
            plan.step_exchange.waited,
            bytes_text(plan.step_exchange.bytes as u64),
        ),
        false => String::new(),
    };
    format!(
        "{} at {} tokens/s{network}, without validation and samples",
        duration_text(plan.seconds),
        quantity_text(plan.tokens_per_second)
    )
}

fn energy_line(plan: &Plan) -> String {
    let prices = &plan.machine.prices;
    let assumed = if prices.watts_known { "" } else { " (an assumption)" };
    format!("{:.3} kWh at {:.0} W{assumed}", plan.joules / 3.6e6, prices.watts)
}

fn money_line(plan: &Plan) -> String {
    let prices = &plan.machine.prices;
    format!(
        "{} (a kilowatt-hour for {}, a machine's hour for {})",
        money_text(plan.price, &prices.currency),
        money_text(prices.per_kilowatt_hour, &prices.currency),
        money_text(prices.per_hour, &prices.currency),
    )
}

/// The same run on several numbers of machines, as a table in Markdown.
pub fn scaling_text(plans: &[Plan]) -> String {
    let mut text = String::from(
        "| machines | seconds a step | waiting for the network | sent by each machine a step | tokens/s | efficiency | whole run | kWh | price |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let alone = plans.first().map_or(1.0, |plan| plan.tokens_per_second / plan.shape.ranks as f64);
    for plan in plans {
        let (ranks, step) = (plan.shape.ranks, plan.step_seconds());
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {ranks} | {step:.3} | {:.0} % | {} | {} | {:.0} % | {} | {} | {} |",
            100.0 * plan.step_exchange.waited / step,
            bytes_text(plan.step_exchange.bytes as u64),
            quantity_text(plan.tokens_per_second),
            100.0 * plan.tokens_per_second / ranks as f64 / alone,
            duration_text(plan.seconds),
            quantity_text(plan.joules / 3.6e6),
            money_text(plan.price, &plan.machine.prices.currency),
        );
    }
    text
}

/// The cost of training on machines that are not here; beside published figures where there are some.
pub fn cluster_text(
    cluster: &Cluster,
    cost: &ClusterCost,
    published: Option<&PublishedRun>,
    currency: &str,
) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String, stated: Option<String>| {
        let stated = stated.map(|stated| format!(" (published: {stated})")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12} {what}{stated}");
    };
    if let Some(run) = published {
        line("run", run.description.to_owned(), None);
    }
    let stated = |of: fn(&PublishedRun) -> Option<f64>, format: &dyn Fn(f64) -> String| {
        published.and_then(of).map(format)
    };
    line(
        "operations",
        format!("{:.3e}, by 6·N·D", cost.operations),
        stated(|run| run.operations, &|value| format!("{value:.3e}")),
    );
    line(
        "devices",
        format!(
            "{} of {}FLOP/s, {:.1} % of it used, {:.0} W each, {:.2} for each watt",
            cluster.devices,
            quantity_text(cluster.peak_flops),
            100.0 * cluster.utilisation,
            cluster.watts,
            cluster.overhead,
        ),
        published
            .and_then(PublishedRun::implied_utilisation)
            .map(|used| format!("hours that amount to {:.1} %", 100.0 * used)),
    );
    line(
        "time",
        format!("{} at {} tokens/s", duration_text(cost.seconds), quantity_text(cost.tokens_per_second)),
        stated(|run| run.seconds, &duration_text).or_else(|| {
            stated(|run| run.tokens_per_second, &|value| format!("{} tokens/s", quantity_text(value)))
        }),
    );
    if cost.network_seconds > 0.0 {
        line("network", format!("{} of it", duration_text(cost.network_seconds)), None);
    }
    line("device hours", quantity_text(cost.device_hours), stated(|run| run.device_hours, &quantity_text));
    line("energy", format!("{} kWh", quantity_text(cost.kilowatt_hours)), None);
    line(
        "money",
        format!(
            "{} at {} for a device's hour",
            money_text(cost.price, currency),
            money_text(cluster.price_per_device_hour, currency)
        ),
        stated(|run| run.price, &|value| money_text(value, currency)),
    );
    if let Some(run) = published {
        line("source", run.source.to_owned(), None);
    }
    text
}
