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
mod prompt;
mod search;
mod stream;
mod title;
mod wire;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zhenjin_store::Store;

use crate::app::AppState;
use crate::shutdown::Shutdown;

pub(crate) use login::is_known;

/// What the web chat's requests share.
#[derive(Clone)]
pub(crate) struct Chat {
    answers: Arc<answers::RunningAnswers>,
}

impl Chat {
    pub(crate) fn new(store: Store, shutdown: Shutdown) -> Chat {
        Chat { answers: answers::RunningAnswers::new(store, shutdown) }
    }

    /// Resolves when every answer that was being written is saved. Ends only after [`Shutdown::end`] or by itself.
    pub(crate) async fn all_saved(&self) {
        self.answers.all_saved().await;
    }
}

/// The routes under `/api`, written with their full paths.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
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
