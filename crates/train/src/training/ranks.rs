//! What the ranks of a run do together: they share micro-batches, sum gradients by the fixed tree, keep the optimiser's state in shards (ZeRO-1, Rajbhandari
//! et al. 2020, arXiv 1910.02054) and exchange the updated weights. The first rank alone measures, writes and talks.
//!
//! Every rank has the same weights, schedule and counters. Weights do not depend on the number of ranks: each rank's micro-batches are a subtree of the tree over all
//! micro-batches, and updates are element-wise, or of whole matrices.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use zhenjin_model::{Weight, Weights};
use zhenjin_tensor::{Gradients, Matrix, ParameterId, Vector};

use super::Trainer;
use crate::communication::{Alone, Comm, CommError, owned_range};
use crate::error::TrainError;
use crate::optimiser::{Description, Optimiser, Rule, Shard};

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

    /// Numbers of all micro-batches, in their order, from those of each rank's, as many for each.
    pub(super) fn gather(&self, own: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, TrainError> {
        let width = own.first().map_or(0, Vec::len);
        if self.size == 1 || width == 0 {
            return Ok(own);
        }
        let bytes: Vec<u8> = own.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.comm().all_gather_bytes(&bytes)?.concat();
        let values: Vec<f64> = all.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Ok(values.chunks_exact(width).map(<[f64]>::to_vec).collect())
    }

    /// Sums gradients over all ranks.
    pub(super) fn sum(&self, gradients: &mut Gradients) -> Result<(), TrainError> {
        if self.size > 1 {
            let mut comm = self.comm();
            for id in 0..gradients.len() {
                comm.all_reduce(gradients.get_mut(ParameterId(id as u32)))?;
            }
        }
        Ok(())
    }

    /// The rank that updates each parameter as a whole; `None` for those of which every rank updates a part. Matrices of Muon go, one after the other, to the rank that has
    /// the fewest elements so far.
    fn owners(&self, descriptions: &[Description]) -> Vec<Option<usize>> {
        let mut elements = vec![0; self.size];
        let owner = |description: &Description| {
            if description.rule != Rule::Muon {
                return None;
            }
            let least = (0..elements.len()).min_by_key(|rank| elements[*rank]).unwrap_or(0);
            elements[least] += description.elements;
            Some(least)
        };
        descriptions.iter().map(owner).collect()
    }

    /// What this rank updates.
    pub(super) fn shards(&self, descriptions: &[Description]) -> Vec<Shard> {
        let owners = self.owners(descriptions);
        let shard = |(parameter, (description, owner)): (usize, (&Description, Option<usize>))| {
            let elements = match owner {
                Some(owner) if owner == self.rank => 0..description.elements,
                Some(_) => 0..0,
                None => owned_range(description.elements, self.rank, self.size),
            };
            Shard { parameter, elements }
        };
        let shards = descriptions.iter().zip(owners).enumerate().map(shard);
        shards.filter(|shard| !shard.elements.is_empty()).collect()
    }

    /// Brings every rank's updated elements to all.
    pub(super) fn share_updates(
        &self,
        descriptions: &[Description],
        weights: &mut Weights,
    ) -> Result<(), TrainError> {
        if self.size == 1 {
            return Ok(());
        }
        let owners = self.owners(descriptions);
        for (owner, (_, weight)) in owners.into_iter().zip(weights.parameters_mut()) {
            self.share(owner, values_of(weight)?)?;
        }
        Ok(())
    }

    fn share(&self, owner: Option<usize>, values: &mut [f32]) -> Result<(), TrainError> {
        match owner {
            Some(owner) => self.comm().broadcast_floats(values, owner)?,
            None => self.comm().all_gather(values)?,
        }
        Ok(())
    }

    /// Every array of the optimiser's state as a whole, with its name; `None` for a run of one rank, which has them whole.
    pub(super) fn whole_state(&self, optimiser: &Optimiser) -> Result<Option<NamedArrays>, TrainError> {
        if self.size == 1 {
            return Ok(None);
        }
        let descriptions = optimiser.descriptions();
        let mut arrays = Vec::new();
        for (description, owner) in descriptions.iter().zip(self.owners(descriptions)) {
            for kind in optimiser.state_kinds(description.rule) {
                let name = format!("{}/{kind}", description.name);
                let mut values = vec![0.0; description.elements];
                if let Some(own) = optimiser.state().find(|tensor| tensor.name == name) {
                    values[own.elements].copy_from_slice(own.values);
                }
                self.share(owner, &mut values)?;
                if self.is_first() {
                    arrays.push((name, values));
                }
            }
        }
        Ok(Some(arrays))
    }

    /// That all ranks have the same weights: the hash of every value.
    pub(super) fn compare(&self, weights: &mut Weights, step: u64) -> Result<(), TrainError> {
        if self.size == 1 {
            return Ok(());
        }
        let mut hash = Sha256::new();
        let mut bytes = Vec::new();
        for (_, weight) in weights.parameters_mut() {
            for values in values_of(weight)?.chunks(1 << 16) {
                bytes.clear();
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                hash.update(&bytes);
            }
        }
        let hashes = self.comm().all_gather_bytes(&hash.finalize())?;
        match hashes.iter().position(|hash| *hash != hashes[0]) {
            None => Ok(()),
            Some(rank) => Err(TrainError::RanksDiffer { rank, step }),
        }
    }
}

fn values_of<'a>(weight: Weight<&'a mut Matrix, &'a mut Vector>) -> Result<&'a mut [f32], TrainError> {
    Ok(match weight {
        Weight::Matrix(matrix) => matrix.f32_packed_mut()?,
        Weight::Vector(vector) => &mut vector[..],
    })
}

impl Trainer {
    /// Bytes that this rank has sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.setup.ranks.comm().traffic().bytes_sent
    }
}
