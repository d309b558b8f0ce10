//! Finding the characters that the assistant wrote in a rendered conversation, for templates that do not mark them
//! themselves.
//!
//! For every assistant message the conversation is rendered once more with a probe in its place: what the two texts do not
//! share is the message. The span then grows to the left until the end of the generation prompt (a template may add
//! thinking tags that the model writes itself) and to the right over the token that ends the turn.
//! This file does not know Jinja or token ids.

use std::ops::Range;

use serde_json::{Value, json};

use super::{ChatTemplate, RenderInput};
use crate::TemplateError;

/// A private-use character that no message begins or ends with.
const PROBE: &str = "\u{F8C6}";

/// The spans of all assistant messages, ascending, without overlaps.
///
/// # Errors
/// As [`ChatTemplate::render`], when the template fails on a conversation with a probe in it.
pub(super) fn find(
    template: &ChatTemplate,
    input: &RenderInput<'_>,
    messages: &[Value],
    text: &str,
    breaks: &[usize],
) -> Result<Vec<Range<usize>>, TemplateError> {
    let header = generation_header(template, input, messages);
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut probed = messages.to_vec();
    for (index, message) in messages.iter().enumerate() {
        if message["role"] != "assistant" {
            continue;
        }
        probed[index] = json!({ "role": "assistant", "content": PROBE });
        let other = template.render_messages(input, &probed)?.text;
        probed[index] = message.clone();
        let Some(difference) = difference(text, &other) else { continue };
        let previous_end = spans.last().map_or(0, |span| span.end);
        let start = start_after_header(text, difference.start, previous_end, &header, breaks);
        let end = end_with_turn(text, difference.end, &template.guard.end_of_turn);
        if start.max(previous_end) < end {
            spans.push(start.max(previous_end)..end);
        }
    }
    Ok(spans)
}

/// What `add_generation_prompt` adds, such as `<|im_start|>assistant\n`; empty when the template has no such thing.
fn generation_header(template: &ChatTemplate, input: &RenderInput<'_>, messages: &[Value]) -> String {
    let first = messages.iter().position(|message| message["role"] == "assistant").unwrap_or(0);
    let with = |add_generation_prompt| {
        let input = RenderInput { add_generation_prompt, ..input.clone() };
        template.render_messages(&input, &messages[..first]).map(|rendered| rendered.text)
    };
    match (with(false), with(true)) {
        (Ok(without), Ok(with)) => with.strip_prefix(&without).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The bytes of `text` between the longest common beginning and end with `other`; `None` when the texts are equal.
fn difference(text: &str, other: &str) -> Option<Range<usize>> {
    if text == other {
        return None;
    }
    let matching = text.chars().zip(other.chars()).take_while(|(left, right)| left == right);
    let start: usize = matching.map(|(character, _)| character.len_utf8()).sum();
    let matching = text[start..]
        .chars()
        .rev()
        .zip(other[start..].chars().rev())
        .take_while(|(left, right)| left == right);
    let end = text.len() - matching.map(|(character, _)| character.len_utf8()).sum::<usize>();
    Some(start..end)
}

fn start_after_header(
    text: &str,
    start: usize,
    previous_end: usize,
    header: &str,
    breaks: &[usize],
) -> usize {
    if header.is_empty() || start < previous_end {
        return start;
    }
    let Some(position) = text[previous_end..start].rfind(header).map(|position| position + previous_end)
    else {
        return start;
    };
    let after = position + header.len();
    let written_by_user =
        breaks.iter().any(|&position_of_break| (position + 1..after).contains(&position_of_break));
    if written_by_user { start } else { after }
}

fn end_with_turn(text: &str, end: usize, end_of_turn: &[String]) -> usize {
    let ending =
        end_of_turn.iter().filter(|ending| text[end..].starts_with(ending.as_str())).map(String::len).max();
    end + ending.unwrap_or(0)
}
