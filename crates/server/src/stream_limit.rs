//! How many requests may generate or stream at once, and how many of them one owner's.

use std::sync::Arc;
use std::time::Duration;

use zhenjin_store::Owner;

use crate::blocking::Gates;
use crate::errors::ApiError;
use crate::options::ServerOptions;
use crate::shares::{Portion, Shares, Shortage, Supply};
use crate::shutdown::Shutdown;

/// The fewest streams that may follow at once: each tab of the page has two.
const LEAST_FOLLOWERS: usize = 64;
/// One owner's streams are at most this part of all that may follow.
const OWNERS_PART: usize = 4;

/// Hands out a permit to each request that generates or streams.
#[derive(Clone)]
pub struct StreamLimit {
    answers: Arc<Supply>,
    followers: Arc<Supply>,
    gates: Gates,
    shutdown: Shutdown,
}

/// The right to generate or stream, until it is dropped.
pub struct StreamPermit {
    gates: Gates,
    place: Portion,
}

/// The right to follow what happens, until it is dropped.
pub(crate) struct FollowPermit {
    _place: Portion,
}

impl StreamLimit {
    /// Under the limits of `options`; no permit is given out once `shutdown` drains.
    pub(crate) fn new(options: &ServerOptions, shutdown: Shutdown) -> Self {
        let limit = options.stream_limit;
        let follow = limit.max(LEAST_FOLLOWERS);
        let knows_owners = options.needs_key();
        StreamLimit {
            answers: Supply::new(Shares::three_quarters(limit, knows_owners)),
            followers: Supply::new(Shares::new(follow, follow / OWNERS_PART, knows_owners)),
            gates: Gates::new(knows_owners),
            shutdown,
        }
    }

    /// Turns at the processors.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The right to generate or stream, held until the answer ends: 503 when the server stops, 429 when too many run, of all owners or of
    /// this one.
    pub fn permit(&self, owner: &Owner) -> Result<StreamPermit, ApiError> {
        let place = self.take(&self.answers, owner, |shortage| match shortage {
            Shortage::OfAll(most) => {
                format!("{most} answers are being written already, which is this server's limit: try again")
            }
            Shortage::OfOwner(own) => format!(
                "{own} answers are being written for you already, the most for one owner: wait for one of them"
            ),
        })?;
        Ok(StreamPermit { gates: self.gates.clone(), place })
    }

    /// The right of a stream that generates nothing and may be idle for long: 503 when the server stops, 429 when too many are open. They
    /// are counted apart from answers, and of each owner, so that whoever leaves streams open shuts out nobody else.
    pub(crate) fn follow(&self, owner: &Owner) -> Result<FollowPermit, ApiError> {
        let place = self.take(&self.followers, owner, |shortage| match shortage {
            Shortage::OfAll(most) => {
                format!("{most} streams of events are open already, which is this server's limit")
            }
            Shortage::OfOwner(own) => {
                format!("you have {own} streams of events open, the most for one owner: close some")
            }
        })?;
        Ok(FollowPermit { _place: place })
    }

    /// One of these places; `words` says why there is none.
    fn take(
        &self,
        places: &Arc<Supply>,
        owner: &Owner,
        words: impl FnOnce(Shortage) -> String,
    ) -> Result<Portion, ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        places
            .take(owner, 1)
            .map_err(|shortage| ApiError::too_many_requests(words(shortage), Duration::from_secs(1)))
    }
}

impl StreamPermit {
    /// Runs work that computes for a request of so many `bytes`, when it is its turn at the processors, and its owner's.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.gates.compute(self.place.owner(), bytes, work).await
    }

    /// Runs work that waits for an encoder, with so many tokens. The permit is held until the work ends, even if the request that waits for it goes away.
    pub(crate) async fn encode<T: Send + 'static>(
        self,
        tokens: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (gates, owner) = (self.gates.clone(), self.place.owner().clone());
        let held = move || {
            let _permit = self;
            work()
        };
        gates.encode(&owner, tokens, held).await
    }
}
