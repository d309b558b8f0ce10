//! Libraries name no command-line flag: their errors and docs speak of fields and limits, and `cli` adds the flag's name.

use super::Finding;
use anyhow::Result;
use std::path::Path;

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| is_library_source(file)) {
        let text = std::fs::read_to_string(root.join(file))?;
        for (line, flag) in flags(&text) {
            findings.push(format!(
                "{file}:{line}: {flag}: a library names the field or the limit; crates/cli/src/hint.rs names the flag"
            ));
        }
    }
    Ok(findings)
}

fn is_library_source(file: &str) -> bool {
    file.starts_with("crates/")
        && file.contains("/src/")
        && file.ends_with(".rs")
        && !file.starts_with("crates/cli/")
}

/// The flags in string literals and doc comments, each with its line. A literal that is nothing but a flag is an argument for
/// another program, and no text for people.
fn flags(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (start, text, is_literal) in texts(source) {
        if is_literal && flag_at(text, 0) == Some(text) {
            continue;
        }
        for (at, _) in text.match_indices("--") {
            if let Some(flag) = flag_at(text, at) {
                found.push((source[..start + at].lines().count(), flag));
            }
        }
    }
    found
}

/// The flag that begins at `at`: two dashes and a letter, not inside a longer word.
fn flag_at(text: &str, at: usize) -> Option<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if text[..at].ends_with(is_part) || !text[at..].starts_with("--") {
        return None;
    }
    let flag = text[at..].split(|character: char| !is_part(character)).next()?;
    flag.as_bytes().get(2).is_some_and(u8::is_ascii_lowercase).then_some(flag)
}

/// The string literals' contents (true) and the doc comments (false) of a Rust source, each with the byte where it begins.
fn texts(source: &str) -> Vec<(usize, &str, bool)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = source[at..].find(['"', '\'', '/']) {
        at += next;
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            let line = rest.lines().next().unwrap_or(rest);
            if line.starts_with("///") || line.starts_with("//!") {
                found.push((at, line, false));
            }
            line.len()
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(after) = rest.strip_prefix('"') {
            let content = literal(&source[..at], after);
            found.push((at + 1, content, true));
            content.len() + 2
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            1
        };
        at = (at + length).min(source.len());
    }
    found
}

/// The content of the string literal that follows `before` and a quotation mark; raw where `before` says so.
fn literal<'a>(before: &str, rest: &'a str) -> &'a str {
    let hashes = before.len() - before.trim_end_matches('#').len();
    let is_raw = before.trim_end_matches('#').ends_with('r');
    let end = if is_raw {
        rest.find(&format!("\"{}", "#".repeat(hashes)))
    } else {
        let mut escaped = false;
        rest.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })
    };
    &rest[..end.unwrap_or(rest.len())]
}

/// The length of the character literal at the beginning of `rest`; 1 for a lifetime's mark.
fn character(rest: &str) -> usize {
    let content = rest[1..].chars().next().map_or(0, char::len_utf8);
    if rest[1..].starts_with('\\') {
        return rest[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(1, |(end, _)| end + 3);
    }
    if rest[1 + content..].starts_with('\'') { content + 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(usize, &str)> {
        flags(source)
    }

    #[test]
    fn a_flag_in_a_text_or_a_doc_comment_is_found_with_its_line() {
        let source = "//! Reads `--memory`.\n\n#[error(\"too little: \\\n   give --memory more\")]\nstruct Error;\n\
            let raw = r#\"say \"--context\" less\"#;\nlet first = \"--simd {name}: unknown\";\n";
        assert_eq!(found(source), [(1, "--memory"), (4, "--memory"), (6, "--context"), (7, "--simd")]);
    }

    #[test]
    fn arguments_for_other_programs_and_dashes_in_words_are_not() {
        let source = "command.arg(\"--version\").args([\"download\", \"--no-deps\"]);\nlet name = \"hf--a--b.gguf\";\n\
            // the option --memory, in a comment for those who read the code\nlet n = a --b;\nlet rule = \"-- a dash --\";\n";
        assert!(found(source).is_empty(), "{:?}", found(source));
    }

    #[test]
    fn quotation_marks_elsewhere_do_not_turn_the_source_inside_out() {
        let source = "let quote = '\"'; let a: &'static str = x; let escape = '\\''; let slash = '\\\\';\n\
            let b = \"\\\\\"; call(--memory);\nlet c = \"\\\"--context\";\n/* \" */ let d = \"--x y\";\n";
        assert_eq!(found(source), [(3, "--context"), (4, "--x")]);
    }
}
