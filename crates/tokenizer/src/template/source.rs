//! A template's source as the engine reads it where its tags differ from Jinja's:
//!
//! * Hugging Face's `{% generation %} … {% endgeneration %}` tag, which marks what the assistant wrote, becomes a filter block;
//! * the engine drops a new line behind `{% raw %}`, which Jinja keeps, so it is doubled;
//! * it does not know the escapes `\U0001F600` and `\N{BULLET}` of Python's texts: the first becomes its character, the
//!   second an escape that the engine refuses.
//!
//! Comments, raw text and texts in quotes stay as they are. This file does not know what the filter does.

use std::borrow::Cow;

/// Name of the filter that stands for the tag `generation`.
pub(super) const FILTER: &str = "assistant_generation";

/// The source with these changes.
pub(super) fn rewritten(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len() + 16);
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        rewritten.push_str(before);
        let length = match tag.as_bytes().get(1) {
            Some(b'%') => code_length(tag, "%}"),
            Some(b'{') => code_length(tag, "}}"),
            Some(b'#') => tag.find("#}").map(|end| end + 2),
            _ => Some(1),
        };
        let Some(length) = length else {
            rewritten.push_str(tag);
            return rewritten;
        };
        let (tag, after) = tag.split_at(length);
        rest = after;
        let tag = &*with_known_escapes(tag);
        match name_of(tag) {
            "generation" => rewritten.push_str(&tag.replacen("generation", &format!("filter {FILTER}"), 1)),
            "endgeneration" => rewritten.push_str(&tag.replacen("endgeneration", "endfilter", 1)),
            "raw" => {
                rewritten.push_str(tag);
                if !tag.ends_with("-%}") && (rest.starts_with('\n') || rest.starts_with("\r\n")) {
                    rewritten.push('\n');
                }
                let text = raw_text_length(rest);
                rewritten.push_str(&rest[..text]);
                rest = &rest[text..];
            }
            _ => rewritten.push_str(tag),
        }
    }
    rewritten.push_str(rest);
    rewritten
}

/// Bytes of a tag that begins here, to the end of its mark outside quotes.
fn code_length(tag: &str, end: &str) -> Option<usize> {
    let bytes = tag.as_bytes();
    let mut position = 2;
    let mut quote = None;
    while position < bytes.len() {
        match (quote, bytes[position]) {
            (Some(_), b'\\') => position += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[position..].starts_with(end.as_bytes()) => return Some(position + end.len()),
            _ => {}
        }
        position += 1;
    }
    None
}

/// A tag without the escapes that the engine does not know.
fn with_known_escapes(tag: &str) -> Cow<'_, str> {
    if tag.starts_with("{#") || !(tag.contains("\\U") || tag.contains("\\N")) {
        return Cow::Borrowed(tag);
    }
    let mut known = String::with_capacity(tag.len());
    let mut rest = tag;
    while let Some(position) = rest.find('\\') {
        known.push_str(&rest[..position]);
        rest = &rest[position..];
        let digits = rest.get(2..10).filter(|_| rest[1..].starts_with('U'));
        if let Some(character) =
            digits.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?))
        {
            // Characters that mean something in a text stay escaped.
            if matches!(character, '"' | '\'' | '\\') {
                known.push('\\');
            }
            known.push(character);
            rest = &rest[10..];
            continue;
        }
        let escaped = rest.chars().nth(1).map_or(1, |character| 1 + character.len_utf8());
        known.push_str(match &rest[..escaped] {
            "\\N" | "\\U" => "\\u?",
            other => other,
        });
        rest = &rest[escaped..];
    }
    known.push_str(rest);
    Cow::Owned(known)
}

/// What stands alone in a block tag; empty for everything else.
fn name_of(tag: &str) -> &str {
    match tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")) {
        Some(inner) => inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim(),
        None => "",
    }
}

/// Bytes up to the tag `endraw`, or to the end.
fn raw_text_length(text: &str) -> usize {
    let mut position = 0;
    while let Some(start) = text[position..].find("{%").map(|start| start + position) {
        let Some(end) = text[start..].find("%}").map(|end| start + end + 2) else { break };
        if name_of(&text[start..end]) == "endraw" {
            return start;
        }
        position = start + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_tags_change() {
        assert_eq!(
            rewritten(
                "a{%- generation -%}b{% endgeneration %}{% if generation %}{{ generation }}{% endif %}"
            ),
            "a{%- filter assistant_generation -%}b{% endfilter %}{% if generation %}{{ generation }}{% endif %}"
        );
        for same in [
            "{% generation",
            "{%%}{%-%}",
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{",
            "{{",
            "{% set x = '%}{% generation %}' %}",
        ] {
            assert_eq!(rewritten(same), same);
        }
    }

    #[test]
    fn escapes_of_python_become_characters_or_are_refused() {
        assert_eq!(rewritten(r"{{ '\U0001F600\n' }}\U"), "{{ '😀\\n' }}\\U");
        assert_eq!(rewritten(r"{{ '\\U0001F600' }}"), r"{{ '\\U0001F600' }}");
        assert_eq!(rewritten(r"{{ '\N{BULLET}\U00000027\U0' }}"), r"{{ '\u?{BULLET}\'\u?0' }}");
    }

    #[test]
    fn a_new_line_behind_raw_is_doubled() {
        assert_eq!(rewritten("{% raw %}\n{{ x }}{% endraw %}\n"), "{% raw %}\n\n{{ x }}{% endraw %}\n");
        assert_eq!(rewritten("{% raw -%}\n{{ x }}{% endraw %}"), "{% raw -%}\n{{ x }}{% endraw %}");
    }
}
