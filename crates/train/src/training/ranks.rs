//! What the ranks of a run do together: they share micro-batches, sum gradients by the fixed tree, keep the optimiser's state in shards
//! and exchange the updated weights (see [`super::exchange`]). The first rank alone measures, writes and talks.
//!
//! Every rank has the same weights, schedule and counters. Weights do not depend on the number of ranks: each rank's micro-batches are a subtree of the tree over all
//! micro-batches, and updates are element-wise, or of whole matrices.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use zhenjin_model::{Weight, Weights};
use zhenjin_tensor::{Matrix, Vector};

use super::Trainer;
use super::exchange::Exchange;
use crate::communication::{Alone, Comm, CommError, Traffic};
use crate::error::TrainError;
use crate::optimiser::Optimiser;

/// Whole arrays of an optimiser's state with their names.
pub(super) type NamedArrays = Vec<(String, Vec<f32>)>;

/// This process among the ranks of its run.
#[derive(Clone)]
pub struct Ranks {
    comm: Arc<Mutex<dyn Comm>>,
    rank: usize,
    size: usize,
}

impl std::fmt::Debug for Ranks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "rank {} of {}", self.rank, self.size)
    }
}

impl Ranks {
    /// A run of one rank.
    pub fn alone() -> Ranks {
        Ranks::new(Alone)
    }

    /// One of the ranks that `comm` connects.
    pub fn new(comm: impl Comm + 'static) -> Ranks {
        Ranks { rank: comm.rank(), size: comm.size(), comm: Arc::new(Mutex::new(comm)) }
    }

    /// Number of this rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this rank measures, writes and talks.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The connection to the others.
    pub fn comm(&self) -> MutexGuard<'_, dyn Comm + 'static> {
        // A thread that panicked while it talked has ended the run anyhow.
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first rank's bytes, on every rank. `own` is asked only there.
    ///
    /// # Errors
    /// What `own` and the connection report.
    pub fn of_first<E: From<CommError>>(
        &self,
        own: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let own = if self.is_first() { own()? } else { Vec::new() };
        Ok(self.comm().all_gather_bytes(&own)?.swap_remove(0))
    }

    /// Whether one of the ranks says so.
    pub(super) fn any(&self, own: bool) -> Result<bool, TrainError> {
        if self.size == 1 {
            return Ok(own);
        }
        Ok(self.comm().all_gather_bytes(&[u8::from(own)])?.iter().any(|said| said[..] == [1]))
    }

    /// The micro-batches of a step that this rank computes.
    pub(super) fn own(&self, micro_batches: usize) -> Range<u64> {
        let own = (micro_batches / self.size) as u64;
        own * self.rank as u64..own * (self.rank as u64 + 1)
    }

    /// Refuses a number of ranks that cannot share the micro-batches as subtrees.
    pub(super) fn check(&self, micro_batches: usize) -> Result<(), TrainError> {
        match self.size.is_power_of_two() && self.size <= micro_batches {
            true => Ok(()),
            false => Err(TrainError::RankCount { ranks: self.size, micro_batches }),
        }
    }

    /// Every array of the optimiser's state as a whole, with its name; `None` for a run of one rank, which has them whole.
    pub(super) fn whole_state(
        &self,
        exchange: &Exchange,
        optimiser: &Optimiser,
    ) -> Result<Option<NamedArrays>, TrainError> {
        if self.size == 1 {
            return Ok(None);
        }
        let descriptions = optimiser.descriptions();
        let mut arrays = Vec::new();
        for (parameter, description) in descriptions.iter().enumerate() {
            for kind in optimiser.state_kinds(description.rule) {
                let name = format!("{}/{kind}", description.name);
                let mut values = vec![0.0; description.elements];
                if let Some(own) = optimiser.state().find(|tensor| tensor.name == name) {
                    values[own.elements].copy_from_slice(own.values);
                }
                let mut pieces = Vec::new();
                exchange.divide(parameter, &mut values, &mut pieces);
                self.comm().share_from_owners(&mut pieces)?;
                if self.is_first() {
                    arrays.push((name, values));
                }
            }
        }
        Ok(Some(arrays))
    }

    /// That all ranks have the same weights: the hash of every value.
    pub(super) fn compare(&self, weights: &Weights, step: u64) -> Result<(), TrainError> {
        if self.size == 1 {
            return Ok(());
        }
        let mut hash = Sha256::new();
        let mut bytes = Vec::new();
        for (_, weight) in weights.parameters() {
            let values = match weight {
                Weight::Matrix(matrix) => matrix.f32_packed()?,
                Weight::Vector(vector) => vector,
            };
            for values in values.chunks(1 << 16) {
                bytes.clear();
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                hash.update(&bytes);
            }
        }
        let hashes = self.comm().all_gather_equal(&hash.finalize())?;
        match hashes.iter().position(|hash| *hash != hashes[0]) {
            None => Ok(()),
            Some(rank) => Err(TrainError::RanksDiffer { rank, step }),
        }
    }
}

pub(super) fn values_of<'a>(
    weight: Weight<&'a mut Matrix, &'a mut Vector>,
) -> Result<&'a mut [f32], TrainError> {
    Ok(match weight {
        Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
        Weight::Vector(vector) => &mut vector[..],
    })
}

impl Trainer {
    /// What this rank has sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.setup.ranks.comm().traffic()
    }
}
