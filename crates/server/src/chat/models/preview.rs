//! What an improvement would learn from now, counted before it is begun.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};
use zhenjin_improve::{Collected, Collection, Limits, Method, TooFew, collect};
use zhenjin_promotions::{Improvement, Improvements, News, Recipe, unsaid_settings};
use zhenjin_store::{Store, StoreError};

use super::improvements::ImprovementDataJson;
use super::menu::ModelMenu;
use super::promotions::promotion_fault;
use crate::blocking::blocking;
use crate::chat::extract::ApiQuery;
use crate::errors::{ApiError, ErrorBody};
use crate::judged::judged;

/// A preview holds the texts of all chats in which something was judged: those of one are in this program's memory at a time.
static TURN: Semaphore = Semaphore::const_new(1);

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
    /// The last improvement, if nothing was judged since that would make another one learn anything else: none is begun then.
    nothing_new_since: Option<String>,
    /// What would count, and what not.
    data: ImprovementDataJson,
}

/// Counts what an improvement would learn from, and what it would leave out: nobody's words are in it.
#[utoipa::path(get, path = "/api/improvements/preview", operation_id = "preview_improvement", tag = "improvements", params(Wished), responses(
    (status = 200, description = "The counts.", body = PreviewJson),
    (status = 400, description = "A parameter is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such model.", body = ErrorBody),
    (status = 409, description = "Whole weights are promoted for the model.", body = ErrorBody),
    (status = 503, description = "The database is busy; `Retry-After` says when to come again.", body = ErrorBody)))]
pub(crate) async fn preview(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    ApiQuery(wished): ApiQuery<Wished>,
) -> Result<Json<PreviewJson>, ApiError> {
    let method = wished.method.map(|word| word.parse::<Method>()).transpose();
    let method = method.map_err(|problem| ApiError::invalid("method", problem))?;
    let model = wished.model.or_else(|| menu.default_model()).unwrap_or_default();
    menu.expect_improvable(&model)?;
    let improvements = menu.library.improvements.clone();
    let count = move |said| {
        let limits = Limits::default();
        let collected = collect(&judged(said), &model, method, &limits);
        let nothing_new_since = match &collected {
            Ok(collection) => last_of_the_same(&improvements, &model, collection)?,
            Err(_) => None,
        };
        Ok(Json(PreviewJson { nothing_new_since, ..PreviewJson::of(collected, model, &limits) }))
    };
    in_turn(&TURN, store.training_feedback(), count).await
}

/// The name of the last improvement, if it learned from just this collection.
fn last_of_the_same(
    improvements: &Improvements,
    model: &str,
    collection: &Collection,
) -> Result<Option<String>, ApiError> {
    let Some(last) = improvements.last_judged(model).map_err(promotion_fault)? else { return Ok(None) };
    let recipe = Recipe { rows: collection.rows(), settings: unsaid_settings(), ..Recipe::default() };
    let wished = Improvement { recipe, ..Improvement::begun("", model, collection.method.as_str(), 0) };
    Ok(News::since(&last, &wished).is_none().then_some(last.id))
}

/// Reads something large, and computes with it, when it is its turn.
async fn in_turn<R: Send + 'static, T: Send + 'static>(
    turns: &'static Semaphore,
    read: impl Future<Output = Result<R, StoreError>>,
    work: impl FnOnce(R) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // Nobody closes it.
    let turn = turns.acquire().await.ok();
    let large = read.await?;
    blocking(move || {
        // Held until the work ends, also when its caller goes away meanwhile.
        let _turn = turn;
        work(large)
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
            nothing_new_since: None,
            data: counts.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use tokio::sync::oneshot;

    /// Lets what was spawned go until it waits.
    async fn settle() {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    /// Regression: every preview had all chats in memory at the same time as every other one.
    #[tokio::test]
    async fn a_preview_reads_nothing_before_the_last_one_has_ended() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = mpsc::channel::<()>();
        let work = move |number: u8| {
            begin.send(()).expect("the test listens");
            ended.recv().ok();
            Ok(number)
        };
        let first = tokio::spawn(in_turn(&TURNS, async { Ok(1) }, work));
        begun.await.expect("it works");
        let is_read = Arc::new(AtomicBool::new(false));
        let reads = Arc::clone(&is_read);
        let read = async move {
            reads.store(true, Ordering::SeqCst);
            Ok(2)
        };
        let second = tokio::spawn(in_turn(&TURNS, read, |number: u8| Ok(number)));
        settle().await;
        assert!(!is_read.load(Ordering::SeqCst));
        // The page that asked goes away, and the work goes on.
        first.abort();
        assert!(first.await.expect_err("its caller left").is_cancelled());
        settle().await;
        assert!(!is_read.load(Ordering::SeqCst), "its chats are still in memory");
        drop(end);
        assert_eq!(second.await.expect("no panic").expect("done"), 2);
        assert!(is_read.load(Ordering::SeqCst));
    }
}
