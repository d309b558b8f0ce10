//! The web chat's own API under `/api`: conversations, answers that go on without their page, the model menu, login.
//!
//! It does not know SQL, templates, tokens or where models come from: `store`, `assistant` and `hub` do.

mod answers;
mod conversations;
mod errors;
mod extract;
mod fields;
mod login;
mod messages;
mod models;
mod prompt;
mod search;
mod status;
mod stream;
mod title;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_assistant::ServedModels;
use zhenjin_store::Store;

use crate::app::AppState;
use crate::shutdown::Shutdown;

pub(crate) use login::is_known;
pub use models::Library;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the web chat's requests share.
#[derive(Clone)]
pub(crate) struct Chat {
    answers: Arc<answers::RunningAnswers>,
    menu: Arc<models::ModelMenu>,
}

impl Chat {
    pub(crate) fn new(store: Store, library: Library, models: Arc<ServedModels>, shutdown: Shutdown) -> Chat {
        Chat {
            answers: answers::RunningAnswers::new(store, shutdown),
            menu: Arc::new(models::ModelMenu::new(library, models)),
        }
    }

    /// Ends downloads, and waits until every answer that was being written is saved, which is soon after
    /// [`Shutdown::end`].
    pub(crate) async fn close(&self) {
        self.menu.cancel_pulls();
        self.answers.all_saved().await;
    }
}

/// The routes under `/api`, written with their full paths.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(models::list))
        .routes(routes!(models::pull, models::cancel_pull))
        .routes(routes!(models::remove))
        .routes(routes!(models::follow))
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::retrieve, conversations::change, conversations::delete))
        .routes(routes!(conversations::restore))
        .routes(routes!(messages::ask))
        .routes(routes!(messages::regenerate))
        .routes(routes!(messages::stop))
        .routes(routes!(messages::context))
        .routes(routes!(stream::follow))
        .routes(routes!(search::search))
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
}

/// Erases conversations whose deletion can no longer be undone, once a day for as long as the server runs.
pub(crate) async fn keep_up(state: AppState) {
    loop {
        tokio::time::sleep(DAY).await;
        match state.store.purge_expired().await {
            Ok(purged) => tracing::info!(purged, "deleted conversations were erased"),
            Err(error) => tracing::warn!(%error, "deleted conversations could not be erased"),
        }
    }
}
