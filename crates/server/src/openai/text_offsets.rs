//! Where the tokens of an echoed prompt begin in its text. A tokenizer may have normalised the text before it was split, so that the tokens spell
//! it otherwise: `é` in one character where the text has two, or a space or a control token before it.

use unicode_normalization::char::decompose_compatible;
use zhenjin_assistant::TokenInfo;

/// Where each token begins, in characters of `text`. Of a character that several tokens share, it is the first one's; the others begin behind it.
///
/// Both sides are measured in decomposed characters, of which composing and decomposing leave as many as there were. What the tokens have
/// more of is taken to stand before the text. A token that stands for any unknown character counts as one.
pub(super) fn text_offsets(text: &str, tokens: &[TokenInfo]) -> Vec<usize> {
    let tokens: Vec<&[u8]> = tokens.iter().map(|token| shown(text, &token.bytes)).collect();
    let spelled = spelled(&tokens.concat());
    let lengths: Vec<usize> = text.chars().map(decomposed_length).collect();
    let all_spelled: usize = spelled.iter().map(|(_, length)| length).sum();
    let before_text = all_spelled.saturating_sub(lengths.iter().sum());

    let (mut begin, mut spelled) = (0, spelled.into_iter().peekable());
    let (mut reached_by_tokens, mut reached, mut offset) = (0, 0, 0);
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        while let Some((_, length)) = spelled.next_if(|(place, _)| *place < begin) {
            reached_by_tokens += length;
        }
        while let Some(length) = lengths.get(offset)
            && reached + length + before_text <= reached_by_tokens
        {
            reached += length;
            offset += 1;
        }
        offsets.push(offset);
        begin += token.len();
    }
    offsets
}

/// What a token's bytes are in the text: those of an unknown character's token say its name.
fn shown<'a>(text: &str, bytes: &'a [u8]) -> &'a [u8] {
    const UNKNOWN: [&str; 2] = ["<unk>", "[UNK]"];
    match UNKNOWN.iter().any(|name| bytes == name.as_bytes() && !text.contains(name)) {
        true => "?".as_bytes(),
        false => bytes,
    }
}

/// The characters that the bytes spell: where each begins, and how many it is decomposed.
fn spelled(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut spelled = Vec::new();
    let mut begin = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        spelled
            .extend(valid.char_indices().map(|(place, letter)| (begin + place, decomposed_length(letter))));
        begin += valid.len();
        if !chunk.invalid().is_empty() {
            // Shown as one replacement character.
            spelled.push((begin, 1));
            begin += chunk.invalid().len();
        }
    }
    spelled
}

fn decomposed_length(character: char) -> usize {
    let mut length = 0;
    decompose_compatible(character, |_| length += 1);
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offsets(text: &str, tokens: &[&[u8]]) -> Vec<usize> {
        let info = |bytes: &&[u8]| TokenInfo { id: 0, bytes: bytes.to_vec(), logprob: None, top: Vec::new() };
        let tokens: Vec<TokenInfo> = tokens.iter().map(info).collect();
        text_offsets(text, &tokens)
    }

    #[test]
    fn tokens_that_spell_the_text_begin_where_they_stand() {
        assert_eq!(offsets("真金 gold", &["真金".as_bytes(), b" go", b"ld"]), [0, 2, 5]);
        assert_eq!(offsets("é看a", &["é".as_bytes(), &[0xE7, 0x9C], &[0x8B], b"a"]), [0, 1, 2, 2]);
        assert_eq!(offsets("", &[]), [0; 0]);
        // Half a character is shown as one that replaces it.
        assert_eq!(offsets("\u{FFFD}a", &[&[0xE7], b"a"]), [0, 1]);
    }

    /// Regression: places counted the composed letters, and the text had decomposed ones.
    #[test]
    fn tokens_of_a_normalised_text_begin_where_the_text_as_it_was_has_them() {
        let letter = "\u{e9}".as_bytes();
        let text = "e\u{301}e\u{301}e\u{301} hello";
        assert_eq!(offsets(text, &[letter, letter, letter, b" hello"]), [0, 2, 4, 6]);
        assert_eq!(offsets(text, &[&letter[..1], &letter[1..], letter, letter, b" hello"]), [0, 2, 2, 4, 6]);
        assert_eq!(offsets("\u{e9}x", &[b"e", "\u{301}".as_bytes(), b"x"]), [0, 0, 1]);
        assert_eq!(offsets("\u{fb01}n \u{ff21}", &[b"fin", b" ", b"A"]), [0, 2, 3]);
        assert_eq!(
            offsets("\u{1112}\u{1161}\u{11ab}\u{1100}", &["한".as_bytes(), "\u{1100}".as_bytes()]),
            [0, 3]
        );
    }

    #[test]
    fn what_stands_before_the_text_begins_with_it() {
        assert_eq!(offsets("hello you", &[b"<s>", b" hello", b" you"]), [0, 0, 5]);
    }

    /// Regression: the letters of its name shifted all tokens before it.
    #[test]
    fn an_unknown_character_is_one() {
        assert_eq!(
            offsets("hello you ☃ now", &[b"hello", b" you", b" ", b"<unk>", b" now"]),
            [0, 5, 9, 10, 11]
        );
        assert_eq!(offsets("a <unk> b", &[b"a", b" ", b"<unk>", b" b"]), [0, 1, 2, 7]);
    }

    proptest! {
        #[test]
        fn places_ascend_within_the_text(text in "\\PC{0,12}", tokens in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..8)) {
            let tokens: Vec<&[u8]> = tokens.iter().map(Vec::as_slice).collect();
            let offsets = offsets(&text, &tokens);
            prop_assert_eq!(offsets.len(), tokens.len());
            prop_assert!(offsets.is_sorted() && offsets.iter().all(|place| *place <= text.chars().count()));
        }
    }
}
