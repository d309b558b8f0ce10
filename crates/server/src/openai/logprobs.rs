//! Log-probabilities in the two forms that OpenAI gives them.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zhenjin_assistant::{Echo, TokenInfo};

use super::text_offsets::text_offsets;
use crate::json;

/// What OpenAI reports instead of minus infinity, which JSON cannot say.
const IMPOSSIBLE: f64 = -9999.0;

/// The log-probabilities of a chat answer's tokens.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<ChatTokenLogprob>,
    /// The tokens of the thought, its markers included; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_content: Vec<ChatTokenLogprob>,
    /// Always null.
    refusal: Option<String>,
}

/// One token of a chat answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatTokenLogprob {
    /// Its text; what is no whole character shows as �.
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatCandidate>,
}

/// One of the most likely tokens at a place.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatCandidate {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// The report on the tokens of a thought and of the answer after it.
    pub(crate) fn of(thought: &[TokenInfo], answer: &[TokenInfo]) -> Self {
        let report = |tokens: &[TokenInfo]| tokens.iter().map(ChatTokenLogprob::of).collect();
        ChatLogprobs { content: report(answer), reasoning_content: report(thought), refusal: None }
    }
}

impl ChatTokenLogprob {
    fn of(token: &TokenInfo) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let candidates = token.top.iter().map(|candidate| ChatCandidate {
            token: text(&candidate.bytes),
            logprob: finite(candidate.logprob),
            bytes: candidate.bytes.clone(),
        });
        ChatTokenLogprob {
            token: text(&token.bytes),
            logprob: token.logprob.map_or(0.0, finite),
            bytes: token.bytes.clone(),
            top_logprobs: candidates.collect(),
        }
    }
}

/// The log-probabilities of a completion's tokens, one entry of each list for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    /// null for the first token of an echoed prompt, which nothing predicts.
    token_logprobs: Vec<Option<f64>>,
    /// Objects of tokens' texts to log-probabilities, with the token itself among them; null if none were asked for.
    #[schema(value_type = Option<Vec<Object>>)]
    top_logprobs: Option<Vec<Value>>,
    /// Where each token begins, in characters from the beginning of the text.
    text_offset: Vec<usize>,
}

/// Writes completions' reports piece by piece, knowing how far the text has come.
#[derive(Clone, Debug)]
pub(super) struct CompletionLogprobsWriter {
    candidates: usize,
    characters: usize,
}

impl CompletionLogprobsWriter {
    /// For reports with so many most likely tokens at each place.
    pub(super) fn new(candidates: usize) -> Self {
        CompletionLogprobsWriter { candidates, characters: 0 }
    }

    /// The report on the tokens of an echoed prompt, which come first.
    pub(super) fn write_echo(&mut self, echo: &Echo) -> CompletionLogprobs {
        let mut report = self.write(&echo.tokens);
        report.text_offset = text_offsets(&echo.text, &echo.tokens);
        self.characters = echo.text.chars().count();
        report
    }

    /// The report on the next tokens.
    pub(super) fn write(&mut self, tokens: &[TokenInfo]) -> CompletionLogprobs {
        let mut report = CompletionLogprobs {
            top_logprobs: (self.candidates > 0).then(Vec::new),
            ..CompletionLogprobs::default()
        };
        for token in tokens {
            report.tokens.push(token_name(&token.bytes));
            report.token_logprobs.push(token.logprob.map(finite));
            report.text_offset.push(self.characters);
            if let Some(list) = &mut report.top_logprobs {
                list.push(candidates_of(token));
            }
            // A character begins at every byte that continues none.
            self.characters += token.bytes.iter().filter(|byte| (*byte & 0xC0) != 0x80).count();
        }
        report
    }
}

impl CompletionLogprobs {
    /// Appends a later piece.
    pub(super) fn append(&mut self, later: CompletionLogprobs) {
        self.tokens.extend(later.tokens);
        self.token_logprobs.extend(later.token_logprobs);
        self.text_offset.extend(later.text_offset);
        match (&mut self.top_logprobs, later.top_logprobs) {
            (Some(list), Some(more)) => list.extend(more),
            (empty @ None, more) => *empty = more,
            (Some(_), None) => {}
        }
    }
}

fn candidates_of(token: &TokenInfo) -> Value {
    let Some(logprob) = token.logprob else {
        return Value::Null;
    };
    // Of several tokens with the same text, the one that was chosen counts, then the most likely one.
    let mut map = Map::new();
    map.insert(token_name(&token.bytes), finite(logprob).into());
    for candidate in &token.top {
        map.entry(token_name(&candidate.bytes)).or_insert_with(|| finite(candidate.logprob).into());
    }
    Value::Object(map)
}

/// A token as a name: its text, or its bytes where they are no text.
fn token_name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| format!("{name}\\x{byte:02x}")),
    }
}

/// A log-probability as it is reported, with the same digits at every place.
fn finite(logprob: f32) -> f64 {
    if logprob.is_finite() { json::number(logprob) } else { IMPOSSIBLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zhenjin_assistant::TokenCandidate;

    fn token(bytes: &[u8], logprob: Option<f32>) -> TokenInfo {
        let top = vec![TokenCandidate { id: 1, bytes: b"other".to_vec(), logprob: f32::NEG_INFINITY }];
        TokenInfo { id: 0, bytes: bytes.to_vec(), logprob, top }
    }

    #[test]
    fn offsets_count_characters_across_split_ones_and_pieces() {
        let mut writer = CompletionLogprobsWriter::new(1);
        let mut report = writer.write(&[token("é".as_bytes(), None), token(&[0xE7, 0x9C], Some(-1.0))]);
        report.append(writer.write(&[token(&[0x9F], Some(-2.0)), token(b"a", Some(-0.5))]));
        assert_eq!(report.text_offset, [0, 1, 2, 2]);
        assert_eq!(report.tokens[1], "bytes:\\xe7\\x9c");
        assert_eq!(report.token_logprobs, [None, Some(-1.0), Some(-2.0), Some(-0.5)]);
        let top = report.top_logprobs.expect("asked for");
        assert_eq!(top[0], Value::Null);
        assert_eq!(top[3]["a"], -0.5);
        assert_eq!(top[3]["other"], -9999.0);
    }

    #[test]
    fn the_answer_begins_behind_the_echoed_text() {
        let mut writer = CompletionLogprobsWriter::new(0);
        let tokens = vec![token("\u{e9}".as_bytes(), None), token(b"x", Some(-1.0))];
        let report = writer.write_echo(&Echo { text: "e\u{301}x".to_owned(), tokens });
        assert_eq!(report.text_offset, [0, 2]);
        assert_eq!(writer.write(&[token(b"y", Some(-1.0))]).text_offset, [3]);
    }
}
