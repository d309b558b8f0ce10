//! Finding the characters that the assistant wrote in a rendered conversation, for templates that do not mark them
//! themselves.
//!
//! The definition: for every assistant message the conversation is rendered once more with a probe in its place; what the
//! two texts do not share is the message. The span then grows to the left until the end of the generation prompt (a
//! template may add thinking tags that the model writes itself) and to the right over the token that ends the turn.
//!
//! Most templates copy the message as it is. So first the conversation is rendered once with marks around the text of
//! all assistant messages: if each mark comes back once, with the
//! message as it is between them, and nothing else changes, they lie where the probes would differ.

use std::ops::Range;

use serde_json::{Value, json};

use super::conversation::Rendering;
use super::guard::{self, GENERATION_END, GENERATION_START, MARK, Unguarded};
use super::sandbox::Costed;
use crate::TemplateError;

/// A private-use character that no message begins or ends with.
const PROBE: &str = "\u{F8C6}";

/// The spans of all assistant messages, ascending, without overlaps. `protected` are the `messages` as they were rendered
/// to `plain`.
///
/// # Errors
/// As [`super::ChatTemplate::render`], when the template fails on a conversation with a probe in it.
pub(super) fn find(
    rendering: &mut Rendering<'_, '_>,
    messages: &[Value],
    protected: &[Costed],
    plain: &Unguarded,
) -> Result<Vec<Range<usize>>, TemplateError> {
    let header = generation_header(rendering, messages, protected);
    let written = match by_marks(rendering, messages, protected, plain) {
        Some(written) => written,
        None => by_probes(rendering, messages, protected, plain)?,
    };
    Ok(grown(rendering, &written, &header, plain))
}

/// What each assistant message wrote, by the definition.
fn by_probes(
    rendering: &mut Rendering<'_, '_>,
    messages: &[Value],
    protected: &[Costed],
    plain: &Unguarded,
) -> Result<Vec<Range<usize>>, TemplateError> {
    let probe = rendering.protected(&json!({ "role": "assistant", "content": PROBE }));
    let mut written = Vec::new();
    let mut probed = protected.to_vec();
    for index in (0..messages.len()).filter(|&index| is_assistants(&messages[index])) {
        probed[index] = probe.clone();
        let other = rendering.unguarded(&probed, rendering.conversation_adds_prompt())?.text;
        probed[index] = protected[index].clone();
        written.extend(difference(&plain.text, &other));
    }
    Ok(written)
}

/// The same in one rendering, or `None` where that cannot be told.
fn by_marks(
    rendering: &mut Rendering<'_, '_>,
    messages: &[Value],
    protected: &[Costed],
    plain: &Unguarded,
) -> Option<Vec<Range<usize>>> {
    let mut marked = protected.to_vec();
    let mut contents = Vec::new();
    for (index, message) in messages.iter().enumerate().filter(|(_, message)| is_assistants(message)) {
        // A probe has nothing but a role and a text; what other fields write, marks around the text do not show.
        let content = message["content"].as_str().filter(|content| !content.is_empty())?;
        if message.as_object()?.len() != 2 {
            return None;
        }
        contents.push(content);
        let content = rendering.writing().guard.protect(content);
        let content = format!("{MARK}{GENERATION_START}{content}{MARK}{GENERATION_END}");
        marked[index] = Costed::fields([
            ("role".to_owned(), Costed::text("assistant")),
            ("content".to_owned(), Costed::text(&content)),
        ]);
    }
    let text = rendering.marked(&marked, rendering.conversation_adds_prompt()).ok()?;
    let once = |kind: char| text.matches(&*String::from_iter([MARK, kind])).count() == contents.len();
    let complete = once(GENERATION_START) && once(GENERATION_END);
    let unguarded = guard::unguard(&text);
    let copied = unguarded.generated.iter().map(|range| &unguarded.text[range.clone()]).eq(contents);
    (complete && copied && unguarded.text == plain.text).then_some(unguarded.generated)
}

fn is_assistants(message: &Value) -> bool {
    message["role"] == "assistant"
}

/// What `add_generation_prompt` adds, such as `<|im_start|>assistant\n`; empty when the template has no such thing.
fn generation_header(rendering: &mut Rendering<'_, '_>, messages: &[Value], protected: &[Costed]) -> String {
    let first = messages.iter().position(is_assistants).unwrap_or(0);
    let mut with = |add_generation_prompt| rendering.unguarded(&protected[..first], add_generation_prompt);
    match (with(false), with(true)) {
        (Ok(without), Ok(with)) => with.text.strip_prefix(&without.text).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The spans with the rest of what the assistant has to write around each message.
fn grown(
    rendering: &Rendering<'_, '_>,
    written: &[Range<usize>],
    header: &str,
    plain: &Unguarded,
) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for written in written {
        let previous_end = spans.last().map_or(0, |span| span.end);
        let start = start_after_header(&plain.text, written.start, previous_end, header, &plain.breaks);
        let end = end_with_turn(&plain.text, written.end, &rendering.writing().guard.end_of_turn);
        if start.max(previous_end) < end {
            spans.push(start.max(previous_end)..end);
        }
    }
    spans
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::template::conversation::Conversation;
    use crate::{ChatTemplate, RenderInput};

    static TEMPLATES: LazyLock<Vec<(&str, ChatTemplate)>> = LazyLock::new(|| {
        let specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>"];
        let ends = ["</s>", "<|im_end|>", "<|eot_id|>"].map(str::to_owned).to_vec();
        [
            ("plain", include_str!("../../tests/data/templates/plain.jinja")),
            ("hermes_tools", include_str!("../../tests/data/templates/hermes_tools.jinja")),
            ("thinking", include_str!("../../tests/data/templates/thinking.jinja")),
            ("headers", include_str!("../../tests/data/templates/headers.jinja")),
            ("instruct", include_str!("../../tests/data/templates/instruct.jinja")),
        ]
        .map(|(name, source)| {
            let specials = specials.map(str::to_owned).to_vec();
            (name, ChatTemplate::with_special_texts(source, "<s>", "</s>", specials, ends.clone()).unwrap())
        })
        .into()
    });

    type Spans = Vec<Range<usize>>;

    /// The spans that [`find`] gives from marks, where there are any, and from probes. Compared are whole spans, because
    /// what was written has no one place where a template's own text repeats a message's ends.
    fn both_ways(
        template: &ChatTemplate,
        messages: &[Value],
    ) -> Result<(Option<Spans>, Spans), TemplateError> {
        let input = RenderInput {
            messages,
            now: Some(time::OffsetDateTime::UNIX_EPOCH),
            mark_assistant: true,
            ..RenderInput::default()
        };
        let conversation = Conversation::of(&input);
        let (messages, writing) = (messages.to_vec(), template.writing.clone());
        template.workers.run(move |engine| {
            let mut rendering = Rendering::new(engine, &writing, &conversation);
            let protected: Vec<Costed> =
                messages.iter().map(|message| rendering.protected(message)).collect();
            let plain = rendering.unguarded(&protected, false)?;
            let header = generation_header(&mut rendering, &messages, &protected);
            let by_marks = by_marks(&mut rendering, &messages, &protected, &plain);
            let by_probes = by_probes(&mut rendering, &messages, &protected, &plain)?;
            let spans = |written: &Spans| grown(&rendering, written, &header, &plain);
            Ok((by_marks.as_ref().map(spans), spans(&by_probes)))
        })?
    }

    fn conversation(texts: &[String]) -> Vec<Value> {
        let roles = ["user", "assistant"].into_iter().cycle();
        texts.iter().zip(roles).map(|(text, role)| json!({ "role": role, "content": text })).collect()
    }

    proptest! {
        #[test]
        fn marks_and_probes_find_the_same(
            texts in prop::collection::vec(
                prop_oneof![
                    "[a-c你好 \n]{0,12}",
                    "(<think>)?[a\n ]{0,3}(</think>)?[b\n]{0,3}",
                    "[<|im_end>/s]{0,12}",
                    "[a\u{F8C1}-\u{F8C5}]{0,6}",
                ],
                1..6,
            )
        ) {
            for (name, template) in &*TEMPLATES {
                if let Ok((Some(by_marks), by_probes)) = both_ways(template, &conversation(&texts)) {
                    prop_assert_eq!(by_marks, by_probes, "{}: {:?}", name, texts);
                }
            }
        }
    }

    #[test]
    fn a_message_that_repeats_the_templates_thinking_tags_has_one_span() {
        let texts = ["", "b", "", "\n</think>\n\n"].map(str::to_owned);
        for (name, template) in &*TEMPLATES {
            let (by_marks, by_probes) = both_ways(template, &conversation(&texts)).unwrap();
            assert!(by_marks.is_none_or(|by_marks| by_marks == by_probes), "{name}");
        }
    }

    #[test]
    fn ordinary_messages_need_no_probes() {
        let texts = ["Hi", "Hello!", "x", "你好，世界。\n\nNo."].map(str::to_owned);
        for (name, template) in &*TEMPLATES {
            let (by_marks, by_probes) = both_ways(template, &conversation(&texts)).unwrap();
            assert_eq!(by_marks, Some(by_probes), "{name}");
        }
    }
}
