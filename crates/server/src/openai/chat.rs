//! `POST /v1/chat/completions`.

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use zhenjin_assistant::{OutputFormat, TextEvent};

use super::faults::refusal;
use super::logprobs::ChatLogprobs;
use super::request::chat::{ChatFields, read};
use super::response::{
    AnswerFunction, AnswerMessage, AnswerToolCall, ChatChoice, ChatCompletion, ChatCompletionChunk,
    ChunkChoice, ChunkDelta, FunctionDelta, RunningUsage, ToolCallDelta, UsageReport, finish_reason,
    stop_reason,
};
use super::stream::{self, PieceWriter};
use crate::answering::{Answering, Heading, Progress, WholeAnswer};
use crate::body::json_read;
use crate::errors::{ApiError, ErrorBody};

/// Answers a conversation.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "createChatCompletion", tag = "openai",
    request_body(content = ref("#/components/schemas/ChatCompletionRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The answer; with `stream`, events of `ChatCompletionChunk`, then `[DONE]`.",
            content((ChatCompletion = "application/json"), (ChatCompletionChunk = "text/event-stream"))),
        (status = 400, description = "The request is wrong; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn create(answering: Answering, request: Request) -> Result<Response, ApiError> {
    let fields = json_read(request, read).await?;
    let ready = answering.open(&fields.model).await?;
    let writer = ChatWriter::new(Heading::new("chatcmpl", ready.assistant()), &fields);
    let ChatFields { request, choices, delivery, thinking, format, .. } = fields;
    let refused = |error, format: &OutputFormat| refusal(error, "messages", format);
    let generations =
        ready.chat(request, choices, refused).await.map_err(|error| format.rename(thinking.rename(error)))?;
    if delivery.stream {
        return Ok(stream::send(generations, writer));
    }
    let answers = generations.gather(choices).await?;
    Ok(Json(writer.whole(answers)).into_response())
}

struct ChatWriter {
    heading: Heading,
    service_tier: Option<&'static str>,
    reports_logprobs: bool,
    include_usage: bool,
    continuous_usage: bool,
    running: RunningUsage,
    usage: UsageReport,
}

impl ChatWriter {
    fn new(heading: Heading, fields: &ChatFields) -> Self {
        ChatWriter {
            heading,
            service_tier: fields.names_service_tier.then_some("default"),
            reports_logprobs: fields.request.options.logprobs.is_some(),
            include_usage: fields.delivery.include_usage,
            continuous_usage: fields.delivery.continuous_usage,
            running: RunningUsage::new(fields.choices, fields.choices),
            usage: UsageReport::default(),
        }
    }

    fn whole(mut self, answers: Vec<WholeAnswer>) -> ChatCompletion {
        let choices =
            answers.into_iter().enumerate().map(|(index, answer)| self.choice(index, answer)).collect();
        ChatCompletion {
            id: self.heading.id,
            object: "chat.completion",
            created: self.heading.created,
            model: self.heading.model,
            choices,
            usage: self.usage,
            system_fingerprint: self.heading.fingerprint,
            service_tier: self.service_tier,
        }
    }

    fn choice(&mut self, index: usize, answer: WholeAnswer) -> ChatChoice {
        let (reason, detail) = answer.end.map_or(("length", None), |(reason, usage)| {
            self.usage.add(&usage, index == 0);
            (finish_reason(&reason), stop_reason(&reason))
        });
        let calls = answer.calls.into_iter().map(|call| AnswerToolCall {
            id: call.id,
            r#type: "function",
            function: AnswerFunction { name: call.name, arguments: call.arguments },
        });
        let tool_calls: Vec<AnswerToolCall> = calls.collect();
        let has_content = tool_calls.is_empty() || !answer.text.is_empty();
        let thought = (!answer.thought.is_empty()).then_some(answer.thought);
        ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: has_content.then_some(answer.text),
                reasoning_content: thought.clone(),
                reasoning: thought,
                refusal: None,
                tool_calls,
            },
            logprobs: self.reports_logprobs.then(|| ChatLogprobs::of(&answer.thought_tokens, &answer.tokens)),
            finish_reason: reason,
            stop_reason: detail,
        }
    }

    fn chunk(&self, choices: Vec<ChunkChoice>, usage: Option<UsageReport>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.heading.id.clone(),
            object: "chat.completion.chunk",
            created: self.heading.created,
            model: self.heading.model.clone(),
            choices,
            system_fingerprint: self.heading.fingerprint.clone(),
            service_tier: self.service_tier,
            usage: self.include_usage.then_some(usage),
        }
    }
}

impl PieceWriter for ChatWriter {
    type Piece = ChatCompletionChunk;

    fn write(&mut self, choice: usize, event: TextEvent) -> Vec<ChatCompletionChunk> {
        let (mut logprobs, mut reason, mut detail) = (None, None, None);
        let delta = match event {
            TextEvent::Started { .. } => {
                ChunkDelta { role: Some("assistant"), content: Some(String::new()), ..ChunkDelta::default() }
            }
            TextEvent::Thought { text, tokens } | TextEvent::Delta { text, tokens }
                if text.is_empty() && tokens.is_empty() =>
            {
                return Vec::new();
            }
            TextEvent::Thought { text, tokens } => {
                logprobs = self.reports_logprobs.then(|| ChatLogprobs::of(&tokens, &[]));
                let thought = (!text.is_empty()).then_some(text);
                ChunkDelta { reasoning_content: thought.clone(), reasoning: thought, ..ChunkDelta::default() }
            }
            TextEvent::Delta { text, tokens } => {
                logprobs = self.reports_logprobs.then(|| ChatLogprobs::of(&[], &tokens));
                ChunkDelta { content: Some(text), ..ChunkDelta::default() }
            }
            TextEvent::ToolCall { index, id, name, arguments } => {
                let r#type = id.is_some().then_some("function");
                let call = ToolCallDelta { index, id, r#type, function: FunctionDelta { name, arguments } };
                ChunkDelta { tool_calls: vec![call], ..ChunkDelta::default() }
            }
            TextEvent::Finished { reason: why, usage, .. } => {
                self.usage.add(&usage, choice == 0);
                reason = Some(finish_reason(&why));
                detail = stop_reason(&why);
                ChunkDelta::default()
            }
            TextEvent::Failed { .. } => return Vec::new(),
        };
        let usage = self.continuous_usage.then(|| self.running.report());
        let choice =
            ChunkChoice { index: choice, delta, logprobs, finish_reason: reason, stop_reason: detail };
        vec![self.chunk(vec![choice], usage)]
    }

    fn progress(&mut self, choice: usize, progress: Progress) {
        self.running.update(choice, progress);
    }

    fn usage(&mut self) -> Option<ChatCompletionChunk> {
        self.include_usage.then(|| self.chunk(Vec::new(), Some(self.usage.clone())))
    }
}
