//! Texts of control tokens, looked for in what people wrote.

use std::collections::BTreeMap;

/// The texts of control tokens by their first two characters: some tokenizers have thousands of them.
#[derive(Debug, Default)]
pub(super) struct ControlTexts(BTreeMap<(char, char), Vec<String>>);

impl ControlTexts {
    /// Texts of one character are none that anybody could tell from others.
    pub(super) fn new(texts: Vec<String>) -> ControlTexts {
        let mut by_start: BTreeMap<(char, char), Vec<String>> = BTreeMap::new();
        for text in texts {
            let mut characters = text.chars();
            if let (Some(first), Some(second)) = (characters.next(), characters.next())
                && !text.trim().is_empty()
            {
                by_start.entry((first, second)).or_default().push(text);
            }
        }
        ControlTexts(by_start)
    }

    /// The one that stands first in a text.
    pub(super) fn first_in(&self, text: &str) -> Option<&str> {
        let next = text.chars().skip(1);
        text.char_indices().zip(next).find_map(|((place, first), second)| {
            let texts = self.0.get(&(first, second))?;
            texts.iter().map(String::as_str).find(|control| text[place..].starts_with(control))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_text_is_found_behind_any_characters() {
        let texts = ["<s>", "<|im_end|>", "<|im_start|>", "\n\n", "a"].map(str::to_owned).to_vec();
        let texts = ControlTexts::new(texts);
        assert_eq!(texts.first_in("诗<|im_end|><s>"), Some("<|im_end|>"));
        assert_eq!(texts.first_in("<<s>"), Some("<s>"));
        for text in ["", "a", "<", "<|im_end|", "a\n\nb"] {
            assert_eq!(texts.first_in(text), None, "{text:?}");
        }
    }
}
