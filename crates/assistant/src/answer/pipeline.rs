//! Turns the tokens of one answer into text, calls and token reports.

use std::collections::VecDeque;

use zhenjin_engine::{StopCondition, TokenReport};
use zhenjin_tokenizer::{ControlText, StreamDecoder, Tokenizer, TokenizerError};

use super::stop_strings::StopStrings;
use crate::event::{TokenCandidate, TokenInfo};
use crate::tools::parser::{Part, ToolCallParser};

/// How to read an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) stop: Vec<String>,
    /// Where the model was told of tools.
    pub(crate) tool_calls: Option<ToolCallParser>,
    /// The answer ends with its first call.
    pub(crate) single_call: bool,
}

impl Reading {
    /// True if something in the text can end the answer.
    pub(crate) fn can_end_answer(&self) -> bool {
        !self.stop.is_empty() || (self.single_call && self.tool_calls.is_some())
    }
}

/// What a token leads to.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) parts: Vec<Part>,
    /// The tokens that are now shown, in order.
    pub(crate) tokens: Vec<TokenReport>,
    pub(crate) ended: Option<Ending>,
}

/// What in the text ended the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    StopString(String),
    CallComplete,
}

/// An answer, read as far as it has come.
#[derive(Debug)]
pub(crate) struct Pipeline {
    tokenizer: Tokenizer,
    decoder: StreamDecoder,
    stops: StopStrings,
    tool_calls: Option<ToolCallParser>,
    single_call: bool,
    /// Control tokens that mark tool calls, which must be seen as text.
    markers: Vec<u32>,
    /// Tokens whose text is held back, with the position in the text where each begins.
    held_tokens: VecDeque<(TokenReport, usize)>,
    decoded: usize,
    released: usize,
}

impl Pipeline {
    pub(crate) fn new(tokenizer: &Tokenizer, reading: Reading) -> Pipeline {
        let markers = reading.tool_calls.iter().flat_map(ToolCallParser::markers);
        Pipeline {
            markers: markers.filter_map(|marker| tokenizer.special_id(marker)).collect(),
            tokenizer: tokenizer.clone(),
            decoder: StreamDecoder::new(tokenizer, ControlText::Hide),
            stops: StopStrings::new(reading.stop),
            tool_calls: reading.tool_calls,
            single_call: reading.single_call,
            held_tokens: VecDeque::new(),
            decoded: 0,
            released: 0,
        }
    }

    /// The next token. After an [`Output`] that ended there is nothing more to read.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`] if the model generated an id that its tokenizer does not have.
    pub(crate) fn push(&mut self, report: TokenReport) -> Result<Output, TokenizerError> {
        let text = if self.markers.contains(&report.id) {
            String::from_utf8_lossy(self.tokenizer.token_bytes(report.id).unwrap_or_default()).into_owned()
        } else {
            self.decoder.push(report.id)?
        };
        self.held_tokens.push_back((report, self.decoded));
        self.decoded += text.len();
        let released = self.stops.push(&text);
        self.released += released.text.len();
        let tokens = self.shown_tokens(released.stopped_by.is_some());
        let parts = self.parts_of(&released.text);
        let mut output = Output { parts, tokens, ended: released.stopped_by.map(Ending::StopString) };
        if self.single_call && self.tool_calls.as_ref().is_some_and(|calls| calls.completed() > 0) {
            output.ended = Some(Ending::CallComplete);
        }
        Ok(output)
    }

    /// The rest of an answer that has come to its end.
    pub(crate) fn finish(&mut self) -> Output {
        let unfinished =
            std::mem::replace(&mut self.decoder, StreamDecoder::new(&self.tokenizer, ControlText::Hide));
        let last = self.stops.push(&unfinished.finish());
        let text = last.text + &self.stops.finish();
        let mut parts = self.parts_of(&text);
        if let Some(calls) = &mut self.tool_calls {
            parts.extend(calls.finish());
        }
        Output { parts, tokens: self.held_tokens.drain(..).map(|(report, _)| report).collect(), ended: None }
    }

    /// What the tool calls' parser still holds, where a stop string or a complete call ended the answer.
    pub(crate) fn finish_ended(&mut self) -> Vec<Part> {
        self.tool_calls.as_mut().map(ToolCallParser::finish).unwrap_or_default()
    }

    /// Tool calls that began so far.
    pub(crate) fn calls(&self) -> usize {
        self.tool_calls.as_ref().map_or(0, ToolCallParser::calls)
    }

    fn parts_of(&mut self, text: &str) -> Vec<Part> {
        match &mut self.tool_calls {
            _ if text.is_empty() => Vec::new(),
            Some(calls) => calls.push(text),
            None => vec![Part::Text(text.to_owned())],
        }
    }

    /// Tokens are shown with the first of their text; those that begin after everything shown wait, unless
    /// nothing more comes.
    fn shown_tokens(&mut self, stopped: bool) -> Vec<TokenReport> {
        let mut shown = Vec::new();
        while let Some((_, start)) = self.held_tokens.front() {
            let is_shown = *start < self.released || (!stopped && self.released == self.decoded);
            match self.held_tokens.pop_front() {
                Some((report, _)) if is_shown => shown.push(report),
                Some(held) => {
                    self.held_tokens.push_front(held);
                    break;
                }
                None => break,
            }
        }
        shown
    }
}

/// The pipeline beside the engine: ends the answer with the token that completes a stop string or a call.
pub(crate) struct EndOfText(pub(crate) Pipeline);

impl StopCondition for EndOfText {
    fn ends_with(&mut self, token: u32) -> bool {
        let report = TokenReport { id: token, logprob: None, top: Vec::new() };
        // An unknown token ends the answer: the receiving end meets the same error and reports it.
        self.0.push(report).map_or(true, |output| output.ended.is_some())
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
