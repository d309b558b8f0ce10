//! Collective operations over ranks that are threads, against the tree in one process.

use super::*;
use proptest::prelude::*;
use std::thread;

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` on every rank and gives the results in their order.
fn on_ranks<T: Send>(size: usize, work: impl Fn(&mut Threads) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let ranks: Vec<_> = Threads::group(size, PATIENCE)
            .into_iter()
            .map(|mut comm| scope.spawn(move || work(&mut comm)))
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Values of very different sizes, so that another order of sums gives other bits.
fn gradient(rank: usize, len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((rank as u64 + 1) << 32);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next() * (next() * 40.0).exp2()).collect()
}

fn expected(size: usize, len: usize, seed: u64) -> Vec<f32> {
    let mut leaves: Vec<_> = (0..size).map(|rank| gradient(rank, len, seed)).collect();
    tree_sum(&mut leaves, |into, from| {
        for (into, from) in into.iter_mut().zip(from) {
            *into += from;
        }
    });
    leaves.swap_remove(0)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_number_of_ranks_has_the_bits_of_the_tree(size in 1_usize..=9, blocks in 0_usize..=70, rest in 0_usize..4, seed: u64) {
        let len = blocks * SEGMENT_ELEMENTS / 3 + rest;
        let expected = expected(size, len, seed);
        let sums = on_ranks(size, |comm| {
            let own = gradient(comm.rank(), len, seed);
            let mut all = own.clone();
            comm.all_reduce(&mut all).unwrap();
            let mut scattered = own.clone();
            let range = comm.reduce_scatter(&mut scattered).unwrap();
            let root = seed as usize % comm.size();
            let mut reduced = own;
            comm.sum_to_owners(&mut [Piece { owner: root, values: &mut reduced }]).unwrap();
            (all, scattered[range.clone()].to_vec(), range, (comm.rank() == root).then_some(reduced))
        });
        let mut covered = vec![0; len];
        for (rank, (all, scattered, range, reduced)) in sums.into_iter().enumerate() {
            prop_assert!(bits(&all) == bits(&expected), "all_reduce on rank {rank} of {size}");
            prop_assert_eq!(&range, &owned_range(len, rank, size));
            prop_assert!(bits(&scattered) == bits(&expected[range.clone()]), "reduce_scatter on rank {rank} of {size}");
            covered[range].iter_mut().for_each(|count| *count += 1);
            if let Some(reduced) = reduced {
                prop_assert!(bits(&reduced) == bits(&expected), "reduce to rank {rank} of {size}");
            }
        }
        prop_assert!(covered.iter().all(|count| *count == 1), "every element has one owner");
    }

    #[test]
    fn broadcast_and_gather_reach_everybody(size in 1_usize..=9, len in 0_usize..600_000, seed: u64) {
        let root = seed as usize % size;
        let results = on_ranks(size, |comm| {
            let mut values = gradient(comm.rank(), len, seed);
            comm.share_from_owners(&mut [Piece { owner: root, values: &mut values }]).unwrap();
            let mut bytes = vec![comm.rank() as u8; len % 1000];
            comm.broadcast(&mut bytes, root).unwrap();
            comm.barrier().unwrap();
            let gathered = comm.all_gather_bytes(&vec![comm.rank() as u8; comm.rank() * 3]).unwrap();
            let equal = comm.all_gather_equal(&[comm.rank() as u8, 7]).unwrap();
            (values, bytes, gathered, equal)
        });
        for (values, bytes, gathered, equal) in results {
            prop_assert!(bits(&values) == bits(&gradient(root, len, seed)));
            prop_assert!(bytes.iter().all(|byte| *byte == root as u8));
            let all: Vec<_> = (0..size).map(|rank| vec![rank as u8; rank * 3]).collect();
            prop_assert_eq!(gathered, all);
            prop_assert_eq!(equal, (0..size).map(|rank| vec![rank as u8, 7]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ranks_over_micro_batches_have_the_bits_of_one_process(log_batches in 0_u32..=5, log_ranks in 0_u32..=5, seed: u64) {
        let (batches, ranks) = (1_usize << log_batches.max(log_ranks), 1_usize << log_ranks);
        let len = 3 * SEGMENT_ELEMENTS + 5;
        let expected = expected(batches, len, seed);
        let sums = on_ranks(ranks, |comm| {
            let own = batches / ranks;
            let mut leaves: Vec<_> = (0..own).map(|index| gradient(comm.rank() * own + index, len, seed)).collect();
            tree_sum(&mut leaves, |into, from| {
                for (into, from) in into.iter_mut().zip(from) {
                    *into += from;
                }
            });
            comm.all_reduce(&mut leaves[0]).unwrap();
            leaves.swap_remove(0)
        });
        for sum in sums {
            prop_assert!(bits(&sum) == bits(&expected), "{ranks} ranks, {batches} micro-batches");
        }
    }
}

/// Pieces of any lengths and owners in one operation, longer than a message in all.
#[test]
fn pieces_go_to_their_owners_and_back() {
    let lengths = [5, 0, MESSAGE_ELEMENTS - 3, 70_000, 1, 12];
    let total: usize = lengths.iter().sum();
    for size in [2, 3, 4] {
        let owner = |index: usize| (index * index + 1) % size;
        let expected = expected(size, total, 9);
        let results = on_ranks(size, |comm| {
            let mut values = gradient(comm.rank(), total, 9);
            let mut rest = values.as_mut_slice();
            let mut pieces = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let (values, behind) = rest.split_at_mut(*length);
                rest = behind;
                pieces.push(Piece { owner: owner(index), values });
            }
            comm.sum_to_owners(&mut pieces).unwrap();
            for piece in pieces.iter_mut().filter(|piece| piece.owner != comm.rank()) {
                piece.values.fill(f32::NAN);
            }
            comm.share_from_owners(&mut pieces).unwrap();
            (values, comm.traffic().bytes_sent)
        });
        let mut sent = 0;
        for (values, bytes) in results {
            assert!(bits(&values) == bits(&expected), "{size} ranks");
            sent += bytes;
        }
        assert_eq!(sent, (2 * (size - 1) * total * size_of::<f32>()) as u64, "{size} ranks");
    }
}

#[test]
fn all_reduce_sends_the_least_that_is_possible() {
    let len = 64 * SEGMENT_ELEMENTS;
    for size in [2, 3, 4, 5, 8] {
        let traffic = on_ranks(size, |comm| {
            comm.all_reduce(&mut gradient(comm.rank(), len, 1)).unwrap();
            comm.traffic()
        });
        // 2 (size − 1) / size of the values on each rank (Patarasuk and Yuan 2009), in all:
        let sent: u64 = traffic.iter().map(|traffic| traffic.bytes_sent).sum();
        assert_eq!(sent, (2 * (size - 1) * len * size_of::<f32>()) as u64, "{size} ranks");
        let received: u64 = traffic.iter().map(|traffic| traffic.bytes_received).sum();
        assert_eq!(sent, received);
    }
}

#[test]
fn a_lost_rank_is_named_and_a_silent_one_too() {
    let results = on_ranks(3, |comm| match comm.rank() {
        1 => Ok(()),
        _ => comm.receive(1, Incoming::Bytes(&mut [0])),
    });
    assert_eq!(results, [Err(CommError::Lost { rank: 1 }), Ok(()), Err(CommError::Lost { rank: 1 })]);
    let patience = Duration::from_millis(20);
    let mut group = Threads::group(2, patience);
    let error = group[0].receive(1, Incoming::Bytes(&mut [0])).unwrap_err();
    assert_eq!(error, CommError::Silent { rank: 1, waited: patience });
}

#[test]
fn ranks_with_other_configurations_are_found() {
    let mut group = Threads::group(2, PATIENCE);
    group[1].send(0, Outgoing::Floats(&[1.0, 2.0])).unwrap();
    let error = group[0].receive(1, Incoming::Floats(&mut [0.0; 3])).unwrap_err();
    assert_eq!(error, CommError::Length { rank: 1, expected: 12, got: 8 });
}

#[test]
fn one_rank_needs_nobody() {
    let mut values = [1.0, 2.0];
    assert_eq!(Alone.reduce_scatter(&mut values), Ok(0..2));
    Alone.all_reduce(&mut values).unwrap();
    Alone.share_from_owners(&mut [Piece { owner: 0, values: &mut values }]).unwrap();
    Alone.barrier().unwrap();
    assert_eq!(values, [1.0, 2.0]);
    assert_eq!(Alone.all_gather_bytes(b"own"), Ok(vec![b"own".to_vec()]));
}

#[test]
fn these_values_would_show_another_order() {
    let mut one_by_one = gradient(0, 1000, 3);
    for rank in 1..8 {
        for (into, from) in one_by_one.iter_mut().zip(gradient(rank, 1000, 3)) {
            *into += from;
        }
    }
    assert_ne!(bits(&one_by_one), bits(&expected(8, 1000, 3)));
}
