//! Documents rot: every room is named in ARCHITECTURE.md, and every path that a document names exists.

use super::Finding;
use anyhow::Result;
use std::path::Path;

const ROOTS: &[&str] = &["crates/", "web/", "xtask/", "fuzz/", "scripts/", "tests/", "docs/", ".ci/"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let text = std::fs::read_to_string(root.join(file))?;
        for (number, line) in text.lines().enumerate() {
            for path in code_spans(line).filter(|span| names_a_path(span)) {
                if !root.join(path).exists() {
                    findings.push(format!("{file}:{}: `{path}` does not exist", number + 1));
                }
            }
        }
    }
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !architecture.contains(&format!("`{name}`")) {
            findings.push(format!("ARCHITECTURE.md: the room `{name}` is not named"));
        }
    }
    Ok(findings)
}

fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn names_a_path(span: &str) -> bool {
    ROOTS.iter().any(|root| span.starts_with(root)) && !span.contains([' ', '*', '<', '{', '$', '…'])
}
