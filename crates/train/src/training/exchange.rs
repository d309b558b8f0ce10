//! What ranks exchange in a step: gradients on their way to the ranks that own them, while the backward pass goes on; the numbers that all must know; and
//! the updated weights, from their owners to all (ZeRO-1, Rajbhandari et al. 2020, arXiv 1910.02054). Each way costs `P - 1` copies of the model for
//! `P` ranks together, the least that is possible.

use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zhenjin_model::{FinishedLayer, ModelConfig, Weights};
use zhenjin_tensor::{GradientBuffer, Gradients, NORM_ELEMENTS, ParameterId, TensorError, ThreadTeam};

use super::ranks::{Ranks, values_of};
use crate::communication::{CommError, Piece, owned_range};
use crate::error::TrainError;
use crate::optimiser::{Description, Rule, Shard};
use crate::plan::exchange_group;

/// Gradients of parameters that are final at the same time.
type Group = Vec<(ParameterId, GradientBuffer)>;
/// Adds to the gradient of a parameter from the last micro-batch what the others gave.
type Complete<'a> = dyn Fn(ParameterId, &mut [f32]) -> Result<(), TensorError> + 'a;

/// Which rank owns which elements, and in which order gradients are exchanged; the same on all ranks.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The owners of each parameter's elements, in ascending order of the elements.
    owners: Vec<Vec<(usize, Range<usize>)>>,
    /// Parameters whose gradients are final at the same time, in this order: those of layers, the last layer first, then all others.
    groups: Vec<Vec<ParameterId>>,
    /// Whether gradients are exchanged during the backward pass, or behind it.
    overlaps: bool,
}

/// What all ranks know after the gradients of a step.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The numbers of all micro-batches, in their order.
    pub(super) sums: Vec<Vec<f64>>,
    /// Of the whole gradient.
    pub(super) squared_norm: f64,
    /// Whether one of the ranks was asked to stop.
    pub(super) stop: bool,
}

impl Exchange {
    /// For `size` ranks. Matrices of Muon belong to one rank as a whole, one after the other to the rank that has the fewest elements so far; of other parameters every rank
    /// owns a range.
    pub(super) fn new(
        config: &ModelConfig,
        descriptions: &[Description],
        size: usize,
        overlaps: bool,
    ) -> Exchange {
        let mut elements = vec![0; size];
        let owners = descriptions.iter().map(|description| {
            let length = description.elements;
            if description.rule == Rule::Muon {
                let least = (0..size).min_by_key(|rank| elements[*rank]).unwrap_or(0);
                elements[least] += length;
                return vec![(least, 0..length)];
            }
            let ranges = (0..size).map(|rank| (rank, owned_range(length, rank, size)));
            ranges.filter(|(_, range)| !range.is_empty()).collect()
        });
        let owners = owners.collect();
        let mut groups = vec![Vec::new(); config.layers + 1];
        for (id, name) in config.weights().enumerate() {
            groups[exchange_group(config, name)].push(ParameterId(id as u32));
        }
        Exchange { owners, groups, overlaps }
    }

    /// What `rank` updates.
    pub(super) fn shards(&self, rank: usize) -> Vec<Shard> {
        let parameters = self.owners.iter().enumerate();
        let of_parameter = |(parameter, owners): (usize, &Vec<(usize, Range<usize>)>)| {
            let own = owners.iter().filter(move |(owner, _)| *owner == rank);
            own.map(move |(_, elements)| Shard { parameter, elements: elements.clone() }).collect::<Vec<_>>()
        };
        parameters.flat_map(of_parameter).collect()
    }

    /// Divides all elements of a parameter among their owners.
    pub(super) fn divide<'a>(
        &self,
        parameter: usize,
        mut values: &'a mut [f32],
        pieces: &mut Vec<Piece<'a>>,
    ) {
        for (owner, elements) in &self.owners[parameter] {
            let (own, rest) = values.split_at_mut(elements.len());
            values = rest;
            pieces.push(Piece { owner: *owner, values: own });
        }
    }
}

impl Ranks {
    /// Sums gradients over all ranks; afterwards each rank has the sums of what it owns. `compute` goes through the rank's last micro-batch and tells which layers
    /// are finished; `complete` then adds what the rank's other micro-batches gave for a parameter. Layers that are finished are on their way while the next ones
    /// are computed. Gives what `compute` gives, and how long the exchange took beyond it.
    pub(super) fn sum_during<T>(
        &self,
        exchange: &Exchange,
        gradients: &mut Gradients,
        complete: &Complete<'_>,
        compute: impl FnOnce(&mut Gradients, &mut FinishedLayer<'_>) -> Result<T, TrainError>,
    ) -> Result<(T, Duration), TrainError> {
        std::thread::scope(|scope| {
            let (jobs, finished) = channel::<Group>();
            let exchanging = scope.spawn(move || self.sum_groups(exchange, &finished));
            let mut groups = exchange.groups.iter();
            let mut hand_over = |up_to: usize, gradients: &mut Gradients| {
                // How many are left says which comes next: layer l has l + 1 groups behind it.
                while groups.len() > up_to
                    && let Some(ids) = groups.next()
                {
                    let mut group = Group::new();
                    for id in ids {
                        let mut buffer = gradients.take(*id)?;
                        complete(*id, &mut buffer)?;
                        group.push((*id, buffer));
                    }
                    // If the other thread is gone, its result says why.
                    let _ = jobs.send(group);
                }
                Ok::<_, TensorError>(())
            };
            let mut problem = None;
            let computed = compute(gradients, &mut |layer, gradients| {
                if exchange.overlaps {
                    problem = hand_over(layer + 1, gradients).err().or(problem.take());
                }
            })?;
            problem.map_or(Ok(()), Err)?;
            hand_over(0, gradients)?;
            drop(jobs);
            let started = Instant::now();
            let summed = exchanging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let waited = started.elapsed();
            summed.into_iter().for_each(|(id, buffer)| gradients.put(id, buffer));
            Ok((computed, waited))
        })
    }

    /// Sums groups over all ranks as they come.
    fn sum_groups(&self, exchange: &Exchange, finished: &Receiver<Group>) -> Result<Group, CommError> {
        let mut comm = self.comm();
        let mut summed = Group::new();
        for mut group in finished {
            let mut pieces = Vec::new();
            for (id, values) in &mut group {
                exchange.divide(id.0 as usize, values, &mut pieces);
            }
            comm.sum_to_owners(&mut pieces)?;
            summed.extend(group);
        }
        Ok(summed)
    }

    /// Tells all ranks the numbers of this rank's micro-batches, the norm of what it owns of the gradient, and whether it was asked to stop; everything in one exchange, because
    /// on slow links every message costs its latency. The norm has the bits of [`Gradients::squared_norm`].
    pub(super) fn agree(
        &self,
        exchange: &Exchange,
        gradients: &Gradients,
        sums: Vec<Vec<f64>>,
        stop: bool,
        team: &ThreadTeam,
    ) -> Result<Agreed, TrainError> {
        if self.size() == 1 {
            return Ok(Agreed { sums, squared_norm: gradients.squared_norm(team), stop });
        }
        // As many numbers for each micro-batch, on every rank.
        let width = sums.first().map_or(1, Vec::len);
        let mut numbers: Vec<f64> = sums.concat();
        numbers.push(if stop { 1.0 } else { 0.0 });
        let own_numbers = numbers.len();
        for Shard { parameter, elements } in exchange.shards(self.rank()) {
            numbers.extend(gradients.squared_sums(ParameterId(parameter as u32), elements, team));
        }
        // All messages are as long as the longest.
        let squares = |rank: usize| -> usize {
            exchange.shards(rank).iter().map(|shard| shard.elements.len().div_ceil(NORM_ELEMENTS)).sum()
        };
        let most = (0..self.size()).map(squares).max().unwrap_or(0);
        numbers.resize(own_numbers + most, 0.0);
        let bytes: Vec<u8> = numbers.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all: Vec<Vec<f64>> = self
            .comm()
            .all_gather_equal(&bytes)?
            .iter()
            .map(|bytes| bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
            .collect();

        let mut squares: Vec<_> = all.iter().map(|numbers| numbers[own_numbers..].iter()).collect();
        let mut squared_norm = 0.0;
        for owners in &exchange.owners {
            let mut sums = Vec::new();
            for (owner, elements) in owners {
                sums.extend(squares[*owner].by_ref().take(elements.len().div_ceil(NORM_ELEMENTS)));
            }
            squared_norm += sums.iter().sum::<f64>();
        }
        let of_micro_batches = all.iter().flat_map(|numbers| numbers[..own_numbers - 1].chunks_exact(width));
        Ok(Agreed {
            sums: of_micro_batches.map(<[f64]>::to_vec).collect(),
            squared_norm,
            stop: all.iter().any(|numbers| numbers[own_numbers - 1] != 0.0),
        })
    }

    /// Brings every rank's updated elements to all.
    pub(super) fn share_updates(&self, exchange: &Exchange, weights: &mut Weights) -> Result<(), TrainError> {
        if self.size() == 1 {
            return Ok(());
        }
        let mut pieces = Vec::new();
        for (parameter, (_, weight)) in weights.parameters_mut().enumerate() {
            exchange.divide(parameter, values_of(weight)?, &mut pieces);
        }
        Ok(self.comm().share_from_owners(&mut pieces)?)
    }
}
