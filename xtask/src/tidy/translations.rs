//! A document and its translation (`X.md`, `X.zh.md`) say the same: headings of the same levels in the same order, the same code, tables with
//! the same rows. What a program writes between `<!-- NAME:begin -->` and `<!-- NAME:end -->` stands in one of the two only.

use super::Finding;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;

/// What a translation's name ends with.
const ENDING: &str = ".zh.md";
/// The documents of users, each of which has a translation.
const TRANSLATED: [&str; 5] =
    ["README.md", "docs/alignment.md", "docs/api.md", "docs/feedback.md", "docs/training.md"];

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for original in TRANSLATED {
        let translation = translation_of(original);
        if !files.contains(&translation) {
            findings.push(format!("{original}: its translation {translation} is missing"));
        }
    }
    for translation in files.iter().filter(|file| file.ends_with(ENDING)) {
        let original = format!("{}.md", translation.trim_end_matches(ENDING));
        if !files.contains(&original) {
            findings.push(format!("{translation}: {original}, which it translates, is missing"));
            continue;
        }
        let read = |file: &str| std::fs::read_to_string(root.join(file)).map(|text| Outline::of(&text));
        findings.extend(differences(translation, &read(&original)?, &read(translation)?));
    }
    Ok(findings)
}

fn translation_of(original: &str) -> String {
    format!("{}{ENDING}", original.trim_end_matches(".md"))
}

/// What a translation leaves as it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outline {
    /// How many `#` each heading has.
    headings: Vec<usize>,
    code_spans: BTreeSet<String>,
    /// Lines of code without their comments.
    code: Vec<String>,
    table_rows: usize,
}

impl Outline {
    fn of(text: &str) -> Outline {
        let mut outline = Outline::default();
        let (mut is_generated, mut is_fenced, mut prose) = (false, false, String::new());
        for line in text.lines() {
            let is_mark = line.starts_with("<!-- ");
            if is_mark && line.contains(":begin") {
                is_generated = true;
            }
            if is_generated {
                is_generated = !(is_mark && line.contains(":end"));
                continue;
            }
            if line.trim_start().starts_with("```") {
                is_fenced = !is_fenced;
            } else if is_fenced || line.starts_with("    ") {
                outline.code.extend(without_comment(line));
            } else {
                let level = line.chars().take_while(|character| *character == '#').count();
                outline.headings.extend((level > 0).then_some(level));
                outline.table_rows += usize::from(line.starts_with('|'));
                prose.push_str(line);
                prose.push('\n');
            }
        }
        let one_line = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
        outline.code_spans = prose.split('`').skip(1).step_by(2).map(one_line).collect();
        outline
    }
}

/// A line of code; nothing if it is a comment alone.
fn without_comment(line: &str) -> Option<String> {
    let comment = line.match_indices('#').map(|(place, _)| place).find(|place| {
        let before = &line[..*place];
        before.trim().is_empty() || before.ends_with("  ")
    });
    let code = line[..comment.unwrap_or(line.len())].trim();
    (!code.is_empty()).then(|| code.to_owned())
}

fn differences(translation: &str, original: &Outline, translated: &Outline) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found =
        |what: String| findings.push(format!("{translation}: {what}; translate what has changed"));
    if original.headings != translated.headings {
        found(format!("headings have the levels {:?}, not {:?}", translated.headings, original.headings));
    }
    if original.table_rows != translated.table_rows {
        found(format!("{} rows of tables instead of {}", translated.table_rows, original.table_rows));
    }
    for span in original.code_spans.difference(&translated.code_spans) {
        found(format!("`{span}` of the original is missing"));
    }
    for span in translated.code_spans.difference(&original.code_spans) {
        found(format!("`{span}` is not in the original"));
    }
    if let Some((ours, theirs)) = original.code.iter().zip(&translated.code).find(|(a, b)| a != b) {
        found(format!("the code `{theirs}` is `{ours}` in the original"));
    } else if original.code.len() != translated.code.len() {
        found(format!("{} lines of code instead of {}", translated.code.len(), original.code.len()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str =
        "# A\n\nUse `b`.\n\n    c --d    # e\n\n| f |\n|---|\n<!-- g:begin -->\n## H\n<!-- g:end -->\n";

    #[test]
    fn a_faithful_translation_has_no_differences() {
        let translated = "# 甲\n\n用 `b`。\n\n    c --d    # 戊\n\n| 己 |\n|---|\n";
        let found = differences("a.zh.md", &Outline::of(ORIGINAL), &Outline::of(translated));
        assert_eq!(found, Vec::<Finding>::new());
    }

    #[test]
    fn whatever_was_changed_in_one_of_them_is_found() {
        for (from, to, named) in [
            ("# A", "## A", "levels"),
            ("`b`", "b", "`b` of the original is missing"),
            ("`b`", "`b` and `x`", "`x` is not in the original"),
            ("c --d", "c --x", "the code `c --x` is `c --d`"),
            ("| f |\n", "", "rows of tables"),
        ] {
            let found =
                differences("a.zh.md", &Outline::of(ORIGINAL), &Outline::of(&ORIGINAL.replace(from, to)));
            assert!(found.len() == 1 && found[0].contains(named), "{from}: {found:?}");
        }
    }
}
