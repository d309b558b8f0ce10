//! For operators: health, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::{AssistantError, ServedModels};

use crate::chat::ApiQuery;
use crate::errors::{ApiError, ErrorBody};
use crate::json;
use crate::metrics::Metrics;
use crate::openai::fault;
use crate::shutdown::Shutdown;

/// Interval at which the models' speed is measured.
const UPKEEP: Duration = Duration::from_secs(2);

/// The routes for whoever operates the server.
pub(crate) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Shutdown: FromRef<S>,
    Metrics: FromRef<S>,
    Arc<ServedModels>: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(health))
        .routes(routes!(readyz))
        .routes(routes!(version))
        .routes(routes!(props))
        .routes(routes!(metrics))
}

#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// The program's version.
    version: &'static str,
}

impl Health {
    const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "It does.", body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health::OK)
}

/// Whether the process answers at all; the name that other servers use.
#[utoipa::path(get, path = "/health", tag = "operations",
    responses((status = 200, description = "It does.", body = Health)))]
async fn health() -> Json<Health> {
    healthz().await
}

#[derive(Serialize, ToSchema)]
struct Version {
    version: &'static str,
}

/// The program's version.
#[utoipa::path(get, path = "/version", tag = "operations",
    responses((status = 200, description = "It.", body = Version)))]
async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// How a model is served, under llama.cpp's names.
#[derive(Serialize, ToSchema)]
struct Properties {
    default_generation_settings: DefaultSettings,
    /// Requests that the model works on at the same time.
    total_slots: usize,
    /// The model's name.
    model_alias: String,
    /// The program and its version.
    build_info: String,
    modalities: Modalities,
}

#[derive(Serialize, ToSchema)]
struct DefaultSettings {
    /// The most tokens that prompt and answer may have together; null while the model is not loaded.
    n_ctx: Option<usize>,
    /// How tokens are chosen where a request says nothing; null while the model is not loaded.
    params: Option<DefaultSampling>,
}

#[derive(Serialize, ToSchema)]
struct DefaultSampling {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    repeat_penalty: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
}

#[derive(Serialize, ToSchema)]
struct Modalities {
    vision: bool,
    audio: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfModel {
    /// The model's name [default: the first one served].
    model: Option<String>,
}

/// How a model is served.
#[utoipa::path(get, path = "/props", tag = "operations", params(OfModel), responses(
    (status = 200, description = "So.", body = Properties),
    (status = 404, description = "No model of this name is served.", body = ErrorBody)))]
async fn props(
    State(models): State<Arc<ServedModels>>,
    ApiQuery(of): ApiQuery<OfModel>,
) -> Result<Json<Properties>, ApiError> {
    let served: Vec<String> = models.list().into_iter().map(|model| model.name).collect();
    let name = match &of.model {
        Some(name) => served.iter().find(|known| *known == name),
        None => served.first(),
    };
    let Some(name) = name.cloned() else {
        let name = of.model.unwrap_or_default();
        return Err(fault(AssistantError::UnknownModel { name, known: served }));
    };
    let loaded = models.loaded(&name);
    let params = loaded.as_ref().map(|assistant| {
        let sampling = assistant.default_sampling();
        DefaultSampling {
            temperature: json::number(sampling.temperature),
            top_k: sampling.top_k,
            top_p: json::number(sampling.top_p),
            min_p: json::number(sampling.min_p),
            repeat_penalty: json::number(sampling.repetition_penalty),
            presence_penalty: json::number(sampling.presence_penalty),
            frequency_penalty: json::number(sampling.frequency_penalty),
        }
    });
    let n_ctx = loaded.map(|assistant| assistant.info().context_length);
    Ok(Json(Properties {
        default_generation_settings: DefaultSettings { n_ctx, params },
        total_slots: models.options().max_batch,
        model_alias: name,
        build_info: concat!("zhenjin ", env!("CARGO_PKG_VERSION")).to_owned(),
        modalities: Modalities { vision: false, audio: false },
    }))
}

/// Whether new requests are taken.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "They are.", body = Health),
    (status = 503, description = "The server was told to stop, and its last answers end.", body = ErrorBody)))]
async fn readyz(State(shutdown): State<Shutdown>) -> Result<Json<Health>, ApiError> {
    if shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    Ok(Json(Health::OK))
}

/// What the server counts, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Counters, gauges and histograms.", body = String, content_type = "text/plain")))]
async fn metrics(
    State(metrics): State<Metrics>,
    State(models): State<Arc<ServedModels>>,
) -> impl IntoResponse {
    for model in models.list().into_iter().filter(|model| model.base.is_none()) {
        metrics.model_state(&model.name, model.stats.as_ref());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}

/// Updates the metrics that are rates, at an interval, for as long as the server runs.
pub(crate) async fn keep_up(metrics: Metrics, models: Arc<ServedModels>) {
    let mut seen: BTreeMap<String, (Instant, u64)> = BTreeMap::new();
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.fold();
        for model in models.list().into_iter().filter(|model| model.base.is_none()) {
            let (now, tokens) = (Instant::now(), model.stats.map_or(0, |stats| stats.decode_tokens));
            if let Some((before, earlier)) = seen.insert(model.name.clone(), (now, tokens)) {
                // A model that was loaded anew counts from 0 again.
                let generated = tokens.saturating_sub(earlier) as f64;
                metrics.model_speed(&model.name, generated / (now - before).as_secs_f64());
            }
        }
    }
}
