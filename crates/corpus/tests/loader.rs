//! The order of the data: complete, without leaks, and a function of seed and index alone.

use std::sync::Arc;

use crate::support::{END_OF_TEXT, documents, shard_set};
use proptest::prelude::*;
use zhenjin_corpus::{CorpusError, Loader, LoaderOptions, PackedSequence, ShardSet};

fn options(sequence_length: usize) -> LoaderOptions {
    LoaderOptions { sequence_length, seed: 1, validation_share: 0.0, across_documents: false }
}

fn epoch(loader: &Loader, epoch: u64) -> Vec<PackedSequence> {
    let count = loader.sequences_per_epoch();
    (epoch * count..(epoch + 1) * count).map(|index| loader.sequence(index).expect("a sequence")).collect()
}

/// All (token, target) rows, sorted: what was trained on, whatever the order.
fn rows(sequences: &[PackedSequence]) -> Vec<(u32, u32)> {
    let mut rows: Vec<(u32, u32)> = sequences
        .iter()
        .flat_map(|sequence| {
            sequence
                .tokens
                .iter()
                .copied()
                .zip(sequence.targets.iter().map(|target| target.expect("a target")))
        })
        .collect();
    rows.sort_unstable();
    rows
}

fn rows_of_documents(documents: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let mut rows: Vec<(u32, u32)> = documents
        .iter()
        .flat_map(|tokens| {
            let targets = tokens[1..].iter().copied().chain([END_OF_TEXT]);
            tokens.iter().copied().zip(targets).collect::<Vec<_>>()
        })
        .collect();
    rows.sort_unstable();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_token_is_trained_on_once_an_epoch_but_the_counted_remainder(
        lengths in prop::collection::vec(1usize..30, 1..40),
        sequence_length in 1usize..25,
        shard_documents in 1usize..10,
        seed in any::<u64>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let documents = documents(&lengths);
        let set = shard_set(folder.path(), &documents, shard_documents);
        let total: usize = lengths.iter().sum();
        prop_assume!(total >= sequence_length);
        let loader = Loader::new(set, LoaderOptions { seed, ..options(sequence_length) }).expect("a loader");
        prop_assert_eq!(loader.sequences_per_epoch(), (total / sequence_length) as u64);
        prop_assert_eq!(loader.remainder_tokens(), (total % sequence_length) as u64);
        let all = rows_of_documents(&documents);
        for number in [0, 1, 7] {
            let sequences = epoch(&loader, number);
            for sequence in &sequences {
                prop_assert_eq!(sequence.tokens.len(), sequence_length);
                prop_assert_eq!(sequence.targets.len(), sequence_length);
                prop_assert_eq!(sequence.document_lengths.iter().sum::<usize>(), sequence_length);
                let bytes: u64 = sequence.targets.iter().flatten().filter(|&&id| id < 98).map(|&id| u64::from(id)).sum();
                prop_assert_eq!(sequence.bytes, bytes);
            }
            let mut trained = rows(&sequences);
            if loader.remainder_tokens() == 0 {
                prop_assert_eq!(&trained, &all);
            } else {
                // What was trained on is a part of the data, each row at most as often as it occurs there.
                let mut left = all.clone();
                for row in trained.drain(..) {
                    let place = left.binary_search(&row);
                    prop_assert!(place.is_ok());
                    left.remove(place.unwrap_or_default());
                }
                prop_assert_eq!(left.len() as u64, loader.remainder_tokens());
            }
        }
    }
}

fn loader_of(lengths: &[usize], options: LoaderOptions) -> (tempfile::TempDir, Loader) {
    let folder = tempfile::tempdir().expect("a folder");
    let set = shard_set(folder.path(), &documents(lengths), 7);
    let loader = Loader::new(set, options).expect("a loader");
    (folder, loader)
}

#[test]
fn targets_never_cross_documents_and_the_last_token_predicts_the_end_of_text() {
    let (_folder, loader) = loader_of(&[4, 4, 4, 4, 4, 4], options(8));
    for sequence in epoch(&loader, 0) {
        assert_eq!(sequence.document_lengths, [4, 4]);
        for (row, target) in sequence.targets.iter().enumerate() {
            match row % 4 {
                3 => assert_eq!(*target, Some(END_OF_TEXT)),
                _ => assert_eq!(*target, Some(sequence.tokens[row + 1])),
            }
        }
    }
}

#[test]
fn a_document_longer_than_a_sequence_goes_on_in_the_next_without_losing_a_target() {
    let (_folder, loader) = loader_of(&[20], options(8));
    let documents = documents(&[20]);
    let sequences = epoch(&loader, 0);
    assert_eq!((sequences.len(), loader.remainder_tokens()), (2, 4));
    for sequence in sequences {
        assert_eq!(sequence.document_lengths, [8]);
        let start =
            documents[0].windows(8).position(|tokens| tokens == sequence.tokens).expect("a part of it");
        let targets: Vec<Option<u32>> =
            documents[0][start + 1..start + 9].iter().copied().map(Some).collect();
        assert_eq!(sequence.targets, targets);
    }
}

#[test]
fn ranks_1_2_and_4_see_the_same_sequences_and_a_run_resumes_at_every_boundary() {
    let lengths: Vec<usize> = (0..60).map(|number| number * 7 % 23 + 1).collect();
    let (folder, loader) = loader_of(&lengths, options(16));
    let batch = 4;
    let steps = 3 * loader.sequences_per_epoch() / batch + 2;
    let straight: Vec<PackedSequence> =
        (0..steps * batch).map(|index| loader.sequence(index).expect("a sequence")).collect();
    for ranks in [2u64, 4] {
        // Each rank has a loader of its own and asks only for its share.
        let loaders: Vec<Loader> = (0..ranks)
            .map(|_| {
                let set = ShardSet::open(folder.path()).expect("a set");
                Loader::new(Arc::new(set), options(16)).expect("a loader")
            })
            .collect();
        for index in 0..steps * batch {
            let rank = (index % batch) / (batch / ranks);
            let sequence = loaders[rank as usize].sequence(index).expect("a sequence");
            assert_eq!(sequence, straight[index as usize], "{ranks} ranks, sequence {index}");
        }
    }
    for start in 0..steps * batch {
        let set = Arc::new(ShardSet::open(folder.path()).expect("a set"));
        let resumed = Loader::new(set, options(16)).expect("a loader");
        assert_eq!(resumed.sequence(start).expect("a sequence"), straight[start as usize], "from {start}");
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let lengths = [5; 40];
    let (_folder, loader) = loader_of(&lengths, options(10));
    let (_other, other) = loader_of(&lengths, LoaderOptions { seed: 2, ..options(10) });
    assert_ne!(epoch(&loader, 0), epoch(&loader, 1));
    assert_ne!(epoch(&loader, 0), epoch(&other, 0));
    assert_eq!(rows(&epoch(&loader, 0)), rows(&epoch(&other, 3)));
}

#[test]
fn equal_documents_are_on_the_same_side_of_the_validation_split() {
    // Each document stands three times, far apart.
    let once: Vec<Vec<u32>> = (0..90u32).map(|number| vec![number, number / 2, 5]).collect();
    let documents: Vec<Vec<u32>> = [once.clone(), once.clone(), once].concat();
    let folder = tempfile::tempdir().expect("a folder");
    let set = shard_set(folder.path(), &documents, 50);
    for seed in [1, 2] {
        let options = LoaderOptions { seed, validation_share: 0.3, ..options(6) };
        let loader = Loader::new(Arc::clone(&set), options).expect("a loader");
        let validation: Vec<PackedSequence> = (0..loader.validation_sequences())
            .map(|index| loader.validation_sequence(index).expect("a sequence"))
            .collect();
        assert!((45..=120).contains(&loader.validation_documents()), "{}", loader.validation_documents());
        assert_eq!(loader.validation_documents() + loader.training_documents(), 270);
        let first = |sequences: &[PackedSequence]| {
            let mut firsts: Vec<u32> = sequences
                .iter()
                .flat_map(|sequence| sequence.tokens.chunks(3).map(|tokens| tokens[0]))
                .collect();
            firsts.sort_unstable();
            firsts
        };
        let (held_out, trained) = (first(&validation), first(&epoch(&loader, 0)));
        assert!(held_out.chunks(3).all(|copies| copies.len() == 3 && copies[0] == copies[2]), "{held_out:?}");
        assert!(trained.iter().all(|number| held_out.binary_search(number).is_err()));
        let rows: usize = validation.iter().map(|sequence| sequence.tokens.len()).sum();
        assert_eq!(rows as u64, loader.validation_documents() * 3);
    }
}

#[test]
fn across_documents_changes_what_attention_sees_and_nothing_else() {
    let lengths = [3, 9, 2, 6, 5, 5];
    let (_folder, apart) = loader_of(&lengths, options(10));
    let (_other, across) = loader_of(&lengths, LoaderOptions { across_documents: true, ..options(10) });
    for (apart, across) in epoch(&apart, 0).into_iter().zip(epoch(&across, 0)) {
        assert_eq!(across.document_lengths, [10]);
        assert!(apart.document_lengths.len() > 1);
        assert_eq!((apart.tokens, apart.targets, apart.bytes), (across.tokens, across.targets, across.bytes));
    }
}

#[test]
fn too_little_text_and_settings_that_cannot_be_are_refused_with_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = shard_set(folder.path(), &documents(&[3, 4]), 7);
    let error = |options| Loader::new(Arc::clone(&set), options).expect_err("refused");
    let short = error(options(8));
    assert!(matches!(short, CorpusError::TooFewTokens { tokens: 7, sequence_length: 8 }), "{short}");
    for share in [-0.1, 1.0, f64::NAN] {
        let share = error(LoaderOptions { validation_share: share, ..options(2) });
        assert!(matches!(share, CorpusError::Setting { field: "validation_share", .. }), "{share}");
    }
    assert!(matches!(error(options(0)), CorpusError::Setting { field: "sequence_length", .. }));
    let loader = Loader::new(Arc::clone(&set), options(2)).expect("a loader");
    assert_eq!(loader.validation_sequences(), 0);
    assert!(loader.validation_sequence(0).is_err());
}
