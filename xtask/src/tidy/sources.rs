//! Rules on source files: length, where `unsafe` may stand, headers, unfinished marks, who may read the surroundings.

use super::Finding;
use anyhow::Result;
use std::path::Path;

const MAX_LINES: usize = 600;
const SOURCE_ENDINGS: &[&str] = &[".rs", ".ts", ".svelte", ".css", ".py", ".mjs", ".js"];

/// Files that a program writes, as long as they have to be.
const GENERATED: &[&str] = &["web/src/lib/api/schema.ts"];

/// The modules (files or folders) that may hold `unsafe`.
const UNSAFE_MODULES: &[&str] = &["crates/tensor/src/", "crates/files/src/mapping.rs"];

/// Marks of unfinished work, put together here so that this file does not hold them.
fn unfinished_marks() -> [String; 5] {
    ["TO DO", "FIX ME", "XX X", "todo !(", "unimplemented !("].map(|mark| mark.replace(' ', ""))
}

/// Calls by which a library would reach around its caller.
const SURROUNDINGS: &[&str] =
    &["env::var", "env::args", "env::current_dir", "home_dir()", "io::stdin", "io::stdout"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        if file.ends_with("package-lock.json") || file.ends_with("Cargo.lock") {
            continue;
        }
        let size = std::fs::metadata(root.join(file))?.len();
        let most = most_bytes(file);
        if size > most {
            findings.push(format!("{file}: {size} bytes; at most {most} belong in the repository"));
        }
        if !SOURCE_ENDINGS.iter().any(|ending| file.ends_with(ending)) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file))?;
        check_length(file, &text, &mut findings);
        check_unfinished(file, &text, &mut findings);
        if file.ends_with(".rs") {
            check_rust(file, &text, &mut findings);
        }
    }
    Ok(findings)
}

/// The model that the program carries may have 10 MB, everything else 1 MiB.
fn most_bytes(file: &str) -> u64 {
    if file == "models/poet.gguf" { 10_000_000 } else { 1 << 20 }
}

fn check_length(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > MAX_LINES && !GENERATED.contains(&file) {
        findings.push(format!("{file}: {lines} lines; split what is over {MAX_LINES}"));
    }
}

fn check_unfinished(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let marks = unfinished_marks();
    for (number, line) in text.lines().enumerate() {
        if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
            findings.push(format!("{file}:{}: {mark}: finish it or leave it out", number + 1));
        }
    }
}

fn check_rust(file: &str, text: &str, findings: &mut Vec<Finding>) {
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!("{file}:1: no header: begin with `//!` and what the file is for"));
    }
    let tests_from = text.find("#[cfg(test)]").unwrap_or(text.len());
    let is_library =
        file.starts_with("crates/") && file.contains("/src/") && !file.starts_with("crates/cli/");
    let mut offset = 0;
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if has_unsafe(code) && !UNSAFE_MODULES.iter().any(|module| file.starts_with(module)) && is_library {
            findings
                .push(format!("{file}:{}: unsafe outside the named modules {UNSAFE_MODULES:?}", number + 1));
        }
        if is_library
            && offset < tests_from
            && let Some(call) = SURROUNDINGS.iter().find(|call| code.contains(**call))
        {
            findings.push(format!("{file}:{}: {call}: only crates/cli reads its surroundings", number + 1));
        }
        offset += line.len() + 1;
    }
}

fn has_unsafe(code: &str) -> bool {
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| code.contains(word))
}
