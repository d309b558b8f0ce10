//! How many requests may generate or stream at once, and how many of them one owner's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zhenjin_store::Owner;

use crate::blocking::Gates;
use crate::errors::ApiError;
use crate::options::ServerOptions;
use crate::shutdown::Shutdown;

/// The fewest streams that may follow at once: each tab of the page has two.
const LEAST_FOLLOWERS: usize = 64;
/// One owner's streams are at most this part of all that may follow.
const OWNERS_PART: usize = 4;

/// Hands out a permit to each request that generates or streams.
#[derive(Clone)]
pub struct StreamLimit {
    answers: Arc<Places>,
    followers: Arc<Places>,
    /// Whether everybody has a key, and so an owner of their own.
    knows_owners: bool,
    gates: Gates,
    shutdown: Shutdown,
}

/// The right to generate or stream, until it is dropped.
pub struct StreamPermit {
    gates: Gates,
    _place: Place,
}

/// The right to follow what happens, until it is dropped.
pub(crate) struct FollowPermit {
    _place: Place,
}

impl StreamLimit {
    /// Under the limits of `options`; no permit is given out once `shutdown` drains.
    pub(crate) fn new(options: &ServerOptions, shutdown: Shutdown) -> Self {
        let limit = options.stream_limit;
        let follow = limit.max(LEAST_FOLLOWERS);
        StreamLimit {
            // Three quarters for one owner: what is left lets others in.
            answers: Arc::new(Places::new(limit, limit - limit / 4)),
            followers: Arc::new(Places::new(follow, follow / OWNERS_PART)),
            knows_owners: options.needs_key(),
            gates: Gates::new(),
            shutdown,
        }
    }

    /// The right to generate or stream, held until the answer ends: 503 when the server stops, 429 when too many run, of all owners or of
    /// this one.
    pub fn permit(&self, owner: &Owner) -> Result<StreamPermit, ApiError> {
        let place = self.take(&self.answers, owner).map_err(|refusal| match refusal {
            Refusal::Stops => ApiError::shutting_down(),
            Refusal::Full(most) => later(format!(
                "{most} answers are being streamed already, which is this server's limit"
            )),
            Refusal::OfOwner(own) => later(format!(
                "{own} answers are being streamed for you already, the most for one owner: wait for one of them"
            )),
        })?;
        Ok(StreamPermit { gates: self.gates.clone(), _place: place })
    }

    /// The right of a stream that generates nothing and may be idle for long: 503 when the server stops, 429 when too many are open. They
    /// are counted apart from answers, and of each owner, so that whoever leaves streams open shuts out nobody else.
    pub(crate) fn follow(&self, owner: &Owner) -> Result<FollowPermit, ApiError> {
        let place = self.take(&self.followers, owner).map_err(|refusal| match refusal {
            Refusal::Stops => ApiError::shutting_down(),
            Refusal::Full(most) => {
                later(format!("{most} streams of events are open already, which is this server's limit"))
            }
            Refusal::OfOwner(own) => {
                later(format!("you have {own} streams of events open, the most for one owner: close some"))
            }
        })?;
        Ok(FollowPermit { _place: place })
    }

    fn take(&self, places: &Arc<Places>, owner: &Owner) -> Result<Place, Refusal> {
        if self.shutdown.is_draining() {
            return Err(Refusal::Stops);
        }
        // Where no key is asked for, everybody is one owner.
        let is_everybody = !self.knows_owners && *owner == Owner::Local;
        let share = if is_everybody { places.most } else { places.share };
        let mut taken = places.taken();
        let own = taken.of_owners.get(owner).copied().unwrap_or(0);
        if own >= share && share < places.most {
            return Err(Refusal::OfOwner(own));
        }
        if taken.all >= places.most {
            return Err(Refusal::Full(places.most));
        }
        taken.all += 1;
        taken.of_owners.insert(owner.clone(), own + 1);
        Ok(Place { owner: owner.clone(), places: Arc::clone(places) })
    }
}

impl StreamPermit {
    /// Runs work that computes for a request of so many `bytes`, when it is its turn at the processors.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.gates.compute(bytes, work).await
    }

    /// Runs work that waits for an encoder, with so many tokens. The permit is held until the work ends, even if the request that waits for it goes away.
    pub(crate) async fn encode<T: Send + 'static>(
        self,
        tokens: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let gates = self.gates.clone();
        let held = move || {
            let _permit = self;
            work()
        };
        gates.encode(tokens, held).await
    }
}

/// Why there is no place.
enum Refusal {
    /// The server stops.
    Stops,
    /// So many are taken, which is all of them.
    Full(usize),
    /// So many are this owner's, who may have no more.
    OfOwner(usize),
}

fn later(message: String) -> ApiError {
    ApiError::too_many_requests(message, Duration::from_secs(1))
}

/// Places of one kind.
struct Places {
    most: usize,
    /// The most for one owner.
    share: usize,
    taken: Mutex<Taken>,
}

/// Places that are taken, all of them and those of each owner.
#[derive(Default)]
struct Taken {
    all: usize,
    of_owners: BTreeMap<Owner, usize>,
}

impl Places {
    fn new(most: usize, share: usize) -> Places {
        Places { most, share, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it is dropped.
struct Place {
    owner: Owner,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        match taken.of_owners.get_mut(&self.owner) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.of_owners.remove(&self.owner);
            }
        }
    }
}
