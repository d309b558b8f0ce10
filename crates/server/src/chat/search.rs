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

/// The most hits of one answer.
const HITS: u32 = 50;
/// The most hits that can be left out.
const LARGEST_OFFSET: u32 = 100_000;

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// Words, all of which must occur, in any script; words between quotation marks are one, and their spaces count. At most 2,000
    /// characters and 128 words.
    q: String,
    /// How many hits to leave out: those that are known already. 0 by default.
    #[param(maximum = 100_000)]
    offset: Option<u32>,
}

/// Titles and messages with all words of a query: titles first, then messages from new to old, 50 at a time. A title that is taken from the first question is none of them where that question is.
#[utoipa::path(get, path = "/api/search", operation_id = "search", tag = "chat", params(SearchQuery), responses(
    (status = 200, description = "What was found.", body = Vec<SearchHitJson>),
    (status = 400, description = "The query is missing or too long.", body = ErrorBody),
    (status = 503, description = "The database is busy; `Retry-After` says when to come again.", body = ErrorBody)))]
pub(crate) async fn search(
    State(store): State<Store>,
    caller: Caller,
    ApiQuery(query): ApiQuery<SearchQuery>,
) -> Result<Json<Vec<SearchHitJson>>, ApiError> {
    let offset = query.offset.unwrap_or(0);
    if offset > LARGEST_OFFSET {
        return Err(ApiError::invalid(
            "offset",
            format!("`offset` must be from 0 to {LARGEST_OFFSET}, not {offset}"),
        ));
    }
    let hits = store.search(&caller.owner, &query.q, offset, HITS).await?;
    Ok(Json(hits.into_iter().map(SearchHitJson::from).collect()))
}
