//! Whether two tokenizers mean the same tokens by the same numbers, and what differs first.
//! This file does not know how text becomes ids.

use crate::Tokenizer;

/// Why the numbers of two models' tokens cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyDifference {
    /// A number stands for different tokens.
    #[error(
        "token {id} is {} in the {whose} vocabulary of {size} and {} in the {other_whose} of {other_size}",
        shown(token),
        shown(other_token)
    )]
    Token {
        /// The first number of which this is so.
        id: u32,
        /// Whose the first vocabulary is.
        whose: &'static str,
        /// What the number stands for in it.
        token: Vec<u8>,
        /// Tokens that it has.
        size: usize,
        /// Whose the second one is.
        other_whose: &'static str,
        /// What the number stands for in it.
        other_token: Vec<u8>,
        /// Tokens that it has.
        other_size: usize,
    },
    /// One has tokens, not mere padding, that the other lacks.
    #[error(
        "the {whose} vocabulary has tokens that the other lacks, of which {} with number {id} is the first",
        shown(token)
    )]
    More {
        /// Whose.
        whose: &'static str,
        /// The first number.
        id: u32,
        /// What it stands for.
        token: Vec<u8>,
    },
}

fn shown(token: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(token).escape_debug())
}

/// How many tokens both tokenizers have, which have the same numbers in both; each comes with the word that says whose it is, such as
/// `student's`. Padding at the end of either does not count: files differ in how many rows they add so that a matrix has a round number of them.
///
/// # Errors
/// [`VocabularyDifference`] names the first token that is not the same.
pub fn common_tokens(
    one: (&'static str, &Tokenizer),
    other: (&'static str, &Tokenizer),
) -> Result<usize, VocabularyDifference> {
    let (size, other_size) = (one.1.vocabulary_size(), other.1.vocabulary_size());
    let common = size.min(other_size);
    for id in 0..common as u32 {
        let [token, other_token] =
            [one, other].map(|(_, tokenizer)| tokenizer.token_bytes(id).unwrap_or_default());
        if token != other_token && !(is_padding(token) && is_padding(other_token)) {
            return Err(VocabularyDifference::Token {
                id,
                whose: one.0,
                token: token.to_vec(),
                size,
                other_whose: other.0,
                other_token: other_token.to_vec(),
                other_size,
            });
        }
    }
    for (whose, tokenizer) in [one, other] {
        for id in common as u32..tokenizer.vocabulary_size() as u32 {
            let token = tokenizer.token_bytes(id).unwrap_or_default();
            if !is_padding(token) {
                return Err(VocabularyDifference::More { whose, id, token: token.to_vec() });
            }
        }
    }
    Ok(common)
}

/// Whether a token stands for nothing: a row that was added to a matrix, or a number that was kept free.
fn is_padding(token: &[u8]) -> bool {
    let text = String::from_utf8_lossy(token);
    let numbered = |start: &str, end: &str| {
        let number = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    text.is_empty()
        || numbered("[PAD", "]")
        || numbered("[unused", "]")
        || numbered("<unused", ">")
        || numbered("<|unused_", "|>")
        || numbered("<|reserved_special_token_", "|>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GgufVocabulary;

    fn tokenizer(more: &[&str]) -> Tokenizer {
        let mut tokens: Vec<String> = (b'a'..=b'z').map(|letter| char::from(letter).to_string()).collect();
        tokens.push("</s>".to_owned());
        let mut token_types = vec![1; tokens.len() - 1];
        token_types.push(3);
        tokens.extend(more.iter().map(|token| (*token).to_owned()));
        token_types.extend(more.iter().map(|_| 4));
        let eos = Some(26);
        let model = "gpt2".to_owned();
        Tokenizer::from_gguf(GgufVocabulary { model, eos, tokens, token_types, ..GgufVocabulary::default() })
            .unwrap()
    }

    fn common(one: &Tokenizer, other: &Tokenizer) -> Result<usize, VocabularyDifference> {
        common_tokens(("student's", one), ("teacher's", other))
    }

    #[test]
    fn vocabularies_with_more_padding_are_the_same() {
        let plain = tokenizer(&[]);
        assert_eq!(common(&plain, &plain), Ok(27));
        let padded = tokenizer(&["[PAD27]", "[PAD28]"]);
        assert_eq!(common(&plain, &padded), Ok(27));
        assert_eq!(common(&padded, &plain), Ok(27));
        assert_eq!(common(&padded, &tokenizer(&["<unused0>"])), Ok(28));
    }

    #[test]
    fn the_first_token_that_differs_is_named() {
        let error = common(&tokenizer(&["<think>"]), &tokenizer(&["<tool>"])).unwrap_err().to_string();
        assert!(
            error.contains("token 27 is `<think>`") && error.contains("`<tool>` in the teacher's of 28"),
            "{error}"
        );
        let error = common(&tokenizer(&[]), &tokenizer(&["[PAD27]", "<think>"])).unwrap_err().to_string();
        assert!(
            error.contains("teacher's vocabulary has tokens") && error.contains("`<think>` with number 28"),
            "{error}"
        );
    }
}
