//! Answers of `/v1/responses`, whole or event by event.

use std::sync::Arc;

use serde_json::{Value, json};
use zhenjin_assistant::{FinishReason, TextEvent, TokenInfo, Usage};
use zhenjin_store::Owner;

use super::echo::Echo;
use super::recent::RecentItems;
use super::sealed::seal;
use super::wire::{
    IncompleteDetails, OutputPart, ResponseEvent, ResponseFault, ResponseItem, ResponseObject, ResponseUsage,
    ThoughtPart,
};
use crate::answering::{AnswerWriter, Heading, Pieces, Progress, WholeAnswer, seconds_since_1970};
use crate::errors::ApiError;
use crate::openai::logprobs::{ChatLogprobs, ChatTokenLogprob};

const IN_PROGRESS: &str = "in_progress";
const COMPLETED: &str = "completed";
const INCOMPLETE: &str = "incomplete";

/// The item that is being written.
enum Open {
    Thought { text: String },
    Message { text: String, logprobs: Vec<ChatTokenLogprob> },
    Call { call_id: String, name: String, arguments: String },
}

/// What an answer says, as far as it has come.
pub(super) struct Writer {
    heading: Heading,
    echo: Echo,
    /// Where its items are remembered, and whose they are.
    memory: Option<(Arc<RecentItems>, Owner)>,
    sequence: usize,
    /// Tokens of the answer so far, and of its thought.
    tokens: usize,
    thought_tokens: usize,
    /// Items that are whole.
    output: Vec<ResponseItem>,
    open: Option<Open>,
}

impl Writer {
    pub(super) fn new(heading: Heading, echo: Echo, memory: Option<(Arc<RecentItems>, Owner)>) -> Writer {
        Writer {
            heading,
            echo,
            memory,
            sequence: 0,
            tokens: 0,
            thought_tokens: 0,
            output: Vec::new(),
            open: None,
        }
    }

    /// The whole answer.
    pub(super) fn whole(mut self, answer: WholeAnswer) -> ResponseObject {
        let (reason, usage) = answer.end.unwrap_or((FinishReason::Length, Usage::default()));
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::Repetition);
        self.thought_tokens = answer.thought_count;
        let has_thought = !answer.thought.is_empty();
        if has_thought {
            self.open = Some(Open::Thought { text: answer.thought });
            self.finish_item(is_cut && answer.text.is_empty() && answer.calls.is_empty());
        }
        if !answer.text.is_empty() || (answer.calls.is_empty() && !(is_cut && has_thought)) {
            let logprobs = self.logprobs(&answer.tokens);
            self.open = Some(Open::Message { text: answer.text, logprobs });
            self.finish_item(is_cut && answer.calls.is_empty());
        }
        let calls = answer.calls.len();
        for (index, call) in answer.calls.into_iter().enumerate() {
            let (call_id, name, arguments) = (call.id, call.name, call.arguments);
            self.open = Some(Open::Call { call_id, name, arguments });
            self.finish_item(is_cut && index + 1 == calls);
        }
        self.remember();
        self.ended(&reason, &usage)
    }

    fn logprobs(&self, tokens: &[TokenInfo]) -> Vec<ChatTokenLogprob> {
        if self.echo.reports_logprobs { ChatLogprobs::of(&[], tokens).content } else { Vec::new() }
    }

    /// The id of the item at this place of the answer, which begins with what kind of item it is.
    fn item_id(&self, kind: &str) -> String {
        let answer = self.heading.id.trim_start_matches("resp-");
        format!("{kind}_{answer}{:04x}", self.output.len())
    }

    /// The open item with what it has so far; `None` if there is none.
    fn open_item(&self, status: &'static str) -> Option<ResponseItem> {
        Some(match self.open.as_ref()? {
            Open::Message { text, logprobs } => ResponseItem::Message {
                id: self.item_id("msg"),
                status,
                role: "assistant",
                content: vec![text_part(text.clone(), logprobs.clone())],
            },
            Open::Thought { text } => ResponseItem::Reasoning {
                id: self.item_id("rs"),
                summary: Vec::new(),
                content: vec![ThoughtPart::ReasoningText { text: text.clone() }],
                encrypted_content: self.echo.encrypts.then(|| seal(text)),
                status,
            },
            Open::Call { call_id, name, arguments } => ResponseItem::FunctionCall {
                id: self.item_id("fc"),
                call_id: call_id.clone(),
                name: name.clone(),
                arguments: arguments.clone(),
                status,
            },
        })
    }

    /// Puts the open item to those that are whole.
    fn finish_item(&mut self, is_cut: bool) {
        let item = self.open_item(if is_cut { INCOMPLETE } else { COMPLETED });
        self.open = None;
        self.output.extend(item);
    }

    fn remember(&self) {
        if let Some((recent, owner)) = &self.memory {
            recent.add(owner, self.output.iter().map(|item| (item.id().to_owned(), json!(item))));
        }
    }

    fn ended(&self, reason: &FinishReason, usage: &Usage) -> ResponseObject {
        let is_cut = matches!(reason, FinishReason::Length | FinishReason::Repetition);
        ResponseObject {
            incomplete_details: is_cut.then_some(IncompleteDetails { reason: "max_output_tokens" }),
            usage: Some(ResponseUsage::of(usage, self.thought_tokens)),
            completed_at: (!is_cut).then(seconds_since_1970),
            ..self.object(if is_cut { INCOMPLETE } else { COMPLETED })
        }
    }

    /// The answer as it stands.
    fn object(&self, status: &'static str) -> ResponseObject {
        let echo = self.echo.clone();
        ResponseObject {
            id: self.heading.id.replacen('-', "_", 1),
            object: "response",
            created_at: self.heading.created,
            completed_at: None,
            status,
            incomplete_details: None,
            model: self.heading.model.clone(),
            output: self.output.clone(),
            error: None,
            usage: None,
            tools: echo.tools,
            tool_choice: echo.tool_choice,
            parallel_tool_calls: echo.parallel_tool_calls,
            text: echo.text,
            reasoning: json!({ "effort": echo.effort, "summary": null }),
            instructions: echo.instructions,
            previous_response_id: Value::Null,
            max_output_tokens: echo.max_output_tokens,
            max_tool_calls: echo.max_tool_calls,
            metadata: echo.metadata,
            user: echo.user,
            safety_identifier: echo.safety_identifier,
            prompt_cache_key: echo.prompt_cache_key,
            top_logprobs: echo.top_logprobs,
            temperature: echo.temperature,
            top_p: echo.top_p,
            presence_penalty: echo.presence_penalty,
            frequency_penalty: echo.frequency_penalty,
            truncation: "disabled",
            store: false,
            background: false,
            service_tier: "default",
        }
    }

    fn send(&mut self, r#type: &'static str, fields: Value, pieces: &mut Pieces) {
        let Value::Object(fields) = fields else { return };
        let event = ResponseEvent { r#type, sequence_number: self.sequence, fields };
        pieces.push_event(r#type, &event);
        self.sequence += 1;
    }

    /// Sends an event about the open item's only part.
    fn send_part(&mut self, r#type: &'static str, mut fields: Value, pieces: &mut Pieces) {
        let kind = if matches!(self.open, Some(Open::Thought { .. })) { "rs" } else { "msg" };
        fields["item_id"] = json!(self.item_id(kind));
        fields["output_index"] = json!(self.output.len());
        fields["content_index"] = json!(0);
        self.send(r#type, fields, pieces);
    }

    fn send_item(&mut self, r#type: &'static str, item: &ResponseItem, index: usize, pieces: &mut Pieces) {
        self.send(r#type, json!({ "output_index": index, "item": item }), pieces);
    }

    /// Begins an item, after ending the one before.
    fn begin(&mut self, open: Open, pieces: &mut Pieces) {
        self.end_item(false, pieces);
        let part = match &open {
            Open::Message { .. } => Some(json!(text_part(String::new(), Vec::new()))),
            Open::Thought { .. } => Some(json!(ThoughtPart::ReasoningText { text: String::new() })),
            Open::Call { .. } => None,
        };
        self.open = Some(open);
        let Some(mut item) = self.open_item(IN_PROGRESS) else { return };
        match &mut item {
            ResponseItem::Message { content, .. } => content.clear(),
            ResponseItem::Reasoning { content, encrypted_content, .. } => {
                content.clear();
                *encrypted_content = None;
            }
            ResponseItem::FunctionCall { .. } => {}
        }
        self.send_item("response.output_item.added", &item, self.output.len(), pieces);
        if let Some(part) = part {
            self.send_part("response.content_part.added", json!({ "part": part }), pieces);
        }
    }

    fn end_item(&mut self, is_cut: bool, pieces: &mut Pieces) {
        match &self.open {
            None => return,
            Some(Open::Thought { text }) => {
                let text = text.clone();
                self.send_part("response.reasoning_text.done", json!({ "text": text }), pieces);
                let part = json!({ "part": ThoughtPart::ReasoningText { text } });
                self.send_part("response.content_part.done", part, pieces);
            }
            Some(Open::Message { text, logprobs }) => {
                let (text, logprobs) = (text.clone(), logprobs.clone());
                let done = json!({ "text": text, "logprobs": logprobs });
                self.send_part("response.output_text.done", done, pieces);
                let part = json!({ "part": text_part(text, logprobs) });
                self.send_part("response.content_part.done", part, pieces);
            }
            Some(Open::Call { name, arguments, .. }) => {
                let done = json!({ "item_id": self.item_id("fc"), "output_index": self.output.len(), "name": name,
                    "arguments": arguments });
                self.send("response.function_call_arguments.done", done, pieces);
            }
        }
        self.finish_item(is_cut);
        if let Some(item) = self.output.last().cloned() {
            self.send_item("response.output_item.done", &item, self.output.len() - 1, pieces);
        }
    }

    fn write_thought(&mut self, more: String, pieces: &mut Pieces) {
        if more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Thought { .. })) {
            self.begin(Open::Thought { text: String::new() }, pieces);
        }
        if let Some(Open::Thought { text }) = &mut self.open {
            text.push_str(&more);
        }
        self.send_part("response.reasoning_text.delta", json!({ "delta": more }), pieces);
    }

    fn write_text(&mut self, text: String, tokens: &[TokenInfo], pieces: &mut Pieces) {
        let more = self.logprobs(tokens);
        if text.is_empty() && more.is_empty() {
            return;
        }
        if !matches!(self.open, Some(Open::Message { .. })) {
            self.begin(Open::Message { text: String::new(), logprobs: Vec::new() }, pieces);
        }
        if let Some(Open::Message { text: whole, logprobs }) = &mut self.open {
            whole.push_str(&text);
            logprobs.extend(more.iter().cloned());
        }
        self.send_part("response.output_text.delta", json!({ "delta": text, "logprobs": more }), pieces);
    }

    fn write_arguments(&mut self, more: String, pieces: &mut Pieces) {
        let Some(Open::Call { arguments, .. }) = &mut self.open else { return };
        if more.is_empty() {
            return;
        }
        arguments.push_str(&more);
        let delta =
            json!({ "item_id": self.item_id("fc"), "output_index": self.output.len(), "delta": more });
        self.send("response.function_call_arguments.delta", delta, pieces);
    }
}

impl AnswerWriter for Writer {
    fn progress(&mut self, _choice: usize, progress: Progress) {
        self.tokens = progress.completion_tokens;
    }

    fn write(&mut self, _choice: usize, event: TextEvent, pieces: &mut Pieces) {
        match event {
            TextEvent::Started { .. } => {
                for name in ["response.created", "response.in_progress"] {
                    let response = self.object(IN_PROGRESS);
                    self.send(name, json!({ "response": response }), pieces);
                }
            }
            TextEvent::Thought { text, .. } => {
                self.thought_tokens = self.tokens;
                self.write_thought(text, pieces);
            }
            TextEvent::Delta { text, tokens } => self.write_text(text, &tokens, pieces),
            TextEvent::ToolCall { id, name, arguments, .. } => {
                if let (Some(call_id), Some(name)) = (id, name) {
                    self.begin(Open::Call { call_id, name, arguments: String::new() }, pieces);
                }
                self.write_arguments(arguments, pieces);
            }
            TextEvent::Finished { reason, usage, .. } => {
                let is_cut = matches!(reason, FinishReason::Length | FinishReason::Repetition);
                if self.open.is_none() && self.output.is_empty() {
                    self.begin(Open::Message { text: String::new(), logprobs: Vec::new() }, pieces);
                }
                self.end_item(is_cut, pieces);
                self.remember();
                let response = self.ended(&reason, &usage);
                let name = if is_cut { "response.incomplete" } else { "response.completed" };
                self.send(name, json!({ "response": response }), pieces);
            }
            TextEvent::Failed { .. } => {}
        }
    }

    fn end(&mut self, pieces: &mut Pieces) {
        pieces.push_text("[DONE]");
    }

    fn fail(&mut self, error: &ApiError, pieces: &mut Pieces) {
        let fault = error.body().error;
        let response = ResponseObject {
            error: Some(ResponseFault {
                code: fault.code.unwrap_or_else(|| "server_error".to_owned()),
                message: fault.message,
            }),
            ..self.object("failed")
        };
        self.send("response.failed", json!({ "response": response }), pieces);
        pieces.push_text("[DONE]");
    }
}

fn text_part(text: String, logprobs: Vec<ChatTokenLogprob>) -> OutputPart {
    OutputPart::OutputText { text, annotations: Vec::new(), logprobs }
}
