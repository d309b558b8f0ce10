//! Work that would hold up other requests if it ran on the threads that serve them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zhenjin_store::Owner;

use crate::errors::ApiError;
use crate::shares::Shares;

/// Requests of up to so many bytes are prepared apart from longer ones: they take milliseconds, and must not wait for what takes seconds.
const SHORT: usize = 64 << 10;
/// Requests that are at an encoder at once. They wait for one another's passes there, each on a thread of its own, and must leave
/// threads to everything else.
const ENCODING: usize = 32;
/// Requests of up to so many tokens are a pass or two of an encoder. They wait for passes, and must not wait for the whole jobs of others.
const FEW_TOKENS: usize = 512;

/// Turns at the processors, for work that computes. Without them as many requests would be rendered, tokenised and compiled at once as
/// there are threads for waiting, beside the engine and at its priority.
///
/// Whoever waits in one lane has no turn in another, and the work itself waits for none: so there is always one that goes on.
#[derive(Clone)]
pub(crate) struct Gates {
    short: Arc<Lane>,
    long: Arc<Lane>,
    reading: Arc<Lane>,
    few_tokens: Arc<Lane>,
    encoders: Arc<Lane>,
}

impl Gates {
    /// For the processors of this machine. Where no key is asked for (not `knows_owners`), one owner may have all turns.
    pub(crate) fn new(knows_owners: bool) -> Gates {
        Gates::of(std::thread::available_parallelism().map_or(1, NonZeroUsize::get), knows_owners)
    }

    fn of(processors: usize, knows_owners: bool) -> Gates {
        let lane = |turns| Arc::new(Lane::new(Shares::three_quarters(turns, knows_owners)));
        Gates {
            // Two at least: one that compiles a format for long is not all of them.
            short: lane((processors / 2).max(2)),
            long: lane((processors / 2).max(1)),
            // Reading takes tenths of a second at most, and does not wait for what takes longer.
            reading: lane((processors / 2).max(2)),
            few_tokens: lane(ENCODING),
            encoders: lane(ENCODING),
        }
    }

    /// Runs work that computes for a request of so many `bytes`, when it is its turn: first come, first served among one owner's, and
    /// owners take turns.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        owner: &Owner,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(if bytes <= SHORT { &self.short } else { &self.long }, owner, work).await
    }

    /// Runs work that takes a long body apart, when it is its turn.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        owner: &Owner,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(&self.reading, owner, work).await
    }

    /// Runs work that waits for an encoder, with so many tokens.
    pub(crate) async fn encode<T: Send + 'static>(
        &self,
        owner: &Owner,
        tokens: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(if tokens <= FEW_TOKENS { &self.few_tokens } else { &self.encoders }, owner, work).await
    }
}

/// Turns of one kind.
///
/// Whoever waits takes one of its owner's turns first, and only then one of all. So of an owner with many requests only a few wait for one
/// of all, and another owner's waits behind these few. Nobody waits in a circle: whoever waits for one of all holds only its owner's, and
/// whoever holds both works.
struct Lane {
    shares: Shares,
    turns: Arc<Semaphore>,
    /// Owners that wait or work here, and no others: no more than there are requests.
    owners: Mutex<BTreeMap<Owner, Own>>,
}

/// One owner's turns in a lane.
struct Own {
    turns: Arc<Semaphore>,
    /// How many of the owner's requests wait or work.
    present: usize,
}

impl Lane {
    fn new(shares: Shares) -> Lane {
        Lane { shares, turns: Arc::new(Semaphore::new(shares.all())), owners: Mutex::default() }
    }

    /// Waits for a turn. Whoever stops waiting leaves nothing behind.
    async fn turn(self: &Arc<Self>, owner: &Owner) -> Turn {
        let present = self.enter(owner);
        // Nobody closes them.
        let own = Arc::clone(&present.turns).acquire_owned().await.ok();
        let one_of_all = Arc::clone(&self.turns).acquire_owned().await.ok();
        Turn { _one_of_all: one_of_all, _own: own, _present: present }
    }

    fn enter(self: &Arc<Self>, owner: &Owner) -> Present {
        let mut owners = self.owners();
        let own = owners
            .entry(owner.clone())
            .or_insert_with(|| Own { turns: Arc::new(Semaphore::new(self.shares.of(owner))), present: 0 });
        own.present += 1;
        Present { owner: owner.clone(), turns: Arc::clone(&own.turns), lane: Arc::clone(self) }
    }

    fn owners(&self) -> MutexGuard<'_, BTreeMap<Owner, Own>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a request waits or works in a lane, until it is dropped: for so long its owner's turns are kept.
struct Present {
    owner: Owner,
    turns: Arc<Semaphore>,
    lane: Arc<Lane>,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut owners = self.lane.owners();
        match owners.get_mut(&self.owner) {
            Some(own) if own.present > 1 => own.present -= 1,
            _ => {
                owners.remove(&self.owner);
            }
        }
    }
}

/// The right to work, until it is dropped. Its parts are given back in this order: the next of all is another owner's if one waits.
struct Turn {
    _one_of_all: Option<OwnedSemaphorePermit>,
    _own: Option<OwnedSemaphorePermit>,
    _present: Present,
}

async fn in_turn<T: Send + 'static>(
    lane: &Arc<Lane>,
    owner: &Owner,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = lane.turn(owner).await;
    blocking(move || {
        // Held until the work ends, also when its caller goes away meanwhile.
        let _turn = turn;
        work()
    })
    .await
}

/// Runs work that waits for the disk, or computes for a moment, beside the threads that serve requests.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// Runs `work` to its end even if the request that waits for it goes away.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(broken_task(&error)))
}

/// A task that panicked.
fn broken_task(error: &tokio::task::JoinError) -> ApiError {
    tracing::error!(%error, "a task broke");
    ApiError::internal("something went wrong inside the server; its log says what")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::task::JoinHandle;

    fn anna() -> Owner {
        Owner::Key("01ARZ3NDEKTSV4RRFFQ69G5FAA".parse().expect("an id"))
    }

    fn ben() -> Owner {
        Owner::Key("01ARZ3NDEKTSV4RRFFQ69G5FAB".parse().expect("an id"))
    }

    /// Works of a long request, each of which says its name when it begins, and ends at the test's word.
    struct Works {
        gates: Gates,
        begin: UnboundedSender<&'static str>,
        begun: UnboundedReceiver<&'static str>,
        end: mpsc::Sender<()>,
        ended: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl Works {
        fn at(gates: Gates) -> Works {
            let (begin, begun) = unbounded_channel();
            let (end, ended) = mpsc::channel();
            Works { gates, begin, begun, end, ended: Arc::new(Mutex::new(ended)) }
        }

        fn spawn(&self, owner: Owner, name: &'static str) -> JoinHandle<Result<(), ApiError>> {
            self.spawn_in(|gates| &gates.long, owner, name)
        }

        fn spawn_in(
            &self,
            lane: fn(&Gates) -> &Arc<Lane>,
            owner: Owner,
            name: &'static str,
        ) -> JoinHandle<Result<(), ApiError>> {
            let (lane, begin, ended) =
                (Arc::clone(lane(&self.gates)), self.begin.clone(), Arc::clone(&self.ended));
            tokio::spawn(async move {
                let work = move || {
                    begin.send(name).expect("the test listens");
                    let _ended = ended.lock().map(|ended| ended.recv());
                    Ok(())
                };
                in_turn(&lane, &owner, work).await
            })
        }

        async fn next(&mut self) -> &'static str {
            self.begun.recv().await.expect("more works")
        }

        /// Ends one that works.
        fn end_one(&self) {
            self.end.send(()).expect("somebody works");
        }

        /// Ends all of them, and waits for these.
        async fn finish(self, works: Vec<JoinHandle<Result<(), ApiError>>>) {
            let Works { end, begun, .. } = self;
            drop(end);
            for work in works {
                work.await.expect("no panic").expect("done");
            }
            drop(begun);
        }
    }

    /// Lets what was spawned go until it waits.
    async fn settle() {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    /// Regression: the requests of one owner that compiled formats for long were all before everybody else's.
    #[tokio::test]
    async fn one_owners_many_requests_do_not_hold_up_anothers() {
        let mut works = Works::at(Gates::of(4, true));
        let mut all: Vec<_> = (0..100).map(|_| works.spawn(anna(), "anna")).collect();
        assert_eq!([works.next().await, works.next().await], ["anna"; 2], "as many as there are turns");
        settle().await;
        all.push(works.spawn(ben(), "ben"));
        settle().await;
        works.end_one();
        assert_eq!(works.next().await, "ben", "98 requests came before, and one owner has the other turn");
        works.finish(all).await;
    }

    /// Regression: whole jobs of one owner took all places at the encoders.
    #[tokio::test]
    async fn one_owner_leaves_turns_to_others() {
        let mut works = Works::at(Gates::of(4, true));
        let lane: fn(&Gates) -> &Arc<Lane> = |gates| &gates.encoders;
        let mut all: Vec<_> = (0..2 * ENCODING).map(|_| works.spawn_in(lane, anna(), "anna")).collect();
        let most = works.gates.encoders.shares.of(&anna());
        assert_eq!((most, works.gates.encoders.shares.of(&Owner::Local)), (24, 24));
        for _ in 0..most {
            assert_eq!(works.next().await, "anna");
        }
        settle().await;
        all.push(works.spawn_in(lane, ben(), "ben"));
        assert_eq!(works.next().await, "ben", "none has ended");
        works.finish(all).await;
    }

    #[tokio::test]
    async fn without_keys_one_owner_works_in_all_turns() {
        let gates = Gates::of(8, false);
        for (lane, turns) in [(&gates.short, 4), (&gates.long, 4), (&gates.encoders, ENCODING)] {
            assert_eq!((lane.shares.of(&Owner::Local), lane.shares.all()), (turns, turns));
        }
        let mut works = Works::at(gates);
        let all: Vec<_> = (0..8).map(|_| works.spawn(Owner::Local, "somebody")).collect();
        for _ in 0..4 {
            assert_eq!(works.next().await, "somebody");
        }
        works.finish(all).await;
    }

    #[tokio::test]
    async fn one_owners_requests_come_in_their_order() {
        let mut works = Works::at(Gates::of(1, true));
        let names = ["first", "second", "third", "fourth"];
        let all: Vec<_> = names.into_iter().map(|name| works.spawn(anna(), name)).collect();
        for name in names {
            assert_eq!(works.next().await, name);
            works.end_one();
        }
        works.finish(all).await;
    }

    /// Whoever goes away while it waits, for its owner's turn or for one of all, keeps neither, and an owner without requests is forgotten.
    #[tokio::test]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let mut works = Works::at(Gates::of(1, true));
        let working = works.spawn(anna(), "anna");
        assert_eq!(works.next().await, "anna");
        let gone = [works.spawn(anna(), "own"), works.spawn(ben(), "of all"), works.spawn(ben(), "own")];
        settle().await;
        assert_eq!(works.gates.long.owners().len(), 2);
        for task in gone {
            task.abort();
            assert!(task.await.expect_err("it waited").is_cancelled());
        }
        assert_eq!(works.gates.long.owners().len(), 1, "the one that works");
        let last = [works.spawn(ben(), "ben"), works.spawn(anna(), "anna again")];
        settle().await;
        works.end_one();
        assert_eq!(works.next().await, "ben");
        works.end_one();
        assert_eq!(works.next().await, "anna again");
        let lane = Arc::clone(&works.gates.long);
        works.finish([working].into_iter().chain(last).collect()).await;
        assert!(lane.owners().is_empty());
        assert_eq!(lane.turns.available_permits(), lane.shares.all());
    }

    /// A request whose work goes on without it still has its owner's turn.
    #[tokio::test]
    async fn work_without_its_caller_keeps_its_turn_until_it_ends() {
        let mut works = Works::at(Gates::of(1, true));
        let left = works.spawn(anna(), "left");
        assert_eq!(works.next().await, "left");
        left.abort();
        assert!(left.await.expect_err("its caller left").is_cancelled());
        let next = works.spawn(anna(), "next");
        settle().await;
        assert!(works.begun.try_recv().is_err(), "the turn is taken");
        assert_eq!(works.gates.long.owners().len(), 1);
        works.end_one();
        assert_eq!(works.next().await, "next");
        works.finish(vec![next]).await;
    }

    /// Regression: every request that waited was rendered and tokenised at once, each on a thread of its own.
    #[tokio::test]
    async fn no_more_work_computes_at_once_than_there_are_turns() {
        let gates = Gates::of(4, false);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..16).map(|_| {
            let (gates, running, most) = (gates.clone(), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                gates.compute(&Owner::Local, SHORT + 1, work).await
            })
        });
        for work in works.collect::<Vec<_>>() {
            work.await.expect("no panic").expect("done");
        }
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
    }

    #[tokio::test]
    async fn a_short_request_does_not_wait_for_long_ones() {
        let gates = Gates::of(1, false);
        let (end, ended) = mpsc::channel::<()>();
        let (own, waiting) = (gates.clone(), gates.clone());
        let long = tokio::spawn(async move {
            own.compute(&Owner::Local, SHORT + 1, move || {
                ended.recv().ok();
                Ok(())
            })
            .await
        });
        let next = tokio::spawn(async move { waiting.compute(&Owner::Local, 8 << 20, || Ok(())).await });
        assert_eq!(gates.compute(&Owner::Local, SHORT, || Ok(1)).await.expect("done"), 1);
        assert_eq!(gates.encode(&Owner::Local, 1, || Ok(2)).await.expect("done"), 2);
        drop(end);
        long.await.expect("no panic").expect("done");
        next.await.expect("no panic").expect("done");
    }

    /// Regression: a single text waited until one of 32 requests with thousands of texts had ended.
    #[tokio::test]
    async fn a_single_text_does_not_wait_for_whole_jobs_at_an_encoder() {
        let gates = Gates::of(2, false);
        let (ends, waits) = mpsc::channel::<()>();
        let waits = Arc::new(std::sync::Mutex::new(waits));
        let jobs = (0..2 * ENCODING).map(|_| {
            let (gates, waits) = (gates.clone(), Arc::clone(&waits));
            tokio::spawn(async move {
                let work = move || {
                    let _ended = waits.lock().map(|waits| waits.recv());
                    Ok(())
                };
                gates.encode(&Owner::Local, FEW_TOKENS + 1, work).await
            })
        });
        let jobs: Vec<_> = jobs.collect();
        tokio::task::yield_now().await;
        assert_eq!(gates.encode(&Owner::Local, FEW_TOKENS, || Ok(3)).await.expect("done"), 3);
        drop(ends);
        for job in jobs {
            job.await.expect("a task").expect("done");
        }
    }
}
