//! A conversation's title from its first question: the first line that says something, cut where it reads well. It asks no
//! model.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Widest title, in columns: a Chinese character takes two.
const COLUMNS: usize = 60;

/// How far back from the cut a space is looked for, in columns, so that words stay whole.
const LOOK_BACK: usize = 16;

/// The title for a conversation that begins with `question`.
pub(crate) fn title_of(question: &str) -> String {
    let lines = question.lines().map(tidy);
    let line = lines.into_iter().find(|line| line.chars().any(char::is_alphanumeric));
    let line = line.unwrap_or_else(|| tidy(question));
    if line.width() <= COLUMNS { line } else { cut(&line) }
}

/// A title on one line: without control characters, and without marks that would turn the text around it (embeddings, overrides
/// and isolates of the bidirectional algorithm). Marks that belong to words, as joiners, stay.
pub(crate) fn clean(title: &str) -> String {
    let words = title.split(separates);
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn separates(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The line without the marks that Markdown puts before it, control characters and doubled spaces.
fn tidy(line: &str) -> String {
    let line =
        line.trim_start_matches(|mark: char| mark.is_whitespace() || matches!(mark, '#' | '>' | '*' | '`'));
    clean(line)
}

fn cut(line: &str) -> String {
    let mut columns = 0;
    let mut end = 0;
    let mut last_space = None;
    for (start, grapheme) in line.grapheme_indices(true) {
        let width = grapheme.width();
        // One column is for the ellipsis.
        if columns + width > COLUMNS - 1 {
            break;
        }
        if grapheme == " " {
            last_space = Some((start, columns));
        }
        columns += width;
        end = start + grapheme.len();
    }
    let splits_a_word = line[end..].chars().next().is_some_and(|next| next.is_alphanumeric())
        && line[..end].chars().next_back().is_some_and(|last| last.is_ascii_alphanumeric());
    if let Some((space, before)) = last_space
        && splits_a_word
        && columns - before <= LOOK_BACK
    {
        end = space;
    }
    format!("{}…", line[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn titles_read_well() {
        let cases = [
            ("What is gold?", "What is gold?"),
            ("\n\n  ## Why is\tthe  sky blue?\nExplain.", "Why is the sky blue?"),
            ("```\nfn main() {}\n```", "fn main() {}"),
            (
                "Please explain the difference between supervised and unsupervised learning",
                "Please explain the difference between supervised and…",
            ),
            ("真金不怕火炼，这句话是什么意思？", "真金不怕火炼，这句话是什么意思？"),
            ("???", "???"),
            ("👍🏽", "👍🏽"),
            ("safe\u{202e}gpj.exe", "safe gpj.exe"),
            ("a\0b\u{2067}c\u{2069}", "a b c"),
            ("مرحبا\u{200f} \u{200d}x", "مرحبا\u{200f} \u{200d}x"),
            ("", ""),
        ];
        for (question, title) in cases {
            assert_eq!(title_of(question), title);
        }
    }

    #[test]
    fn wide_characters_count_twice_and_clusters_stay_whole() {
        assert_eq!(title_of(&"金".repeat(40)), format!("{}…", "金".repeat(29)));
        let family = "👨‍👩‍👧‍👦";
        let title = title_of(&family.repeat(50));
        assert_eq!(title.trim_end_matches('…').replace(family, ""), "");
    }

    proptest! {
        #[test]
        fn a_title_is_one_short_line(question in "\\PC{0,200}|(.|\n){0,100}") {
            let title = title_of(&question);
            prop_assert!(title.width() <= COLUMNS);
            prop_assert!(!title.contains(char::is_control));
        }
    }
}
