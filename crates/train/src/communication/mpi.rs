//! Ranks that are processes, started by `mpirun` or Slurm.
//!
//! All waiting is done by asking again and again with pauses, so that ranks that wait leave the processors to those that compute, and so that a rank
//! that waits too long can end the job and say for whom it waited.

use super::heartbeat::Heartbeat;
use super::{Comm, CommError, Incoming, Outgoing, Traffic};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::Status;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Buffer, BufferMut, Communicator, Destination, Equivalence, Root, Source};
use std::io::Write;
use std::time::{Duration, Instant};

/// Exit code of a job that was aborted.
const ABORTED: i32 = 70;
/// Asked so often without a pause before the first pause.
const SPINS: u32 = 200;
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_micros(500);
/// Messages with this tag are those of [`Comm`].
const TAG: i32 = 0;

/// When a job ends because a rank does not answer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a rank waits for another that lives but does not come to the same place: as long as one rank alone may validate, write or load.
    pub patience: Duration,
    /// How long a process may give no sign of life: it is stopped, or its machine cannot be reached. Signs come every second from a thread of their own, so that long computations
    /// do not count.
    pub silence: Duration,
}

/// This process's end.
pub struct Mpi {
    /// Until the job ends in good order. If this process ends otherwise, `mpirun` sees that it did not say goodbye, and ends the others.
    universe: Option<Universe>,
    heartbeat: Option<Heartbeat>,
    rank: usize,
    size: usize,
    machine: usize,
    patience: Duration,
    traffic: Traffic,
}

impl Mpi {
    /// Joins the job that started this process. From now on a panic of this process ends the whole job, and so does a rank that does not answer within `limits`.
    ///
    /// # Errors
    /// [`CommError::Backend`] when MPI has been started already, or cannot be used by several threads.
    pub fn start(limits: Limits) -> Result<Self, CommError> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Multiple)
            .ok_or_else(|| CommError::Backend("MPI has been started already".to_owned()))?;
        if threading < Threading::Multiple {
            return Err(CommError::Backend(
                "this MPI library cannot be used by several threads at once".to_owned(),
            ));
        }
        let world = universe.world();
        let (rank, size) = (world.rank().unsigned_abs() as usize, world.size().unsigned_abs() as usize);
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            earlier(panic);
            abort_job(rank, &format!("panicked: {panic}"));
        }));
        let mut machine = rank as i32;
        world.split_shared(machine).process_at_rank(0).broadcast_into(&mut machine);
        let heartbeat = (size > 1).then(|| Heartbeat::start(rank, size, limits.silence));
        Ok(Self {
            universe: Some(universe),
            heartbeat,
            rank,
            size,
            machine: machine.unsigned_abs() as usize,
            patience: limits.patience,
            traffic: Traffic::default(),
        })
    }

    /// Waits for a message to be sent or received.
    fn wait<'a, D: ?Sized, S: Scope<'a>>(
        &self,
        mut request: Request<'a, D, S>,
        other: usize,
        verb: &str,
    ) -> Status {
        let begun = Instant::now();
        let mut asked = 0_u32;
        loop {
            request = match request.test() {
                Ok(status) => return status,
                Err(request) => request,
            };
            asked = asked.saturating_add(1);
            if asked > SPINS {
                let waited = begun.elapsed();
                if waited > self.patience {
                    abort_job(self.rank, &format!("waited {} s {verb} rank {other}", waited.as_secs()));
                }
                std::thread::sleep((waited / 8).min(LONGEST_PAUSE));
            }
        }
    }

    fn send_values<B: Buffer + ?Sized>(&mut self, to: usize, values: &B) {
        let world = SimpleCommunicator::world();
        scope(|scope| {
            let request = world.process_at_rank(to as i32).immediate_send_with_tag(scope, values, TAG);
            self.wait(request, to, "to send to");
        });
    }

    fn receive_values<T: Equivalence>(&mut self, from: usize, values: &mut [T]) -> Result<(), CommError>
    where
        [T]: BufferMut,
    {
        let (world, expected) = (SimpleCommunicator::world(), values.len());
        let status = scope(|scope| {
            let request =
                world.process_at_rank(from as i32).immediate_receive_into_with_tag(scope, values, TAG);
            self.wait(request, from, "for a message of")
        });
        check_length::<T>(from, expected, &status)
    }

    fn exchange_values<T: Equivalence>(
        &mut self,
        to: usize,
        outgoing: &[T],
        from: usize,
        incoming: &mut [T],
    ) -> Result<(), CommError>
    where
        [T]: Buffer + BufferMut,
    {
        let (world, expected) = (SimpleCommunicator::world(), incoming.len());
        let status = scope(|scope| {
            let received =
                world.process_at_rank(from as i32).immediate_receive_into_with_tag(scope, incoming, TAG);
            let sent = world.process_at_rank(to as i32).immediate_send_with_tag(scope, outgoing, TAG);
            let status = self.wait(received, from, "for a message of");
            self.wait(sent, to, "to send to");
            status
        });
        check_length::<T>(from, expected, &status)
    }
}

fn check_length<T: Equivalence>(from: usize, expected: usize, status: &Status) -> Result<(), CommError> {
    let got = status.count(T::equivalent_datatype()).unsigned_abs() as usize;
    match got == expected {
        true => Ok(()),
        false => Err(CommError::Length {
            rank: from,
            expected: expected * size_of::<T>(),
            got: got * size_of::<T>(),
        }),
    }
}

/// Says why, and ends all processes of the job.
pub(super) fn abort_job(rank: usize, message: &str) -> ! {
    // If nobody reads our words, the job ends all the same.
    let _ = writeln!(
        std::io::stderr(),
        "rank {rank} {message}; the job ends; resume the run from its last checkpoint"
    );
    SimpleCommunicator::world().abort(ABORTED)
}

impl Comm for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn machine(&self) -> usize {
        self.machine
    }

    fn send(&mut self, to: usize, message: Outgoing<'_>) -> Result<(), CommError> {
        self.traffic.bytes_sent += message.bytes() as u64;
        self.traffic.messages_sent += 1;
        match message {
            Outgoing::Bytes(bytes) => self.send_values(to, bytes),
            Outgoing::Floats(floats) => self.send_values(to, floats),
        }
        Ok(())
    }

    fn receive(&mut self, from: usize, message: Incoming<'_>) -> Result<(), CommError> {
        self.traffic.bytes_received += message.bytes() as u64;
        match message {
            Incoming::Bytes(bytes) => self.receive_values(from, bytes),
            Incoming::Floats(floats) => self.receive_values(from, floats),
        }
    }

    fn exchange(
        &mut self,
        to: usize,
        outgoing: Outgoing<'_>,
        from: usize,
        incoming: Incoming<'_>,
    ) -> Result<(), CommError> {
        self.traffic.bytes_sent += outgoing.bytes() as u64;
        self.traffic.messages_sent += 1;
        self.traffic.bytes_received += incoming.bytes() as u64;
        match (outgoing, incoming) {
            (Outgoing::Bytes(outgoing), Incoming::Bytes(incoming)) => {
                self.exchange_values(to, outgoing, from, incoming)
            }
            (Outgoing::Floats(outgoing), Incoming::Floats(incoming)) => {
                self.exchange_values(to, outgoing, from, incoming)
            }
            _ => Err(CommError::Backend("bytes and floats cannot be exchanged for each other".to_owned())),
        }
    }

    fn abort(&self, message: &str) {
        abort_job(self.rank, message)
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn finish(&mut self) -> Result<(), CommError> {
        self.barrier()?;
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.finish();
        }
        // Dropping it is MPI's goodbye.
        self.universe = None;
        Ok(())
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if let Some(universe) = self.universe.take() {
            // Not finished in good order. MPI's goodbye would wait for the others, who wait for us.
            std::mem::forget(universe);
        }
    }
}
