//! Collective operations out of messages between two ranks.
//!
//! Sums: rank `i` takes in rank `i + d` for d = 1, 2, 4 …, if `i` is a multiple of `2d`: the tree of [`tree_sum`]. With a power of two of ranks,
//! pairs exchange halves of what is left of their values (recursive halving, Thakur, Rabenseifner and Gropp 2005), nearest ranks first,
//! which is this tree element by element. Otherwise each rank sends every owner its part, and the owner sums the parts by the same tree.

use super::{Comm, CommError, Incoming, Outgoing};
use std::ops::Range;

/// Ranges of ranks begin at multiples of this number of elements, so that sums over whole blocks (norms) never cross ranks.
pub const SEGMENT_ELEMENTS: usize = 4096;

/// Elements of a message: a bound on the memory that a collective operation takes.
pub const MESSAGE_ELEMENTS: usize = 1 << 18;

/// Bytes that one rank may send in [`Comm::all_gather_bytes`].
const MAX_GATHERED_BYTES: usize = 1 << 30;

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
    segments(len, size, segment_of(rank, size)..segment_of(rank, size) + 1)
}

/// Which of `size` segments a rank owns. Recursive halving, nearest ranks first, ends at the reversed bits of the rank.
fn segment_of(rank: usize, size: usize) -> usize {
    if size.is_power_of_two() && size > 1 {
        rank.reverse_bits() >> (usize::BITS - size.trailing_zeros())
    } else {
        rank
    }
}

/// The elements of consecutive segments.
fn segments(len: usize, size: usize, range: Range<usize>) -> Range<usize> {
    let blocks = len.div_ceil(SEGMENT_ELEMENTS);
    let bound = |segment: usize| (segment * blocks / size * SEGMENT_ELEMENTS).min(len);
    bound(range.start)..bound(range.end)
}

fn add(into: &mut [f32], from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// Pieces of at most [`MESSAGE_ELEMENTS`].
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(MESSAGE_ELEMENTS).map(move |start| start..(start + MESSAGE_ELEMENTS).min(range.end))
}

pub(super) fn reduce_scatter<C: Comm + ?Sized>(
    comm: &mut C,
    values: &mut [f32],
) -> Result<Range<usize>, CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    if size == 1 {
        return Ok(0..values.len());
    }
    if size.is_power_of_two() {
        halve(comm, values)?;
    } else {
        sum_parts(comm, values)?;
    }
    Ok(owned_range(values.len(), rank, size))
}

/// Reduce-scatter by recursive halving.
fn halve<C: Comm + ?Sized>(comm: &mut C, values: &mut [f32]) -> Result<(), CommError> {
    let (rank, size, len) = (comm.rank(), comm.size(), values.len());
    let mut received = vec![0.0; MESSAGE_ELEMENTS.min(len)];
    let mut mine = 0..size;
    let mut distance = 1;
    while distance < size {
        let partner = rank ^ distance;
        let middle = mine.start + mine.len() / 2;
        let (kept, given) = match rank & distance == 0 {
            true => (mine.start..middle, middle..mine.end),
            false => (middle..mine.end, mine.start..middle),
        };
        let mut outgoing = pieces(segments(len, size, given));
        let mut incoming = pieces(segments(len, size, kept.clone()));
        loop {
            let (give, take) = (outgoing.next(), incoming.next());
            if give.is_none() && take.is_none() {
                break;
            }
            trade(comm, partner, give, take, values, &mut received)?;
        }
        mine = kept;
        distance *= 2;
    }
    Ok(())
}

/// Gives a piece of `values` to the partner and adds the piece that comes back; both have halves of (almost) equal length.
fn trade<C: Comm + ?Sized>(
    comm: &mut C,
    partner: usize,
    give: Option<Range<usize>>,
    take: Option<Range<usize>>,
    values: &mut [f32],
    received: &mut [f32],
) -> Result<(), CommError> {
    match (give, take) {
        (Some(give), Some(take)) => {
            let received = &mut received[..take.len()];
            comm.exchange(
                partner,
                Outgoing::Floats(&values[give]),
                partner,
                Incoming::Floats(&mut *received),
            )?;
            add(&mut values[take], received);
        }
        (Some(give), None) => comm.send(partner, Outgoing::Floats(&values[give]))?,
        (None, Some(take)) => {
            let received = &mut received[..take.len()];
            comm.receive(partner, Incoming::Floats(&mut *received))?;
            add(&mut values[take], received);
        }
        (None, None) => {}
    }
    Ok(())
}

/// Reduce-scatter for any number of ranks: in round `r`, each rank sends its part of the range of rank `+ r` and gets its own range's part from rank `- r`.
fn sum_parts<C: Comm + ?Sized>(comm: &mut C, values: &mut [f32]) -> Result<(), CommError> {
    let (rank, size, len) = (comm.rank(), comm.size(), values.len());
    let own = owned_range(len, rank, size);
    let mut parts = vec![Vec::new(); size];
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let mut part = vec![0.0; own.len()];
        let outgoing = Outgoing::Floats(&values[owned_range(len, to, size)]);
        comm.exchange(to, outgoing, from, Incoming::Floats(&mut part))?;
        parts[from] = part;
    }
    parts[rank] = values[own.clone()].to_vec();
    tree_sum(&mut parts, |into, from| add(into, from));
    values[own].copy_from_slice(&parts[0]);
    Ok(())
}

pub(super) fn all_gather<C: Comm + ?Sized>(comm: &mut C, values: &mut [f32]) -> Result<(), CommError> {
    let (rank, size, len) = (comm.rank(), comm.size(), values.len());
    if size.is_power_of_two() {
        // The way of `halve`, backwards: pairs exchange all that they have.
        let mut distance = size / 2;
        while distance >= 1 {
            let held = size / (2 * distance);
            let own = segment_of(rank, size) / held * held;
            let other = own ^ held;
            let own = segments(len, size, own..own + held);
            let other = segments(len, size, other..other + held);
            swap_pieces(comm, (rank ^ distance, own), (rank ^ distance, other), values)?;
            distance /= 2;
        }
        return Ok(());
    }
    for round in 1..size {
        let (to, from) = ((rank + round) % size, (rank + size - round) % size);
        let own = owned_range(len, rank, size);
        swap_pieces(comm, (to, own), (from, owned_range(len, from, size)), values)?;
    }
    Ok(())
}

/// Sends one range of `values` and receives another, in pieces.
fn swap_pieces<C: Comm + ?Sized>(
    comm: &mut C,
    (to, give): (usize, Range<usize>),
    (from, take): (usize, Range<usize>),
    values: &mut [f32],
) -> Result<(), CommError> {
    // The two ranges do not overlap: one lies before the other.
    let gives_first = give.start < take.start || (give.start == take.start && give.is_empty());
    let split = if gives_first { take.start } else { give.start };
    let (left, right) = values.split_at_mut(split);
    let (outgoing, incoming) = match gives_first {
        true => (&left[give], &mut right[..take.len()]),
        false => (&right[..give.len()], &mut left[take]),
    };
    let mut outgoing = outgoing.chunks(MESSAGE_ELEMENTS);
    let mut incoming = incoming.chunks_mut(MESSAGE_ELEMENTS);
    loop {
        match (outgoing.next(), incoming.next()) {
            (Some(give), Some(take)) => {
                comm.exchange(to, Outgoing::Floats(give), from, Incoming::Floats(take))?;
            }
            (Some(give), None) => comm.send(to, Outgoing::Floats(give))?,
            (None, Some(take)) => comm.receive(from, Incoming::Floats(take))?,
            (None, None) => return Ok(()),
        }
    }
}

pub(super) fn reduce<C: Comm + ?Sized>(
    comm: &mut C,
    values: &mut [f32],
    root: usize,
) -> Result<(), CommError> {
    let (rank, size) = (comm.rank(), comm.size());
    let mut received = vec![0.0; MESSAGE_ELEMENTS.min(values.len())];
    let mut distance = 1;
    let mut is_waiting = true;
    while distance < size && is_waiting {
        if rank % (2 * distance) != 0 {
            for piece in pieces(0..values.len()) {
                comm.send(rank - distance, Outgoing::Floats(&values[piece]))?;
            }
            is_waiting = false;
        } else if rank + distance < size {
            for piece in pieces(0..values.len()) {
                let received = &mut received[..piece.len()];
                comm.receive(rank + distance, Incoming::Floats(&mut *received))?;
                add(&mut values[piece], received);
            }
        }
        distance *= 2;
    }
    // The tree ends at rank 0.
    for piece in pieces(0..values.len()) {
        match rank {
            0 if root != 0 => comm.send(root, Outgoing::Floats(&values[piece]))?,
            rank if rank == root && root != 0 => comm.receive(0, Incoming::Floats(&mut values[piece]))?,
            _ => {}
        }
    }
    Ok(())
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
    for piece in pieces(0..values.elements()) {
        if relative != 0 {
            comm.receive(absolute(relative - lowest), values.part(piece.clone()))?;
        }
        let mut distance = lowest / 2;
        while distance >= 1 {
            if relative + distance < size {
                comm.send(absolute(relative + distance), values.outgoing(piece.clone()))?;
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

/// A length out of its eight bytes.
fn bounded_length(bytes: &[u8]) -> Result<usize, CommError> {
    let length = bytes.iter().rev().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    usize::try_from(length).ok().filter(|length| *length <= MAX_GATHERED_BYTES).ok_or_else(|| {
        CommError::Backend(format!(
            "a message announces {length} bytes; at most {MAX_GATHERED_BYTES} are taken"
        ))
    })
}
