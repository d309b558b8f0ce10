//! Signs of life: every process tells its right neighbour every second that it is there, from a thread of its own. A process that was stopped, or whose machine
//! cannot be reached, falls silent, and its neighbour ends the job. One that computes for a long time does not fall silent.

use super::mpi::abort_job;
use mpi::point_to_point::Status;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Messages with this tag are signs of life.
const TAG: i32 = 1;
/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// Between two questions whether a sign has come.
const PAUSE: Duration = Duration::from_millis(20);
/// The last message of a neighbour that ends in good order.
const GOODBYE: u8 = 1;

/// The two threads of a process.
pub(super) struct Heartbeat {
    stop: Sender<()>,
    threads: [JoinHandle<()>; 2],
}

impl Heartbeat {
    /// Begins; when nothing is heard for `limit`, the job ends.
    pub(super) fn start(rank: usize, size: usize, limit: Duration) -> Heartbeat {
        let (stop, stopped) = channel();
        let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
        let threads = [
            std::thread::spawn(move || beat(to, &stopped)),
            std::thread::spawn(move || listen(rank, from, limit)),
        ];
        Heartbeat { stop, threads }
    }

    /// Ends, after all ranks have come here.
    pub(super) fn finish(self) {
        // A thread that is gone has panicked, which has ended the job.
        let _ = self.stop.send(());
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Sends signs of life until it is told to stop.
fn beat(to: usize, stopped: &Receiver<()>) {
    loop {
        let message = match stopped.recv_timeout(BEAT) {
            Err(RecvTimeoutError::Timeout) => [0],
            Ok(()) => [GOODBYE],
            // Not finished in good order: the process is about to end.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let world = SimpleCommunicator::world();
        scope(|scope| {
            wait(world.process_at_rank(to as i32).immediate_send_with_tag(scope, &message[..], TAG), || {});
        });
        if message == [GOODBYE] {
            return;
        }
    }
}

/// Listens to a neighbour until it says goodbye.
fn listen(rank: usize, from: usize, limit: Duration) {
    let world = SimpleCommunicator::world();
    let mut message = [0];
    while message != [GOODBYE] {
        let mut silence = Silence::new(Instant::now());
        scope(|scope| {
            let incoming = world.process_at_rank(from as i32);
            wait(incoming.immediate_receive_into_with_tag(scope, &mut message[..], TAG), || {
                if silence.until(Instant::now()) > limit {
                    let what = format!(
                        "has had no sign of life from rank {from} for {} s: that process is stopped, or its machine cannot be reached",
                        limit.as_secs()
                    );
                    abort_job(rank, &what);
                }
            });
        });
    }
}

fn wait<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>, mut meanwhile: impl FnMut()) -> Status {
    loop {
        request = match request.test() {
            Ok(status) => return status,
            Err(request) => request,
        };
        meanwhile();
        std::thread::sleep(PAUSE);
    }
}

/// How long nothing was heard, as far as this process was awake: one that was itself stopped for a while does not blame others for it.
struct Silence {
    asked: Instant,
    awake: Duration,
}

impl Silence {
    fn new(now: Instant) -> Silence {
        Silence { asked: now, awake: Duration::ZERO }
    }

    fn until(&mut self, now: Instant) -> Duration {
        self.awake += now.duration_since(self.asked).min(10 * PAUSE);
        self.asked = now;
        self.awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_stopped_itself_does_not_blame_its_neighbour() {
        let begun = Instant::now();
        let mut silence = Silence::new(begun);
        assert_eq!(silence.until(begun + PAUSE), PAUSE);
        // Stopped for an hour.
        let hour = Duration::from_secs(3600);
        assert!(silence.until(begun + hour) < Duration::from_secs(1));
        let mut now = begun + hour;
        for _ in 0..1000 {
            now += PAUSE;
            silence.until(now);
        }
        assert!(silence.until(now) >= 1000 * PAUSE);
    }
}
