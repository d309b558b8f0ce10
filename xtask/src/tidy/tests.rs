//! Every file of tests is compiled: `autotests` is off where a crate's tests are one program, so a file that no module
//! names would not be missed.

use super::Finding;
use anyhow::Result;
use std::path::Path;

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (folder, manifest) in crates_with_one_program(root, files)? {
        let tests = format!("{folder}/tests/");
        let mut sources = Vec::new();
        for file in files.iter().filter(|file| file.starts_with(&tests) && file.ends_with(".rs")) {
            sources.push((file.as_str(), std::fs::read_to_string(root.join(file))?));
        }
        findings.extend(not_compiled(&folder, &manifest, &sources));
    }
    Ok(findings)
}

/// Of a crate's files of tests and their texts, those that are no program of the manifest and no module.
fn not_compiled(folder: &str, manifest: &str, sources: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, _) in sources {
        let below = &file[folder.len() + 1..];
        let declaration = format!("mod {};", module_name(below));
        let is_compiled = manifest.contains(&format!("path = \"{below}\""))
            || sources.iter().flat_map(|(_, text)| text.lines()).any(|line| line.ends_with(&declaration));
        if !is_compiled {
            findings.push(format!(
                "{file}: no test program compiles it: name it in {folder}/tests/suite.rs, `{declaration}`"
            ));
        }
    }
    findings
}

/// Folders and manifests.
fn crates_with_one_program(root: &Path, files: &[String]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for file in files {
        if let Some(folder) = file.strip_suffix("/Cargo.toml") {
            let manifest = std::fs::read_to_string(root.join(file))?;
            if manifest.contains("autotests = false") {
                found.push((folder.to_owned(), manifest));
            }
        }
    }
    Ok(found)
}

/// The name of the module that a file is; `tests/files/mod.rs` is `files`.
fn module_name(path: &str) -> &str {
    let path = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_file_that_no_program_compiles_is_found() {
        let manifest = "autotests = false\n[[test]]\npath = \"tests/suite.rs\"\n";
        let source = |file, text: &str| (file, text.to_owned());
        let sources = [
            source("crates/a/tests/suite.rs", "mod named;\nmod support;\n"),
            source("crates/a/tests/named.rs", ""),
            source("crates/a/tests/forgotten.rs", ""),
            source("crates/a/tests/support/mod.rs", "pub(crate) mod part;\n"),
            source("crates/a/tests/support/part.rs", ""),
        ];
        let findings = not_compiled("crates/a", manifest, &sources);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("crates/a/tests/forgotten.rs"), "{findings:?}");
    }
}
