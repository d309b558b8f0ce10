//! The commands that begin with `/` in the terminal chat.

/// What a line of the terminal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Help,
    Reset,
    /// Set the system message, or show it.
    System(Option<&'a str>),
    Save(&'a str),
    Stats,
    Exit,
    Unknown(&'a str),
    Question(&'a str),
}

pub(super) const HELP: &str = "\
/help            this list
/reset           forget the conversation
/system [TEXT]   show the system message, or set it (and forget the conversation)
/save FILE       write the conversation as JSON (the API's messages)
/stats           tokens and speed of the last answer, and how full the context is
/exit            leave (also Ctrl-D)
Ctrl-C stops an answer. A line that ends with \\ goes on in the next; text between two lines of \"\"\" is one question.
Begin with // to ask something that starts with a slash.";

/// Reads what was typed, which may have several lines.
pub(super) fn parse(text: &str) -> Line<'_> {
    let text = text.trim();
    if let Some(question) = text.strip_prefix("//") {
        return Line::Question(&text[text.len() - question.len() - 1..]);
    }
    if !text.starts_with('/') {
        return Line::Question(text);
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match (command, rest.is_empty()) {
        ("/help", true) => Line::Help,
        ("/reset", true) => Line::Reset,
        ("/system", true) => Line::System(None),
        ("/system", false) => Line::System(Some(rest)),
        ("/save", false) => Line::Save(rest),
        ("/stats", true) => Line::Stats,
        ("/exit" | "/quit", true) => Line::Exit,
        _ => Line::Unknown(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_questions() {
        for (text, line) in [
            ("/help", Line::Help),
            (" /reset ", Line::Reset),
            ("/system", Line::System(None)),
            ("/system 你是诗人。", Line::System(Some("你是诗人。"))),
            ("/save chat file.json", Line::Save("chat file.json")),
            ("/save", Line::Unknown("/save")),
            ("/stats now", Line::Unknown("/stats")),
            ("/quit", Line::Exit),
            ("/etc/passwd?", Line::Unknown("/etc/passwd?")),
            ("//etc/passwd?", Line::Question("/etc/passwd?")),
            ("What is 1/2?", Line::Question("What is 1/2?")),
        ] {
            assert_eq!(parse(text), line, "{text}");
        }
    }
}
