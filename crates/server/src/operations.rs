//! For operators: health, readiness and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::ServedModels;

use crate::errors::{ApiError, ErrorBody};
use crate::metrics::Metrics;
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
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
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

/// Whether new requests are taken.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "They are.", body = Health),
    (status = 503, description = "The server was told to stop.", body = ErrorBody)))]
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
