//! `docs/api.md`'s tables of fields, written from the tables that requests are checked by.

use std::fmt::Write;

use super::embeddings::EMBEDDINGS;
use super::field_tables::{CHAT, COMPLETION};
use super::fields::{Field, Kind, Origin, Treatment};
use super::responses::TABLE as RESPONSES;
use super::tokens::{DETOKENIZE, TOKENIZE};
use crate::{anthropic, ollama};

/// The tables of all routes, as Markdown.
pub fn field_reference() -> String {
    let mut page = String::new();
    let own = [
        ("POST /v1/chat/completions", CHAT),
        ("POST /v1/completions", COMPLETION),
        ("POST /v1/responses", RESPONSES),
        ("POST /v1/embeddings", EMBEDDINGS),
        ("POST /tokenize", TOKENIZE),
        ("POST /detokenize", DETOKENIZE),
    ];
    for (route, table) in own.into_iter().chain(anthropic::field_tables()).chain(ollama::field_tables()) {
        // Writing into a string cannot fail.
        let _ = if route.contains('`') {
            write!(page, "### {route}\n\n")
        } else {
            write!(page, "### `{route}`\n\n")
        };
        write_table(&mut page, "Honoured", table, |treatment| {
            matches!(treatment, Treatment::Honoured | Treatment::Required)
        });
        write_table(&mut page, "Taken, without effect here", table, |treatment| {
            matches!(treatment, Treatment::NoEffect)
        });
        write_table(&mut page, "Refused by name", table, |treatment| {
            matches!(treatment, Treatment::Refused { .. })
        });
    }
    page
}

fn write_table(page: &mut String, title: &str, table: &[&[Field]], belongs: fn(Treatment) -> bool) {
    let rows: Vec<&Field> =
        table.iter().copied().flatten().filter(|field| belongs(field.treatment)).collect();
    if rows.is_empty() {
        return;
    }
    let _ = write!(page, "**{title}**\n\n| field | takes | |\n|---|---|---|\n");
    for field in rows {
        let mark = if field.origin == Origin::Extension { " (extension)" } else { "" };
        let must = if matches!(field.treatment, Treatment::Required) { " Required." } else { "" };
        let note = field.note.replace('|', "\\|");
        let _ = writeln!(page, "| `{}`{mark} | {} | {note}{must} |", field.name, takes(field));
    }
    page.push('\n');
}

fn takes(field: &Field) -> String {
    if let Treatment::Refused { except } = field.treatment {
        let neutral = except.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
        return if neutral.is_empty() { "only null".to_owned() } else { format!("only {neutral} or null") };
    }
    match field.kind {
        Kind::Boolean => "true, false".to_owned(),
        Kind::Integer { min: i64::MIN, max: i64::MAX } => "whole number of 64 bits".to_owned(),
        Kind::Integer { min, max: i64::MAX } => format!("whole number from {min}"),
        Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
        Kind::Limit { min, max: i64::MAX } => format!("whole number from {min}, or -1"),
        Kind::Limit { min, max } => format!("whole number, {min} to {max}, or -1"),
        Kind::Number { min, max } => format!("number, {min} to {max}"),
        Kind::Text { max } => format!("text of at most {max} characters"),
        Kind::OneOf(choices) => choices.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", "),
        Kind::TextMap { pairs, key, value } => {
            format!("object of at most {pairs} texts; names of {key}, texts of {value} characters")
        }
        Kind::Structured(_) => "see right".to_owned(),
        Kind::Anything => "anything".to_owned(),
    }
}
