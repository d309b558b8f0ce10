//! `POST /api/show`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use zhenjin_assistant::PoolingMode;

use super::models::{description, details, modified_at, read_name};
use super::wire::OllamaModelCard;
use super::{ErrorLine, body, fields, names};
use crate::blocking::blocking;
use crate::chat::{Description, KnownModel, ModelMenu};
use crate::errors::ApiError;

/// Describes one model.
#[utoipa::path(post, path = "/api/show", operation_id = "ollama_show", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaShowRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "The model.", body = OllamaModelCard),
        (status = 400, description = "The request is wrong; the message names the field.", body = ErrorLine),
        (status = 404, description = "There is no model of this name.", body = ErrorLine)))]
pub(super) async fn show(
    State(menu): State<Arc<ModelMenu>>,
    request: Request,
) -> Result<Json<OllamaModelCard>, ApiError> {
    let name = body::read(request, |body| read_name(fields::SHOW, body)).await?;
    let name = names::find(&menu, &name).await?;
    blocking(move || {
        let model = menu.known_models()?.into_iter().find(|model| model.name == name);
        let model =
            model.ok_or_else(|| ApiError::not_found(format!("the model `{name}` was removed just now")))?;
        let described = description(&menu, &model).ok_or_else(|| {
            ApiError::internal(format!("the files of `{name}` cannot be read; the server's log says more"))
        })?;
        Ok(Json(card(&menu, &model, &described)))
    })
    .await
}

fn card(menu: &ModelMenu, model: &KnownModel, described: &Description) -> OllamaModelCard {
    let licence = menu.catalogue().get(&model.name).map(|entry| &entry.licence);
    let parameters = parameters(described);
    let mut modelfile = format!("FROM {}\n", model.name);
    for line in parameters.lines() {
        // Writing into a string cannot fail.
        let _ = writeln!(modelfile, "PARAMETER {line}");
    }
    let embeds = described.vectors.is_some();
    let capabilities = [
        ("completion", !embeds),
        ("tools", described.takes_tools),
        ("thinking", described.thinks),
        ("embedding", embeds),
    ];
    OllamaModelCard {
        license: licence.map(|licence| format!("{}\n{}", licence.name, licence.url)).unwrap_or_default(),
        modelfile,
        parameters,
        template: described.template.clone().unwrap_or_default(),
        details: details(menu, model),
        model_info: information(described),
        capabilities: capabilities.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect(),
        modified_at: modified_at(model),
    }
}

/// The makers' advice for sampling, under Ollama's names.
fn parameters(described: &Description) -> String {
    let advice = &described.sampling;
    let whole = advice.top_k.map(|count| count.to_string());
    let settings = [
        ("temperature", advice.temperature.map(|value| value.to_string())),
        ("top_p", advice.top_p.map(|value| value.to_string())),
        ("top_k", whole),
        ("min_p", advice.min_p.map(|value| value.to_string())),
        ("repeat_penalty", advice.repetition_penalty.map(|value| value.to_string())),
    ];
    let given = settings.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    given.collect::<Vec<String>>().join("\n")
}

fn information(described: &Description) -> Value {
    let architecture = &described.architecture;
    let mut values = Map::new();
    values.insert("general.architecture".to_owned(), json!(architecture));
    values.insert("general.parameter_count".to_owned(), json!(described.parameters));
    let mut insert = |name: &str, value: Value| values.insert(format!("{architecture}.{name}"), value);
    for (name, value) in [
        ("attention.head_count", described.heads),
        ("attention.head_count_kv", described.kv_heads),
        ("block_count", described.layers),
        ("context_length", described.context_length),
        ("embedding_length", described.hidden_size),
        ("feed_forward_length", described.intermediate_size),
        ("vocab_size", described.vocabulary),
    ] {
        insert(name, json!(value));
    }
    if let Some(vectors) = &described.vectors {
        insert("attention.causal", json!(vectors.is_causal));
        if let Some(number) = vectors.pooling.and_then(PoolingMode::gguf_number) {
            insert("pooling_type", json!(number));
        }
        // Where it is not the width of the hidden states, as behind a dense layer.
        if let Some(dimensions) = vectors.dimensions.filter(|width| *width != described.hidden_size) {
            insert("embedding_length_out", json!(dimensions));
        }
    }
    Value::Object(values)
}
