//! Improvements over HTTP: their records, beginning one in a program of its own, and promoting what passed.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_promotions::{
    Criterion, DataCounts, Improvement, ImprovementState, Improvements, LeftOut, PromotionError,
};
use zhenjin_store::Store;

use super::menu::ModelMenu;
use super::promotions::{PromotionJson, now, promotion_fault};
use crate::blocking::blocking;
use crate::body::ApiJson;
use crate::chat::extract::ApiPath;
use crate::chat::fields::{self, ImprovementBody};
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::shutdown::Shutdown;

/// Bytes of a broken program's error that its record keeps, about.
const LOG_BYTES: usize = 2000;

/// How the program says that it was asked to stop and has saved (EX_TEMPFAIL of sysexits.h): it goes on when it is asked for again.
const INTERRUPTED: i32 = 75;

/// Signals by which a program is ended from outside, for want of memory too: SIGHUP, SIGINT, SIGKILL and SIGTERM.
const ENDING: [i32; 4] = [1, 2, 9, 15];

/// Makes the command that makes an improvement, of its name, the model and the method, if one is named.
type MakeCommand = dyn Fn(&str, &str, Option<&str>) -> Command + Send + Sync;

/// Takes back that an improvement, by its name, learned from judgements.
type Forget = Box<dyn Fn(&str) + Send>;

/// How the program that makes an improvement is started.
#[derive(Clone)]
pub struct ImproveCommand(Arc<MakeCommand>);

impl ImproveCommand {
    /// Started by the command that `make` makes of the improvement's name, the model and the method, if one is named.
    pub fn new(make: impl Fn(&str, &str, Option<&str>) -> Command + Send + Sync + 'static) -> ImproveCommand {
        ImproveCommand(Arc::new(make))
    }
}

impl std::fmt::Debug for ImproveCommand {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ImproveCommand").finish_non_exhaustive()
    }
}

/// The program that makes an improvement, while it runs.
#[derive(Default)]
pub(crate) struct RunningImprovement(Mutex<Option<(Begun, Child)>>);

/// What was asked for.
#[derive(Clone)]
pub(crate) struct Begun {
    id: String,
    model: String,
    method: Option<String>,
    at: i64,
}

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
    /// `collecting`, `training` or `judging`.
    phase: String,
    /// Steps of the phase that are made, where they are counted.
    #[schema(required)]
    step: Option<u64>,
    /// Its steps.
    #[schema(required)]
    steps: Option<u64>,
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
    /// `dpo`, `kto` or `sft`.
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
    /// Null if it could not be measured.
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
    (status = 409, description = "Another program makes it.", body = ErrorBody)))]
pub(crate) async fn stop(
    State(store): State<Store>,
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let (improvement, improvements) = (Arc::clone(&menu.improvement), menu.library.improvements.clone());
    blocking(move || {
        if improvement.stop(Some(&id)) {
            return Ok(());
        }
        let is_running = |record: &Improvement| record.state == ImprovementState::Running;
        if improvements.is_running() && improvements.read(&id).as_ref().is_ok_and(is_running) {
            let message = format!(
                "the improvement `{id}` is made by a program that this server did not start, or started before it was started anew: end that program \
                 (SIGTERM); the improvement goes on when it is asked for again"
            );
            return Err(ApiError::conflict(message).with_param("id").with_code("made_elsewhere"));
        }
        Err(ApiError::not_found(format!("the improvement `{id}` is not being made by this server"))
            .with_param("id")
            .with_code("improvement_not_found"))
    })
    .await?;
    // What was withdrawn while it ran does not wait in its folder for it to go on.
    menu.forget_withdrawn(&store).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets an improvement that passed its gate answer, from the next request on.
#[utoipa::path(post, path = "/api/improvements/{id}/promote", operation_id = "promote_improvement", tag = "improvements",
    params(("id" = String, Path)), responses(
    (status = 200, description = "What answers now.", body = PromotionJson),
    (status = 404, description = "There is no such improvement or model.", body = ErrorBody),
    (status = 409, description = "It did not pass.", body = ErrorBody)))]
pub(crate) async fn promote(
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<PromotionJson>, ApiError> {
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        let improvements = &menu.library.improvements;
        let record = improvements.read(&id).map_err(promotion_fault)?;
        if record.state != ImprovementState::Passed {
            let message = format!("the improvement `{id}` did not pass its gate, so it is not promoted");
            return Err(ApiError::conflict(message));
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
        let records = improvements.list().map_err(promotion_fault)?;
        let is_running = improvements.is_running();
        let running = records.iter().find(|record| is_running && record.state == ImprovementState::Running);
        let running = running.map(|record| {
            let progress = improvements.progress(&record.id);
            RunningJson {
                id: record.id.clone(),
                model: record.model.clone(),
                phase: progress.as_ref().map_or_else(|| "collecting".to_owned(), |at| at.phase.clone()),
                step: progress.as_ref().and_then(|at| at.step),
                steps: progress.and_then(|at| at.steps),
                started_at: record.created_at,
            }
        });
        // The program needs a moment until its record is there.
        let running = running.or_else(|| {
            let Begun { id, model, at, .. } = self.improvement.begun()?;
            let phase = "collecting".to_owned();
            Some(RunningJson { id, model, phase, step: None, steps: None, started_at: at })
        });
        let promotions = self.promotions()?;
        let answers = |id: &str| promotions.iter().any(|promotion| promotion.improvement() == Some(id));
        let improvements = records.into_iter().map(|record| {
            let promoted = answers(&record.id);
            let is_this = running.as_ref().is_some_and(|running| running.id == record.id);
            ImprovementJson::of(record, promoted, is_this)
        });
        Ok(ImprovementsJson { improvements: improvements.collect(), running, promotions })
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
        if self.improvement.begun().is_some() || improvements.is_running() {
            return Err(promotion_fault(PromotionError::Busy));
        }
        let id = improvements.next_id(&model, method, now()).map_err(promotion_fault)?;
        let child = start(command, improvements, &id, &model, method)?;
        tracing::info!(improvement = %id, %model, "an improvement was begun");
        let begun = Begun { id: id.clone(), model, method: method.map(str::to_owned), at: now() };
        self.improvement.keep(begun, child, improvements.clone(), forget);
        Ok(id)
    }
}

/// Starts the program; its words go to a log in the improvement's folder.
fn start(
    command: &ImproveCommand,
    improvements: &Improvements,
    id: &str,
    model: &str,
    method: Option<&str>,
) -> Result<Child, ApiError> {
    let mut process = (command.0)(id, model, method);
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an improvement could not be begun");
        ApiError::internal(
            "the program that makes improvements could not be started; the server's log says more",
        )
    };
    let folder = improvements.folder_of(id).map_err(promotion_fault)?;
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let log = std::fs::File::create(folder.join("log.txt")).map_err(failed)?;
    process.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    // Ctrl-C is for the server, which ends the program so that it can go on later.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    process.spawn().map_err(failed)
}

impl RunningImprovement {
    /// Keeps the program, and waits for its end in a thread of its own.
    fn keep(self: &Arc<Self>, begun: Begun, child: Child, improvements: Improvements, forget: Forget) {
        let id = begun.id.clone();
        *self.lock() = Some((begun.clone(), child));
        let running = Arc::clone(self);
        std::thread::spawn(move || {
            let status = loop {
                match running.lock().as_mut() {
                    Some((kept, child)) if kept.id == id => match child.try_wait() {
                        Ok(None) => {}
                        ended => break ended,
                    },
                    _ => return,
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            };
            running.lock().take();
            let status = status.ok().flatten();
            let (code, signal) = (status.and_then(|status| status.code()), status.and_then(signal_of));
            tracing::info!(improvement = %id, ?code, ?signal, "an improvement has ended");
            // What it has computed is whole at every instant, so that it goes on from there when it is asked for again.
            let goes_on =
                signal.is_some_and(|signal| ENDING.contains(&signal)) && improvements.read(&id).is_ok();
            if goes_on || matches!(code, Some(0 | INTERRUPTED)) {
                return;
            }
            note_failure(&improvements, &begun, signal, &*forget);
        });
    }

    /// Ends the program, if it makes the improvement `id`, or whatever it makes; true if there was one.
    pub(crate) fn stop(&self, id: Option<&str>) -> bool {
        let mut running = self.lock();
        let Some((_, child)) = running.as_mut().filter(|(kept, _)| id.is_none_or(|id| id == kept.id)) else {
            return false;
        };
        // What it wrote is whole at every instant, and it goes on from there.
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            tracing::warn!(%error, "the program that makes an improvement could not be ended");
        }
        running.take();
        true
    }

    /// What this server's program makes now, from the moment on when it was asked for.
    fn begun(&self) -> Option<Begun> {
        self.lock().as_ref().map(|(begun, _)| begun.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Begun, Child)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program that broke before it could say so leaves no record, or one that still says that it runs; whoever asked for it learns why. Nobody goes
/// on with what has failed: what people wrote and what was computed of it goes, and the note of what it learned from with it.
fn note_failure(improvements: &Improvements, begun: &Begun, signal: Option<i32>, forget: &dyn Fn(&str)) {
    let id = &begun.id;
    let _making = match improvements.begin() {
        // Another program goes on with it already.
        Err(PromotionError::Busy) => return,
        making => making,
    };
    let record = improvements.read(id);
    let state = record.as_ref().map_or(ImprovementState::Running, |record| record.state);
    if matches!(state, ImprovementState::Passed | ImprovementState::Refused) {
        return;
    }
    // The note after what it is about, and the record last: what says that it has failed has left nothing, and what is found half removed
    // after a crash may still go on.
    match improvements.forget_all(id) {
        Ok(()) => forget(id),
        Err(error) => tracing::error!(improvement = %id, %error, "what it had computed could not be removed"),
    }
    if state == ImprovementState::Failed {
        return;
    }
    let method = begun.method.as_deref().unwrap_or_default();
    let mut record = record.unwrap_or_else(|_| Improvement::begun(id, &begun.model, method, begun.at));
    let log =
        improvements.folder_of(id).map(|folder| std::fs::read(folder.join("log.txt")).unwrap_or_default());
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    record.state = ImprovementState::Failed;
    record.error = Some(reason_in(&log, signal));
    record.finished_at = Some(now());
    if let Err(error) = improvements.write(&record) {
        tracing::error!(improvement = %id, %error, "its failure could not be written down");
    }
}

/// The error with which a program's log ends; without one, how it ended and its last lines.
fn reason_in(log: &str, signal: Option<i32>) -> String {
    const PROGRAM: &str = "zhenjin: ";
    const LINES: usize = 3;
    let error =
        log.rmatch_indices(PROGRAM).map(|(at, _)| at).find(|at| *at == 0 || log[..*at].ends_with('\n'));
    let words = match error {
        Some(at) => log[at..].trim().to_owned(),
        None => {
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
            let how =
                signal.map(|signal| format!("the program was ended by signal {signal}; its last lines:\n"));
            how.unwrap_or_default() + &last
        }
    };
    let end = words.char_indices().map(|(at, _)| at).take_while(|at| *at <= LOG_BYTES).last().unwrap_or(0);
    if words.len() <= LOG_BYTES { words } else { format!("{}…", &words[..end]) }
}

#[cfg(unix)]
fn signal_of(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_status: std::process::ExitStatus) -> Option<i32> {
    None
}

impl ImprovementJson {
    fn of(record: Improvement, promoted: bool, is_running: bool) -> ImprovementJson {
        let criterion = |criterion: Criterion| {
            let Criterion { name, value, base, lower, upper, limit, examples, passed, note } = criterion;
            CriterionJson { name, value, base, lower, upper, limit, examples, passed, note }
        };
        ImprovementJson {
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
            promoted,
            data: record.data.into(),
            gate: record.gate.into_iter().map(criterion).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole log stood there, and not that the program had been ended.
    #[test]
    fn the_reason_of_a_failure_is_its_error_or_how_it_ended() {
        let log = "step 1: loss 2\nzhenjin: early\nstep 2\nzhenjin: no room: 内存不足\nhint: take less\n";
        assert_eq!(reason_in(log, None), "zhenjin: no room: 内存不足\nhint: take less");
        let last = "the program was ended by signal 11; its last lines:\nb\nc\nd";
        assert_eq!(reason_in("a zhenjin: x\nb\n\nc\nd\n", Some(11)), last);
        assert_eq!(reason_in("", None), "");
        let long = reason_in(&format!("zhenjin: {}", "字".repeat(5000)), None);
        assert!(long.ends_with('…') && long.len() < LOG_BYTES + 10);
    }
}
