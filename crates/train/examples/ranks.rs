//! One rank of a job started by `mpirun`: sums made-up gradients over all ranks, and prints what the test beside it (`tests/mpi.rs`) compares.
//!
//! The first argument is the number of elements, the second the number of micro-batches over all ranks; with a third, `panic`, `vanish`,
//! `silent` or `error`, rank 1 ends that way in the middle of the work.

#![allow(clippy::print_stdout, reason = "the test reads it")]

use sha2::{Digest, Sha256};
use std::time::Duration;
use zhenjin_train::communication::{Comm, Mpi, tree_sum};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (len, batches): (usize, usize) = (arguments[1].parse()?, arguments[2].parse()?);
    let mut comm = Mpi::start(Duration::from_secs(5))?;
    if comm.rank() == 1 {
        match arguments.get(3).map(String::as_str) {
            Some("panic") => panic!("as the test wants it"),
            Some("vanish") => std::process::exit(0),
            Some("silent") => std::thread::sleep(Duration::from_secs(60)),
            Some("error") => return Err("as the test wants it".into()),
            _ => {}
        }
    }
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
    let mut hash = Sha256::new();
    for value in &sums {
        hash.update(value.to_le_bytes());
    }
    let hash: Vec<String> = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {} {}", comm.rank(), hash.concat(), after.bytes_sent - before.bytes_sent);
    comm.finish()?;
    Ok(())
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
