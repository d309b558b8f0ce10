//! Improvements over HTTP: their records, beginning one in a program of its own, and promoting what passed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use zhenjin_promotions::{
    Criterion, DataCounts, Improvement, ImprovementState, Improvements, LeftOut, Maker, Promoted,
    PromotionError, Running,
};
use zhenjin_store::Store;

use super::menu::ModelMenu;
use super::program::{Begun, Forget};
use super::promotions::{PromotionJson, now, promotion_fault};
use crate::blocking::{blocking, detached};
use crate::body::{ApiJson, OptionalJson};
use crate::chat::extract::ApiPath;
use crate::chat::fields::{self, ImprovementBody, ImprovementPromotionBody};
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::shutdown::Shutdown;

/// All improvements, and what answers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Improvements)]
pub(crate) struct ImprovementsJson {
    /// The one that is being made.
    #[schema(required)]
    running: Option<RunningJson>,
    /// All, the newest first.
    improvements: Vec<ImprovementJson>,
    /// What answers under the names of models that had a promotion.
    promotions: Vec<PromotionJson>,
}

/// An improvement that is being made.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = RunningImprovement)]
pub(crate) struct RunningJson {
    /// Its name.
    id: String,
    /// The model.
    model: String,
    /// `collecting`, `reference` (how probable the model itself finds the examples is computed), `training` or `judging`.
    phase: String,
    /// Steps of the phase that are made, where they are counted; of `reference`, examples.
    #[schema(required)]
    step: Option<u64>,
    /// Its steps.
    #[schema(required)]
    steps: Option<u64>,
    /// About how many seconds the phase takes from now on; null where that is not known.
    seconds_left: Option<u64>,
    /// Milliseconds since 1970 (UTC).
    started_at: i64,
}

/// An improvement's record.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Improvement)]
pub(crate) struct ImprovementJson {
    /// Its name.
    id: String,
    /// The model that it is for.
    model: String,
    /// `dpo`, `kto` or `sft`; empty until it is chosen.
    method: String,
    /// Milliseconds since 1970 (UTC).
    created_at: i64,
    /// When it ended.
    #[schema(required)]
    finished_at: Option<i64>,
    /// `running`, `interrupted` (it goes on when the same is asked for again), `failed`, `refused` by the gate, or `passed`.
    state: &'static str,
    /// Why it failed.
    #[schema(required)]
    error: Option<String>,
    /// Whether it answers now.
    promoted: bool,
    /// What answered for the model when it was measured, with which it was compared: the id of a promotion, or `base` for the model's own weights.
    /// Null before it was measured, and where an earlier version measured it.
    #[schema(required)]
    compared_with: Option<String>,
    /// Whether something else answers now than what it was compared with: nothing was measured against that.
    compared_with_other: bool,
    /// What it learned from.
    data: ImprovementDataJson,
    /// What was measured.
    gate: Vec<CriterionJson>,
}

/// What an improvement learned from, counted.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ImprovementData)]
pub(crate) struct ImprovementDataJson {
    /// Choices between two answers.
    pairs: usize,
    /// Thumbs.
    ratings: usize,
    /// Corrected answers.
    corrections: usize,
    /// Examples that were learned from.
    train: usize,
    /// Examples that were only measured.
    held_out: usize,
    /// Conversations that they come from.
    conversations: usize,
    /// People that they come from.
    owners: usize,
    /// What was not used.
    left_out: Vec<LeftOutJson>,
}

impl From<DataCounts> for ImprovementDataJson {
    fn from(counts: DataCounts) -> ImprovementDataJson {
        let left_out = |LeftOut { reason, count }| LeftOutJson { reason, count };
        ImprovementDataJson {
            pairs: counts.pairs,
            ratings: counts.ratings,
            corrections: counts.corrections,
            train: counts.train,
            held_out: counts.held_out,
            conversations: counts.conversations,
            owners: counts.owners,
            left_out: counts.left_out.into_iter().map(left_out).collect(),
        }
    }
}

/// Judgements that were not used.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = LeftOut)]
pub(crate) struct LeftOutJson {
    /// Why.
    reason: String,
    /// How many.
    count: usize,
}

/// One criterion of the gate.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Criterion)]
pub(crate) struct CriterionJson {
    /// Its name.
    name: String,
    /// What was measured; null if it could not be.
    #[schema(required)]
    value: Option<f64>,
    /// The same of what answered then.
    #[schema(required)]
    base: Option<f64>,
    /// The lower end of the 95 % interval.
    #[schema(required)]
    lower: Option<f64>,
    /// The upper end of it.
    #[schema(required)]
    upper: Option<f64>,
    /// What had to be reached.
    limit: f64,
    /// Examples that it was measured on.
    examples: usize,
    /// Null if it could not be measured, or decides nothing: then `value` is there.
    #[schema(required)]
    passed: Option<bool>,
    /// What a reader should know.
    #[schema(required)]
    note: Option<String>,
}

/// An improvement that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct BegunImprovement {
    /// Its name.
    id: String,
}

/// Lists improvements, the one that is being made, and what answers.
#[utoipa::path(get, path = "/api/improvements", operation_id = "list_improvements", tag = "improvements",
    responses((status = 200, description = "The improvements.", body = ImprovementsJson)))]
pub(crate) async fn list(State(menu): State<Arc<ModelMenu>>) -> Result<Json<ImprovementsJson>, ApiError> {
    blocking(move || menu.improvements()).await.map(Json)
}

/// Begins an improvement: a program of its own learns from what people judged, and measures whether that made the model better. One
/// that was interrupted goes on.
#[utoipa::path(post, path = "/api/improvements", operation_id = "improve", tag = "improvements", request_body = ImprovementBody, responses(
    (status = 202, description = "It is under way.", body = BegunImprovement),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such model.", body = ErrorBody),
    (status = 409, description = "One is under way already, or whole weights are promoted for the model.", body = ErrorBody)))]
pub(crate) async fn begin(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    State(shutdown): State<Shutdown>,
    ApiJson(body): ApiJson<Value>,
) -> Result<(StatusCode, Json<BegunImprovement>), ApiError> {
    if shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let fields = check(fields::IMPROVEMENT, &body)?;
    let model = fields.text("model").map(str::to_owned);
    let method = fields.text("method").map(str::to_owned);
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    let runtime = tokio::runtime::Handle::current();
    let forget: Forget = Box::new(move |id| {
        if let Err(error) = runtime.block_on(store.forget_training(id)) {
            tracing::error!(improvement = %id, %error, "it still counts as one that learned from judgements");
        }
    });
    let id = blocking(move || {
        let _turn = turn;
        // It may have waited for its turn for long.
        if shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        menu.begin_improvement(model, method.as_deref(), forget)
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(BegunImprovement { id })))
}

/// Ends the improvement that is being made. What it has computed is kept: the same asked for again goes on there.
#[utoipa::path(delete, path = "/api/improvements/{id}", operation_id = "stop_improvement", tag = "improvements",
    params(("id" = String, Path)), responses(
    (status = 204, description = "It has ended."),
    (status = 404, description = "This server makes no such improvement now.", body = ErrorBody),
    (status = 409, description = "A program that no server started makes it.", body = ErrorBody)))]
pub(crate) async fn stop(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let (improvement, improvements) = (Arc::clone(&menu.improvement), menu.library.improvements.clone());
    blocking(move || if improvement.stop(Some(&id)) { Ok(()) } else { stop_left(&improvements, &id) })
        .await?;
    // What was withdrawn while it ran does not wait in its folder for it to go on.
    menu.forget_withdrawn(&store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the program that makes the improvement `id` for a server that was killed.
fn stop_left(improvements: &Improvements, id: &str) -> Result<(), ApiError> {
    let maker = improvements.maker();
    let for_server = maker.as_ref().and_then(|maker| maker.for_server.as_deref());
    if let Some(maker) = maker.as_ref().filter(|_| for_server == Some(id)) {
        return end_left(improvements, maker, id);
    }
    let is_running = |record: &Improvement| record.state == ImprovementState::Running;
    let may_make_it = for_server.is_none() && improvements.is_running();
    if may_make_it && improvements.read(id).as_ref().is_ok_and(is_running) {
        let process = maker.map(|maker| maker.process);
        let (which, how) = match process {
            Some(process) => (format!("the process {process}"), format!("`kill {process}`")),
            None => ("a program".to_owned(), "SIGTERM".to_owned()),
        };
        let message = format!(
            "the improvement `{id}` is made by {which}, which no server started: end it ({how}); the improvement goes on when it is asked for again"
        );
        return Err(ApiError::conflict(message).with_param("id").with_code("made_elsewhere"));
    }
    Err(ApiError::not_found(format!("the improvement `{id}` is not being made by this server"))
        .with_param("id")
        .with_code("improvement_not_found"))
}

/// Ends a program that makes the improvement `id` for a server that was killed, as this server's own is ended.
fn end_left(improvements: &Improvements, maker: &Maker, id: &str) -> Result<(), ApiError> {
    improvements.end_maker(maker).map_err(|error| {
        tracing::error!(improvement = %id, process = maker.process, %error, "an earlier server's program could not be ended");
        ApiError::internal(format!(
            "the process {} makes the improvement `{id}` and could not be ended; the server's log says more",
            maker.process
        ))
    })?;
    tracing::info!(improvement = %id, process = maker.process, "an earlier server's program was ended");
    improvements.forget_unbegun(id).map_err(promotion_fault)
}

/// Gives an interrupted improvement up: its copies of what people wrote, what it had computed and the note of what it learned from go, and its
/// record says so.
#[utoipa::path(post, path = "/api/improvements/{id}/discard", operation_id = "discard_improvement", tag = "improvements",
    params(("id" = String, Path)), responses(
    (status = 204, description = "It does not go on any more."),
    (status = 404, description = "There is no such improvement.", body = ErrorBody),
    (status = 409, description = "An improvement is under way, or it has ended: then nothing of what people wrote is left of it.", body = ErrorBody)))]
pub(crate) async fn discard(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    // A client that goes away leaves it whole.
    detached(async move {
        // Nobody begins it again meanwhile.
        let _turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
        let (for_menu, named) = (Arc::clone(&menu), id.clone());
        let (making, mut record) = blocking(move || for_menu.begin_discard(&named)).await?;
        // The note after what it is about, and the record last: what is left after a crash in between may still go on, and is discarded again.
        store.forget_training(&id).await?;
        let improvements = menu.library.improvements.clone();
        blocking(move || improvements.end_discarded(&making, &mut record, now()).map_err(promotion_fault))
            .await?;
        tracing::info!(improvement = %id, "discarded");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Lets an improvement that passed its gate answer, from the next request on.
#[utoipa::path(post, path = "/api/improvements/{id}/promote", operation_id = "promote_improvement", tag = "improvements",
    params(("id" = String, Path)), request_body = Option<ImprovementPromotionBody>, responses(
    (status = 200, description = "What answers now.", body = PromotionJson),
    (status = 400, description = "A field is wrong.", body = ErrorBody),
    (status = 404, description = "There is no such improvement or model.", body = ErrorBody),
    (status = 409, description = "It did not pass, or something else answers by now than what it was compared with.", body = ErrorBody)))]
pub(crate) async fn promote(
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
    OptionalJson(body): OptionalJson,
) -> Result<Json<PromotionJson>, ApiError> {
    let body = if body.is_null() { json!({}) } else { body };
    let force = check(fields::IMPROVEMENT_PROMOTION, &body)?.boolean("force").unwrap_or(false);
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        let improvements = &menu.library.improvements;
        let record = improvements.read(&id).map_err(promotion_fault)?;
        if record.state != ImprovementState::Passed {
            let message = format!("the improvement `{id}` did not pass its gate, so it is not promoted");
            return Err(ApiError::conflict(message));
        }
        if !force {
            let now = menu.library.promotions.answering(&record.model).map_err(promotion_fault)?;
            record.expect_compared_with(now.as_ref()).map_err(promotion_fault)?;
        }
        let source = improvements.adapter_of(&id).map_err(promotion_fault)?;
        menu.promote(&record.model, &source, record.origin())
    })
    .await
    .map(Json)
}

impl ModelMenu {
    fn improvements(&self) -> Result<ImprovementsJson, ApiError> {
        let improvements = &self.library.improvements;
        // Before the records are read: one that ends meanwhile has left its record by then.
        let begun = self.improvement.begun();
        let mut records = improvements.list().map_err(promotion_fault)?;
        // The program needs a moment until its record is there; whoever asked for it finds it at once.
        let unrecorded = begun.as_ref().filter(|begun| records.iter().all(|record| record.id != begun.id));
        if let Some(record) = unrecorded.map(Begun::record) {
            records.insert(0, record);
        }
        let is_running = begun.is_none() && improvements.is_running();
        // Of a server that was killed. A program that a person started does not say which one it makes.
        let left = if is_running { improvements.maker().and_then(|maker| maker.for_server) } else { None };
        let is_made = |record: &&Improvement| match &begun {
            Some(begun) => record.id == begun.id,
            None => {
                let may_be = is_running && record.state == ImprovementState::Running;
                may_be && left.as_ref().is_none_or(|left| record.id == *left)
            }
        };
        let running = records.iter().find(is_made).map(|record| {
            let progress = improvements.progress(&record.id);
            RunningJson {
                id: record.id.clone(),
                model: record.model.clone(),
                phase: progress.as_ref().map_or_else(|| "collecting".to_owned(), |at| at.phase.clone()),
                step: progress.as_ref().and_then(|at| at.step),
                steps: progress.as_ref().and_then(|at| at.steps),
                seconds_left: progress.and_then(|at| at.seconds_left),
                started_at: record.created_at,
            }
        });
        let list = self.library.promotions.read().map_err(promotion_fault)?;
        let answers = |id: &str| {
            let mut answering = list.values().filter_map(|of_model| of_model.now.as_ref());
            answering.any(|now| now.origin.improvement.as_deref() == Some(id))
        };
        let improvements = records.into_iter().map(|record| {
            let promoted = answers(&record.id);
            let now = list.get(&record.model).and_then(|of_model| of_model.now.as_ref());
            let is_this = running.as_ref().is_some_and(|running| running.id == record.id);
            ImprovementJson::of(record, promoted, now, is_this)
        });
        let improvements = improvements.collect();
        Ok(ImprovementsJson { improvements, running, promotions: PromotionJson::all_of(list) })
    }

    /// Ends the program that makes an improvement as this server ends, one of a server that was killed too.
    pub(crate) fn end_improvement(&self) {
        if self.improvement.stop(None) {
            return;
        }
        let improvements = &self.library.improvements;
        if let Some(maker) = improvements.maker()
            && let Some(id) = &maker.for_server
            && let Err(error) = end_left(improvements, &maker, id)
        {
            tracing::warn!(improvement = %id, %error, "it goes on without a server");
        }
    }

    /// Removes what an interrupted improvement has copied and computed. Its record still says that it may go on.
    fn begin_discard(&self, id: &str) -> Result<(Running, Improvement), ApiError> {
        let improvements = &self.library.improvements;
        // A program that was just begun needs a moment until others can see that it runs.
        if self.improvement.begun().is_some() {
            return Err(promotion_fault(PromotionError::Busy));
        }
        let making = improvements.begin().map_err(promotion_fault)?;
        let record = improvements.read(id).map_err(promotion_fault)?;
        if record.state != ImprovementState::Running {
            let message = format!(
                "the improvement `{id}` has ended: nothing of what people wrote is left of it, and only one that was interrupted is discarded"
            );
            return Err(ApiError::conflict(message).with_param("id"));
        }
        improvements.forget_all(id).map_err(promotion_fault)?;
        Ok((making, record))
    }

    fn begin_improvement(
        &self,
        model: Option<String>,
        method: Option<&str>,
        forget: Forget,
    ) -> Result<String, ApiError> {
        let Some(command) = &self.library.improve else {
            return Err(ApiError::conflict("this server was started without a way to make improvements"));
        };
        let model = model.or_else(|| self.default_model()).unwrap_or_default();
        self.expect_improvable(&model)?;
        let improvements = &self.library.improvements;
        // A program that was just begun needs a moment until others can see that it runs.
        if self.improvement.begun().is_some() {
            return Err(promotion_fault(PromotionError::Busy));
        }
        let making = improvements.try_begin().map_err(promotion_fault)?;
        improvements.forget_all_unbegun(&making).map_err(promotion_fault)?;
        // The program takes it.
        drop(making);
        let id = improvements.next_id(&model, method, now()).map_err(promotion_fault)?;
        let begun = Begun { id: id.clone(), model, method: method.map(str::to_owned), at: now() };
        self.improvement.start(command, improvements, begun, forget)?;
        Ok(id)
    }
}

impl ImprovementJson {
    /// Of a record; `now` is what answers for its model in the place of the model's own weights.
    fn of(record: Improvement, promoted: bool, now: Option<&Promoted>, is_running: bool) -> ImprovementJson {
        let criterion = |criterion: Criterion| {
            let Criterion { name, value, base, lower, upper, limit, examples, passed, note } = criterion;
            CriterionJson { name, value, base, lower, upper, limit, examples, passed, note }
        };
        ImprovementJson {
            promoted,
            compared_with_other: record.was_compared_with_other(now).is_some(),
            id: record.id,
            model: record.model,
            method: record.method,
            created_at: record.created_at,
            finished_at: record.finished_at,
            state: match record.state {
                ImprovementState::Running if is_running => "running",
                ImprovementState::Running => "interrupted",
                ImprovementState::Failed => "failed",
                ImprovementState::Refused => "refused",
                ImprovementState::Passed => "passed",
            },
            error: record.error,
            compared_with: record.compared_with,
            data: record.data.into(),
            gate: record.gate.into_iter().map(criterion).collect(),
        }
    }
}
