//! Collects a complete answer's texts and checks them against their schemas.

use crate::constraint::schema::AnswerCheck;
use crate::event::TextEvent;

/// What is checked of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerChecks {
    /// The text's schema.
    pub(crate) text: Option<AnswerCheck>,
    /// The arguments' schemas, with the functions' names.
    pub(crate) calls: Vec<(String, AnswerCheck)>,
}

/// An answer's texts, as far as they have come, and their checks.
#[derive(Debug)]
pub(crate) struct CheckedTexts {
    checks: AnswerChecks,
    text: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
}

impl CheckedTexts {
    pub(crate) fn new(checks: AnswerChecks) -> CheckedTexts {
        CheckedTexts { checks, text: String::new(), calls: Vec::new() }
    }

    /// Takes note of what the answer's reader is given.
    pub(crate) fn read(&mut self, event: &TextEvent) {
        match event {
            TextEvent::Delta { text, .. } if self.checks.text.is_some() => self.text.push_str(text),
            TextEvent::ToolCall { index, name, arguments, .. } if !self.is_free() => {
                if self.calls.len() <= *index {
                    self.calls.resize_with(index + 1, Default::default);
                }
                if let Some(call) = self.calls.get_mut(*index) {
                    call.0.push_str(name.as_deref().unwrap_or_default());
                    call.1.push_str(arguments);
                }
            }
            _ => {}
        }
    }

    /// Checks the complete answer.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (name, arguments) in &self.calls {
            let check = self.checks.calls.iter().find(|(known, _)| known == name);
            if let Some((_, check)) = check {
                check.check(arguments).map_err(|reason| format!("the arguments of {name:?}: {reason}"))?;
            }
        }
        match &self.checks.text {
            Some(check) if self.calls.is_empty() => check.check(&self.text),
            _ => Ok(()),
        }
    }

    fn is_free(&self) -> bool {
        self.checks.text.is_none() && self.checks.calls.is_empty()
    }
}
