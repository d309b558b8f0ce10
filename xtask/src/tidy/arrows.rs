//! Which crate may use which: the table of ARCHITECTURE.md, checked against the manifests.

use super::Finding;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crate → the crates that it may use, by the names of their folders.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The header of the table's last column, by which the table is found.
const COLUMN: &str = "may use";
/// Stands in the last column of a crate that uses no other.
const NOTHING: &str = "–";
/// Stands in the last column of a crate that may use all others.
const EVERYTHING: &str = "everything";

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let arrows = parse(&page).context("ARCHITECTURE.md: the table of crates")?;
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    let existing: BTreeSet<&str> = packages.iter().filter_map(crate_of).collect();
    let mut findings: Vec<Finding> =
        packages.iter().flat_map(|package| check_package(package, &arrows)).collect();
    for gone in arrows.keys().filter(|name| !existing.contains(name.as_str())) {
        findings.push(format!("ARCHITECTURE.md: the table lists `{gone}`, and there is no such crate"));
    }
    Ok(findings)
}

/// The folder's name of one of our own crates.
fn crate_of(package: &Value) -> Option<&str> {
    package["name"].as_str()?.strip_prefix("zhenjin-")
}

fn check_package(package: &Value, arrows: &Arrows) -> Vec<Finding> {
    let Some(name) = crate_of(package) else {
        return Vec::new();
    };
    let Some(allowed) = arrows.get(name) else {
        return vec![format!("ARCHITECTURE.md: the table lacks the crate `{name}` and what it may use")];
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .filter_map(crate_of)
        .filter(|used| !allowed.contains(*used))
        .map(|used| {
            format!(
                "crates/{name}/Cargo.toml: {name} may not use {used}; by ARCHITECTURE.md it may use {allowed:?}"
            )
        })
        .collect()
}

/// Reads the first table whose last column is headed `may use`. Each row's first cell names a crate in backticks; its last
/// cell lists crates, or says `–` (none) or `everything`.
fn parse(page: &str) -> Result<Arrows> {
    let mut lines = page.lines().skip_while(|line| cells(line).last() != Some(&COLUMN));
    let header = lines.next().with_context(|| format!("no table has a last column headed `{COLUMN}`"))?;
    let columns = cells(header).len();
    let rule = lines.next().unwrap_or_default();
    ensure!(
        cells(rule).len() == columns && cells(rule).iter().all(|cell| is_rule(cell)),
        "the line after `{header}` must be a rule such as |---|---|, not `{rule}`"
    );
    let rows: Vec<&str> = lines.take_while(|line| line.trim_start().starts_with('|')).collect();
    ensure!(!rows.is_empty(), "the table has no row");
    let names = rows.iter().map(|row| name_in(row, columns)).collect::<Result<Vec<&str>>>()?;
    let mut arrows = Arrows::new();
    for (row, name) in rows.iter().zip(&names) {
        let used = cells(row).last().copied().unwrap_or_default();
        let allowed = match used {
            NOTHING => BTreeSet::new(),
            EVERYTHING => {
                names.iter().filter(|other| *other != name).map(|other| (*other).to_owned()).collect()
            }
            list => list.split(',').map(|used| used.trim().trim_matches('`').to_owned()).collect(),
        };
        for used in &allowed {
            ensure!(
                names.contains(&used.as_str()),
                "`{name}` may use `{used}`, which is no row of the table"
            );
            ensure!(used != name, "`{name}` may use itself");
        }
        if arrows.insert((*name).to_owned(), allowed).is_some() {
            bail!("`{name}` has two rows");
        }
    }
    Ok(arrows)
}

/// The cells of a table's row; none for any other line.
fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

fn is_rule(cell: &str) -> bool {
    cell.contains('-') && cell.chars().all(|character| matches!(character, '-' | ':'))
}

/// The crate that a row is about.
fn name_in(row: &str, columns: usize) -> Result<&str> {
    let cells = cells(row);
    ensure!(cells.len() == columns, "the row `{row}` has {} cells, not {columns}", cells.len());
    let name = cells[0].strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    name.with_context(|| format!("the row `{row}` must begin with a crate's name in backticks"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PAGE: &str = "# A page\n\n| word | meaning |\n|---|---|\n| `tensor` | a crate |\n\n\
        | crate | what is in it | may use |\n|---|:---|---|\n\
        | `tensor` | numbers | – |\n| `model` | weights | tensor |\n| `server` | HTTP | model, `tensor` |\n\
        | `cli` | the program | everything |\n\nText after it.\n";

    fn used_by(arrows: &Arrows, name: &str) -> Vec<String> {
        arrows[name].iter().cloned().collect()
    }

    fn error(page: &str) -> String {
        format!("{:#}", parse(page).expect_err(page))
    }

    #[test]
    fn a_table_is_read_as_it_stands() {
        let arrows = parse(PAGE).expect("a good table");
        assert_eq!(arrows.len(), 4);
        assert!(used_by(&arrows, "tensor").is_empty());
        assert_eq!(used_by(&arrows, "model"), ["tensor"]);
        assert_eq!(used_by(&arrows, "server"), ["model", "tensor"]);
        assert_eq!(used_by(&arrows, "cli"), ["model", "server", "tensor"]);
    }

    #[test]
    fn the_project_s_own_table_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a root");
        let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a page");
        let arrows = parse(&page).expect("a good table");
        assert!(used_by(&arrows, "tensor").is_empty());
        assert!(arrows["cli"].contains("server") && !arrows["engine"].contains("assistant"));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error() {
        assert!(error("no table").contains("no table has a last column headed `may use`"));
        assert!(error(&PAGE.replace("|---|:---|---|\n", "")).contains("must be a rule"));
        assert!(error(&PAGE.replace("| `model` |", "| model |")).contains("in backticks"));
        assert!(error(&PAGE.replace("| weights | tensor |", "| tensor |")).contains("2 cells, not 3"));
        assert!(error(&PAGE.replace("| tensor |\n", "| tensors |\n")).contains("no row of the table"));
        assert!(error(&PAGE.replace("| tensor |\n", "|  |\n")).contains("no row of the table"));
        assert!(error(&PAGE.replace("| tensor |\n", "| model |\n")).contains("itself"));
        assert!(error(&PAGE.replace("`server`", "`cli`")).contains("two rows"));
        let (empty, _) = PAGE.split_once("| `tensor` | numbers").expect("the first row");
        assert!(error(empty).contains("no row"));
    }

    #[test]
    fn a_manifest_is_held_against_the_table() {
        let arrows = parse(PAGE).expect("a good table");
        let package = |name: &str, used: &str, kind: Value| json!({ "name": name, "dependencies": [{ "name": used, "kind": kind }, { "name": "serde", "kind": null }] });
        assert!(check_package(&package("zhenjin-model", "zhenjin-tensor", Value::Null), &arrows).is_empty());
        assert!(check_package(&package("zhenjin-tensor", "zhenjin-model", json!("dev")), &arrows).is_empty());
        assert!(check_package(&package("xtask", "zhenjin-model", Value::Null), &arrows).is_empty());
        let against = check_package(&package("zhenjin-tensor", "zhenjin-model", Value::Null), &arrows);
        assert!(against[0].contains("tensor may not use model"), "{against:?}");
        let unlisted = check_package(&package("zhenjin-new", "zhenjin-model", Value::Null), &arrows);
        assert!(unlisted[0].contains("lacks the crate `new`"), "{unlisted:?}");
    }
}
