//! `zhenjin data check`.

use super::{CheckArguments, open, threads};
use crate::home::Home;
use crate::text::shown;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io::Write;
use time::OffsetDateTime;
use zhenjin_align::data::{
    Alike, BadPolicy, BadRecords, CheckOptions, Dataset, Encoder, Leaks, Lengths, ReadOptions, Report,
    TokenReport, check,
};

/// The widest bar of a distribution.
const BAR: u64 = 40;

pub(super) fn run(home: &Home, arguments: &CheckArguments) -> Result<()> {
    let read = ReadOptions { bad: BadPolicy::Drop, ..ReadOptions::default() };
    let data = Dataset::read(&arguments.files, &read)?;
    let against =
        if arguments.against.is_empty() { None } else { Some(Dataset::read(&arguments.against, &read)?) };
    let opened = arguments.model.as_ref().map(|model| open(home, model)).transpose()?;
    let encoder = opened.as_ref().map(|opened| {
        let settings = arguments.template.thinking.settings(OffsetDateTime::now_utc());
        let encoder = Encoder::new(&opened.tokenizer, opened.template.as_ref(), settings);
        encoder.map(|encoder| encoder.with_context(opened.file.config().context_length))
    });
    let options = CheckOptions {
        context: arguments.context,
        learnt: arguments.template.learnt(),
        threads: threads(arguments.threads),
    };
    let report = check(&data, against.as_ref(), encoder.transpose()?.as_ref(), &options)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(());
    }
    let mut text = Vec::new();
    print(&mut text, &report, arguments.context)?;
    // Names of fields, reasons and paths come from files, and may hold what steers a terminal.
    Ok(out.write_all(shown(&String::from_utf8_lossy(&text)).as_bytes())?)
}

fn print(out: &mut impl Write, report: &Report, context: Option<usize>) -> std::io::Result<()> {
    let each = if report.bad.total() > 0 { "the good ones each" } else { "each" };
    for file in &report.files {
        let format = match file.format {
            Some(format) => format!("{each} {format}"),
            None => "none of a known format".to_owned(),
        };
        match file.records {
            0 => writeln!(
                out,
                "{}: no records; it is empty, or has only empty lines or an empty array",
                file.path
            )?,
            records => writeln!(out, "{}: {records} records, {format}", file.path)?,
        }
    }
    for (kind, count) in &report.kinds {
        writeln!(out, "{count} {}", kind.name())?;
    }
    let roles: Vec<String> = report.roles.iter().map(|(role, count)| format!("{role} {count}")).collect();
    // Of no examples there is nothing to say.
    if !report.kinds.is_empty() {
        writeln!(out, "messages: {}", if roles.is_empty() { "none".to_owned() } else { roles.join(", ") })?;
        lengths(out, "characters of an example", &report.characters)?;
        if let Some(tokens) = &report.tokens {
            print_tokens(out, tokens, context)?;
        }
        alike(out, "the same as an earlier example", &report.duplicates)?;
        alike(out, "nearly the same as an earlier example", &report.near_duplicates)?;
        if let Some(leaks) = &report.leaks {
            print_leaks(out, leaks)?;
        }
    }
    counted(out, "fields without effect", &report.unread_fields)?;
    counted(out, "done beside reading", &report.notes)?;
    bad(out, "bad records", &report.bad)?;
    writeln!(out, "fingerprint: {}", report.fingerprint)
}

fn print_tokens(out: &mut impl Write, tokens: &TokenReport, context: Option<usize>) -> std::io::Result<()> {
    lengths(out, "tokens of an example", &tokens.lengths)?;
    let most = tokens.lengths.up_to.values().copied().max().unwrap_or(0).max(1);
    for (up_to, count) in &tokens.lengths.up_to {
        let bar = "█".repeat((count * BAR).div_ceil(most) as usize);
        writeln!(out, "  up to {up_to:>7}: {count:>7} {bar}")?;
    }
    if tokens.learnt.total > 0 {
        lengths(out, "of them learnt", &tokens.learnt)?;
    }
    if let Some(longest) = &tokens.longest {
        writeln!(out, "the longest: {longest}")?;
    }
    if let (Some(too_long), Some(context)) = (tokens.too_long, context) {
        writeln!(out, "longer than {context} tokens: {too_long}")?;
    }
    print_beyond_context(out, tokens)?;
    let (rewritten, boundaries) = (tokens.counts.turns_apart, tokens.counts.boundaries_apart);
    for (count, reason) in [
        (rewritten, "the template rewrites what was said before"),
        (boundaries, "other tokens stand for the same text once more follows it"),
    ] {
        if count > 0 {
            writeln!(
                out,
                "conversations whose answers are examples of their own, because {reason}: {count}"
            )?;
        }
    }
    bad(out, "records that the template cannot write", &tokens.bad)
}

/// Says how many examples are longer than the model's context, and of how many the tokens behind it are not counted.
fn print_beyond_context(out: &mut impl Write, tokens: &TokenReport) -> std::io::Result<()> {
    let (Some(context), 1..) = (tokens.context, tokens.beyond_context) else { return Ok(()) };
    let count = tokens.beyond_context;
    write!(out, "examples that are longer than the model's context of {context} tokens: {count}")?;
    match tokens.counts.unfinished {
        0 => writeln!(out),
        unfinished => writeln!(out, "; of {unfinished} of them the tokens are counted up to there"),
    }
}

fn print_leaks(out: &mut impl Write, leaks: &Leaks) -> std::io::Result<()> {
    if leaks.bad.total() > 0 {
        bad(out, "bad records of the other files, with which nothing is compared", &leaks.bad)?;
    }
    writeln!(out, "against {} other examples", leaks.against)?;
    alike(out, "  there word by word", &leaks.examples)?;
    alike(out, "  there with the same question", &leaks.questions)?;
    alike(out, "  there with nearly the same question", &leaks.near_questions)
}

fn lengths(out: &mut impl Write, what: &str, lengths: &Lengths) -> std::io::Result<()> {
    let Lengths { count, least, median, percentile_90, percentile_99, most, total, .. } = lengths;
    if *count == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "{what}: {least} to {most}, median {median}, 90 % up to {percentile_90}, 99 % up to {percentile_99}, together {total}"
    )
}

fn alike(out: &mut impl Write, what: &str, alike: &Alike) -> std::io::Result<()> {
    match &alike.first {
        Some((one, other)) => writeln!(out, "{what}: {} (first {one}, like {other})", alike.count)?,
        None => writeln!(out, "{what}: 0")?,
    }
    if alike.not_all_compared > 0 {
        writeln!(
            out,
            "    perhaps more: {} others are a little like so many that they were compared with the likeliest alone",
            alike.not_all_compared
        )?;
    }
    Ok(())
}

fn counted(out: &mut impl Write, what: &str, counts: &BTreeMap<String, u64>) -> std::io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "{what}:")?;
    counts.iter().try_for_each(|(name, count)| writeln!(out, "  {name}: {count}"))
}

fn bad(out: &mut impl Write, what: &str, bad: &BadRecords) -> std::io::Result<()> {
    writeln!(out, "{what}: {}", bad.total())?;
    for (kind, counted) in bad.by_kind() {
        writeln!(out, "  {}: {}", kind.description(), counted.count)?;
        writeln!(out, "    first {}:{}: {}", counted.first.file, counted.first.line, counted.first.reason)?;
    }
    Ok(())
}
