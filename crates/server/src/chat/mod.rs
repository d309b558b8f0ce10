//! The web chat's own API under `/api`: conversations, answers that go on without their page, the model menu, prosody, login.
//! No SQL, templates or token ids here: they belong to `store` and `assistant`.

mod answers;
mod beginnings;
mod conversations;
mod extract;
mod feedback;
mod fields;
mod login;
mod messages;
mod models;
mod prompt;
mod prosody;
mod search;
mod status;
mod stream;
mod title;
mod trash;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_store::Store;

use crate::options::ServerOptions;
use crate::security::LoginThrottle;
use crate::shutdown::Shutdown;
use crate::stream_limit::StreamLimit;

pub(crate) use answers::RunningAnswers;
pub(crate) use extract::ApiQuery;
pub(crate) use models::promotions::follow as follow_promotions;
pub(crate) use models::{
    Begun, Description, KnownModel, ModelMenu, PullJson, PullState, begin_pull, remove_model,
};
pub use models::{ImproveCommand, Library, apply_promotions};

const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_OF_AN_HOUR: u32 = 60;

/// The routes under `/api`, written with their full paths.
pub(crate) fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<ServerOptions>: FromRef<S>,
    Shutdown: FromRef<S>,
    Store: FromRef<S>,
    StreamLimit: FromRef<S>,
    Arc<LoginThrottle>: FromRef<S>,
    Arc<RunningAnswers>: FromRef<S>,
    Arc<ModelMenu>: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(models::list))
        .routes(routes!(models::pull, models::cancel_pull))
        .routes(routes!(models::remove))
        .routes(routes!(models::follow))
        .routes(routes!(models::adapters::list))
        .routes(routes!(models::adapters::load, models::adapters::unload))
        .routes(routes!(models::promotions::promote))
        .routes(routes!(models::promotions::roll_back))
        .routes(routes!(models::improvements::list, models::improvements::begin))
        .routes(routes!(models::preview::preview))
        .routes(routes!(models::improvements::stop))
        .routes(routes!(models::improvements::discard))
        .routes(routes!(models::improvements::promote))
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::retrieve, conversations::change, conversations::delete))
        .routes(routes!(conversations::restore))
        .routes(routes!(beginnings::ask_first))
        .routes(routes!(beginnings::continue_conversation))
        .routes(routes!(trash::list, trash::empty))
        .routes(routes!(trash::erase))
        .routes(routes!(messages::ask))
        .routes(routes!(messages::regenerate))
        .routes(routes!(messages::stop))
        .routes(routes!(messages::context))
        .routes(routes!(feedback::say, feedback::forget))
        .routes(routes!(feedback::choose, feedback::forget_choice))
        .routes(routes!(feedback::own::consent, feedback::own::set_consent))
        .routes(routes!(feedback::own::export, feedback::own::erase))
        .routes(routes!(feedback::own::erasure))
        .routes(routes!(feedback::own::learned_from))
        .routes(routes!(feedback::statistics::statistics))
        .routes(routes!(stream::follow))
        .routes(routes!(search::search))
        .routes(routes!(prosody::prosody))
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
}

/// Erases conversations whose deletion can no longer be undone, and copies of what was erased: at the server's start, and every hour while it
/// runs. What was erased while somebody read leaves the store's log within a minute of their end.
pub(crate) async fn keep_up(store: Store, menu: Arc<ModelMenu>) {
    for minute in (0..MINUTES_OF_AN_HOUR).cycle() {
        if minute == 0 {
            match store.purge_expired().await {
                Ok(0) => {}
                Ok(purged) => tracing::info!(purged, "deleted conversations were erased"),
                Err(error) => tracing::warn!(%error, "deleted conversations could not be erased"),
            }
            if let Err(error) = menu.forget_withdrawn(&store).await {
                tracing::warn!(%error, "unfinished improvements may hold copies of what was erased");
            }
        }
        if !store.let_go_of_erased().await {
            tracing::warn!("the write-ahead log still holds what was erased; it is tried again in a minute");
        }
        tokio::time::sleep(MINUTE).await;
    }
}
