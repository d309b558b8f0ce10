//! The bodies that `/api` takes, field by field: the source of both the checks and the OpenAPI schemas. Sampling
//! settings are the fields of `/v1/chat/completions`, checked by the same table.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};
use zhenjin_assistant::GenerationOptions;
use zhenjin_store::{Rating, reasons};

use crate::errors::ApiError;
use crate::openai::field_tables::CHAT;
use crate::openai::fields::Kind::{Boolean, OneOf, Structured, Text};
use crate::openai::fields::Treatment::{Honoured, Required};
use crate::openai::fields::{CheckedFields, Field, Kind, Origin, Treatment, body_schema, check_within};
use crate::openai::request::node::Node;
use crate::openai::request::sampling::read_options;

/// Characters in a title.
const TITLE_CHARACTERS: usize = 200;
/// Characters in a model's name.
const MODEL_CHARACTERS: usize = 512;
/// Characters in a system prompt or a question; the model's context is the tighter limit.
const CONTENT_CHARACTERS: usize = 1_000_000;
/// Characters in an id.
const ID_CHARACTERS: usize = 64;
/// Characters in the name of an adapter's folder.
pub(crate) const FOLDER_CHARACTERS: usize = 64;
/// Characters in a poem: the longest of the classical ones have some 2,500.
pub(crate) const POEM_CHARACTERS: usize = 4_000;
/// Characters in a comment on an answer.
pub(crate) const COMMENT_CHARACTERS: usize = 2_000;
/// Characters in a correction of an answer.
pub(crate) const CORRECTION_CHARACTERS: usize = CONTENT_CHARACTERS;
/// Answers that one answer can be chosen over at once.
pub(crate) const REJECTED_ANSWERS: usize = 64;
/// Characters in an API key.
const KEY_CHARACTERS: usize = 200;

const fn field(name: &'static str, kind: Kind, treatment: Treatment, note: &'static str) -> Field {
    Field { name, kind, treatment, note, origin: Origin::WebChat }
}

const MODEL: Field = field(
    "model",
    Text { max: MODEL_CHARACTERS },
    Honoured,
    "The model that answers. Default for a new conversation: the server's own.",
);
const SYSTEM_PROMPT: Field = field(
    "system_prompt",
    Text { max: CONTENT_CHARACTERS },
    Honoured,
    "Text that the model reads before the conversation. Null or empty: none.",
);
const SETTINGS: Field = field(
    "settings",
    Structured(settings_schema),
    Honoured,
    "How tokens are chosen, as a whole: a setting that is absent or null is the model's default. Where the context ends before `max_tokens`, so \
     does the answer.",
);
const PARENT: Field = field(
    "parent_id",
    Text { max: ID_CHARACTERS },
    Honoured,
    "The answer that the question follows. Null: the question begins the conversation, or a second beginning of it.",
);

/// `POST /api/conversations`.
pub(crate) const NEW_CONVERSATION: &[&[Field]] = &[&[MODEL, SYSTEM_PROMPT, SETTINGS]];

const CONTENT: Field =
    field("content", Text { max: CONTENT_CHARACTERS }, Required, "The question, not empty.");

/// `POST /api/questions`.
pub(crate) const FIRST_QUESTION: &[&[Field]] = &[&[MODEL, SYSTEM_PROMPT, SETTINGS, CONTENT]];

/// `POST /api/conversations/{id}/continue`.
pub(crate) const CONTINUATION: &[&[Field]] = &[&[
    field(
        "from_id",
        Text { max: ID_CHARACTERS },
        Required,
        "The question with which the messages begin that are taken along.",
    ),
    field(
        "parent_id",
        Text { max: ID_CHARACTERS },
        Required,
        "The answer with which the messages end that are taken along, in the same branch.",
    ),
]];

/// `PATCH /api/conversations/{id}`.
pub(crate) const CONVERSATION_CHANGE: &[&[Field]] = &[&[
    field("title", Text { max: TITLE_CHARACTERS }, Honoured, "A new title, not empty."),
    MODEL,
    SYSTEM_PROMPT,
    SETTINGS,
    field(
        "current_leaf",
        Text { max: ID_CHARACTERS },
        Honoured,
        "The last message of the branch to show next time.",
    ),
]];

/// `POST /api/conversations/{id}/messages`.
pub(crate) const QUESTION: &[&[Field]] = &[&[PARENT, CONTENT]];

/// `POST /api/context`.
pub(crate) const CONTEXT: &[&[Field]] = &[&[
    field(
        "conversation_id",
        Text { max: ID_CHARACTERS },
        Honoured,
        "The conversation. Null: one that does not exist yet. A model or a system prompt of this body stands for its own.",
    ),
    PARENT,
    field(
        "from_id",
        Text { max: ID_CHARACTERS },
        Honoured,
        "A question before `parent_id`: what is before it is not counted. Null: the whole branch.",
    ),
    MODEL,
    SYSTEM_PROMPT,
    field(
        "content",
        Text { max: CONTENT_CHARACTERS },
        Honoured,
        "The question as it stands, perhaps unfinished. Null or empty: the conversation up to `parent_id` alone.",
    ),
]];

/// `POST /api/messages/{id}/regenerate`.
pub(crate) const REGENERATION: &[&[Field]] = &[&[field(
    "model",
    Text { max: MODEL_CHARACTERS },
    Honoured,
    "The model that answers this time. Null: the conversation's.",
)]];

/// `PUT /api/messages/{id}/feedback`.
pub(crate) const FEEDBACK: &[&[Field]] = &[&[
    field(
        "rating",
        OneOf(&["up", "down"]),
        Honoured,
        "Whether the answer is liked. Null: nothing is said of that.",
    ),
    field(
        "reasons",
        Structured(reasons_schema),
        Honoured,
        "Why it has its rating: each word once, all of them for that rating. For `up`: accurate, helpful, clear, well_written, \
         good_tone. For `down`: wrong, not_helpful, did_not_follow, too_long, too_short, bad_style, unsafe, other.",
    ),
    field(
        "comment",
        Text { max: COMMENT_CHARACTERS },
        Honoured,
        "Why, in the person's own words; not empty. Nothing is trained on it.",
    ),
    field(
        "correction",
        Text { max: CORRECTION_CHARACTERS },
        Honoured,
        "The answer as it should have been: not empty, and not the answer itself.",
    ),
]];

/// `PUT /api/messages/{id}/choice`.
pub(crate) const CHOICE: &[&[Field]] = &[&[field(
    "rejected",
    Structured(rejected_schema),
    Required,
    "The ids of other answers to the same question, which are not as good.",
)]];

/// `PUT /api/feedback/consent`.
pub(crate) const CONSENT: &[&[Field]] =
    &[&[field("allowed", Boolean, Required, "Whether models may learn from the caller's feedback.")]];

fn reasons_schema() -> Value {
    let words = || [Rating::Up, Rating::Down].into_iter().flat_map(reasons);
    json!({ "type": "array", "items": { "type": "string", "enum": words().collect::<Vec<_>>() }, "maxItems": words().count() })
}

fn rejected_schema() -> Value {
    let id = json!({ "type": "string", "minLength": 1, "maxLength": ID_CHARACTERS });
    json!({ "type": "array", "items": id, "minItems": 1, "maxItems": REJECTED_ANSWERS })
}

/// `PUT /api/adapters/{name}`.
pub(crate) const ADAPTER: &[&[Field]] = &[&[field(
    "folder",
    Text { max: FOLDER_CHARACTERS },
    Honoured,
    "The adapter's folder in the server's adapter folder: one name, not a path. Null: where the adapter of this name is served \
     from, or else the folder with the adapter's own name.",
)]];

/// `PUT /api/promotions/{model}`.
pub(crate) const PROMOTION: &[&[Field]] = &[&[field(
    "folder",
    Text { max: FOLDER_CHARACTERS },
    Required,
    "The adapter's folder in the server's adapter folder: one name, not a path.",
)]];

/// `POST /api/improvements`.
pub(crate) const IMPROVEMENT: &[&[Field]] = &[&[
    field(
        "model",
        Text { max: MODEL_CHARACTERS },
        Honoured,
        "The model that is to be improved. Null: the one that answers where nobody names one.",
    ),
    field(
        "method",
        Kind::OneOf(&["dpo", "kto", "sft"]),
        Honoured,
        "How it learns. Null: what the judgements allow, pairs before thumbs before corrected answers.",
    ),
]];

/// `POST /api/improvements/{id}/promote`.
pub(crate) const IMPROVEMENT_PROMOTION: &[&[Field]] = &[&[field(
    "force",
    Boolean,
    Honoured,
    "Whether to promote it even if something else answers by now than what it was compared with. Default: false.",
)]];

/// `POST /api/prosody`.
pub(crate) const PROSODY: &[&[Field]] = &[&[field(
    "text",
    Text { max: POEM_CHARACTERS },
    Required,
    "A poem in Chinese, traditional or simplified: lines divided by punctuation or line ends. Not empty.",
)]];

/// `POST /api/login`.
pub(crate) const LOGIN: &[&[Field]] = &[&[field(
    "key",
    Text { max: KEY_CHARACTERS },
    Required,
    "An API key, as it was shown when it was made.",
)]];

/// Names of the sampling settings that a conversation keeps.
const SETTING_NAMES: [&str; 10] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "max_tokens",
    "repetition_detection",
];

/// The fields of `/v1/chat/completions` that are settings of a conversation.
static SETTING_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let known = || CHAT.iter().copied().flatten();
    SETTING_NAMES.iter().filter_map(|name| known().find(|field| field.name == *name)).copied().collect()
});

fn settings_schema() -> Value {
    body_schema(&[SETTING_FIELDS.as_slice()])
}

/// Checks a conversation's settings; complaints name the setting as `settings.temperature`. Returns them without nulls.
pub(crate) fn read_settings(node: &Node<'_>) -> Result<Value, ApiError> {
    let known: Vec<&'static str> = SETTING_FIELDS.iter().map(|field| field.name).collect();
    let settings = node.object(&known)?;
    let given = known.iter().filter_map(|name| Some(((*name).to_owned(), settings.get(name)?.value.clone())));
    let kept = Value::Object(given.collect());
    options_within("settings.", &kept)?;
    Ok(kept)
}

/// A conversation's kept settings as `assistant` takes them.
pub(crate) fn generation_options(settings: &Value) -> Result<GenerationOptions, ApiError> {
    options_within("", settings)
}

fn options_within(prefix: &'static str, settings: &Value) -> Result<GenerationOptions, ApiError> {
    let fields = check_within(prefix, &[SETTING_FIELDS.as_slice()], settings)?;
    read_options(&fields, fields.count("max_tokens"), None)
}

/// A body's schema from its table, for OpenAPI.
fn schema_of(table: &[&'static [Field]]) -> RefOr<Schema> {
    // A table that OpenAPI cannot express would only be described less well; a test sees to it that there is none.
    serde_json::from_value(body_schema(table)).unwrap_or_else(|_| ObjectBuilder::new().into())
}

macro_rules! described_body {
    ($(#[$documentation:meta])* $name:ident, $table:expr) => {
        $(#[$documentation])*
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema_of($table)
            }
        }

        impl ToSchema for $name {}
    };
}

described_body!(
    /// The body of [`NEW_CONVERSATION`].
    NewConversationBody,
    NEW_CONVERSATION
);
described_body!(
    /// The body of [`FIRST_QUESTION`].
    FirstQuestionBody,
    FIRST_QUESTION
);
described_body!(
    /// The body of [`CONTINUATION`].
    ContinuationBody,
    CONTINUATION
);
described_body!(
    /// The body of [`CONVERSATION_CHANGE`].
    ConversationChangeBody,
    CONVERSATION_CHANGE
);
described_body!(
    /// The body of [`QUESTION`].
    QuestionBody,
    QUESTION
);
described_body!(
    /// The body of [`CONTEXT`].
    ContextBody,
    CONTEXT
);
described_body!(
    /// The body of [`REGENERATION`].
    RegenerationBody,
    REGENERATION
);
described_body!(
    /// The body of [`FEEDBACK`].
    FeedbackBody,
    FEEDBACK
);
described_body!(
    /// The body of [`CHOICE`].
    ChoiceBody,
    CHOICE
);
described_body!(
    /// The body of [`CONSENT`].
    ConsentBody,
    CONSENT
);
described_body!(
    /// The body of [`ADAPTER`].
    AdapterBody,
    ADAPTER
);
described_body!(
    /// The body of [`PROMOTION`].
    PromotionBody,
    PROMOTION
);
described_body!(
    /// The body of [`IMPROVEMENT`].
    ImprovementBody,
    IMPROVEMENT
);
described_body!(
    /// The body of [`IMPROVEMENT_PROMOTION`].
    ImprovementPromotionBody,
    IMPROVEMENT_PROMOTION
);
described_body!(
    /// The body of [`PROSODY`].
    ProsodyBody,
    PROSODY
);
described_body!(
    /// The body of [`LOGIN`].
    LoginBody,
    LOGIN
);

/// The settings of a conversation as an answer carries them: every one is named.
pub(crate) struct AllSettings;

impl PartialSchema for AllSettings {
    fn schema() -> RefOr<Schema> {
        let mut schema = settings_schema();
        schema["required"] = json!(SETTING_NAMES);
        serde_json::from_value(schema).unwrap_or_else(|_| ObjectBuilder::new().into())
    }
}

impl ToSchema for AllSettings {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Settings")
    }
}

/// A field's text, which must say something.
pub(crate) fn full_text<'a>(fields: &CheckedFields<'a>, name: &'static str) -> Result<&'a str, ApiError> {
    let text = fields.text(name).unwrap_or_default();
    if text.trim().is_empty() {
        Err(ApiError::invalid(name, format!("`{name}` must not be empty")))
    } else {
        Ok(text)
    }
}

/// Whether the body has the field, as null: it asks for the field to be emptied.
pub(crate) fn is_null(body: &Value, name: &str) -> bool {
    body.get(name).is_some_and(Value::is_null)
}

/// A conversation's settings with every setting named, null where the model's default holds.
pub(crate) fn all_settings(kept: &Value) -> Value {
    let named = |name: &&str| ((*name).to_owned(), kept.get(*name).cloned().unwrap_or(Value::Null));
    Value::Object(SETTING_NAMES.iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_described() {
        assert_eq!(SETTING_FIELDS.len(), SETTING_NAMES.len());
        for table in [
            NEW_CONVERSATION,
            FIRST_QUESTION,
            CONTINUATION,
            CONVERSATION_CHANGE,
            QUESTION,
            CONTEXT,
            REGENERATION,
            FEEDBACK,
            CHOICE,
            CONSENT,
            ADAPTER,
            PROMOTION,
            IMPROVEMENT,
            IMPROVEMENT_PROMOTION,
            PROSODY,
            LOGIN,
        ] {
            let described =
                serde_json::from_value::<RefOr<Schema>>(body_schema(table)).expect("an OpenAPI schema");
            let described = serde_json::to_value(described).expect("JSON");
            for field in table.iter().copied().flatten() {
                assert!(described["properties"][field.name]["description"].is_string(), "{}", field.name);
            }
        }
    }

    #[test]
    fn settings_are_checked_as_v1_checks_them() {
        let refused = |settings: Value| {
            read_settings(&Node::new(&settings, "settings"))
                .expect_err("refused")
                .body()
                .error
                .param
                .unwrap_or_default()
        };
        assert_eq!(refused(json!({ "temperature": 2.1 })), "settings.temperature");
        assert_eq!(refused(json!({ "top_k": -2 })), "settings.top_k");
        assert_eq!(refused(json!({ "seed": 0.5 })), "settings.seed");
        assert_eq!(refused(json!({ "max_tokens": 0 })), "settings.max_tokens");
        assert_eq!(refused(json!({ "temprature": 1 })), "settings.temprature");
        assert_eq!(refused(json!({ "model": "x" })), "settings.model");
        let pattern = json!({ "repetition_detection": { "max_pattern_size": "5k" } });
        assert_eq!(refused(pattern), "settings.repetition_detection.max_pattern_size");
        assert_eq!(refused(json!([])), "settings");

        let given = json!({ "temperature": 0.5, "top_p": null, "seed": 7, "max_tokens": 10 });
        let kept = read_settings(&Node::new(&given, "settings")).expect("fine");
        assert_eq!(kept, json!({ "temperature": 0.5, "seed": 7, "max_tokens": 10 }));
        let options = generation_options(&kept).expect("fine");
        assert_eq!((options.sampling.temperature, options.max_tokens), (Some(0.5), Some(10)));
        assert_eq!(all_settings(&kept)["top_p"], Value::Null);
    }
}
