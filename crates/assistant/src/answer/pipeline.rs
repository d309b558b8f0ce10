//! Turns the tokens of one answer into text, calls and token reports.

use std::collections::VecDeque;

use zhenjin_engine::{StopCondition, TokenReport};
use zhenjin_tokenizer::{Tokenizer, TokenizerError};

use super::repetition::{RepetitionDetection, RepetitionDetector};
use super::stop_strings::StopStrings;
use super::thoughts::{AnswerDecoder, Piece, ThoughtReading, ThoughtSplitter};
use crate::event::{TokenCandidate, TokenInfo};
use crate::tools::parser::{Part, ToolCallParser};

/// How to read an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Searched in the answer, not in the thought before it; the thought's closing marker itself may be one.
    pub(crate) stop: Vec<String>,
    /// Where the answer may begin with a thought.
    pub(crate) thoughts: Option<ThoughtReading>,
    /// Where the model was told of tools.
    pub(crate) tool_calls: Option<ToolCallParser>,
    /// The answer ends with its first call.
    pub(crate) single_call: bool,
    /// The answer begins behind a control token, where the vocabulary puts a space before every text.
    pub(crate) drops_space: bool,
    /// When the answer counts as a loop, and ends.
    pub(crate) repetition: RepetitionDetection,
}

impl Reading {
    /// True if something in the text can end the answer.
    fn can_text_end_answer(&self) -> bool {
        !self.stop.is_empty() || (self.single_call && self.tool_calls.is_some())
    }
}

/// What a token leads to.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) parts: Vec<Part>,
    /// The tokens of the thought that are now shown, its markers included; they come before all others.
    pub(crate) thought_tokens: Vec<TokenReport>,
    /// The tokens of the answer that are now shown, in order.
    pub(crate) tokens: Vec<TokenReport>,
    pub(crate) ended: Option<Ending>,
}

/// What in the text ended the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    StopString(String),
    CallComplete,
    Repetition,
}

/// An answer, read as far as it has come.
#[derive(Debug)]
pub(crate) struct Pipeline {
    decoder: AnswerDecoder,
    thoughts: ThoughtSplitter,
    /// What closes a thought.
    closing: Option<&'static str>,
    stops: StopStrings,
    stops_at_closing: bool,
    tool_calls: Option<ToolCallParser>,
    single_call: bool,
    /// Tokens whose text is held back, with the position in the text where each begins.
    held_tokens: VecDeque<(TokenReport, usize)>,
    /// Bytes of text so far: all, those of the answer, and those of the answer that are shown.
    decoded: usize,
    answer: usize,
    released: usize,
    repetition: Option<RepetitionDetector>,
}

impl Pipeline {
    pub(crate) fn new(tokenizer: &Tokenizer, reading: Reading) -> Pipeline {
        let calls = reading.tool_calls.iter().flat_map(ToolCallParser::markers);
        let around_thoughts = reading.thoughts.iter().flat_map(|thoughts| {
            let markers = thoughts.markers;
            let around_answer = markers.answer.map(|answer| [answer.opening, answer.closing]);
            [markers.opening, markers.closing].into_iter().chain(around_answer.into_iter().flatten())
        });
        let closing = reading.thoughts.map(|thoughts| thoughts.markers.closing);
        Pipeline {
            decoder: AnswerDecoder::new(tokenizer, calls.chain(around_thoughts))
                .dropping_space(reading.drops_space),
            thoughts: ThoughtSplitter::new(reading.thoughts),
            closing,
            stops_at_closing: reading.stop.iter().any(|stop| Some(stop.as_str()) == closing),
            stops: StopStrings::new(reading.stop),
            tool_calls: reading.tool_calls,
            single_call: reading.single_call,
            held_tokens: VecDeque::new(),
            decoded: 0,
            answer: 0,
            released: 0,
            repetition: RepetitionDetector::new(reading.repetition),
        }
    }

    /// The next token. After an [`Output`] that ended there is nothing more to read.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] if the model generated an id that its tokenizer does not have.
    pub(crate) fn push(&mut self, report: TokenReport) -> Result<Output, TokenizerError> {
        let is_loop = self.repetition.as_mut().is_some_and(|detector| detector.push(report.id));
        let text = self.decoder.push(report.id)?;
        self.held_tokens.push_back((report, self.decoded));
        self.decoded += text.len();
        let mut output = Output::default();
        for piece in self.thoughts.push(&text) {
            self.take_piece(piece, &mut output);
            if output.ended.is_some() {
                break;
            }
        }
        self.show_tokens(&mut output);
        if self.single_call && self.tool_calls.as_ref().is_some_and(|calls| calls.completed() > 0) {
            output.ended = Some(Ending::CallComplete);
        }
        if is_loop && output.ended.is_none() {
            output.ended = Some(Ending::Repetition);
        }
        Ok(output)
    }

    /// The rest of an answer that has come to its end. `is_cut`: not by the model's own decision.
    pub(crate) fn finish(&mut self, is_cut: bool) -> Output {
        let mut output = Output::default();
        let text = self.decoder.finish();
        self.decoded += text.len();
        let pieces = self.thoughts.push(&text);
        for piece in pieces.into_iter().chain(self.thoughts.finish()) {
            self.take_piece(piece, &mut output);
        }
        output.ended = None;
        let rest = self.stops.finish();
        output.parts.extend(self.parts_of(&rest));
        if let Some(calls) = &mut self.tool_calls {
            output.parts.extend(calls.finish(is_cut));
        }
        let begins = self.answer_begins();
        let (thought, answer) =
            self.held_tokens.drain(..).partition::<Vec<_>, _>(|(_, start)| *start < begins);
        output.thought_tokens = thought.into_iter().map(|(report, _)| report).collect();
        output.tokens = answer.into_iter().map(|(report, _)| report).collect();
        output
    }

    fn take_piece(&mut self, piece: Piece, output: &mut Output) {
        match piece {
            Piece::Thought(text) => output.parts.push(Part::Thought(text)),
            Piece::ThoughtEnd if self.stops_at_closing => {
                output.ended = self.closing.map(|closing| Ending::StopString(closing.to_owned()));
            }
            Piece::ThoughtEnd => {}
            Piece::Answer(text) => {
                self.answer += text.len();
                let released = self.stops.push(&text);
                self.released += released.text.len();
                output.parts.extend(self.parts_of(&released.text));
                output.ended = released.stopped_by.map(Ending::StopString);
            }
        }
    }

    /// What the tool calls' parser still holds, where a stop string or a complete call ended the answer.
    pub(crate) fn finish_ended(&mut self) -> Vec<Part> {
        self.tool_calls.as_mut().map(|calls| calls.finish(true)).unwrap_or_default()
    }

    /// Tool calls that began so far.
    pub(crate) fn calls(&self) -> usize {
        self.tool_calls.as_ref().map_or(0, ToolCallParser::calls)
    }

    /// Whether the answer broke off in a call. To be asked once it has been finished.
    pub(crate) fn ends_in_call(&self) -> bool {
        self.tool_calls.as_ref().is_some_and(|calls| calls.completed() < calls.calls())
    }

    fn parts_of(&mut self, text: &str) -> Vec<Part> {
        match &mut self.tool_calls {
            _ if text.is_empty() => Vec::new(),
            Some(calls) => calls.push(text),
            None => vec![Part::Text(text.to_owned())],
        }
    }

    /// Where in the text the answer proper begins; beyond everything while only the thought has come.
    fn answer_begins(&self) -> usize {
        if self.thoughts.is_in_answer() {
            self.decoded - self.thoughts.held() - self.answer
        } else {
            usize::MAX
        }
    }

    /// Tokens are shown with the first of their text; those that begin after everything shown wait, unless
    /// nothing more comes.
    fn show_tokens(&mut self, output: &mut Output) {
        if self.thoughts.is_undecided() {
            return;
        }
        let begins = self.answer_begins();
        let shown = self.decoded - self.thoughts.held() - self.answer + self.released;
        let shows_all = output.ended.is_none() && shown == self.decoded;
        while let Some((report, start)) = self.held_tokens.pop_front() {
            if start < begins && (start < shown || shows_all) {
                output.thought_tokens.push(report);
            } else if start < shown || shows_all {
                output.tokens.push(report);
            } else {
                self.held_tokens.push_front((report, start));
                break;
            }
        }
    }
}

/// Beside the engine: ends the answer with the token that completes a stop string, a call, or a loop.
pub(crate) struct EndOfAnswer {
    /// Where the text can end the answer.
    text: Option<Pipeline>,
    /// Where it cannot.
    repetition: Option<RepetitionDetector>,
}

impl EndOfAnswer {
    /// `None` if nothing in the answer's tokens can end it.
    pub(crate) fn new(tokenizer: &Tokenizer, reading: &Reading) -> Option<EndOfAnswer> {
        if reading.can_text_end_answer() {
            let text = Some(Pipeline::new(tokenizer, reading.clone()));
            return Some(EndOfAnswer { text, repetition: None });
        }
        let repetition = RepetitionDetector::new(reading.repetition)?;
        Some(EndOfAnswer { text: None, repetition: Some(repetition) })
    }
}

impl StopCondition for EndOfAnswer {
    fn ends_with(&mut self, token: u32) -> bool {
        let Some(pipeline) = &mut self.text else {
            return self.repetition.as_mut().is_some_and(|detector| detector.push(token));
        };
        let report = TokenReport { id: token, logprob: None, top: Vec::new() };
        // An unknown token ends the answer: the receiving end meets the same error and reports it.
        pipeline.push(report).map_or(true, |output| output.ended.is_some())
    }
}

/// A report with the tokens' bytes.
pub(crate) fn token_info(tokenizer: &Tokenizer, report: TokenReport) -> TokenInfo {
    let bytes = |id: u32| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
    let top = report.top.iter().map(|top| TokenCandidate {
        id: top.id,
        bytes: bytes(top.id),
        logprob: top.logprob,
    });
    TokenInfo { id: report.id, bytes: bytes(report.id), logprob: report.logprob, top: top.collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use zhenjin_tokenizer::Specials;

    use super::*;

    /// Regression: every answer of Phi-3 began with the space that its vocabulary puts behind control tokens.
    #[test]
    fn a_space_that_the_vocabulary_puts_before_texts_is_not_the_answers() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../tokenizer/tests/data/family_tokenizers.json"))
                .unwrap();
        let case = golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == "Phi-3").unwrap();
        let tokenizer =
            Tokenizer::from_tokenizer_json(case["tokenizer"].to_string().as_bytes(), None).unwrap();
        assert!(tokenizer.puts_space_before_texts());
        let ids = tokenizer.encode("<|assistant|>\nHello ab", Specials::Parse).unwrap();
        for (drops_space, expected) in [(true, "Hello ab"), (false, " Hello ab")] {
            let reading = Reading {
                stop: Vec::new(),
                thoughts: None,
                tool_calls: None,
                single_call: false,
                drops_space,
                repetition: RepetitionDetection::Off,
            };
            let mut pipeline = Pipeline::new(&tokenizer, reading);
            let mut text = String::new();
            for id in &ids[1..] {
                let output = pipeline.push(TokenReport { id: *id, logprob: None, top: Vec::new() }).unwrap();
                for part in output.parts {
                    if let Part::Text(more) = part {
                        text.push_str(&more);
                    }
                }
            }
            assert_eq!(text, expected);
        }
    }
}
