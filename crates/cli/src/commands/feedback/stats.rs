//! `zhenjin feedback stats`: the counts that `GET /api/feedback/statistics` gives.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use zhenjin_store::{ApiKey, FeedbackCounts, FeedbackStatistics, Owner, Store};

pub(super) async fn print(store: &Store, as_json: bool) -> Result<()> {
    let counted = FeedbackStatistics::of(&store.feedback_rows().await?);
    let keys = store.api_keys().await?;
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", json(&counted, &keys))?;
        return Ok(());
    }
    let FeedbackStatistics { all, reasons, models, owners, with_consent, without_consent, in_trash } =
        counted;
    writeln!(
        out,
        "{} judgements: {} up, {} down, {} corrections, {} choices, {} comments",
        all.judgements, all.up, all.down, all.corrections, all.choices, all.comments
    )?;
    writeln!(out, "of owners who allow learning from them: {with_consent}, of others: {without_consent}")?;
    writeln!(
        out,
        "in improvements (learned from or held out): {}, new: {}, in the trash and not counted: {in_trash}",
        all.trained, all.new
    )?;
    for (title, counts) in [("reasons", reasons), ("models", models)] {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "{title}: {}", if counts.is_empty() { "none".to_owned() } else { counts.join(", ") })?;
    }
    for (owner, (allowed, counts)) in &owners {
        let consent = if *allowed { "allowed" } else { "not allowed" };
        writeln!(
            out,
            "{owner}\t{}\t{consent}\t{} judgements, {} in improvements, {} new",
            name(owner, &keys),
            counts.judgements,
            counts.trained,
            counts.new
        )?;
    }
    Ok(())
}

/// What people call the owner.
fn name<'a>(owner: &Owner, keys: &'a [ApiKey]) -> &'a str {
    match owner {
        Owner::Local => "this machine",
        Owner::Key(_) => key_name(owner, keys).unwrap_or(""),
    }
}

/// What the operator calls the owner's key; `None` where there is none.
fn key_name<'a>(owner: &Owner, keys: &'a [ApiKey]) -> Option<&'a str> {
    let Owner::Key(id) = owner else { return None };
    keys.iter().find(|key| key.id == *id).map(|key| key.name.as_str())
}

fn json(counted: &FeedbackStatistics, keys: &[ApiKey]) -> Value {
    let owners: Vec<Value> = counted
        .owners
        .iter()
        .map(|(owner, (allowed, counts))| {
            json!({
                "owner": owner.as_str(),
                "name": key_name(owner, keys),
                "allowed": allowed,
                "counts": json_of(counts),
            })
        })
        .collect();
    json!({
        "all": json_of(&counted.all),
        "reasons": counted.reasons,
        "models": counted.models,
        "owners": owners,
        "with_consent": counted.with_consent,
        "without_consent": counted.without_consent,
        "in_trash": counted.in_trash,
    })
}

fn json_of(counts: &FeedbackCounts) -> Value {
    json!({
        "judgements": counts.judgements,
        "up": counts.up,
        "down": counts.down,
        "corrections": counts.corrections,
        "choices": counts.choices,
        "comments": counts.comments,
        "trained": counts.trained,
        "new": counts.new,
    })
}
