//! The conventions of ARCHITECTURE.md that a program can check, each rule in its own file.

mod arrows;
mod documents;
mod flags;
mod sources;
mod tests;
mod translations;

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// One place that breaks a rule, as `path:line: what is wrong and what to do`.
pub(crate) type Finding = String;

/// Runs every rule over the tracked (and not yet ignored) files below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = tracked_files(root)?;
    let mut findings = arrows::check(root)?;
    findings.extend(sources::check(root, &files)?);
    findings.extend(flags::check(root, &files)?);
    findings.extend(documents::check(root, &files)?);
    findings.extend(tests::check(root, &files)?);
    findings.extend(translations::check(root, &files)?);
    Ok(findings)
}

fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed");
    let mut files: Vec<String> = String::from_utf8(output.stdout)?
        .split('\0')
        .filter(|name| !name.is_empty() && root.join(name).is_file())
        .map(str::to_owned)
        .collect();
    files.sort_unstable();
    Ok(files)
}
