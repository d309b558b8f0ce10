//! A plan in words.

use std::fmt::Write;

use zhenjin_train::metrics::{duration_text, quantity_text};
use zhenjin_train::plan::bytes_text;

use super::AlignPlan;
use crate::configuration::TuningKind;

/// A plan in a few lines.
pub fn plan_text(plan: &AlignPlan) -> String {
    let mut text = String::new();
    for (name, what) in [
        ("parameters", parameters_line(plan)),
        ("steps", steps_line(plan)),
        ("memory", memory_line(plan)),
        ("disk", disk_line(plan)),
        ("time", time_line(plan)),
        ("energy", energy_line(plan)),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12} {what}");
    }
    text
}

fn parameters_line(plan: &AlignPlan) -> String {
    let all = quantity_text(plan.parameters as f64);
    match plan.tuning {
        TuningKind::Full => format!("{all}, all of which learn"),
        TuningKind::Lora => {
            format!("{all}, and {} of an adapter that learn", quantity_text(plan.learning_parameters as f64))
        }
    }
}

fn steps_line(plan: &AlignPlan) -> String {
    let what = match plan.answers {
        0 => format!("{} examples", plan.step_examples),
        answers => format!("{} prompts with {answers} answers each", plan.step_examples),
    };
    let most = if plan.answers > 0 { "at most " } else { "" };
    format!(
        "{} of {what}, {most}{} tokens a step, at most {} at a time; {:.1} passes over the examples",
        plan.steps,
        quantity_text(plan.tokens.mean),
        plan.tokens.largest_micro_batch,
        plan.passes,
    )
}

fn memory_line(plan: &AlignPlan) -> String {
    let available = plan.memory_available.map(|bytes| format!(" of {}", bytes_text(bytes)));
    let parts = plan.memory.parts().map(|(name, bytes)| format!("{name} {}", bytes_text(bytes)));
    format!(
        "{}{}: {}",
        bytes_text(plan.memory.total),
        available.unwrap_or_default(),
        parts.collect::<Vec<_>>().join(", ")
    )
}

fn disk_line(plan: &AlignPlan) -> String {
    let free = plan.disk_available.map(|bytes| format!(" of {} free", bytes_text(bytes)));
    format!("{}{} for checkpoints", bytes_text(plan.disk), free.unwrap_or_default())
}

fn time_line(plan: &AlignPlan) -> String {
    let how = match plan.pace.measured {
        true => "measured with this model and these examples",
        false => "estimated from the processor's greatest speed",
    };
    let writing = match plan.writing_seconds > 0.0 {
        true => {
            format!(", {} of it for writing answers of the full length", duration_text(plan.writing_seconds))
        }
        false => String::new(),
    };
    let preparing = match plan.preparing_seconds > 0.0 {
        true => {
            format!("; {} before the first step for the reference", duration_text(plan.preparing_seconds))
        }
        false => String::new(),
    };
    format!(
        "{}, {} a step{writing}{preparing}; {how}; without held-out measurements and samples",
        duration_text(plan.seconds()),
        duration_text(plan.step_seconds),
    )
}

fn energy_line(plan: &AlignPlan) -> String {
    let assumed = if plan.prices.watts_known { "" } else { " (an assumption)" };
    format!(
        "{:.3} kWh at {:.0} W{assumed}, {:.4} {}",
        plan.joules / 3.6e6,
        plan.prices.watts,
        plan.price,
        plan.prices.currency
    )
}
