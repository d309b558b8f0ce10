//! `POST /api/embed` and the older `POST /api/embeddings`: texts as vectors, by the encoders that are served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zhenjin_assistant::EmbedInput;

use super::{ErrorLine, body, fields, names};
use crate::chat::ModelMenu;
use crate::errors::ApiError;
use crate::openai::embeddings::{Vectors, Wanted, vectors};
use crate::openai::fields::{Field, check};
use crate::openai::request::limits;
use crate::openai::request::node::Node;
use crate::security::Caller;
use crate::stream_limit::StreamLimit;

/// The vectors of texts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OllamaEmbeddings {
    /// The model, as the request named it.
    model: String,
    /// In the order of the texts.
    embeddings: Vec<Vec<f32>>,
    /// From the request's arrival to its end, in nanoseconds.
    total_duration: u64,
    /// Until the model was loaded, in nanoseconds.
    load_duration: u64,
    /// Tokens that the model read, special ones included.
    prompt_eval_count: usize,
}

/// The vector of one text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OllamaEmbedding {
    embedding: Vec<f32>,
}

/// Gives vectors of texts.
#[utoipa::path(post, path = "/api/embed", operation_id = "ollama_embed", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaEmbedRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The vectors.", body = OllamaEmbeddings),
        (status = 400, description = "The request is wrong, or the model makes no embeddings; the message names the field.", body = ErrorLine),
        (status = 404, description = "There is no model of this name.", body = ErrorLine),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorLine)))]
pub(super) async fn embed(
    State(menu): State<Arc<ModelMenu>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    request: Request,
) -> Result<Json<OllamaEmbeddings>, ApiError> {
    let asked = Instant::now();
    let (model, computed) = answer(&menu, &streams, &caller, request, fields::EMBED, "input").await?;
    let Vectors { vectors: mut embeddings, tokens, load } = computed;
    embeddings.iter_mut().for_each(|vector| normalise(vector));
    Ok(Json(OllamaEmbeddings {
        model,
        embeddings,
        total_duration: nanoseconds(asked.elapsed()),
        load_duration: nanoseconds(load),
        prompt_eval_count: tokens,
    }))
}

/// Gives the vector of one text, in the older shape.
#[utoipa::path(post, path = "/api/embeddings", operation_id = "ollama_embeddings", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaEmbeddingsRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The vector.", body = OllamaEmbedding),
        (status = 400, description = "The request is wrong, or the model makes no embeddings; the message names the field.", body = ErrorLine),
        (status = 404, description = "There is no model of this name.", body = ErrorLine),
        (status = 429, description = "Too many requests; `Retry-After` says when to come again.", body = ErrorLine)))]
pub(super) async fn embeddings(
    State(menu): State<Arc<ModelMenu>>,
    State(streams): State<StreamLimit>,
    caller: Caller,
    request: Request,
) -> Result<Json<OllamaEmbedding>, ApiError> {
    let (_, mut computed) = answer(&menu, &streams, &caller, request, fields::EMBEDDINGS, "prompt").await?;
    Ok(Json(OllamaEmbedding { embedding: computed.vectors.pop().unwrap_or_default() }))
}

/// The model that the request names, as it names it, and the vectors of the texts in `field`.
async fn answer(
    menu: &Arc<ModelMenu>,
    streams: &StreamLimit,
    caller: &Caller,
    request: Request,
    table: &'static [&'static [Field]],
    field: &'static str,
) -> Result<(String, Vectors), ApiError> {
    let (model, wanted) = body::read(request, move |body| read(table, field, body)).await?;
    let name = names::find_encoder(menu, &model).await?;
    let computed = vectors(menu.embedder(&name, caller), streams, &caller.owner, wanted).await?;
    Ok((model, computed))
}

/// The model's name, and the texts in `field`.
fn read(table: &[&'static [Field]], field: &'static str, body: &Value) -> Result<(String, Wanted), ApiError> {
    let fields = check(table, body)?;
    let model = fields.text("model").unwrap_or_default().to_owned();
    let (inputs, is_list) = fields.get(field).map(|node| read_texts(&node)).transpose()?.unwrap_or_default();
    let dimensions = fields.count("dimensions");
    Ok((model, Wanted { inputs, field, is_list, dimensions, prompt: None }))
}

/// Divides a vector by its length, as Ollama does for every model. One of unit length keeps its bits, and one of zeros is left as it is.
fn normalise(vector: &mut [f32]) {
    const TOLERANCE: f64 = 1e-5;
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() && (length - 1.0).abs() > TOLERANCE {
        for value in vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
}

/// The texts, and whether they are a list. An empty text that stands alone is no text, as for Ollama, whose clients load a model so.
fn read_texts(node: &Node<'_>) -> Result<(Vec<EmbedInput>, bool), ApiError> {
    if node.value.as_str() == Some("") {
        return Ok((Vec::new(), false));
    }
    let read = |node: &Node<'_>| node.text().map(|text| EmbedInput::Text(text.to_owned()));
    let Value::Array(items) = node.value else { return Ok((vec![read(node)?], false)) };
    if items.len() > limits::EMBEDDINGS {
        let most = limits::EMBEDDINGS;
        return Err(node.error(format!("must hold at most {most} texts, not {}", items.len())));
    }
    Ok((node.list()?.map(|item| read(&item)).collect::<Result<_, ApiError>>()?, true))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn input_schema() -> Value {
    let text = json!({ "type": "string" });
    json!({ "anyOf": [text, { "type": "array", "items": text, "maxItems": limits::EMBEDDINGS }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: vectors of models that do not make them of unit length were given as they are, unlike Ollama's.
    #[test]
    fn vectors_are_of_unit_length() {
        let of = |mut vector: Vec<f32>| {
            normalise(&mut vector);
            vector
        };
        assert_eq!(of(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(of(vec![0.6, 0.8]), [0.6, 0.8]);
        assert_eq!(of(vec![0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(of(Vec::new()), [0.0; 0]);
    }
}
