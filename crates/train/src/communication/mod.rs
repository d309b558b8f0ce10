//! How the ranks of a run exchange gradients and weights.
//!
//! A backend sends and receives messages between two ranks; everything collective is written once on top of that, with sums
//! in one order: the fixed binary tree over ranks ([`tree_sum`]). Where every rank has summed its own micro-batches by the same tree,
//! the result has the bits of one process that has summed them all.

mod collectives;
#[cfg(feature = "mpi")]
mod heartbeat;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
mod tests;
mod threads;

pub use collectives::{MESSAGE_ELEMENTS, Piece, SEGMENT_ELEMENTS, divided, owned_range, tree_sum};
#[cfg(feature = "mpi")]
pub use mpi::{Limits, Mpi};
pub use threads::Threads;

use std::ops::Range;
use std::time::Duration;

/// What a backend sends.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// Anything.
    Bytes(&'a [u8]),
    /// Gradients or weights.
    Floats(&'a [f32]),
}

/// Where a backend puts what arrives; the message must have exactly this length.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// Anything.
    Bytes(&'a mut [u8]),
    /// Gradients or weights.
    Floats(&'a mut [f32]),
}

impl Outgoing<'_> {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(floats) => size_of_val(*floats),
        }
    }
}

impl Incoming<'_> {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(floats) => size_of_val(*floats),
        }
    }

    fn elements(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Floats(floats) => floats.len(),
        }
    }

    fn part(&mut self, range: Range<usize>) -> Incoming<'_> {
        match self {
            Self::Bytes(bytes) => Incoming::Bytes(&mut bytes[range]),
            Self::Floats(floats) => Incoming::Floats(&mut floats[range]),
        }
    }

    fn outgoing(&self, range: Range<usize>) -> Outgoing<'_> {
        match self {
            Self::Bytes(bytes) => Outgoing::Bytes(&bytes[range]),
            Self::Floats(floats) => Outgoing::Floats(&floats[range]),
        }
    }
}

/// What one rank has sent and received so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of messages' contents that this rank sent.
    pub bytes_sent: u64,
    /// Bytes of messages' contents that this rank received.
    pub bytes_received: u64,
    /// Messages that this rank sent.
    pub messages_sent: u64,
}

/// Why ranks could not talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// The other rank has ended.
    #[error("rank {rank} has ended; resume the run from its last checkpoint")]
    Lost {
        /// The rank that is gone.
        rank: usize,
    },
    /// The other rank does not answer.
    #[error(
        "rank {rank} has sent nothing for {} seconds; resume the run from its last checkpoint",
        waited.as_secs()
    )]
    Silent {
        /// The rank that was waited for.
        rank: usize,
        /// How long.
        waited: Duration,
    },
    /// The other rank is not doing the same thing.
    #[error(
        "rank {rank} sent {got} bytes where {expected} were expected: \
         all ranks must run the same program with the same configuration"
    )]
    Length {
        /// The sender.
        rank: usize,
        /// Bytes that were expected.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The message-passing library refused.
    #[error("message passing: {0}")]
    Backend(String),
}

/// One rank's end of the communication. All ranks must call the same collective functions in the same order with the same lengths.
pub trait Comm: Send {
    /// Number of this rank, 0 to `size() - 1`.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Sends a message; returns when the buffer may be used again.
    ///
    /// # Errors
    /// [`CommError`].
    fn send(&mut self, to: usize, message: Outgoing<'_>) -> Result<(), CommError>;

    /// Waits for the next message of a rank.
    ///
    /// # Errors
    /// [`CommError`].
    fn receive(&mut self, from: usize, message: Incoming<'_>) -> Result<(), CommError>;

    /// Sends to one rank and receives from another (or the same) at once, so that two ranks can exchange without waiting for each other.
    ///
    /// # Errors
    /// [`CommError`].
    fn exchange(
        &mut self,
        to: usize,
        outgoing: Outgoing<'_>,
        from: usize,
        incoming: Incoming<'_>,
    ) -> Result<(), CommError>;

    /// The first of the ranks that run on the same machine as this one: a number for the machine.
    fn machine(&self) -> usize {
        0
    }

    /// Ends all ranks, with a message that says why. Only a backend whose ranks are processes can do so; others just return.
    fn abort(&self, message: &str);

    /// What this rank has sent and received so far.
    fn traffic(&self) -> Traffic;

    /// Ends the communication in good order, after all ranks have come here. A rank that ends without it was lost.
    ///
    /// # Errors
    /// [`CommError`].
    fn finish(&mut self) -> Result<(), CommError> {
        self.barrier()
    }

    /// Waits until every rank has come here.
    ///
    /// # Errors
    /// [`CommError`].
    fn barrier(&mut self) -> Result<(), CommError> {
        collectives::barrier(self)
    }

    /// Gives every rank the bytes of `root`.
    ///
    /// # Errors
    /// [`CommError`].
    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), CommError> {
        collectives::broadcast(self, Incoming::Bytes(bytes), root)
    }

    /// The bytes of every rank, in the order of ranks; lengths may differ. For small things: counts, losses, hashes.
    ///
    /// # Errors
    /// [`CommError`].
    fn all_gather_bytes(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        collectives::all_gather_bytes(self, own)
    }

    /// The bytes of every rank, in the order of ranks; all have the same length. Takes as few messages as there are, one after the other.
    ///
    /// # Errors
    /// [`CommError`]; [`CommError::Length`] when lengths differ.
    fn all_gather_equal(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        collectives::all_gather_equal(self, own)
    }

    /// Element-wise sums over ranks by the fixed tree. All ranks give pieces of the same lengths and owners in the same order; afterwards, a rank's own
    /// pieces hold sums, and what the others hold is undefined. Of every piece, `size - 1` copies are sent in all, the least that is possible.
    ///
    /// # Errors
    /// [`CommError`].
    fn sum_to_owners(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), CommError> {
        collectives::sum_to_owners(self, pieces)
    }

    /// Every owner's pieces to all ranks, with `size - 1` copies in all.
    ///
    /// # Errors
    /// [`CommError`].
    fn share_from_owners(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), CommError> {
        collectives::share_from_owners(self, pieces)
    }

    /// Element-wise sums over ranks by the fixed tree; afterwards `values` is the same on all ranks.
    ///
    /// # Errors
    /// [`CommError`].
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        self.reduce_scatter(values)?;
        let mut pieces = divided(values, self.size());
        self.share_from_owners(&mut pieces)
    }

    /// Element-wise sums over ranks by the fixed tree. Afterwards this rank's range, which is returned (see [`owned_range`]),
    /// holds sums; the rest of `values` is undefined.
    ///
    /// # Errors
    /// [`CommError`].
    fn reduce_scatter(&mut self, values: &mut [f32]) -> Result<Range<usize>, CommError> {
        let own = owned_range(values.len(), self.rank(), self.size());
        let mut pieces = divided(values, self.size());
        self.sum_to_owners(&mut pieces)?;
        Ok(own)
    }
}

/// A run of one rank: nobody to talk to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Comm for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn send(&mut self, to: usize, _: Outgoing<'_>) -> Result<(), CommError> {
        Err(CommError::Lost { rank: to })
    }

    fn receive(&mut self, from: usize, _: Incoming<'_>) -> Result<(), CommError> {
        Err(CommError::Lost { rank: from })
    }

    fn exchange(&mut self, to: usize, _: Outgoing<'_>, _: usize, _: Incoming<'_>) -> Result<(), CommError> {
        Err(CommError::Lost { rank: to })
    }

    fn abort(&self, _: &str) {}

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
