//! `POST /v1/embeddings`: texts as vectors, by the encoders that are served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zhenjin_assistant::{EmbedError, EmbedInput, Embedder, EmbedderTextError, ServedModels};
use zhenjin_store::Owner;

use super::faults::fault;
use super::field_tables::field;
use super::fields::Kind::{Boolean, Integer, OneOf, Structured, Text};
use super::fields::Origin::{Extension, OpenAi};
use super::fields::Treatment::{Honoured, NoEffect, Refused, Required};
use super::fields::{Field, check};
use super::request::limits;
use super::request::node::Node;
use super::request::sampling::read_token_ids;
use crate::body::json_read;
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;
use crate::stream_limit::StreamLimit;

/// The fields of `/v1/embeddings`.
pub(crate) const EMBEDDINGS: &[&[Field]] = &[&[
    field(
        "model",
        Text { max: 512 },
        Required,
        OpenAi,
        "An embedding model's name, as `/v1/models` lists it. Models that write text make no embeddings.",
    ),
    field(
        "input",
        Structured(input_schema),
        Required,
        OpenAi,
        "A text, a list of texts, a list of token ids, or a list of such lists; at most 2,048 of them. Texts get the model's special tokens, \
         token ids are taken as they are. A text that is longer than the model reads is refused, never cut.",
    ),
    field(
        "encoding_format",
        OneOf(&["float", "base64"]),
        Honoured,
        OpenAi,
        "`float`: a list of numbers; `base64`: their bytes, 32-bit floats, least significant byte first. Default: `float`.",
    ),
    field(
        "dimensions",
        Integer { min: 1, max: 65_536 },
        Honoured,
        OpenAi,
        "Keeps only the first so many values of each vector; if the model's vectors have unit length, the shortened ones get it again. Default: what the model's makers say, else all.",
    ),
    field(
        "prompt",
        Text { max: 4096 },
        Honoured,
        Extension,
        "A text that is put before every input, such as `query: ` for models of the E5 family. Nothing is ever put there unasked. Not for token ids.",
    ),
    field(
        "prompt_name",
        Text { max: 512 },
        Honoured,
        Extension,
        "The name that the model's makers gave to a prompt, which is then put before every input. Not together with `prompt`, and not for token ids.",
    ),
    field("user", Text { max: 512 }, NoEffect, OpenAi, "Users are not told apart."),
    field(
        "truncate",
        Boolean,
        Refused { except: &["false"] },
        Extension,
        "texts that are too long are refused, never cut.",
    ),
    field(
        "truncate_prompt_tokens",
        Integer { min: -1, max: i64::MAX },
        Refused { except: &[] },
        Extension,
        "texts that are too long are refused, never cut.",
    ),
    field(
        "input_type",
        Text { max: 64 },
        Refused { except: &[] },
        Extension,
        "send what is to stand before the texts in `prompt`.",
    ),
]];

fn input_schema() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let tokens = json!({ "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 0, "maximum": u32::MAX } });
    json!({ "anyOf": [
        text,
        { "type": "array", "items": text, "minItems": 1, "maxItems": limits::EMBEDDINGS },
        tokens,
        { "type": "array", "items": tokens, "minItems": 1, "maxItems": limits::EMBEDDINGS },
    ] })
}

/// Vectors of the inputs, in their order.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddingList {
    /// `list`
    object: &'static str,
    data: Vec<Embedding>,
    /// The model's name.
    model: String,
    usage: EmbeddingUsage,
}

/// The vector of one input.
#[derive(Serialize, ToSchema)]
pub(super) struct Embedding {
    /// `embedding`
    object: &'static str,
    /// Which input, from 0.
    index: usize,
    embedding: EmbeddingValues,
}

/// As `encoding_format` asks.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum EmbeddingValues {
    /// Numbers.
    Floats(Vec<f32>),
    /// Their bytes in base64.
    Bytes(String),
}

/// Tokens that the model read.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddingUsage {
    /// Special tokens included.
    prompt_tokens: usize,
    /// The same.
    total_tokens: usize,
}

/// A request whose every field is fine by itself.
struct Asked {
    /// The encoder's name.
    model: String,
    wanted: Wanted,
    in_base64: bool,
}

/// Texts whose vectors are wanted.
pub(crate) struct Wanted {
    pub(crate) inputs: Vec<EmbedInput>,
    /// What the inputs are called in the request, and whether that field is a list of them.
    pub(crate) field: &'static str,
    pub(crate) is_list: bool,
    pub(crate) dimensions: Option<usize>,
    pub(crate) prompt: Option<Prompt>,
}

impl Wanted {
    /// Bytes of the texts that are tokenised, each with what is put before it, and as many as there are token ids. `named` are the model's
    /// prompts; one that it does not have is refused later.
    fn size(&self, named: &BTreeMap<String, String>) -> usize {
        let prompt = self.prompt.as_ref().and_then(|prompt| prompt.words(named).ok()).map_or(0, str::len);
        let size = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => prompt + text.len(),
            EmbedInput::Tokens(tokens) => tokens.len(),
        };
        self.inputs.iter().map(size).sum()
    }
}

/// What is put before every text.
pub(crate) enum Prompt {
    Words(String),
    /// What the model's makers call so.
    Named(String),
}

impl Prompt {
    /// The request's field that asks for it.
    fn field(&self) -> &'static str {
        match self {
            Prompt::Words(_) => "prompt",
            Prompt::Named(_) => "prompt_name",
        }
    }

    /// What is put there, where the model's makers have `named` these.
    fn words<'a>(&'a self, named: &'a BTreeMap<String, String>) -> Result<&'a str, ApiError> {
        match self {
            Prompt::Words(words) => Ok(words),
            Prompt::Named(name) => named.get(name).map(String::as_str).ok_or_else(|| {
                let names: Vec<&str> = named.keys().map(String::as_str).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let message = format!("`prompt_name`: the model has no prompt `{name}`; it has {names}");
                ApiError::invalid("prompt_name", message)
            }),
        }
    }
}

/// The vectors.
pub(crate) struct Vectors {
    /// In the inputs' order.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens that the model read, special ones included.
    pub(crate) tokens: usize,
    /// From the request to the loaded model.
    pub(crate) load: Duration,
}

/// Gives vectors of texts.
#[utoipa::path(post, path = "/v1/embeddings", operation_id = "createEmbedding", tag = "openai",
    request_body(content = ref("#/components/schemas/EmbeddingRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The vectors.", body = EmbeddingList),
        (status = 400, description = "The request is wrong, or the model makes no embeddings; `param` names the field.", body = ErrorBody),
        (status = 404, description = "No model of this name is served.", body = ErrorBody),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorBody),
        (status = 503, description = "The model cannot be had now.", body = ErrorBody)))]
pub(super) async fn create(
    State(models): State<Arc<ServedModels>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    request: Request,
) -> Result<Json<EmbeddingList>, ApiError> {
    let asked = json_read(request, read).await?;
    let find = async { models.embedder(&asked.model).await.map_err(fault) };
    let Vectors { vectors, tokens, .. } = vectors(find, &streams, &caller.owner, asked.wanted).await?;
    let values = |vector: Vec<f32>| match asked.in_base64 {
        false => EmbeddingValues::Floats(vector),
        true => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            EmbeddingValues::Bytes(STANDARD.encode(bytes))
        }
    };
    let embedding = |(index, vector)| Embedding { object: "embedding", index, embedding: values(vector) };
    Ok(Json(EmbeddingList {
        object: "list",
        data: vectors.into_iter().enumerate().map(embedding).collect(),
        model: asked.model,
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    }))
}

/// Computes what is wanted with the encoder that `find` loads, as long as the client waits.
pub(crate) async fn vectors(
    find: impl Future<Output = Result<Arc<Embedder>, ApiError>>,
    streams: &StreamLimit,
    owner: &Owner,
    wanted: Wanted,
) -> Result<Vectors, ApiError> {
    let asked = Instant::now();
    // The right to compute comes first: whoever is refused it loads nothing.
    let permit = streams.permit(owner)?;
    let embedder = find.await?;
    let load = asked.elapsed();
    // Dropped with this request, should its client go away.
    let waiting = Waiting::default();
    let is_cancelled = Arc::clone(&waiting.is_over);
    let waits_no_more = Arc::clone(&waiting.is_over);
    let size = wanted.size(embedder.prompts());
    let Wanted { inputs, field, is_list, dimensions, prompt } = wanted;
    let prompt_field = prompt.as_ref().map_or("prompt", Prompt::field);
    let refused = move |error: EmbedError| refusal(error, field, is_list, prompt_field);
    let tokenizer = Arc::clone(&embedder);
    let tokenise = move || {
        tokenizer.check_dimensions(dimensions).map_err(refused)?;
        let prompt = prompt.as_ref().map(|prompt| prompt.words(tokenizer.prompts())).transpose()?;
        tokenizer.tokens(&inputs, prompt, &waits_no_more).map_err(refused)
    };
    let tokens = permit.compute(size, tokenise).await?;
    let count = tokens.iter().map(Vec::len).sum();
    let embed = move || {
        let vectors = embedder.embed(&tokens, dimensions, &is_cancelled).map_err(refused)?;
        Ok(Vectors { vectors, tokens: count, load })
    };
    permit.encode(count, embed).await
}

/// A client that waits.
#[derive(Default)]
struct Waiting {
    is_over: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn read(body: &Value) -> Result<Asked, ApiError> {
    let fields = check(EMBEDDINGS, body)?;
    let (inputs, is_list) =
        fields.get("input").map(|node| read_input(&node)).transpose()?.unwrap_or_default();
    let has_tokens = inputs.iter().any(|input| matches!(input, EmbedInput::Tokens(_)));
    let prompt = match (fields.text("prompt"), fields.text("prompt_name")) {
        (Some(_), Some(_)) => {
            let message = "`prompt` and `prompt_name` both say what is put before texts: send one of them";
            return Err(ApiError::invalid("prompt_name", message));
        }
        (Some(words), None) if has_tokens && !words.is_empty() => {
            let message = "`prompt` is put before texts; token ids are taken as they are";
            return Err(ApiError::invalid("prompt", message));
        }
        (None, Some(_)) if has_tokens => {
            let message = "`prompt_name` names what is put before texts; token ids are taken as they are";
            return Err(ApiError::invalid("prompt_name", message));
        }
        (Some(words), None) => Some(Prompt::Words(words.to_owned())),
        (None, name) => name.map(|name| Prompt::Named(name.to_owned())),
    };
    Ok(Asked {
        model: fields.text("model").unwrap_or_default().to_owned(),
        wanted: Wanted { inputs, field: "input", is_list, dimensions: fields.count("dimensions"), prompt },
        in_base64: fields.text("encoding_format") == Some("base64"),
    })
}

fn read_input(node: &Node<'_>) -> Result<(Vec<EmbedInput>, bool), ApiError> {
    const EXPECTED: &str =
        "must be a string, a list of strings, a list of token ids, or a list of such lists";
    let items = match node.value {
        Value::String(_) => return Ok((vec![read_text(node)?], false)),
        Value::Array(items) => items,
        _ => return Err(node.error(EXPECTED)),
    };
    let read: fn(&Node<'_>) -> Result<EmbedInput, ApiError> = match items.first() {
        None => return Err(node.error("must not be an empty list")),
        Some(Value::Number(_)) => return Ok((vec![read_tokens(node)?], false)),
        Some(Value::String(_)) => read_text,
        Some(Value::Array(_)) => read_tokens,
        Some(_) => return Err(node.error(EXPECTED)),
    };
    if items.len() > limits::EMBEDDINGS {
        let most = limits::EMBEDDINGS;
        return Err(node.error(format!("must hold at most {most} inputs, not {}", items.len())));
    }
    let inputs = node.list()?.map(|item| read(&item)).collect::<Result<_, ApiError>>()?;
    Ok((inputs, true))
}

fn read_text(node: &Node<'_>) -> Result<EmbedInput, ApiError> {
    match node.text()? {
        "" => Err(node.error("must not be an empty string")),
        text => Ok(EmbedInput::Text(text.to_owned())),
    }
}

fn read_tokens(node: &Node<'_>) -> Result<EmbedInput, ApiError> {
    let tokens = read_token_ids(node, usize::MAX)?;
    if tokens.is_empty() {
        return Err(node.error("must not be an empty list"));
    }
    Ok(EmbedInput::Tokens(tokens))
}

/// Why the encoder refused, with the place of the input in the request. `prompt` is the field that asks for a prompt.
fn refusal(error: EmbedError, field: &str, is_list: bool, prompt: &str) -> ApiError {
    let place = |text: usize| if is_list { format!("{field}[{text}]") } else { field.to_owned() };
    match error {
        EmbedError::Text(EmbedderTextError::TooLong { text, tokens, limit, by_memory }) => {
            too_long(place(text), &tokens.to_string(), limit, by_memory)
        }
        EmbedError::Text(EmbedderTextError::FarTooLong { text, limit, by_memory }) => {
            too_long(place(text), &format!("more than {limit}"), limit, by_memory)
        }
        EmbedError::Text(error @ EmbedderTextError::NotFinite { .. }) => {
            ApiError::internal(error.to_string())
        }
        EmbedError::Text(EmbedderTextError::Empty { text }) => {
            ApiError::invalid(place(text), format!("`{}` has no tokens", place(text)))
        }
        EmbedError::Text(EmbedderTextError::UnknownToken { text, index, token, vocabulary_size }) => {
            let path = format!("{}[{index}]", place(text));
            let message =
                format!("`{path}` is {token}, but the model's tokens are 0 to {}", vocabulary_size - 1);
            ApiError::invalid(path, message)
        }
        EmbedError::Tokenizer { text, error } => {
            ApiError::invalid(place(text), format!("`{}`: {error}", place(text)))
        }
        EmbedError::Dimensions { asked, most } => ApiError::invalid(
            "dimensions",
            format!("`dimensions` must be 1 to {most} for this model, not {asked}"),
        ),
        EmbedError::Prompt => ApiError::invalid(prompt, format!("`{prompt}`: {error}")),
        EmbedError::Cancelled => ApiError::shutting_down(),
        EmbedError::Model(error) => ApiError::internal(error.to_string()),
    }
}

/// `by_memory`: the model would read more, but there is no memory for that.
fn too_long(path: String, tokens: &str, limit: usize, by_memory: bool) -> ApiError {
    let reason = if by_memory { ", as the server's memory limit holds no more" } else { "" };
    let message = format!(
        "`{path}` has {tokens} tokens, but the model reads {limit} at most{reason}; shorten or divide it: nothing is cut here"
    );
    ApiError::invalid(path, message).with_code("context_length_exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: whoever sent a text that the model reads on other days was told that the model does not read it.
    #[test]
    fn where_memory_is_short_a_text_that_is_too_long_is_told_so() {
        let said = |by_memory: bool| {
            let error = EmbedderTextError::TooLong { text: 1, tokens: 9000, limit: 2048, by_memory };
            format!("{:?}", refusal(error.into(), "input", true, "prompt"))
        };
        let reason = "the model reads 2048 at most, as the server's memory limit holds no more; shorten";
        assert!(said(true).contains(reason), "{}", said(true));
        assert!(said(false).contains("the model reads 2048 at most; shorten"), "{}", said(false));
    }

    /// Regression: many short texts with a long prompt counted as short, and megabytes were tokenised before what is short.
    #[test]
    fn the_prompt_before_each_text_counts() {
        let named = BTreeMap::from([("query".to_owned(), "q: ".to_owned())]);
        let size = |inputs: Vec<EmbedInput>, prompt: Option<Prompt>| {
            Wanted { inputs, field: "input", is_list: true, dimensions: None, prompt }.size(&named)
        };
        let letters = |count: usize| vec![EmbedInput::Text("a".to_owned()); count];
        let long = Prompt::Words("p".repeat(4096));
        assert_eq!(size(letters(2048), Some(long)), 2048 * 4097);
        assert_eq!(size(letters(10), Some(Prompt::Named("query".to_owned()))), 40);
        assert_eq!(size(letters(10), Some(Prompt::Named("unknown".to_owned()))), 10);
        assert_eq!(size(letters(10), None), 10);
        assert_eq!(size(vec![EmbedInput::Tokens(vec![1, 2, 3])], None), 3);
    }
}
