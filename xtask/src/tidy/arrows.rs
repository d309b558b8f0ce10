//! Which room may use which: the table of ARCHITECTURE.md, checked against the manifests.

use super::Finding;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Room → the rooms that it may use. A room that is not listed here may not exist.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("tokenizer", &[]),
    ("store", &[]),
    ("model", &["tensor"]),
    ("engine", &["model", "tensor"]),
    ("hub", &["model", "tokenizer"]),
    ("assistant", &["engine", "hub", "model", "tensor", "tokenizer"]),
    ("server", &["assistant", "engine", "hub", "store", "tokenizer"]),
    ("cli", &["assistant", "engine", "hub", "model", "server", "store", "tensor", "tokenizer"]),
];

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    Ok(packages.iter().flat_map(check_package).collect())
}

fn check_package(package: &Value) -> Vec<Finding> {
    let Some(room) = package["name"].as_str().and_then(|name| name.strip_prefix("zhenjin-")) else {
        return Vec::new();
    };
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "crates/{room}: an unknown room: draw its arrows in xtask/src/tidy/arrows.rs and ARCHITECTURE.md"
        )];
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .filter_map(|dependency| dependency["name"].as_str()?.strip_prefix("zhenjin-"))
        .filter(|used| !allowed.contains(used))
        .map(|used| {
            format!("crates/{room}/Cargo.toml: {room} may not use {used}; its arrows are {allowed:?}")
        })
        .collect()
}
