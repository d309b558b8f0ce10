//! Every path that a document names exists.

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
    Ok(findings)
}

fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn names_a_path(span: &str) -> bool {
    ROOTS.iter().any(|root| span.starts_with(root)) && !span.contains([' ', '*', '<', '{', '$', '…'])
}
