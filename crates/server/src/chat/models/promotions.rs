//! What was promoted, and the models that are served: one follows the other, whichever program made the change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zhenjin_assistant::{AdapterChanges, AssistantError, ModelSpec, PromotedWeights, ServedModels};
use zhenjin_promotions::{
    ModelPromotions, Origin, Promoted, PromotionError, Promotions, ServedName, Serving, WeightsKind,
};

use super::adapters::{find_weights, refusal};
use super::menu::ModelMenu;
use crate::blocking::blocking;
use crate::body::ApiJson;
use crate::chat::extract::ApiPath;
use crate::chat::fields::{self, PromotionBody};
use crate::errors::{ApiError, ErrorBody};
use crate::openai::fields::check;
use crate::shutdown::Shutdown;

/// How often the list of promotions is looked at for other programs' changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Weights that answer under a model's name in the place of its own.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Promoted)]
pub(crate) struct PromotedJson {
    /// Its name: a hash of its files.
    id: String,
    /// `adapter`, or `model` for weights in the place of the model's own.
    kind: &'static str,
    /// When it was promoted: milliseconds since 1970 (UTC).
    since: i64,
    /// The method that trained it.
    #[schema(required)]
    method: Option<String>,
    /// What it learned from.
    #[schema(required)]
    data: Option<String>,
    /// What was measured before it was promoted.
    #[schema(required)]
    gate: Option<String>,
    /// The improvement that it comes from.
    #[schema(required)]
    improvement: Option<String>,
    /// Where it was copied from: a folder of the server's adapter folder, or the end of the path that the operator named.
    #[schema(required)]
    source: Option<String>,
}

impl From<Promoted> for PromotedJson {
    fn from(promoted: Promoted) -> Self {
        let Promoted { id, kind, since, origin } = promoted;
        let Origin { method, data, gate, improvement, source } = origin;
        let kind = match kind {
            WeightsKind::Adapter => "adapter",
            WeightsKind::Folder | WeightsKind::Gguf => "model",
        };
        let source = source.as_deref().map(end_of_path);
        PromotedJson { id, kind, since, method, data, gate, improvement, source }
    }
}

/// The last part of a path, of a checkpoint also its run; what is before them is the operator's own.
fn end_of_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let shown = if parts.iter().rev().nth(1) == Some(&"checkpoints") { 3 } else { 1 };
    parts[parts.len().saturating_sub(shown)..].join("/")
}

/// What answers under a model's name, and what answered before.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Promotion)]
pub(crate) struct PromotionJson {
    /// The model.
    model: String,
    /// The improvement that answers; null for the model's own weights, or weights from elsewhere.
    #[schema(required)]
    improvement: Option<String>,
    /// The method that trained what answers.
    #[schema(required)]
    method: Option<String>,
    /// Since when it answers.
    #[schema(required)]
    since: Option<i64>,
    /// What answers; null for the model's own weights.
    #[schema(required)]
    promoted: Option<PromotedJson>,
    /// What answered before, the latest last: ids, `base` for the model's own weights.
    earlier: Vec<String>,
    /// In the answer to a change: adapters that no longer answer, as they belong to other weights or could not be loaded again.
    unloaded_adapters: Vec<String>,
    /// In the answer to a change: adapters that answer again, with the weights that they belong to.
    loaded_adapters: Vec<String>,
}

impl PromotionJson {
    /// What answers under the names of all models that ever had a promotion.
    pub(super) fn all_of(list: BTreeMap<String, ModelPromotions>) -> Vec<PromotionJson> {
        let promotion = |(model, of_model)| PromotionJson::of(model, of_model, AdapterChanges::default());
        list.into_iter().map(promotion).collect()
    }

    fn of(model: String, promotions: ModelPromotions, adapters: AdapterChanges) -> PromotionJson {
        let ModelPromotions { now, earlier } = promotions;
        let id =
            |earlier: Option<Promoted>| earlier.map_or_else(|| "base".to_owned(), |promoted| promoted.id);
        PromotionJson {
            model,
            improvement: now.as_ref().and_then(|now| now.origin.improvement.clone()),
            method: now.as_ref().and_then(|now| now.origin.method.clone()),
            since: now.as_ref().map(|now| now.since),
            promoted: now.map(PromotedJson::from),
            earlier: earlier.into_iter().map(id).collect(),
            unloaded_adapters: adapters.unloaded,
            loaded_adapters: adapters.loaded,
        }
    }
}

/// Promotes the weights in a folder of the server's adapter folder, an adapter or a whole model of the same architecture: they answer under the model's own name from the next request on.
/// Answers that are under way end with what they began with.
#[utoipa::path(put, path = "/api/promotions/{model}", operation_id = "promote", tag = "models",
    params(("model" = String, Path)), request_body = PromotionBody, responses(
    (status = 200, description = "What answers now.", body = PromotionJson),
    (status = 400, description = "The weights do not fit the model or the memory, or the model is one without what is promoted.", body = ErrorBody),
    (status = 404, description = "There is no such model or folder.", body = ErrorBody)))]
pub(crate) async fn promote(
    State(menu): State<Arc<ModelMenu>>,
    State(shutdown): State<Shutdown>,
    ApiPath(model): ApiPath<String>,
    ApiJson(body): ApiJson<Value>,
) -> Result<Json<PromotionJson>, ApiError> {
    if shutdown.is_draining() {
        return Err(ApiError::shutting_down());
    }
    let fields = check(fields::PROMOTION, &body)?;
    let folder = fields.text("folder").unwrap_or_default().to_owned();
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        let source = find_weights(&menu.library.adapters, &folder)?;
        let origin = Origin { source: Some(folder), ..Origin::around(&source) };
        menu.promote(&model, &source, origin)
    })
    .await
    .map(Json)
}

/// Lets what answered before answer again, at last the model's own weights.
#[utoipa::path(post, path = "/api/promotions/{model}/rollback", operation_id = "roll_back", tag = "models",
    params(("model" = String, Path)), responses(
    (status = 200, description = "What answers now.", body = PromotionJson),
    (status = 400, description = "What answered before cannot be served any more.", body = ErrorBody),
    (status = 404, description = "There is no such model.", body = ErrorBody),
    (status = 409, description = "Nothing answered before.", body = ErrorBody)))]
pub(crate) async fn roll_back(
    State(menu): State<Arc<ModelMenu>>,
    ApiPath(model): ApiPath<String>,
) -> Result<Json<PromotionJson>, ApiError> {
    let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
    blocking(move || {
        let _turn = turn;
        menu.roll_back(&model)
    })
    .await
    .map(Json)
}

impl ModelMenu {
    /// Promotes weights and lets them answer. The list changes once they are served: the server would not start with a list that names what
    /// cannot be. Another program's change in between is followed as all of them are.
    pub(super) fn promote(
        &self,
        model: &str,
        source: &std::path::Path,
        origin: Origin,
    ) -> Result<PromotionJson, ApiError> {
        self.expect_more_than_alone(model)?;
        self.expect_served(model)?;
        let promotions = &self.library.promotions;
        let promoted = promotions.copy(source, now(), origin).map_err(promotion_fault)?;
        let now = ModelPromotions { now: Some(promoted.clone()), earlier: Vec::new() };
        let adapters = apply(&self.served, promotions, model, &now).map_err(refusal)?;
        self.told(model, adapters, promotions.enter(model, promoted).map(drop))
    }

    /// Lets what answered before answer again. The list changes once that is served, as when something is promoted.
    fn roll_back(&self, model: &str) -> Result<PromotionJson, ApiError> {
        self.expect_served(model)?;
        let promotions = &self.library.promotions;
        let mut list = promotions.read().map_err(promotion_fault)?;
        let before = list.remove(model).unwrap_or_default();
        let Some(now) = before.earlier.last().cloned() else {
            return Err(promotion_fault(PromotionError::NothingEarlier { model: model.to_owned() }));
        };
        let earlier = ModelPromotions { now, earlier: Vec::new() };
        let adapters = apply(&self.served, promotions, model, &earlier).map_err(refusal)?;
        self.told(model, adapters, promotions.roll_back(model).map(drop))
    }

    /// What the list says of a model once a change that is served already is `written` down; where it is not, what the list says answers again.
    fn told(
        &self,
        model: &str,
        adapters: AdapterChanges,
        written: Result<(), PromotionError>,
    ) -> Result<PromotionJson, ApiError> {
        let mut list = written.and_then(|()| self.library.promotions.read()).map_err(|error| {
            if let Err(error) = self.apply_promotion(model) {
                tracing::error!(model, %error, "what answered before the failed change cannot be served again");
            }
            promotion_fault(error)
        })?;
        Ok(PromotionJson::of(model.to_owned(), list.remove(model).unwrap_or_default(), adapters))
    }

    /// Refuses the name of a model without what is promoted, for which nothing is promoted.
    fn expect_more_than_alone(&self, model: &str) -> Result<(), ApiError> {
        let Some(own) = self.served.without_promotion(model) else { return Ok(()) };
        let message = format!("`{model}` is `{own}` without what is promoted, and stays it: name `{own}`");
        Err(ApiError::invalid("model", message))
    }

    /// Refuses to improve a model without what is promoted, and one in whose place whole weights answer.
    pub(super) fn expect_improvable(&self, model: &str) -> Result<(), ApiError> {
        self.expect_more_than_alone(model)?;
        self.expect_served(model)?;
        let is_adapter = self.served.list().iter().any(|other| other.name == model && other.base.is_some());
        if let (true, Some((own, _))) = (is_adapter, model.rsplit_once('+')) {
            let message = format!("`{model}` is an adapter: improvements are for `{own}`");
            return Err(ApiError::invalid("model", message));
        }
        self.library.promotions.comparable(model).map(drop).map_err(promotion_fault)
    }

    /// Lets answer what the list of promotions says, for one model.
    pub(super) fn apply_promotion(&self, model: &str) -> Result<PromotionJson, ApiError> {
        let promotions = &self.library.promotions;
        let mut list = promotions.read().map_err(promotion_fault)?;
        let of_model = list.remove(model).unwrap_or_default();
        let adapters = apply(&self.served, promotions, model, &of_model).map_err(refusal)?;
        Ok(PromotionJson::of(model.to_owned(), of_model, adapters))
    }
}

fn apply(
    models: &ServedModels,
    promotions: &Promotions,
    model: &str,
    of_model: &ModelPromotions,
) -> Result<AdapterChanges, AssistantError> {
    let weights = of_model.now.as_ref().map(|now| {
        let (id, path) = (now.id.clone(), now.path(promotions.folder()));
        match now.kind {
            WeightsKind::Adapter => PromotedWeights::Adapter { id, path },
            WeightsKind::Folder | WeightsKind::Gguf => PromotedWeights::Model { id, path },
        }
    });
    models.promote(model, weights)
}

/// Lets answer what was promoted, for all models that are served.
///
/// # Errors
/// [`PromotionError`] when the list cannot be read; the models and the reasons where what was promoted cannot be served: what answered
/// before goes on there.
pub fn apply_promotions(
    models: &ServedModels,
    promotions: &Promotions,
) -> Result<Vec<(String, AssistantError)>, PromotionError> {
    let list = promotions.read()?;
    let served: Vec<String> = models.list().into_iter().map(|served| served.name).collect();
    let of_served = list.iter().filter(|(model, _)| served.contains(model));
    let failed = of_served.filter_map(|(model, of_model)| {
        apply(models, promotions, model, of_model).err().map(|error| (model.clone(), error))
    });
    Ok(failed.collect())
}

/// Follows the changes that other programs make, for as long as the server runs, and says to them which models answer here.
pub(crate) async fn follow(menu: Arc<ModelMenu>) {
    let mut announcement = Announcement::begin(&menu.library.promotions);
    // The first look applies again what the start applied: a change in between is not missed.
    let mut seen = None;
    loop {
        announcement.renew(&menu.served).await;
        tokio::time::sleep(LOOK_INTERVAL).await;
        let found = menu.library.promotions.version();
        if found == seen {
            continue;
        }
        seen = found;
        let turn = Arc::clone(&menu.adapter_turn).lock_owned().await;
        let menu = Arc::clone(&menu);
        let applied = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            apply_promotions(&menu.served, &menu.library.promotions)
        });
        match applied.await {
            Ok(Ok(failed)) => failed.iter().for_each(|(model, error)| {
                tracing::error!(model, %error, "what was promoted cannot be served: what answered before goes on");
            }),
            Ok(Err(error)) => tracing::error!(%error, "the list of promotions cannot be read"),
            Err(error) => tracing::error!(%error, "a task broke"),
        }
    }
}

/// What other programs learn of the models that answer here.
struct Announcement {
    /// `None` where it cannot be said.
    serving: Option<Arc<Serving>>,
    said: Option<Vec<ModelSpec>>,
}

impl Announcement {
    fn begin(promotions: &Promotions) -> Announcement {
        let serving = promotions.begin_serving().unwrap_or_else(|error| {
            tracing::warn!(%error, "other programs do not learn which models answer here");
            None
        });
        Announcement { serving: serving.map(Arc::new), said: None }
    }

    /// Says it again if it has changed.
    async fn renew(&mut self, models: &ServedModels) {
        let own = models.own_files();
        let Some(serving) = self.serving.clone().filter(|_| self.said.as_ref() != Some(&own)) else { return };
        self.said = Some(own.clone());
        let told = tokio::task::spawn_blocking(move || {
            let name = |ModelSpec { name, path }| {
                // A relative path means something else to a program that runs in another folder.
                let path = path.canonicalize().unwrap_or(path);
                ServedName { name, path }
            };
            serving.say(&own.into_iter().map(name).collect::<Vec<_>>())
        });
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "other programs do not learn which models answer here"),
            Err(error) => tracing::error!(%error, "a task broke"),
        }
    }
}

pub(super) fn promotion_fault(error: PromotionError) -> ApiError {
    let message = error.to_string();
    match error {
        PromotionError::Busy => ApiError::conflict(message),
        PromotionError::NothingEarlier { .. } => ApiError::conflict(message).with_code("nothing_earlier"),
        PromotionError::WholeWeights { .. } => {
            ApiError::conflict(message).with_code("whole_weights_promoted")
        }
        PromotionError::ComparedWithOther { .. } => ApiError::conflict(format!(
            "{message}; make another one, or send `force` to promote it all the same"
        ))
        .with_param("force")
        .with_code("compared_with_other"),
        PromotionError::BadId { .. } => ApiError::invalid("id", message),
        PromotionError::Unknown { .. } => {
            ApiError::not_found(message).with_param("id").with_code("improvement_not_found")
        }
        PromotionError::NoWeights { .. } => ApiError::invalid("folder", message),
        _ => ApiError::internal(message),
    }
}

/// Milliseconds since 1970 (UTC).
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
