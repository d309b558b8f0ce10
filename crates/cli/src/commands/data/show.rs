//! `zhenjin data show`: one example, token by token.

use super::{ShowArguments, open};
use crate::home::Home;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use time::OffsetDateTime;
use zhenjin_align::data::{
    BadPolicy, Beginning, Body, Dataset, EncodedPair, Encoder, Example, Fault, LearntAnswers, ReadOptions,
};
use zhenjin_tokenizer::{EncodedDialogue, Tokenizer};

/// The most tokens that are shown of a part.
const MOST_SHOWN: usize = 1 << 18;

/// A part of an example that is shown by itself.
struct Part {
    name: String,
    dialogue: EncodedDialogue,
}

/// An example as it is shown.
struct Shown {
    parts: Vec<Part>,
    /// Answers that are not: what stands before them is longer than the model's context, or than anybody reads.
    unread: usize,
}

impl Part {
    fn new(name: &str, dialogue: EncodedDialogue) -> Part {
        Part { name: name.to_owned(), dialogue }
    }

    /// How many of its tokens are not shown.
    fn rest(&self) -> usize {
        self.dialogue.ids.len().saturating_sub(MOST_SHOWN)
    }
}

pub(super) fn run(home: &Home, arguments: &ShowArguments) -> Result<()> {
    let read = ReadOptions { bad: BadPolicy::Drop, ..ReadOptions::default() };
    let data = Dataset::read(std::slice::from_ref(&arguments.file), &read)?;
    let Some(example) = data.examples.get(arguments.index) else {
        bail!(
            "{}: there is no example {}; it has {} good ones, counted from 0 ({} records are bad)",
            arguments.file.display(),
            arguments.index,
            data.examples.len(),
            data.bad.total()
        );
    };
    let opened = open(home, &arguments.model)?;
    let settings = arguments.template.thinking.settings(OffsetDateTime::now_utc());
    let encoder = Encoder::new(&opened.tokenizer, opened.template.as_ref(), settings)?;
    let encoder = encoder.with_context(opened.file.config().context_length);
    let place = data.place(example.origin);
    let Shown { parts, unread } = match parts(&encoder, example, arguments.template.learnt()) {
        Ok(parts) => parts,
        Err(fault) => bail!("{place}: {}: {}", fault.kind.description(), fault.reason),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let parts: Vec<Value> = parts.iter().map(|part| as_json(&opened.tokenizer, part)).collect();
        let kind = example.body.kind();
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(
                &json!({"place": place, "kind": kind, "parts": parts, "answers_not_shown": unread})
            )?
        )?;
        return Ok(());
    }
    let marks = if out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        Marks::COLOURS
    } else {
        Marks::PLAIN
    };
    writeln!(out, "{}: {}; {}", crate::text::shown(&place), example.body.kind().name(), marks.explanation)?;
    for part in &parts {
        let learnt = part.dialogue.assistant_mask.iter().filter(|learnt| **learnt).count();
        writeln!(out, "\n{}: {} tokens, {learnt} learnt", part.name, part.dialogue.ids.len())?;
        writeln!(out, "{}", written(&opened.tokenizer, &part.dialogue, &marks))?;
        if part.rest() > 0 {
            writeln!(out, "{} more tokens are not shown", part.rest())?;
        }
    }
    if unread > 0 {
        writeln!(
            out,
            "\n{unread} more answers are not encoded: the example is longer than the model's context, or than can be shown"
        )?;
    }
    if let Body::Task(task) = &example.body {
        let fields = serde_json::to_string_pretty(&task.fields)?;
        writeln!(out, "\nfields for rewards: {}", crate::text::shown(&fields))?;
    }
    Ok(())
}

fn parts(encoder: &Encoder<'_>, example: &Example, learnt: LearntAnswers) -> Result<Shown, Fault> {
    let whole = |part| Shown { parts: vec![part], unread: 0 };
    Ok(match &example.body {
        Body::Conversation(conversation) => {
            let Beginning { example: examples, unread } = encoder.conversation(conversation, learnt)?;
            let several = examples.len() > 1;
            let name = |number: usize| {
                if several { format!("conversation, turn {number}") } else { "conversation".to_owned() }
            };
            let part = |(number, dialogue)| Part { name: name(number), dialogue };
            Shown { parts: (1..).zip(examples).map(part).collect(), unread }
        }
        Body::Pair(pair) => {
            let Beginning { example: EncodedPair { chosen, rejected, .. }, unread } = encoder.pair(pair)?;
            Shown { parts: vec![Part::new("chosen", chosen), Part::new("rejected", rejected)], unread }
        }
        Body::Thumb(thumb) => {
            let name = if thumb.liked { "thumb up" } else { "thumb down" };
            whole(Part::new(name, encoder.thumb(thumb)?.dialogue))
        }
        Body::Task(task) => {
            let ids = encoder.task(task)?.prompt;
            let assistant_mask = vec![false; ids.len()];
            whole(Part::new("prompt", EncodedDialogue { ids, assistant_mask }))
        }
    })
}

fn as_json(tokenizer: &Tokenizer, part: &Part) -> Value {
    let text = |id: u32| String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap_or_default()).into_owned();
    let tokens: Vec<Value> = part
        .dialogue
        .ids
        .iter()
        .zip(&part.dialogue.assistant_mask)
        .take(MOST_SHOWN)
        .map(|(&id, learnt)| json!({"id": id, "text": text(id), "learnt": learnt, "control": tokenizer.is_special(id)}))
        .collect();
    json!({"name": part.name, "tokens": tokens, "tokens_not_shown": part.rest()})
}

/// What stands around tokens.
struct Marks {
    explanation: &'static str,
    /// Before a run of tokens that are learnt, and after it.
    learnt: [&'static str; 2],
    /// Before a token, by its number in the text, and after it; where a token is learnt, the second pair.
    token: [[&'static str; 2]; 2],
    learnt_token: [[&'static str; 2]; 2],
    control: [&'static str; 2],
    learnt_control: [&'static str; 2],
    /// Between two tokens.
    between: &'static str,
}

impl Marks {
    /// Two shades in turn show where tokens begin.
    const COLOURS: Marks = Marks {
        explanation: "green is learnt, yellow are control tokens, shades show where tokens begin, ↵ is a new line, a small \
                      number says of how many tokens a character is",
        learnt: ["", ""],
        token: [["", ""], ["\x1b[2m", "\x1b[0m"]],
        learnt_token: [["\x1b[30;42m", "\x1b[0m"], ["\x1b[30;102m", "\x1b[0m"]],
        control: ["\x1b[33m", "\x1b[0m"],
        learnt_control: ["\x1b[30;43m", "\x1b[0m"],
        between: "",
    };
    const PLAIN: Marks = Marks {
        explanation: "⟦learnt⟧, ‹control tokens›, | between tokens, ↵ is a new line, a small number says of how many tokens a \
                      character is",
        learnt: ["⟦", "⟧"],
        token: [["", ""], ["", ""]],
        learnt_token: [["", ""], ["", ""]],
        control: ["‹", "›"],
        learnt_control: ["‹", "›"],
        between: "|",
    };
}

/// The tokens of a dialogue. Tokens that are parts of one character stand together.
fn written(tokenizer: &Tokenizer, dialogue: &EncodedDialogue, marks: &Marks) -> String {
    let mut text = String::new();
    let mut in_learnt = false;
    let mut position = 0;
    let mut shade = 0;
    while position < dialogue.ids.len().min(MOST_SHOWN) {
        let (bytes, count) = whole_characters(tokenizer, &dialogue.ids[position..]);
        let id = dialogue.ids[position];
        let is_learnt = dialogue.assistant_mask[position];
        if is_learnt != in_learnt {
            text.push_str(marks.learnt[usize::from(in_learnt)]);
            in_learnt = is_learnt;
        } else if position > 0 {
            text.push_str(marks.between);
        }
        let around = match (tokenizer.is_special(id), is_learnt) {
            (true, true) => marks.learnt_control,
            (true, false) => marks.control,
            (false, true) => marks.learnt_token[shade],
            (false, false) => marks.token[shade],
        };
        shade = 1 - shade;
        text.push_str(&around_lines(&visible(&bytes, count), around));
        position += count;
    }
    if in_learnt {
        text.push_str(marks.learnt[1]);
    }
    text
}

/// The bytes of the first token, or of as many as make whole characters, and how many tokens they are.
fn whole_characters(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<u8>, usize) {
    /// A character has at most four bytes, each of which can be a token.
    const MOST: usize = 4;
    let mut bytes = Vec::new();
    for (number, &id) in ids.iter().take(MOST).enumerate() {
        bytes.extend_from_slice(tokenizer.token_bytes(id).unwrap_or_default());
        match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() => {}
            _ => return (bytes, number + 1),
        }
    }
    (tokenizer.token_bytes(ids[0]).unwrap_or_default().to_vec(), 1)
}

/// A token's text with what cannot be seen made visible.
fn visible(bytes: &[u8], tokens: usize) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("↵\n"),
                '\t' => text.push('→'),
                '\r' => text.push('␍'),
                other if crate::text::shown(&other.to_string()) != other.to_string() => {
                    text.push_str(&format!("⟨{:x}⟩", u32::from(other)));
                }
                other => text.push(other),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("⟨{byte:02x}⟩")));
    }
    if tokens > 1 {
        text.push(['₂', '₃', '₄'][tokens.min(4) - 2]);
    }
    text
}

/// The marks around each line of a text, so that a colour ends with its line.
fn around_lines(text: &str, [before, after]: [&str; 2]) -> String {
    let parts: Vec<String> = text
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{before}{line}{after}") })
        .collect();
    parts.join("\n")
}
