//! One rank of a job started by `mpirun`: sums made-up gradients over all ranks, or trains a tiny model with them, and prints what the test
//! beside it (`tests/mpi.rs`) compares.
//!
//! `sum ELEMENTS MICRO_BATCHES [END]`: with END `panic`, `vanish`, `silent`, `stopped` or `error`, rank 1 ends that way before the work; with `slow`, it begins 8 seconds late.
//! `train FOLDER STEPS`: trains until STEPS steps are made, from the newest checkpoint of the folder if there is one.

#![allow(clippy::print_stdout, reason = "the test reads it")]

use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zhenjin_corpus::{CorpusError, PackedSequence};
use zhenjin_model::LoadOptions;
use zhenjin_tensor::{SimdLevel, ThreadTeam};
use zhenjin_train::checkpoint::Checkpoints;
use zhenjin_train::communication::{Comm, Limits, Mpi, tree_sum};
use zhenjin_train::configuration::{Configuration, Overrides};
use zhenjin_train::sequences::SequenceSource;
use zhenjin_train::training::{Gauges, Ranks, Setup, Trainer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // A rank that sleeps lives: only patience ends its job.
    let patience = Duration::from_secs(if words.last() == Some(&"silent") { 5 } else { 60 });
    let comm = Mpi::start(Limits { patience, silence: Duration::from_secs(5) })?;
    match words[..] {
        ["sum", len, batches] => sum(comm, len.parse()?, batches.parse()?),
        ["sum", len, batches, end] => {
            if comm.rank() == 1 {
                end_as(end)?;
            }
            sum(comm, len.parse()?, batches.parse()?)
        }
        ["train", folder, steps] => train(comm, Path::new(folder), steps.parse()?),
        _ => Err("usage: ranks sum ELEMENTS MICRO_BATCHES [END] | ranks train FOLDER STEPS".into()),
    }
}

fn end_as(end: &str) -> Result<(), Box<dyn Error>> {
    match end {
        "panic" => panic!("as the test wants it"),
        "vanish" => std::process::exit(0),
        "silent" => std::thread::sleep(Duration::from_secs(60)),
        "slow" => std::thread::sleep(Duration::from_secs(8)),
        "stopped" => {
            let own = std::process::id().to_string();
            std::process::Command::new("kill").args(["-STOP", &own]).status()?;
        }
        _ => return Err("as the test wants it".into()),
    }
    Ok(())
}

fn sum(mut comm: Mpi, len: usize, batches: usize) -> Result<(), Box<dyn Error>> {
    let own = batches / comm.size();
    let mut leaves: Vec<_> = (0..own).map(|index| gradient(comm.rank() * own + index, len)).collect();
    tree_sum(&mut leaves, |into, from| {
        for (into, from) in into.iter_mut().zip(from) {
            *into += from;
        }
    });
    let mut sums = leaves.swap_remove(0);
    let before = comm.traffic();
    comm.all_reduce(&mut sums)?;
    let after = comm.traffic();
    let bytes: Vec<u8> = sums.iter().flat_map(|value| value.to_le_bytes()).collect();
    println!("{} {} {}", comm.rank(), hash(&bytes), after.bytes_sent - before.bytes_sent);
    comm.finish()?;
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Values of very different sizes, so that another order of sums gives other bits.
fn gradient(batch: usize, len: usize) -> Vec<f32> {
    let mut state = (batch as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next() * (next() * 40.0).exp2()).collect()
}

const LENGTH: usize = 24;

/// Sequences in which every token follows from the one before it.
struct Counting;

impl SequenceSource for Counting {
    fn sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        let tokens: Vec<u32> =
            (0..LENGTH as u64).map(|place| ((index * 7 + place * 3) % 60) as u32).collect();
        let targets = tokens.iter().map(|token| Some((token + 3) % 60)).collect();
        Ok(PackedSequence { tokens, targets, document_lengths: vec![LENGTH], bytes: LENGTH as u64 })
    }

    fn validation_sequence(&self, index: u64) -> Result<PackedSequence, CorpusError> {
        self.sequence(1_000_000 + index)
    }

    fn validation_sequences(&self) -> u64 {
        4
    }

    fn fingerprint(&self) -> String {
        "counting".to_owned()
    }
}

fn train(comm: Mpi, folder: &Path, steps: u64) -> Result<(), Box<dyn Error>> {
    let mut overrides = Overrides::new();
    for setting in [
        "model.hidden_size=32",
        "model.intermediate_size=48",
        "model.heads=2",
        "model.kv_heads=1",
        "model.head_dim=16",
        "data.sequence_length=24",
        "batch.sequences=2",
        "batch.micro_batches=4",
        "schedule.steps=12",
        "intervals.checkpoint=4",
        "intervals.validation=4",
    ] {
        overrides.add_assignment(setting)?;
    }
    let configuration = Configuration::resolve(2, 64, &overrides)?;
    let ranks = Ranks::new(comm);
    let setup = Setup {
        folder: folder.to_owned(),
        source: Arc::new(Counting),
        load: LoadOptions { simd: SimdLevel::detect(), team: Arc::new(ThreadTeam::new(1)?) },
        ranks: ranks.clone(),
        overlap: true,
        recomputed_layers: 0,
        usable_vocabulary: 64,
        companions: Vec::new(),
        gauges: Gauges::default(),
    };
    let checkpoints = || Checkpoints::new(&folder.join("checkpoints"), 9).find();
    // Nobody looks before all are there, so that all find the same.
    ranks.comm().barrier()?;
    let mut trainer = match checkpoints()?.newest {
        Some(checkpoint) => Trainer::resume(configuration, setup, &checkpoint)?,
        None => Trainer::new(configuration, setup)?,
    };
    ranks.comm().barrier()?;
    let made = Cell::new(trainer.steps());
    let stop = || {
        made.set(made.get() + 1);
        made.get() > steps
    };
    trainer.run(&mut [], None, &stop)?;
    let sent = trainer.traffic().bytes_sent;
    ranks.comm().finish()?;
    if let Some(checkpoint) = checkpoints()?.newest {
        let mut bytes = std::fs::read(checkpoint.path.join("model.safetensors"))?;
        bytes.extend(std::fs::read(checkpoint.path.join("optimiser.safetensors"))?);
        println!("{} {} {sent}", ranks.rank(), hash(&bytes));
    }
    Ok(())
}
