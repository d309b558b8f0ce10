//! `options`: how tokens are chosen and when an answer ends.

use serde_json::Value;
use zhenjin_assistant::{GenerationOptions, SamplingSettings};

use crate::errors::ApiError;
use crate::openai::fields::Kind::{Anything, Boolean, Integer, Number, Structured};
use crate::openai::fields::Treatment::{Honoured, NoEffect, Refused};
use crate::openai::fields::{Field, Kind, Origin, Treatment, body_schema, check_within};
use crate::openai::request::node::Node;
use crate::openai::request::sampling;

const fn option(name: &'static str, kind: Kind, treatment: Treatment, note: &'static str) -> Field {
    Field { name, kind, treatment, note, origin: Origin::Ollama }
}

const WHOLE: Kind = Integer { min: i64::MIN, max: i64::MAX };

const ITS_OWN_MEMORY: &str =
    "How models are stored and computed is the server's choice; answers are the same.";

/// Every option.
pub(super) const TABLE: &[&[Field]] = &[SAMPLING, RUNNING];

const SAMPLING: &[Field] = &[
    option(
        "seed",
        WHOLE,
        Honoured,
        "The seed of the random numbers, as in /v1. -1, and the default: a new one for each request.",
    ),
    option(
        "num_predict",
        Integer { min: -2, max: i64::MAX },
        Honoured,
        "The most tokens to generate. -1, -2, 0, and the default: as many as the context has room for.",
    ),
    option(
        "temperature",
        Number { min: 0.0, max: 2.0 },
        Honoured,
        "As in /v1. Default: the model's own, or 1.",
    ),
    option("top_p", Number { min: 0.0, max: 1.0 }, Honoured, "As in /v1. Default: the model's own, or 1."),
    option(
        "top_k",
        Integer { min: -1, max: 1_000_000 },
        Honoured,
        "As in /v1; 0 and -1 keep all. Default: the model's own, or 0.",
    ),
    option("min_p", Number { min: 0.0, max: 1.0 }, Honoured, "As in /v1. Default: the model's own, or 0."),
    option(
        "repeat_penalty",
        Number { min: 0.01, max: 10.0 },
        Honoured,
        "What /v1 calls `repetition_penalty`. Default: the model's own, or 1.",
    ),
    option("presence_penalty", Number { min: -2.0, max: 2.0 }, Honoured, "As in /v1. Default: 0."),
    option("frequency_penalty", Number { min: -2.0, max: 2.0 }, Honoured, "As in /v1. Default: 0."),
    option(
        "stop",
        Structured(sampling::stop_schema),
        Honoured,
        "Texts that end the answer and are not part of it: one text, or a list of at most 16.",
    ),
    option(
        "repeat_last_n",
        WHOLE,
        Refused { except: &["-1"] },
        "`repeat_penalty` looks at the whole prompt and the whole answer, as with -1.",
    ),
    option("typical_p", Anything, Refused { except: &["1", "1.0"] }, "use `top_p` or `min_p`."),
    option("tfs_z", Anything, Refused { except: &["1", "1.0"] }, "use `top_p` or `min_p`."),
    option("mirostat", Anything, Refused { except: &["0"] }, "use `top_p` or `min_p`."),
    option("mirostat_tau", Number { min: 0.0, max: 1000.0 }, NoEffect, "Belongs to `mirostat`."),
    option("mirostat_eta", Number { min: 0.0, max: 1000.0 }, NoEffect, "Belongs to `mirostat`."),
    option(
        "penalize_newline",
        Boolean,
        Refused { except: &["true"] },
        "penalties make no exception for line breaks; see `logit_bias` in /v1.",
    ),
];

const RUNNING: &[Field] = &[
    option(
        "num_ctx",
        Integer { min: 1, max: i64::MAX },
        NoEffect,
        "How long a conversation may be is the server's choice (`context_length` in `/api/ps`); it is never cut.",
    ),
    option("num_keep", WHOLE, NoEffect, "Nothing is ever cut, so the whole prompt is kept."),
    option("num_batch", WHOLE, NoEffect, ITS_OWN_MEMORY),
    option("num_gpu", WHOLE, NoEffect, ITS_OWN_MEMORY),
    option("main_gpu", WHOLE, NoEffect, ITS_OWN_MEMORY),
    option("num_thread", WHOLE, NoEffect, ITS_OWN_MEMORY),
    option("numa", Boolean, NoEffect, ITS_OWN_MEMORY),
    option("low_vram", Boolean, NoEffect, ITS_OWN_MEMORY),
    option("f16_kv", Boolean, NoEffect, ITS_OWN_MEMORY),
    option("use_mmap", Boolean, NoEffect, ITS_OWN_MEMORY),
    option("use_mlock", Boolean, NoEffect, ITS_OWN_MEMORY),
    option("draft_num_predict", WHOLE, NoEffect, ITS_OWN_MEMORY),
    option("logits_all", Boolean, Refused { except: &["false"] }, "ask for `logprobs`."),
    option("vocab_only", Boolean, Refused { except: &["false"] }, "models are always loaded whole."),
    option("embedding_only", Boolean, Refused { except: &["false"] }, "models here write text."),
];

/// Takes `options` apart; `logprobs` stands beside them.
pub(super) fn read(node: Option<&Node<'_>>, logprobs: Option<usize>) -> Result<GenerationOptions, ApiError> {
    let Some(node) = node else { return Ok(GenerationOptions { logprobs, ..GenerationOptions::default() }) };
    let fields = check_within("options.", TABLE, node.value)?;
    let number = |name| fields.number(name).map(|value| value as f32);
    let settings = SamplingSettings {
        temperature: number("temperature"),
        top_p: number("top_p"),
        top_k: fields.integer("top_k").map(|count| usize::try_from(count).unwrap_or(0)),
        min_p: number("min_p"),
        repetition_penalty: number("repeat_penalty"),
        presence_penalty: number("presence_penalty"),
        frequency_penalty: number("frequency_penalty"),
        seed: fields.integer("seed").filter(|seed| *seed != -1).map(|seed| seed as u64),
        ..SamplingSettings::default()
    };
    Ok(GenerationOptions {
        sampling: settings,
        max_tokens: fields.count("num_predict").filter(|count| *count > 0),
        stop: fields.get("stop").map(|node| sampling::read_stop(&node)).transpose()?.unwrap_or_default(),
        logprobs,
        ..GenerationOptions::default()
    })
}

pub(super) fn schema() -> Value {
    body_schema(TABLE)
}
