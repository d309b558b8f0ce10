//! Fields that other servers have beside OpenAI's: honoured, without effect, or refused with the reason.

use super::field_tables::field;
use super::fields::Field;
use super::fields::Kind::{Anything, Boolean, Integer, Limit, Number, Structured, Text};
use super::fields::Origin::Extension;
use super::fields::Treatment::{self, Honoured, NoEffect};
use super::request::{format, limits};

const fn honoured(name: &'static str, kind: super::fields::Kind, note: &'static str) -> Field {
    field(name, kind, Honoured, Extension, note)
}

const fn no_effect(name: &'static str, kind: super::fields::Kind, note: &'static str) -> Field {
    field(name, kind, NoEffect, Extension, note)
}

/// Refused but for the values (as JSON) that ask for nothing that is not so anyway.
const fn refused(name: &'static str, except: &'static [&'static str], note: &'static str) -> Field {
    field(name, Anything, Treatment::Refused { except }, Extension, note)
}

const ZERO: &[&str] = &["0", "0.0"];
const ONE: &[&str] = &["1", "1.0"];
const FALSE: &[&str] = &["false"];
const TRUE: &[&str] = &["true"];
const NO_SUCH_SAMPLER: &str =
    "tokens are chosen by `temperature`, `top_k`, `top_p`, `min_p` and penalties only.";

/// Of both routes.
pub(super) const FOREIGN: &[Field] = &[
    honoured(
        "ignore_eos",
        Boolean,
        "true: a token with which the model ends its answer does not end it; it goes on to `max_tokens`, a text of `stop` or a token of `stop_token_ids`. Default: false.",
    ),
    honoured(
        "min_tokens",
        Integer { min: 0, max: i64::MAX },
        "A token can end the answer only after this many others; a text of `stop` can end it earlier. Not together with a field that says what the answer must look like, nor with a required call. Default: 0.",
    ),
    honoured(
        "repeat_penalty",
        Number { min: 0.01, max: 10.0 },
        "Another name of `repetition_penalty`; only one of the two.",
    ),
    honoured(
        "json_schema",
        Structured(format::schema_schema),
        "A JSON schema that the answer has, as an object or as its text. Only one field may say what the answer must look like.",
    ),
    honoured("guided_json", Structured(format::schema_schema), "Another name of `json_schema`."),
    honoured("guided_regex", Text { max: limits::CONSTRAINT_CHARACTERS }, "Another name of `regex`."),
    honoured("guided_choice", Structured(format::choice_schema), "The answer is one of these texts."),
    honoured(
        "structured_outputs",
        Structured(format::structured_outputs_schema),
        "`json`, `regex` and `choice` as `guided_json`, `guided_regex` and `guided_choice`; `json_object`: any JSON object.",
    ),
    refused("guided_grammar", &[], "grammars are written in Lark's notation here; see `grammar`."),
    refused("guided_decoding_backend", &[], "there is only one implementation here."),
    refused("guided_whitespace_pattern", &[], "white space in JSON is limited to 24 characters."),
    refused("typical_p", ONE, NO_SUCH_SAMPLER),
    refused("tfs_z", ONE, NO_SUCH_SAMPLER),
    refused("top_a", ZERO, NO_SUCH_SAMPLER),
    refused("top_n_sigma", &["-1", "-1.0"], NO_SUCH_SAMPLER),
    refused("mirostat", &["0"], NO_SUCH_SAMPLER),
    refused("dynatemp_range", ZERO, NO_SUCH_SAMPLER),
    refused("xtc_probability", ZERO, NO_SUCH_SAMPLER),
    refused("dry_multiplier", ZERO, NO_SUCH_SAMPLER),
    refused("samplers", &[], "the order of samplers is fixed."),
    refused("repeat_last_n", &["-1"], "`repetition_penalty` looks at the whole prompt and the whole answer."),
    refused("penalize_nl", TRUE, "penalties make no exception for line breaks."),
    refused("use_beam_search", FALSE, "answers are sampled token by token."),
    refused("length_penalty", ONE, "it belongs to beam search, which there is none of here."),
    refused("early_stopping", FALSE, "it belongs to beam search, which there is none of here."),
    refused("bad_words", &["[]"], "tokens are excluded by `logit_bias`."),
    refused("allowed_token_ids", &["[]"], "tokens are excluded by `logit_bias`."),
    refused("logits_processors", &["[]"], "code that a request brings is not run here."),
    refused("skip_special_tokens", TRUE, "control tokens are not shown."),
    refused("spaces_between_special_tokens", &["true", "false"], "control tokens are not shown."),
    refused("include_stop_str_in_output", FALSE, "a stop text is not part of the answer."),
    refused("truncate_prompt_tokens", &[], "prompts are never cut."),
    refused("truncation", &["\"disabled\""], "prompts are never cut."),
    refused("prompt_logprobs", &[], "`/v1/completions` reports them with `echo` and `logprobs`."),
    refused("post_sampling_probs", FALSE, "log-probabilities are the model's own, before sampling."),
    refused("return_tokens", FALSE, "`/tokenize` gives a text's token ids."),
    refused("return_token_ids", FALSE, "`/tokenize` gives a text's token ids."),
    refused("return_tokens_as_token_ids", FALSE, "tokens are reported as texts and bytes."),
    refused("timings_per_token", FALSE, "`/metrics` has the server's timings."),
    refused("return_progress", FALSE, "a prompt's progress is not reported."),
    refused("priority", ZERO, "requests are served in the order in which they arrive."),
    refused("lora", &["[]"], "an adapter is served as a model of its own: name it in `model`."),
    refused("thinking_budget", &["-1"], "the model ends its thinking itself, or `max_tokens` ends it."),
    no_effect(
        "cache_prompt",
        Boolean,
        "Computed prompts stay in memory until their room is needed; answers are the same either way.",
    ),
    no_effect("id_slot", Integer { min: -1, max: i64::MAX }, "Requests have no fixed slots."),
    no_effect("n_keep", Integer { min: -1, max: i64::MAX }, "Nothing of a prompt is ever dropped."),
];

/// Of chats.
pub(super) const FOREIGN_CHAT: &[Field] = &[
    honoured(
        "n_predict",
        Limit { min: 1, max: i64::MAX },
        "Another name of `max_tokens` and `max_completion_tokens`; only one of the three.",
    ),
    honoured(
        "n_probs",
        Integer { min: 0, max: 20 },
        "Another name of `logprobs` with `top_logprobs`: from 1, report the log-probability of every generated token and this many of the most likely tokens at each place. Not together with them. 0 and the default: report nothing.",
    ),
    refused("best_of", ONE, "all `n` answers are returned, none is chosen among them."),
    refused("echo", FALSE, "a chat's prompt is not repeated."),
    refused("add_generation_prompt", TRUE, "the prompt always ends where the model's turn begins."),
    refused(
        "continue_final_message",
        FALSE,
        "an answer is a message of its own; `/v1/completions` continues texts.",
    ),
    refused("add_special_tokens", FALSE, "the chat template writes them."),
    refused("chat_template", &[], "the model's own template is used."),
    refused("documents", &["[]"], "put documents into a message."),
    refused(
        "include_reasoning",
        TRUE,
        "thoughts stand in `reasoning_content`; `reasoning_effort` `none` turns them off.",
    ),
    refused("separate_reasoning", TRUE, "thoughts stand in `reasoning_content`."),
    refused("stream_reasoning", TRUE, "thoughts are sent as they arise."),
    refused(
        "reasoning_format",
        &["\"auto\"", "\"deepseek\"", "\"parsed\""],
        "thoughts stand in `reasoning_content`.",
    ),
    refused("parse_tool_calls", TRUE, "calls stand in `tool_calls`."),
];

/// Of completions.
pub(super) const FOREIGN_COMPLETION: &[Field] = &[
    honoured(
        "n_predict",
        Limit { min: 1, max: i64::MAX },
        "Another name of `max_tokens`; only one of the two.",
    ),
    honoured(
        "n_probs",
        Integer { min: 0, max: 20 },
        "Another name of `logprobs`, which may be up to 20 here; only one of the two. 0 and the default: report nothing.",
    ),
    refused(
        "add_special_tokens",
        TRUE,
        "a text gets the tokens that texts began with in training; token ids are used as they are.",
    ),
];
