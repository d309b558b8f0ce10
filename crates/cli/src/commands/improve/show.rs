//! Improvements for people's eyes.

use crate::text::shown;
use anyhow::Result;
use zhenjin_promotions::{Criterion, DataCounts, Improvement, ImprovementState, Improvements, LeftOut};

pub(super) fn list(improvements: &Improvements, json: bool) -> Result<()> {
    let records = improvements.list()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&records)?);
        return Ok(());
    }
    if records.is_empty() {
        println!("no improvement was made yet");
    }
    let is_running = improvements.is_running();
    for record in records {
        let state = state(&record, is_running);
        let data = &record.data;
        println!(
            "{}  {}  {}  {state}  {} examples, {} held out",
            record.id,
            shown(&record.model),
            record.method,
            data.train,
            data.held_out
        );
    }
    Ok(())
}

fn state(record: &Improvement, is_running: bool) -> &'static str {
    match record.state {
        ImprovementState::Running if is_running => "running",
        ImprovementState::Running => "interrupted",
        ImprovementState::Failed => "failed",
        ImprovementState::Refused => "refused",
        ImprovementState::Passed => "passed",
    }
}

/// What it learns from, on stderr.
pub(super) fn data(record: &Improvement) {
    let data = &record.data;
    eprintln!(
        "improvement {} of {} by {}: {} choices, {} corrections, {} thumbs of {} people in {} conversations; {} examples to learn from, {} \
         held out",
        record.id,
        shown(&record.model),
        record.method,
        data.pairs,
        data.corrections,
        data.ratings,
        data.owners,
        data.conversations,
        data.train,
        data.held_out
    );
    for LeftOut { reason, count } in &data.left_out {
        eprintln!("left out: {count} ({})", shown(reason));
    }
}

pub(super) fn record(record: &Improvement, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(record)?);
        return Ok(());
    }
    if record.data == DataCounts::default() {
        // It ended before anything was counted: noughts would say that nobody judged.
        eprintln!("improvement {} of {}", record.id, shown(&record.model));
    } else {
        data(record);
    }
    // One that ended before it was measured has no table.
    if !record.gate.is_empty() {
        table(record);
    }
    match (record.state, &record.error) {
        (ImprovementState::Passed, _) => println!("passed"),
        (ImprovementState::Refused, _) => println!("refused: what answers now stays"),
        (_, Some(error)) => println!("failed: {}", shown(error)),
        (_, None) => println!("not ended"),
    }
    Ok(())
}

fn table(record: &Improvement) {
    println!(
        "{:22} {:>9} {:>9} {:>19} {:>9} {:>9}  ",
        "criterion", "value", "now", "95 % interval", "limit", "examples"
    );
    for criterion in &record.gate {
        println!("{}", row(criterion));
        if let Some(note) = &criterion.note {
            println!("    {}", shown(note));
        }
    }
    if let Some(word) = &record.compared_with {
        println!("compared with {}", Improvement::in_words(word));
    }
}

fn row(criterion: &Criterion) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    let interval = match (criterion.lower, criterion.upper) {
        (Some(lower), Some(upper)) => format!("{lower:.3} to {upper:.3}"),
        _ => "–".to_owned(),
    };
    let verdict = match (criterion.passed, criterion.value) {
        (Some(true), _) => "passed",
        (Some(false), _) => "NOT PASSED",
        (None, Some(_)) => "decides nothing",
        (None, None) => "not measured",
    };
    format!(
        "{:22} {:>9} {:>9} {:>19} {:>9.3} {:>9}  {verdict}",
        criterion.name,
        number(criterion.value),
        number(criterion.base),
        interval,
        criterion.limit,
        criterion.examples
    )
}
