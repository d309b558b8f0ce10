//! The models on this machine and those in memory, in Ollama's words; removing one; the version.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use zhenjin_assistant::ModelState;

use super::wire::{
    OllamaDetails, OllamaModel, OllamaModels, OllamaRunningModel, OllamaRunningModels, OllamaVersion, written,
};
use super::{ErrorLine, SPOKEN_VERSION, body, fields, names};
use crate::blocking::blocking;
use crate::chat::{Description, KnownModel, ModelMenu, remove_model};
use crate::errors::ApiError;
use crate::openai::fields::{Field, check};

/// When a model that stays until its memory is needed would be unloaded.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// Lists the models that requests can name.
#[utoipa::path(get, path = "/api/tags", operation_id = "ollama_tags", tag = "ollama",
    responses((status = 200, description = "The models.", body = OllamaModels)))]
pub(super) async fn tags(State(menu): State<Arc<ModelMenu>>) -> Result<Json<OllamaModels>, ApiError> {
    blocking(move || {
        let models = menu.known_models()?.into_iter().map(|model| OllamaModel {
            modified_at: modified_at(&model),
            size: size(&model),
            digest: digest(&model),
            details: details(&menu, &model),
            model: model.name.clone(),
            name: model.name,
        });
        Ok(Json(OllamaModels { models: models.collect() }))
    })
    .await
}

/// Lists the models in memory.
#[utoipa::path(get, path = "/api/ps", operation_id = "ollama_ps", tag = "ollama",
    responses((status = 200, description = "The models.", body = OllamaRunningModels)))]
pub(super) async fn ps(State(menu): State<Arc<ModelMenu>>) -> Result<Json<OllamaRunningModels>, ApiError> {
    blocking(move || {
        let mut models = Vec::new();
        for model in menu.known_models()? {
            let Some(served) = model.served.as_ref().filter(|served| served.state == ModelState::Loaded)
            else {
                continue;
            };
            models.push(OllamaRunningModel {
                name: model.name.clone(),
                model: model.name.clone(),
                size: served.memory_bytes.unwrap_or(0),
                digest: digest(&model),
                details: details(&menu, &model),
                expires_at: served
                    .expires_at
                    .map_or_else(|| NEVER.to_owned(), |at| written(OffsetDateTime::from(at))),
                size_vram: 0,
                context_length: served.context_length.unwrap_or(0),
            });
        }
        Ok(Json(OllamaRunningModels { models }))
    })
    .await
}

/// Removes a model's files from this machine.
#[utoipa::path(delete, path = "/api/delete", operation_id = "ollama_delete", tag = "ollama",
    request_body(content = ref("#/components/schemas/OllamaDeleteRequest"), content_type = "application/json"),
    responses(
        (status = 200, description = "They are gone."),
        (status = 400, description = "The model lies outside the model folder, where nothing is deleted.", body = ErrorLine),
        (status = 404, description = "The model is not on this machine.", body = ErrorLine),
        (status = 409, description = "It is in use, or being downloaded.", body = ErrorLine)))]
pub(super) async fn delete(
    State(menu): State<Arc<ModelMenu>>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let name = body::read(request, |body| read_name(fields::DELETE, body)).await?;
    let name = names::find(&menu, &name).await?;
    blocking(move || remove_model(&menu, &name)).await?;
    Ok(StatusCode::OK)
}

/// The version of Ollama's API that is spoken here.
#[utoipa::path(get, path = "/api/version", operation_id = "ollama_version", tag = "ollama",
    responses((status = 200, description = "The versions.", body = OllamaVersion)))]
pub(super) async fn version() -> Json<OllamaVersion> {
    Json(OllamaVersion { version: SPOKEN_VERSION, zhenjin: env!("CARGO_PKG_VERSION") })
}

/// The model that a body names by `model`, or by the older `name`.
pub(super) fn read_name(table: &[&'static [Field]], body: &Value) -> Result<String, ApiError> {
    let fields = check(table, body)?;
    match (fields.text("model"), fields.text("name")) {
        (Some(newer), Some(older)) if newer != older => {
            Err(ApiError::invalid("name", "`model` and `name` are two names of one thing: send one of them"))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name.to_owned()),
        (None, None) => {
            Err(ApiError::invalid("model", "`model` is missing").with_code("missing_required_parameter"))
        }
    }
}

pub(super) fn modified_at(model: &KnownModel) -> String {
    let modified = model.path.metadata().and_then(|metadata| metadata.modified()).ok();
    written(modified.map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from))
}

fn size(model: &KnownModel) -> u64 {
    let files = model.files.as_ref().map(|files| files.bytes);
    files.or_else(|| zhenjin_hub::bytes_at(&model.path).ok()).unwrap_or(0)
}

/// 64 hexadecimal digits that stand for the model's files, always: Ollama's program shows the first twelve and stops where there are fewer.
fn digest(model: &KnownModel) -> String {
    let manifest = model.files.as_ref().and_then(|files| files.manifest.as_ref());
    let Some(manifest) = manifest else { return digest_of_place(model) };
    let opened = manifest.files.iter().find(|file| file.file == manifest.open);
    match opened.map(|file| file.sha256.to_ascii_lowercase()).filter(|digest| is_digest(digest)) {
        Some(digest) => digest,
        // A folder of several files; their list names the digest of each.
        None => serde_json::to_vec(manifest).map_or_else(|_| digest_of_place(model), |list| digest_of(&list)),
    }
}

/// Of a model that was not downloaded here: what tells it from others without reading all of it.
fn digest_of_place(model: &KnownModel) -> String {
    let (size, modified) = (size(model), modified_at(model));
    let mut place = model.path.as_os_str().as_encoded_bytes().to_vec();
    place.extend(format!("\0{size}\0{modified}").bytes());
    digest_of(&place)
}

fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The files' description; of a model with an adapter, of the model alone.
pub(super) fn description(menu: &ModelMenu, model: &KnownModel) -> Option<Arc<Description>> {
    match model.served.as_ref().and_then(|served| served.base.as_deref()) {
        None => menu.description(&model.path),
        Some(base) => {
            let known = menu.known_models().ok()?;
            menu.description(&known.iter().find(|known| known.name == base)?.path)
        }
    }
}

pub(super) fn details(menu: &ModelMenu, model: &KnownModel) -> OllamaDetails {
    let Some(description) = description(menu, model) else { return OllamaDetails::default() };
    let base = model.served.as_ref().and_then(|served| served.base.clone());
    let entry = menu.catalogue().get(base.as_deref().unwrap_or(&model.name));
    OllamaDetails {
        parent_model: base.unwrap_or_default(),
        format: description.format.to_owned(),
        family: description.architecture.clone(),
        families: vec![description.architecture.clone()],
        parameter_size: count_in_words(description.parameters),
        quantization_level: entry
            .map_or_else(|| description.quantisation.clone(), |entry| entry.quantisation.clone()),
    }
}

/// A number of parameters as Ollama writes it: 134.52M, 7.6B.
fn count_in_words(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 {
        format!("{:.1}B", count / 1e9)
    } else if count >= 1e6 {
        format!("{:.2}M", count / 1e6)
    } else {
        format!("{:.2}K", count / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_as_ollama_writes_them() {
        assert_eq!(count_in_words(134_515_008), "134.52M");
        assert_eq!(count_in_words(7_615_616_512), "7.6B");
        assert_eq!(count_in_words(37_120), "37.12K");
    }
}
