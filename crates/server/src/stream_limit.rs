//! How many requests may generate or stream at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zhenjin_store::Owner;

use crate::errors::ApiError;
use crate::shutdown::Shutdown;

/// The fewest streams that may follow at once: each tab of the page has two.
const LEAST_FOLLOWERS: usize = 64;
/// One owner's streams are at most this part of all that may follow.
const OWNERS_PART: usize = 4;

/// Hands out a permit to each request that generates or streams.
#[derive(Clone)]
pub struct StreamLimit {
    limit: usize,
    permits: Arc<Semaphore>,
    followers: Arc<Mutex<Followers>>,
    shutdown: Shutdown,
}

/// Streams that follow, all of them and those of each owner.
#[derive(Default)]
struct Followers {
    all: usize,
    of_owners: BTreeMap<Owner, usize>,
}

/// The right to follow what happens, until it is dropped.
pub(crate) struct FollowPermit {
    owner: Owner,
    followers: Arc<Mutex<Followers>>,
}

impl StreamLimit {
    /// At most `limit` permits are held at once, and none is given out once `shutdown` drains.
    pub(crate) fn new(limit: usize, shutdown: Shutdown) -> Self {
        StreamLimit { limit, permits: Arc::new(Semaphore::new(limit)), followers: Arc::default(), shutdown }
    }

    /// The right to generate or stream, held until the answer ends: 503 when the server stops, 429 when too many run.
    pub fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            ApiError::too_many_requests(
                format!("{} answers are being streamed already, which is this server's limit", self.limit),
                Duration::from_secs(1),
            )
        })
    }

    /// The right of a stream that generates nothing and may be idle for long: 503 when the server stops, 429 when too many are open. They
    /// are counted apart from answers, and of each owner, so that whoever leaves streams open shuts out nobody else.
    pub(crate) fn follow(&self, owner: &Owner) -> Result<FollowPermit, ApiError> {
        if self.shutdown.is_draining() {
            return Err(ApiError::shutting_down());
        }
        let most = self.limit.max(LEAST_FOLLOWERS);
        let share = most / OWNERS_PART;
        let mut followers = locked(&self.followers);
        let own = followers.of_owners.get(owner).copied().unwrap_or(0);
        if own >= share {
            let message =
                format!("you have {own} streams of events open, the most for one owner: close some");
            return Err(ApiError::too_many_requests(message, Duration::from_secs(1)));
        }
        if followers.all >= most {
            let message = format!("{most} streams of events are open already, which is this server's limit");
            return Err(ApiError::too_many_requests(message, Duration::from_secs(1)));
        }
        followers.all += 1;
        followers.of_owners.insert(owner.clone(), own + 1);
        Ok(FollowPermit { owner: owner.clone(), followers: Arc::clone(&self.followers) })
    }
}

impl Drop for FollowPermit {
    fn drop(&mut self) {
        let mut followers = locked(&self.followers);
        followers.all = followers.all.saturating_sub(1);
        match followers.of_owners.get_mut(&self.owner) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                followers.of_owners.remove(&self.owner);
            }
        }
    }
}

fn locked(followers: &Mutex<Followers>) -> MutexGuard<'_, Followers> {
    followers.lock().unwrap_or_else(PoisonError::into_inner)
}
