//! Every field of `/v1/messages`: what it may hold, and whether it is honoured, without effect or refused.

use super::{blocks, request, tools};
use crate::openai::fields::Kind::{Anything, Boolean, Integer, Number, OneOf, Structured, Text};
use crate::openai::fields::Treatment::{Honoured, NoEffect, Refused, Required};
use crate::openai::fields::{Field, Kind, Origin, Treatment};

const fn field(name: &'static str, kind: Kind, treatment: Treatment, note: &'static str) -> Field {
    Field { name, kind, treatment, note, origin: Origin::Anthropic }
}

/// `POST /v1/messages`.
pub(super) const MESSAGES: &[&[Field]] = &[CONVERSATION, GENERATING];

/// `POST /v1/messages/count_tokens`.
pub(super) const COUNT: &[&[Field]] = &[CONVERSATION];

const CONVERSATION: &[Field] = &[
    field(
        "model",
        Text { max: 512 },
        Required,
        "The model's name, as `/v1/models` lists it. No other model is ever used instead.",
    ),
    field(
        "messages",
        Structured(blocks::messages_schema),
        Required,
        "The conversation, which ends with the user's message. Contents are texts or lists of blocks `text`, `thinking`, \
         `redacted_thinking`, `tool_use`, `tool_result`; images, documents and blocks of tools that a server runs are refused. Text \
         blocks of one message, and neighbouring messages of one role, are joined with an empty line between them. The result of a \
         call with `is_error` is read with `Error: ` before it.",
    ),
    field(
        "system",
        Structured(blocks::system_schema),
        Honoured,
        "The system message: a text, or a list of text blocks.",
    ),
    field(
        "tools",
        Structured(tools::tools_schema),
        Honoured,
        "Functions that the model may call, at most 128. Tools that a server runs are refused.",
    ),
    field(
        "tool_choice",
        Structured(tools::tool_choice_schema),
        Honoured,
        "`auto`, `any`, `tool` or `none`; `disable_parallel_tool_use`: at most one call in an answer. Default: `auto` with tools, else `none`.",
    ),
    field(
        "thinking",
        Structured(request::thinking_schema),
        Honoured,
        "Whether the model thinks before it answers. `enabled` is refused for a model that does not think, `disabled` for one that always \
         thinks. `adaptive`: as its chat template does by itself. `budget_tokens` has no effect. Thoughts are blocks of type `thinking`.",
    ),
    field(
        "output_config",
        Structured(request::output_config_schema),
        Honoured,
        "`format`: a JSON schema that the answer has. `effort`: how much the model thinks, as `reasoning_effort` in \
         `/v1/chat/completions`; it has no effect if `thinking` is `disabled`.",
    ),
    field(
        "cache_control",
        Anything,
        NoEffect,
        "Taken here and in blocks: shared beginnings of prompts are found by their content.",
    ),
    field(
        "context_management",
        Anything,
        NoEffect,
        "The conversation is read as it is sent, nothing of it is cleared.",
    ),
    field("mcp_servers", Anything, Refused { except: &["[]"] }, "this server calls no other servers."),
];

const GENERATING: &[Field] = &[
    field(
        "max_tokens",
        Integer { min: 1, max: i64::MAX },
        Required,
        "The most tokens to generate. Where the context ends before that, so does the answer, with the `stop_reason` \
         `model_context_window_exceeded`.",
    ),
    field("temperature", Number { min: 0.0, max: 2.0 }, Honoured, "As in `/v1/chat/completions`."),
    field("top_p", Number { min: 0.0, max: 1.0 }, Honoured, "As in `/v1/chat/completions`."),
    field("top_k", Integer { min: 0, max: 1_000_000 }, Honoured, "As in `/v1/chat/completions`."),
    field(
        "stop_sequences",
        Structured(request::stop_schema),
        Honoured,
        "Texts that end the answer and are not part of it; at most 16.",
    ),
    field("stream", Boolean, Honoured, "Send the answer as it arises, as server-sent events."),
    field("metadata", Anything, NoEffect, "Users are not told apart."),
    field("service_tier", OneOf(&["auto", "standard_only"]), NoEffect, "There is one tier."),
    field(
        "speed",
        OneOf(&["standard", "fast"]),
        NoEffect,
        "There is one speed: every answer is computed as fast as the machine can.",
    ),
    field("inference_geo", Text { max: 64 }, NoEffect, "Answers are computed on the server's own machine."),
    field("diagnostics", Anything, NoEffect, "No diagnostics are reported."),
    field("user_profile_id", Text { max: 512 }, NoEffect, "Users are not told apart."),
    field("container", Anything, Refused { except: &[] }, "this server runs no code."),
];
