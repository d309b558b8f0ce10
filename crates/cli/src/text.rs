//! Text from arguments, pipes and files: bytes that are not UTF-8 are replaced and said, they end nothing.

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::Path;

/// The text of `bytes`. `what` they are is for the note.
pub(crate) fn of_bytes(bytes: Vec<u8>, what: &str) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let first = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    eprintln!(
        "note: {what} is not UTF-8 throughout (first at byte {first}); what is not is read as \u{FFFD}"
    );
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text of a file.
pub(crate) fn of_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    zhenjin_files::check_no_lfs_pointer(path, &bytes)?;
    Ok(of_bytes(bytes, &path.display().to_string()))
}

/// Reads an argument that is text.
pub(crate) fn argument() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|argument| of_bytes(argument.into_encoded_bytes(), "an argument"))
}

/// A message for the terminal: control characters, which names in files may hold, cannot steer it.
pub(crate) fn shown(message: &str) -> String {
    let harmless = |character: char| if is_steering(character) { '\u{FFFD}' } else { character };
    message.chars().map(harmless).collect()
}

fn is_steering(character: char) -> bool {
    // Marks of writing direction can make a line look like another one.
    let turns = matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    turns || (character.is_control() && !matches!(character, '\n' | '\t'))
}

/// An error with its causes. Many errors of libraries repeat the text of their cause, which is shown once.
pub(crate) fn of_error(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !last.contains(&cause) {
            text += ": ";
            text += &cause;
            last = cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\n\t\u{202e}c 真 é"), "a\u{FFFD}[2Jb\n\t\u{FFFD}c 真 é");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_one_by_one() {
        assert_eq!(of_bytes("真金".into(), "x"), "真金");
        assert_eq!(of_bytes(b"caf\xE9 \xFF!".to_vec(), "x"), "caf\u{FFFD} \u{FFFD}!");
        assert_eq!(of_bytes(b"\xE7\x9C".to_vec(), "x"), "\u{FFFD}");
    }

    #[test]
    fn a_cause_that_the_error_repeats_is_shown_once() {
        let cause = || std::io::Error::other("no space left");
        let repeating = zhenjin_align::data::DataError::Io { path: "a".into(), source: cause() };
        assert_eq!(of_error(&anyhow::Error::from(repeating)), "cannot read a: no space left");
        let plain = anyhow::Error::from(cause()).context("writing b");
        assert_eq!(of_error(&plain), "writing b: no space left");
        assert_eq!(of_error(&plain.context("saving")), "saving: writing b: no space left");
    }
}
