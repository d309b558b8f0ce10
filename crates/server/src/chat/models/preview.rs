//! What an improvement would learn from now, counted before it is begun.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zhenjin_improve::{Collected, Limits, Method, TooFew, collect};
use zhenjin_store::Store;

use super::improvements::ImprovementDataJson;
use super::menu::ModelMenu;
use crate::blocking::blocking;
use crate::chat::extract::ApiQuery;
use crate::errors::{ApiError, ErrorBody};
use crate::judged::judged;

/// Which improvement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wished {
    /// The model. By default, the one that answers where nobody names one.
    model: Option<String>,
    /// `dpo`, `kto` or `sft`. By default, what the judgements allow.
    method: Option<String>,
}

/// What an improvement would learn from now.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ImprovementPreview)]
pub(crate) struct PreviewJson {
    /// The model.
    model: String,
    /// `dpo`, `kto` or `sft`.
    method: String,
    /// Whether that is enough to begin.
    enough: bool,
    /// The fewest examples to learn from.
    least_train: usize,
    /// First questions of which judgements would be held out.
    held_out_questions: usize,
    /// The fewest of them.
    least_held_out: usize,
    /// What would count, and what not.
    data: ImprovementDataJson,
}

/// Counts what an improvement would learn from, and what it would leave out: nobody's words are in it.
#[utoipa::path(get, path = "/api/improvements/preview", operation_id = "preview_improvement", tag = "improvements", params(Wished), responses(
    (status = 200, description = "The counts.", body = PreviewJson),
    (status = 400, description = "A parameter is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such model.", body = ErrorBody)))]
pub(crate) async fn preview(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    ApiQuery(wished): ApiQuery<Wished>,
) -> Result<Json<PreviewJson>, ApiError> {
    let method = wished.method.map(|word| word.parse::<Method>()).transpose();
    let method = method.map_err(|problem| ApiError::invalid("method", problem))?;
    let model = wished.model.or_else(|| menu.default_model()).unwrap_or_default();
    menu.expect_improvable(&model)?;
    let said = store.training_feedback().await?;
    blocking(move || {
        let limits = Limits::default();
        let rows: Vec<_> = said.into_iter().map(judged).collect();
        Ok(Json(PreviewJson::of(collect(&rows, &model, method, &limits), model, &limits)))
    })
    .await
}

impl PreviewJson {
    fn of(collected: Collected, model: String, limits: &Limits) -> PreviewJson {
        let enough = collected.is_ok();
        let (method, held_out_questions, counts) = match collected {
            Ok(collection) => (collection.method, collection.held_out_units(), collection.counts),
            Err(TooFew { method, held_out_units, counts, .. }) => (method, held_out_units, *counts),
        };
        PreviewJson {
            model,
            method: method.to_string(),
            enough,
            least_train: limits.least_train,
            held_out_questions,
            least_held_out: limits.least_held_out,
            data: counts.into(),
        }
    }
}
