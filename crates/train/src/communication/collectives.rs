//! Collective operations out of messages between two ranks.
//!
//! Values are divided into pieces, each of which belongs to one rank, its owner. Sums: rank `i` takes in rank `i + d` for d = 1, 2, 4 …, if `i` is a multiple
//! of `2d`: the tree of [`tree_sum`]. With a power of two of ranks, pairs exchange what the other's half of the ranks owns (recursive halving,
//! Thakur, Rabenseifner and Gropp 2005), nearest ranks first, which is this tree element by element. Otherwise each rank sends every owner its
//! pieces, and the owner sums by the same tree.

use super::{Comm, CommError, Incoming, Outgoing};
use std::ops::Range;

/// Ranges of ranks begin at multiples of this number of elements, so that sums over whole blocks (norms) never cross ranks.
pub const SEGMENT_ELEMENTS: usize = zhenjin_tensor::NORM_ELEMENTS;

/// Elements of a message, 16 MB in f32: a bound on the memory that a collective operation takes, and long enough for slow links.
pub const MESSAGE_ELEMENTS: usize = 1 << 22;

/// Bytes that one rank may send in [`Comm::all_gather_bytes`].
const MAX_GATHERED_BYTES: usize = 1 << 30;

/// Elements that belong to one rank.
#[derive(Debug)]
pub struct Piece<'a, T = f32> {
    /// The rank.
    pub owner: usize,
    /// The elements.
    pub values: &'a mut [T],
}

/// What pieces are made of.
pub(super) trait Element: Copy + Default {
    fn outgoing(values: &[Self]) -> Outgoing<'_>;
    fn incoming(values: &mut [Self]) -> Incoming<'_>;
}

impl Element for f32 {
    fn outgoing(values: &[f32]) -> Outgoing<'_> {
        Outgoing::Floats(values)
    }

    fn incoming(values: &mut [f32]) -> Incoming<'_> {
        Incoming::Floats(values)
    }
}

impl Element for u8 {
    fn outgoing(values: &[u8]) -> Outgoing<'_> {
        Outgoing::Bytes(values)
    }

    fn incoming(values: &mut [u8]) -> Incoming<'_> {
        Incoming::Bytes(values)
    }
}

/// The sum of `leaves` by the fixed binary tree, by `add(into, from)`: leaf `i` takes in leaf `i + d` for d = 1, 2, 4 … if `i` is a multiple of `2d`.
/// The result is in the first leaf.
pub fn tree_sum<T>(leaves: &mut [T], mut add: impl FnMut(&mut T, &T)) {
    let mut distance = 1;
    while distance < leaves.len() {
        for first in (0..leaves.len() - distance).step_by(2 * distance) {
            let (left, right) = leaves.split_at_mut(first + distance);
            add(&mut left[first], &right[0]);
        }
        distance *= 2;
    }
}

/// The range of `len` elements that belongs to `rank` of `size` in reduce-scatter and all-gather. Ranges of all ranks cover all elements once;
/// they begin at multiples of [`SEGMENT_ELEMENTS`], so that some are empty where there are few elements.
///
/// # Panics
/// If `rank` is not below `size`.
pub fn owned_range(len: usize, rank: usize, size: usize) -> Range<usize> {
    assert!(rank < size, "rank {rank} of {size}");
    let blocks = len.div_ceil(SEGMENT_ELEMENTS);
    let bound = |rank: usize| (rank * blocks / size * SEGMENT_ELEMENTS).min(len);
    bound(rank)..bound(rank + 1)
}

/// The pieces of values of which every rank owns its [`owned_range`].
pub fn divided(mut values: &mut [f32], size: usize) -> Vec<Piece<'_>> {
    let len = values.len();
    let mut pieces = Vec::with_capacity(size);
    for owner in 0..size {
        let (own, rest) = values.split_at_mut(owned_range(len, owner, size).len());
        values = rest;
        if !own.is_empty() {
            pieces.push(Piece { owner, values: own });
        }
    }
    pieces
}

fn add(into: &mut [f32], from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// A walk over the elements of those pieces whose owners are chosen.
struct Walk<'a> {
    is_chosen: &'a dyn Fn(usize) -> bool,
    piece: usize,
    offset: usize,
    left: usize,
}

impl<'a> Walk<'a> {
    fn new<T>(pieces: &[Piece<'_, T>], is_chosen: &'a dyn Fn(usize) -> bool) -> Self {
        let chosen = pieces.iter().filter(|piece| is_chosen(piece.owner));
        Self { is_chosen, piece: 0, offset: 0, left: chosen.map(|piece| piece.values.len()).sum() }
    }

    /// Elements of the next message.
    fn next_length(&self) -> usize {
        self.left.min(MESSAGE_ELEMENTS)
    }

    /// Shows `see` the elements of the next message: where they are in the message, and the elements.
    fn advance<T>(&mut self, pieces: &mut [Piece<'_, T>], mut see: impl FnMut(Range<usize>, &mut [T])) {
        let length = self.next_length();
        let mut seen = 0;
        while seen < length {
            let piece = &mut pieces[self.piece];
            if !(self.is_chosen)(piece.owner) || self.offset == piece.values.len() {
                (self.piece, self.offset) = (self.piece + 1, 0);
                continue;
            }
            let count = (piece.values.len() - self.offset).min(length - seen);
            see(seen..seen + count, &mut piece.values[self.offset..self.offset + count]);
            self.offset += count;
            seen += count;
        }
        self.left -= length;
    }
}

/// Sends the chosen pieces of `values` to one rank and gets chosen pieces from another, which `merge` brings to their place.
fn swap<C: Comm + ?Sized, T: Element>(
    comm: &mut C,
    (to, is_given): (usize, &dyn Fn(usize) -> bool),
    (from, is_taken): (usize, &dyn Fn(usize) -> bool),
    pieces: &mut [Piece<'_, T>],
    mut merge: impl FnMut(&mut [T], &[T]),
) -> Result<(), CommError> {
    let (mut give, mut take) = (Walk::new(pieces, is_given), Walk::new(pieces, is_taken));
    let mut outgoing = vec![T::default(); give.next_length()];
    let mut incoming = vec![T::default(); take.next_length()];
    while give.left + take.left > 0 {
        let given = &mut outgoing[..give.next_length()];
        give.advance(pieces, |range, values| given[range].copy_from_slice(values));
        let taken = &mut incoming[..take.next_length()];
        match (given.is_empty(), taken.is_empty()) {
            (false, false) => comm.exchange(to, T::outgoing(given), from, T::incoming(taken))?,
            (false, true) => comm.send(to, T::outgoing(given))?,
            (true, _) => comm.receive(from, T::incoming(taken))?,
        }
        take.advance(pieces, |range, values| merge(values, &taken[range]));
    }
    Ok(())
}

/// The rounds of halving and doubling: distances 1, 2, 4 … below `size`.
fn distances(size: usize) -> impl DoubleEndedIterator<Item = usize> {
    (0..size.ilog2()).map(|round| 1 << round)
}

pub(super) fn sum_to_owners<C: Comm + ?Sized>(
    comm: &mut C,
    pieces: &mut [Piece<'_>],
) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    if size == 1 {
        return Ok(());
    }
    if !size.is_power_of_two() {
        return sum_parts(comm, pieces);
    }
    for distance in distances(size) {
        let partner = rank ^ distance;
        // Both have the sums of owners that agree with them in the bits below the distance.
        let owned_by = |rank: usize| move |owner: usize| (owner ^ rank) & (2 * distance - 1) == 0;
        swap(comm, (partner, &owned_by(partner)), (partner, &owned_by(rank)), pieces, add)?;
    }
    Ok(())
}

/// For any number of ranks: in round `r`, each rank sends rank `+ r` what that one owns, and gets what it owns itself from rank `- r`.
fn sum_parts<C: Comm + ?Sized>(comm: &mut C, pieces: &mut [Piece<'_>]) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    let mut parts = vec![Vec::new(); size];
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let part = &mut parts[from];
        let (is_given, is_taken) = (|owner: usize| owner == to, |owner: usize| owner == rank);
        swap(comm, (to, &is_given), (from, &is_taken), pieces, |_, values| part.extend_from_slice(values))?;
    }
    let own = pieces.iter().filter(|piece| piece.owner == rank);
    parts[rank] = own.flat_map(|piece| piece.values.iter().copied()).collect();
    tree_sum(&mut parts, |into, from| add(into, from));
    let mut rest = parts[0].as_slice();
    for piece in pieces.iter_mut().filter(|piece| piece.owner == rank) {
        let (own, others) = rest.split_at(piece.values.len());
        piece.values.copy_from_slice(own);
        rest = others;
    }
    Ok(())
}

pub(super) fn share_from_owners<C: Comm + ?Sized, T: Element>(
    comm: &mut C,
    pieces: &mut [Piece<'_, T>],
) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    let copy = |into: &mut [T], from: &[T]| into.copy_from_slice(from);
    if size.is_power_of_two() {
        // The way of `sum_to_owners`, backwards: pairs exchange all that they have.
        for distance in distances(size).rev() {
            let partner = rank ^ distance;
            let held_by = |rank: usize| move |owner: usize| (owner ^ rank) & (2 * distance - 1) == 0;
            swap(comm, (partner, &held_by(rank)), (partner, &held_by(partner)), pieces, copy)?;
        }
        return Ok(());
    }
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let (is_given, is_taken) = (|owner: usize| owner == rank, |owner: usize| owner == from);
        swap(comm, (to, &is_given), (from, &is_taken), pieces, copy)?;
    }
    Ok(())
}

/// Pieces of at most [`MESSAGE_ELEMENTS`].
fn messages(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(MESSAGE_ELEMENTS).map(move |start| start..(start + MESSAGE_ELEMENTS).min(range.end))
}

/// Binomial tree from `root`, piece by piece.
pub(super) fn broadcast<C: Comm + ?Sized>(
    comm: &mut C,
    mut values: Incoming<'_>,
    root: usize,
) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    // Ranks are counted from the root; `relative` has its values from the rank without its lowest set bit.
    let relative = (rank + size - root) % size;
    let absolute = |relative: usize| (relative + root) % size;
    let lowest = if relative == 0 { size.next_power_of_two() } else { 1 << relative.trailing_zeros() };
    for part in messages(0..values.elements()) {
        if relative != 0 {
            comm.receive(absolute(relative - lowest), values.part(part.clone()))?;
        }
        let mut distance = lowest / 2;
        while distance >= 1 {
            if relative + distance < size {
                comm.send(absolute(relative + distance), values.outgoing(part.clone()))?;
            }
            distance /= 2;
        }
    }
    Ok(())
}

/// Dissemination barrier (Hensgen, Finkel and Manber 1988): in round `d` each rank hears from rank `- d`.
pub(super) fn barrier<C: Comm + ?Sized>(comm: &mut C) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    let mut distance = 1;
    while distance < size {
        let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
        comm.exchange(to, Outgoing::Bytes(&[0]), from, Incoming::Bytes(&mut [0]))?;
        distance *= 2;
    }
    Ok(())
}

/// Everything to rank 0, then from it to all.
pub(super) fn all_gather_bytes<C: Comm + ?Sized>(
    comm: &mut C,
    own: &[u8],
) -> Result<Vec<Vec<u8>>, CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    if size == 1 {
        return Ok(vec![own.to_vec()]);
    }
    let mut lengths = vec![0_u8; 8 * size];
    let mut all = Vec::new();
    if rank == 0 {
        lengths[..8].copy_from_slice(&(own.len() as u64).to_le_bytes());
        all.extend_from_slice(own);
        for from in 1..size {
            let length = &mut lengths[8 * from..8 * from + 8];
            comm.receive(from, Incoming::Bytes(&mut *length))?;
            let bytes = bounded_length(length)?;
            let start = all.len();
            all.resize(start + bytes, 0);
            comm.receive(from, Incoming::Bytes(&mut all[start..]))?;
        }
    } else {
        comm.send(0, Outgoing::Bytes(&(own.len() as u64).to_le_bytes()))?;
        comm.send(0, Outgoing::Bytes(own))?;
    }
    broadcast(comm, Incoming::Bytes(&mut lengths), 0)?;
    let lengths = lengths.chunks(8).map(bounded_length).collect::<Result<Vec<_>, _>>()?;
    all.resize(lengths.iter().sum(), 0);
    broadcast(comm, Incoming::Bytes(&mut all), 0)?;
    let mut rest = all.as_slice();
    Ok(lengths
        .into_iter()
        .map(|length| {
            let (first, others) = rest.split_at(length);
            rest = others;
            first.to_vec()
        })
        .collect())
}

pub(super) fn all_gather_equal<C: Comm + ?Sized>(
    comm: &mut C,
    own: &[u8],
) -> Result<Vec<Vec<u8>>, CommError> {
    let mut all = vec![own.to_vec(); comm.size()];
    let pieces = all.iter_mut().enumerate();
    let mut pieces: Vec<Piece<'_, u8>> = pieces.map(|(owner, values)| Piece { owner, values }).collect();
    share_from_owners(comm, &mut pieces)?;
    Ok(all)
}

/// A length out of its eight bytes.
fn bounded_length(bytes: &[u8]) -> Result<usize, CommError> {
    let length = bytes.iter().rev().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    usize::try_from(length).ok().filter(|length| *length <= MAX_GATHERED_BYTES).ok_or_else(|| {
        CommError::Backend(format!(
            "a message announces {length} bytes; at most {MAX_GATHERED_BYTES} are taken"
        ))
    })
}
