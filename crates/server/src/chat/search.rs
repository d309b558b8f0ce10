//! Full-text search over HTTP.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use zhenjin_store::Store;

use super::extract::ApiQuery;
use super::wire::SearchHitJson;
use crate::errors::{ApiError, ErrorBody};
use crate::security::Caller;

/// The most hits of one search.
const HITS: u32 = 50;

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words, all of which must occur, in any script; every character is taken as it is. At most 200 characters and 16 words.
    q: String,
}

/// Titles and messages with all words of a query: titles first, then messages from new to old, at most 50.
#[utoipa::path(get, path = "/api/search", operation_id = "search", tag = "chat", params(SearchQuery), responses(
    (status = 200, description = "What was found.", body = Vec<SearchHitJson>),
    (status = 400, description = "The query is missing or too long.", body = ErrorBody)))]
pub(crate) async fn search(
    State(store): State<Store>,
    caller: Caller,
    ApiQuery(query): ApiQuery<SearchQuery>,
) -> Result<Json<Vec<SearchHitJson>>, ApiError> {
    let hits = store.search(&caller.owner, &query.q, HITS).await?;
    Ok(Json(hits.into_iter().map(SearchHitJson::from).collect()))
}
