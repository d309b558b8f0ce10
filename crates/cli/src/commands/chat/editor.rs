//! Reads questions from the terminal: history, continued lines and `"""` blocks.

use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper, completion::Completer, highlight::Highlighter, hint::Hinter};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

const BLOCK: &str = "\"\"\"";

/// What was entered at the prompt.
pub(super) enum Input {
    Text(String),
    /// Ctrl-C on the prompt: the line is dropped.
    Dropped,
    /// Ctrl-D.
    End,
}

pub(super) struct QuestionEditor {
    editor: Editor<MultiLine, FileHistory>,
    history: PathBuf,
}

impl QuestionEditor {
    pub(super) fn new(history: PathBuf) -> Result<Self> {
        let mut editor = Editor::new().context("opening the terminal")?;
        editor.set_helper(Some(MultiLine::default()));
        if history.exists()
            && let Err(error) = editor.load_history(&history)
        {
            tracing::warn!(file = %history.display(), %error, "the history of questions could not be read");
        }
        Ok(Self { editor, history })
    }

    /// Waits for a question. Blocks the thread.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Input> {
        let mut left_out = None;
        let line = loop {
            let (before, after) = self.editor.helper().map(MultiLine::typed).unwrap_or_default();
            let initial = left_out.take().map_or(("", ""), |()| (before.as_str(), after.as_str()));
            match self.editor.readline_with_initial(prompt, initial) {
                // The line that was being written goes on without the byte.
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    eprintln!(
                        "(a byte that is not UTF-8 is left out, with what was pasted together with it)"
                    );
                    left_out = Some(());
                }
                other => break other,
            }
        };
        if let Some(helper) = self.editor.helper() {
            helper.forget();
        }
        match line {
            Ok(text) => {
                self.editor
                    .add_history_entry(text.as_str())
                    .context("keeping the question in the history")?;
                if let Err(error) = self.editor.append_history(&self.history) {
                    tracing::warn!(file = %self.history.display(), %error, "the history of questions could not be written");
                }
                Ok(Input::Text(join_lines(&text)))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Dropped),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error).context("reading from the terminal"),
        }
    }
}

/// Lines that go on, and the line that is being written.
#[derive(Default)]
struct MultiLine {
    line: Mutex<(String, usize)>,
}

impl MultiLine {
    /// The line before and after the cursor.
    fn typed(&self) -> (String, String) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.0.split_at_checked(line.1) {
            Some((before, after)) => (before.to_owned(), after.to_owned()),
            None => (line.0.clone(), String::new()),
        }
    }

    fn forget(&self) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = (String::new(), 0);
    }
}

impl Helper for MultiLine {}

impl Highlighter for MultiLine {}

impl Completer for MultiLine {
    type Candidate = String;
}

impl Hinter for MultiLine {
    type Hint = String;

    /// There are no hints; this is called at every change of the line.
    fn hint(&self, line: &str, position: usize, _: &rustyline::Context<'_>) -> Option<String> {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = (line.to_owned(), position);
        None
    }
}

impl Validator for MultiLine {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

fn is_complete(text: &str) -> bool {
    if text.trim_start().starts_with(BLOCK) {
        let inside = &text.trim_start()[BLOCK.len()..];
        return inside.contains(BLOCK);
    }
    !text.ends_with('\\')
}

fn join_lines(text: &str) -> String {
    if let Some(inside) = text.trim().strip_prefix(BLOCK) {
        return inside.strip_suffix(BLOCK).unwrap_or(inside).trim_matches('\n').to_owned();
    }
    text.replace("\\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_continued_lines_are_one_question() {
        for (text, complete, joined) in [
            ("one line", true, "one line"),
            ("first \\", false, "first \\"),
            ("first \\\nsecond", true, "first \nsecond"),
            ("\"\"\"\nfirst", false, "first"),
            ("\"\"\"\nfirst\n\nsecond\n\"\"\"", true, "first\n\nsecond"),
        ] {
            assert_eq!(is_complete(text), complete, "{text:?}");
            assert_eq!(join_lines(text), joined, "{text:?}");
        }
    }
}
