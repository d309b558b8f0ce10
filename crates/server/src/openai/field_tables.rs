//! Every field of `/v1/chat/completions` and `/v1/completions`: what it may hold, and whether it is honoured, without
//! effect or refused.

use super::fields::Kind::{Anything, Boolean, Integer, Limit, Number, OneOf, Structured, Text, TextMap};
use super::fields::Origin::{Extension, OpenAi};
use super::fields::Treatment::{Honoured, NoEffect, Refused, Required};
use super::fields::{Field, Kind, Origin, Treatment};
use super::foreign_fields::{FOREIGN, FOREIGN_CHAT, FOREIGN_COMPLETION};
use super::request::{format, limits, messages, prompt, sampling, thinking, tools};

pub(super) const fn field(
    name: &'static str,
    kind: Kind,
    treatment: Treatment,
    origin: Origin,
    note: &'static str,
) -> Field {
    Field { name, kind, treatment, note, origin }
}

/// The tables of `/v1/chat/completions`.
pub(crate) const CHAT: &[&[Field]] = &[COMMON, CHAT_ONLY, FOREIGN, FOREIGN_CHAT];

/// The tables of `/v1/completions`.
pub(crate) const COMPLETION: &[&[Field]] = &[COMMON, COMPLETION_ONLY, FOREIGN, FOREIGN_COMPLETION];

const COMMON: &[Field] = &[
    field(
        "model",
        Text { max: 512 },
        Required,
        OpenAi,
        "The model's name, as `/v1/models` lists it. No other model is ever used instead.",
    ),
    field(
        "temperature",
        Number { min: 0.0, max: 2.0 },
        Honoured,
        OpenAi,
        "Divides the logits; 0 always takes the most likely token. Default: the model's own, or 1.",
    ),
    field(
        "top_p",
        Number { min: 0.0, max: 1.0 },
        Honoured,
        OpenAi,
        "Keeps the smallest set of most likely tokens whose probabilities reach this sum. Default: the model's own, or 1.",
    ),
    field(
        "top_k",
        Limit { min: 0, max: 1_000_000 },
        Honoured,
        Extension,
        "Keeps only this many of the most likely tokens; 0 and -1 keep all. Default: the model's own, or 0.",
    ),
    field(
        "min_p",
        Number { min: 0.0, max: 1.0 },
        Honoured,
        Extension,
        "Drops tokens whose probability is less than this fraction of the most likely one's. Default: the model's own, or 0.",
    ),
    field(
        "repetition_penalty",
        Number { min: 0.01, max: 10.0 },
        Honoured,
        Extension,
        "Divides positive logits, and multiplies negative ones, of tokens that stand in the prompt or the answer already. Default: the model's own, or 1.",
    ),
    field(
        "presence_penalty",
        Number { min: -2.0, max: 2.0 },
        Honoured,
        OpenAi,
        "Subtracted once from the logit of every token that stands in the answer already. Default: 0.",
    ),
    field(
        "frequency_penalty",
        Number { min: -2.0, max: 2.0 },
        Honoured,
        OpenAi,
        "Subtracted from a token's logit once for each time that it stands in the answer already. Default: 0.",
    ),
    field(
        "logit_bias",
        Structured(sampling::logit_bias_schema),
        Honoured,
        OpenAi,
        "What is added to the logits of tokens: an object from token ids to numbers from -100 to 100, with at most 1,024 ids.",
    ),
    field(
        "seed",
        Integer { min: i64::MIN, max: i64::MAX },
        Honoured,
        OpenAi,
        "The seed of the random numbers: the same request with the same seed gets the same answer, whatever else runs at the time. Default: a new one for each request.",
    ),
    field(
        "n",
        Integer { min: 1, max: limits::CHOICES },
        Honoured,
        OpenAi,
        "How many answers to give. With `seed`, the first answer uses it and each further one uses a seed made from it. Default: 1.",
    ),
    field(
        "stop",
        Structured(sampling::stop_schema),
        Honoured,
        OpenAi,
        "Texts that end the answer and are not part of it: one string or up to 16, none of them empty, each of at most 1,024 bytes.",
    ),
    field(
        "stop_token_ids",
        Structured(sampling::stop_token_ids_schema),
        Honoured,
        Extension,
        "Token ids that end the answer, at most 64.",
    ),
    field("stream", Boolean, Honoured, OpenAi, "Send the answer as it arises, as server-sent events."),
    field(
        "stream_options",
        Structured(sampling::stream_options_schema),
        Honoured,
        OpenAi,
        "`include_usage`: one more event at the end, with the usage; if `continuous_usage_stats` is true too, every event has the usage so far. `include_obfuscation`: only false, as events are not padded. Only together with `stream`.",
    ),
    field(
        "regex",
        Text { max: limits::CONSTRAINT_CHARACTERS },
        Honoured,
        Extension,
        "A regular expression that the whole answer matches. Only one field may say what the answer must look like.",
    ),
    field(
        "grammar",
        Text { max: limits::CONSTRAINT_CHARACTERS },
        Honoured,
        Extension,
        "A grammar in Lark's notation that the whole answer matches. Only one field may say what the answer must look like.",
    ),
    field(
        "repetition_detection",
        Structured(sampling::repetition_detection_schema),
        Honoured,
        Extension,
        "Whether an answer that repeats the same tokens again and again is ended; its `finish_reason` is then `length` and its \
         `stop_reason` `repetition_detected`. true: it is ended when it ends with a pattern of at most 512 tokens that stands there \
         at least 4 times in a row, and these repetitions have 1,024 tokens or more, or 512 or more if the pattern has at least 16 \
         different tokens. An object: it is ended when it ends with a pattern of `min_pattern_size` to `max_pattern_size` tokens \
         that stands there `min_count` times in a row. false, or a `max_pattern_size` of 0: it is never ended for this. Default: \
         the server's setting, which is true unless it was turned off.",
    ),
    field("user", Text { max: 512 }, NoEffect, OpenAi, "Users are not told apart."),
];

const CHAT_ONLY: &[Field] = &[
    field(
        "messages",
        Structured(messages::schema),
        Required,
        OpenAi,
        "The conversation. Roles `system`, `developer`, `user`, `assistant`, `tool`; contents are texts, or lists of text parts. Images, audio and files are refused. An earlier answer may be sent back as it was received: with `reasoning_content` or `reasoning`, which the chat template gets if it reads them, and with fields that have no effect, such as `annotations`, `parsed`, `cache_control` and `index`.",
    ),
    field(
        "max_tokens",
        Limit { min: 1, max: i64::MAX },
        Honoured,
        OpenAi,
        "The most tokens to generate. -1, and the default: as many as the context has room for.",
    ),
    field(
        "max_completion_tokens",
        Limit { min: 1, max: i64::MAX },
        Honoured,
        OpenAi,
        "The newer name of `max_tokens`; only one of the two.",
    ),
    field("logprobs", Boolean, Honoured, OpenAi, "Report the log-probability of every generated token."),
    field(
        "top_logprobs",
        Integer { min: 0, max: 20 },
        Honoured,
        OpenAi,
        "Report this many of the most likely tokens at each place. Only together with `logprobs`.",
    ),
    field(
        "response_format",
        Structured(format::schema),
        Honoured,
        OpenAi,
        "`text`, `json_object` (with a `schema` beside it, if you like), or `json_schema`, whose schema the answer has whether or \
         not `strict` is set. Only one field may say what the answer must look like. Objects with `properties` or \
         `patternProperties` and without `additionalProperties` have no other properties. With tools, the answer is either calls \
         or text in this format; where a call is required, the format has no effect.",
    ),
    field(
        "tools",
        Structured(tools::tools_schema),
        Honoured,
        OpenAi,
        "Functions that the model may call, at most 128. Custom tools are refused.",
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
        "chat_template_kwargs",
        Structured(messages::template_variables_schema),
        Honoured,
        Extension,
        "Variables for the model's chat template. One that the template does not read is refused; `enable_thinking`, `thinking` and `reasoning_effort` are read as the fields of these names.",
    ),
    field(
        "reasoning_effort",
        OneOf(thinking::EFFORTS),
        Honoured,
        OpenAi,
        "How much a thinking model thinks before it answers; `none` turns thinking off. Where its chat template can only turn thinking on and off, every other value turns it on. Thinking is refused for a model that does not think, `none` for one that always thinks. Default: the template's own.",
    ),
    field(
        "enable_thinking",
        Boolean,
        Honoured,
        Extension,
        "Whether a thinking model thinks before it answers. true is refused for a model that does not think, false for one that always thinks.",
    ),
    field(
        "reasoning",
        Structured(thinking::reasoning_schema),
        Honoured,
        Extension,
        "`effort` as `reasoning_effort`, `enabled` as `enable_thinking`.",
    ),
    field(
        "thinking",
        Structured(thinking::thinking_schema),
        Honoured,
        Extension,
        "`type`: `enabled` and `disabled` as `enable_thinking`, `auto` or `adaptive` for the template's own.",
    ),
    field(
        "metadata",
        TextMap { pairs: 16, key: 64, value: 512 },
        NoEffect,
        OpenAi,
        "Nothing is stored with a request.",
    ),
    field("store", Boolean, Refused { except: &["false"] }, OpenAi, "requests to /v1 are never stored."),
    field(
        "service_tier",
        OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]),
        NoEffect,
        OpenAi,
        "There is one tier; the answer names it `default`.",
    ),
    field("safety_identifier", Text { max: 512 }, NoEffect, OpenAi, "Users are not told apart."),
    field(
        "prompt_cache_key",
        Text { max: 512 },
        NoEffect,
        OpenAi,
        "Shared beginnings of prompts are found by their content, so no key is needed.",
    ),
    field(
        "prompt_cache_retention",
        OneOf(&["in_memory", "24h"]),
        NoEffect,
        OpenAi,
        "Computed prompts stay in memory until their room is needed.",
    ),
    field(
        "prompt_cache_options",
        Anything,
        NoEffect,
        OpenAi,
        "Computed prompts stay in memory until their room is needed.",
    ),
    field(
        "prediction",
        Anything,
        NoEffect,
        OpenAi,
        "A hint that makes answers faster elsewhere; answers are the same without it.",
    ),
    field(
        "modalities",
        Anything,
        Refused { except: &["[\"text\"]"] },
        OpenAi,
        "models here answer in text only.",
    ),
    field("audio", Anything, Refused { except: &[] }, OpenAi, "models here answer in text only."),
    field(
        "verbosity",
        Anything,
        Refused { except: &["\"medium\""] },
        OpenAi,
        "models here have no such setting; ask for it in a message.",
    ),
    field(
        "web_search_options",
        Anything,
        Refused { except: &[] },
        OpenAi,
        "this server does not search the web.",
    ),
    field("moderation", Anything, Refused { except: &[] }, OpenAi, "this server has no moderation model."),
    field("functions", Anything, Refused { except: &[] }, OpenAi, "it was replaced by `tools`."),
    field("function_call", Anything, Refused { except: &[] }, OpenAi, "it was replaced by `tool_choice`."),
];

const COMPLETION_ONLY: &[Field] = &[
    field(
        "prompt",
        Structured(prompt::schema),
        Required,
        OpenAi,
        "One text, a list of texts, a list of token ids, or a list of such lists; at most 32 prompts, and at most 64 answers to all of them together. The name of a special token in a text is plain text.",
    ),
    field(
        "max_tokens",
        Limit { min: 0, max: i64::MAX },
        Honoured,
        OpenAi,
        "The most tokens to generate. 0: only with `echo`. -1: as many as the context has room for. Default: 16.",
    ),
    field(
        "best_of",
        Integer { min: 1, max: limits::CHOICES },
        Honoured,
        OpenAi,
        "Generate this many answers to each prompt and return the `n` with the highest mean log-probability of a token. The number of prompts times `best_of` is at most 64. With `stream` it cannot be more than `n`. Default: `n`.",
    ),
    field(
        "echo",
        Boolean,
        Honoured,
        OpenAi,
        "Return the prompt before the answer, with its log-probabilities if `logprobs` is given.",
    ),
    field(
        "logprobs",
        Integer { min: 0, max: 5 },
        Honoured,
        OpenAi,
        "Report the log-probability of every token, and of this many of the most likely tokens at its place.",
    ),
    field(
        "suffix",
        Anything,
        Refused { except: &["\"\""] },
        OpenAi,
        "models here continue text, they do not fill gaps.",
    ),
];
