//! Answers in Anthropic's words, whole or event by event.

use serde_json::{Value, json};
use zhenjin_assistant::{FinishReason, StopCause, TextEvent, Usage};

use super::wire::{
    AnthropicBlock, AnthropicDelta, AnthropicEnding, AnthropicError, AnthropicEvent, AnthropicMessage,
    AnthropicUsage,
};
use crate::answering::{AnswerWriter, Heading, Pieces, WholeAnswer};
use crate::errors::ApiError;

/// What stands for a thought's signature, which clients want to have: nobody signs thoughts here.
const UNSIGNED: &str = "unsigned";

/// The kind of the block that is being written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Open {
    Thinking,
    Text,
    /// The call of this number in the answer.
    Call(usize),
}

/// What an answer says beside its text.
pub(super) struct Writer {
    heading: Heading,
    /// Whether the context ends before as many tokens as were asked for.
    reaches_context: bool,
    open: Option<Open>,
    /// Blocks that have begun.
    blocks: usize,
}

impl Writer {
    pub(super) fn new(heading: Heading, reaches_context: bool) -> Writer {
        Writer { heading, reaches_context, open: None, blocks: 0 }
    }

    /// The whole answer.
    pub(super) fn whole(self, answer: WholeAnswer) -> AnthropicMessage {
        let mut content = Vec::new();
        if !answer.thought.is_empty() {
            let signature = UNSIGNED.to_owned();
            content.push(AnthropicBlock::Thinking { thinking: answer.thought, signature });
        }
        if !answer.text.is_empty() {
            content.push(AnthropicBlock::Text { text: answer.text });
        }
        content.extend(answer.calls.into_iter().map(|call| AnthropicBlock::ToolUse {
            input: input(&call.arguments),
            id: call.id,
            name: call.name,
        }));
        let (reason, usage) = answer.end.unwrap_or((FinishReason::Length, Usage::default()));
        let ending = self.ending(&reason);
        AnthropicMessage {
            content,
            stop_reason: ending.stop_reason,
            stop_sequence: ending.stop_sequence,
            usage: AnthropicUsage::of(&usage),
            ..self.empty()
        }
    }

    fn empty(&self) -> AnthropicMessage {
        AnthropicMessage {
            id: self.heading.id.replacen('-', "_", 1),
            r#type: "message",
            role: "assistant",
            model: self.heading.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: AnthropicUsage::default(),
        }
    }

    fn ending(&self, reason: &FinishReason) -> AnthropicEnding {
        let (stop_reason, stop_sequence) = match reason {
            FinishReason::Stop(StopCause::StopString(text)) => ("stop_sequence", Some(text.clone())),
            FinishReason::Stop(_) => ("end_turn", None),
            FinishReason::Length if self.reaches_context => ("model_context_window_exceeded", None),
            FinishReason::Length | FinishReason::Repetition => ("max_tokens", None),
            FinishReason::ToolCalls => ("tool_use", None),
        };
        AnthropicEnding { stop_reason: Some(stop_reason), stop_sequence }
    }

    /// Ends the block that is being written, if there is one.
    fn close(&mut self, pieces: &mut Pieces) {
        if let Some(open) = self.open.take() {
            if open == Open::Thinking {
                self.delta(AnthropicDelta::Signature { signature: UNSIGNED.to_owned() }, pieces);
            }
            send(pieces, AnthropicEvent::ContentBlockStop { index: self.blocks - 1 });
        }
    }

    /// Goes on with a block, or begins it with `content_block` after ending the one before.
    fn enter(&mut self, open: Open, content_block: AnthropicBlock, pieces: &mut Pieces) {
        if self.open != Some(open) {
            self.close(pieces);
            send(pieces, AnthropicEvent::ContentBlockStart { index: self.blocks, content_block });
            self.open = Some(open);
            self.blocks += 1;
        }
    }

    fn delta(&self, delta: AnthropicDelta, pieces: &mut Pieces) {
        send(pieces, AnthropicEvent::ContentBlockDelta { index: self.blocks - 1, delta });
    }
}

impl AnswerWriter for Writer {
    fn write(&mut self, _choice: usize, event: TextEvent, pieces: &mut Pieces) {
        match event {
            TextEvent::Started { prompt_tokens, cached_tokens, .. } => {
                let usage = Usage { prompt_tokens, cached_tokens, ..Usage::default() };
                let message = AnthropicMessage { usage: AnthropicUsage::of(&usage), ..self.empty() };
                send(pieces, AnthropicEvent::MessageStart { message });
                send(pieces, AnthropicEvent::Ping);
            }
            TextEvent::Thought { text, .. } | TextEvent::Delta { text, .. } if text.is_empty() => {}
            TextEvent::Thought { text, .. } => {
                let block = AnthropicBlock::Thinking { thinking: String::new(), signature: String::new() };
                self.enter(Open::Thinking, block, pieces);
                self.delta(AnthropicDelta::Thinking { thinking: text }, pieces);
            }
            TextEvent::Delta { text, .. } => {
                self.enter(Open::Text, AnthropicBlock::Text { text: String::new() }, pieces);
                self.delta(AnthropicDelta::Text { text }, pieces);
            }
            TextEvent::ToolCall { index, id, name, arguments } => {
                if let (Some(id), Some(name)) = (id, name) {
                    let block = AnthropicBlock::ToolUse { id, name, input: json!({}) };
                    self.enter(Open::Call(index), block, pieces);
                }
                if !arguments.is_empty() && self.open == Some(Open::Call(index)) {
                    self.delta(AnthropicDelta::InputJson { partial_json: arguments }, pieces);
                }
            }
            TextEvent::Finished { reason, usage, .. } => {
                self.close(pieces);
                let (delta, usage) = (self.ending(&reason), AnthropicUsage::of(&usage));
                send(pieces, AnthropicEvent::MessageDelta { delta, usage });
            }
            TextEvent::Failed { .. } => {}
        }
    }

    fn end(&mut self, pieces: &mut Pieces) {
        send(pieces, AnthropicEvent::MessageStop);
    }

    fn fail(&mut self, error: &ApiError, pieces: &mut Pieces) {
        pieces.push_event("error", &AnthropicError::of(error));
    }
}

fn send(pieces: &mut Pieces, event: AnthropicEvent) {
    pieces.push_event(event.name(), &event);
}

/// A call's arguments as an object. What a model wrote that is no JSON object stands under `arguments` as text, so that nothing
/// of it is lost.
fn input(arguments: &str) -> Value {
    match serde_json::from_str::<Value>(arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({ "arguments": arguments }),
    }
}
