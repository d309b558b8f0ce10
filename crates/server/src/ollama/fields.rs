//! Every field of Ollama's requests: what it may hold, and whether it is honoured, without effect or refused.

use serde_json::{Value, json};

use super::{durations, embed, messages, options};
use crate::openai::fields::Kind::{Anything, Boolean, Integer, Structured, Text};
use crate::openai::fields::Treatment::{Honoured, NoEffect, Refused, Required};
use crate::openai::fields::{Field, Kind, Origin, Treatment};
use crate::openai::request::{limits, tools};

const fn field(name: &'static str, kind: Kind, treatment: Treatment, note: &'static str) -> Field {
    Field { name, kind, treatment, note, origin: Origin::Ollama }
}

/// Characters of a prompt; the model's context and the body's limit are tighter.
const PROMPT_CHARACTERS: usize = 8 << 20;

/// `POST /api/chat`.
pub(super) const CHAT: &[&[Field]] = &[
    &[
        MODEL,
        field(
            "messages",
            Structured(messages::schema),
            Honoured,
            "The conversation. Roles `system`, `user`, `assistant`, `tool`; images are refused. Without messages the model is only loaded, \
             or unloaded if `keep_alive` is 0.",
        ),
        field(
            "tools",
            Structured(tools::tools_schema),
            Honoured,
            "Functions that the model may call, at most 128.",
        ),
    ],
    COMMON,
];

/// `POST /api/generate`.
pub(super) const GENERATE: &[&[Field]] = &[
    &[
        MODEL,
        field(
            "prompt",
            Text { max: PROMPT_CHARACTERS },
            Honoured,
            "The question, put into the model's chat template as the user's message. If it is empty or left out, the model is only loaded, \
             or unloaded if `keep_alive` is 0.",
        ),
        field(
            "system",
            Text { max: PROMPT_CHARACTERS },
            Honoured,
            "The system message before the question. Not together with `raw`.",
        ),
        field(
            "raw",
            Boolean,
            Honoured,
            "true: the prompt is not put into the template, but continued as it stands, and names of control tokens in it are control \
             tokens. Default: false.",
        ),
        field(
            "template",
            Text { max: PROMPT_CHARACTERS },
            Refused { except: &["\"\""] },
            "a model's template is part of its file; write the whole prompt yourself with `raw`.",
        ),
        field(
            "suffix",
            Text { max: PROMPT_CHARACTERS },
            Refused { except: &["\"\""] },
            "models here continue text, they do not fill gaps.",
        ),
        field(
            "context",
            Anything,
            Refused { except: &["[]"] },
            "the tokens of an earlier answer are not returned; send the conversation to /api/chat.",
        ),
        field("images", Anything, Refused { except: &["[]"] }, "models here read text only."),
        field("width", Anything, Refused { except: &["0"] }, "models here do not make images."),
        field("height", Anything, Refused { except: &["0"] }, "models here do not make images."),
        field("steps", Anything, Refused { except: &["0"] }, "models here do not make images."),
    ],
    COMMON,
];

/// `POST /api/embed`.
pub(super) const EMBED: &[&[Field]] = &[
    &[
        ENCODER,
        field(
            "input",
            Structured(embed::input_schema),
            Honoured,
            "A text, or a list of at most 2,048 texts. A text that is longer than the model reads is refused, never cut. Empty or left out: no vectors.",
        ),
        field(
            "truncate",
            Boolean,
            Refused { except: &["false"] },
            "a text that is longer than the model reads is an error, nothing is ever cut.",
        ),
        field(
            "dimensions",
            Integer { min: 1, max: 65_536 },
            Honoured,
            "Keeps only the first so many values of each vector, which then gets unit length again. Default: what the model's makers say, else all.",
        ),
    ],
    ENCODERS,
];

/// `POST /api/embeddings`.
pub(super) const EMBEDDINGS: &[&[Field]] = &[
    &[
        ENCODER,
        field(
            "prompt",
            Text { max: PROMPT_CHARACTERS },
            Honoured,
            "The text. If it is longer than the model reads, it is refused, never cut. Empty or left out: an empty vector.",
        ),
    ],
    ENCODERS,
];

const ENCODER: Field = field(
    "model",
    Text { max: 512 },
    Required,
    "An embedding model's name, as `/v1/models` lists it, with or without the tag `latest`; without a tag, the only embedding model that has it with one. \
     Models that write text make no embeddings.",
);

const ENCODERS: &[Field] = &[
    field("options", Anything, Refused { except: &["{}"] }, "embedding models have no settings."),
    field(
        "keep_alive",
        Structured(durations::schema),
        NoEffect,
        "An embedding model stays in memory until its room is needed.",
    ),
];

/// `POST /api/show`.
pub(super) const SHOW: &[&[Field]] = &[&[
    NAMED,
    OLDER_NAME,
    field("verbose", Boolean, NoEffect, "The vocabulary is never listed."),
    field(
        "system",
        Text { max: PROMPT_CHARACTERS },
        Refused { except: &["\"\""] },
        "what is shown is the model as it is.",
    ),
    field(
        "template",
        Text { max: PROMPT_CHARACTERS },
        Refused { except: &["\"\""] },
        "what is shown is the model as it is.",
    ),
    field("options", Anything, Refused { except: &["{}"] }, "what is shown is the model as it is."),
]];

/// `POST /api/pull`.
pub(super) const PULL: &[&[Field]] = &[&[
    NAMED,
    OLDER_NAME,
    STREAM,
    field("insecure", Boolean, Refused { except: &["false"] }, "models come over verified connections only."),
    field("username", Text { max: 512 }, Refused { except: &["\"\""] }, "no account is used to download."),
    field("password", Text { max: 512 }, Refused { except: &["\"\""] }, "no account is used to download."),
]];

/// `DELETE /api/delete`.
pub(super) const DELETE: &[&[Field]] = &[&[NAMED, OLDER_NAME]];

const MODEL: Field = field(
    "model",
    Text { max: 512 },
    Required,
    "The model's name, as `/api/tags` lists it, with or without the tag `latest`; without a tag, the only model that has it with \
     one. No other model is ever used instead.",
);

const NAMED: Field = field("model", Text { max: 512 }, Honoured, "The model's name.");

const OLDER_NAME: Field =
    field("name", Text { max: 512 }, Honoured, "The older name of `model`; only one of the two.");

const STREAM: Field = field(
    "stream",
    Boolean,
    Honoured,
    "Send JSON objects as they arise, one a line; false: one object at the end. Default: true.",
);

const COMMON: &[Field] = &[
    STREAM,
    field(
        "options",
        Structured(options::schema),
        Honoured,
        "How tokens are chosen and when the answer ends; see below.",
    ),
    field(
        "format",
        Structured(format_schema),
        Honoured,
        "`json`, or a JSON schema that the answer has. Empty or left out: text.",
    ),
    field(
        "think",
        Structured(think_schema),
        Honoured,
        "Whether the model thinks before it answers, and how much. Thinking is refused for a model that does not think, false for one that \
         always thinks; true is a wish, which some templates leave aside beside a system message or tools. Thoughts stand in `thinking`. Default: the chat template's own.",
    ),
    field(
        "keep_alive",
        Structured(durations::schema),
        Honoured,
        "How long the model stays in memory after the answer; 0 unloads it at once. If it is used before that, it stays, and the \
         `keep_alive` of that request counts. Negative, or left out: it stays until its room is needed. With a user's key, 0 in a \
         request without a question is refused, and every other value has no effect.",
    ),
    field("logprobs", Boolean, Honoured, "Report the log-probability of every generated token."),
    field(
        "top_logprobs",
        Integer { min: 0, max: 20 },
        Honoured,
        "Report this many of the most likely tokens at each place. Only together with `logprobs`.",
    ),
    field(
        "truncate",
        Boolean,
        Refused { except: &["false"] },
        "a prompt that does not fit is an error, nothing is ever cut.",
    ),
    field(
        "shift",
        Boolean,
        Refused { except: &["false"] },
        "an answer ends where the context does, nothing is ever cut.",
    ),
];

fn format_schema() -> Value {
    json!({ "anyOf": [{ "enum": ["", "json"] }, { "type": "object", "description": "A JSON schema." }] })
}

fn think_schema() -> Value {
    json!({ "anyOf": [{ "type": "boolean" }, { "enum": ["low", "medium", "high"] }] })
}

/// Limits that the documents name.
const _: () = assert!(limits::TOOLS == 128 && limits::EMBEDDINGS == 2048);
