//! Texts and conversations as token ids, and back: `/tokenize` and `/detokenize`, in the forms of vLLM and of llama.cpp.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zhenjin_assistant::{Assistant, ChatRequest, ControlText, OutputFormat, ServedModels, Specials};

use super::faults::{fault, refusal};
use super::field_tables::field;
use super::fields::Kind::{Boolean, Structured, Text};
use super::fields::Origin::Extension;
use super::fields::Treatment::{Honoured, Refused, Required};
use super::fields::{CheckedFields, Field, check};
use super::request::sampling::read_token_ids;
use super::request::{messages, tools};
use crate::body::{BodySize, json_read};
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;
use crate::stream_limit::StreamLimit;

/// Characters of a text; the body's own limit is the tighter one.
const TEXT: usize = 8 << 20;

/// The most tokens that are listed. A text of 8 MiB can have millions, each of which is many times as long when it is written out. It is less
/// than the values that a body may have, so that a whole list can be sent back beside other fields.
const LISTED: usize = 499_000;

const MODEL: Field = field(
    "model",
    Text { max: 512 },
    Honoured,
    Extension,
    "The model's name, as `/v1/models` lists it. May be left out if only one model is served.",
);

/// The fields of `/tokenize`.
pub(crate) const TOKENIZE: &[&[Field]] = &[&[
    MODEL,
    field(
        "prompt",
        Text { max: TEXT },
        Honoured,
        Extension,
        "A text, which gets the tokens that a completion puts before it. Exactly one of `prompt`, `content` and `messages` must be given.",
    ),
    field("content", Text { max: TEXT }, Honoured, Extension, "A text, to which nothing is added."),
    field(
        "messages",
        Structured(messages::schema),
        Honoured,
        Extension,
        "A conversation, as the model's chat template writes it.",
    ),
    field(
        "tools",
        Structured(tools::tools_schema),
        Honoured,
        Extension,
        "Functions that the model may call. Only together with `messages`.",
    ),
    field(
        "add_special_tokens",
        Boolean,
        Honoured,
        Extension,
        "Whether a text gets the token that texts began with in training, if the model has one. Default: true for `prompt`, false for `content`.",
    ),
    field("add_special", Boolean, Honoured, Extension, "Another name of `add_special_tokens`."),
    field(
        "parse_special",
        Boolean,
        Honoured,
        Extension,
        "Whether the name of a control token in a text becomes that token; in a completion's prompt it never does. Default: false.",
    ),
    field(
        "return_token_strs",
        Boolean,
        Honoured,
        Extension,
        "Return each token's text too, in `token_strs`. Default: false.",
    ),
    field(
        "with_pieces",
        Boolean,
        Honoured,
        Extension,
        "Return objects with `id` and `piece` in `tokens`, instead of ids; a piece that is not a text by itself is a list of bytes. Default: false.",
    ),
    field(
        "add_generation_prompt",
        Boolean,
        Refused { except: &["true"] },
        Extension,
        "the prompt always ends where the model's turn begins.",
    ),
]];

/// The fields of `/detokenize`.
pub(crate) const DETOKENIZE: &[&[Field]] =
    &[&[MODEL, field("tokens", Structured(token_ids_schema), Required, Extension, "Token ids.")]];

fn token_ids_schema() -> Value {
    json!({ "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX } })
}

/// A text's tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    count: usize,
    /// The most tokens that prompt and answer may have together.
    max_model_len: usize,
    /// At most 499,000.
    tokens: Vec<ListedToken>,
    /// Each token's text, if `return_token_strs` asked for it.
    token_strs: Option<Vec<String>>,
}

/// A token: its id, or with `with_pieces` its text too.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ListedToken {
    Id(u32),
    WithPiece { id: u32, piece: TokenPiece },
}

/// What a token stands for: its text, or its bytes where they are no text by themselves.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum TokenPiece {
    Text(String),
    Bytes(Vec<u8>),
}

impl TokenPiece {
    fn of(bytes: &[u8]) -> TokenPiece {
        match std::str::from_utf8(bytes) {
            Ok(text) => TokenPiece::Text(text.to_owned()),
            Err(_) => TokenPiece::Bytes(bytes.to_owned()),
        }
    }
}

/// Tokens' text, under the names of both servers.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenText {
    prompt: String,
    content: String,
}

/// Gives the tokens of a text or a conversation.
#[utoipa::path(post, path = "/tokenize", tag = "openai",
    request_body(content = ref("#/components/schemas/TokenizeRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The tokens.", body = TokenList),
        (status = 400, description = "The request is wrong, or has more than 499,000 tokens; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn tokenize(
    State(models): State<Arc<ServedModels>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    size: BodySize,
    request: Request,
) -> Result<Json<TokenList>, ApiError> {
    let Tokenize { model, asked, with_pieces, with_texts } = json_read(request, read_tokenize).await?;
    // The right to compute comes first: whoever is refused it loads nothing.
    let permit = streams.permit(&caller.owner)?;
    let assistant = model_of(&models, model).await?;
    let list = move || {
        let ids = asked.tokens(&assistant)?;
        let bytes = |id: u32| assistant.tokenizer().token_bytes(id).unwrap_or_default();
        let text = |id: u32| String::from_utf8_lossy(bytes(id)).into_owned();
        let piece = |id: u32| ListedToken::WithPiece { id, piece: TokenPiece::of(bytes(id)) };
        Ok(TokenList {
            count: ids.len(),
            max_model_len: assistant.info().context_length,
            token_strs: with_texts.then(|| ids.iter().map(|&id| text(id)).collect()),
            tokens: ids.iter().map(|&id| if with_pieces { piece(id) } else { ListedToken::Id(id) }).collect(),
        })
    };
    permit.compute(size.0, list).await.map(Json)
}

/// Gives the text of tokens.
#[utoipa::path(post, path = "/detokenize", tag = "openai",
    request_body(content = ref("#/components/schemas/DetokenizeRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The text.", body = TokenText),
        (status = 400, description = "The request is wrong; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn detokenize(
    State(models): State<Arc<ServedModels>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    size: BodySize,
    request: Request,
) -> Result<Json<TokenText>, ApiError> {
    let (model, tokens) = json_read(request, read_detokenize).await?;
    let permit = streams.permit(&caller.owner)?;
    let assistant = model_of(&models, model).await?;
    let text = move || {
        let text = assistant
            .tokenizer()
            .decode(&tokens, ControlText::Show)
            .map_err(|error| ApiError::invalid("tokens", format!("`tokens`: {error}")))?;
        Ok(TokenText { prompt: text.clone(), content: text })
    };
    permit.compute(size.0, text).await.map(Json)
}

/// The model's name, if there is one, and the tokens.
fn read_detokenize(body: &Value) -> Result<(Option<String>, Vec<u32>), ApiError> {
    let fields = check(DETOKENIZE, body)?;
    let tokens = fields.get("tokens").map(|node| read_token_ids(&node, LISTED)).transpose()?;
    Ok((fields.text("model").map(str::to_owned), tokens.unwrap_or_default()))
}

/// A request for a list of tokens.
struct Tokenize {
    model: Option<String>,
    asked: Asked,
    with_pieces: bool,
    with_texts: bool,
}

fn read_tokenize(body: &Value) -> Result<Tokenize, ApiError> {
    let fields = check(TOKENIZE, body)?;
    let switch = |name: &str| fields.boolean(name).unwrap_or(false);
    Ok(Tokenize {
        model: fields.text("model").map(str::to_owned),
        asked: read_asked(&fields)?,
        with_pieces: switch("with_pieces"),
        with_texts: switch("return_token_strs"),
    })
}

enum Asked {
    /// The text of a field.
    Text {
        field: &'static str,
        text: String,
        begins: bool,
        specials: Specials,
    },
    Conversation(Box<ChatRequest>),
}

fn read_asked(fields: &CheckedFields<'_>) -> Result<Asked, ApiError> {
    let given: Vec<&'static str> =
        ["prompt", "content", "messages"].into_iter().filter(|name| fields.get(name).is_some()).collect();
    let &[name] = given.as_slice() else {
        return Err(ApiError::invalid(
            "prompt",
            "one of `prompt`, `content` and `messages` says what to tokenise",
        ));
    };
    refuse_without_effect(fields, name)?;
    if let Some(node) = fields.get("messages") {
        let mut request = ChatRequest::new(messages::read(&node)?);
        request.tools =
            fields.get("tools").map(|node| tools::read_tools(&node)).transpose()?.unwrap_or_default();
        return Ok(Asked::Conversation(Box::new(request)));
    }
    let (newer, older) = (fields.boolean("add_special_tokens"), fields.boolean("add_special"));
    if newer.is_some() && older.is_some() && newer != older {
        let message = "`add_special_tokens` and `add_special` contradict each other: send one of them";
        return Err(ApiError::invalid("add_special", message));
    }
    let begins = newer.or(older);
    let parses = fields.boolean("parse_special").unwrap_or(false);
    Ok(Asked::Text {
        field: name,
        text: fields.text(name).unwrap_or_default().to_owned(),
        begins: begins.unwrap_or(name == "prompt"),
        specials: if parses { Specials::Parse } else { Specials::AsText },
    })
}

/// Refuses fields that say nothing about what is tokenised, the field `given`.
fn refuse_without_effect(fields: &CheckedFields<'_>, given: &str) -> Result<(), ApiError> {
    const OF_TEXTS: &[&str] = &["add_special_tokens", "add_special", "parse_special"];
    const OF_CONVERSATIONS: &[&str] = &["tools"];
    let is_conversation = given == "messages";
    let (reason, names) = if is_conversation {
        ("the chat template says where control tokens stand", OF_TEXTS)
    } else {
        ("functions belong to a conversation", OF_CONVERSATIONS)
    };
    // Clients send their defaults: no, and no functions.
    let is_said = |name: &&str| {
        fields.boolean(name) == Some(true)
            || fields.get(name).is_some_and(|node| node.value.as_array().is_some_and(|list| !list.is_empty()))
    };
    match names.iter().copied().find(is_said) {
        Some(name) => {
            let message = format!("`{name}` has no effect beside `{given}`, as {reason}: leave it out");
            Err(ApiError::invalid(name, message))
        }
        None => Ok(()),
    }
}

impl Asked {
    fn tokens(&self, assistant: &Assistant) -> Result<Vec<u32>, ApiError> {
        let (field, tokens) = match self {
            Asked::Conversation(request) => {
                let tokens = assistant.prompt_tokens(request);
                ("messages", tokens.map_err(|error| refusal(error, "messages", &OutputFormat::Text))?)
            }
            Asked::Text { field, text, begins, specials } => {
                let tokenizer = assistant.tokenizer();
                let beginning = tokenizer.bos().filter(|_| *begins && tokenizer.adds_bos());
                let tokens = tokenizer
                    .encode(text, *specials)
                    .map_err(|error| ApiError::invalid(*field, error.to_string()))?;
                (*field, beginning.into_iter().chain(tokens).collect())
            }
        };
        expect_listable(field, tokens.len())?;
        Ok(tokens)
    }
}

/// Refuses more tokens than are listed.
fn expect_listable(field: &str, tokens: usize) -> Result<(), ApiError> {
    if tokens <= LISTED {
        return Ok(());
    }
    let message = format!(
        "`{field}` has {tokens} tokens, and at most {LISTED} are listed in one answer: divide it into several requests"
    );
    Err(ApiError::invalid(field, message))
}

/// The model that the request names, or the only one.
async fn model_of(models: &ServedModels, name: Option<String>) -> Result<Arc<Assistant>, ApiError> {
    let name = match name {
        Some(name) => name,
        None => {
            let mut served = models.list().into_iter().map(|model| model.name);
            match (served.next(), served.next()) {
                (Some(only), None) => only,
                _ => {
                    let message = "`model` is missing; `/v1/models` lists the models that are served";
                    return Err(ApiError::invalid("model", message).with_code("missing_required_parameter"));
                }
            }
        }
    };
    models.get(&name).await.map_err(fault)
}
