//! The thought that some models write before their answer, between two markers such as `<think>` and `</think>`.
//!
//! The rule: an answer that begins with the opening marker (white space before it aside), or whose prompt ends with it, is a
//! thought up to the closing marker. White space around the thought belongs to neither part. Markers further on are text. Where a model writes
//! its answer between markers too, the one right behind the thought and the one at the end belong to neither part either.

use zhenjin_conversation::{AnswerMarkers, ThoughtMarkers};
use zhenjin_tokenizer::{ControlText, StreamDecoder, Tokenizer, TokenizerError};

/// How to find an answer's thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThoughtReading {
    pub(crate) markers: ThoughtMarkers,
    /// The prompt ends with the opening marker.
    pub(crate) is_open: bool,
}

/// A part of what a model writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Thought(String),
    /// The closing marker.
    ThoughtEnd,
    Answer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space or the beginning of the opening marker so far.
    Beginning,
    /// In the thought; `true` once some of it was passed on.
    Thought(bool),
    /// After the closing marker, in white space or the beginning of the marker before the answer.
    AfterThought,
    /// After the marker before the answer, in white space.
    BeforeMarkedAnswer,
    /// Up to this marker, where it is the last of the text.
    MarkedAnswer(&'static str),
    Answer,
}

/// Divides a text that comes in pieces into thought and answer. The result does not depend on how it was cut.
#[derive(Clone, Debug)]
pub(crate) struct ThoughtSplitter {
    markers: ThoughtMarkers,
    state: State,
    held: String,
}

impl ThoughtSplitter {
    /// Without a reading, everything is the answer.
    pub(crate) fn new(reading: Option<ThoughtReading>) -> ThoughtSplitter {
        let state = match reading {
            None => State::Answer,
            Some(ThoughtReading { is_open: false, .. }) => State::Beginning,
            Some(ThoughtReading { is_open: true, .. }) => State::Thought(false),
        };
        let markers = reading.map_or(ThoughtMarkers::COMMON, |reading| reading.markers);
        ThoughtSplitter { markers, state, held: String::new() }
    }

    /// More of the text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The rest of a text that has come to its end.
    pub(crate) fn finish(&mut self) -> Option<Piece> {
        if let State::MarkedAnswer(closing) = self.state
            && self.held.trim() == closing
        {
            // It stays held, so that the answer before it keeps its place.
            return None;
        }
        let rest = std::mem::take(&mut self.held);
        match self.state {
            // What waits behind a thought is the beginning of a marker that did not come.
            State::Beginning | State::AfterThought | State::MarkedAnswer(_) | State::Answer => {
                if !rest.is_empty() || self.state == State::Beginning {
                    self.state = State::Answer;
                }
                (!rest.is_empty()).then_some(Piece::Answer(rest))
            }
            State::Thought(_) => {
                let rest = rest.trim_end();
                (!rest.is_empty()).then(|| Piece::Thought(rest.to_owned()))
            }
            State::BeforeMarkedAnswer => None,
        }
    }

    /// Bytes of the text that are in no piece yet.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// It is not known yet whether the text begins with a thought.
    pub(crate) fn is_undecided(&self) -> bool {
        self.state == State::Beginning
    }

    /// The answer has begun: everything from here on is part of it.
    pub(crate) fn is_in_answer(&self) -> bool {
        matches!(self.state, State::MarkedAnswer(_) | State::Answer)
    }

    /// The closing marker has come, or there is no thought.
    pub(crate) fn is_past_thought(&self) -> bool {
        !matches!(self.state, State::Beginning | State::Thought(_))
    }

    /// What must still follow to complete the closing marker, if the text so far ends with a beginning of it.
    pub(crate) fn rest_of_closing(&self) -> Option<&'static str> {
        let length = possible_marker(&self.held, self.markers.closing);
        (matches!(self.state, State::Thought(_)) && length > 0).then(|| &self.markers.closing[length..])
    }

    /// True if there may be more to do with the held text.
    fn advance(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Beginning => {
                let text = self.held.trim_start();
                if let Some(thought) = text.strip_prefix(self.markers.opening) {
                    self.held = thought.to_owned();
                    self.state = State::Thought(false);
                } else if self.markers.opening.starts_with(text) {
                    return false;
                } else {
                    self.state = State::Answer;
                }
                true
            }
            State::Thought(has_begun) => {
                if !has_begun {
                    self.held = self.held.trim_start().to_owned();
                }
                if let Some((thought, after)) = self.held.split_once(self.markers.closing) {
                    let thought = thought.trim_end();
                    if !thought.is_empty() {
                        pieces.push(Piece::Thought(thought.to_owned()));
                    }
                    pieces.push(Piece::ThoughtEnd);
                    self.held = after.to_owned();
                    self.state = State::AfterThought;
                    return true;
                }
                let sure = self.held.len() - possible_marker(&self.held, self.markers.closing);
                // White space is part of the thought only if more of it follows.
                let passed = self.held[..sure].trim_end().len();
                if passed > 0 {
                    let rest = self.held.split_off(passed);
                    pieces.push(Piece::Thought(std::mem::replace(&mut self.held, rest)));
                    self.state = State::Thought(true);
                }
                false
            }
            State::AfterThought | State::BeforeMarkedAnswer => self.begin_answer(),
            State::MarkedAnswer(closing) => {
                let passed = self.held.len() - possible_end(&self.held, closing);
                if passed > 0 {
                    let rest = self.held.split_off(passed);
                    pieces.push(Piece::Answer(std::mem::replace(&mut self.held, rest)));
                }
                false
            }
            State::Answer => {
                if !self.held.is_empty() {
                    pieces.push(Piece::Answer(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }

    /// Behind the thought, or the marker before the answer: true if more is known now.
    fn begin_answer(&mut self) -> bool {
        self.held = self.held.trim_start().to_owned();
        if self.held.is_empty() {
            return false;
        }
        let is_marked = self.state == State::BeforeMarkedAnswer;
        self.state = match self.markers.answer {
            Some(AnswerMarkers { closing, .. }) if is_marked => State::MarkedAnswer(closing),
            Some(AnswerMarkers { opening, .. }) => match self.held.strip_prefix(opening) {
                Some(behind) => {
                    self.held = behind.to_owned();
                    State::BeforeMarkedAnswer
                }
                None if opening.starts_with(self.held.as_str()) => return false,
                None => State::Answer,
            },
            None => State::Answer,
        };
        true
    }
}

/// Length of the longest end of `text` that begins `marker` without completing it.
pub(crate) fn possible_marker(text: &str, marker: &str) -> usize {
    let longest = text.len().min(marker.len().saturating_sub(1));
    (1..=longest).rev().find(|&length| text.as_bytes().ends_with(&marker.as_bytes()[..length])).unwrap_or(0)
}

/// Length of the longest end of `text` that may be the last marker of it, or its beginning, with the white space around it.
fn possible_end(text: &str, marker: &str) -> usize {
    let written = text.trim_end();
    let before = match written.strip_suffix(marker) {
        Some(before) => before,
        None => match possible_marker(text, marker) {
            0 => written,
            begun => &text[..text.len() - begun],
        },
    };
    text.len() - before.trim_end().len()
}

/// Decodes an answer's tokens; control tokens leave no text, except for those that mark something in the answer.
#[derive(Clone, Debug)]
pub(crate) struct AnswerDecoder {
    tokenizer: Tokenizer,
    decoder: StreamDecoder,
    /// Control tokens whose text must be seen.
    shown: Vec<u32>,
    /// A space at the beginning is the vocabulary's, not the model's.
    drops_space: bool,
}

impl AnswerDecoder {
    /// Shows the control tokens whose texts are `markers`.
    pub(crate) fn new<'m>(
        tokenizer: &Tokenizer,
        markers: impl IntoIterator<Item = &'m str>,
    ) -> AnswerDecoder {
        AnswerDecoder {
            shown: markers.into_iter().filter_map(|marker| tokenizer.special_id(marker)).collect(),
            decoder: StreamDecoder::new(tokenizer, ControlText::Hide),
            tokenizer: tokenizer.clone(),
            drops_space: false,
        }
    }

    /// The same, without the space at the beginning, if `drops_space`.
    pub(crate) fn dropping_space(self, drops_space: bool) -> AnswerDecoder {
        AnswerDecoder { drops_space, ..self }
    }

    /// The characters that `id` completes.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] for an id outside the vocabulary.
    pub(crate) fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        if self.shown.contains(&id) {
            let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
            return Ok(String::from_utf8_lossy(bytes).into_owned());
        }
        let mut text = self.decoder.push(id)?;
        if self.drops_space && !text.is_empty() {
            self.drops_space = false;
            if text.starts_with(' ') {
                text.remove(0);
            }
        }
        Ok(text)
    }

    /// The end of the answer: an unfinished character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let next = StreamDecoder::new(&self.tokenizer, ControlText::Hide);
        std::mem::replace(&mut self.decoder, next).finish()
    }
}

/// Writes thought and answer into one text, for whoever keeps an answer as one text: the thought comes first, between
/// `<think>` and `</think>`. [`Transcript::split`] takes such a text apart again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transcript {
    in_thought: bool,
}

impl Transcript {
    /// More of the thought, as it goes into the text.
    pub fn thought(&mut self, text: &str) -> String {
        match (text.is_empty(), self.in_thought) {
            (true, _) => String::new(),
            (false, true) => text.to_owned(),
            (false, false) => {
                self.in_thought = true;
                format!("{}\n{text}", ThoughtMarkers::COMMON.opening)
            }
        }
    }

    /// More of the answer, as it goes into the text.
    pub fn answer(&mut self, text: &str) -> String {
        if text.is_empty() || !self.in_thought {
            return text.to_owned();
        }
        self.in_thought = false;
        format!("\n{}\n\n{text}", ThoughtMarkers::COMMON.closing)
    }

    /// Thought and answer of a whole text.
    pub fn split(text: &str) -> (Option<String>, String) {
        let mut splitter =
            ThoughtSplitter::new(Some(ThoughtReading { markers: ThoughtMarkers::COMMON, is_open: false }));
        let (mut thought, mut answer) = (String::new(), String::new());
        let pieces = splitter.push(text);
        for piece in pieces.into_iter().chain(splitter.finish()) {
            match piece {
                Piece::Thought(text) => thought.push_str(&text),
                Piece::ThoughtEnd => {}
                Piece::Answer(text) => answer.push_str(&text),
            }
        }
        ((!thought.is_empty()).then_some(thought), answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Thought, whether it was closed, and answer.
    fn run(is_open: bool, pieces: &[&str]) -> (String, bool, String) {
        let mut splitter =
            ThoughtSplitter::new(Some(ThoughtReading { markers: ThoughtMarkers::COMMON, is_open }));
        let (mut thought, mut closed, mut answer) = (String::new(), false, String::new());
        let mut take = |piece: Piece| match piece {
            Piece::Thought(text) => thought.push_str(&text),
            Piece::ThoughtEnd => closed = true,
            Piece::Answer(text) => answer.push_str(&text),
        };
        for piece in pieces {
            splitter.push(piece).into_iter().for_each(&mut take);
        }
        splitter.finish().into_iter().for_each(&mut take);
        (thought, closed, answer)
    }

    #[test]
    fn thoughts_are_divided_from_answers() {
        // These are the cases of the web page's own test, whose rule is the same.
        for (text, thought, closed, answer) in [
            ("plain", "", false, "plain"),
            ("", "", false, ""),
            ("<thi", "", false, "<thi"),
            ("<think>\nhm", "hm", false, ""),
            ("<think>\nhm\n</think>\n\nyes", "hm", true, "yes"),
            ("<think>\n\n</think>\n\nyes", "", true, "yes"),
            ("The tag <think> opens </think>.", "", false, "The tag <think> opens </think>."),
            ("<thing>", "", false, "<thing>"),
            (" \n<think>a b \n", "a b", false, ""),
            ("  two spaces", "", false, "  two spaces"),
            ("<think>a</thi", "a</thi", false, ""),
            ("<think>a</think>b</think>", "a", true, "b</think>"),
        ] {
            assert_eq!(run(false, &[text]), (thought.to_owned(), closed, answer.to_owned()), "{text:?}");
        }
        assert_eq!(run(true, &["hm\n</think>\nyes"]), ("hm".to_owned(), true, "yes".to_owned()));
        assert_eq!(run(true, &["\nhm"]), ("hm".to_owned(), false, String::new()));
    }

    /// Thought and answer of a model that writes its answer between markers too, in pieces of so many characters.
    fn run_marked(text: &str, step: usize) -> (String, String) {
        let answer = Some(AnswerMarkers { opening: "<response>", closing: "</response>" });
        let markers = ThoughtMarkers { answer, ..ThoughtMarkers::COMMON };
        let mut splitter = ThoughtSplitter::new(Some(ThoughtReading { markers, is_open: false }));
        let (mut thought, mut said) = (String::new(), String::new());
        let mut take = |piece: Piece| match piece {
            Piece::Thought(text) => thought.push_str(&text),
            Piece::ThoughtEnd => {}
            Piece::Answer(text) => said.push_str(&text),
        };
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(step) {
            splitter.push(&piece.iter().collect::<String>()).into_iter().for_each(&mut take);
        }
        splitter.finish().into_iter().for_each(&mut take);
        (thought, said)
    }

    /// Regression: users of Granite 3.3 saw `<response>` and `</response>` around the answer.
    #[test]
    fn markers_around_the_answer_are_no_text() {
        for (text, thought, answer) in [
            ("<think>hm</think>\n<response>yes</response>", "hm", "yes"),
            ("<think>hm</think> <response>\n yes \n</response>\n", "hm", "yes"),
            ("<think>hm</think><response>a </response> b</response>", "hm", "a </response> b"),
            ("<think>hm</think><response>cut </resp", "hm", "cut </resp"),
            ("<think>hm</think><response></response>", "hm", ""),
            ("<think>hm</think><response>", "hm", ""),
            ("<think>hm</think> <resp", "hm", "<resp"),
            ("<think>hm</think>a <response>b</response>", "hm", "a <response>b</response>"),
            ("<think>hm</think>yes", "hm", "yes"),
            ("<response>yes</response>", "", "<response>yes</response>"),
        ] {
            for step in [1, 2, 3, 7, 100] {
                let expected = (thought.to_owned(), answer.to_owned());
                assert_eq!(run_marked(text, step), expected, "{text:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_thought_is_passed_on_as_it_comes() {
        let mut splitter =
            ThoughtSplitter::new(Some(ThoughtReading { markers: ThoughtMarkers::COMMON, is_open: true }));
        assert_eq!(splitter.push("\n one "), [Piece::Thought("one".to_owned())]);
        assert_eq!(splitter.push("two<"), [Piece::Thought(" two".to_owned())]);
        assert_eq!(splitter.rest_of_closing(), Some("/think>"));
        assert_eq!(splitter.push("3"), [Piece::Thought("<3".to_owned())]);
        assert_eq!(splitter.push("</think>"), [Piece::ThoughtEnd]);
        assert!(splitter.is_past_thought() && !splitter.is_in_answer());
        assert_eq!(splitter.push(" \n x"), [Piece::Answer("x".to_owned())]);
    }

    #[test]
    fn a_transcript_is_taken_apart_again() {
        let mut transcript = Transcript::default();
        let written = [
            transcript.thought("hm"),
            transcript.thought(""),
            transcript.thought(" so"),
            transcript.answer(""),
            transcript.answer("yes"),
            transcript.answer("."),
        ]
        .concat();
        assert_eq!(written, "<think>\nhm so\n</think>\n\nyes.");
        assert_eq!(Transcript::split(&written), (Some("hm so".to_owned()), "yes.".to_owned()));
        assert_eq!(Transcript::split("<think>\ncut"), (Some("cut".to_owned()), String::new()));
        assert_eq!(Transcript::split("plain"), (None, "plain".to_owned()));
        assert_eq!(Transcript::default().answer("plain"), "plain");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec("<think>|</think>|<|/think>| |\n|a|好|thi", 0..10), is_open: bool, step in 1usize..6) {
            let text = parts.concat();
            let characters: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = characters.chunks(step).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(is_open, &[&text]), run(is_open, &pieces));
        }
    }
}
