//! The stream of downloads' progress.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::menu::ModelMenu;
use super::pulls::{ModelEvent, PullEventJson};
use crate::chat::stream::event;
use crate::shutdown::Shutdown;
use crate::stream_limit::FollowPermit;

/// Minimum polling interval.
const PAUSE: Duration = Duration::from_millis(250);

/// One stream and what it has sent.
struct Reader {
    menu: Arc<ModelMenu>,
    changes: watch::Receiver<()>,
    shutdown: Shutdown,
    told: BTreeMap<String, PullEventJson>,
    due: Vec<PullEventJson>,
    /// Counts against [`StreamLimit`](crate::stream_limit::StreamLimit) for as long as the stream is open.
    _permit: FollowPermit,
}

/// Events `pull`: first all that are known, then each that changes, until the server stops. A slow reader misses what lies
/// between, never the latest.
pub(super) fn events(
    menu: Arc<ModelMenu>,
    shutdown: Shutdown,
    permit: FollowPermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let changes = menu.pulls.subscribe();
    let reader = Reader { menu, changes, shutdown, told: BTreeMap::new(), due: Vec::new(), _permit: permit };
    stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((Ok(event(&ModelEvent::Pull(next))), reader))
    })
}

impl Reader {
    async fn next(&mut self) -> Option<PullEventJson> {
        loop {
            if let Some(next) = self.due.pop() {
                self.told.insert(next.name().to_owned(), next.clone());
                return Some(next);
            }
            self.changes.borrow_and_update();
            self.due = self.menu.pulls.events();
            self.due.retain(|event| self.told.get(event.name()) != Some(event));
            if self.due.is_empty() {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    () = self.shutdown.draining() => return None,
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
