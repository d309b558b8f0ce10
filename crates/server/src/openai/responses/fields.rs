//! Every field of `/v1/responses`: what it may hold, and whether it is honoured, without effect or refused.

use super::{items, request, tools};
use crate::openai::fields::Kind::{Anything, Boolean, Integer, Number, OneOf, Structured, Text, TextMap};
use crate::openai::fields::Origin::{Extension, OpenAi};
use crate::openai::fields::Treatment::{Honoured, NoEffect, Refused, Required};
use crate::openai::fields::{Field, Kind, Origin, Treatment};
use crate::openai::request::{messages, sampling};

const fn field(
    name: &'static str,
    kind: Kind,
    treatment: Treatment,
    origin: Origin,
    note: &'static str,
) -> Field {
    Field { name, kind, treatment, note, origin }
}

/// `POST /v1/responses`.
pub(crate) const TABLE: &[&[Field]] = &[CONVERSATION, GENERATING, BESIDE];

const CONVERSATION: &[Field] = &[
    field(
        "model",
        Text { max: 512 },
        Required,
        OpenAi,
        "The model's name, as `/v1/models` lists it. No other model is ever used instead.",
    ),
    field(
        "input",
        Structured(items::schema),
        Required,
        OpenAi,
        "A text, or a list of items: `message` (parts `input_text`, `output_text`, `refusal`), `function_call`, \
         `function_call_output`, `reasoning`, `item_reference` to an item of a recent answer. Images, audio, files and the calls of \
         tools that a server runs are refused.",
    ),
    field(
        "instructions",
        Text { max: 8 << 20 },
        Honoured,
        OpenAi,
        "A system message before the conversation.",
    ),
    field(
        "tools",
        Structured(tools::tools_schema),
        Honoured,
        OpenAi,
        "Functions that the model may call, at most 128. Tools that a server runs, and custom ones, are refused.",
    ),
    field(
        "tool_choice",
        Structured(tools::tool_choice_schema),
        Honoured,
        OpenAi,
        "`none`, `auto`, `required`, a named function, or `allowed_tools`. Default: `auto` with tools, else `none`.",
    ),
    field(
        "parallel_tool_calls",
        Boolean,
        Honoured,
        OpenAi,
        "false: at most one call in an answer, as is always so with a named function. Default: true.",
    ),
    field(
        "text",
        Structured(request::text_schema),
        Honoured,
        OpenAi,
        "`format`: `text`, `json_object`, or `json_schema`, whose schema the answer has whether or not `strict` is set. `verbosity`: only \
         `medium`.",
    ),
    field(
        "reasoning",
        Structured(request::reasoning_schema),
        Honoured,
        OpenAi,
        "`effort`: as `reasoning_effort` in `/v1/chat/completions`. `summary` and its older name `generate_summary` have no effect: \
         thoughts are returned as they are, as `reasoning_text`.",
    ),
    field(
        "include",
        Structured(request::include_schema),
        Honoured,
        OpenAi,
        "`message.output_text.logprobs`: report log-probabilities. `reasoning.encrypted_content`: return thoughts a second time, in a \
         form that is only meant to be sent back (it is not a secret). The other values that OpenAI names have no effect: they \
         belong to tools that are not here.",
    ),
];

const GENERATING: &[Field] = &[
    field(
        "max_output_tokens",
        Integer { min: 1, max: i64::MAX },
        Honoured,
        OpenAi,
        "The most tokens to generate, thoughts included. Default: as many as the context has room for.",
    ),
    field("temperature", Number { min: 0.0, max: 2.0 }, Honoured, OpenAi, "As in `/v1/chat/completions`."),
    field("top_p", Number { min: 0.0, max: 1.0 }, Honoured, OpenAi, "As in `/v1/chat/completions`."),
    field(
        "presence_penalty",
        Number { min: -2.0, max: 2.0 },
        Honoured,
        OpenAi,
        "As in `/v1/chat/completions`.",
    ),
    field(
        "frequency_penalty",
        Number { min: -2.0, max: 2.0 },
        Honoured,
        OpenAi,
        "As in `/v1/chat/completions`.",
    ),
    field("top_k", Integer { min: 0, max: 1_000_000 }, Honoured, Extension, "As in `/v1/chat/completions`."),
    field("min_p", Number { min: 0.0, max: 1.0 }, Honoured, Extension, "As in `/v1/chat/completions`."),
    field(
        "repetition_penalty",
        Number { min: 0.01, max: 10.0 },
        Honoured,
        Extension,
        "As in `/v1/chat/completions`.",
    ),
    field(
        "seed",
        Integer { min: i64::MIN, max: i64::MAX },
        Honoured,
        Extension,
        "As in `/v1/chat/completions`.",
    ),
    field("stop", Structured(sampling::stop_schema), Honoured, Extension, "As in `/v1/chat/completions`."),
    field(
        "chat_template_kwargs",
        Structured(messages::template_variables_schema),
        Honoured,
        Extension,
        "As in `/v1/chat/completions`.",
    ),
    field(
        "top_logprobs",
        Integer { min: 0, max: 20 },
        Honoured,
        OpenAi,
        "From 1: report log-probabilities, and this many of the most likely tokens at each place.",
    ),
    field("stream", Boolean, Honoured, OpenAi, "Send the answer as it arises, as server-sent events."),
    field(
        "stream_options",
        Structured(request::stream_options_schema),
        Honoured,
        OpenAi,
        "`include_obfuscation`: only false, as events are not padded. `include_usage` has no effect: the last event always has the usage. Only together with `stream`.",
    ),
];

const BESIDE: &[Field] = &[
    field(
        "store",
        Boolean,
        Refused { except: &["false"] },
        OpenAi,
        "answers are not stored; send the whole conversation with each request. Without the field nothing is stored either, but the \
         items of recent answers stay in memory for a while, so that `item_reference` finds them; with false they do not.",
    ),
    field(
        "previous_response_id",
        Anything,
        Refused { except: &[] },
        OpenAi,
        "answers are not stored; send the conversation in `input`.",
    ),
    field(
        "conversation",
        Anything,
        Refused { except: &[] },
        OpenAi,
        "conversations are not stored; send them in `input`.",
    ),
    field(
        "background",
        Boolean,
        Refused { except: &["false"] },
        OpenAi,
        "answers are not stored to be fetched later.",
    ),
    field("prompt", Anything, Refused { except: &[] }, OpenAi, "prompts are not stored; send their text."),
    field(
        "truncation",
        Text { max: 64 },
        Refused { except: &["\"disabled\""] },
        OpenAi,
        "a conversation that does not fit is an error, nothing is ever cut.",
    ),
    field(
        "context_management",
        Anything,
        Refused { except: &["[]"] },
        OpenAi,
        "conversations are not shortened.",
    ),
    field("moderation", Anything, Refused { except: &[] }, OpenAi, "this server has no moderation model."),
    field(
        "max_tool_calls",
        Integer { min: 1, max: i64::MAX },
        NoEffect,
        OpenAi,
        "It counts calls of tools that a server runs, of which there are none here.",
    ),
    field(
        "metadata",
        TextMap { pairs: 16, key: 64, value: 512 },
        NoEffect,
        OpenAi,
        "Returned with the answer; nothing is stored.",
    ),
    field(
        "service_tier",
        OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]),
        NoEffect,
        OpenAi,
        "There is one tier; the answer names it `default`.",
    ),
    field("user", Text { max: 512 }, NoEffect, OpenAi, "Users are not told apart."),
    field("safety_identifier", Text { max: 512 }, NoEffect, OpenAi, "Users are not told apart."),
    field(
        "prompt_cache_key",
        Text { max: 512 },
        NoEffect,
        OpenAi,
        "Shared beginnings of prompts are found by their content.",
    ),
    field(
        "prompt_cache_retention",
        OneOf(&["in_memory", "24h"]),
        NoEffect,
        OpenAi,
        "See `prompt_cache_key`.",
    ),
    field("prompt_cache_options", Anything, NoEffect, OpenAi, "See `prompt_cache_key`."),
    field("access_programs", Anything, NoEffect, OpenAi, "Everybody may use every model here."),
    field("image", Anything, NoEffect, OpenAi, "No images are made here."),
    field("background_options", Anything, NoEffect, OpenAi, "Nothing runs in the background."),
];
